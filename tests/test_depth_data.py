"""NYUD2-DIR's files and transforms: step by step as published, and what is wrong with a folder."""

import json
import shutil

import depth_task
import numpy as np
import pytest
import torch
from depth_colours import DEVIATION, EIGENVALUES, EIGENVECTORS, GREY, MEAN, jitter_colours
from depth_data import DepthSplit, Move, Sizes, _moves, hold_out, read_counts
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage
from scipy.stats import kstest
from tiny_depth import slope, tiny_nyud2, write_pair

from common.cli import ROOT
from common.datasets import depth as files
from common.datasets.depth import Pair, counted_depth, read_mask, read_pairs, scene
from common.errors import UserError
from common.methods.reweight import dense_weights
from common.task import Draw

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
FULL = Sizes.of(228)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_nyud2(tmp_path_factory.mktemp("nyud2"))


def split_of(folder, name="nyu2_train.csv", sizes=FULL, **how):
    return DepthSplit(read_pairs(folder, name), sizes, 2, **how)


def batch_of(split, *, augment=False, seed=0):
    draw = Draw(np.arange(len(split)), seed)
    return next(iter(split.batches([draw], augment=augment, device=CPU)))


# --- the transforms, step by step


def cropped(image, width=304, height=228):
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))


def normalised(pixels):
    images = torch.from_numpy(np.array(pixels)).permute(2, 0, 1).float() / 255
    return (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(DEVIATION).view(3, 1, 1)


def test_sizes_are_the_published_ones_and_scale():
    assert FULL == (240, 304, 228)
    assert Sizes.of(84) == (88, 112, 84)
    with pytest.raises(UserError, match="--img_size 100: is not a multiple of 12"):
        Sizes.of(100)


def test_unmoved_training_images_are_the_published_steps(folder):
    split = split_of(folder, keep_invalid=True)
    batch = batch_of(split)
    assert batch.inputs.shape == (12, 3, 228, 304)
    assert batch.targets.shape == (12, 1, 114, 152)
    assert batch.weights is None
    assert batch.valid is None
    for pair, image, depth in zip(split.pairs, batch.inputs, batch.targets, strict=True):
        expected = Image.open(pair.image).resize((320, 240), Image.Resampling.BILINEAR)
        torch.testing.assert_close(image, normalised(cropped(expected)))
        stored = cropped(Image.open(pair.depth).resize((320, 240), Image.Resampling.NEAREST))
        metres = np.asarray(stored.resize((152, 114))).astype(np.float32) / np.float32(255) * np.float32(10)
        np.testing.assert_array_equal(depth[0].numpy(), metres)


def test_test_depth_is_millimetres_where_the_mask_is_set(folder):
    mask = read_mask(folder / files.MASK, 4)
    split = split_of(folder, "nyu2_test.csv", tested=True, sixteen_bit=True, mask=mask)
    batch = batch_of(split)
    assert batch.targets.shape == (4, 1, 228, 304)
    for pair, depth, asked in zip(split.pairs, batch.targets, mask, strict=True):
        stored = cropped(Image.open(pair.depth).resize((320, 240), Image.Resampling.NEAREST))
        metres = np.asarray(stored).astype(np.float32) / 1000
        np.testing.assert_array_equal(depth[0].numpy(), np.where(asked, metres, np.nan))


def test_image_and_depth_move_together_as_published(folder):
    split = split_of(folder, keep_invalid=True)
    draw = Draw(np.arange(12), 5)
    samples = list(map(split._sample, split.pairs, [None] * 12, _moves(draw)))
    moves = _moves(draw)
    assert {move.flip for move in moves} == {False, True}
    for pair, move, sample in zip(split.pairs, moves, samples, strict=True):
        image = Image.open(pair.image).resize((320, 240), Image.Resampling.BILINEAR)
        depth = Image.open(pair.depth).resize((320, 240), Image.Resampling.NEAREST)
        if move.flip:
            image, depth = (i.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for i in (image, depth))
        image, depth = (
            Image.fromarray(ndimage.rotate(np.asarray(i), move.degrees, reshape=False, order=2))
            for i in (image, depth)
        )
        np.testing.assert_array_equal(sample.pixels, np.asarray(cropped(image)))
        halved = np.asarray(cropped(depth).resize((152, 114))).astype(np.float32)
        np.testing.assert_array_equal(sample.depth, halved / np.float32(255) * np.float32(10))


def test_moves_are_drawn_as_published():
    moves = _moves(Draw(np.arange(4000), 3))
    assert abs(np.mean([move.flip for move in moves]) - 0.5) < 0.03
    assert kstest([move.degrees for move in moves], "uniform", (-5, 10)).pvalue > 0.01


def colours_one_by_one(image, seed, row, n):
    """The published loop over one image, from the draws of the whole batch."""
    rng = np.random.default_rng([seed, 1])
    alpha = rng.normal(0, 0.1, (n, 3))[row]
    order = rng.permuted(np.tile(np.arange(3), (n, 1)), axis=1)[row]
    strength = rng.uniform(-0.4, 0.4, (n, 3))[row]
    for channel in range(3):
        image[channel] += sum(EIGENVECTORS[channel][k] * alpha[k] * EIGENVALUES[k] for k in range(3))
    for step in range(3):
        grey = sum(share * image[channel] for channel, share in enumerate(GREY))
        towards = {0: 0 * grey, 1: 0 * grey + grey.mean(), 2: grey}[order[step]]
        image = image + strength[step] * (towards - image)
    return image


@given(st.integers(0, 2**31 - 1))
def test_colours_of_a_batch_are_those_of_each_image(seed):
    images = np.random.default_rng(seed).random((5, 3, 6, 8))
    ours = jitter_colours(torch.from_numpy(images.astype(np.float32)), Draw(np.arange(5), seed))
    for row in range(5):
        theirs = colours_one_by_one(images[row].copy(), seed, row, 5)
        np.testing.assert_allclose(ours[row].numpy(), theirs, atol=2e-6)


def test_colours_are_drawn_as_published():
    """Grey images know brightness alone: of mean 1 +- .4, on top of a shift of lighting."""
    images = torch.full((4000, 3, 1, 1), 0.5)
    ours = jitter_colours(images, Draw(np.arange(len(images)), 0)).numpy()[:, :, 0, 0]
    rng = np.random.default_rng([0, 1])
    assert kstest(rng.normal(0, 0.1, (4000, 3)).ravel(), "norm", (0, 0.1)).pvalue > 0.01
    orders = {tuple(row) for row in rng.permuted(np.tile(np.arange(3), (4000, 1)), axis=1).tolist()}
    assert len(orders) == 6
    assert 0.27 < np.percentile(ours, 1) < 0.34
    assert 0.66 < np.percentile(ours, 99) < 0.75
    assert abs(ours.mean() - 0.5) < 0.01


def test_batches_follow_from_the_draw_alone(folder):
    split = split_of(folder, sizes=Sizes.of(36))
    draws = [Draw(np.array([1, 4]), 7), Draw(np.array([2, 0]), 8)]
    first = list(split.batches(draws, augment=True, device=CPU))
    again = list(split.batches(draws[1:], augment=True, device=CPU))
    assert torch.equal(first[1].inputs, again[0].inputs)
    assert torch.equal(first[1].targets.nan_to_num(), again[0].targets.nan_to_num())
    other = next(iter(split.batches([draws[1]._replace(seed=9)], augment=True, device=CPU)))
    assert not torch.equal(other.inputs, again[0].inputs)


# --- pixels without a measurement


@pytest.fixture
def holes(tmp_path):
    """One pair whose depth, 5 m, lacks a square; the loader halves it at 228 x 304."""
    metres = np.full((240, 320), 5.0)
    metres[100:140, 150:190] = 0
    write_pair(tmp_path, "a.jpg", "a.png", metres, test=False)
    return [Pair(tmp_path / "a.jpg", tmp_path / "a.png")]


@pytest.mark.parametrize("augment", [False, True])
def test_invalid_pixels_and_their_neighbours_are_unknown(holes, augment):
    batch = batch_of(DepthSplit(holes, FULL, 1), augment=augment, seed=1)
    known = batch.targets[batch.valid]
    assert torch.equal(batch.valid, ~batch.targets.isnan())
    assert ((known - 5).abs() < 0.1).all(), "no zero has a share in what is known"
    holes_left = (~batch.valid).float().mean()
    assert 400 / 17328 <= holes_left < (0.15 if augment else 0.04)
    assert not batch.valid[0, 0, 57, 77]


def test_rotation_leaves_unknown_corners(tmp_path):
    write_pair(tmp_path, "a.jpg", "a.png", np.full((240, 320), 5.0), test=False)
    split = DepthSplit([Pair(tmp_path / "a.jpg", tmp_path / "a.png")], FULL, 1)
    sample = split._sample(split.pairs[0], None, Move(False, 5.0))
    corners = np.isnan(sample.depth)
    assert corners[0, 0] or corners[0, -1]
    assert 0 < corners.mean() < 0.05
    np.testing.assert_allclose(sample.depth[~corners], 5, atol=0.1)
    split.keep_invalid = True
    kept = split._sample(split.pairs[0], None, Move(False, 5.0)).depth
    assert (kept[corners] < 5.6).all(), "cubic weights overshoot beside a corner"
    assert (kept == 0).any()
    np.testing.assert_array_equal(kept[~corners], sample.depth[~corners])


def test_keep_invalid_trains_on_zeros(holes, caplog):
    split = DepthSplit(holes, FULL, 1, keep_invalid=True)
    with caplog.at_level("INFO", logger="dir"):
        batch = batch_of(split)
    assert batch.valid is None
    assert (batch.targets == 0).sum() >= 300


@pytest.mark.parametrize(("keep", "fate"), [(False, "left out"), (True, "trained on as depth 0")])
def test_invalid_pixels_are_counted_in_the_log(holes, caplog, keep, fate):
    split = DepthSplit(holes * 2, FULL, 1, keep_invalid=keep)
    with caplog.at_level("INFO", logger="dir"):
        list(split.batches([Draw(np.array([0]), 0), Draw(np.array([1]), 0)], augment=False, device=CPU))
    assert f"3,200 pixels of these 2 depth maps have no measurement: {fate}" in caplog.text


def test_invalid_test_pixels_are_left_out_of_the_mask(tmp_path):
    metres = np.full((240, 320), 5.0)
    metres[:120] = 0
    write_pair(tmp_path, "a.png", "d.png", metres, test=True)
    pair = Pair(tmp_path / "a.png", tmp_path / "d.png")
    split = DepthSplit([pair], FULL, 1, tested=True, sixteen_bit=True, mask=np.ones((1, 228, 304), np.uint8))
    batch = batch_of(split)
    assert batch.targets[0, 0, :114].isnan().all()
    assert (batch.targets[0, 0, 114:] == 5).all()


# --- weights


def table_of(counts, *, reweight, lds, lds_ks=5, lds_sigma=2):
    kwargs = {"reweight": reweight, "lds": lds, "lds_ks": lds_ks, "lds_sigma": lds_sigma}
    return dense_weights(counts, 7, {**kwargs, "border": depth_task.TASK.lds_border})


@pytest.mark.parametrize("key", ["inverse|raw", "inverse|lds", "sqrt_inv|raw", "sqrt_inv|lds"])
def test_weights_are_the_published_ones(golden, key):
    recorded = json.loads((golden / "nyu_weights.json").read_text())
    counts = read_counts(golden, 50688, ROOT / "data" / "nyud2_counts.json")
    assert counts.tolist() == recorded["counts"]
    reweight, lds = key.split("|")
    ours = table_of(counts, reweight=reweight, lds=lds == "lds", lds_ks=5, lds_sigma=2)
    np.testing.assert_allclose(ours, recorded[f"{key}|gaussian|5|2"], rtol=1e-6)


def test_each_pixel_has_the_weight_of_its_bin(folder):
    table = np.arange(100, dtype=np.float32)
    batch = batch_of(split_of(folder, sizes=Sizes.of(36), weights=table), augment=True)
    assert batch.valid is not None
    depth, weight = batch.targets[batch.valid], batch.weights[batch.valid]
    published = [min(int(y * np.float32(10)), 99) for y in depth.numpy()]
    np.testing.assert_array_equal(weight.numpy(), table[published])


def test_a_bin_without_a_pixel_is_no_error():
    counts = np.zeros(100, np.int64)
    counts[[3, 20, 60]] = 10, 100, 1
    weights = table_of(counts, reweight="inverse", lds=True)
    assert np.isfinite(weights).all()
    assert weights[60] > weights[20] > 0
    assert weights[80] == 0, "no pixel and no neighbour: no training pixel can ask for it"
    assert (weights[:7] == weights[7]).all()
    assert (weights * counts).sum() == pytest.approx(counts.sum(), rel=1e-5)


# --- scenes


def test_parts_of_a_recording_are_one_scene():
    names = ["bookstore_0001d_out", "bookstore_0001f_out", "bookstore_0002_out", "living_room_0004_out"]
    found = [scene(Pair(files.Path(name) / "1.jpg", files.Path(name) / "1.png")) for name in names]
    assert found == ["bookstore_0001", "bookstore_0001", "bookstore_0002", "living_room_0004"]


@given(st.lists(st.integers(0, 6), min_size=2, max_size=60), st.floats(0.01, 0.8), st.integers(0, 99))
def test_whole_scenes_are_held_out(numbers, fraction, seed):
    pairs = [Pair(files.Path(f"s_{n:04d}_out/{i}.jpg"), files.Path("d")) for i, n in enumerate(numbers)]
    if len(set(numbers)) < 2:
        with pytest.raises(UserError, match="--select test"):
            hold_out(pairs, fraction, seed)
        return
    train, held = hold_out(pairs, fraction, seed)
    assert sorted(train + held) == sorted(pairs)
    assert train
    assert held
    assert not {scene(p) for p in train} & {scene(p) for p in held}
    rest = {scene(p) for p in train}
    assert len(held) >= fraction * len(pairs) or len(rest) == 1
    assert hold_out(pairs, fraction, seed) == (train, held)


# --- bad input: each names the file and the way out


def broken(folder, tmp_path, change):
    copy = shutil.copytree(folder, tmp_path / "copy")
    change(copy)
    return copy


def test_image_and_depth_of_different_size(folder, tmp_path):
    copy = broken(folder, tmp_path, lambda f: None)
    pair = read_pairs(copy, "nyu2_train.csv")[3]
    Image.open(pair.image).resize((100, 80)).save(pair.image)
    with pytest.raises(UserError, match=r"3.jpg and .*3.png: differ in size \(100 x 80 and 160 x 120\)"):
        batch_of(split_of(copy))


def test_an_8_bit_file_where_16_bit_is_expected(folder, tmp_path):
    copy = broken(folder, tmp_path, lambda f: None)
    pair = read_pairs(copy, "nyu2_test.csv")[1]
    Image.fromarray(np.ones((120, 160), np.uint8)).save(pair.depth)
    with pytest.raises(UserError, match=r"00001_depth.png: is a 'L' image, where 16-bit grey .* convert"):
        batch_of(split_of(copy, "nyu2_test.csv", tested=True, sixteen_bit=True))


def test_a_16_bit_file_where_8_bit_is_expected(folder, tmp_path):
    copy = broken(folder, tmp_path, lambda f: None)
    pair = read_pairs(copy, "nyu2_train.csv")[0]
    Image.fromarray(np.ones((120, 160), np.uint16)).save(pair.depth)
    with pytest.raises(UserError, match="0.png: is a 'I;16' image, where 8-bit grey"):
        counted_depth(pair.depth)


@pytest.mark.parametrize("which", ["image", "depth"])
@pytest.mark.parametrize("how", ["cut", "gone", "text"])
def test_a_damaged_file_is_named(folder, tmp_path, which, how):
    copy = broken(folder, tmp_path, lambda f: None)
    file = getattr(read_pairs(copy, "nyu2_train.csv")[2], which)
    content = file.read_bytes()
    file.unlink()
    if how != "gone":
        file.write_bytes(content[: len(content) // 2] if how == "cut" else b"not an image")
    told = {"cut": "cannot be read", "gone": "there is no such file", "text": "is not an image"}[how]
    with pytest.raises(UserError, match=f"{file.name}: {told}"):
        batch_of(split_of(copy))


@pytest.mark.parametrize("shape", [(3, 228, 304), (4, 304, 228), (4,)])
def test_a_mask_of_another_shape(tmp_path, shape):
    np.save(tmp_path / "m.npy", np.zeros(shape, np.uint8))
    with pytest.raises(UserError, match=r"m.npy: has shape .*, not \(4, 228, 304\) of uint8.*prepare.py"):
        read_mask(tmp_path / "m.npy", 4)


def test_a_mask_that_is_not_there_or_broken(tmp_path):
    with pytest.raises(UserError, match=r"m.npy: there is no such file; .*prepare.py nyud2.*download.py"):
        read_mask(tmp_path / "m.npy", 4)
    (tmp_path / "m.npy").write_bytes(b"\x93NUMPY\x01")
    with pytest.raises(UserError, match="m.npy: cannot be read"):
        read_mask(tmp_path / "m.npy", 4)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "holds no row"),
        ("data/a.jpg\n", "row 1: is not IMAGE,DEPTH"),
        ("data/a.jpg,data/a.png\ndata/../b.jpg,data/b.png\n", "row 2: is not IMAGE,DEPTH"),
        ("data,data\n", "row 1: is not"),
    ],
)
def test_a_broken_csv_is_named_by_row(tmp_path, text, told):
    (tmp_path / "nyu2_train.csv").write_text(text)
    with pytest.raises(UserError, match=rf"nyu2_train.csv.*{told}"):
        read_pairs(tmp_path, "nyu2_train.csv")


