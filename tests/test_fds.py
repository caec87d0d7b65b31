"""FDS against the recorded trajectories of the published code, and its properties."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.bins import Bins
from common.fds import FDS

BUFFERS = (
    "running_mean", "running_var", "running_mean_last_epoch", "running_var_last_epoch",
    "smoothed_mean_last_epoch", "smoothed_var_last_epoch", "num_samples_tracked",
)  # fmt: skip
STSB = {
    "bucket_num": 50,
    "bucket_start": 0,
    "bins": Bins.uniform(0, 5, 50),
    "clip": (0.5, 2),
    "empty": "fill",
}


def replay(path, fds, variant, streamed=False):
    """Replays a recorded trajectory; yields what differs most from it in each epoch."""
    recorded = np.load(path)
    epochs = sum(name.startswith("labels") for name in recorded)
    assert epochs >= 4
    for epoch in range(epochs):
        labels = torch.from_numpy(recorded[f"labels{epoch}"])
        raw = torch.from_numpy(recorded[f"feats{epoch}"])
        inside = (labels >= fds.bins.low) & (labels <= fds.bins.high)
        smoothed = fds.smooth(raw.clone(), labels.unsqueeze(1), epoch)
        yield smoothed[inside], recorded[f"smooth{epoch}"][inside.numpy()]
        fds.update_last_epoch_stats(epoch)
        stats_of = smoothed if variant == "released" else raw
        if streamed:
            for rows in torch.randperm(len(labels)).split(37):
                fds.collect(stats_of[rows], labels[rows])
            fds.update(epoch)
        else:
            fds.update_running_stats(stats_of, labels, epoch)
        for name in BUFFERS:
            if f"{name}{epoch}" in recorded:
                yield getattr(fds, name), recorded[f"{name}{epoch}"]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("variant", ["paper", "released"])
def test_age_trajectory(golden, variant, streamed):
    fds = FDS(6, 100, 0, variant=variant)
    for ours, published in replay(golden / f"fds_age_{variant}_b0_gaussian_5_2.npz", fds, variant, streamed):
        np.testing.assert_allclose(ours.numpy(), published, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("streamed", [False, True])
def test_sts_trajectory(golden, streamed):
    fds = FDS(6, **STSB, variant="released")
    for ours, published in replay(golden / "fds_sts_released.npz", fds, "released", streamed):
        np.testing.assert_allclose(ours.numpy(), published, rtol=1e-5, atol=1e-5)


def trained(variant="paper", dim=4, epochs=3, **how):
    fds = FDS(dim, 12, 2, variant=variant, **how)
    generator = torch.Generator().manual_seed(0)
    for epoch in range(epochs):
        features = torch.randn(200, dim, generator=generator) * 3 + 1
        labels = torch.randint(0, 15, (200,), generator=generator).float()
        fds.update_last_epoch_stats(epoch)
        fds.update_running_stats(features, labels, epoch)
    return fds


def loop_smooth(fds, features, labels):
    """Equation 5, one sample and one dimension at a time."""
    out = features.clone()
    for i, label in enumerate(labels):
        b = min(max(int(label), fds.bucket_start), fds.bucket_num - 1) - fds.bucket_start
        m1, v1 = fds.running_mean_last_epoch[b], fds.running_var_last_epoch[b]
        m2, v2 = fds.smoothed_mean_last_epoch[b], fds.smoothed_var_last_epoch[b]
        for d in range(features.shape[1]):
            if v1.sum() >= 1e-10 and v1[d] > 0 and v2[d] >= 0:
                ratio = min(max(float(v2[d] / v1[d]), fds.clip[0]), fds.clip[1])
                out[i, d] = (features[i, d] - m1[d]) * ratio**0.5 + m2[d]
    return out


def test_smooth_is_equation_5_with_its_guards():
    fds = trained()
    fds.running_var_last_epoch[3] = 0  # a dead bucket is left whole
    fds.running_var_last_epoch[4, 1] = 0  # a dead dimension is left as it is
    fds.smoothed_var_last_epoch[5, 2] = -1
    features, labels = torch.randn(60, 4), torch.randint(0, 15, (60,)).float()
    torch.testing.assert_close(fds.smooth(features, labels, 5), loop_smooth(fds, features, labels))


def test_smooth_touches_nothing_and_passes_gradients_through_a_relu():
    fds = trained()
    weight = torch.randn(4, 4, requires_grad=True)
    features = torch.relu(torch.randn(30, 4) @ weight)
    before = features.detach().clone()
    fds.smooth(features, torch.full((30, 1), 7.0), 5).pow(2).sum().backward()
    assert torch.equal(features.detach(), before)
    assert weight.grad.abs().sum() > 0
    assert not any(buffer.requires_grad for buffer in fds.buffers())


def test_gradient_is_that_of_the_calibration():
    fds = trained().double()
    features = torch.randn(8, 4, dtype=torch.double, requires_grad=True)
    labels = torch.randint(0, 15, (8,)).float()
    assert torch.autograd.gradcheck(lambda x: fds.smooth(x, labels, 5), features)


def test_maps_are_vectors_with_more_axes():
    fds_maps, fds_rows = trained(), trained()
    maps, labels = torch.randn(3, 4, 5, 6), torch.randint(0, 15, (3, 1, 5, 6)).float()
    rows = maps.permute(0, 2, 3, 1).reshape(-1, 4)
    smoothed = fds_maps.smooth(maps, labels, 5)
    assert smoothed.shape == maps.shape
    torch.testing.assert_close(
        smoothed.permute(0, 2, 3, 1).reshape(-1, 4), fds_rows.smooth(rows, labels.flatten(), 5)
    )
    fds_maps.update_running_stats(maps, labels, 3)
    fds_rows.update_running_stats(rows, labels.flatten(), 3)
    torch.testing.assert_close(fds_maps.running_var, fds_rows.running_var)


def moments_of_whole_maps(fds, maps, labels):
    """Count, mean and M2 of each bucket as they were taken before there were pieces: a whole map at a time."""
    stream = None
    for one, bucket in zip(maps, fds._bucket(labels).view(len(maps), -1), strict=True):
        x = one.flatten(1).T.double()

        def summed(values, bucket=bucket):
            return values.new_zeros(fds.buckets + 1, values.shape[1]).index_add_(0, bucket, values)

        count = torch.bincount(bucket, minlength=fds.buckets + 1).double().unsqueeze(1)
        mean = summed(x) / count.clamp(min=1)
        m2 = summed((x - mean[bucket]) ** 2)
        if stream is not None:
            count0, mean0, m20 = stream
            delta, total = mean - mean0, (count0 + count).clamp(min=1)
            m2 = m20 + m2 + delta**2 * count0 * count / total
            mean, count = mean0 + delta * count / total, count0 + count
        stream = count, mean, m2
    return [part[: fds.buckets] for part in stream]


MEMORY = [torch.contiguous_format, torch.channels_last]


@pytest.mark.parametrize("memory", MEMORY)
def test_pieces_of_maps_give_the_numbers_of_whole_maps(memory, monkeypatch):
    monkeypatch.setattr("common.fds_maps.CACHED", 4 * 50)  # 50 of 540 pixels a piece
    fds, generator = trained(), torch.Generator().manual_seed(1)
    maps = torch.randn(3, 4, 18, 30, generator=generator).relu().contiguous(memory_format=memory)
    labels = torch.randint(0, 15, (3, 1, 18, 30), generator=generator).float()
    labels[0, 0, :5] = torch.nan
    fds.collect(maps, labels)
    for ours, before in zip(fds._stream, moments_of_whole_maps(fds, maps, labels), strict=True):
        torch.testing.assert_close(ours, before, rtol=1e-12, atol=1e-12)
    fds.update(3)
    maps.requires_grad_()
    scale, shift = (
        table[fds._bucket(labels)].view(3, 18, 30, 4).movedim(3, 1) for table in fds._calibration()
    )
    smoothed = fds.smooth(maps, labels, 5)
    assert smoothed.is_contiguous(memory_format=memory)
    assert torch.equal(smoothed, torch.addcmul(shift, maps, scale))
    smoothed.backward(torch.ones_like(smoothed))
    assert torch.equal(maps.grad, scale)


def test_a_kept_stream_is_in_the_state_and_goes_on_as_the_saved_one():
    how = {"keep_stream": torch.float64}
    whole, saved, loaded = (FDS(4, 12, 2, **how) for _ in range(3))
    batches = [(torch.randn(30, 4), torch.randint(0, 15, (30,)).float()) for _ in range(3)]
    for batch in batches:
        whole.collect(*batch)
    saved.collect(*batches[0])
    loaded.load_state_dict(saved.state_dict())
    for batch in batches[1:]:
        loaded.collect(*batch)
    for fds in (whole, loaded):
        fds.update(0)
        assert not any(part.any() for part in fds._stream)
    assert all(torch.equal(loaded.get_buffer(name), whole.get_buffer(name)) for name in whole.state_dict())
    at_once = FDS(4, 12, 2)
    at_once.update_running_stats(*map(torch.cat, zip(*batches, strict=True)), 0)
    torch.testing.assert_close(whole.running_var, at_once.running_var)


def test_an_unknown_label_is_left_alone_and_in_no_statistic():
    """NaN is an invalid pixel: the rest of the map is as if it were not there."""
    x, y = torch.randn(2, 4, 5, 6), torch.rand(2, 1, 5, 6) * 5
    unknown = torch.rand(2, 1, 5, 6) < 0.3
    holes = y.masked_fill(unknown, torch.nan)
    dense, sparse = FDS(4, **STSB), FDS(4, **STSB)
    known = ~unknown.flatten()
    flat = x.movedim(1, -1).reshape(-1, 4)[known], y.flatten()[known]
    for epoch in range(3):
        dense.update_last_epoch_stats(epoch)
        dense.update_running_stats(x, holes, epoch)
        sparse.update_last_epoch_stats(epoch)
        sparse.update_running_stats(*flat, epoch)
    for name in BUFFERS:
        torch.testing.assert_close(getattr(dense, name), getattr(sparse, name), msg=name)
    smoothed = dense.smooth(x, holes, 3).movedim(1, -1).reshape(-1, 4)
    torch.testing.assert_close(smoothed[known], sparse.smooth(*flat, 3))
    assert torch.equal(smoothed[~known], x.movedim(1, -1).reshape(-1, 4)[~known])
    assert not torch.equal(smoothed[known], flat[0])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 40))
def test_streamed_statistics_are_those_of_all_samples(seed, batch):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(90, 3, generator=generator) * 2 + 100
    labels = torch.randint(0, 12, (90,), generator=generator).float()
    fds = FDS(3, 12, 0)
    for rows in torch.arange(90).split(batch):
        fds.collect(features[rows], labels[rows])
    fds.update(0)
    for label in labels.unique():
        mine = features[labels == label].double()
        torch.testing.assert_close(fds.running_mean[int(label)].double(), mine.mean(0), rtol=1e-6, atol=1e-5)
        if len(mine) > 1:
            torch.testing.assert_close(
                fds.running_var[int(label)].double(), mine.var(0), rtol=1e-5, atol=1e-5
            )


@settings(max_examples=50, deadline=None)
@given(st.lists(st.booleans(), min_size=3, max_size=20).filter(lambda e: not all(e)), st.integers(0, 99))
def test_fill_is_the_published_loop(empty, seed):
    table = torch.randn(len(empty), 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    expected = table.clone()
    for b, is_empty in enumerate(empty):
        if is_empty and b == 0:
            expected[0] = expected[1]
        elif is_empty and b == len(empty) - 1:
            expected[b] = expected[b - 1]
        elif is_empty:
            expected[b] = (expected[b - 1] + expected[b + 1]) / 2
    fds = FDS(2, len(empty), 0, ks=3, empty="fill")
    torch.testing.assert_close(fds._filled(table, torch.tensor(empty)), expected)


def test_momentum_none_is_a_running_average_over_samples():
    fds = FDS(2, 8, 0, momentum=None)
    first, second = torch.randn(10, 2), torch.randn(30, 2)
    fds.update_running_stats(first, torch.full((10,), 4.0), 0)
    fds.update_last_epoch_stats(1)
    fds.update_running_stats(second, torch.full((30,), 4.0), 1)
    torch.testing.assert_close(fds.running_mean[4], torch.cat([first, second]).mean(0))
    assert fds.num_samples_tracked[4] == 40


def test_labels_outside_and_between_are_clamped_and_binned():
    fds = FDS(1, 10, 3, ks=3)
    fds.update_running_stats(torch.tensor([[1.0], [3.0], [5.0]]), torch.tensor([0.0, 3.0, 99.0]), 0)
    assert fds.num_samples_tracked.tolist() == [2, 0, 0, 0, 0, 0, 1]
    assert fds.running_mean[0] == 2


def test_memory_of_the_stream_does_not_grow():
    fds = FDS(5, 10, 0)
    for _ in range(20):
        fds.collect(torch.randn(50, 5), torch.randint(0, 10, (50,)).float())
        assert sum(part.numel() for part in fds._stream) == 10 * (1 + 5 + 5)


def test_state_has_the_published_names_and_shapes():
    state = FDS(7, 100, 3).state_dict()
    assert set(state) == {*BUFFERS, "epoch"}
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    assert shapes == dict.fromkeys(BUFFERS, (97, 7)) | {"num_samples_tracked": (97,), "epoch": (1,)}


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_a_loaded_state_calibrates_and_goes_on_as_the_saved_one(variant):
    saved, loaded = trained(variant), FDS(4, 12, 2, variant=variant)
    features, labels = torch.randn(60, 4), torch.randint(0, 15, (60,)).float()
    assert not torch.allclose(loaded.smooth(features, labels, 5), saved.smooth(features, labels, 5))
    loaded.load_state_dict(saved.state_dict())
    for epoch in (3, 4):
        for fds in (saved, loaded):
            fds.update_last_epoch_stats(epoch)
            fds.update_running_stats(features, labels, epoch)
        assert torch.equal(loaded.smooth(features, labels, 5), saved.smooth(features, labels, 5))
    assert all(torch.equal(loaded.get_buffer(name), saved.get_buffer(name)) for name in saved.state_dict())
    assert loaded.epoch == 4


def test_reset_forgets():
    fds = trained()
    fds.reset()
    fresh = FDS(4, 12, 2)
    assert all(torch.equal(fds.get_buffer(n), fresh.get_buffer(n)) for n in fresh.state_dict())


@pytest.mark.parametrize(
    "how", [{"ks": 4}, {"sigma": 0}, {"kernel": "box"}, {"variant": "x"}, {"empty": "x"}, {"ks": 21}]
)
def test_bad_settings_are_refused(how):
    with pytest.raises(ValueError):
        FDS(2, 10, 0, **how)


def test_bad_features_are_refused():
    with pytest.raises(ValueError, match="3 dimensions, not 2"):
        FDS(2, 10, 0).collect(torch.zeros(4, 3), torch.zeros(4))
    with pytest.raises(ValueError, match="4 features but 5 labels"):
        FDS(2, 10, 0).collect(torch.zeros(4, 2), torch.zeros(5))
    with pytest.raises(ValueError, match="call collect first"):
        FDS(2, 10, 0).update(0)
