"""What a person reads of a run: the shot table, one progress bar, and the same on a pipe."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tqdm import tqdm

from common.metrics import METRICS, WITH_DISTRIBUTION

log = logging.getLogger("dir")
HEADINGS = {
    "all": "All", "many": "Many", "medium": "Medium", "few": "Few",
    "zero": "Zero", "interpolation": "Interp.", "extrapolation": "Extrap.",
}  # fmt: skip


def number(value: float | None) -> str:
    """Return a metric as the tables print it: three decimals, or a dash for a group without samples."""
    return "–" if value is None else f"{value:.3f}"


def shot_text(shots: Mapping[str, Mapping[str, Any]], metrics: tuple[str, ...]) -> str:
    """Return the shot table as aligned text: a line of n, then a line per metric; arrows say which way is better."""
    header = ["", *(HEADINGS[group] for group in shots)]
    rows = [["n", *(f"{shots[group]['n']:,}" for group in shots)]]
    more = [name for name in WITH_DISTRIBUTION if name in shots["all"]]
    for key, metric in {METRICS[name].key: METRICS[name] for name in (*metrics, *more)}.items():
        arrow = "↑" if metric.higher_is_better else "↓"
        rows.append([f"{metric.heading} {arrow}", *(number(shots[group][key]) for group in shots)])
    return "\n".join(
        f"  {row[0]:<12}" + "".join(f" {cell:>9}" for cell in row[1:]) for row in [header, *rows]
    )


class _BarFriendly(logging.StreamHandler):
    """Writes log lines above the progress bar instead of through it."""

    def emit(self, record: logging.LogRecord) -> None:
        with tqdm.external_write_mode(file=sys.stdout):
            super().emit(record)


def start_logging(file: Path | None) -> None:
    """Log to standard output and, with times, to `file` (appending)."""
    stop_logging()
    log.setLevel(logging.INFO)
    log.propagate = False
    log.addHandler(_BarFriendly(sys.stdout))
    if file is not None:
        handler = logging.FileHandler(file, encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s | %(message)s"))
        log.addHandler(handler)


def stop_logging() -> None:
    """Close what `start_logging` opened."""
    for handler in list(log.handlers):
        log.removeHandler(handler)
        handler.close()


class Progress:
    """A tqdm bar on a terminal; on a pipe, one log line every `every` seconds with the same content."""

    def __init__(self, total: int, unit: str, what: str, *, start: int = 0, every: float = 10.0) -> None:
        self.what, self.unit, self.total, self.every = what, unit, total, every
        terminal = sys.stderr.isatty()
        self.bar = tqdm(
            total=total,
            initial=start,
            unit=unit,
            desc=what,
            leave=False,
            disable=not terminal,
            mininterval=0.5,
        )
        self.done, self.note = start, ""
        self._since, self._done_then = time.monotonic(), start

    def advance(self, items: int, note: str = "") -> None:
        """`items` more are done; `note` (the loss, say) stands at the end of the bar."""
        self.done += items
        self.note = note or self.note
        if not self.bar.disable:
            self.bar.set_postfix_str(self.note, refresh=False)
            self.bar.update(items)
            return
        seconds = time.monotonic() - self._since
        if seconds >= self.every:
            rate = (self.done - self._done_then) / seconds
            share = 100 * self.done / max(self.total, 1)
            log.info(
                "%s: %d/%d (%.0f %%), %.0f %s/s  %s",
                self.what,
                self.done,
                self.total,
                share,
                rate,
                self.unit,
                self.note,
            )
            self._since, self._done_then = time.monotonic(), self.done

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.close()
