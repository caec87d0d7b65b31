"""What a check of a data folder found, as lines that are printed as they come."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from preparing.splits import blob_id, some, summary

from common import cli
from common.bins import Bins
from common.errors import UserError
from common.metrics import GROUPS, Shots

T = TypeVar("T")

PROTOCOL = cli.ROOT / "data" / "protocol.json"


def read_protocol(name: str) -> dict[str, Any]:
    """Return the published facts of a data set, which are part of this repository."""
    return json.loads(PROTOCOL.read_text(encoding="utf-8"))[name]


def _text(value: object) -> str:
    if isinstance(value, tuple | list):
        return " / ".join(map(_text, value))
    return (
        f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else str(value)
    )


class Report:
    """Each thing that was looked at, and whether it is as it should be.

    `paper` holds the published facts; it is empty for a stand-in, which is held to itself alone.
    """

    def __init__(self, paper: Mapping[str, Any], group: str | None = None) -> None:
        self.paper, self.group, self.checks = paper, group, 0  # group: the column of persons, if one is named
        self.source = "the paper's data have"  # of the facts, as messages name it
        self.faults: list[str] = []

    def fine(self, what: str) -> None:
        """Print a fact that is as it should be."""
        self.checks += 1
        print(f"  ok     {what}")

    def wrong(self, what: str) -> None:
        """Print and count a defect."""
        self.checks += 1
        self.faults.append(what)
        print(f"  WRONG  {what}")

    def expect(self, what: str, found: object, fact: str) -> None:
        """Hold a number to the published one called `fact`; without one, it is only told."""
        wanted = self.paper.get(fact)
        if wanted is None or _text(found) == _text(wanted):
            self.fine(f"{what}: {_text(found)}")
        else:
            self.wrong(f"{what}: {_text(found)}, where {self.source} {_text(wanted)}")

    def none_of(self, things: str, total: int, are: str, wrong: Iterable[object]) -> None:
        """Check that no item has this defect; list the first few that do."""
        wrong = list(wrong)
        if wrong:
            self.wrong(f"{len(wrong):,} of {total:,} {things} {are}: {some(wrong)}")
        else:
            self.fine(f"none of {total:,} {things} {are}")

    def split(self, labels: np.ndarray, splits: np.ndarray, shots: Shots, what: str, balanced: Bins) -> None:
        """Check sizes, range, balance, extreme bins and shots of labels `(N,)` in their splits `(N,)`.

        Validation and test must have as many rows as each other of each of the bins `balanced`.
        """
        print(summary(labels, splits, shots, what))
        for name in ("train", "val", "test"):
            self.expect(f"{name} rows", int((splits == name).sum()), name)
        counts = shots.counts[shots.counts > 0]
        self.expect("labels from / to", (float(labels.min()), float(labels.max())), "labels")
        self.expect("training samples in the fullest bin", int(counts.max()), "largest")
        self.expect("training samples in the emptiest bin", int(counts.min()), "smallest")
        val, test = (balanced.counts(labels[splits == name]) for name in ("val", "test"))
        uneven = [f"{edge:g}" for edge in balanced.left_edges[val != test]]
        self.none_of("bins of labels", balanced.num, "differ in number between val and test", uneven)
        groups = shots.groups(labels[splits == "test"])
        numbers = tuple(int(groups[group].sum()) for group in GROUPS[1:])
        self.expect("test rows, many / medium / few", numbers, "test_shots")
        present = np.unique(shots.bins.index(labels))
        groups = shots.groups(shots.bins.left_edges[present] + shots.bins.width / 2)
        numbers = tuple(int(groups[group].sum()) for group in GROUPS[1:])
        self.expect(f"{what}, many / medium / few", numbers, "bin_shots")

    def known_file(self, file: Path, wanted: str) -> None:
        """Hold a file to git's id of the published one; lines may end as on Windows."""
        content = file.read_bytes()
        if wanted in (blob_id(content), blob_id(content.replace(b"\r\n", b"\n"))):
            self.fine(f"{file.name}: is the published file")
        else:
            self.wrong(f"{file.name}: is not the published file (git's id is {blob_id(content)[:12]})")

    def reads(self, read: Callable[..., T], *args: Any, **how: Any) -> T | None:
        """Return `read(*args, **how)`, or None if it raises UserError, which is a defect."""
        try:
            return read(*args, **how)
        except UserError as error:
            self.wrong(str(error))
            return None
