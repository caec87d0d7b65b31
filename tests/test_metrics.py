"""Shot metrics against the reference numbers; empty groups and odd labels."""

import json

import numpy as np
import pytest
from golden_counts import agedb_train_counts

from common.bins import Bins
from common.cli import ROOT
from common.metrics import Shots, gm, shot_metrics, shot_table, unseen_bins


def table_of(predictions, labels, shots, metrics):
    return shot_table({"label": labels, "prediction": predictions}, shots, metrics)


def test_agedb_metrics(golden):
    train = np.repeat(np.arange(121), agedb_train_counts())
    made_up = np.load(golden / "agedb_metrics_in.npz")
    published = json.loads((golden / "agedb_metrics.json").read_text())
    ours = shot_metrics(made_up["pred"], made_up["label"], train)
    for shot in ("many", "median", "low"):
        assert ours[shot] == pytest.approx(published[shot], rel=1e-5)
    shots = Shots(Bins.integers(0, 200), Bins.integers(0, 200).counts(train), 100, 20)
    table = table_of(made_up["pred"], made_up["label"], shots, ("mse", "mae", "gm"))
    assert [table[group]["n"] for group in ("many", "medium", "few")] == [1530, 448, 162]
    names = {"mse": "mse", "mae": "l1", "gm": "gmean"}
    for ours_name, published_name in names.items():
        assert table["all"][ours_name] == pytest.approx(published["all"][published_name], rel=1e-5)


def test_sts_metrics(golden):
    counts = np.array(json.loads((golden / "sts_weights.json").read_text())["counts"])
    made_up = np.load(golden / "sts_metrics_in.npz")
    published = json.loads((golden / "sts_metrics.json").read_text())
    shots = Shots(Bins.uniform(0, 5, 50), counts, 100, 30)
    names = ("mse", "mae", "gm_nonzero", "pearson", "spearman")
    table = table_of(made_up["pred"].astype(np.float64) * 5, made_up["label"], shots, names)
    for ours, theirs in {"all": "overall", "many": "many", "medium": "medium", "few": "few"}.items():
        expected = published[theirs]
        assert table[ours]["n"] == expected["num_samples"]
        for metric, name in {"mse": "mse", "mae": "l1", "gm": "gmean", "pearson": "pearsonr"}.items():
            assert table[ours][metric] == pytest.approx(expected[name], rel=1e-5), (ours, metric)
        assert table[ours]["spearman"] == pytest.approx(expected["spearmanr"], rel=1e-5)


def test_empty_group_is_null_and_not_perfect():
    shots = Shots(Bins.integers(0, 9), np.full(10, 500), 100, 20)
    table = table_of(np.array([1.0, 2.0]), np.array([1.0, 3.0]), shots, ("mae", "mse", "gm", "pearson"))
    assert table["few"] == {"n": 0, "mae": None, "mse": None, "gm": None, "pearson": None}
    assert table["many"]["mae"] == 0.5
    assert "zero" not in table
    json.dumps(table)


def test_labels_without_training_samples_are_reported_as_zero_shot_too():
    shots = Shots(Bins.integers(0, 9), np.array([500, 0, 5, 50, 0, 0, 0, 0, 0, 0]), 100, 20)
    table = table_of(np.zeros(4), np.array([0.0, 1, 2, 3]), shots, ("mae",))
    assert [table[group]["n"] for group in ("all", "many", "medium", "few", "zero")] == [4, 1, 1, 2, 1]
    assert table["interpolation"] == table["zero"] == {"n": 1, "mae": 1.0}
    assert table["extrapolation"] == {"n": 0, "mae": None}


def test_zero_shot_labels_lie_between_training_labels_or_outside():
    shots = Shots(Bins.integers(0, 9), np.array([0, 0, 7, 0, 0, 1, 0, 300, 0, 0]), 100, 20)
    labels = np.array([1, 9, 3, 6, 8, 7, 2, 0])
    table = table_of(labels + 2.0, labels, shots, ("mae",))
    assert list(table) == ["all", "many", "medium", "few", "zero", "interpolation", "extrapolation"]
    assert [group["n"] for group in table.values()] == [8, 1, 0, 7, 6, 2, 4]
    kinds = ["extrapolation", "extrapolation", "interpolation", "interpolation", "extrapolation", "", ""]
    assert shots.unseen(labels).tolist() == [*kinds, "extrapolation"]
    assert shots.columns(labels)["unseen"].tolist() == [*kinds, "extrapolation"]


def test_nothing_is_told_of_zero_shot_labels_where_there_is_none():
    shots = Shots(Bins.integers(0, 9), np.array([0, 0, 7, 0, 0, 1, 0, 300, 0, 0]), 100, 20)
    assert list(shots.groups(np.array([2, 5, 7]))) == ["all", "many", "medium", "few"]
    assert list(shots.columns(np.array([2, 5, 7]))) == ["shot"]
    assert set(unseen_bins(np.zeros(3, int))) == {"extrapolation"}


def test_thresholds_are_exclusive():
    shots = Shots(Bins.integers(0, 3), np.array([101, 100, 20, 19]), 100, 20)
    assert shots.of(np.arange(4)).tolist() == ["many", "medium", "medium", "few"]


def test_correlation_of_a_constant_or_a_single_sample_is_null():
    shots = Shots(Bins.integers(0, 9), np.full(10, 500), 100, 20)
    assert table_of(np.ones(3), np.arange(3.0), shots, ("pearson",))["all"]["pearson"] is None
    assert table_of(np.ones(1), np.ones(1), shots, ("spearman",))["all"]["spearman"] is None


def test_gm_of_an_exact_hit_is_zero():
    assert gm(np.array([0.0, 5.0])) == 0


def test_fractional_labels_do_not_all_become_few():
    train = np.repeat(np.arange(30, 40), 200) + 0.25
    ours = shot_metrics(np.array([31.0, 35.0]), np.array([31.25, 35.5]), train)
    assert ours["many"]["l1"] == pytest.approx(0.375)
    assert ours["low"]["l1"] is None


def test_errors_averaged_over_labels_are_those_of_balanced_mse():
    """`bmae` and `bmse` as the code of Balanced MSE (Ren et al., CVPR 2022) prints them."""
    with np.load(ROOT / "tests" / "golden" / "balanced_metrics.npz") as file:
        golden = dict(file)
    bins = Bins.integers(0, 120)
    shots = Shots(bins, bins.counts(golden["train_labels"]), 100, 20)
    labels = golden["labels"]
    columns = {"label": labels, "prediction": golden["preds"], "bin": bins.index(labels)}
    table = shot_table(columns, shots, ("bmae", "bmse", "gm"))
    for shot in ("all", "many", "medium", "few"):
        row = table[shot]
        for metric in ("bmae", "bmse"):
            assert row[metric] == pytest.approx(float(golden[f"{metric}_{shot}"]), rel=1e-6)
        if shot != "all":
            assert row["gm"] == pytest.approx(float(golden[f"gmean_{shot}"]), rel=1e-5)
