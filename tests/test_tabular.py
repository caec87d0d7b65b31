"""Tables: what is read, the splits, bins and shots, every method on them, and gradient boosting."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from runs import ended, in_child, killed_at, outcome, same
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from table_columns import fit_columns
from test_methods import ways_to_ask

from common import cli
from common.bins import Bins
from common.datasets.own import label_bins, make_splits, shots_by_share
from common.errors import UserError
from common.method import methods_of
from common.task import load_task
from common.training import checkpoint, command

pytestmark = pytest.mark.slow

PROG = "tabular-dir/train.py"
TASK = load_task("tabular")
SHORT = ["--device", "cpu", "--val_interval", "4", "--max_vals", "2", "--width", "8", "--batch_size", "32"]
SHORT += ["--many_above", "12", "--few_below", "6"]


def made(n=160, seed=0):
    """A table with numbers, missing values, a category, and whole labels of which the great ones are rare."""
    rng = np.random.default_rng(seed)
    y = np.minimum(rng.exponential(5, n).round(), 19)
    frame = pd.DataFrame(
        {
            "a": y + rng.normal(0, 1, n),
            "b": rng.normal(50, 9, n),
            "kind": np.where(y > 4, "high", "low"),
            "y": y,
        }
    )
    frame.loc[::7, "b"] = np.nan
    frame["split"] = np.where(np.arange(n) % 4 == 2, "val", np.where(np.arange(n) % 4 == 3, "test", "train"))
    return frame


def written(folder, frame=None, name="t.csv"):
    folder.mkdir(exist_ok=True)
    (made() if frame is None else frame).to_csv(folder / name, index=False)
    return folder / name


def train_module():
    spec = importlib.util.spec_from_file_location("tabular_train", cli.ROOT / PROG)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def argv_of(csv, root, *flags):
    words = [word for flag in flags for word in flag.split()]
    return ["--csv", str(csv), "--target", "y", "--store_root", str(root), *SHORT, *words]


def run(csv, root, *flags):
    """Run the script in this process; return the run's directory."""
    assert cli.run_command(PROG, lambda: train_module().main(argv_of(csv, root, *flags))) == 0
    (path,) = root.iterdir()
    return path


def loaded(csv, *flags):
    return command.load(
        TASK, command.settings_of(TASK, PROG, "Tables", argv_of(csv, csv.parent / "none", *flags))
    )


def refused(capsys, argv):
    capsys.readouterr()
    assert cli.run_command(PROG, lambda: train_module().main(argv)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


# Columns


def test_columns_are_what_scikit_learn_makes_of_the_training_rows(tmp_path):
    frame = made()
    train = np.flatnonzero(frame["split"] == "train")
    table = frame.drop(columns=["y", "split"]).astype({"a": str, "b": str}).replace("nan", np.nan)
    columns = fit_columns(table, train, (), tmp_path)
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    expected = make_column_transformer((numbers, ["a", "b"]), (OneHotEncoder(sparse_output=False), ["kind"]))
    expected = expected.fit(frame.iloc[train]).transform(frame)
    vectors = columns.vectors(table, tmp_path)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.delete(vectors, 2, axis=1), expected, rtol=1e-5, atol=1e-6)
    assert (vectors[:, 2] == frame["b"].isna()).all()


def test_a_category_that_only_test_rows_have_is_all_zeros(tmp_path):
    frame = made()
    frame.loc[3, "kind"] = "unheard"
    data = loaded(written(tmp_path / "d", frame))
    kinds = data.test.vectors[:, data.test.numbers + 1 :]
    assert kinds[0].tolist() == [0, 0]
    assert (kinds[1:].sum(axis=1) == 1).all()


