"""Run cells, a first stage before the rows that need it, and record their results."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from reproducing.launch import Job, Launcher
from reproducing.live import Live
from reproducing.recipes import Cell
from reproducing.results import mismatch, ran_here, record, state

from common.errors import RunFailed

POLL = 0.1  # seconds


class Sweep:
    """Runs the cells that are not finished yet; no run outlives the sweep."""

    def __init__(self, cells: list[Cell], launcher: Launcher) -> None:
        self.launcher = launcher
        self.notes: list[str] = []  # printed before anything runs
        self.waiting: list[Cell] = []
        self.running: dict[Cell, Job] = {}
        self.done: set[Cell] = set()
        self.failed: dict[Cell, str] = {}  # with the reason
        for cell in cells:
            self._plan(cell)
        self.total = len(self.done) + len(self.waiting) + len(self.failed)

    def run(self) -> None:
        """Run all cells.

        Raises RunFailed at the end if a cell failed, and KeyboardInterrupt on Ctrl-C, SIGTERM or SIGHUP,
        after the runs have ended.
        """
        with signals() as received, Live(self.total, self.launcher.slots) as self.live:
            for note in self.notes:
                self.live.event(note)
            try:
                while (self.waiting or self.running) and not received:
                    self._start()
                    self._collect()
                    self.live.show(self.running, self.waiting, len(self.done), len(self.failed))
                    time.sleep(POLL)
            finally:
                self._stop(received)
                self.launcher.close()
        if received:
            raise KeyboardInterrupt
        if self.failed:
            names = ", ".join(f"{cell.row} seed {cell.seed}" for cell in self.failed)
            raise RunFailed(f"{len(self.failed)} of {self.total} runs failed: {names}")

    def _plan(self, cell: Cell) -> None:
        """Sort a cell into done, failed or waiting by its recorded result."""
        if cell in {*self.done, *self.waiting, *self.failed}:
            return
        current = state(cell)
        if current == "recorded" and ran_here(cell):
            self.done.add(cell)
            return
        if current == "another":
            self.failed[cell] = mismatch(cell)
            self.notes.append(f"REFUSED {cell.name}: {self.failed[cell]}")
            return
        if current != "new":
            reason = "was not run here" if current == "recorded" else f"is {current}"
            self.notes.append(f"{cell.result}: {reason}; {cell.name} is run again")
        if cell.first is not None:
            self._plan(cell.first)
        self.waiting.append(cell)

    def _start(self) -> None:
        """Start the cells whose first stage is finished, as far as slots are free."""
        for cell in list(self.waiting):
            if cell.first in self.failed:
                self.waiting.remove(cell)
                self.failed[cell] = "its first stage failed"
                self.live.event(f"NOT RUN {cell.name}: {cell.first.row} failed, which it starts from")
            elif len(self.running) < self.launcher.slots and cell.first not in {*self.waiting, *self.running}:
                self.waiting.remove(cell)
                self.live.estimate.start(cell)
                cell.result.parent.mkdir(parents=True, exist_ok=True)
                self.running[cell] = self.launcher.start(cell)
                self.live.event(f"start  {cell.name}")

    def _collect(self) -> None:
        """Record the runs that have ended."""
        for cell, job in list(self.running.items()):
            code = job.poll()
            if code is not None:
                del self.running[cell]
                self._finish(cell, code)

    def _finish(self, cell: Cell, code: int) -> None:
        """Record the result of a run, or the reason why it has none."""
        try:
            if code:
                log = f"{cell.store_root}/{cell.log.name}"
                raise RunFailed(f"exit code {code}, log {log}: {last_line(cell)}")
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

    def _stop(self, received: list[int]) -> None:
        """Ask every run to end and wait for it; kill them on a second signal."""
        for job in self.running.values():
            job.terminate()
        if self.running:
            self.live.event(f"Stopping {len(self.running)} runs; once more to stop at once")
        while any(job.poll() is None for job in self.running.values()):
            if len(received) > 1:
                for job in self.running.values():
                    job.kill()
            time.sleep(POLL)


def last_line(cell: Cell) -> str:
    """Return the last line of a run's log."""
    return cell.log.read_text(encoding="utf-8", errors="replace").strip().rsplit("\n", 1)[-1]


@contextmanager
def signals() -> Iterator[list[int]]:
    """Yield a list that collects Ctrl-C, SIGTERM and the end of the terminal.

    They are collected and not raised, so that no run is lost between its start and its entry in `running`.
    """
    received: list[int] = []
    previous = {
        number: signal.signal(number, lambda number, _: received.append(number))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) != signal.SIG_IGN  # nohup ignores SIGHUP
    }
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
