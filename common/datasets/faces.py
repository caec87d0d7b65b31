"""Face images with a float label each: the CSV with all its checks, and the split that the engine trains on.

AgeDB-DIR and IMDB-WIKI-DIR are such data sets, and so is any CSV with `path`, `split` and a column of labels.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from csv import DictReader
from csv import Error as CsvError
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.bins import Bins, round_width
from common.errors import UserError
from common.report import log

SPLITS = ("train", "val", "test")
LIMITS = (0.0, 200.0)  # of an age; --label_min and --label_max move them
LAST_AGE = 120  # older people share the last bin in the published code
MAX_BINS = 100_000  # a table over bins holds a few numbers for each


@dataclass(frozen=True, eq=False)
class FaceTable:
    """The rows of the CSV as columns: image paths below its folder, labels float32 `(N,)`, splits."""

    csv: Path
    paths: list[str]
    labels: np.ndarray
    split: np.ndarray

    def rows(self, split: str, bad: Iterable[int] = ()) -> np.ndarray:
        """Return the rows of one split without the bad ones, int64, in the order of the file."""
        rows = np.flatnonzero(self.split == split)
        return rows[~np.isin(rows, list(bad))]


def read_faces(
    csv: Path,
    target: str = "age",
    label_min: float | None = None,
    label_max: float | None = None,
    hint: str = "",
    needed: Sequence[str] = SPLITS,
) -> FaceTable:
    """Read a CSV with the columns `path`, `split` and `target`.

    `hint` says how to get the file where there is none. Raises UserError, with the line numbers, for any
    defect: a column or a value missing, a label that is no number or outside [label_min, label_max] (ages: 0
    to 200), an unknown split, a path out of the data folder, a `needed` split without samples.
    """
    names, rows = read_rows(csv, hint)
    lines, cells = read_columns(csv, names, rows, ("path", "split", target))
    paths, split, texts = cells
    labels = read_numbers(csv, lines, texts, target, (label_min, label_max))
    check_splits(csv, lines, split)
    check_paths(csv, lines, paths)
    table = FaceTable(csv, paths, labels, np.array(split, str))
    check_sizes(table, str(csv), needed=needed)
    return table


def read_train_labels(
    file: Path, target: str = "age", label_min: float | None = None, label_max: float | None = None
) -> np.ndarray:
    """Read training labels alone, float32: a CSV with the column `target`, or one label a line.

    Where the CSV has a column `split`, its training rows count. Raises UserError as `read_faces` does.
    """
    names, rows = read_rows(file, "--train_labels names a CSV, or a file with one label a line")
    if target not in names and len(names) == 1:  # no header: its first line is a label
        first = names[0]
        rows = [(1, {target: first}), *((line, {**row, target: row[first]}) for line, row in rows)]
        names = [target]
    lines, (cells,) = read_columns(file, names, rows, (target,))
    if "split" in names:
        kept = [place for place, (_, row) in enumerate(rows) if row["split"] == "train"]
        lines, cells = [lines[place] for place in kept], [cells[place] for place in kept]
    if not cells:
        raise UserError(f"{file}: holds no training label; --train_labels names a file that does")
    return read_numbers(file, lines, cells, target, (label_min, label_max))


def read_numbers(
    csv: Path, lines: list[int], cells: list[str], target: str, limits: tuple[float | None, float | None]
) -> np.ndarray:
    """Return the cells of a column as numbers, float32; raises UserError for what is none or outside the limits."""
    low, high = _limits(*limits)
    labels = np.array([_number(cell) for cell in cells])
    refuse(
        csv,
        lines,
        ~np.isfinite(labels),
        cells,
        f"{target} is not a number",
        "correct these rows or remove them",
    )
    refuse(
        csv, lines, (labels < low) | (labels > high), cells, f"{target} is outside {low:g} to {high:g}",
        "correct these rows, or move the limits with --label_min and --label_max",
    )  # fmt: skip
    return labels.astype(np.float32)


def check_splits(csv: Path, lines: list[int], split: list[str]) -> None:
    """Check that every split is a known one."""
    refuse(csv, lines, ~np.isin(split, SPLITS), split, "unknown split", f"the splits are {', '.join(SPLITS)}")


def check_paths(csv: Path, lines: list[int], paths: list[str]) -> None:
    """Check that every path stays below the CSV's folder."""
    refuse(
        csv, lines, np.array([_leaves(path) for path in paths], bool), paths,
        "path leaves the data folder or is empty", "paths are relative to --data_dir, without ..",
    )  # fmt: skip


