"""Stopped or killed, a sweep leaves nothing running, and the same command goes on to the same table."""

import fcntl
import functools
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import sts_corpus
from reproducing import launch, recipes, results, sweep
from reproducing.recipes import read_tables
from reproducing.table_text import markdown
from stub_repository import (
    NAME,
    PROG,
    alive,
    call,
    copy_of_the_repository,
    ends_with,
    forked,
    pids,
    predictions,
    result,
    result_path,
    wait_until,
    work_in_repository,
)  # fmt: skip

from common import cli

pytestmark = pytest.mark.slow


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """`repository(rows, seeds, flags)` makes the scripts work in a repository of their own."""
    return functools.partial(work_in_repository, tmp_path, monkeypatch)


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_to_the_sweep_ends_its_runs_and_the_same_command_goes_on(repository, number):
    rows = {"A": "--hang", "B": "--hang --value 1", "C": "--hang --value 2"}
    root = repository(rows)
    pid = forked(lambda: call("--table", "t-small", "--jobs", "2"))
    wait_until(lambda: len(pids(root)) == 2)
    os.killpg(pid, getattr(signal, number))
    assert ends_with(pid) == 130
    assert not any(alive(child) for child, _ in pids(root))
    stopped = root.glob(f"checkpoint/{NAME}/*/*/stopped")
    assert sorted(path.parent.parent.name for path in stopped) == ["a", "b"]
    assert not (root / f"checkpoint/{NAME}/c").exists()
    repository({row: flags.replace("--hang", "") for row, flags in rows.items()})
    assert call("--table", "t-small", "--jobs", "2") == 0
    assert all(result(root, name) for name in "abc")


def test_a_second_signal_does_not_wait(repository):
    root = repository({"A": "--hang"})
    stub = root / "stub-dir" / "train.py"
    stub.write_text(stub.read_text().replace("sys.exit(130)", "time.sleep(60)"))
    pid = forked(lambda: call("--table", "t-small"))
    wait_until(lambda: pids(root))
    os.kill(pid, signal.SIGINT)
    wait_until(lambda: list(root.glob(f"checkpoint/{NAME}/a/*/stopped")))
    assert alive(pid)
    os.kill(pid, signal.SIGINT)
    assert ends_with(pid) == 130
    assert not alive(pids(root)[0][0])


def test_a_run_that_starts_as_the_signal_comes_is_ended_too(repository, monkeypatch):
    root, real = repository({"A": "--hang"}), launch.start_child

    def start_child(*args):
        os.kill(os.getpid(), signal.SIGTERM)
        return real(*args)

    monkeypatch.setattr(launch, "start_child", start_child)
    began = time.monotonic()
    assert call("--table", "t-small") == 130
    assert time.monotonic() < began + 30
    assert not any(alive(child) for child, _ in pids(root))


def test_signals_are_as_before_when_a_sweep_is_over(repository, monkeypatch):
    repository({"A": ""})
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    assert call("--table", "t-small") == 0
    assert before == [signal.getsignal(number) for number in numbers]
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with sweep.signals():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) not in (signal.SIG_IGN, before[1])
    finally:
        signal.signal(signal.SIGHUP, previous)


def test_as_a_user_starts_and_stops_it(tmp_path):
    """The script itself, in a copy of the repository, from another folder, ended with SIGTERM."""
    root = copy_of_the_repository(tmp_path, {"A": "--hang", "B": "--hang --value 1"})
    process = subprocess.Popen(
        [sys.executable, str(root / PROG), "--table", "t-small", "--jobs", "2"], cwd=tmp_path, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(root)},
    )  # fmt: skip
    try:
        wait_until(lambda: len(pids(root)) == 2, 120)
    finally:
        process.send_signal(signal.SIGTERM)
        out, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error == f"{PROG}: stopped; nothing is lost, the same command goes on\n"
    assert out.splitlines() == [
        "t-small: T", "start  A, seed 0", "start  B, seed 0", "Stopping 2 runs; once more to stop at once",
    ]  # fmt: skip
    assert not any(alive(child) for child, _ in pids(root))
    assert len(list(root.glob(f"checkpoint/{NAME}/*/*/stopped"))) == 2


