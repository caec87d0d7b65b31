"""What a person sees of a sweep: what runs and how far it is, what is done and failed, and the time left."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType

from reproducing.recipes import Cell
from tqdm import tqdm

from common import cli
from common.files import read_json


@dataclass(frozen=True)
class Progress:
    """How far a run is, by its own `metrics.jsonl`."""

    checks: int = 0
    of: int = 0  # checks at most; 0 before the run has said so
    epoch: float = 0
    step: int = 0

    @property
    def share(self) -> float:
        """From 0 to 1."""
        return min(1.0, self.checks / self.of) if self.of else 0.0

    def __str__(self) -> str:
        if not self.of:
            return "starting"
        return f"check {self.checks} of {self.of} (epoch {self.epoch:.1f}, step {self.step:,})"


def progress_of(cell: Cell) -> Progress:
    """The progress of a cell's run; a fresh `Progress` while it has none."""
    runs = [
        (file.stat().st_mtime, file.parent, args)
        for file in (cli.ROOT / cell.store_root).glob("*/args.json")
        if (args := read_json(file)) and args.get("seed") == cell.seed
    ]
    if not runs:
        return Progress()
    _, folder, args = max(runs, key=lambda run: run[0])
    history = folder / "metrics.jsonl"
    lines = history.read_text(encoding="utf-8").splitlines(keepends=True) if history.exists() else []
    whole = [line for line in lines if line.endswith("\n")]
    last = json.loads(whole[-1]) if whole else {}
    return Progress(len(whole), args.get("max_vals", 0), last.get("epoch", 0), last.get("step", 0))


def duration(seconds: float) -> str:
    """Seconds as a person says them: 40 s, 12 min, 3 h 20 min, 2 d 4 h."""
    minutes = round(seconds / 60)
    if seconds < 60:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


class Estimate:
    """The time left, from the rate at which this sweep's own runs have come on."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.began: dict[Cell, tuple[float, float]] = {}  # when, and how far it was
        self.spent = self.work = 0.0  # seconds and shares of the runs that have ended well

    def start(self, cell: Cell) -> None:
        """A run has been started, maybe in the middle."""
        self.began[cell] = time.monotonic(), progress_of(cell).share

    def end(self, cell: Cell, *, well: bool) -> None:
        """A run has ended."""
        began, share = self.began.pop(cell)
        if well and share < 1:  # a run that was there already tells nothing
            self.spent += time.monotonic() - began
            self.work += 1 - share

    def left(self, running: Mapping[Cell, Progress], waiting: Iterable[Cell]) -> float | None:
        """Seconds, None before anything has been measured."""
        now, spent, work = time.monotonic(), self.spent, self.work
        for cell, progress in running.items():
            began, share = self.began[cell]
            spent, work = spent + now - began, work + progress.share - share
        if work <= 0:
            return None
        ahead = sum(1 - p.share for p in running.values()) + sum(1 - progress_of(c).share for c in waiting)
        return spent / work * ahead / min(self.slots, max(1, len(running)))


class Live:
    """A few lines that redraw on a terminal; on a pipe, plain lines: events, and every minute what runs."""

    def __init__(self, total: int, slots: int, *, every: float = 60.0) -> None:
        self.terminal, self.every = sys.stdout.isatty(), every
        self.estimate = Estimate(slots)
        self.shown = 0.0 if self.terminal else time.monotonic()
        how = {"file": sys.stdout, "disable": not self.terminal, "leave": False}
        self.overall = tqdm(total=total, bar_format="|{bar:20}| {n_fmt}/{total_fmt}{desc}", **how)
        one = {"total": 1, "bar_format": "|{bar:20}|{desc}", **how}
        self.bars = [tqdm(position=i + 1, **one) for i in range(slots)]

    def event(self, text: str) -> None:
        """One line that stays."""
        if self.terminal:
            tqdm.write(text, file=sys.stdout)
        else:
            print(text, flush=True)

    def time_left(self, running: Iterable[Cell], waiting: Iterable[Cell]) -> str:
        """In words."""
        seconds = self.estimate.left({cell: progress_of(cell) for cell in running}, waiting)
        return "time left not known yet" if seconds is None else f"about {duration(seconds)} left"

    def show(self, running: Iterable[Cell], waiting: list[Cell], done: int, failed: int) -> None:
        """Draw anew what has changed, twice a second; on a pipe, a line a minute."""
        if time.monotonic() - self.shown < (0.5 if self.terminal else self.every):
            return
        self.shown = time.monotonic()
        at = {cell: progress_of(cell) for cell in running}
        told = f" {done} done, {failed} failed, {len(at)} running, {self.time_left(at, waiting)}"
        if not self.terminal:
            runs = [f"{cell.name}: {progress}" for cell, progress in at.items()]
            print("; ".join([told.strip(), *runs]), flush=True)
            return
        self.overall.n = done + failed
        self.overall.set_description_str(told, refresh=False)
        self.overall.refresh()
        for bar, (cell, progress) in zip(self.bars, at.items(), strict=False):
            bar.n = progress.share
            bar.set_description_str(f" {cell.name}: {progress}", refresh=False)
            bar.refresh()
        for bar in self.bars[len(at) :]:
            bar.clear()

    def __enter__(self) -> Live:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for bar in (*reversed(self.bars), self.overall):
            bar.close()
