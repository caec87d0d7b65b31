"""Subsets of a face data set as the paper uses them: regions without training data (Tables 6 and 18), and a
test set distributed like the training set (Table 19).

The authors' own were never released, so these are ours. Each leaves rows of the whole data set out and
moves none, so that a model trained on the whole one can be tested on them.
"""

from __future__ import annotations

import argparse
import math
import random
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from preparing.splits import AGES

from common.datasets.faces import LIMITS
from common.errors import UserError
from common.metrics import UNSEEN, unseen_bins

PEAK_SIGMA = 4.0  # years
PEAK_REACH = 8  # years from the nearest peak; beyond, there is no training data


@dataclass(frozen=True)
class Variant:
    """Which rows are left out; without any of the three, none is."""

    drop: tuple[int, ...] = ()  # ages without training data
    peaks: tuple[int, ...] = ()  # ages around which training data stay
    like_train: bool = False  # test rows follow the training ages

    def __bool__(self) -> bool:
        return bool(self.drop or self.peaks or self.like_train)

    def file_name(self, csv: str) -> str:
        """Return the name of the CSV with the ages that it lacks, such as agedb_drop_20-30_50.csv."""
        parts = [Path(csv).stem]
        parts += [f"drop_{spans(self.drop)}"] if self.drop else []
        parts += [f"peaks_{spans(self.peaks)}"] if self.peaks else []
        parts += ["test_like_train"] if self.like_train else []
        return "_".join(parts).replace(",", "_") + ".csv"

    def kept(self, ages: np.ndarray, splits: np.ndarray, seed: int) -> np.ndarray:
        """Return which rows stay, bool `(N,)`, drawn by `seed` within an age; raises UserError for too few."""
        stream = random.Random(seed)
        if self.like_train:
            if self.drop or self.peaks:
                raise UserError(
                    "--test-like-train: leaves no test data where training has none, and there --drop-ages "
                    "and --peaks are tested; give one or the other"
                )
            return _like_train(ages, splits, stream)
        share = np.array([self._share(age) for age in ages.tolist()])
        keep = _thinned(ages, splits == "train", share, stream)
        flag = f"--drop-ages {spans(self.drop)}" if self.drop else f"--peaks {spans(self.peaks)}"
        if keep.all():
            raise UserError(f"{flag}: no training row is of these ages, so that nothing would be left out")
        if (splits[keep] == "train").sum() < 2:
            raise UserError(f"{flag}: leaves fewer than two training rows; choose other ages")
        return keep

    def _share(self, age: int) -> float:
        """Return the share of an age's training rows that stays."""
        if age in self.drop:
            return 0.0
        distance = min((abs(age - peak) for peak in self.peaks), default=0)
        return math.exp(-(distance**2) / (2 * PEAK_SIGMA**2)) if distance <= PEAK_REACH else 0.0


def _thinned(ages: np.ndarray, of: np.ndarray, share: np.ndarray, stream: random.Random) -> np.ndarray:
    """Draw the rows that stay: of those in `of` the share of their age, and all others."""
    keep = np.ones(len(ages), bool)
    for age in np.unique(ages[of]):
        rows = np.flatnonzero(of & (ages == age)).tolist()
        staying = round(len(rows) * share[rows[0]])
        keep[stream.sample(rows, len(rows) - staying)] = False
    return keep


def _like_train(ages: np.ndarray, splits: np.ndarray, stream: random.Random) -> np.ndarray:
    """Return the largest part of the test rows that follows the training ages, at least one of each."""
    train, test = (_counts(ages[splits == split]) for split in ("train", "test"))
    scale = min((test[age] / train[age] for age in test if age in train), default=0)
    wanted = {age: max(1, round(scale * train[age])) if age in train else 0 for age in test}
    if not any(wanted.values()):
        raise UserError("--test-like-train: no test row has an age that training has; use another data set")
    share = np.array([wanted[age] / test[age] if age in test else 1.0 for age in ages.tolist()])
    return _thinned(ages, splits == "test", share, stream)


def _counts(ages: np.ndarray) -> dict[int, int]:
    return dict(zip(*(column.tolist() for column in np.unique(ages, return_counts=True)), strict=True))


def unseen(ages: np.ndarray, splits: np.ndarray) -> str:
    """Return the test rows without training data at their age, by the place of that age (as in Table 6)."""
    test = ages[splits == "test"]
    kind = unseen_bins(AGES.counts(ages[splits == "train"]))[AGES.index(test)]
    between, outside = ((kind == name).sum() for name in UNSEEN)
    return (
        f"Of the {len(test):,} test rows, {between + outside:,} are of ages without training data: {between:,} "
        f"between training ages (interpolation), {outside:,} outside them (extrapolation)."
    )


def spans(ages: Iterable[int]) -> str:
    """Format ages as --drop-ages takes them, such as 20-30,50."""
    runs: list[list[int]] = []
    for age in sorted(ages):
        if runs and age == runs[-1][1] + 1:
            runs[-1][1] = age
        else:
            runs.append([age, age])
    return ",".join(f"{first}" if first == last else f"{first}-{last}" for first, last in runs)


def parse_ages(text: str) -> tuple[int, ...]:
    """Parse ages and spans of them, such as 20-30,50 (an argparse type)."""
    oldest = int(LIMITS[1])
    ages: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,3})(?:\s*-\s*(\d{1,3}))?\s*", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last <= oldest:
            raise argparse.ArgumentTypeError(
                f"{part!r} is no age and no span of ages from 0 to {oldest}, as in 20-30,50"
            )
        ages.update(range(first, last + 1))
    return tuple(sorted(ages))


def add_variant_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the subsets."""
    group = parser.add_argument_group(
        "subsets", "beside the whole data set, in a CSV of their own; train.py --dataset takes its name"
    )
    group.add_argument(
        "--drop-ages",
        type=parse_ages,
        metavar="AGES",
        help="no training data of these ages, as in 20-30,50; they stay in validation and test",
    )
    group.add_argument(
        "--peaks",
        type=parse_ages,
        metavar="AGES",
        help=f"training data around these ages only: a Gaussian share (sigma {PEAK_SIGMA:g} years), "
        f"none beyond {PEAK_REACH} years",
    )
    group.add_argument(
        "--test-like-train",
        action="store_true",
        help="of the test rows, a part that follows the training ages",
    )


def variant_of(args: argparse.Namespace) -> Variant:
    """Return the subset that these flags describe."""
    return Variant(args.drop_ages or (), args.peaks or (), args.test_like_train)
