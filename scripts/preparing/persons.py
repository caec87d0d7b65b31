"""Who is on which image: the leak of a split that shows a person in training and in test, and splits without it."""

from __future__ import annotations

import csv
import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from preparing.splits import AGES

from common.errors import UserError

HELD_OUT = ("val", "test")
NEAR = 1  # years


def leak(labels: np.ndarray, splits: np.ndarray, groups: np.ndarray, shows: str = "show a person") -> str:
    """Return a line on the test rows whose group is in training, and those with a training row near in age."""
    known = defaultdict(list)
    for label, group in zip(labels[splits == "train"], groups[splits == "train"], strict=True):
        known[group].append(label)
    test = list(zip(labels[splits == "test"], groups[splits == "test"], strict=True))
    seen = sum(group in known for _, group in test)
    near = sum(
        any(abs(label - other) <= NEAR for other in known[group]) for label, group in test if group in known
    )
    return f"{seen:,} of {len(test):,} test rows {shows} who is in training, {near:,} within a year of age"


def in_two_splits(splits: Iterable[str], groups: Iterable[str]) -> list[str]:
    """Return the groups that stand in more than one split, sorted."""
    found = defaultdict(set)
    for split, group in zip(splits, groups, strict=True):
        found[group].add(split)
    return sorted(group for group, where in found.items() if len(where) > 1)


def read_column(file: Path, column: str) -> np.ndarray | None:
    """Return a column of a CSV as text `(N,)`, in the rows that `read_faces` reads; None if it has no such column."""
    with file.open(newline="", encoding="utf-8-sig") as stream:
        rows = [row for row in csv.DictReader(stream, skipinitialspace=True) if any(row.values())]
    return np.array([row[column] for row in rows]) if rows and column in rows[0] else None


def draw_apart(ages: Sequence[int], persons: Sequence[str], wanted: np.ndarray, seed: int) -> np.ndarray:
    """Draw splits in which no person stands in two, `(N,)`; "" for the rows that no split takes.

    Validation and test take `wanted` rows of each age (bins of `AGES`), or as many as both can have. Whole
    persons are chosen for them one by one, by the share of their rows that is still wanted; a wanted row
    counts more the fewer persons can give it, and nobody is chosen who is the last of an age in training
    while others will do. Rows of theirs beyond the wanted are left out.
    """
    index = AGES.index(np.array(ages, np.float32))
    _, person = np.unique(persons, return_inverse=True)
    rows = np.zeros((person.max() + 1, AGES.num), np.int64)
    np.add.at(rows, (person, index), 1)
    chosen = _choose(rows, wanted)
    split = np.array(["train", *HELD_OUT])[chosen][person].astype("<U5")
    counts = [np.bincount(index[split == name], minlength=AGES.num) for name in HELD_OUT]
    each = np.minimum(wanted, np.minimum(*counts))
    stream = random.Random(seed)
    for name in HELD_OUT:
        for age in range(AGES.num):
            mine = np.flatnonzero((split == name) & (index == age)).tolist()
            split[stream.sample(mine, len(mine) - int(each[age]))] = ""
    return split


def _choose(rows: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return the split of each person, `(P,)`: 0 for training, 1 and 2 for validation and test."""
    chosen = np.zeros(len(rows), np.int64)
    missing, train, total = np.stack([wanted, wanted]), rows.sum(0), rows.sum(1)
    while missing.any():
        split = int(missing.sum(1).argmax())
        free = chosen == 0
        useful = np.minimum(rows, missing[split])
        able = free & useful.any(1)
        if not able.any():
            missing[split] = 0  # nobody is left who could give these ages
            continue
        value = (useful / np.sqrt(np.maximum(rows[free].sum(0), 1))).sum(1) / total
        last = ((rows >= train) & (train > 0)).sum(1)  # ages that training would lose
        person = int(np.where(able, value - last, -np.inf).argmax())
        chosen[person] = split + 1
        missing[split] -= useful[person]
        train = train - rows[person]
    return chosen


def held_out(ages: Sequence[int], splits: np.ndarray) -> np.ndarray:
    """Return the test rows of each age, int64 `(AGES.num,)`."""
    return AGES.counts(np.array(ages, np.float32)[splits == "test"])


def shortfall(ages: Sequence[int], splits: np.ndarray, wanted: np.ndarray) -> str:
    """Return a line on what the splits lack: ages without a training row, test rows that nobody could give."""
    index = AGES.index(np.array(ages, np.float32))
    lost = np.setdiff1d(index, index[splits == "train"])
    told = [f"Left out, as their persons are in validation or test: {(splits == '').sum():,} rows."]
    told += [f"Ages without a training row: {', '.join(map(str, lost))}."] if len(lost) else []
    if few := int(wanted.sum() - (splits == "test").sum()):
        told.append(
            f"Of the {wanted.sum():,} test rows wanted, {few:,} need a person who stands in another split."
        )
    return "\n".join(told)


def require_persons(persons: list[str] | None, title: str) -> list[str]:
    """Return the persons; raises UserError if nobody knows them."""
    if persons is None or len(set(persons)) < 3:
        raise UserError(f"--persons apart: who is on an image of {title} here is not known; leave it out")
    return persons
