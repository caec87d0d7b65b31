"""Verify: any change of a stored prediction, a result or a table is noticed and named."""

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict

import numpy as np
import pytest
import study
import tables
import verify
from conftest import ROOT
from recorded import UNSEEN, change, record, write_recorded
from reproducing import results
from reproducing.predictions import parse_file, write_cells

from common import cli
from common.bins import Bins
from common.metrics import METRICS
from common.relevance import Relevance

pytestmark = pytest.mark.slow

MESSAGE = "6 results are recorded\nevery table, verdict and plotted value follows from the predictions\n"


@pytest.fixture
def table(tmp_path, monkeypatch):
    found = write_recorded(tmp_path, monkeypatch)
    assert tables.main([]) == study.main([]) == 0
    return found


def call(capsys):
    """The exit code, and what is printed."""
    capsys.readouterr()
    code = cli.run_command("scripts/verify.py", lambda: verify.main([]))
    return code, capsys.readouterr().out


def test_what_is_recorded_is_verified(table, capsys):
    code, out = call(capsys)
    assert code == 0
    assert out == MESSAGE


@pytest.mark.parametrize("text", ["40.0", None])
def test_one_changed_prediction_is_noticed(table, capsys, text):
    """Also by one digit of the last place, which moves no printed number."""
    cell = table.cell("INV", 1)
    from reproducing.predictions import read_cell

    old = read_cell(cell.predictions, "inv.seed1")["prediction"][3]
    change(cell, "prediction", 3, text or old[:-1] + str((int(old[-1]) + 1) % 10))
    code, out = call(capsys)
    assert code == 1
    assert "t-small, INV, seed 1: its predictions are not those of the run (digest " in out
    if text:
        assert "t-small, INV, seed 1: mae, all: " in out and "predictions give " in out


def test_a_dropped_seed_is_noticed(table, capsys):
    table.cell("INV", 1).result.unlink()
    code, out = call(capsys)
    assert code == 1
    assert "t-small, inv.seed1: has predictions and no result; restore its JSON" in out
    assert "results/t-small.csv: 't-small,INV,mae,all,60,2," in out
    assert "'t-small,INV,mae,all,60,1," in out


def test_a_seed_that_the_recipe_does_not_name_is_verified_too(table, capsys):
    cell = table.cell("INV", 7)
    labels = results.read_predictions(table.cell("INV", 0))["label"].to_numpy(np.float32)
    record(cell, labels, labels + 1)
    assert call(capsys) == (0, MESSAGE.replace("6", "7"))
    change(cell, "prediction", 3, "9.5")
    assert "t-small, INV, seed 7: its predictions are not" in call(capsys)[1]


def test_a_result_without_predictions_cannot_be_verified(table, capsys):
    for seed in (0, 1):
        cell = table.cell("INV", seed)
        cell.predictions.unlink(missing_ok=True)
    code, out = call(capsys)
    assert code == 1 and "t-small, INV, seed 0: has no predictions" in out
    for cell in table.cells():
        told = json.loads(cell.result.read_text())
        cell.result.write_text(json.dumps(told | {"predictions": None}))
    assert tables.main([]) == study.main([]) == 0
    code, out = call(capsys)
    assert code == 1 and "t-small, INV, seed 0: has no predictions; run it again or remove it" in out


FILES = ["t-small.csv", "t-small.md", "t-small.tex", "study.md", "study.csv", "claims.csv", "errors.csv"]


@pytest.mark.parametrize("name", FILES)
def test_one_edited_digit_of_a_table_is_noticed(table, capsys, name):
    path = cli.ROOT / "results" / name
    text = path.read_text()
    place = text.index(".", text.index("MAE") if name == "study.md" else text.index("INV")) + 2
    path.write_text(text[:place] + str((int(text[place]) + 1) % 10) + text[place + 1 :])
    code, out = call(capsys)
    assert code == 1
    assert f"results/{name}: " in out and " is recorded, " in out and "writes it anew" in out


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda told: told["shots"]["few"].update(mae=told["shots"]["few"]["mae"] * 1.001), "mae, few: "),
        (lambda told: told["shots"]["few"].update(n=11), "n, few: 11 is recorded, predictions have 10"),
        (lambda told: told.update(command="python t-dir/train.py --x 2"), "is of another configuration"),
    ],
    ids=["number", "count", "protocol"],
)
def test_a_result_that_is_edited_or_of_another_protocol_is_named(table, capsys, edit, message):
    path = table.cell("INV", 0).result
    told = json.loads(path.read_text())
    edit(told)
    path.write_text(json.dumps(told))
    code, out = call(capsys)
    assert (
        code == 1
        and f"t-small, INV, seed 0: {'' if 'few' in message else str(path)}" in out
        and message in out
    )


@pytest.fixture
def with_gaps(tmp_path, monkeypatch):
    """Some labels are zero-shot, of both kinds."""
    found = write_recorded(tmp_path, monkeypatch, unseen=UNSEEN)
    assert tables.main([]) == study.main([]) == 0
    return found


