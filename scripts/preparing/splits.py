"""Splits by the published rules: the rows of faces, the draw, and the table, plot and files of any split."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import os
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from downloading.sources import Sources

from common.bins import Bins
from common.datasets.faces import LIMITS, SPLITS
from common.datasets.standin import Standin
from common.errors import UserError
from common.metrics import GROUPS, Shots
from common.report import HEADINGS

SEED = 666  # of the published splits
OLDEST = 120  # the published rule draws validation and test rows up to this age
MANY_ABOVE, FEW_BELOW = 100, 20  # training samples of an age
AGES = Bins.integers(0, int(LIMITS[1]))
Writers = dict[Path, Callable[[Path], object]]  # what writes each file, at the path that it is given
COLOURS = {"many": "#0072B2", "medium": "#009E73", "few": "#E69F00"}  # of Okabe and Ito: safe for all eyes


class Rows(NamedTuple):
    """The rows of a face data set, without their split."""

    ages: list[int]
    paths: list[str]

    def taken(self, places: np.ndarray) -> Rows:
        """Return the rows at these places."""
        return Rows([self.ages[place] for place in places], [self.paths[place] for place in places])


def balanced_split(ages: Sequence[int], cap: int, seed: int = SEED, share: int = 3) -> list[str]:
    """Draw the split of each row, "train", "val" or "test"; validation and test are balanced over ages.

    For each age 0 to 120 in turn, its rows are shuffled, all ages from one random stream; the first
    n = min(rows // share, cap) are for validation, the next n for testing, the rest for training. A row of
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
        n = min(len(rows) // share, cap)
        for row in rows[:n]:
            split[row] = "val"
        for row in rows[n : 2 * n]:
            split[row] = "test"
    return split


def some(items: Iterable[object]) -> str:
    """List the first three items, and the number of the others."""
    items = list(items)
    return ", ".join(map(str, items[:3])) + (f" and {len(items) - 3:,} more" if len(items) > 3 else "")


def read_rows(file: Path) -> Rows:
    """Read the columns `age` and `path` of a CSV; raises UserError, with line numbers, for defects."""
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
    """Return the rows that are not blank, each with its line number."""
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


def rows_text(rows: Rows, splits: Iterable[str]) -> str:
    """Format the CSV of an age data set, as published: age, path, split."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("age", "path", "split"))
    writer.writerows(zip(*rows, splits, strict=True))
    return stream.getvalue()


def write_rows(file: Path, rows: Rows, splits: Iterable[str]) -> None:
    """Write the CSV of `rows_text`."""
    file.write_bytes(rows_text(rows, splits).encode())


def blob_id(content: bytes) -> str:
    """Return git's id of a file with this content, which identifies the published files."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def published_ids() -> dict[str, str]:
    """Return git's id of each published split file, by its name."""
    files = Sources().data_sets["splits"].files
    return {file.filename: file.digest.partition(":")[2] for file in files}


def shots_of(
    labels: np.ndarray, splits: np.ndarray, standin: Standin, bins: Bins = AGES, few_below: float = FEW_BELOW
) -> Shots:
    """Return the shots of the training labels, at the thresholds of the paper or of the stand-in."""
    many, few = standin.many_above or MANY_ABOVE, standin.few_below or few_below
    return Shots(bins, bins.counts(labels[splits == "train"]), many, few)


def summary(labels: np.ndarray, splits: np.ndarray, shots: Shots, what: str = "ages") -> str:
    """Format the number of bins (`what`) and samples of each split and shot as aligned text."""
    groups, index = shots.groups(labels), shots.bins.index(labels)
    rules = {"many": f" (> {shots.many_above:g})", "few": f" (< {shots.few_below:g})"}
    table = [["", *(HEADINGS[group] + rules.get(group, "") for group in GROUPS)]]
    table.append([what, *(f"{len(np.unique(index[groups[group]])):,}" for group in GROUPS)])
    for split in SPLITS:
        table.append([split, *(f"{(groups[group] & (splits == split)).sum():,}" for group in GROUPS)])
    return "\n".join(f"  {row[0]:<8}" + "".join(f"{cell:>14}" for cell in row[1:]) for row in table)


def histogram(
    file: Path, title: str, shots: Shots, label: str = "Age (years)", one: str = "age", item: str = "images"
) -> None:
    """Draw the training samples (`item`) in each bin (`one`) as a PNG, coloured by shot."""
    from matplotlib.figure import Figure  # slow to import

    present = np.flatnonzero(shots.counts)
    counts, left, width = shots.counts[present], shots.bins.left_edges[present], shots.bins.width
    places = left if width == 1 else left + width / 2  # a whole number stands for itself
    shot = shots.of(places)
    few, many = f"{shots.few_below:g}", f"{shots.many_above:g}"
    rules = {"many": f"more than {many}", "medium": f"{few} to {many}", "few": f"fewer than {few}"}
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for name, rule in rules.items():
        mine, colour = shot == name, COLOURS[name]
        label_of = f"{HEADINGS[name]}-shot: {rule} ({mine.sum()} {one}s)"
        # The edge, in points, keeps a single sample visible.
        axes.bar(places[mine], counts[mine], 0.8 * width, color=colour, edgecolor=colour, label=label_of)
    axes.set(xlabel=label, ylabel=f"Training {item} of that {one}", title=title)
    axes.set_xlim(-width, (max(OLDEST, places.max()) if width == 1 else shots.bins.high) + width)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, loc="outside lower center", ncols=len(rules))
    figure.savefig(file, dpi=150, format="png")


def write_together(files: Writers) -> None:
    """Write each file under a temporary name, then rename all: a file that is there is whole.

    Raises UserError where a file cannot be written.
    """
    temporary = {file: file.with_name(f".{file.name}.{os.getpid()}.tmp") for file in files}
    file = None
    try:
        for file, part in temporary.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            files[file](part)
        for file, part in temporary.items():
            part.replace(file)
    except OSError as error:
        raise UserError(f"{file}: cannot be written ({error.strerror}); choose another place") from error
    finally:
        for part in temporary.values():
            with contextlib.suppress(OSError):  # most are not there any more, or never were
                part.unlink()


def write_files(out: Path, name: str, rows: Rows, splits: np.ndarray, standin: Standin) -> None:
    """Write the CSV of a face data set, and beside it the histogram of its training ages."""
    ages = np.array(rows.ages)
    title = f"{'Stand-in for ' if standin.note else ''}{name}: {(splits == 'train').sum():,} training images"
    shots = shots_of(ages, splits, standin)
    write_together(
        {
            out.with_suffix(".png"): lambda part: histogram(part, title, shots),
            out: lambda part: write_rows(part, rows, splits),
        }
    )