def test_the_fit_is_in_the_checkpoint_as_plain_arrays(tmp_path):
    frame = made()
    path = run(written(tmp_path / "d", frame), tmp_path / "r")
    state = torch.load(path / "ckpt.best.pth.tar", weights_only=True)["state_dict"]
    train = frame[frame["split"] == "train"]
    assert state["encoder.fitted.fill"].tolist() == pytest.approx([train["a"].median(), train["b"].median()])
    assert state["encoder.fitted.target"].tolist() == pytest.approx(
        [train["y"].mean(), train["y"].std(ddof=0)]
    )
    names = json.loads(bytes(state["encoder.fitted.names"].tolist()))
    assert names == {"numbers": ["a", "b"], "categories": {"kind": ["high", "low"]}}


def test_altered_test_rows_change_nothing_of_training(tmp_path):
    frame = made()
    other = frame.copy()
    rows = other["split"] == "test"
    other.loc[rows, "a"], other.loc[rows, "y"], other.loc[rows, "kind"] = -9e5, 900.0, "unheard"
    ends = []
    for name, table in (("one", frame), ("other", other)):
        path = run(written(tmp_path / name, table), tmp_path / f"{name}-runs", "--lds", "--fds")
        ends.append(torch.load(path / "ckpt.pth.tar", weights_only=True))
        ends[-1]["state"].pop("seconds")
    assert same(*ends)


# Bad input


def spoiled(change):
    frame = made().astype({"a": object, "b": object, "y": object})
    change(frame)
    return frame


def put(row, column, value):
    return lambda frame: frame.__setitem__(column, frame[column].where(np.arange(len(frame)) != row, value))