def refuse(
    csv: Path, lines: list[int], wrong: np.ndarray, values: list[str], defect: str, way_out: str
) -> None:
    """Check that no row has this defect; list the first few that do."""
    rows = np.flatnonzero(wrong)
    if len(rows):
        named = [f"line {lines[row]}: {values[row]!r}" for row in rows[:3]]
        more = [f"{len(rows) - 3} more"] if len(rows) > 3 else []
        raise UserError(f"{csv}: {defect} ({', '.join(named + more)}); {way_out}")


def read_rows(csv: Path, hint: str) -> tuple[list[str], list[tuple[int, dict]]]:
    """Return the names of the columns, and each row that is not blank with its line number."""
    if not csv.is_file():
        raise UserError(f"{csv}: there is no such file{also(hint)}")
    try:
        with csv.open(newline="", encoding="utf-8-sig") as stream:
            reader = DictReader(stream, skipinitialspace=True, strict=True)
            names = list(reader.fieldnames or [])
            rows = [(reader.line_num, row) for row in reader if any(row.values())]
    except (CsvError, UnicodeDecodeError) as error:
        raise UserError(f"{csv}: is not a CSV in UTF-8 ({error})") from error
    return names, rows


def read_columns(
    csv: Path, names: list[str], rows: list[tuple[int, dict]], wanted: tuple[str, ...]
) -> tuple[list[int], list[list[str]]]:
    """Return the line number of each row, and the wanted columns as text; the last of them holds labels."""
    absent = [name for name in wanted if name not in names]
    if absent:
        flag = "; name the column of labels with --target" if wanted[-1] in absent else ""
        raise UserError(f"{csv}: has no column {', '.join(absent)}; its columns are {', '.join(names)}{flag}")
    ragged = [line for line, row in rows if None in row or None in row.values()]
    if ragged:
        raise UserError(
            f"{csv}: line {ragged[0]} has not the {len(names)} cells of the first line; "
            "a comma inside a cell needs quotes around the cell"
        )
    return [line for line, _ in rows], [[row[name] for _, row in rows] for name in wanted]


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


def check_sizes(
    table: FaceTable, where: str, bad: Iterable[int] = (), needed: Sequence[str] = SPLITS
) -> None:
    """Check that no needed split is empty, nor that of training a single sample."""
    for split in needed:
        number = len(table.rows(split, bad))
        if number == 0:
            each = f"; each of {', '.join(needed)} needs samples" if len(needed) > 1 else ""
            raise UserError(f"{where}: the {split} split is empty{each}")
        if split == "train" and number == 1:
            raise UserError(f"{where}: the train split has one sample, and training needs at least two")


def label_bins(
    labels: np.ndarray,
    bin_width: float | None = None,
    label_min: float | None = None,
    label_max: float | None = None,
) -> Bins:
    """Return the bins of these labels: of LDS, of the shots and of re-weighting.

    Whole numbers get a bin each: the ages 0 to 120 or, where one of the limits is given, all from the lower
    to the upper limit. Fractions, and any labels where `bin_width` is given, get bins of that width (1 if it
    is not) from `label_min` or the whole number below the least label to `label_max` or the whole number
    above the greatest.
    Raises UserError for a width that makes no bins, or far too many, and names one that fits.
    """
    least, greatest = _limits(label_min, label_max)
    whole = bool((labels == np.round(labels)).all())
    if whole and bin_width is None:
        ages = label_min is None and label_max is None
        last = LAST_AGE if ages else math.ceil(greatest)
        check_bins(least, last + 1, 1.0)
        if labels.max() > last:
            log.warning("labels above %d share the bin of %d; --label_max gives them their own", last, last)
        return Bins.integers(math.floor(least), last)
    width = 1.0 if bin_width is None else bin_width
    low = math.floor(labels.min()) if label_min is None else label_min
    high = math.ceil(labels.max()) if label_max is None else label_max
    number = check_bins(low, high + whole, width)
    return Bins.uniform(low, low + number * width, number)


def check_bins(low: float, high: float, width: float) -> int:
    """Return how many bins of a width lie between two labels; raises UserError for none, or too many."""
    number = math.ceil((high - low) / width - 1e-6) if width > 0 else 0
    if 1 <= number <= MAX_BINS:
        return number
    raise UserError(
        f"--bin_width {width:g} makes no 1 to {MAX_BINS:,} bins of the labels {low:g} to {high:g}; "
        f"--bin_width {round_width(high - low, MAX_BINS):g} does"
    )
