"""Run cells, a first stage before the rows that need it, and keep what they end with."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from reproducing.launch import Job, Launcher
from reproducing.live import Live
from reproducing.recipes import Cell
from reproducing.results import another, ran_here, record, state

from common.errors import RunFailed

POLL = 0.1  # seconds


class Sweep:
    """The cells that are not finished yet, run on a launcher; whatever ends it leaves no run behind."""

    def __init__(self, cells: list[Cell], launcher: Launcher) -> None:
        self.launcher = launcher
        self.told: list[str] = []  # before anything runs
        self.waiting: list[Cell] = []
        self.running: dict[Cell, Job] = {}
        self.done: set[Cell] = set()
        self.failed: dict[Cell, str] = {}  # and why
        for cell in cells:
            self._plan(cell)
        self.total = len(self.done) + len(self.waiting) + len(self.failed)

    def run(self) -> None:
        """Run all cells; raises RunFailed if one failed, after the others have ended, and KeyboardInterrupt
        on Ctrl-C, SIGTERM and SIGHUP, after its runs have ended."""
        with signals() as received, Live(self.total, self.launcher.slots) as self.live:
            for line in self.told:
                self.live.event(line)
            try:
                while (self.waiting or self.running) and not received:
                    self._drop_orphans()
                    self._start()
                    self._collect()
                    self.live.show(self.running, self.waiting, len(self.done), len(self.failed))
                    time.sleep(POLL)
            finally:
                self._end_all(received)
                self.launcher.close()
        if received:
            raise KeyboardInterrupt
        if self.failed:
            names = ", ".join(f"{cell.row} seed {cell.seed}" for cell in self.failed)
            raise RunFailed(f"{len(self.failed)} of {self.total} runs failed: {names}")

    def _plan(self, cell: Cell) -> None:
        """Sort a cell in by what there is of it."""
        if cell in {*self.done, *self.waiting, *self.failed}:
            return
        found = state(cell)
        if found == "recorded" and ran_here(cell):
            self.done.add(cell)
            return
        if found == "another":
            self.failed[cell] = another(cell)
            self.told.append(f"REFUSED {cell.name}: {self.failed[cell]}")
            return
        if found != "new":
            why = "was not run here" if found == "recorded" else f"is {found}"
            self.told.append(f"{cell.result}: {why}; {cell.name} is run again")
        if cell.first is not None:
            self._plan(cell.first)
        self.waiting.append(cell)

    def _start(self) -> None:
        """Start what can start."""
        while len(self.running) < self.launcher.slots:
            ahead = {*self.waiting, *self.running}
            cell = next((cell for cell in self.waiting if cell.first not in ahead), None)
            if cell is None:
                return
            self.waiting.remove(cell)
            self.live.estimate.start(cell)
            self.running[cell] = self.launcher.start(cell)
            self.live.event(f"start  {cell.name}")

    def _drop_orphans(self) -> None:
        """Give up the rows whose first stage failed."""
        for cell in [cell for cell in self.waiting if cell.first in self.failed]:
            self.waiting.remove(cell)
            self.failed[cell] = "its first stage failed"
            self.live.event(f"NOT RUN {cell.name}: {cell.first.row} failed, which it starts from")

    def _collect(self) -> None:
        """Note what has ended."""
        for cell, job in list(self.running.items()):
            code = job.poll()
            if code is not None:
                del self.running[cell]
                self._finish(cell, code, job.fault)

    def _finish(self, cell: Cell, code: int, fault: str) -> None:
        try:
            if code:
                what = fault or f"exit code {code}"
                raise RunFailed(f"{what}, log {cell.store_root}/{cell.log.name}: {last_line(cell)}")
            record(cell)
            self.done.add(cell)
        except RunFailed as error:
            self.failed[cell] = str(error)
        self.live.estimate.end(cell, well=cell in self.done)
        ended = len(self.done) + len(self.failed)
        word = "done  " if cell in self.done else "FAILED"
        left = f"; {self.live.time_left(self.running, self.waiting)}" if ended < self.total else ""
        self.live.event(f"{word} {cell.name}; {ended}/{self.total}{left}")
        if cell in self.failed:
            self.live.event(f"       {self.failed[cell]}")

    def _end_all(self, received: list[int]) -> None:
        """Ask every run to end, and wait; a second signal does not."""
        for job in self.running.values():
            job.stop()
        if self.running:
            self.live.event(f"Stopping {len(self.running)} runs; once more to stop at once")
        while any(job.poll() is None for job in self.running.values()):
            if len(received) > 1:
                for job in self.running.values():
                    job.stop(at_once=True)
            time.sleep(POLL)


def last_line(cell: Cell) -> str:
    """What a run said last."""
    return cell.log.read_text(encoding="utf-8", errors="replace").strip().rsplit("\n", 1)[-1]


@contextmanager
def signals() -> Iterator[list[int]]:
    """A list that is empty until Ctrl-C, SIGTERM or the end of the terminal comes.

    Noted and not raised: between the start of a run and its being known there is no moment to lose it.
    """
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    numbers = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]  # as nohup does
    previous = {number: signal.signal(number, note) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