@pytest.mark.parametrize(
    ("change", "flags", "told"),
    [
        (lambda f: f.pop("y"), "", ["--target y", "no such column", "a, b, kind, split"]),
        (lambda f: f.__setitem__("y", 3), "", ["every training row has the y 3"]),
        (put(5, "a", "tall"), "", ["line 7: a 'tall' is no number", "--categories"]),
        (put(9, "y", "old"), "", ["line 11: y 'old' is no number"]),
        (put(9, "y", np.nan), "", ["line 11: y is missing"]),
        (put(4, "b", np.inf), "", ["line 6: b is infinite"]),
        (put(4, "y", -np.inf), "", ["line 6: y is infinite"]),
        (put(8, "split", "dev"), "", ["line 10: split 'dev' is none of train, val, test"]),
        (lambda f: f.pop("split"), "", ["has no column split", "--split balanced"]),
        (lambda f: f.__setitem__("split", "train"), "", ["split has no val row"]),
        (lambda f: f.__setitem__("key", np.arange(160) // 3), "--group key", ["line 4: key '0' stands in train"]),
        (lambda f: f.__setitem__("key", [f"k{i}" for i in range(160)]), "", ["key has 160 categories"]),
        (lambda f: None, "--ignore nosuch", ["--ignore nosuch", "no such column"]),
        (lambda f: None, "--bins 5 --bin_width 2", ["--bins and --bin_width"]),
        (lambda f: None, "--conr", ["--conr"]),
        (lambda f: None, "--boosting --fds", ["--boosting and --fds", "needs a network"]),
        (lambda f: None, "--boosting --loss huber", ["--boosting and --loss huber"]),
        (lambda f: None, "--boosting --evaluate", ["--boosting and --evaluate"]),
    ],
)  # fmt: skip
def test_mistakes_are_named(tmp_path, capsys, monkeypatch, change, flags, told):
    monkeypatch.setattr("table_columns.MOST_CATEGORIES", 50)
    frame = spoiled(change)
    if "key" in frame and not flags:
        told = [told[0].replace("160", str((frame["split"] == "train").sum()))]
    error = refused(capsys, argv_of(written(tmp_path / "d", frame), tmp_path / "r", flags))
    for part in told:
        assert part in error
    assert not list((tmp_path / "r").glob("*/*"))  # the mended command may start anew


def test_a_command_without_a_table_is_told_what_it_needs(tmp_path, capsys):
    assert "--csv FILE" in refused(capsys, ["--store_root", str(tmp_path)])
    assert "there is no such file" in refused(capsys, argv_of(tmp_path / "no.csv", tmp_path / "r"))


def test_a_column_that_equals_the_target_is_named(tmp_path, capsys):
    frame = made().assign(copy=lambda f: 3 - 2 * f["y"])
    run(written(tmp_path / "d", frame), tmp_path / "r")
    assert "copy equals y, up to a factor and a constant: --ignore copy" in capsys.readouterr().out


# Splits, bins and shots


def test_balanced_splits_have_the_same_number_of_each_bin_as_far_as_there_are():
    labels = np.repeat(np.arange(6.0), [200, 100, 60, 10, 3, 2])
    splits = make_splits(labels, Bins.integers(0, 5), np.arange(len(labels)), 0)
    for name in ("val", "test"):
        assert np.bincount(labels[splits == name].astype(int), minlength=6).tolist() == [16, 16, 12, 2, 1, 0]
    assert (splits == make_splits(labels, Bins.integers(0, 5), np.arange(len(labels)), 0)).all()
    assert (splits != make_splits(labels, Bins.integers(0, 5), np.arange(len(labels)), 1)).any()


def test_made_splits_keep_groups_together():
    rng = np.random.default_rng(0)
    labels, groups = rng.integers(0, 6, 300).astype(float), rng.integers(0, 60, 300)
    splits = make_splits(labels, Bins.integers(0, 5), groups, 0)
    assert pd.Series(splits).groupby(groups).nunique().max() == 1
    assert {"train", "val", "test"} == set(splits)


def test_a_run_keeps_the_splits_that_it_made_and_evaluation_takes_them(tmp_path, capsys):
    csv = written(tmp_path / "d", made().drop(columns="split"))
    path = run(csv, tmp_path / "r", "--split random")
    kept = pd.read_csv(path / "split.csv")
    assert kept["line"].tolist() == list(range(2, 162))
    test = kept.loc[kept["split"] == "test", "line"].tolist()
    assert pd.read_csv(path / "predictions.csv")["line"].tolist() == test
    table = capsys.readouterr().out.split("Test of")[1].split("\n", 1)[1]
    tested = ["--split random", "--split_seed 9", "--evaluate", f"--resume {path / 'ckpt.best.pth.tar'}"]
    assert train_module().main(argv_of(csv, tmp_path / "r", *tested)) == 0
    assert capsys.readouterr().out.split("Test of")[1].split("\n", 1)[1] == table


def test_evaluation_with_other_flags_than_the_run_had_says_so(tmp_path, capsys):
    csv = written(tmp_path / "d")
    path = run(csv, tmp_path / "r", "--bins 7")
    best, args = path / "ckpt.best.pth.tar", path / "args.json"
    told = f"{best} was trained with --bins 7; --config {args} gives its flags\n"
    other = argv_of(csv, tmp_path / "r", f"--evaluate --resume {best} --max_vals 9")
    assert train_module().main(other) == 0
    assert told in "".join(capsys.readouterr())
    assert (
        train_module().main(["--config", str(args), "--evaluate", "--store_root", str(tmp_path / "r")]) == 0
    )
    assert "was trained with" not in "".join(capsys.readouterr())
    args.write_text("{")  # damaged: nothing is known of the run, and nothing is said
    assert train_module().main(argv_of(csv, tmp_path / "r", f"--evaluate --resume {best}")) == 0
    assert "was trained with" not in "".join(capsys.readouterr())


def test_a_finished_run_starts_from_no_other_checkpoint_and_warns_of_idle_flags(tmp_path, capsys):
    csv = written(tmp_path / "d")
    path = run(csv, tmp_path / "r")
    (tmp_path / "other.pth.tar").write_bytes((path / "ckpt.best.pth.tar").read_bytes())
    for name in ("none.pth.tar", "other.pth.tar"):
        error = refused(capsys, argv_of(csv, tmp_path / "r", f"--resume {tmp_path / name}"))
        assert f"--resume {tmp_path / name}: {path} is finished; --overwrite starts it over" in error
    again = argv_of(csv, tmp_path / "r", f"--resume {path / 'ckpt.pth.tar'}", "--lds_ks 9")
    assert cli.run_command(PROG, lambda: train_module().main(again)) == 0
    told = "".join(capsys.readouterr())
    assert f"{path} is finished" in told and "--lds_ks has no effect" in told


def test_a_checkpoint_of_other_training_rows_is_refused(tmp_path, capsys):
    path = run(written(tmp_path / "d"), tmp_path / "r")
    other = written(tmp_path / "o", made(seed=1))
    error = refused(
        capsys, argv_of(other, tmp_path / "r", f"--evaluate --resume {path / 'ckpt.best.pth.tar'}")
    )
    assert "another fit of its training rows" in error


def test_bins_are_of_a_width_of_a_number_or_chosen():
    whole, spread = np.array([3.0, 4, 9]), np.linspace(0, 1, 1000)
    assert label_bins(whole, None, None) == Bins.integers(3, 9)
    assert label_bins(whole, 2.0, None) == Bins.uniform(2, 10, 4)
    assert label_bins(whole, None, 5) == Bins.uniform(3, 9, 5)
    assert label_bins(spread, None, None).num == len(np.histogram_bin_edges(spread, "fd")) - 1
    assert label_bins(np.append(spread, 1e6), None, None).num == 100
    assert label_bins(np.array([0.5] * 99 + [7.25]), None, None).num == 100  # no interquartile range


def test_shots_by_share_are_about_a_third_each_and_say_so(tmp_path, capsys):
    labels = np.repeat(np.arange(7.0), [5, 20, 163, 175, 880, 1457, 2198])
    shots = shots_by_share(Bins.integers(0, 6), labels)
    assert shots.of(np.arange(7.0)).tolist() == ["few"] * 5 + ["medium", "many"]
    even = shots_by_share(Bins.integers(0, 2), np.repeat(np.arange(3.0), 4))
    assert even.of(np.arange(3.0)).tolist() == ["medium"] * 3
    path = run(written(tmp_path / "d"), tmp_path / "r", "--shots share")
    assert "shots: few, medium and many are the rarest, middle and densest third" in capsys.readouterr().out
    assert "third" in json.loads((path / "metrics.json").read_text())["shots_by"]


# Runs

FLAGS = [flags for kind in methods_of(TASK) for flags in ways_to_ask(kind) if flags != "--conr"]


@pytest.fixture(scope="module")
def shifted(tmp_path_factory):
    """A table, and the same with labels that are greater by 1,024; a first stage of each."""
    root = tmp_path_factory.mktemp("shifted")
    tables = [written(root / str(by), made().assign(y=lambda f, by=by: f["y"] + by)) for by in (0, 1024)]
    return [(csv, run(csv, csv.parent / "first") / "ckpt.best.pth.tar") for csv in tables]


@pytest.mark.slow
@pytest.mark.parametrize("flags", ["", *FLAGS])
def test_every_method_learns_the_same_of_labels_with_another_origin(tmp_path, shifted, flags):
    predictions = []
    for number, (csv, first) in enumerate(shifted):
        argv = argv_of(csv, tmp_path / str(number), *([flags] if flags else []))
        try:
            command.settings_of(TASK, PROG, "Tables", argv)
            more = []
        except UserError as error:
            assert "--pretrained" in str(error)
            more = ["--pretrained", str(first)]
        assert train_module().main([*argv, *more]) == 0
        (path,) = (tmp_path / str(number)).iterdir()
        if (path / "predictions.csv").exists():
            predictions.append(pd.read_csv(path / "predictions.csv"))
    if not predictions:
        assert flags.startswith("--rnc")  # its first stage has no head
        return
    near, far = predictions
    assert list(near) == list(far)
    for column in near.select_dtypes("number"):
        moves = column in ("label", "prediction") or column.startswith("mean_")
        np.testing.assert_allclose(
            far[column] - 1024 * moves, near[column], rtol=0.01, atol=0.01, err_msg=column
        )
    assert near["prediction"].between(-5, 25).all()


@pytest.mark.slow
def test_a_killed_run_ends_as_the_whole_one_to_the_bit(tmp_path):
    csv = written(tmp_path / "d", made().drop(columns="split"))
    flags = ["--split balanced", "--lds", "--fds"]
    root = tmp_path / "r"
    path = run(csv, root, *flags)
    expected, splits = outcome(path), (path / "split.csv").read_bytes()
    path.rename(tmp_path / "whole")

    def once_more():
        return train_module().main(argv_of(csv, root, *flags))

    child = in_child(once_more, lambda: killed_at(checkpoint, "save", 2))
    assert ended(child) != 0
    assert ended(in_child(once_more)) == 0
    for mine, theirs in zip(outcome(path), expected, strict=True):
        assert same(mine, theirs)
    assert (path / "split.csv").read_bytes() == splits


def test_boosting_writes_what_a_network_writes_and_takes_its_weights(tmp_path, capsys):
    csv, columns, measured = written(tmp_path / "d"), [], []
    for number, flags in enumerate(("--boosting", "--boosting --reweight inverse", "")):
        path = run(csv, tmp_path / str(number), flags)
        result = json.loads((path / "metrics.json").read_text())
        measured.append(list(result["shots"]["all"]))
        columns.append(pd.read_csv(path / "predictions.csv"))
    assert measured[0] == measured[1] == measured[2]
    assert {"n", "mae", "mse", "gm", "bmae"} <= set(measured[0])
    plain, weighted, network = columns
    assert list(plain) == list(network)
    assert plain[["label", "shot", "line"]].equals(network[["label", "shot", "line"]])
    assert (plain["prediction"] != weighted["prediction"]).any()
    assert (plain["prediction"] - plain["label"]).abs().mean() < 4
    capsys.readouterr()
    run(csv, tmp_path / "0", "--boosting")
    assert "is finished" in capsys.readouterr().out


@pytest.mark.slow
def test_a_fork_of_a_sweep_writes_what_the_script_writes(tmp_path):
    from reproducing.launch_forks import Forks

    csv, argv = written(tmp_path / "d"), {}
    for name in ("process", "fork"):
        argv[name] = argv_of(csv, tmp_path / name, "--lds", "--fds")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, PROG, *argv["process"]], cwd=cli.ROOT, env=environment, check=True)
    cell = SimpleNamespace(command=lambda: [PROG, *argv["fork"]], log=tmp_path / "log")
    job, began = Forks(1).start(cell), time.monotonic()
    while job.poll() is None and time.monotonic() < began + 60:
        time.sleep(0.01)
    assert job.poll() == 0
    assert "Test of" in (tmp_path / "log").read_text()
    (one,), (other,) = ((tmp_path / name).iterdir() for name in argv)
    for name in ("predictions.csv", "args.json"):
        assert (one / name).read_bytes() == (other / name).read_bytes()


def test_a_fork_that_is_stopped_ends_as_a_process_does(tmp_path):
    from reproducing.launch_forks import Forks

    argv = argv_of(written(tmp_path / "d"), tmp_path / "r", "--max_vals 100000")
    job = Forks(1).start(SimpleNamespace(command=lambda: [PROG, *argv], log=tmp_path / "log"))
    began = time.monotonic()
    while not list((tmp_path / "r").glob("*/ckpt.pth.tar")) and time.monotonic() < began + 60:
        time.sleep(0.01)
    job.terminate()
    while job.poll() is None and time.monotonic() < began + 60:
        time.sleep(0.01)
    assert job.poll() == 130
