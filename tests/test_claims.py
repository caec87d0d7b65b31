"""Verdicts: intervals from predictions, against formulas, simulation and small cases worked out by hand."""

import gzip
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reproducing import claims, predictions, recipes, results
from reproducing.claims import interval, moments, verdicts
from reproducing.recipes import Claim, Table

from common.errors import UserError
from common.metrics import METRICS

pytestmark = pytest.mark.slow

ROWS = {"A": {"flags": "--a", "paper": "INV + LDS"}, "B": {"flags": "", "paper": "INV"}}
SAMPLES = {"many": 60, "medium": 25, "few": 9}
SHOTS = np.repeat(list(SAMPLES), list(SAMPLES.values()))


def table(*claimed, seeds=(0, 1), metrics=("mse", "pearson")):
    names = {
        "mse": "MSE",
        "pearson": "Pearson(%)",
        "mae": "MAE",
        "gm": "GM",
        "rmse": "RMSE",
        "delta1": "delta1",
    }
    found = tuple(Claim("says", "A", "B", metric, shot) for metric, shot in claimed)
    return Table(
        name="t", title="T", script="x", flags="", seeds=seeds, rows=ROWS, dataset="STS-B-DIR", papers=(3,),
        metrics={metric: names[metric] for metric in metrics}, claims=found,
    )  # fmt: skip


@pytest.fixture
def root(tmp_path, monkeypatch):
    for module in (recipes, results):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    return tmp_path


def keep(cell, frame, shots, **more):
    """What the runner keeps of a cell."""
    cell.result.parent.mkdir(parents=True, exist_ok=True)
    told = {"command": cell.identity, "checkpoint": "x", "shots": shots, **more}
    cell.result.write_text(json.dumps(told))
    columns = predictions.parse(frame.to_csv(index=False))
    predictions.write_cells(cell.predictions, {cell.result.stem: columns})


def shots_of(labels, preds, shots, metrics):
    masks = {"all": np.ones(len(labels), bool)} | {name: shots == name for name in ("many", "medium", "few")}
    return {
        name: {"n": int(mask.sum())}
        | {
            m: METRICS[m].compute(
                {"prediction": preds[mask].astype(float), "label": labels[mask].astype(float)}
            )
            for m in metrics
            if mask.any()
        }
        for name, mask in masks.items()
    }


def keep_samples(cell, labels, preds, shots=SHOTS, metrics=("mse", "pearson", "mae", "gm"), **more):
    labels, preds = np.float32(labels), np.float32(preds)
    frame = pd.DataFrame({"label": labels, "prediction": preds, "shot": shots})
    keep(cell, frame, shots_of(labels, preds, shots, metrics), **more)


def fill(where, noise, seed=0):
    """Predictions of each row and seed: labels and noise of that size, labels the same for all."""
    rng = np.random.default_rng(seed)
    labels = rng.uniform(0, 5, len(SHOTS))
    for cell in where.cells():
        keep_samples(cell, labels, labels + noise[cell.row] * rng.normal(size=len(labels)))
    return labels


# Verdicts


def test_a_clear_difference_holds_or_does_not_and_none_is_undecided(root):
    both = table(("mse", "all"), ("pearson", "all"), ("mse", "few"))
    for noise, words in (
        ({"A": 0.3, "B": 1.0}, {"holds"}),
        ({"A": 1.0, "B": 0.3}, {"does not hold"}),
        ({"A": 1.0, "B": 1.0}, {"undecided"}),
    ):
        fill(both, noise)
        found = verdicts(both)
        assert {verdict.word for verdict in found} == words
        for verdict in found:
            low, high = verdict.interval
            assert low < verdict.ours < high
            lower_is_better = verdict.claim.metric == "mse"
            assert verdict.word != "holds" or (high < 0) is lower_is_better


def test_a_verdict_has_the_papers_difference_and_ours(root):
    mine = table(("mse", "all"), ("pearson", "few"))
    fill(mine, {"A": 0.3, "B": 1.0})
    mse, pearson = verdicts(mine)
    assert mse.paper == pytest.approx(0.914 - 1.005)
    assert pearson.paper == pytest.approx(0.762 - 0.732)
    a0, b0, a1, b1 = (json.loads(cell.result.read_text())["shots"]["all"]["mse"] for cell in mine.cells())
    assert mse.ours == pytest.approx((a0 + a1) / 2 - (b0 + b1) / 2)


def test_on_a_stand_in_there_is_no_difference_of_the_papers(root):
    mine = table(("mse", "all"))
    labels = np.linspace(0, 5, len(SHOTS))
    for cell in mine.cells():
        keep_samples(cell, labels, labels + 0.1, standin="drawn")
    assert verdicts(mine)[0].paper is None


