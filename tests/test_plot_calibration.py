"""scripts/plot.py calibration: what is drawn of predicted distributions, and what is refused."""

import numpy as np
import pytest
from drawn import call, drawn, legend, write_data, write_run
from plotting.figures_of_spread import spread_and_error
from scipy.stats import norm

NUMBER = 400


@pytest.fixture
def data(tmp_path):
    return write_data(tmp_path / "data")


@pytest.fixture
def figures(monkeypatch):
    return drawn(monkeypatch)


def rows_with(factor, seed=0):
    """Errors drawn with a spread of 1 to 5 years, predicted with `factor` times it."""
    rng = np.random.default_rng(seed)
    labels, true = rng.integers(20, 60, NUMBER).astype(float), rng.uniform(1, 5, NUMBER)
    predictions, std = labels + true * rng.standard_normal(NUMBER), factor * true
    return {
        "label": labels, "prediction": predictions, "shot": "many",
        "std": std, "pit": norm.cdf(labels, predictions, std),
    }  # fmt: skip


def test_coverage_and_error_of_each_method(tmp_path, data, figures):
    honest = [write_run(tmp_path / f"run{seed}", data, rows_with(1, seed), seed=seed) for seed in (0, 1)]
    bold = write_run(tmp_path / "bold", data, rows_with(0.25), reweight="sqrt_inv")
    assert call("calibration", bold, *honest, "--out", tmp_path / "x.png") == 0
    left, right = figures[0].axes
    assert (
        figures[0]
        .get_suptitle()
        .startswith("AgeDB-DIR: calibration, and error by predicted spread (STAND-IN")
    )
    areas = {text.split(": ")[0]: float(text.split(": ")[1]) for text in legend(left)}
    assert list(areas) == ["Vanilla", "SQINV"]
    assert areas["Vanilla"] < 0.03 < 0.2 < areas["SQINV"]  # a quarter of the spread covers too little
    level, observed = left.lines[0].get_data()
    assert (level[0], level[-1], observed[0], observed[-1]) == (0, 1, 0, 1)
    assert len(level) == 2 * NUMBER + 2  # both seeds
    assert np.interp(0.9, *left.lines[1].get_data()) < 0.5
    for line, factor in zip(right.lines[:2], (1, 4), strict=True):
        std, error = line.get_data()
        assert len(std) == 10
        assert np.median(np.array(error) / std) == pytest.approx(factor, rel=0.15)
    assert right.get_xlabel() == "predicted standard deviation (years)"


def test_fewer_samples_than_groups_are_a_group_each():
    import pandas as pd

    frame = pd.DataFrame({"std": [3.0, 1.0], "error": [4.0, 2.0]})
    assert spread_and_error(frame) == ([1, 3], [2, 4])


def test_runs_without_a_distribution_are_refused(tmp_path, data, capsys):
    rows = rows_with(1)
    del rows["pit"]
    run = write_run(tmp_path / "run", data, rows)
    assert call("calibration", run, "--out", tmp_path / "x.png") == 2
    told = capsys.readouterr().err
    assert f"{run / 'predictions.csv'}: has no column pit; the head must predict a distribution" in told
    assert told.count("\n") == 1
