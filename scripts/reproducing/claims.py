"""Verdicts on what the paper draws from its tables, with a bootstrap interval in place of one number.

The interval is the percentile interval (Efron and Tibshirani, An Introduction to the Bootstrap, chapter 13)
of the difference of two rows' means over seeds. Test samples of the shot are drawn with replacement, the same
ones for both rows, as both predict the same test set; seeds are drawn from each row's own, independently.
With few seeds it is somewhat too narrow, and with one it speaks of test samples alone. Depth keeps its
predictions by bin, so bins stand in for samples there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal

import numpy as np
from reproducing.predictions import of_shot
from reproducing.recipes import Cell, Claim, Table
from reproducing.results import read_predictions, read_result
from reproducing.table_numbers import difference_of, paper_number, rows_of

from common.errors import UserError
from common.metrics import METRICS

if TYPE_CHECKING:
    import pandas as pd

RESAMPLES = 2000
LEVEL = 95  # per cent
TINY = 1e-10  # in place of an exact hit, whose logarithm GM cannot take (as published on STS-B)
Metric = Callable[[np.ndarray], np.ndarray]  # from sums of moments, `(resamples, k)`, to `(resamples,)`
CHUNK = 200  # resamples at a time, to bound the memory


@dataclass(frozen=True)
class Verdict:
    """What came of a claim; differences are `better` less `than`."""

    claim: Claim
    ours: float
    paper: float | None
    interval: tuple[float, float] | None  # None where predictions were not kept

    @property
    def word(self) -> Literal["holds", "does not hold", "undecided", "no predictions"]:
        """`holds`, `does not hold`: the interval leaves 0 out, on the claimed side or on the other."""
        if self.interval is None:
            return "no predictions"
        low, high = self.interval
        if not METRICS[self.claim.metric].higher_is_better:
            low, high = -high, -low
        return "holds" if low > 0 else "does not hold" if high < 0 else "undecided"


def verdicts(table: Table) -> list[Verdict]:
    """Return the verdict on each claim whose two rows have results, in the order of the recipes.

    Raises UserError if predictions do not belong to their results, or two rows are of different test sets.
    """
    rows = rows_of(table)
    standin = any("standin" in result for results in rows.values() for result in results)
    found = [_verdict(table, claim, standin=standin) for claim in table.claims]
    return [verdict for verdict in found if verdict is not None]


def _verdict(table: Table, claim: Claim, *, standin: bool) -> Verdict | None:
    """Return the verdict on a claim; None if one of its rows has no result."""
    pair = claim.better, claim.than
    ours = difference_of(*(_mean(table, claim, row) for row in pair))
    if ours is None:
        return None
    paper = difference_of(*(paper_number(table, row, claim.metric, claim.shot) for row in pair))
    return Verdict(claim, ours, None if standin else paper, interval(table, claim))


def _mean(table: Table, claim: Claim, row: str) -> float | None:
    """Return the recorded mean over seeds."""
    results = [read_result(cell) for cell in table.cells() if cell.row == row]
    values = [result["shots"].get(claim.shot, {}).get(claim.metric) for result in results if result]
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def interval(table: Table, claim: Claim) -> tuple[float, float] | None:
    """Return the interval of the difference of the two rows, or None without predictions."""
    pair = [_moments_of_row(table, row, claim) for row in (claim.better, claim.than)]
    if not all(pair):
        return None
    shapes = {moments.shape for row in pair for moments in row}
    if len(shapes) > 1:
        raise UserError(f"{table.name}: {claim.better} and {claim.than} are of different test sets")
    first, second = resampled([(row, claim.metric) for row in pair])
    low, high = np.percentile(differences(first, second), [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
    return (float(low), float(high)) if np.isfinite([low, high]).all() else None


def samples_of(table: Table) -> str:
    """Return what the intervals of a table draw: depth keeps its predictions by bin."""
    return "depth bins" if "rmse" in table.metrics else "test samples"


def differences(better: np.ndarray, than: np.ndarray) -> np.ndarray:
    """Return the difference of two rows in each resample; the seeds of each are drawn independently."""
    first, second = (
        np.take_along_axis(row, seeds, axis=1).mean(axis=1)
        for row, seeds in zip((better, than), _seeds(better.shape, than.shape), strict=True)
    )
    return first - second


@cache
def _seeds(*shapes: tuple[int, int]) -> list[np.ndarray]:
    """Draw which seeds are in each resample of each row, whose shapes are `(resamples, seeds)`."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, shape[1], size=shape) for shape in shapes]


