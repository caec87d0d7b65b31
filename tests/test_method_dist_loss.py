"""Dist Loss against numbers of its authors' code: pseudo-labels, the soft sort, the loss, and as a part of a run."""

import numpy as np
import pytest
import torch
import toy
from proven import assert_gradient
from scipy.optimize import isotonic_regression
from wired import assert_wired, cases_of, prepared

from common.bins import Bins
from common.errors import UserError
from common.loss import LOSSES
from common.methods.dist_loss import dist_loss
from common.methods.pseudo_labels import label_counts, label_density, label_grid, pseudo_labels
from common.methods.softsort import ascending, soft_sort

CASES = cases_of("dist_loss")
PSEUDO = sorted(name for name in CASES if name.startswith("pseudo_"))  # no case is left out
LOSS = sorted(set(CASES) - set(PSEUDO))


def training_labels(name):
    """The labels behind a recorded density; those of the two data sets are recorded with another method."""
    if "labels" in CASES[name]:
        return CASES[name]["labels"]
    recorded = cases_of("denseweight")["agedb.alpha1.0" if "agedb" in name else "stsb.alpha1.0"]
    return np.repeat(recorded["label"].astype(np.float64), recorded["count"])


@pytest.mark.parametrize("name", PSEUDO)
def test_pseudo_labels_are_the_published_ones(name):
    case = CASES[name]
    low, high, step = (float(case[key]) for key in ("min_label", "max_label", "step"))
    grid = label_grid(Bins.integers(0, 9), low, high, step)
    density = label_density(training_labels(name), grid, float(case["bw_method"]))
    np.testing.assert_allclose(density, case["density"], rtol=1e-9)
    size = int(case["batch_size"])
    np.testing.assert_array_equal(label_counts(density, size), case["counts"])
    np.testing.assert_allclose(pseudo_labels(grid, density, size), case["pseudo_labels"], rtol=1e-6)


def test_the_default_grids_are_those_of_the_published_ages_and_of_the_scores():
    np.testing.assert_array_equal(label_grid(Bins.integers(0, 120), None, None, None), np.arange(121))
    np.testing.assert_allclose(label_grid(Bins.uniform(0, 5, 50), None, None, None), np.arange(51) / 10)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1000])
@pytest.mark.parametrize("points", [2, 3, 10, 121])
def test_counts_make_about_a_batch_of_any_size(points, size):
    rng = np.random.default_rng(points * size)
    for density in (rng.dirichlet(np.full(points, 0.2)), np.full(points, 1 / points)):
        counts = label_counts(density, size)
        assert len(np.repeat(np.arange(points), np.maximum(counts, 0))) > 0


@pytest.mark.parametrize("name", LOSS)
def test_reference_numbers(name):
    case = {
        key: value if value.dtype.kind == "U" else torch.as_tensor(value)
        for key, value in CASES[name].items()
    }
    strength, loss_fn = float(case["regularization_strength"]), str(case["loss_fn"])
    preds, weights = case["pred"].requires_grad_(), case.get("weights")
    told = {"weights": weights, "regularization_strength": strength, "loss_fn": loss_fn}
    loss = dist_loss(
        preds,
        case["target"],
        case["pseudo_labels"],
        distribution_weight=float(case["distribution_weight"]),
        **told,
    )
    loss.backward()
    assert loss.item() == pytest.approx(case["loss"].item(), rel=1e-5)
    assert_gradient(preds.grad, CASES[name]["grad_pred"])
    sorted_preds = soft_sort(preds.detach().flatten(), strength)
    scale = float(case["soft_sorted"].abs().max())
    torch.testing.assert_close(sorted_preds.double(), case["soft_sorted"], rtol=0, atol=1e-5 * scale)
    plain = LOSSES[loss_fn](preds.detach(), case["target"], weights=weights)
    assert plain.item() == pytest.approx(case["plain_loss"].item(), rel=1e-5)
    both = dist_loss(preds.detach(), case["target"], case["pseudo_labels"], **told)
    assert (both - plain).item() == pytest.approx(case["distribution_loss"].item(), rel=1e-5)


