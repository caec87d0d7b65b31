"""The CSV of one's own that `scripts/prepare.py own` looks at: its cells, labels and files."""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.datasets import faces
from common.errors import UserError
from common.images.decode import problem

LABELS = ("label", "target", "age", "y")  # columns that are taken for labels where none is named
NO_LABELS = ("path", "split", "subject")
VOLUMES = (".npy", ".npz", ".nii", ".nii.gz")


class Own(NamedTuple):
    """A CSV that was read: its cells by column, and of each row the line and the label."""

    file: Path
    columns: dict[str, list[str]]
    lines: list[int]
    target: str
    labels: np.ndarray  # float32 (N,)

    @property
    def kind(self) -> str:
        """What a row is: "images", "volumes" or "rows" of a table."""
        if "path" not in self.columns:
            return "rows"
        return "volumes" if self.columns["path"][0].lower().endswith(VOLUMES) else "images"

    def written(self, splits: np.ndarray) -> str:
        """Return the CSV with a column of splits."""
        stream = io.StringIO(newline="")
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([*self.columns, "split"])
        writer.writerows(zip(*self.columns.values(), splits, strict=True))
        return stream.getvalue()


def read_own(file: Path, target: str | None) -> Own:
    """Read a CSV; raises UserError, with the line numbers, for its defects."""
    names, rows = faces.read_rows(file, "name a CSV whose first line names its columns")
    if not rows:
        raise UserError(f"{file}: has no row below its first line")
    target = target or choose_target(file, names)
    lines, (cells,) = faces.read_columns(file, names, rows, (target,))
    labels = faces.read_numbers(file, lines, cells, target, (-math.inf, math.inf))
    if np.ptp(labels) == 0:
        raise UserError(f"{file}: every row has the {target} {labels[0]:g}, so nothing can be learned")
    columns = {name: [row[name] for _, row in rows] for name in names}
    if paths := columns.get("path"):
        faces.check_paths(file, lines, paths)
        missing = np.array([problem(file.parent / path) is not None for path in paths])
        faces.refuse(file, lines, missing, paths, "no such file", "paths are relative to the CSV's folder")
    return Own(file, columns, lines, target, labels)


def choose_target(file: Path, names: Sequence[str]) -> str:
    """Return the column of labels where none is named; raises UserError where several may be it."""
    others = [name for name in names if name not in NO_LABELS]
    known = [name for name in LABELS if name in others]
    if len(others) != 1 and not known:
        raise UserError(
            f"{file}: name the column of labels with --target; its columns are {', '.join(names)}"
        )
    return (known or others)[0]


def copies(own: Own) -> list[str]:
    """Return of each row a digest of its file, or of a table's row without its split."""
    if "path" in own.columns:
        contents = ((own.file.parent / path).read_bytes() for path in own.columns["path"])
    else:
        cells = [column for name, column in own.columns.items() if name != "split"]
        contents = ("\0".join(row).encode() for row in zip(*cells, strict=True))
    return [hashlib.sha256(content).hexdigest() for content in contents]
