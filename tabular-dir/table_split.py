"""Training, validation and test rows of a table, the bins of its labels, and its shots."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from table_columns import FIRST_LINE

from common.bins import Bins
from common.errors import UserError
from common.methods.resample import NOISE_RATIO, Plan
from common.metrics import Shots
from common.task import Batch, Draw

SPLITS = ("train", "val", "test")
MOST_BINS = 100  # of bins that are chosen from the data
HELD_OUT = 8  # validation and test have an eighth of the rows each
OF_A_BIN = 5  # and of each bin at most a fifth each
SHARE = "few, medium and many are the rarest, middle and densest third of training rows, by the rows of a bin"


@dataclass(eq=False)
class TableSplit:
    """One split: vectors float32 `(N, d)`, labels and weights float32 `(N,)`, and the line of each row."""

    augments: ClassVar[bool] = False
    vectors: np.ndarray
    labels: np.ndarray
    numbers: int  # the vectors' first entries are numbers, the others 0 or 1
    lines: np.ndarray | None = None
    weights: np.ndarray | None = None
    lengths: None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def names(self) -> tuple[str, np.ndarray] | None:
        """The column of `predictions.csv` that says which row of the CSV it is."""
        return None if self.lines is None else ("line", self.lines)

    def weighted(self, weights: np.ndarray) -> TableSplit:
        """Return this split with weights of the loss."""
        return replace(self, weights=weights)

    def batches(self, draws: Iterable[Draw], *, augment: bool, device: torch.device) -> Iterator[Batch]:
        """Yield the batch of each draw; nothing is augmented."""
        columns = (self.labels, self.weights)
        vectors = torch.from_numpy(self.vectors).to(device)
        labels, weights = (None if c is None else torch.from_numpy(c).to(device)[:, None] for c in columns)
        assert labels is not None
        for draw in draws:
            rows = torch.from_numpy(draw.indices).to(device)
            yield Batch(vectors[rows], labels[rows], None if weights is None else weights[rows])

    def resampled(self, rows: np.ndarray, plan: Callable[[np.ndarray], Plan]) -> TableSplit:
        """Return the split that `plan` makes; numbers are mixed, the rest is that of the first row."""
        made = plan(self.vectors[rows])
        vectors, numbers = self.vectors[made.first], slice(0, self.numbers)
        spread, share = self.vectors[rows, numbers].std(axis=0), made.share[:, None]
        vectors[:, numbers] += share * (self.vectors[made.second, numbers] - vectors[:, numbers])
        for row in np.flatnonzero(made.noise):
            noise = np.random.default_rng(made.noise[row]).standard_normal(self.numbers, np.float32)
            vectors[row, numbers] += NOISE_RATIO * spread * noise
        return TableSplit(vectors, made.labels, self.numbers)


def read_splits(column: pd.Series, path: Path) -> np.ndarray:
    """Return the split of each row, which the column says.

    Raises UserError for another word, or a split without rows.
    """
    splits = column.fillna("").to_numpy(str)
    unknown = np.flatnonzero(~np.isin(splits, SPLITS))
    if len(unknown):
        row = int(unknown[0])
        raise UserError(
            f"{path}, line {row + FIRST_LINE}: {column.name} '{splits[row]}' is none of {', '.join(SPLITS)}"
        )
    for name in SPLITS:
        if name not in splits:
            raise UserError(
                f"{path}: {column.name} has no {name} row; add some, or --split balanced makes splits"
            )
    return splits


def make_splits(labels: np.ndarray, bins: Bins, groups: np.ndarray, seed: int) -> np.ndarray:
    """Return a random split in which validation and test have the same number of rows of each bin, as far as there are.

    Rows of one group stay together. Bins of less than three rows are for training alone.
    """
    index, splits = bins.index(labels), np.full(len(labels), SPLITS[0], object)
    wanted = {name: per_bin(bins.counts(labels)) for name in SPLITS[1:]}
    _, group = np.unique(groups, return_inverse=True)
    rows_of = np.split(np.argsort(group, kind="stable"), np.cumsum(np.bincount(group))[:-1])
    for number in np.random.default_rng(seed).permutation(len(rows_of)):
        rows = rows_of[number]
        own = np.bincount(index[rows], minlength=bins.num)
        for name, left in wanted.items():
            if 2 * np.minimum(own, left).sum() >= len(rows):
                splits[rows] = name
                left -= np.minimum(own, left)
                break
    return splits.astype(str)


def per_bin(counts: np.ndarray) -> np.ndarray:
    """Return how many rows of each bin validation and test get: the same of all bins that have them."""
    most = np.where(counts < 3, 0, np.maximum(counts // OF_A_BIN, 1))
    total = counts.sum() / HELD_OUT
    level = next((n for n in range(1, int(most.max()) + 1) if np.minimum(most, n).sum() >= total), most.max())
    return np.minimum(most, level)


def check_groups(groups: pd.Series, splits: np.ndarray, path: Path) -> None:
    """Raise UserError where a group stands in two splits."""
    first = pd.Series(splits).groupby(groups.to_numpy()).transform("first")
    other = np.flatnonzero((first != splits) & groups.notna().to_numpy())
    if len(other):
        row = int(other[0])
        raise UserError(
            f"{path}, line {row + FIRST_LINE}: {groups.name} {groups.iloc[row]!r} stands in {first.iloc[row]} and in "
            f"{splits[row]}; give its rows one split, or --split balanced makes splits that keep them together"
        )


def label_bins(labels: np.ndarray, width: float | None, number: int | None) -> Bins:
    """Return the bins of these labels: of a width, of a number, or chosen.

    Chosen are a bin for each whole number, or else those of Freedman and Diaconis (width twice the
    interquartile range, divided by the cube root of the number of labels); 100 at most.
    """
    low, high = float(labels.min()), float(labels.max())
    if width is not None:
        low = math.floor(low / width) * width
        count = math.floor((high - low) / width) + 1
        if count > 10_000:
            raise UserError(
                f"--bin_width {width:g}: makes {count:,} bins from {low:g} to {high:g}; give a greater one"
            )
        return Bins.uniform(low, low + count * width, count)
    if number is not None:
        return Bins.uniform(low, high, number)
    if (labels == np.round(labels)).all() and high - low < MOST_BINS:
        return Bins.integers(int(low), int(high))
    quarter, three = np.quantile(labels, (0.25, 0.75))
    wide = 2 * (three - quarter) / len(labels) ** (1 / 3)
    return Bins.uniform(
        low, high, min(max(math.ceil((high - low) / wide), 1), MOST_BINS) if wide else MOST_BINS
    )


def shots_by_share(bins: Bins, labels: np.ndarray) -> Shots:
    """Return shots of about a third of the training rows each: in the rarest, the middle and the densest bins."""
    counts = bins.counts(labels)
    filled = np.unique(counts[counts > 0])
    cuts = (filled[:-1] + filled[1:]) / 2 if len(filled) > 1 else filled
    share = np.array([counts[counts < max(cut, filled[0] + 1)].sum() for cut in cuts]) / counts.sum()
    few_below, many_above = (float(cuts[np.abs(share - third).argmin()]) for third in (1 / 3, 2 / 3))
    return Shots(bins, counts, many_above, few_below, SHARE)