def test_a_claim_whose_row_has_not_been_run_is_left_out(root):
    mine = table(("mse", "all"))
    fill(mine, {"A": 0.3, "B": 1.0})
    for cell in mine.cells():
        if cell.row == "B":
            cell.result.unlink()
    assert verdicts(mine) == []


def test_without_predictions_there_is_a_difference_and_no_verdict(root):
    mine = table(("mse", "all"))
    fill(mine, {"A": 0.3, "B": 1.0})
    next(mine.cells()).predictions.unlink()
    (verdict,) = verdicts(mine)
    assert verdict.interval is None and verdict.word == "no predictions"
    assert verdict.ours < 0


def test_the_same_results_give_the_same_interval(root):
    mine = table(("mse", "few"))
    fill(mine, {"A": 0.8, "B": 1.0})
    first = verdicts(mine)
    assert first[0].interval[0] < first[0].interval[1]
    claims._draws.cache_clear()  # as in another process
    np.random.default_rng().random()
    np.random.random()
    assert verdicts(mine) == first


# Intervals


def test_with_one_seed_the_interval_is_that_of_the_mean_paired_difference(root):
    """Of n = 2,000 samples, where the bootstrap and the normal interval agree."""
    rng = np.random.default_rng(1)
    n, mine = 2000, table(("mae", "all"), seeds=(0,), metrics=("mae",))
    labels, shared = rng.uniform(0, 100, n), rng.normal(size=n)
    preds = {"A": labels + 5 * shared, "B": labels + 5 * shared + rng.normal(size=n)}
    for cell in mine.cells():
        keep_samples(cell, labels, preds[cell.row], np.full(n, "many"), metrics=("mae",))
    errors = {row: np.abs(np.float32(preds[row]) - np.float32(labels)) for row in preds}
    difference = errors["A"] - errors["B"]
    low, high = difference.mean() + np.array([-1.96, 1.96]) * difference.std() / n**0.5
    assert interval(mine, mine.claims[0]) == pytest.approx((low, high), abs=0.1 * (high - low))
    unpaired = 2 * 1.96 * np.hypot(errors["A"].std(), errors["B"].std()) / n**0.5
    assert high - low < unpaired / 2  # the same samples for both, or it would be wider by far


def test_seeds_widen_the_interval(root):
    """Rows that differ by seed alone: every sample has the same error."""
    mine = table(("mae", "all"), seeds=(0, 1), metrics=("mae",))
    labels = np.zeros(len(SHOTS))
    error = {("A", 0): 1.0, ("A", 1): 3.0, ("B", 0): 2.0, ("B", 1): 2.0}
    for cell in mine.cells():
        keep_samples(cell, labels, labels + error[cell.row, cell.seed], metrics=("mae",))
    assert interval(mine, mine.claims[0]) == pytest.approx((-1, 1))
    assert verdicts(mine)[0].word == "undecided"


def test_seeds_of_the_two_rows_are_drawn_independently(root):
    """Seed by seed A is better by 1; but another seed of A than of B may as well have come."""
    mine = table(("mae", "all"), seeds=(0, 1), metrics=("mae",))
    labels = np.zeros(len(SHOTS))
    for cell in mine.cells():
        keep_samples(cell, labels, labels + 1 + 10 * cell.seed + (cell.row == "B"), metrics=("mae",))
    low, high = interval(mine, mine.claims[0])
    assert low == pytest.approx(-11) and high == pytest.approx(9)


@pytest.mark.slow
def test_the_interval_covers_the_truth_about_as_often_as_it_says(root):
    """Known difference of MAE; 150 experiments of 120 samples and one seed.

    It is no wider than that takes: its width is that of the normal interval of the paired difference.
    """
    rng, mine = np.random.default_rng(3), table(("mae", "all"), seeds=(0,), metrics=("mae",))
    covered, widths = 0, []
    a, b = mine.cells()
    for _ in range(150):
        labels = np.zeros(120)
        noise = rng.normal(size=(2, 120))
        preds = noise[0], 1.2 * (0.5 * noise[0] + 0.75**0.5 * noise[1])
        for cell, predicted in zip((a, b), preds, strict=True):
            keep_samples(cell, labels, predicted, np.full(120, "many"), metrics=("mae",))
        low, high = interval(mine, mine.claims[0])
        covered += low < -0.2 * (2 / np.pi) ** 0.5 < high
        spread = (np.abs(preds[0]) - np.abs(preds[1])).std() / 120**0.5
        widths.append((high - low) / (2 * 1.96 * spread))
    assert 0.9 < covered / 150 < 0.985
    assert np.mean(widths) == pytest.approx(1, abs=0.02)
    assert min(widths) > 0.9 and max(widths) < 1.1


