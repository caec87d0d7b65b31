"""Splits of face data by the published rule: the rows, the draw, and the table, plot and CSV of it."""

from __future__ import annotations

import csv
import os
import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from common.bins import Bins
from common.errors import UserError
from common.faces import LIMITS, SPLITS
from common.metrics import GROUPS, Shots
from common.report import HEADINGS
from common.task import Standin

SEED = 666  # of the published splits
OLDEST = 120  # the published rule draws validation and test rows up to this age
MANY_ABOVE, FEW_BELOW = 100, 20  # training samples of an age
COLOURS = {"many": "#0072B2", "medium": "#009E73", "few": "#E69F00"}  # of Okabe and Ito: safe for all eyes


class Rows(NamedTuple):
    """The rows of a face data set, without their split."""

    ages: list[int]
    paths: list[str]


def balanced_split(ages: Sequence[int], cap: int, seed: int = SEED) -> list[str]:
    """The split of each row, "train", "val" or "test": validation and test are balanced over ages.

    For each age 0 to 120 in turn, its rows are shuffled, all ages from one random stream; the first
    n = min(rows // 3, cap) are for validation, the next n for testing, the rest for training. A row of
    another age is for training, as in the published code. The order of the rows matters.
    """
    rows_of: dict[int, list[int]] = defaultdict(list)
    for row, age in enumerate(ages):
        rows_of[age].append(row)
    stream = random.Random(seed)
    split = ["train"] * len(ages)
    for age in range(OLDEST + 1):
        rows = rows_of[age]
        stream.shuffle(rows)
        n = min(len(rows) // 3, cap)
        for row in rows[:n]:
            split[row] = "val"
        for row in rows[n : 2 * n]:
            split[row] = "test"
    return split


def some(items: Iterable[object]) -> str:
    """The first three, and how many more there are."""
    items = list(items)
    return ", ".join(map(str, items[:3])) + (f" and {len(items) - 3:,} more" if len(items) > 3 else "")


def read_rows(file: Path) -> Rows:
    """The columns `age` and `path` of a CSV; raises UserError, with line numbers, for what is wrong in it."""
    rows = _read_csv(file)

    def refuse(wrong: list[tuple[int, dict]], column: str, what: str) -> None:
        if wrong:
            named = some(f"line {line}: {row[column]!r}" for line, row in wrong)
            raise UserError(f"{file}: {column} {what} ({named}); correct these rows or remove them")

    low, high = (int(limit) for limit in LIMITS)
    refuse([(line, row) for line, row in rows if not _whole(row["age"])], "age", "is not a whole number")
    outside = [(line, row) for line, row in rows if not low <= float(row["age"]) <= high]
    refuse(outside, "age", f"is outside {low} to {high}")
    refuse([(line, row) for line, row in rows if not row["path"]], "path", "is empty")
    first = {row["path"]: line for line, row in reversed(rows)}
    refuse([(line, row) for line, row in rows if first[row["path"]] != line], "path", "was there before")
    return Rows([int(float(row["age"])) for _, row in rows], [row["path"] for _, row in rows])


def _read_csv(file: Path) -> list[tuple[int, dict[str, str]]]:
    """The rows that are not blank, each with its line number."""
    if not file.is_file():
        raise UserError(f"{file}: there is no such file; --csv takes one with the columns age and path")
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, skipinitialspace=True, strict=True)
            columns = reader.fieldnames or []
            rows = [(reader.line_num, row) for row in reader if any(row.values())]
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{file}: is not a CSV in UTF-8 ({error}); save it as one") from error
    absent = [name for name in ("age", "path") if name not in columns]
    if absent:
        has = ", ".join(columns) or "none"
        raise UserError(f"{file}: has no column {' and '.join(absent)} (it has: {has}); add or rename it")
    ragged = [line for line, row in rows if None in row or None in row.values()]
    if ragged:
        raise UserError(
            f"{file}: line {ragged[0]} has not the {len(columns)} cells of the first line; a comma inside "
            "a cell needs quotes around the cell"
        )
    if not rows:
        raise UserError(f"{file}: has no row below its first line; each image needs one")
    return rows


def _whole(cell: str) -> bool:
    try:
        return float(cell).is_integer()
    except ValueError:
        return False


def write_rows(file: Path, rows: Rows, splits: Sequence[str]) -> None:
    """Write the CSV that the age data sets are trained from, as published: age, path, split."""
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("age", "path", "split"))
        writer.writerows(zip(*rows, splits, strict=True))


def shots_of(ages: np.ndarray, splits: np.ndarray, standin: Standin) -> Shots:
    """The shots that the training ages define, at the thresholds of the paper or of the stand-in."""
    bins = Bins.integers(0, int(LIMITS[1]))
    many, few = standin.many_above or MANY_ABOVE, standin.few_below or FEW_BELOW
    return Shots(bins, bins.counts(ages[splits == "train"]), many, few)


def summary(ages: np.ndarray, splits: np.ndarray, shots: Shots) -> str:
    """How many ages and samples there are, of each split and shot, as aligned text."""
    groups = shots.groups(ages)
    labels = {"many": f" (> {shots.many_above:g})", "few": f" (< {shots.few_below:g})"}
    table = [["", *(HEADINGS[group] + labels.get(group, "") for group in GROUPS)]]
    table.append(["ages", *(f"{len(np.unique(ages[groups[group]])):,}" for group in GROUPS)])
    for split in SPLITS:
        table.append([split, *(f"{(groups[group] & (splits == split)).sum():,}" for group in GROUPS)])
    return "\n".join(f"  {row[0]:<8}" + "".join(f"{cell:>14}" for cell in row[1:]) for row in table)


def histogram(file: Path, title: str, ages: np.ndarray, shots: Shots) -> None:
    """A PNG of the number of training samples by age, coloured by shot; `ages` are those of training."""
    present, counts = np.unique(ages, return_counts=True)
    shot = shots.of(present)
    few, many = f"{shots.few_below:g}", f"{shots.many_above:g}"
    rules = {"many": f"more than {many}", "medium": f"{few} to {many}", "few": f"fewer than {few}"}
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for name, rule in rules.items():
        mine = shot == name
        label = f"{HEADINGS[name]}-shot: {rule} ({mine.sum()} ages)"
        # The edge, in points, keeps a single image visible.
        axes.bar(present[mine], counts[mine], 0.8, color=COLOURS[name], edgecolor=COLOURS[name], label=label)
    axes.set(xlabel="Age (years)", ylabel="Training images of that age", title=title)
    axes.set_xlim(-1, max(OLDEST, present.max()) + 1)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(file, dpi=150, format="png")


def write_files(out: Path, name: str, rows: Rows, splits: np.ndarray, standin: Standin) -> None:
    """The histogram, then the CSV, each under a temporary name first: a file that is there is whole."""
    ages, png = np.array(rows.ages), out.with_suffix(".png")
    training = ages[splits == "train"]
    title = f"{'Stand-in for ' if standin.note else ''}{name}: {len(training):,} training images"
    temporary = {file: file.with_name(f".{file.name}.{os.getpid()}.tmp") for file in (png, out)}
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        histogram(temporary[png], title, training, shots_of(ages, splits, standin))
        write_rows(temporary[out], rows, splits)
        for file, part in temporary.items():
            part.replace(file)
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror}); choose another --out") from error
    finally:
        for part in temporary.values():
            part.unlink(missing_ok=True)
