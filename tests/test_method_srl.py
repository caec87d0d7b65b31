"""SRL against numbers of its authors' code, its surrogate over epochs included, and as a part of a run."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import toy
from proven import assert_gradient
from torch import nn
from wired import assert_wired, cases_of, prepared

from common.bins import Bins
from common.errors import UserError
from common.method import Seen
from common.methods.rows import unit_rows
from common.methods.srl import Srl, bins_in_use, srl_terms
from common.task import Batch

CASES = cases_of("srl")
NAMES = ("contrastive", "enveloping", "homogeneity")
SIGNS = {"agedb": -1, "imdb": 1}
RELEASED = {"stsb_released", "stsb_released_integer_scores"}
UNDEFINED = {"stsb_released_all_labels_equal", "agedb_label_out_of_range"}
TRAJECTORIES = {"trajectory_age": "agedb", "trajectory_stsb_released": "sts-b"}
BINNED = sorted(
    name
    for name, case in CASES.items()
    if {"surrogate", "status"} <= set(case) and str(case["variant"]) in SIGNS
)
BINNED.remove("agedb_label_out_of_range")


LEFT_OUT = {
    "mlp_variant": "a second, learned surrogate that no published command asks for; no flag does here",
}


def test_every_case_is_tested_or_left_out_with_a_reason():
    tested = {*BINNED, *RELEASED, *UNDEFINED, "pieces"}
    for name in CASES:
        assert name in tested or name.split(".")[0] in TRAJECTORIES or name.startswith(tuple(LEFT_OUT)), name


def tensors(name):
    return {key: torch.as_tensor(value) for key, value in CASES[name].items() if value.dtype.kind != "U"}


def assert_terms(name, terms_of):
    """Value and gradient of each term, and their weighted sum where it is recorded."""
    case = CASES[name]
    values = []
    for index, term in enumerate(NAMES):
        features = torch.as_tensor(case["features"]).clone().requires_grad_()
        value = terms_of(features)[index]
        value.backward()
        values.append(value.item())
        assert value.item() == pytest.approx(float(case[term]), rel=1e-5), term
        assert_gradient(features.grad, case[f"grad_{term}"])
    if "weighted_sum" in case:
        total = sum(float(case[f"coef_{term}"]) * value for term, value in zip(NAMES, values, strict=True))
        assert total == pytest.approx(float(case["weighted_sum"]), rel=1e-5)


@pytest.mark.parametrize("name", BINNED)
def test_reference_numbers(name):
    case = tensors(name)

    def terms_of(features):
        return srl_terms(
            features, case["labels"], case["surrogate"], case["points"], float(case["temperature"]),
            SIGNS[str(CASES[name]["variant"])], distance_weights="distance_weighted" in name,
        )  # fmt: skip

    assert_terms(name, terms_of)


def method_of(bins, points, *flags, momentum=0.9, labels=None, fds_empty="keep"):
    """The method on features of 8 dimensions that are their own projection."""
    task = toy.replace(toy.TASK, fds_empty=fds_empty)
    settings = toy.settings_of(
        "unused", "--srl", "--srl_dim 8", f"--srl_momentum {momentum}", *flags, task=task
    )
    labels = bins.left_edges + bins.width / 2 if labels is None else labels
    method = Srl(settings, task)
    method.build(8, SimpleNamespace(bins=bins, counts=None, train=SimpleNamespace(labels=labels)))
    method.projection, method.points = nn.Identity(), torch.as_tensor(points)
    return method


def seen_of(features, labels):
    features, labels = torch.as_tensor(features), torch.as_tensor(labels, dtype=torch.float32).view(-1, 1)
    return Seen(Batch(None, labels, None), features, features, None, None, 0)


@pytest.mark.parametrize("name", sorted(RELEASED))
def test_reference_numbers_with_a_class_for_each_score(name):
    case = CASES[name]
    method = method_of(
        Bins.uniform(0, 5, 50),
        case["points"],
        "--srl_variant sts-b",
        f"--srl_temperature {case['temperature']}",
    )
    method.store.running_mean_last_epoch.copy_(torch.as_tensor(case["surrogate"]))
    assert_terms(name, lambda features: method.terms(features, torch.as_tensor(case["labels"]).flatten()))


def test_one_score_is_defined_where_the_published_code_fails():
    case = CASES["stsb_released_all_labels_equal"]
    assert str(case["status"]) == "IndexError"
    method = method_of(Bins.uniform(0, 5, 50), case["points"], "--srl_variant sts-b")
    features = torch.as_tensor(case["features"]).requires_grad_()
    sum(method.terms(features, torch.as_tensor(case["labels"]).flatten())).backward()
    assert features.grad.isfinite().all()


def test_a_bin_out_of_range_is_refused():
    case = tensors("agedb_label_out_of_range")
    with pytest.raises(ValueError, match="are not of 12"):
        srl_terms(case["features"], case["labels"], case["surrogate"], case["points"], 0.3)
    with pytest.raises(ValueError, match="not one for each of 4 rows"):
        srl_terms(case["features"], torch.zeros(1, 4), case["surrogate"], case["points"], 0.3)


def test_reference_numbers_of_pieces():
    case = tensors("pieces")
    told = torch.arange(12), torch.zeros(12, 8), case["points"], 1.0

    def pieces(features, sign=-1, **kwargs):
        return srl_terms(features, *told, sign, **kwargs)[1:]

    for index, (term, key) in enumerate(
        (("enveloping", "enveloping"), ("homogeneity_agedb", "homogeneity_agedb"))
    ):
        centroids = case["centroids"].clone().requires_grad_()
        value = pieces(centroids)[index]
        value.backward()
        assert value.item() == pytest.approx(case[term].item(), rel=1e-5)
        recorded = case[f"grad_{key}"]  # of unit centroids: what leaves the sphere is not in ours
        along = (recorded * case["centroids"]).sum(1, keepdim=True) * case["centroids"]
        assert_gradient(centroids.grad, (recorded - along).numpy())
    assert pieces(case["centroids"], 1)[1].item() == pytest.approx(
        case["homogeneity_imdb_and_stsb"].item(), rel=1e-5
    )
    paper = pieces(case["centroids"], paper=True)[1].item()
    assert paper == pytest.approx(case["homogeneity_paper_unit_spacing"].item(), rel=1e-5)


@pytest.mark.parametrize("name", TRAJECTORIES)
def test_the_surrogate_goes_the_recorded_way(name):
    whole, variant = CASES[name], TRAJECTORIES[name]
    scores = variant == "sts-b"
    bins = Bins.uniform(0, 5, 50) if scores else Bins.integers(0, 11)
    flags = f"--srl_variant {variant} --srl_temperature {whole['temperature']}"
    method = method_of(
        bins, whole["points"], flags, "--srl_contrastive 1 --srl_enveloping 1 --srl_homogeneity 1",
        momentum=float(whole["momentum"]), fds_empty="fill" if scores else "keep",
    )  # fmt: skip
    for epoch in range(int(whole["epochs"])):
        recorded = CASES[f"{name}.e{epoch}"]
        during = method.store.running_mean_last_epoch.clone()
        np.testing.assert_allclose(during, recorded["surrogate_during"], atol=1e-5)
        batches = [CASES[f"{name}.e{epoch}.b{batch}"] for batch in range(int(whole["batches"]))]
        for batch in batches:
            losses = method.losses(seen_of(batch["features"], batch["labels"]))
            for term in NAMES:
                assert losses[f"srl_{term}"].item() == pytest.approx(float(batch[term]), rel=1e-5)
        method.end_of_epoch(epoch, lambda what, b=batches: (seen_of(x["features"], x["labels"]) for x in b))
        np.testing.assert_allclose(method.store.running_mean, recorded["running_mean_after"], atol=1e-5)
        np.testing.assert_allclose(
            method.store.running_mean_last_epoch, recorded["surrogate_after"], atol=1e-5
        )


def test_the_paper_has_no_terms_in_the_first_epoch_and_a_moving_mean_after_it():
    rng = torch.Generator().manual_seed(0)
    features, labels = unit_rows(torch.randn(12, 8, generator=rng)), torch.arange(12) % 3
    points = unit_rows(torch.randn(20, 8, generator=rng))
    method = method_of(Bins.integers(0, 2), points, "--srl_variant paper", momentum=0.5)
    seen = seen_of(features, labels)
    assert not any(method.losses(seen).values())
    means = torch.stack([features[labels == k].mean(0) for k in range(3)])
    method.end_of_epoch(0, lambda what: [seen])
    torch.testing.assert_close(method.store.running_mean, means)
    method.end_of_epoch(1, lambda what: [seen_of(-features, labels)])
    torch.testing.assert_close(method.store.running_mean, 0 * means, rtol=0, atol=1e-6)
    method.end_of_epoch(2, lambda what: [seen])
    one = method.terms(features[:1], labels[:1].float())
    surrogate = unit_rows(torch.cat((features[:1], means[1:])))
    contrast = (surrogate @ features[0]).logsumexp(0) - surrogate[0] @ features[0]
    assert one[0].item() == pytest.approx(contrast.item(), rel=1e-5)
    assert one[2].item() == pytest.approx(surrogate.diff(dim=0).square().sum().item(), rel=1e-5)


@pytest.mark.parametrize("bins", [1, 2, 3])
@pytest.mark.parametrize("samples", [1, 2])
def test_few_bins_and_samples_stay_finite(bins, samples):
    features = torch.randn(samples, 4).requires_grad_()
    labels = torch.zeros(samples, dtype=torch.long)
    sum(srl_terms(features, labels, torch.zeros(bins, 4), unit_rows(torch.randn(5, 4)), 0.3)).backward()
    assert features.grad.isfinite().all()


def test_maps_without_a_known_pixel_give_zero(tmp_path):
    method = prepared(tmp_path, "--srl", "maps").regressor.methods["srl"]
    targets, features = torch.full((2, 1, 2, 3), torch.nan), torch.randn(2, 4, 2, 3)
    seen = Seen(Batch(None, targets, None, targets.isfinite()), features, features, None, None, 0)
    assert not any(loss.item() for loss in method.losses(seen).values())


def test_bins_end_with_the_last_training_label():
    labels = np.array([3.0, 101.0])
    data = SimpleNamespace(bins=Bins.integers(0, 120), counts=None, train=SimpleNamespace(labels=labels))
    assert bins_in_use(data) == 102
    assert bins_in_use(SimpleNamespace(counts=np.array([0, 4, 2, 0]))) == 3


@pytest.mark.parametrize("shape", ["vectors", "pairs", "maps"])
@pytest.mark.parametrize("variant", ["agedb", "imdb-wiki", "paper"])
def test_wired_as_proven(tmp_path, shape, variant):
    flags = f"--srl --srl_variant {variant} --srl_dim 6 --srl_points 40 --srl_pixels 20 --lds --fds"
    run = prepared(tmp_path, flags, shape)
    for epoch in range(3):
        run.end_epoch(epoch)
    weights = dict(zip(NAMES, (10, 100, 0.01), strict=True))

    def expect(method, seen):
        features, labels = seen.features, seen.batch.targets
        if shape == "maps":
            known = seen.batch.valid.squeeze(1)
            kept = torch.randperm(int(known.sum()))[:20]
            features, labels = features.movedim(1, -1)[known][kept], labels.squeeze(1)[known][kept]
        stored, t = method.store.running_mean_last_epoch, 0.3
        assert stored.any()
        if variant == "paper":
            stored, t = method.store.running_mean, 1.0
        bins = toy.BINS.index(labels).clamp(max=len(stored) - 1)
        terms = srl_terms(
            method.projection(features), bins, stored, method.points, t, -1 if variant == "agedb" else 1,
            paper=variant == "paper",
        )  # fmt: skip
        return {f"srl_{n}": weights[n] * term for n, term in zip(NAMES, terms, strict=True)}

    assert_wired(run, "srl", expect)


def test_the_projection_trains_and_the_points_stay(tmp_path):
    run = prepared(tmp_path, "--srl")
    method = run.regressor.methods["srl"]
    before = method.projection[0].weight.detach().clone(), method.points.clone()
    run.step(next(run.batches()), 0)
    assert not torch.equal(before[0], method.projection[0].weight)
    assert torch.equal(before[1], method.points)
    torch.testing.assert_close(method.points.norm(dim=1), torch.ones(2000))


@pytest.mark.parametrize("field", ["contrastive", "enveloping", "homogeneity", "temperature", "points"])
@pytest.mark.parametrize("value", ["-1", "nan", "inf"])
def test_a_bad_number_is_refused(tmp_path, field, value, capsys):
    with pytest.raises((UserError, SystemExit)):
        prepared(tmp_path, f"--srl --srl_{field}={value}")
    assert f"--srl_{field}" in capsys.readouterr().err
