"""Start the runs of a sweep as processes of this machine, on a GPU each where there are GPUs."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from reproducing.recipes import Cell

from common import cli

LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
PR_SET_PDEATHSIG = 1


class Job(Protocol):
    """A started run, with the methods of `subprocess.Popen` that a sweep needs."""

    def poll(self) -> int | None:
        """Return its exit code, or None while it runs."""

    def terminate(self) -> None:
        """Ask it to write a checkpoint and end."""

    def kill(self) -> None:
        """End it at once."""


class Launcher(Protocol):
    """Starts runs, at most `slots` at a time."""

    slots: int

    def start(self, cell: Cell) -> Job:
        """Start the run of a cell."""

    def close(self) -> None:
        """Release what the launcher holds; no run is left."""


def start_child(command: Sequence[str], log: Path, environment: Mapping[str, str]) -> subprocess.Popen:
    """Start `python command` in the repository's root and append its output to `log`.

    The child has its own session, so that Ctrl-C reaches the sweep alone, which ends its runs in order. Under
    Linux it dies with this process.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    parent = os.getpid()
    with log.open("a") as output:
        return subprocess.Popen(
            [sys.executable, *command], cwd=cli.ROOT, env={**os.environ, **environment},
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            preexec_fn=lambda: die_with(parent),
        )  # fmt: skip


def torchrun(command: Sequence[str], processes: int) -> list[str]:
    """Return a command of the interpreter as so many processes of torch run it."""
    if processes == 1:
        return list(command)
    return ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}", *command]


def die_with(parent: int) -> None:
    """Let this process, a child of `parent`, end when that does."""
    if LIBC is not None:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # the parent died before the call above
            os._exit(1)


def gpus() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch  # slow to import

    if not torch.cuda.is_available():
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]


class Local:
    """Starts runs of one or more processes on this machine (a `Launcher`); they share its cores and its GPUs."""

    def __init__(self, slots: int, processes: int = 1) -> None:
        self.slots, self.processes, self.gpus = slots, processes, gpus()
        self.threads = max(1, (os.cpu_count() or 1) // (slots * processes))
        self.jobs: dict[int, Job] = {}  # by slot

    def start(self, cell: Cell) -> Job:
        slot = next(i for i in range(self.slots) if i not in self.jobs or self.jobs[i].poll() is not None)
        environment = {"OMP_NUM_THREADS": str(self.threads)}
        if self.gpus:
            own = range(slot * self.processes, (slot + 1) * self.processes)
            names = dict.fromkeys(self.gpus[number % len(self.gpus)] for number in own)
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(names)
        self.jobs[slot] = start_child(torchrun(cell.command(), self.processes), cell.log, environment)
        return self.jobs[slot]

    def close(self) -> None:
        self.jobs.clear()