# Killed, with real runs


TINY = """
[t]
script = "sts-b-dir/train.py"
seeds = [0]
papers = [3]
dataset = "STS-B-DIR"
metrics = {{ mse = "MSE", pearson = "Pearson(%)" }}
rows = "r"
claims = "c"
[t.scales.small]
title = "T"
flags = "--data_dir {corpus} --word_embs_file {corpus}/glove.txt {flags} --lr 0.01"
[rows.r]
"Vanilla" = {{ flags = "", paper = "VANILLA" }}
"RRT" = {{ flags = "--retrain_fc --reweight inverse --pretrained {{Vanilla}}", paper = "RRT" }}
"Not here" = {{ flags = "--data_dir nosuch" }}
[[claims.c]]
says = "RRT is better"
pairs = [["RRT", "Vanilla"]]
shots = ["all"]
"""


@pytest.fixture
def real_runs(tmp_path, monkeypatch):
    """A repository of two rows of real, tiny runs and one without data; and what they give by hand."""
    corpus = sts_corpus.write_corpus(tmp_path / "corpus")
    flags = sts_corpus.TINY.replace("--max_vals 4", "--max_vals 30 --patience 0")
    monkeypatch.setenv("PYTHONPATH", str(sts_corpus.ROOT))

    def make(name):
        root = tmp_path / name
        for folder in ("data", "sts-b-dir"):
            (root / folder).mkdir(parents=True)
        (root / "data" / "recipes.toml").write_text(TINY.format(corpus=corpus, flags=flags))
        for file in [*(sts_corpus.ROOT / "sts-b-dir").glob("*.py")]:
            shutil.copy(file, root / "sts-b-dir")
        shutil.copy(sts_corpus.ROOT / "data" / "published.csv", root / "data")
        for module in (cli, recipes, results):
            monkeypatch.setattr(module, "ROOT", root)
        monkeypatch.setattr(read_tables, "__defaults__", (root / "data" / "recipes.toml",))
        monkeypatch.chdir(root)
        return root

    return make


def kept(root):
    """All that is kept of the two rows, but for the minutes, which no two runs share."""
    return [(result(root, slug) | {"minutes": None}, predictions(root, slug)) for slug in ("vanilla", "rrt")]


def test_a_sweep_that_is_killed_and_started_again_ends_with_the_same_table(real_runs, capsys):
    """SIGKILL in the middle of a real run, which dies with the sweep; a row without data says so."""
    root = real_runs("by_hand")
    for cell in read_tables()[NAME].cells():
        if cell.row != "Not here":
            assert sts_corpus.call(cell.command()[1:]) == 0
            results.record(cell)
    expected = kept(root), markdown(read_tables()[NAME])
    assert "| RRT is better" in expected[1]
    root = real_runs("killed")
    sweep = ("--table", NAME, "--jobs", str(os.cpu_count()))  # one thread each, as above
    pid = forked(lambda: call(*sweep))
    history = f"checkpoint/{NAME}/vanilla/*/metrics.jsonl"
    wait_until(lambda: any(path.read_text().count("\n") > 3 for path in root.glob(history)), 120)
    (store,) = {path.parent for path in root.glob(history)}
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    wait_until(lambda: not in_use(store), 10)
    assert not (store / "metrics.json").exists()
    assert not result_path(root, "vanilla").exists()
    capsys.readouterr()
    assert call(*sweep) == 1
    out, error = capsys.readouterr()
    assert error == f"{PROG}: error: 1 of 3 runs failed: Not here seed 0\n"
    assert "exit code 2" in out and "nosuch: train_new.tsv" in out
    assert "Resuming" in (root / f"checkpoint/{NAME}/vanilla/seed0.log").read_text()
    shown = out.split("\n\nWhat is recorded, earlier results among it:\n\n", 1)[1]  # as a row failed
    assert (kept(root), shown.removesuffix("\n")) == expected


def in_use(run):
    """Whether a process holds the lock of a run directory."""
    with (run / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
