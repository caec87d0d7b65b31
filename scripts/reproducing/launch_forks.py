"""Start the runs of a sweep as forks of this process, which imports what they need once.

A run on a small table takes less time than its imports. A fork calls the `main` of the script that `Local`
would start, with the same arguments, folder and log, and writes the same to the byte. It has one thread, as
`Local` gives where there are as many jobs as cores, and sees no GPU.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import signal
import sys
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import torch
from reproducing.launch import Job, die_with
from reproducing.recipes import Cell

from common import cli

# What a run imports only when it needs it, each a second or more.
LATE = (
    "sklearn.ensemble",
    "sklearn.impute",
    "sklearn.preprocessing",
    "torch._dynamo",
    "torch.utils.tensorboard",
)


class Fork:
    """A run in a child of this process (a `Job`)."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.code: int | None = None

    def poll(self) -> int | None:
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code

    def terminate(self) -> None:
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


class Forks:
    """Starts runs as forks of this process (a `Launcher`)."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.scripts: dict[str, ModuleType] = {}

    def start(self, cell: Cell) -> Job:
        script, *argv = cell.command()
        if script not in self.scripts:
            self.scripts[script] = imported(script)
        cell.log.parent.mkdir(parents=True, exist_ok=True)
        sys.stdout.flush()
        parent = os.getpid()
        pid = os.fork()
        if not pid:
            run(self.scripts[script], script, argv, cell.log, parent)
        return Fork(pid)

    def close(self) -> None:
        self.scripts.clear()


def imported(script: str) -> ModuleType:
    """Return a script of the repository as a module, with all that its runs import."""
    for name in LATE:
        importlib.import_module(name)
    spec = importlib.util.spec_from_file_location(script.replace("/", "."), cli.ROOT / script)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(module: ModuleType, script: str, argv: list[str], log: Path, parent: int) -> NoReturn:
    """Turn this fork into the run of a script, as a process of its own would be, and end with its exit code."""
    code = 1
    try:
        os.setsid()
        die_with(parent)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        for stream, file in ((0, os.open(os.devnull, os.O_RDONLY)), (1, opened(log)), (2, 1)):
            os.dup2(file, stream)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
        os.chdir(cli.ROOT)
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        torch.set_num_threads(1)  # small matrices gain nothing by a second
        code = cli.run_command(script, lambda: module.main(argv))
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def opened(log: Path) -> int:
    """Return the descriptor of a log that is appended to."""
    return os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
