"""A sweep on a local Ray of two workers: the same results; workers that die; stopping."""

import contextlib
import os
import signal
import subprocess
import sys

import pytest
import reproduce
from stub_repository import (
    NAME,
    PROG,
    alive,
    copy_of_the_repository,
    pids,
    result,
    result_path,
    starts,
    wait_until,
)  # fmt: skip

from common import cli

pytestmark = pytest.mark.slow


@contextlib.contextmanager
def swept(root):
    """The script in a copy of the repository, on a Ray of its own."""
    pytest.importorskip("ray")
    command = [sys.executable, PROG, "--table", NAME, "--launcher", "ray", "--jobs", "2"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    process = subprocess.Popen(
        command, cwd=root, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=environment | {"PYTHONPATH": str(root)},
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def test_without_ray_the_way_to_get_it_is_told(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert cli.run_command(PROG, lambda: reproduce.launcher("ray", 1)) == 2
    assert capsys.readouterr().err.endswith("--launcher ray: needs Ray; python -m pip install -e '.[ray]'\n")


def test_ray_is_looked_for_before_the_data_are_drawn(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr(reproduce, "make_data", lambda table: pytest.fail("draws the stand-in first"))
    command = ["--table", "4", "--scale", "small", "--launcher", "ray"]
    assert cli.run_command(PROG, lambda: reproduce.main(command)) == 2


def test_two_workers_run_cells_side_by_side_and_one_that_dies_stops_no_other(tmp_path):
    root = copy_of_the_repository(tmp_path, {
        "A": "--meet 2", "B": "--meet 2 --value 1", "Bad": "--fail", "RRT": "--pretrained {A}",
        "Dies once": "--deadly 1", "Dies always": "--deadly 9",
    })  # fmt: skip
    with swept(root) as process:
        out, error = process.communicate(timeout=180)
    assert error == f"{PROG}: error: 2 of 6 runs failed: Bad seed 0, Dies always seed 0\n"
    assert process.returncode == 1
    assert "FAILED Bad, seed 0" in out and "this was meant to fail" in out
    assert "FAILED Dies always, seed 0" in out and "the Ray worker died" in out
    assert "done   Dies once, seed 0" in out
    assert [starts(root, slug) for slug in ("a", "bad", "dies-once", "dies-always")] == [1, 1, 2, 3]
    assert result(root, "rrt")["pretrained"] == result(root, "a")["checkpoint"]
    assert result(root, "b")["command"] == "python stub-dir/train.py --meet 2 --value 1"
    assert result(root, "a")["threads"] == str(max(1, os.cpu_count() // 2))
    assert not result_path(root, "dies-always").exists()
    assert not any(alive(pid) for run in pids(root) for pid in run)


def test_ctrl_c_ends_the_runs_of_the_workers_in_order(tmp_path):
    root = copy_of_the_repository(tmp_path, {"A": "--hang", "B": "--hang --value 1"})
    with swept(root) as process:
        wait_until(lambda: len(pids(root)) == 2, 120)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error == f"{PROG}: stopped; nothing is lost, the same command goes on\n"
    assert len(list(root.glob(f"checkpoint/{NAME}/*/*/stopped"))) == 2
    assert not any(alive(pid) for run in pids(root) for pid in run)
