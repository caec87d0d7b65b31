"""The evidential head: its loss against a Student-t and recorded numbers, and as a part of a run."""

import math

import pytest
import torch
import toy
from proven import assert_gradient
from torch.distributions import StudentT
from wired import assert_wired, cases_of, prepared

from common.errors import UserError
from common.methods.evidential import EvidentialHead
from common.methods.nig import nig_loss, nig_terms

NIG = cases_of("vir")["nig"]
PARAMETERS = ("gamma", "nu", "alpha", "beta")


def test_reference_numbers():
    labels = torch.as_tensor(NIG["y"])
    parameters = [torch.as_tensor(NIG[name]).requires_grad_() for name in PARAMETERS]
    nll, reg = nig_terms(labels, *parameters)
    torch.testing.assert_close(nll, torch.as_tensor(NIG["nll"]), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(reg, torch.as_tensor(NIG["reg"]), rtol=1e-5, atol=1e-5)
    loss = nig_loss(labels, *parameters)
    assert loss.item() == pytest.approx(float(NIG["loss"]), rel=1e-5)
    loss.backward()
    for name, parameter in zip(PARAMETERS, parameters, strict=True):
        assert_gradient(parameter.grad, NIG[f"grad_{name}"])


def test_the_nll_is_that_of_the_students_t_of_the_prediction():
    torch.manual_seed(0)
    head = EvidentialHead(lambda dim: torch.nn.Linear(dim, 1), 3, 5.0)
    features, labels = torch.randn(7, 3), torch.rand(7, 1) * 5
    prediction = head.predict(features)
    assert isinstance(prediction.distribution, StudentT)
    nll, _ = nig_terms(labels / 5, *head(features).split(1, dim=1))
    torch.testing.assert_close(-prediction.distribution.log_prob(labels), nll + math.log(5.0))
    gamma, nu, alpha, beta = head(features).split(1, dim=1)
    variance = 25 * beta * (1 + nu) / (nu * (alpha - 1))
    torch.testing.assert_close(prediction.distribution.variance, variance)
    torch.testing.assert_close(prediction.mean, 5 * gamma)


def test_weights_multiply_the_loss_of_a_sample():
    labels, *parameters = (torch.as_tensor(NIG[name]) for name in ("y", *PARAMETERS))
    weights = torch.arange(len(labels), dtype=torch.float32).unsqueeze(1)
    nll, reg = nig_terms(labels, *parameters)
    expected = (weights * (nll + 0.5 * reg)).mean()
    torch.testing.assert_close(nig_loss(labels, *parameters, 0.5, weights=weights), expected)


def test_extreme_features_give_a_finite_distribution():
    head = EvidentialHead(lambda dim: torch.nn.Linear(dim, 1), 3, 1.0)
    for size in (-1e3, 1e3):
        prediction = head.predict(torch.full((2, 3), size))
        assert prediction.distribution.stddev.isfinite().all()
        assert prediction.distribution.log_prob(torch.zeros(2, 1)).isfinite().all()


@pytest.mark.parametrize("which", range(5))
def test_predictions_of_another_shape_are_refused(which):
    shapes = [(4, 1)] * 5
    shapes[which] = (4,)
    with pytest.raises(ValueError, match="differ in shape"):
        nig_loss(*(torch.ones(shape) for shape in shapes))


def test_weights_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="differ in shape"):
        nig_loss(*[torch.ones(4, 1)] * 5, weights=torch.ones(4))


@pytest.mark.parametrize("shape", ["vectors", "pairs", "maps"])
@pytest.mark.parametrize("more", ["", " --lds --fds"])
def test_wired_as_proven(tmp_path, shape, more):
    task = toy.replace(toy.KINDS[shape], target_scale=5.0)
    run = prepared(tmp_path, "--evidential --evidential_coefficient 0.2" + more, task=task)

    def expect(method, seen):
        parameters = seen.head(seen.features).split(1, dim=1)
        known = torch.ones_like(seen.batch.targets, dtype=torch.bool)
        known = known if seen.batch.valid is None else seen.batch.valid
        weights = seen.batch.weights
        assert (weights is not None) == bool(more)
        loss = nig_loss(
            seen.batch.targets[known] / 5, *(values[known] for values in parameters), 0.2,
            weights=None if weights is None else weights[known],
        )  # fmt: skip
        return {"evidential": loss}

    assert_wired(run, "evidential", expect)


def test_a_run_reports_what_the_head_predicts(tmp_path):
    path = toy.run(tmp_path, "--evidential")
    header = (path / "predictions.csv").read_text().splitlines()[0]
    assert header == "label,prediction,shot,unseen,nig_nu,nig_alpha,nig_beta,std,nll,crps,pit"
    table = toy.json.loads((path / "metrics.json").read_text())["shots"]["all"]
    assert math.isfinite(table["nll"])
    assert math.isfinite(table["ause"])


@pytest.mark.parametrize("value", ["-1", "nan", "inf"])
def test_a_bad_coefficient_is_refused(tmp_path, value, capsys):
    with pytest.raises((UserError, SystemExit)):
        prepared(tmp_path, f"--evidential --evidential_coefficient={value}")
    assert "--evidential_coefficient" in capsys.readouterr().err


def test_two_heads_name_both_flags(tmp_path):
    with pytest.raises(UserError, match="--retrain_fc and --evidential: cannot go together, each has a head"):
        prepared(tmp_path, "--evidential --retrain_fc --pretrained x")