@pytest.mark.parametrize("strength", [0.01, 0.5, 3.0, 100.0])
def test_the_soft_sort_is_the_isotonic_regression(strength):
    values = torch.randn(200, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 3
    shift = (200 - np.arange(200)) / strength
    regression = isotonic_regression(np.sort(values.numpy()) + shift, increasing=False).x
    np.testing.assert_allclose(soft_sort(values, strength).numpy(), regression - shift, atol=1e-9)


def test_its_gradient_is_that_of_finite_differences():
    values = torch.randn(12, generator=torch.Generator().manual_seed(2), dtype=torch.float64) * 2
    assert torch.autograd.gradcheck(lambda x: soft_sort(x, 1.0), values.requires_grad_())


def test_equal_predictions_stay_finite():
    values = torch.zeros(5, requires_grad=True)
    soft_sort(values, 0.1).square().sum().backward()
    assert values.grad.isfinite().all()


@pytest.mark.parametrize("targets", [torch.zeros(4), torch.zeros(4, 2), torch.zeros(3, 1)])
def test_silent_broadcasting_is_refused(targets):
    preds = torch.zeros(4, 1)
    with pytest.raises(ValueError, match="differ in shape"):
        dist_loss(preds, targets, torch.zeros(4, 1))
    with pytest.raises(ValueError, match="differ in shape"):
        dist_loss(preds, torch.zeros(4, 1), targets)


FLAGS = "--dist_loss --dist_loss_weight 0.7 --dist_loss_strength 0.5"


@pytest.mark.parametrize("shape", ["vectors", "pairs"])
@pytest.mark.parametrize("loss", ["l1", "mse", "huber", "focal_l1"])
def test_wired_as_proven(tmp_path, shape, loss):
    run = prepared(tmp_path, f"{FLAGS} --loss {loss} --lds --fds", shape)
    labels = np.asarray(run.data.train.labels, np.float64)
    grid = np.arange(10.0)
    pseudo = pseudo_labels(grid, label_density(labels, grid, 0.5), 8)

    def expect(method, seen):
        weights, targets = seen.batch.weights, seen.batch.targets
        wanted = torch.tensor(pseudo, dtype=torch.float32)[:, None]
        told = {"weights": weights, "regularization_strength": 0.5, "loss_fn": loss}
        both = dist_loss(seen.outputs, targets, wanted, distribution_weight=0.7, **told)
        return {"dist_loss": both - LOSSES[loss](seen.outputs, targets, weights=weights)}

    assert_wired(run, "dist_loss", expect)


def test_wired_in_units_of_the_criterion(tmp_path):
    task = toy.replace(toy.KINDS["vectors"], target_scale=3.0)
    run = prepared(tmp_path, FLAGS, task=task)
    grid = np.arange(10.0)
    pseudo = pseudo_labels(grid, label_density(np.float64(run.data.train.labels), grid, 0.5), 8) / 3

    def expect(method, seen):
        wanted, scaled = torch.tensor(pseudo, dtype=torch.float32)[:, None], seen.batch.targets / 3
        both = dist_loss(seen.outputs, scaled, wanted, distribution_weight=0.7, regularization_strength=0.5)
        return {"dist_loss": both - LOSSES["l1"](seen.outputs, scaled)}

    assert_wired(run, "dist_loss", expect)


def test_weights_may_be_aligned_with_the_sorted_predictions(tmp_path):
    run = prepared(tmp_path, f"{FLAGS} --dist_loss_variant aligned --reweight inverse")

    def expect(method, seen):
        weights = seen.batch.weights[seen.outputs.detach().flatten().argsort()]
        gap = (soft_sort(seen.outputs.flatten(), 0.5)[:, None] - method.pseudo).abs()
        return {"dist_loss": 0.7 * (weights * gap).mean()}

    assert_wired(run, "dist_loss", expect)


@pytest.mark.parametrize("pixels", [5, 1000])
def test_wired_on_drawn_pixels_of_maps(tmp_path, pixels):
    run = prepared(tmp_path, f"{FLAGS} --dist_loss_pixels {pixels} --lds", "maps")

    def expect(method, seen):
        outputs, _, weights = seen.known()
        kept = torch.randperm(len(outputs))[:pixels]
        outputs, weights = outputs[kept], weights[kept]
        ranks = ((torch.arange(len(kept)) + 0.5) * pixels / len(kept)).long()
        gap = (soft_sort(outputs, 0.5) - method.pseudo[ranks, 0]).abs()
        return {"dist_loss": 0.7 * (weights * gap).mean()}

    assert_wired(run, "dist_loss", expect)


def test_a_batch_of_another_size_takes_evenly_spaced_ranks(tmp_path):
    run = prepared(tmp_path, f"{FLAGS} --batch_size 64")  # there are 50 samples
    losses = run.step(next(run.batches()), 0)
    assert losses["dist_loss"].isfinite()


def test_of_equal_values_the_later_comes_first():
    assert ascending(torch.tensor([2.0, 1.0, 2.0, 1.0])).tolist() == [3, 1, 2, 0]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--dist_loss --dist_loss_min 5 --dist_loss_max 5", "must be in order"),
        ("--dist_loss --dist_loss_min 50 --dist_loss_max 60", "fewer than two distinct training labels"),
        ("--dist_loss --rnc", "--dist_loss and --rnc: cannot go together"),
        ("--dist_loss --evidential", "--dist_loss and --evidential: cannot go together"),
    ],
)
def test_bad_input_is_refused_in_one_line(tmp_path, flags, message):
    with pytest.raises(UserError, match=message):
        prepared(tmp_path, flags)


@pytest.mark.parametrize("field", ["weight", "strength", "bandwidth", "step"])
@pytest.mark.parametrize("value", ["-1", "nan", "inf"])
def test_a_bad_number_is_refused(tmp_path, field, value, capsys):
    with pytest.raises((UserError, SystemExit)):
        prepared(tmp_path, f"--dist_loss --dist_loss_{field}={value}")
    assert f"--dist_loss_{field}" in capsys.readouterr().err
