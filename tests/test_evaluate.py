"""scripts/evaluate.py: a run's own predictions give its metrics, and every mistake is named with its line."""

import json

import evaluate
import numpy as np
import pandas as pd
import pytest
import toy
import verify
from tiny_faces import call as train
from tiny_faces import command, run_dir, write_faces

from common import cli


def call(*words):
    try:
        return cli.run_command("scripts/evaluate.py", lambda: evaluate.main([str(word) for word in words]))
    except SystemExit as end:
        return end.code


def shots_of(path):
    return json.loads(path.read_text())["shots"]


@pytest.fixture
def own(tmp_path):
    """A small file of predictions, and a file of training labels."""
    (tmp_path / "mine.csv").write_text("label,prediction,note\n1,1.5,a\n2,2,b\n7,4,c\n")
    (tmp_path / "train.txt").write_text("\n".join(map(str, [1, 1, 1, 2, 2, 7])))
    return tmp_path


ALIKE = ["--many_above", 2, "--few_below", 2]


def follows_from_its_predictions(path):
    """Return the content of a run's `metrics.json`, every number of which `verify.py` can recompute."""
    told = json.loads((path / "metrics.json").read_text())
    frame = pd.read_csv(path / "predictions.csv", keep_default_na=False)  # as verify.py, "" is a text
    assert not list(verify.differences(told, frame))
    return told


@pytest.mark.parametrize("flags", ["--evidential", "--uvote", ""])
def test_a_runs_own_predictions_give_its_metrics(tmp_path, flags):
    path = toy.run(tmp_path, flags)
    np.savetxt(tmp_path / "train.txt", toy.load().train.labels)
    argv = [
        path / "predictions.csv",
        "--train-labels",
        tmp_path / "train.txt",
        "--metrics_json",
        tmp_path / "m.json",
    ]
    limits = ["--label_min", 0, "--label_max", 9, "--many_above", 5, "--few_below", 2]
    assert call(*argv, *limits) == 0
    ours, theirs = shots_of(tmp_path / "m.json"), shots_of(path / "metrics.json")
    assert list(ours) == list(theirs)
    for shot, row in theirs.items():
        assert {name: ours[shot][name] for name in row} == row  # to the last digit
    assert ("crps" in theirs["all"]) == bool(flags)
    assert theirs["all"]["sera"] > 0
    assert "relevance" in follows_from_its_predictions(path)


@pytest.mark.slow
def test_so_do_those_of_a_run_on_ages(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    argv = command(write_faces(tmp_path / "data"), "--epoch 1")
    assert train(argv) == 0
    file, labels = run_dir(argv) / "predictions.csv", tmp_path / "data" / "agedb.csv"
    out = ["--metrics_json", "m.json"]
    assert call(file, "--train-labels", labels, "--many_above", 3, "--few_below", 2, *out) == 0
    assert shots_of(tmp_path / "m.json") == shots_of(run_dir(argv) / "metrics.json")
    assert {"bins", "relevance"} <= follows_from_its_predictions(run_dir(argv)).keys()


def test_the_table_has_what_is_asked_for(own, capsys):
    argv = [own / "mine.csv", "--train-labels", own / "train.txt", *ALIKE]
    assert call(*argv) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Shots: many above 2 training samples in a bin, few below 2"
    assert [line.split()[0] for line in lines[2:]] == ["n", "MAE", "MSE", "GM"]
    assert lines[2].split() == ["n", "3", "1", "1", "1"]
    assert lines[3].split() == ["MAE", "↓", "1.167", "0.500", "0.000", "3.000"]
    assert call(*argv, "--metrics", "bmae", "gm_nonzero", "mae") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["n", "MAE", "MSE", "GM", "bMAE"]


def test_thresholds_are_those_of_the_stand_in_beside_the_labels(own, capsys):
    standin = {
        "dataset": "agedb",
        "scale": 0.1,
        "seed": 0,
        "many_above": 10,
        "few_below": 2,
        "note": "made up",
    }
    (own / "standin.json").write_text(json.dumps(standin))
    assert call(own / "mine.csv", "--train_labels", own / "train.txt") == 0
    told = capsys.readouterr().out
    assert "STAND-IN, not the real data: agedb at scale 0.1, seed 0: made up" in told
    assert "many above 10 training samples in a bin, few below 2" in told


def test_a_run_prints_further_metrics_that_are_asked_for_also_when_it_is_finished(tmp_path, capsys):
    toy.run(tmp_path, "--metrics sera mse")
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[-4:]] == [
        "n",
        "MAE",
        "SERA",
        "MSE",
    ]
    toy.run(tmp_path, "--metrics mse crps")
    told = capsys.readouterr().out
    assert "run is finished" in told
    assert "--metrics crps: not measured by this test; it has mae, mse, sera" in told
    assert [line.split()[0] for line in told.splitlines()[-3:]] == ["n", "MAE", "MSE"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("label,guess\n1,2\n", "has no column prediction (it has label, guess); name a CSV with the columns"),
        ("prediction\n1\n", "has no column label (it has prediction)"),
        ("", "has no column label, prediction"),
        ("label,prediction\n", "holds no prediction"),
        ("label,prediction\n1,2\n1,nan\n", "prediction is not a number (line 3: 'nan')"),
        ("label,prediction\ninf,2\n", "label is not a number (line 2: 'inf')"),
        ("label,prediction\n1,\n", "prediction is not a number (line 2: '')"),
        ("label,prediction,std\n1,2,3\n1,2,x\n", "std is not a number (line 3: 'x')"),
        ("label,prediction\n1,2\n1,2,3\n", "line 3 has not the 2 cells of the first line"),
        ('label,prediction\n1,"2\n', "is not a CSV in UTF-8"),
    ],
)
def test_a_mistake_in_the_predictions_is_named_with_its_line(own, capsys, text, message):
    (own / "bad.csv").write_text(text)
    assert call(own / "bad.csv", "--train-labels", own / "train.txt") == 2
    told = capsys.readouterr().err
    assert told.startswith(f"scripts/evaluate.py: error: {own / 'bad.csv'}: ")
    assert message in told
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["absent.csv", "--train-labels", "train.txt"], "absent.csv: there is no such file; name a CSV with"),
        (["mine.csv"], "the following arguments are required: --train-labels"),
        (
            ["mine.csv", "--train-labels", "absent"],
            "absent: there is no such file; --train_labels names a CSV",
        ),
        (
            ["mine.csv", "--train-labels", "mine.csv"],
            "has no column age; its columns are label, prediction, note",
        ),
        (
            ["mine.csv", "--train-labels", "train.txt", "--many_above", "3"],
            "--many_above 3 is below --few_below 20",
        ),
        (
            ["mine.csv", "--train-labels", "train.txt", "--label_max", "5"],
            "age is outside 0 to 5 (line 6: '7')",
        ),
        (
            ["mine.csv", "--train-labels", "train.txt", "--bin_width", "0"],
            "--bin_width: '0' is no finite number",
        ),
        (["mine.csv", "--train-labels", "train.txt", "--metrics", "crps"], "mine.csv lacks the column crps"),
        (
            ["mine.csv", "--train-labels", "train.txt", "--metrics", "rmse"],
            "--metrics: invalid choice: 'rmse'",
        ),
        (
            ["mine.csv", "--train-labels", "train.txt", "--metrics_json", "."],
            "--metrics_json .: cannot be written",
        ),
    ],
)
def test_other_mistakes_are_named_too(own, monkeypatch, capsys, words, message):
    monkeypatch.chdir(own)
    assert call(*words) == 2
    assert message in capsys.readouterr().err
