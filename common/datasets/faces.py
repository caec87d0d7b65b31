"""Face images with a float label each: the CSV with all its checks, and the split that the engine trains on.

AgeDB-DIR and IMDB-WIKI-DIR are such data sets, and so is any CSV with `path`, `split` and a column of labels.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from csv import DictReader
from csv import Error as CsvError
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.bins import Bins
from common.errors import UserError
from common.report import log

SPLITS = ("train", "val", "test")
LIMITS = (0.0, 200.0)  # of an age; --label_min and --label_max move them
LAST_AGE = 120  # older people share the last bin in the published code
MAX_BINS = 100_000


@dataclass(frozen=True, eq=False)
class FaceTable:
    """The rows of the CSV as columns: image paths below the data folder, labels float32 `(N,)`, splits."""

    paths: list[str]
    labels: np.ndarray
    split: np.ndarray

    def rows(self, split: str, bad: Iterable[int] = ()) -> np.ndarray:
        """The rows of one split without the bad ones, int64, in the order of the file."""
        rows = np.flatnonzero(self.split == split)
        return rows[~np.isin(rows, list(bad))]


def read_faces(
    csv: Path,
    target: str = "age",
    label_min: float | None = None,
    label_max: float | None = None,
    hint: str = "",
) -> FaceTable:
    """The table of a CSV with the columns `path`, `split` and `target`.

    `hint` says how to get the file where there is none. Raises `UserError`, with the line numbers, for what
    is wrong in the file: a column or a value missing, a label that is no number or outside [label_min,
    label_max] (ages: 0 to 200), an unknown split, a path out of the data folder, a split without samples.
    """
    low, high = _limits(label_min, label_max)
    lines, paths, split, cells = _read_columns(csv, ("path", "split", target), hint)
    labels = np.array([_number(cell) for cell in cells])

    def refuse(wrong: np.ndarray, values: list[str], what: str, way_out: str) -> None:
        rows = np.flatnonzero(wrong)
        if len(rows):
            named = [f"line {lines[row]}: {values[row]!r}" for row in rows[:3]]
            more = [f"{len(rows) - 3} more"] if len(rows) > 3 else []
            raise UserError(f"{csv}: {what} ({', '.join(named + more)}); {way_out}")

    refuse(~np.isfinite(labels), cells, f"{target} is not a number", "correct these rows or remove them")
    refuse(
        (labels < low) | (labels > high),
        cells,
        f"{target} is outside {low:g} to {high:g}",
        "correct these rows, or move the limits with --label_min and --label_max",
    )
    refuse(~np.isin(split, SPLITS), split, "unknown split", f"the splits are {', '.join(SPLITS)}")
    refuse(
        np.array([_leaves(path) for path in paths], bool),
        paths,
        "path leaves the data folder or is empty",
        "paths are relative to --data_dir, without ..",
    )
    table = FaceTable(paths, labels.astype(np.float32), np.array(split, str))
    check_sizes(table, str(csv))
    return table


def _read_columns(csv: Path, names: tuple[str, str, str], hint: str) -> tuple[list, list, list, list]:
    """The line number of each row that is not blank, and its cells in the named columns, as text."""
    if not csv.is_file():
        raise UserError(f"{csv}: there is no such file{also(hint)}")
    try:
        with csv.open(newline="", encoding="utf-8-sig") as stream:
            reader = DictReader(stream, skipinitialspace=True, strict=True)
            found = reader.fieldnames or []
            rows = [(reader.line_num, row) for row in reader if any(row.values())]
    except (CsvError, UnicodeDecodeError) as error:
        raise UserError(f"{csv}: is not a CSV in UTF-8 ({error})") from error
    absent = [name for name in names if name not in found]
    if absent:
        flag = "; name the column of labels with --target" if names[2] in absent else ""
        raise UserError(f"{csv}: has no column {', '.join(absent)}; its columns are {', '.join(found)}{flag}")
    ragged = [line for line, row in rows if None in row or None in row.values()]
    if ragged:
        raise UserError(
            f"{csv}: line {ragged[0]} has not the {len(found)} cells of the first line; "
            "a comma inside a cell needs quotes around the cell"
        )
    path, split, target = ([row[name] for _, row in rows] for name in names)
    return [line for line, _ in rows], path, split, target


def also(hint: str) -> str:
    return f"; {hint}" if hint else ""


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan


def _limits(label_min: float | None, label_max: float | None) -> tuple[float, float]:
    low = LIMITS[0] if label_min is None else label_min
    high = LIMITS[1] if label_max is None else label_max
    if not low < high:
        raise UserError(f"--label_min is {low:g} and --label_max {high:g}: it must be below")
    return low, high


def _leaves(path: str) -> bool:
    normal = os.path.normpath(path)
    return not path or "\0" in path or normal.startswith(("/", "../")) or normal in (".", "..")


def check_sizes(table: FaceTable, where: str, bad: Iterable[int] = ()) -> None:
    for split in SPLITS:
        number = len(table.rows(split, bad))
        if number == 0:
            raise UserError(f"{where}: the {split} split is empty; each of {', '.join(SPLITS)} needs samples")
        if split == "train" and number == 1:
            raise UserError(f"{where}: the train split has one sample, and training needs at least two")


def label_bins(
    labels: np.ndarray,
    bin_width: float | None = None,
    label_min: float | None = None,
    label_max: float | None = None,
) -> Bins:
    """The bins of these labels: of LDS, of the shots and of re-weighting.

    Whole numbers get a bin each: the ages 0 to 120 or, where one of the limits is given, all from the lower
    to the upper limit. Fractions, and any labels where `bin_width` is given, get bins of that width (1 if it
    is not) from `label_min` or the whole number below the least label to `label_max` or the whole number
    above the greatest.
    Raises `UserError` for a width that makes no bins, or far too many.
    """
    least, greatest = _limits(label_min, label_max)
    whole = bool((labels == np.round(labels)).all())
    if whole and bin_width is None:
        ages = label_min is None and label_max is None
        last = LAST_AGE if ages else math.ceil(greatest)
        if labels.max() > last:
            log.warning("labels above %d share the bin of %d; --label_max gives them their own", last, last)
        return Bins.integers(math.floor(least), last)
    width = 1.0 if bin_width is None else bin_width
    low = math.floor(labels.min()) if label_min is None else label_min
    high = math.ceil(labels.max()) if label_max is None else label_max
    number = math.ceil((high + whole - low) / width - 1e-6) if width > 0 else 0
    if not 1 <= number <= MAX_BINS:
        raise UserError(
            f"--bin_width {width:g} makes no 1 to {MAX_BINS:,} bins of the labels {low:g} to {high:g}"
        )
    return Bins.uniform(low, low + number * width, number)
