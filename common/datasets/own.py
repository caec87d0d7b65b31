"""What a CSV of one's own needs, whatever its rows are: splits, groups, label bins, and shots."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from common.bins import Bins
from common.datasets.faces import SPLITS
from common.errors import UserError
from common.metrics import Shots
from common.settings import Running, Settings

MOST_BINS = 100  # of bins that are chosen from the data
HELD_OUT = 8  # validation and test have an eighth of the rows each
OF_A_BIN = 5  # and of each bin at most a fifth each
SHARE = "few, medium and many are the rarest, middle and densest third of training rows, by the rows of a bin"


def csv_of(settings: Settings) -> Path:
    """Return the path of --csv."""
    folder = settings[Running].data_dir
    assert folder is not None
    return folder / str(settings.values()["csv"])


def check_bins(width: float | None, number: int | None) -> None:
    """Raise UserError where --bin_width and --bins are both given."""
    if number is not None and width is not None:
        raise UserError("--bins and --bin_width: both say what the label bins are; drop one of them")


def in_its_folder(settings: Settings) -> Settings:
    """Return the settings with the folder of --csv as --data_dir."""
    path = Path(settings.values()["csv"])
    if "csv" in settings.given and "data_dir" not in settings.given:
        return settings.with_(csv=path.name, data_dir=path.parent)
    return settings


def make_splits(labels: np.ndarray, bins: Bins, groups: ArrayLike, seed: int) -> np.ndarray:
    """Return a random split in which validation and test have the same number of rows of each bin, as far as there are.

    Rows of one group stay together; an empty name is no group. Bins of less than three rows are for training alone.
    """
    index, splits = bins.index(labels), np.full(len(labels), SPLITS[0], object)
    wanted = {name: per_bin(bins.counts(labels)) for name in SPLITS[1:]}
    _, group = np.unique(groups, return_inverse=True)
    alone = np.flatnonzero(np.asarray(groups) == "")
    group[alone] = len(labels) + np.arange(len(alone))
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


def parted(groups: Sequence[str], splits: np.ndarray) -> list[tuple[int, int]]:
    """Return the first two rows of each group that stands in two splits; an empty name is no group."""
    first: dict[str, int] = {}
    found: dict[str, tuple[int, int]] = {}
    for row, group in enumerate(groups):
        if group and splits[first.setdefault(group, row)] != splits[row]:
            found.setdefault(group, (first[group], row))
    return list(found.values())


def check_groups(
    csv: Path, lines: Sequence[int], column: str, groups: Sequence[str], splits: np.ndarray
) -> None:
    """Raise UserError, naming the lines, where a group stands in two splits."""
    for one, other in parted(groups, splits)[:1]:
        raise UserError(
            f"{csv}, line {lines[other]}: {column} '{groups[other]}' stands in {splits[one]} (line "
            f"{lines[one]}) and in {splits[other]}; give its rows one split, or have new ones made that "
            "keep them together"
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
