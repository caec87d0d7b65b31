"""What a person sees of a sweep: on a pipe, on a terminal, and the time left."""

import contextlib
import fcntl
import functools
import os
import struct
import sys
import termios

import pytest
from reproducing import live, recipes
from stub_repository import (
    PROG,
    copy_of_the_repository,
    work_in_repository,
)  # fmt: skip

from common import cli
from common.files import write_json
from common.task import load_task
from common.training.command import settings_of

pytestmark = pytest.mark.slow


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """`repository(rows, seeds, flags)` makes the scripts work in a repository of their own."""
    return functools.partial(work_in_repository, tmp_path, monkeypatch)


def test_the_time_left_follows_from_what_has_been_measured(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(live.time, "monotonic", lambda: now[0])
    at = {}
    monkeypatch.setattr(live, "progress_of", lambda cell: at.get(cell, live.Progress()))
    estimate = live.Estimate(slots=2)
    estimate.start("a")
    at["b"] = live.Progress(checks=2, of=4)  # resumed in the middle
    estimate.start("b")
    assert estimate.left({"a": live.Progress(), "b": at["b"]}, ["c"]) is None
    now[0] += 10
    # a: a quarter in 10 s; b: a quarter more in 10 s: 40 s a run; 0.75 + 0.25 + 1 runs on two slots.
    at |= {"a": live.Progress(1, 4), "b": live.Progress(3, 4)}
    assert estimate.left({"a": at["a"], "b": at["b"]}, ["c"]) == pytest.approx(40)
    estimate.end("b", well=True)  # half a run in 10 s
    assert estimate.left({"a": at["a"]}, ["c"]) == pytest.approx(20 / 0.75 * 1.75)
    estimate.start("d")
    estimate.end("d", well=False)  # tells nothing
    assert estimate.left({"a": at["a"]}, ["c"]) == pytest.approx(20 / 0.75 * 1.75)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0, "0 s"), (59, "59 s"), (60, "1 min"), (3540, "59 min"), (3600, "1 h 0 min"), (201_600, "2 d 8 h")],
)
def test_durations_are_said_as_people_say_them(seconds, told):
    assert live.duration(seconds) == told


def test_progress_is_read_from_the_run_of_this_seed(tmp_path, monkeypatch):
    monkeypatch.setattr(cli, "ROOT", tmp_path)
    cell = recipes.Cell("t", "A", 3, "x", "")
    assert str(live.progress_of(cell)) == "starting"
    for seed, lines in ((3, '{"step": 10, "epoch": 0.5}\n{"step": 20, "epoch": 1.0}\n{"step": 3'), (4, "")):
        folder = tmp_path / cell.store_root / f"run_{seed}"
        folder.mkdir(parents=True)
        (folder / "args.json").write_text(f'{{"seed": {seed}, "max_vals": 8}}')
        (folder / "metrics.jsonl").write_text(lines)
    progress = live.progress_of(cell)
    assert progress == live.Progress(checks=2, of=8, epoch=1.0, step=20)
    assert (str(progress), progress.share) == ("check 2 of 8 (epoch 1.0, step 20)", 0.25)


@pytest.mark.parametrize("name", ["agedb", "imdb-wiki", "sts-b", "nyud2"])
def test_the_length_is_read_on_every_data_set(tmp_path, monkeypatch, name):
    monkeypatch.setattr(cli, "ROOT", tmp_path)
    task, cell = load_task(name), recipes.Cell("t", "A", 0, "x", "")
    settings = settings_of(task, "", " ", ["--seed", "0"])
    folder = tmp_path / cell.store_root / "run"
    folder.mkdir(parents=True)
    write_json(folder / "args.json", settings.identity())
    assert live.progress_of(cell).of == task.length(settings).checks


def test_on_a_pipe_what_runs_is_told_now_and_then(monkeypatch, capsys):
    a, b, c = (recipes.Cell("t", row, 0, "x", "") for row in "ABC")
    at = {a: live.Progress(1, 4, 1.5, 50), b: live.Progress(0, 4)}
    monkeypatch.setattr(live, "progress_of", lambda cell: at.get(cell, live.Progress()))
    now = [0.0]
    monkeypatch.setattr(live.time, "monotonic", lambda: now[0])
    with live.Live(total=5, slots=2, every=60) as shown:
        shown.event("an event")
        shown.estimate.start(a)
        shown.estimate.start(b)
        now[0] = 59.0
        shown.show([a, b], [c], done=1, failed=1)
        now[0] = 61.0
        shown.show([a, b], [c], done=1, failed=1)
    assert capsys.readouterr().out.splitlines() == [
        "an event",
        "1 done, 1 failed, 2 running, time left not known yet; "
        "A, seed 0: check 1 of 4 (epoch 1.5, step 50); B, seed 0: check 0 of 4 (epoch 0.0, step 0)",
    ]


def test_on_a_terminal_a_few_lines_redraw(tmp_path):
    """The script itself under a terminal of its own, in a copy of the repository."""
    pty = pytest.importorskip("pty")
    root = copy_of_the_repository(tmp_path, {"A": "--meet 2", "B": "--meet 2 --value 1"})
    pid, terminal = pty.fork()
    if not pid:
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
        os.chdir(root)
        os.execve(sys.executable, [sys.executable, PROG, "--table", "t-small", "--jobs", "2"],
                  os.environ | {"PYTHONPATH": str(root)})  # fmt: skip
    shown = b""
    with contextlib.suppress(OSError):  # the end of a terminal
        while part := os.read(terminal, 4096):
            shown += part
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    text = shown.decode()
    assert "\x1b[A" in text  # the cursor goes up
    for part in (
        "start  A, seed 0",
        "2 running",
        "A, seed 0: ",
        "B, seed 0: ",
        "done   B, seed 0",
        "| A ",
    ):
        assert part in text
