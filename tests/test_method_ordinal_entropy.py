"""Ordinal Entropy against numbers of its authors' code, where that is undefined, and as a part of a run."""

import pytest
import torch
from proven import assert_gradient
from wired import assert_wired, cases_of, prepared

from common.errors import UserError
from common.loss import weighted_l1_loss
from common.methods.ordinal_entropy import ordinal_entropy_loss

CASES = cases_of("ordinal_entropy")
LEFT_OUT = {
    "diversity_only_sampled": "a synthetic script draws ten samples without centres; no flag asks for it"
}
UNDEFINED = {
    "edge_all_distinct", "edge_all_equal", "edge_one_sample", "edge_two_samples_distinct", "edge_two_samples_equal",
}  # fmt: skip
PARTS = {name for name in CASES if "tightness" in CASES[name]} - UNDEFINED


def loss_and_gradient(features, labels, **kwargs):
    features = torch.as_tensor(features).requires_grad_()
    loss = ordinal_entropy_loss(features, torch.as_tensor(labels), **kwargs)
    loss.backward()
    return loss.item(), features.grad


def test_every_case_is_tested_or_left_out_with_a_reason():
    assert PARTS | UNDEFINED | set(LEFT_OUT) | {
        "total_lds_ages",
        "total_coefficient_scores",
        "depth_maps",
    } == set(CASES)


@pytest.mark.parametrize("name", sorted(PARTS))
def test_reference_numbers(name):
    case = CASES[name]
    loss, gradient = loss_and_gradient(case["features"], case["labels"])
    assert loss == pytest.approx(float(case["loss"]), rel=1e-5)
    diversity, _ = loss_and_gradient(case["features"], case["labels"], tightness=0.0)
    assert -diversity == pytest.approx(float(case["diversity"]), rel=1e-5, abs=1e-7)
    assert loss - diversity == pytest.approx(float(case["tightness"]), rel=1e-5)
    assert_gradient(gradient, case["grad_features"])


@pytest.mark.parametrize("name", ["total_lds_ages", "total_coefficient_scores"])
def test_reference_numbers_beside_a_weighted_criterion(name):
    case = {key: torch.as_tensor(value) for key, value in CASES[name].items()}
    features, preds = case["features"].requires_grad_(), case["pred"].requires_grad_()
    regression = weighted_l1_loss(preds, case["labels"], weights=case["weights"])
    loss = regression + case["coefficient"] * ordinal_entropy_loss(features, case["labels"])
    loss.backward()
    assert regression.item() == pytest.approx(float(case["regression_loss"]), rel=1e-5)
    assert loss.item() == pytest.approx(float(case["loss"]), rel=1e-5)
    assert_gradient(features.grad, CASES[name]["grad_features"])
    assert_gradient(preds.grad, CASES[name]["grad_pred"])


def test_reference_numbers_on_maps():
    case = CASES["depth_maps"]
    depth = torch.as_tensor(case["depth"])
    loss, gradient = loss_and_gradient(case["features"], torch.where(depth > 0.001, depth, torch.nan))
    assert loss == pytest.approx(float(case["loss"]), rel=1e-5)
    assert_gradient(gradient, case["grad_features"])


@pytest.mark.parametrize("name", sorted(UNDEFINED))
def test_an_undefined_term_is_zero(name):
    case = CASES[name]
    assert str(case["status"]) in ("nan", "RuntimeError")
    loss, gradient = loss_and_gradient(case["features"], case["labels"])
    whole, _ = loss_and_gradient(case["features"], case["labels"], tightness=0.0)
    assert -whole == pytest.approx(float(case.get("diversity", 0)), rel=1e-5, abs=1e-7)
    distinct = len(set(case["labels"].ravel().tolist())) == len(case["labels"])
    assert loss == pytest.approx(whole) if distinct else loss > 0
    assert gradient.isfinite().all()


def test_maps_without_a_known_pixel_give_zero():
    loss, gradient = loss_and_gradient(torch.randn(2, 4, 8, 8), torch.full((2, 1, 8, 8), torch.nan))
    assert loss == 0
    assert not gradient.any()


def test_a_row_of_zeros_has_a_gradient_of_ordinary_size():
    features = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    features[2] = 0
    _, gradient = loss_and_gradient(features, torch.tensor([1.0, 1, 2, 2, 3, 3]))
    assert gradient.abs().max() < 10


def test_the_paper_scales_no_distance_and_counts_lone_samples():
    features, labels = torch.randn(5, 3), torch.tensor([1.0, 1.0, 4.0, 9.0, 9.5])
    loss, _ = loss_and_gradient(features, labels, variant="paper")
    features = features.detach()
    unit = torch.nn.functional.normalize(features)
    centres = [features[:2].mean(0), *features[2:]]
    centres = torch.nn.functional.normalize(torch.stack(centres))
    values = torch.tensor([1.0, 4.0, 9.0, 9.5])
    tight = (unit[:2] - centres[0]).norm(dim=1).sum() / 5
    spread = [
        (values[v] - values[u]) * (centres[u] - centres[v]).norm() for u in range(4) for v in range(u + 1, 4)
    ]
    assert loss == pytest.approx((tight - sum(spread) / 6).item(), rel=1e-5)


@pytest.mark.parametrize("labels", [torch.zeros(4), torch.zeros(3, 2), torch.zeros(1, 3)])
def test_labels_that_do_not_fit_are_refused(labels):
    with pytest.raises(ValueError, match="not one for each of 3 rows"):
        ordinal_entropy_loss(torch.zeros(3, 2), labels)


@pytest.mark.parametrize("shape", ["vectors", "pairs", "maps"])
@pytest.mark.parametrize("variant", ["published", "paper"])
def test_wired_as_proven(tmp_path, shape, variant):
    flags = f"--ordinal_entropy --ordinal_entropy_weight 0.5 --ordinal_entropy_variant {variant} --lds --fds"
    run = prepared(tmp_path, flags, shape)

    def expect(method, seen):
        labels = seen.batch.targets  # unknown ones are NaN
        return {"ordinal_entropy": 0.5 * ordinal_entropy_loss(seen.features, labels, variant=variant)}

    assert_wired(run, "ordinal_entropy", expect)


@pytest.mark.parametrize("value", ["-1", "nan", "inf"])
def test_a_bad_coefficient_is_refused(tmp_path, value, capsys):
    with pytest.raises((UserError, SystemExit)):
        prepared(tmp_path, f"--ordinal_entropy --ordinal_entropy_weight={value}")
    assert "--ordinal_entropy_weight" in capsys.readouterr().err
