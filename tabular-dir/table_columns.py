"""The columns of a table as numbers: read from a CSV, fitted on training rows, and turned into vectors."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from common.errors import UserError

FIRST_LINE = 2  # the line of the file that the first row, row 0, stands in
MOST_CATEGORIES = 255  # of one column; more are a key or a text


def read_table(path: Path) -> pd.DataFrame:
    """Return a CSV as text, missing values as NaN; raises UserError if it is not there or no table."""
    if not path.is_file():
        raise UserError(
            f"--csv {path}: there is no such file; --csv names one whose first line names its columns"
        )
    try:
        return pd.read_csv(path, dtype=str, na_values=["?"], skip_blank_lines=False)
    # Of pandas: no columns, another number of fields, bytes that are no text.
    except (ValueError, OSError) as error:
        why = " ".join(str(error).split())
        raise UserError(f"--csv {path}: is no table ({why}); a line of names comes first") from error


def numbers_of(table: pd.DataFrame, column: str, path: Path, hint: str) -> np.ndarray:
    """Return a column as float64, missing values as NaN; raises UserError, with the line, for anything else."""
    values = pd.to_numeric(table[column], errors="coerce").to_numpy(np.float64)
    text = np.isnan(values) & table[column].notna().to_numpy()
    for row in table.index[text]:
        raise UserError(
            f"{path}, line {row + FIRST_LINE}: {column} {table[column][row]!r} is no number; {hint}"
        )
    for row in table.index[np.isinf(values)]:
        raise UserError(
            f"{path}, line {row + FIRST_LINE}: {column} is infinite; correct it or leave it empty"
        )
    return values


@dataclass(frozen=True)
class Columns:
    """What was fitted to the training rows, as plain arrays: numbers first, then missing flags, then categories."""

    numbers: tuple[str, ...]
    fill: np.ndarray  # float64 (numbers,): the median, for a missing value
    mean: np.ndarray  # float64 (numbers,)
    scale: np.ndarray  # float64 (numbers,)
    flagged: np.ndarray  # bool (numbers,): whether training lacks a value, so that another column says so
    categories: dict[str, list[str]]  # by column; a missing value is the category ""

    @property
    def width(self) -> int:
        """The length of a vector."""
        return len(self.numbers) + int(self.flagged.sum()) + sum(map(len, self.categories.values()))

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all of it as arrays of numbers; names and categories as the bytes of JSON."""
        names = json.dumps({"numbers": self.numbers, "categories": self.categories}).encode()
        fitted = {name: getattr(self, name) for name in ("fill", "mean", "scale", "flagged")}
        return fitted | {"names": np.frombuffer(names, np.uint8).copy()}

    def vectors(self, table: pd.DataFrame, path: Path) -> np.ndarray:
        """Return the rows as vectors, float32 `(N, width)`; a category that training lacks is all zeros."""
        numbers = raw_numbers(table, self.numbers, path)
        missing = np.isnan(numbers)
        parts = [(np.where(missing, self.fill, numbers) - self.mean) / self.scale, missing[:, self.flagged]]
        for column, known in self.categories.items():
            parts.append(table[column].fillna("").to_numpy(str)[:, None] == np.array(known)[None])
        return np.concatenate(parts, axis=1).astype(np.float32)


def raw_numbers(table: pd.DataFrame, columns: Sequence[str], path: Path) -> np.ndarray:
    """Return columns of numbers, float64 `(N, columns)`."""
    hint = "correct it, leave it empty, or name the column with --categories"
    found = [numbers_of(table, column, path, hint) for column in columns]
    return np.stack(found, axis=1) if found else np.empty((len(table), 0))


def fit_columns(table: pd.DataFrame, train: np.ndarray, categories: Sequence[str], path: Path) -> Columns:
    """Fit the columns of a table to its training rows.

    A column is one of numbers where a training row has one, unless it is among `categories`. Raises UserError
    for a column that is neither, and for a table without columns.
    """
    from sklearn.impute import SimpleImputer  # seconds to import
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    if not len(table.columns):
        raise UserError(f"{path}: has no column beside the target")
    rows = table.iloc[train]
    names = list(map(str, table))
    numeric = tuple(c for c in names if c not in categories and is_numeric(rows[c]))
    others = [column for column in names if column not in numeric]
    for column in others:
        check_categories(rows[column], path)
    found: dict[str, list[str]] = {}
    if others:
        encoder = OneHotEncoder(sparse_output=False).fit(rows[others].fillna("").to_numpy(str))
        found = {c: list(map(str, known)) for c, known in zip(others, encoder.categories_, strict=True)}
    numbers = raw_numbers(rows, numeric, path) if numeric else np.empty((len(rows), 0))
    if not numeric:
        none = np.empty(0)
        return Columns((), none, none, none, none.astype(bool), found)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a column without any value is filled with 0
        imputer = SimpleImputer(strategy="median", keep_empty_features=True).fit(numbers)
    scaler = StandardScaler().fit(imputer.transform(numbers))
    flagged = np.asarray(np.isnan(numbers).any(axis=0))
    return Columns(numeric, imputer.statistics_, scaler.mean_, scaler.scale_, flagged, found)


def is_numeric(column: pd.Series) -> bool:
    """Return whether some value of a column is a number, or all are missing."""
    return bool(column.isna().all() or pd.to_numeric(column, errors="coerce").notna().any())


def check_categories(column: pd.Series, path: Path) -> None:
    """Raise UserError where a column has too many categories for one."""
    number = column.nunique()
    if number > MOST_CATEGORIES:
        raise UserError(
            f"{path}: {column.name} has {number:,} categories in {len(column):,} training rows, at most "
            f"{MOST_CATEGORIES} can be learned; leave the column out with --ignore {column.name}"
        )


def equal_columns(table: pd.DataFrame, labels: np.ndarray) -> list[str]:
    """Return the columns that equal the labels, up to a factor and a constant."""
    found = []
    for column in table:
        values = pd.to_numeric(table[column], errors="coerce").to_numpy(np.float64)
        if np.isfinite(values).all() and np.ptp(values) > 0:
            scaled = (values - values.mean()) / values.std()
            if abs(abs(float(np.mean(scaled * labels))) - 1) < 1e-9:
                found.append(str(column))
    return found
