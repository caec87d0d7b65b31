"""Depth metrics against the published numbers, and their one pass over pixels."""

import json
import pickle
from types import SimpleNamespace

import depth_task
import numpy as np
import pytest
import torch
from depth_metrics import NAMES, NEAREST, DepthMetrics
from hypothesis import given
from hypothesis import strategies as st

from common.datasets.depth import DEPTH_BINS, shots_of
from common.datasets.standin import Standin
from common.task import Prediction


def evaluator(golden, *, test=True):
    counts = np.array(json.loads((golden / "nyu_weights.json").read_text())["counts"])
    split = object()
    data = SimpleNamespace(bins=DEPTH_BINS, shots=shots_of(counts, Standin()), test=split if test else None)
    return DepthMetrics(depth_task.TASK, split, data)


@pytest.fixture
def recorded(golden):
    return np.load(golden / "nyu_metrics_in.npz")


@pytest.mark.parametrize("batch", [20000, 997])
def test_the_published_metrics(golden, recorded, batch):
    metrics = evaluator(golden)
    for start in range(0, 20000, batch):
        p, y = (torch.from_numpy(recorded[name][start : start + batch]) for name in ("pred", "depth"))
        metrics.add_pixels(p, y)
    table = metrics.table()
    published = json.loads((golden / "nyu_metrics.json").read_text())
    assert list(table) == ["all", "many", "medium", "few"]
    for group, row in table.items():
        theirs = published["overall" if group == "all" else group]
        assert row["n"] == theirs["NUM"]
        for name in NAMES:
            value = theirs["LG10" if name == "log10" else name.upper()]
            assert row[name] == pytest.approx(value, rel=1e-5), (group, name)


def test_shots_are_the_published_lists(golden):
    shots = evaluator(golden).shots
    found = shots.of(DEPTH_BINS.left_edges + 0.05)
    assert [i for i in range(7, 100) if found[i] == "medium"] == [
        7, 8, 46, 48, 50, 51, 52, 53, 54, 55, 56, 58, 60, 61, 63,
    ]  # fmt: skip
    assert (found == "many").sum() == 39


def test_rows_are_the_bins(golden, recorded):
    metrics = evaluator(golden)
    metrics.add_pixels(*(torch.from_numpy(recorded[name]) for name in ("pred", "depth")))
    rows = metrics.rows()
    assert len(rows) == 100
    assert rows["n"].sum() == 20000
    error = np.abs(recorded["pred"].astype(float) - recorded["depth"])
    inside = DEPTH_BINS.index(recorded["depth"]) == 20
    assert rows["mae"][20] == pytest.approx(error[inside].mean())
    assert rows["label"][20] == 2.05
    assert rows["mae"][:7].isna().all()
    few = rows[rows["shot"] == "few"]
    weighted = (few["mse"] * few["n"]).sum() / few["n"].sum()
    assert weighted**0.5 == pytest.approx(metrics.table()["few"]["rmse"])


def test_outputs_are_resized_and_unknown_depth_is_left_out(golden):
    metrics = evaluator(golden)
    targets = torch.full((2, 1, 6, 8), torch.nan)
    targets[0, 0, 0, 0], targets[1, 0, 5, 7] = 2.0, 4.0
    outputs = torch.arange(24.0).view(2, 1, 3, 4) + 1  # aligned corners: the corners stay
    metrics.add(None, Prediction(outputs), targets)
    row = metrics.table()["all"]
    assert row["n"] == 2
    assert row["mae"] == pytest.approx((1 + 20) / 2)


def test_a_depth_predicted_below_zero_is_defined_and_counted(golden, caplog):
    metrics = evaluator(golden)
    metrics.add_pixels(torch.tensor([-1.0, 0.0, 2.0]), torch.tensor([2.0, 2.0, 2.0]))
    with caplog.at_level("INFO", logger="dir"):
        row = metrics.table()["all"]
    assert "2 of 3 predicted depths are at or below zero" in caplog.text
    assert row["mae"] == pytest.approx((3 + 2 + 0) / 3)
    assert row["log10"] == pytest.approx(2 * np.log10(2 / NEAREST) / 3)
    assert [row[f"delta{power}"] for power in (1, 2, 3)] == pytest.approx([1 / 3] * 3)


def test_an_empty_shot_is_null(golden):
    metrics = evaluator(golden)
    metrics.add_pixels(torch.tensor([2.0]), torch.tensor([2.05]))
    table = metrics.table()
    assert table["many"]["n"] == 1
    assert table["few"] == {"n": 0} | dict.fromkeys(NAMES)


@given(st.lists(st.tuples(st.floats(0.7, 9.99), st.floats(0.1, 12)), min_size=1, max_size=50))
def test_balanced_is_the_mean_over_bins(golden, pixels):
    y, p = (np.array(column, np.float32) for column in zip(*pixels, strict=True))
    metrics = evaluator(golden, test=False)
    metrics.add_pixels(torch.from_numpy(p), torch.from_numpy(y))
    bins = DEPTH_BINS.index(y)
    per_bin = [np.abs(p[bins == b].astype(float) - y[bins == b]).mean() for b in np.unique(bins)]
    assert metrics.table()["all"]["mae"] == pytest.approx(np.mean(per_bin), rel=1e-5)


def test_nothing_is_kept_of_an_image(golden):
    """The peak of a whole evaluation is in make bench."""

    def held(images):
        metrics = evaluator(golden)
        for seed in range(images):
            random = torch.Generator().manual_seed(seed)
            outputs, targets = (torch.rand(1, 1, *size, generator=random) + 1 for size in ((6, 8), (12, 16)))
            metrics.add(None, Prediction(outputs), targets)
        return len(pickle.dumps(metrics))

    assert held(1) == held(100)