def test_depth_is_resampled_by_bin(root):
    mine = table(("rmse", "all"), ("delta1", "few"), seeds=(0,), metrics=("rmse", "delta1"))
    rng = np.random.default_rng(0)
    for cell in mine.cells():
        n = np.array([0, *[9357] * 40])
        mse = np.array([np.nan, *rng.uniform(0.5, 1, 40) * (1 if cell.row == "A" else 2)])
        delta = np.array([np.nan, *rng.uniform(0.4, 0.5, 40) + (0.2 if cell.row == "A" else 0)])
        shot = np.array(["few", *["many"] * 20, *["few"] * 20])
        groups = {"all": n > 0, "few": (n > 0) & (shot == "few")}
        shots = {
            name: {"n": int(n[mask].sum()), "rmse": float(np.average(mse[mask], weights=n[mask]) ** 0.5),
                   "delta1": float(np.average(delta[mask], weights=n[mask]))}
            for name, mask in groups.items()
        }  # fmt: skip
        keep(cell, pd.DataFrame({"bin": range(41), "n": n, "mse": mse, "delta1": delta, "shot": shot}), shots)
    rmse, delta = verdicts(mine)
    assert (rmse.word, delta.word) == ("holds", "holds")
    assert rmse.interval[0] < rmse.ours < rmse.interval[1] < 0 < delta.interval[0] < 0.25


# Moments


@given(st.integers(0, 2**32), st.sampled_from(["mae", "mse", "gm", "pearson"]))
def test_sums_of_moments_give_the_metric_of_any_resample(seed, metric):
    rng = np.random.default_rng(seed)
    labels, preds = np.float32(rng.uniform(0, 5, (2, 30)))
    frame = pd.DataFrame({"label": labels, "prediction": preds})
    drawn = rng.integers(0, 30, 30)
    weights = np.bincount(drawn, minlength=30)[None].astype(float)
    found = claims.MOMENTS[metric](weights @ claims._of_samples(frame, metric))[0]
    expected = METRICS[metric].compute(
        {"prediction": preds[drawn].astype(float), "label": labels[drawn].astype(float)}
    )
    assert found == pytest.approx(expected, rel=1e-9)


def test_a_metric_with_a_column_of_its_own_is_its_mean():
    """NLL is of each sample's distribution, which the column alone knows."""
    frame = pd.DataFrame({"label": [1.0, 2], "prediction": [1.0, 3], "std": [1.0, 1], "nll": [0.5, 2.5]})
    sums = claims._of_samples(frame, "nll").sum(axis=0)[None]
    assert claims.MOMENTS["nll"](sums)[0] == METRICS["nll"].compute({"nll": frame["nll"].to_numpy()}) == 1.5


def test_predictions_of_another_run_are_noticed(root):
    mine = table(("mse", "all"))
    fill(mine, {"A": 0.3, "B": 1.0})
    a, b = list(mine.cells())[:2]
    of_b = predictions.read_cell(b.predictions, "b.seed0")
    predictions.write_cells(a.predictions, {"a.seed0": of_b})
    with pytest.raises(UserError, match=r"predictions\.csv\.gz: does not belong to a\.seed0\.json"):
        verdicts(mine)


def test_rows_of_different_test_sets_are_not_compared(root):
    mine = table(("mse", "all"), seeds=(0,))
    for cell in mine.cells():
        shots = SHOTS if cell.row == "A" else SHOTS[:-1]
        labels = np.linspace(0, 5, len(shots))
        keep_samples(cell, labels, labels + 0.1, shots)
        frame = results.read_predictions(cell)  # to a file of its own, as an earlier version kept it
        cell.predictions.unlink()
        cell.result.with_suffix(".csv.gz").write_bytes(gzip.compress(frame.to_csv(index=False).encode()))
    with pytest.raises(UserError, match="t: A and B are of different test sets"):
        verdicts(mine)


@pytest.mark.parametrize(
    "content",
    [b"", b"\x1f\x8b", gzip.compress(b"label,prediction\n1,2\n")[:-6]],
    ids=["empty", "two bytes", "cut"],  # gzip writes the time: each process would have another name
)
def test_predictions_that_are_cut_short_are_named(root, content):
    mine = table(("mse", "all"))
    fill(mine, {"A": 0.3, "B": 1.0})
    next(mine.cells()).predictions.write_bytes(content)
    with pytest.raises(UserError, match=r"predictions\.csv\.gz: is broken .*run scripts/reproduce\.py again"):
        verdicts(mine)


def test_float32_texts_are_read_back_as_the_floats_that_they_were(root):
    mine = table(("mse", "all"), seeds=(0,))
    labels = fill(mine, {"A": 0.3, "B": 1.0})
    found = moments(next(mine.cells()), "pearson", "all")
    assert np.array_equal(found[:, 2], np.float32(labels).astype(float))