def test_counts_of_other_images_are_refused(folder, tmp_path):
    published = ROOT / "data" / "nyud2_counts.json"
    with pytest.raises(
        UserError, match=r"depth_counts.json: is not there, and 12 .* not the published 50,688"
    ):
        read_counts(tmp_path, 12, published)
    with pytest.raises(UserError, match="depth_counts.json: counts 12 training images in 100 bins, not 13"):
        read_counts(folder, 13, published)
    (tmp_path / "depth_counts.json").write_text('{"counts": [1')
    with pytest.raises(UserError, match="depth_counts.json: is broken; python scripts/prepare.py nyud2"):
        read_counts(tmp_path, 12, published)


def test_the_published_subset_is_read(tmp_path, monkeypatch):
    text = "data/nyu2_train/kitchen_0029b_out/15.jpg,data/nyu2_train/kitchen_0029b_out/15.png\n"
    (tmp_path / "nyu2_train_FDS_subset.csv").write_text(text)
    [pair] = read_pairs(tmp_path, "nyu2_train_FDS_subset.csv")
    assert pair.image == tmp_path / "nyu2_train" / "kitchen_0029b_out" / "15.jpg"
    assert scene(pair) == "kitchen_0029"


def test_slopes_fill_the_bins():
    depth = slope(np.random.default_rng(0))
    assert depth.min() >= 0.8
    assert depth.max() <= 9.9
