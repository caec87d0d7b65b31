"""The predictions of a table's cells in one file, `results/TABLE/predictions.csv.gz`.

Labels, shots and names stand there once. Each cell has a column for each thing that it predicts,
`CELL/prediction`, where CELL is the name of its result without the ending. Texts are kept as the run wrote them.
"""

from __future__ import annotations

import csv
import fcntl
import gzip
import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from common.errors import UserError
from common.files import digest, write_atomically
from common.metrics import GROUPS, unseen_bins

if TYPE_CHECKING:
    import pandas as pd

# Columns that are the same for every cell.
OF_THE_DATA = ("bin", "path", "row", "line", "label", "shot", "unseen", "train_pixels", "n")
OF_TEXT = ("path", "shot", "unseen")
Columns = Mapping[str, list[str]]


def read_cell(file: Path, cell: str) -> dict[str, list[str]] | None:
    """Return the columns of a cell, those of the data first; None if the file has none of it.

    Raises UserError if the file is broken.
    """
    columns = parse_file(file)
    own = {name.partition("/")[2]: name for name in columns if name.startswith(f"{cell}/")}
    if not own:
        return None
    data = {name: values for name, values in columns.items() if name in OF_THE_DATA}
    return data | {name: columns[full] for name, full in own.items()}


def write_cells(file: Path, cells: Mapping[str, Columns]) -> None:
    """Add the columns of these cells in place of their old ones; drop those of cells without a result.

    Raises UserError if a cell was tested on other samples than the rest.
    """
    with _locked(file.parent):
        kept = {
            name: values for name, values in parse_file(file).items()
            if "/" not in name or (_has_result(file, name) and name.partition("/")[0] not in cells)
        }  # fmt: skip
        if not any("/" in name for name in kept):
            kept = {}
        for cell, columns in cells.items():
            _add(file, kept, cell, columns)
        order = sorted(
            kept, key=lambda name: OF_THE_DATA.index(name) if "/" not in name else len(OF_THE_DATA)
        )
        write_atomically(file, _compressed({name: kept[name] for name in order}))


def parse(text: str) -> dict[str, list[str]]:
    """Return the columns of a CSV as texts; raises ValueError if a row is cut short."""
    lines = list(csv.reader(io.StringIO(text)))
    if not lines or any(len(line) != len(lines[0]) for line in lines):
        raise ValueError("its rows differ in length" if lines else "it is empty")
    return {name: [line[i] for line in lines[1:]] for i, name in enumerate(lines[0])}


def digest_of(columns: Columns) -> str:
    """Return the digest that a result keeps of its predictions.

    Names of samples do not count, nor does `unseen`, which earlier runs of the same table did not write.
    """
    counted = [name for name in sorted(columns) if name not in ("path", "row", "line", "unseen")]
    return digest("\n".join([name, *columns[name]]).encode() for name in counted)


def of_shot(frame: pd.DataFrame, shot: str) -> pd.DataFrame | None:
    """Return the samples, or depth bins, of a group; None where an earlier run did not write which are unseen."""
    if shot in GROUPS:
        return frame if shot == "all" else frame[frame["shot"] == shot]
    if "train_pixels" in frame:
        kind = unseen_bins(frame["train_pixels"].to_numpy())
    elif "unseen" in frame:
        kind = frame["unseen"].to_numpy(str)
    else:
        return None
    return frame[kind != "" if shot == "zero" else kind == shot]


def _add(file: Path, kept: dict[str, list[str]], cell: str, columns: Columns) -> None:
    for name, values in columns.items():
        if name not in OF_THE_DATA:
            kept[f"{cell}/{name}"] = values
        elif kept.setdefault(name, values) != values:
            raise UserError(
                f"{file}: has another {name} of the test samples than {cell}; "
                "run every row of the table again on the same data"
            )
    if len({len(values) for values in kept.values()}) > 1:
        raise UserError(f"{file}: has another number of test samples than {cell}; run both again")


def _has_result(file: Path, name: str) -> bool:
    return (file.parent / f"{name.partition('/')[0]}.json").exists()


def parse_file(file: Path) -> dict[str, list[str]]:
    """Return all columns of a table's predictions, none without the file; raises UserError if it is broken."""
    if not file.exists():
        return {}
    status = file.stat()
    try:
        return _parsed(file, status.st_mtime_ns, status.st_size)
    except (OSError, EOFError, ValueError) as error:
        raise UserError(
            f"{file}: is broken ({error}); restore it, or delete it and run scripts/reproduce.py again"
        ) from error


@lru_cache(maxsize=32)  # about as many as there are tables, which are read in turn more than once
def _parsed(file: Path, _time: int, _size: int) -> dict[str, list[str]]:
    return parse(gzip.decompress(file.read_bytes()).decode())


def _compressed(columns: Columns) -> bytes:
    """Compress without a time, so that the same predictions give the same bytes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return gzip.compress(text.getvalue().encode(), mtime=0)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder for one process: several sweeps may record into one table."""
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
