"""Start the runs of a sweep as processes of this machine: a GPU each where there are GPUs, else CPU cores."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from reproducing.recipes import Cell

from common import cli

LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
PR_SET_PDEATHSIG = 1


class Job(Protocol):
    """One run that has been started."""

    fault: str  # why it failed, where its log cannot say

    def poll(self) -> int | None:
        """Its exit code, None while it runs."""

    def stop(self, *, at_once: bool = False) -> None:
        """Ask it to write a checkpoint and end, or end it."""


class Launcher(Protocol):
    """Where runs are started, and how many at a time."""

    slots: int

    def start(self, cell: Cell) -> Job:
        """Start a cell; no more than `slots` at a time."""

    def close(self) -> None:
        """Let go of what the launcher holds; no run is left."""


def start_child(command: list[str], log: Path, environment: Mapping[str, str]) -> subprocess.Popen:
    """Start `python command` in the repository's root, its output appended to `log`.

    It has a session of its own, so that Ctrl-C reaches the sweep alone, which ends it in order; under Linux
    it ends with this process, however that ends.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    parent = os.getpid()

    def die_with_parent() -> None:
        if LIBC is not None:
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # it died before that
                os._exit(1)

    with log.open("a") as output:
        return subprocess.Popen(
            [sys.executable, *command], cwd=cli.ROOT, env={**os.environ, **environment},
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            preexec_fn=die_with_parent,
        )  # fmt: skip


def prepared(cell: Cell) -> list[str]:
    """The command of a cell, the folder of its result made."""
    cell.result.parent.mkdir(parents=True, exist_ok=True)
    return cell.command()


class Process:
    """A run as a child of this process (a `Job`)."""

    fault = ""

    def __init__(self, child: subprocess.Popen) -> None:
        self.child = child

    def poll(self) -> int | None:
        return self.child.poll()

    def stop(self, *, at_once: bool = False) -> None:
        if self.child.poll() is None:
            self.child.kill() if at_once else self.child.terminate()


def gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch  # slow to import

    if not torch.cuda.is_available():
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(i) for i in range(torch.cuda.device_count())]


class Local:
    """`slots` runs at a time on this machine (a `Launcher`), which share its cores and its GPUs."""

    def __init__(self, slots: int) -> None:
        self.slots, self.gpus = slots, gpus()
        self.threads = max(1, (os.cpu_count() or 1) // slots)
        self.held: dict[int, Job] = {}  # slot -> its run

    def start(self, cell: Cell) -> Job:
        slot = next(i for i in range(self.slots) if i not in self.held or self.held[i].poll() is not None)
        environment = {"OMP_NUM_THREADS": str(self.threads)}
        if self.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self.gpus[slot % len(self.gpus)]
        self.held[slot] = Process(start_child(prepared(cell), cell.log, environment))
        return self.held[slot]

    def close(self) -> None:
        self.held.clear()