def resampled(rows: Sequence[tuple[list[np.ndarray], str]], resamples: int = RESAMPLES) -> list[np.ndarray]:
    """Return the metric of each row, given as the moments of its seeds, in each resample `(resamples, seeds)`.

    The same test samples are drawn for all rows.
    """
    seeds = [seed for row, _ in rows for seed in row]
    draws, weight = (
        _draws(len(seeds[0]), resamples),
        seeds[0][:, :1],
    )  # all seeds have it as their first moment
    stacked = np.concatenate([weight, *(seed[:, 1:] for seed in seeds)], axis=1)
    sums = np.concatenate([draws[i : i + CHUNK].astype(float) @ stacked for i in range(0, resamples, CHUNK)])
    parts = np.split(sums[:, 1:], np.cumsum([seed.shape[1] - 1 for seed in seeds])[:-1], axis=1)
    each = (np.concatenate([sums[:, :1], part], axis=1) for part in parts)
    return [np.stack([MOMENTS[metric](next(each)) for _ in row], axis=1) for row, metric in rows]


@cache
def _draws(n: int, resamples: int) -> np.ndarray:
    """Draw how often each of n samples is in each resample, uint8 `(resamples, n)`."""
    rng = np.random.default_rng(0)
    counts = np.empty((resamples, n), np.uint8)
    for first in range(0, resamples, CHUNK):
        own = counts[first : first + CHUNK]
        drawn = rng.integers(0, n, own.shape) + n * np.arange(len(own))[:, None]
        own[:] = np.bincount(drawn.ravel(), minlength=own.size).reshape(own.shape)
    return counts


def _moments_of_row(table: Table, row: str, claim: Claim) -> list[np.ndarray]:
    """Return the moments of each seed of a row; none if a seed lacks predictions."""
    cells = [cell for cell in table.cells() if cell.row == row and read_result(cell)]
    found = [moments(cell, claim.metric, claim.shot) for cell in cells]
    kept = [part for part in found if part is not None]
    return kept if len(kept) == len(found) else []


def moments(cell: Cell, metric: str, shot: str) -> np.ndarray | None:
    """Return the moments of a metric, `(samples, k)`: a 1 or the pixels first, so that sums give means.

    None without predictions or result; raises UserError where they are not those of the cell's result.
    """
    frame, result = read_predictions(cell), read_result(cell)
    if frame is None or result is None:
        return None
    found = moments_of(frame, metric, shot)
    recorded = result["shots"][shot].get(metric)
    computed = MOMENTS[metric](found.sum(axis=0)[None])[0] if len(found) else np.nan
    if recorded is not None and not np.isclose(computed, recorded, rtol=1e-4, atol=1e-8):
        raise UserError(
            f"{cell.predictions}: does not belong to {cell.result.name} ({metric}, {shot}: {computed} and "
            f"{recorded}); restore both, or delete that result and run scripts/reproduce.py again"
        )
    return found


def moments_of(frame: pd.DataFrame, metric: str, shot: str) -> np.ndarray:
    """Return the moments of a metric over the samples, or bins, of a shot; none where it is not known."""
    chosen = of_shot(frame, shot)
    rows = frame.iloc[:0] if chosen is None else chosen
    return _of_bins(rows, metric) if "n" in frame else _of_samples(rows, metric)


def _of_samples(frame: pd.DataFrame, metric: str) -> np.ndarray:
    # float32 first: the file has the shortest text that gives the same float32.
    p, y = (frame[name].to_numpy(np.float32).astype(float) for name in ("prediction", "label"))
    error = np.abs(p - y)
    columns = {
        "mae": [error],
        "mse": [error**2],
        "gm": [np.log(np.maximum(error, TINY))],
        "pearson": [p, y, p * p, y * y, p * y],
    }
    if metric in frame:  # each sample's value is there, as NLL's is
        columns[metric] = [frame[metric].to_numpy(float)]
    return np.stack([np.ones_like(p), *columns[metric]], axis=1)


def _of_bins(frame: pd.DataFrame, metric: str) -> np.ndarray:
    frame = frame[frame["n"] > 0]
    n, value = frame["n"].to_numpy(float), frame["mse" if metric == "rmse" else metric].to_numpy(float)
    return np.stack([n, n * value], axis=1)


def _mean_of(sums: np.ndarray) -> np.ndarray:
    return sums[:, 1] / sums[:, 0]


def _pearson(sums: np.ndarray) -> np.ndarray:
    p, y, pp, yy, py = (sums[:, 1:] / sums[:, :1]).T
    with np.errstate(invalid="ignore", divide="ignore"):
        return (py - p * y) / np.sqrt((pp - p * p) * (yy - y * y))


MOMENTS: dict[str, Metric] = {
    "mae": _mean_of,
    "mse": _mean_of,
    "gm": lambda sums: np.exp(_mean_of(sums)),
    "pearson": _pearson,
    "nll": _mean_of,
    "rmse": lambda sums: np.sqrt(_mean_of(sums)),
    "delta1": _mean_of,
}