@pytest.mark.parametrize("shot", ["zero", "interpolation", "extrapolation"])
def test_numbers_of_zero_shot_labels_are_recomputed(with_gaps, capsys, shot):
    assert call(capsys) == (0, MESSAGE)
    path = with_gaps.cell("INV", 0).result
    told = json.loads(path.read_text())
    told["shots"][shot]["mae"] *= 1.001
    path.write_text(json.dumps(told))
    code, out = call(capsys)
    assert code == 1 and f"t-small, INV, seed 0: mae, {shot}: " in out


def test_a_changed_kind_of_a_zero_shot_label_is_noticed(with_gaps, capsys):
    file = with_gaps.cell("INV", 0).predictions
    kinds = parse_file(file)["unseen"]
    cells = {cell.result.stem: results.prediction_texts(cell) for cell in with_gaps.cells()}
    changed = {"unseen": [*kinds[:52], "extrapolation", *kinds[53:]]}
    write_cells(file, {name: {**columns, **changed} for name, columns in cells.items()})
    code, out = call(capsys)
    assert code == 1 and "n, interpolation: 4 is recorded, predictions have 3" in out


def test_earlier_results_that_do_not_tell_the_zero_shot_labels_stay_verified(table, capsys):
    path = table.cell("INV", 0).result
    told = json.loads(path.read_text())
    told["shots"]["zero"] = told["shots"]["few"]
    path.write_text(json.dumps(told))
    assert call(capsys) == (0, MESSAGE)


@pytest.fixture
def of_training(table):
    """A result with metrics of bins and of relevance, as a run writes it."""
    cell = table.cell("INV", 0)
    bins, relevance = Bins.integers(20, 59), Relevance(22, 40, 58)
    frame = results.read_predictions(cell)
    columns = {name: frame[name].to_numpy(np.float32).astype(float) for name in ("label", "prediction")}
    columns |= {"bin": bins.index(columns["label"]), "relevance": relevance(columns["label"])}
    told = json.loads(cell.result.read_text()) | {"bins": asdict(bins), "relevance": asdict(relevance)}
    for name in ("bmae", "bmse", "sera"):
        told["shots"]["all"][name] = METRICS[name].compute(columns)
    cell.result.write_text(json.dumps(told))
    assert tables.main([]) == study.main([]) == 0
    return cell.result


@pytest.mark.parametrize("metric", ["bmae", "bmse", "sera"])
def test_metrics_of_bins_and_relevance_are_recomputed(of_training, capsys, metric):
    assert call(capsys) == (0, MESSAGE)
    told = json.loads(of_training.read_text())
    told["shots"]["all"][metric] *= 1.001
    of_training.write_text(json.dumps(told))
    code, out = call(capsys)
    assert code == 1 and f"t-small, INV, seed 0: {metric}, all: " in out


@pytest.mark.parametrize(
    ("change_of", "message"),
    [
        (lambda told: told["bins"].update(num=20), "bmae, all: "),
        (lambda told: told["relevance"].update(high=50), "sera, all: "),
        (lambda told: told.update(bins={"low": 2, "high": 1, "num": 3}), "its bins or relevance are broken"),
        (lambda told: told["relevance"].pop("low"), "its bins or relevance are broken"),
        (lambda told: told.pop("bins"), "bmae, bmse: the result does not say which bins or relevance"),
    ],
    ids=["bins", "relevance", "no bins", "half a relevance", "none"],
)
def test_other_bins_or_another_relevance_is_noticed(of_training, capsys, change_of, message):
    told = json.loads(of_training.read_text())
    change_of(told)
    of_training.write_text(json.dumps(told))
    code, out = call(capsys)
    assert code == 1 and f"t-small, INV, seed 0: {message}" in out


def test_files_that_are_cut_short_are_named(table, capsys):
    cell = table.cell("INV", 0)
    cell.predictions.write_bytes(cell.predictions.read_bytes()[:-9])
    code, out = call(capsys)
    assert code == 1 and "predictions.csv.gz: is broken (" in out
    cell.result.write_text(cell.result.read_text()[:40])
    code, out = call(capsys)
    assert code == 1 and "inv.seed0.json: is cut short" in out


@pytest.mark.slow
def test_this_repository_is_verified_without_torch_in_a_minute():
    code = "import sys, runpy; sys.path.insert(0, 'scripts'); sys.argv = ['scripts/verify.py']\n"
    code += "try: runpy.run_path('scripts/verify.py', run_name='__main__')\n"
    code += "finally: print('TORCH', 'torch' in sys.modules)"
    began = time.process_time(), time.monotonic()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, env=environment
    )
    assert ended.returncode == 0, ended.stdout
    assert ended.stdout.splitlines()[-1] == "TORCH False"
    assert time.monotonic() - began[1] < 60
