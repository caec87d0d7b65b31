"""IMDB-WIKI-DIR from the two .mat files beside its face crops (see `scripts/prepare.py`)."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from preparing.faces import FaceSet, Source, add_persons_argument, parser, prepare
from preparing.splits import Rows, blob_id, published_ids, rows_text, some

from common.errors import UserError
from common.images.decode import missing

CROPS = {"imdb": "imdb_crop", "wiki": "wiki_crop"}  # in the order of the published rows
FIELDS = ("full_path", "dob", "photo_taken", "face_score", "second_face_score")
LEAST_SCORE = 1.0  # of the face detector
OLDEST_KEPT = 200
MATLAB_DAYS = 366  # MATLAB counts days from year 0, Python from year 1
GET_IMDB_WIKI = (
    "python scripts/download.py imdb-wiki gets the face crops with it, a stand-in comes from "
    "python scripts/make_standin.py imdb-wiki"
)


def ages_of(birth: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """Return ages, float64 `(N,)`, from the MATLAB days of `birth` and the years `taken`, both `(N,)`.

    A photo counts as taken in the middle of its year; a day before year 1 counts as the first of it. NaN
    where a number is not finite or a day is of no year that Python knows.
    """
    birth, taken = birth.astype(np.float64), taken.astype(np.float64)
    last = np.datetime64("9999-12-31") - np.datetime64("0001-01-01") + np.timedelta64(1)
    with np.errstate(invalid="ignore"):
        day = np.maximum(np.trunc(birth) - MATLAB_DAYS, 1)
        known = np.isfinite(birth) & np.isfinite(taken) & (day <= last.astype(int))
    dates = np.datetime64("0001-01-01") + (np.where(known, day, 1) - 1).astype("timedelta64[D]")
    month = dates.astype("datetime64[M]").astype(int) % 12 + 1
    year = dates.astype("datetime64[Y]").astype(int) + 1970
    return np.where(known, taken - year - (month >= 7), np.nan)


def read_mat(file: Path, name: str, wanted: Sequence[str] = FIELDS) -> dict[str, np.ndarray]:
    """Return these columns of the struct `name`, each `(N,)`; raises UserError without them."""
    if not file.is_file():
        raise UserError(f"{file}: there is no such file; {GET_IMDB_WIKI}")
    from scipy.io import loadmat  # slow to import

    try:
        content = loadmat(file, variable_names=[name])
    except (MemoryError, KeyboardInterrupt):
        raise
    except Exception as error:  # on bad bytes SciPy's reader raises all sorts
        raise UserError(f"{file}: cannot be read as a MATLAB file ({error}); {GET_IMDB_WIKI}") from error
    struct = content.get(name, np.empty(0))
    fields = struct.dtype.names or ()
    absent = [field for field in wanted if field not in fields]
    if absent or struct.size != 1:
        raise UserError(
            f"{file}: holds no struct {name!r} with the field {' and '.join(absent or wanted)}; "
            f"{GET_IMDB_WIKI}"
        )
    columns = {field: np.ravel(struct.flat[0][field]) for field in wanted}
    lengths = {field: len(column) for field, column in columns.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{field} {length:,}" for field, length in lengths.items())
        raise UserError(f"{file}: its columns differ in length ({told}); {GET_IMDB_WIKI}")
    return columns


def path_of(cell: Any) -> str:
    """Return the text in a MATLAB cell; empty if it holds none."""
    words = np.ravel(cell)
    return str(words[0]).strip() if words.dtype.kind == "U" and len(words) else ""


def rows_of_mat(folder: Path, name: str) -> Rows:
    """Return the rows of a .mat file that the published rule keeps, in its order; print the others.

    A face is kept that was detected with a score of at least 1, alone in its picture, at an age of 0 to 200.
    """
    file = folder / CROPS[name] / f"{name}.mat"
    columns = read_mat(file, name)
    paths = np.array([path_of(cell) for cell in columns["full_path"]], dtype=object)
    ages = ages_of(columns["dob"], columns["photo_taken"])
    with np.errstate(invalid="ignore"):
        refused = {
            f"score below {LEAST_SCORE:g}": ~(columns["face_score"] >= LEAST_SCORE),
            "second face": columns["second_face_score"] > 0,
            f"age outside 0 to {OLDEST_KEPT}": ~((ages >= 0) & (ages <= OLDEST_KEPT)),
            "path missing": paths == "",
            "path was there before": _repeated(paths),
        }
    left, told = np.ones(len(paths), bool), []
    for reason, wrong in refused.items():
        told += [f"{(left & wrong).sum():,} {reason}"] if (left & wrong).any() else []
        left &= ~wrong
    print(
        f"{file}: {left.sum():,} of {len(left):,} faces" + (f"; left out: {', '.join(told)}" if told else "")
    )
    kept = np.flatnonzero(left)
    return Rows(ages[kept].astype(int).tolist(), [f"{CROPS[name]}/{paths[row]}" for row in kept])


def _repeated(paths: np.ndarray) -> np.ndarray:
    first: dict[str, int] = {}
    return np.array([first.setdefault(path, row) != row for row, path in enumerate(paths)], bool)


def source(args: argparse.Namespace) -> Source:
    """Return the rows of IMDB, then those of WIKI; print their missing images."""
    if not args.data_dir.is_dir():
        raise UserError(f"{args.data_dir}: there is no such folder; {GET_IMDB_WIKI}")
    imdb, wiki = (rows_of_mat(args.data_dir, name) for name in CROPS)
    rows = Rows(imdb.ages + wiki.ages, imdb.paths + wiki.paths)
    absent = missing([args.data_dir / path for path in rows.paths])
    if absent:
        named = some(rows.paths[row] for row in absent)
        print(
            f"Of the {len(rows.paths):,} images, {len(absent):,} are missing ({named}): unpack the archives "
            "whole, or train with --bad_images skip"
        )
    return Source(rows, args.data_dir)


def persons(folder: Path, paths: list[str]) -> list[str] | None:
    """Return the person on each image, from the .mat files; None without them, or if one lacks an image.

    A face without a name is a person of its own.
    """
    name_of = {}
    for crops, folder_name in ((name, CROPS[name]) for name in CROPS):
        file = folder / folder_name / f"{crops}.mat"
        if not file.is_file():
            return None
        columns = read_mat(file, crops, ("full_path", "name"))
        for path, name in zip(map(path_of, columns["full_path"]), map(path_of, columns["name"]), strict=True):
            name_of[f"{folder_name}/{path}"] = name or path
    found = [name_of.get(path) for path in paths]
    return None if None in found else [name for name in found if name]


def is_published(ages: Iterable[float], paths: Iterable[str], splits: Iterable[str]) -> bool:
    """Return whether these rows, in this order, are the published imdb_wiki.csv."""
    rows = Rows([int(age) for age in ages], list(paths))
    written = rows_text(rows, list(splits)).encode(errors="replace")
    return blob_id(written) == published_ids()[IMDB_WIKI.csv]


IMDB_WIKI = FaceSet("imdb-wiki", "IMDB-WIKI-DIR", 150, source, is_published, persons=persons)


def imdb_wiki(argv: Sequence[str]) -> int:
    """Run `prepare.py imdb-wiki` and return its exit code."""
    doc = "Split IMDB-WIKI-DIR by the published rule, from the .mat files beside the face crops."
    flags = parser("imdb-wiki", doc, "the folder that holds imdb_crop/ and wiki_crop/")
    add_persons_argument(flags)
    return prepare(IMDB_WIKI, flags.parse_args(argv))
