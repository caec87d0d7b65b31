"""What the tests of whole runs share: reading a run directory, comparing two, and children to kill."""

import json
import os
import shutil
import signal
import tempfile
import threading
import time
from pathlib import Path

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tqdm import tqdm

FILES = {
    "args.json", "training.log", "metrics.jsonl", "ckpt.pth.tar", "ckpt.best.pth.tar", "metrics.json",
    "predictions.csv", ".lock",
}  # fmt: skip


def read(path):
    return json.loads(path.read_text())


def history(path):
    """The records of `metrics.jsonl`; none where there is no such file yet."""
    lines = (path / "metrics.jsonl").read_text().splitlines() if (path / "metrics.jsonl").exists() else []
    return [json.loads(line) for line in lines]


def snapshot(path):
    """Every file's bytes and time of change; the lock is only held."""
    files = [file for file in path.rglob("*") if file.name != ".lock" and file.is_file()]
    return {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in files}


def scalars(path):
    """The TensorBoard scalars of a run: name -> [(step, value), …].

    TensorBoard reads event files by name, and those of two processes in one second, which only a test has,
    are not named in their order: so they are read here under names that are.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = sorted(path.glob("events.*"), key=lambda file: file.stat().st_mtime_ns)
        for number, file in enumerate(files):
            shutil.copy(file, Path(folder) / f"events.out.tfevents.{number:010d}.test")
        events = EventAccumulator(folder, size_guidance={"scalars": 0})
        events.Reload()
        return {name: [(e.step, e.value) for e in events.Scalars(name)] for name in events.Tags()["scalars"]}


def logged(path):
    """TensorBoard's scalars, name -> {step: value}; a check that is there twice fails."""
    found = {}
    for name, points in scalars(path).items():
        found[name] = dict(points)
        # A test that was killed is done again.
        assert len(found[name]) == len(set(points) if name.startswith("test/") else points), name
    return found


def outcome(path):
    """All that a run ends with, less the wall clock."""
    ends = [torch.load(path / name) for name in ("ckpt.pth.tar", "ckpt.best.pth.tar")]
    for end in ends:
        end["state"].pop("seconds")
    records = history(path)
    assert all(record.pop("seconds") >= 0 for record in records)
    files = [(path / name).read_bytes() for name in ("metrics.json", "predictions.csv", "args.json")]
    return ends, records, files, logged(path)


def same(a, b):
    """Bit for bit, through dicts, lists and tensors."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def assert_same_end(path, expected):
    """The run in `path` ended as `expected`, an `outcome`, and left no other file."""
    assert {file.name for file in path.iterdir() if not file.name.startswith("events.")} == FILES
    for mine, theirs in zip(outcome(path), expected, strict=True):
        assert same(mine, theirs)


def in_child(run, prepare=lambda: None):
    """The process number of a forked child that exits with `run()`; importing torch anew takes seconds."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            tqdm.set_lock(threading.RLock())  # its own is shared: a child killed with it would stop us all
            prepare()
            code = run()
        finally:
            os._exit(code)
    return pid


def ended(pid, seconds=60):
    """The exit code of a child; one that hangs is killed, and fails the test."""
    end = time.monotonic() + seconds
    while not (done := os.waitpid(pid, os.WNOHANG))[0]:
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise AssertionError("the child hangs")
        time.sleep(0.002)
    return os.waitstatus_to_exitcode(done[1])


def killed_at(target, name, number):
    """The process kills itself, as the kernel would, at the nth call of `target.name`."""
    real, calls = getattr(target, name), []

    def dies(*args, **how):
        calls.append(None)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **how)

    setattr(target, name, dies)
