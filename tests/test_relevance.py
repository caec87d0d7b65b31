"""The relevance of labels and SERA, against plain forms of the same."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import CubicHermiteSpline, PchipInterpolator

from common.metrics import METRICS
from common.relevance import Relevance, medcouple

LABELS = st.lists(st.integers(-30, 30), min_size=1, max_size=25).map(lambda values: np.array(values) / 4)
QUICK = settings(deadline=None, max_examples=60)


def plain_medcouple(labels):
    """All pairs, in a loop; of two labels at the median, the place among their likes decides."""
    z = np.sort(labels - np.median(labels))
    above, below, ties = z[z >= 0], z[z <= 0], int((z == 0).sum())
    values = []
    for i, a in enumerate(above):
        for j, b in enumerate(below[::-1]):
            values.append((a + b) / (a - b) if a > b else np.sign(ties - 1 - i - j))
    return float(np.median(values))


@QUICK
@given(LABELS)
def test_the_medcouple_is_the_median_over_all_pairs(labels):
    assert medcouple(labels) == pytest.approx(plain_medcouple(labels), abs=1e-12)


def test_the_medcouple_of_many_labels_needs_little_memory():
    labels = np.random.default_rng(0).exponential(size=200_000)
    assert 0.3 < medcouple(labels) < 0.4  # of the exponential distribution: 1/3


@pytest.mark.parametrize("sign", [1, -1])
def test_control_points_are_the_fences_of_the_adjusted_box_plot(sign):
    labels = sign * np.array([1.0, 2, 3, 4, 5, 8, 12, 20, 40])
    relevance, m = Relevance.of(labels), plain_medcouple(labels)
    assert m * sign > 0
    quartiles = sorted([sign * 3.0, sign * 12.0])  # the hinges of nine labels
    wide, narrow = 1.5 * 9 * np.exp(3 * abs(m)), 1.5 * 9 * np.exp(-4 * abs(m))
    low, high = (narrow, wide) if sign > 0 else (wide, narrow)
    assert relevance.median == sign * 5
    assert (relevance.low, relevance.high) == pytest.approx((quartiles[0] - low, quartiles[1] + high))


@QUICK
@given(LABELS, st.lists(st.floats(-50, 50), min_size=1, max_size=20).map(np.array))
def test_relevance_is_the_monotone_cubic_through_its_points(train, labels):
    relevance = Relevance.of(train)
    found = relevance(labels)
    assert ((found >= 0) & (found <= 1)).all()
    points = np.array([relevance.low, relevance.median, relevance.high])
    if min(np.diff(points)) > 1e-6:
        spline = CubicHermiteSpline(points, [1, 0, 1], [0, 0, 0])
        np.testing.assert_allclose(found, spline(labels.clip(points[0], points[-1])), atol=1e-9)
    for side in (labels >= relevance.median, labels <= relevance.median):
        order = np.argsort(np.abs(labels[side] - relevance.median))
        assert (np.diff(found[side][order]) >= -1e-12).all()


def test_pchip_with_flat_ends_gives_the_same():
    relevance = Relevance(-2.0, 1.0, 7.0)
    around = [-5, -4, -2.0, 1.0, 7.0, 9, 10]  # scipy makes a slope 0 where values turn or stay
    y = np.linspace(-5, 10, 101)
    np.testing.assert_allclose(relevance(y), PchipInterpolator(around, [1, 1, 1, 0, 1, 1, 1])(y), atol=1e-12)


def test_labels_that_are_mostly_equal_make_all_others_extreme():
    relevance = Relevance.of(np.array([3.0] * 9 + [1, 8]))
    assert relevance(np.array([3.0, 2.9, 8, 1])).tolist() == [0, 1, 1, 1]
    assert Relevance.of(np.ones(1))(np.ones(2)).tolist() == [0, 0]


@QUICK
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(-9, 9)), min_size=1, max_size=30).map(np.array))
def test_sera_is_the_integral_of_the_squared_errors_over_relevance(rows):
    relevance, errors = rows.T
    columns = {"label": np.zeros(len(rows)), "prediction": errors, "relevance": relevance}
    found = METRICS["sera"].compute(columns)
    if not relevance.any():
        assert found is None
        return
    middles = (np.arange(20_000) + 0.5) / 20_000
    plain = (errors**2 @ (relevance[:, None] >= middles)).mean()
    assert found == pytest.approx(plain, abs=2e-4 * (1 + (errors**2).sum()))
    # and by steps, over sorted relevances
    order = np.argsort(relevance)
    left = np.cumsum((errors[order] ** 2)[::-1])[::-1]
    steps = np.diff(relevance[order], prepend=0)
    assert found == pytest.approx((left * steps).sum(), rel=1e-9, abs=1e-12)
