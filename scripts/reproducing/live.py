"""Show a sweep as it runs: the progress of each run, what is done and failed, and the time left."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from reproducing.recipes import Cell
from tqdm import tqdm

from common import cli
from common.files import read_json

LENGTHS = ("max_vals", "epochs", "epoch")  # flags of a run's length in checks, by data set


@dataclass(frozen=True)
class Progress:
    """The progress of a run, as its `metrics.jsonl` records it."""

    checks: int = 0
    of: int = 0  # checks at most; 0 until the run has written its args.json
    epoch: float = 0
    step: int = 0

    @property
    def share(self) -> float:
        """The finished share, from 0 to 1."""
        return min(1.0, self.checks / self.of) if self.of else 0.0

    def __str__(self) -> str:
        if not self.of:
            return "starting"
        return f"check {self.checks} of {self.of} (epoch {self.epoch:.1f}, step {self.step:,})"


def progress_of(cell: Cell) -> Progress:
    """Read the progress of a cell's newest run; a fresh `Progress` if there is none."""
    files = (cli.ROOT / cell.store_root).glob("*/args.json")
    for file in sorted(files, key=lambda file: file.stat().st_mtime, reverse=True):
        args = read_json(file)
        if args and args.get("seed") == cell.seed:
            history = file.with_name("metrics.jsonl")
            text = history.read_text(encoding="utf-8") if history.exists() else ""
            lines = text.split("\n")[:-1]  # the last one is empty or half-written
            last = json.loads(lines[-1]) if lines else {}
            of = next((args[name] for name in LENGTHS if name in args), 0)
            return Progress(len(lines), of, last.get("epoch", 0), last.get("step", 0))
    return Progress()


def duration(seconds: float) -> str:
    """Format seconds as 40 s, 12 min, 3 h 20 min or 2 d 4 h."""
    minutes = round(seconds / 60)
    if seconds < 60:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


class Estimate:
    """Estimates the time left from the speed of this sweep's own runs."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.started: dict[Cell, tuple[float, float]] = {}  # time and share at the start
        self.seconds = self.shares = 0.0  # of the runs that ended well

    def start(self, cell: Cell) -> None:
        """Note the start of a run, which may resume in the middle."""
        self.started[cell] = time.monotonic(), progress_of(cell).share

    def end(self, cell: Cell, *, well: bool) -> None:
        """Note the end of a run."""
        started, share = self.started.pop(cell)
        if well and share < 1:  # a run that was complete before says nothing about speed
            self.seconds += time.monotonic() - started
            self.shares += 1 - share

    def left(self, running: Mapping[Cell, Progress], waiting: Iterable[Cell]) -> float | None:
        """Return the seconds left, or None before any progress has been measured."""
        now, seconds, shares = time.monotonic(), self.seconds, self.shares
        for cell, progress in running.items():
            started, share = self.started[cell]
            seconds, shares = seconds + now - started, shares + progress.share - share
        if shares <= 0:
            return None
        ahead = sum(1 - progress.share for progress in running.values())
        ahead += sum(1 - progress_of(cell).share for cell in waiting)
        return seconds / shares * ahead / min(self.slots, max(1, len(running)))


class Live(contextlib.AbstractContextManager):
    """Redraws a few lines on a terminal; on a pipe, prints events, and once a minute the running cells."""

    def __init__(self, total: int, slots: int, *, every: float = 60.0) -> None:
        self.terminal, self.every = sys.stdout.isatty(), every
        self.estimate = Estimate(slots)
        self.shown = 0.0 if self.terminal else time.monotonic()
        self.bars = [self._bar(0, total, " {n_fmt}/{total_fmt}{desc}")]
        self.bars += [self._bar(i + 1, 1, "{desc}") for i in range(slots)]

    def _bar(self, position: int, total: int, text: str) -> tqdm:
        """Return a bar on its line of the terminal; on a pipe, one that shows nothing."""
        return tqdm(
            total=total,
            position=position,
            bar_format="|{bar:20}|" + text,
            file=sys.stdout,
            disable=not self.terminal,
            leave=False,
        )

    def event(self, text: str) -> None:
        """Print a line that stays."""
        tqdm.write(text, file=sys.stdout)
        sys.stdout.flush()

    def time_left(self, running: Iterable[Cell], waiting: Iterable[Cell]) -> str:
        """Return the time left in words."""
        seconds = self.estimate.left({cell: progress_of(cell) for cell in running}, waiting)
        return "time left not known yet" if seconds is None else f"about {duration(seconds)} left"

    def show(self, running: Iterable[Cell], waiting: list[Cell], done: int, failed: int) -> None:
        """Show the present state, twice a second at most; on a pipe, once a minute."""
        if time.monotonic() - self.shown < (0.5 if self.terminal else self.every):
            return
        self.shown = time.monotonic()
        runs = {cell: progress_of(cell) for cell in running}
        summary = f"{done} done, {failed} failed, {len(runs)} running, {self.time_left(runs, waiting)}"
        lines = [f"{cell.name}: {progress}" for cell, progress in runs.items()]
        if not self.terminal:
            self.event("; ".join([summary, *lines]))
            return
        shares = [done + failed, *(progress.share for progress in runs.values())]
        for bar, share, line in zip(self.bars, shares, [summary, *lines], strict=False):
            bar.n = share
            bar.set_description_str(f" {line}")
        for bar in self.bars[len(shares) :]:
            bar.clear()

    def __exit__(self, *error: object) -> None:
        for bar in reversed(self.bars):
            bar.close()
