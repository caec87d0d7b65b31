"""Scores of predicted distributions: closed forms against numerical integrals, and the authors' numbers."""

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch.distributions import Gumbel, Laplace, Normal, StudentT
from wired import cases_of

from common.metrics import METRICS, ause, miscalibration, uce
from common.training.scores import score_columns

UNCERTAINTY, UVOTE = cases_of("vir")["uncertainty"], cases_of("uvote")
FAMILIES = {
    "normal": (Normal, stats.norm, {}),
    "laplace": (Laplace, stats.laplace, {}),
    "student": (StudentT, stats.t, {"df": 2.5}),
    "student_of_many_degrees": (StudentT, stats.t, {"df": 4e4}),
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("target", [-9.0, 1.0, 1.3, 60.0])
def test_crps_and_pit_are_those_of_a_numerical_integral(family, target):
    ours, plain, more = FAMILIES[family]
    loc, scale = 1.0, 2.5
    distribution = ours(*(torch.tensor([[value]]) for value in (*more.values(), loc, scale)))
    columns = score_columns(distribution, torch.tensor([[target]]))
    cdf = plain(loc=loc, scale=scale, **more).cdf
    below = integrate.quad(lambda t: cdf(t) ** 2, -np.inf, target)[0]
    above = integrate.quad(lambda t: (1 - cdf(t)) ** 2, target, np.inf)[0]
    assert columns["crps"].item() == pytest.approx(below + above, rel=2e-5)
    assert columns["pit"].item() == pytest.approx(cdf(target), rel=1e-6)
    assert columns["crps"].shape == columns["pit"].shape == (1, 1)


def test_a_family_without_a_closed_form_has_no_crps():
    assert set(score_columns(Gumbel(torch.zeros(3), torch.ones(3)), torch.ones(3))) == {"std", "nll"}


def columns_of(labels, predictions, std):
    columns = {"label": labels, "prediction": predictions, "std": std}
    return {name: values.astype(np.float64) for name, values in columns.items()}


def test_nll_and_ause_are_those_of_vir():
    labels, predictions, variance = (UNCERTAINTY[name] for name in ("labels", "preds", "variance"))
    distribution = Normal(torch.from_numpy(predictions), torch.from_numpy(variance).sqrt())
    nll = score_columns(distribution, torch.from_numpy(labels))["nll"].numpy()
    assert METRICS["nll"].compute({"nll": nll}) == pytest.approx(float(UNCERTAINTY["gaussian_nll"]), rel=1e-5)
    columns = columns_of(labels, predictions, np.sqrt(variance))
    assert ause(columns) == pytest.approx(float(UNCERTAINTY["ause"]), rel=1e-5)


@pytest.mark.parametrize("case", ["combine_2", "combine_3"])
@pytest.mark.parametrize("answer", ["avg", "avgvar", "minvar", "oracle"])
def test_the_calibration_error_is_that_of_uvote(case, answer):
    case = UVOTE[case]
    columns = columns_of(case["target"], case[f"{answer}_pred"], case[f"{answer}_std"])
    assert uce(columns) == pytest.approx(float(case[f"{answer}_uce"]), rel=1e-5)


def test_one_spread_for_all_is_one_bin():
    columns = columns_of(np.zeros(3), np.array([1.0, 2, 6]), np.full(3, 2.0))
    assert uce(columns) == pytest.approx(1)
    assert uce({name: values[:1] for name, values in columns.items()}) == 1


def test_ause_is_0_where_the_spread_orders_the_errors_and_more_where_it_does_not():
    errors = np.array([4.0, 3.0, 2.0, 1.0])
    columns = {"label": np.zeros(4), "prediction": errors, "std": errors}
    assert ause(columns) == pytest.approx(0)
    curve = np.array([3 - 2, 3.5 - 1.5, 4 - 1]) / 3  # of the mean errors of three, two and one
    assert ause({**columns, "std": -errors}) == pytest.approx((curve[0] + 2 * curve[1] + curve[2]) / 4)
    assert ause({**columns, "prediction": np.zeros(4)}) == 0
    assert ause({name: values[:2] for name, values in columns.items()}) is None


@pytest.mark.parametrize("number", [1, 2, 7, 50])
def test_miscalibration_is_the_area_between_coverage_and_its_level(number):
    pit = np.random.default_rng(number).beta(0.6, 0.9, number)
    level = (np.arange(50_000) + 0.5) / 50_000
    observed = (np.abs(2 * pit - 1) <= level[:, None]).mean(1)
    assert miscalibration({"pit": pit}) == pytest.approx(np.abs(observed - level).mean(), abs=1e-4)


def test_labels_spread_as_predicted_are_calibrated_and_those_in_the_middle_are_not():
    assert miscalibration({"pit": (np.arange(1000) + 0.5) / 1000}) < 1e-3
    assert miscalibration({"pit": np.full(9, 0.5)}) == 0.5  # every interval covers every label
    assert miscalibration({"pit": np.zeros(9)}) == 0.5
