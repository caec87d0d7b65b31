"""The study: what each row is worth beside its base row, and which claims of papers hold (docs/study.md).

Tables that share data, script and budget are one group, whose rows compare. Everything follows from recorded
results and predictions; torch is not needed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from reproducing.claims import LEVEL, MOMENTS, differences, moments_of, resampled
from reproducing.effects import Effect, Judged, holm, p_value
from reproducing.recipes import Cell, Claim, Table, read_tables
from reproducing.results import has_predictions, read_predictions, read_result, recorded_cells
from reproducing.table_numbers import difference_of, paper_number

from common.metrics import GROUPS, METRICS, UNSEEN

if TYPE_CHECKING:
    import pandas as pd

RESAMPLES = 10_000
ENSEMBLE = "Ensemble"
APART = ("own", "apart", "sensitivity")  # protocols of tables that take no part in the study


class Group:
    """Tables of the same data, script and budget, with the recorded cells of each row."""

    def __init__(self, tables: list[Table]) -> None:
        self.tables, self.name = tables, tables[0].name
        self.seeds = max((table.seeds for table in tables), key=len)
        self.cells: dict[str, list[Cell]] = {}  # by row, as far as they are recorded
        self.of: dict[str, Table] = {}  # the table of a row
        for table in tables:
            for row in table.rows:
                cells = [cell for seed in self.seeds if _scored(cell := table.cell(row, seed))]
                if cells and row not in self.cells:
                    self.cells[row], self.of[row] = cells, table

    @cached_property
    def results(self) -> dict[str, list[dict[str, Any]]]:
        """The recorded results of each row, a seed each."""
        return {row: [read_result(cell) or {} for cell in cells] for row, cells in self.cells.items()}

    @cached_property
    def missing(self) -> dict[str, str]:
        """The rows that take part in no comparison, with the reason."""
        reasons = {}
        for row, cells in self.cells.items():
            lacking = sorted(set(self.seeds) - {cell.seed for cell in cells})
            if lacking:
                reasons[row] = f"lacks seed {', '.join(map(str, lacking))}"
            elif not all(map(has_predictions, cells)):
                reasons[row] = "has no predictions"
        return reasons

    @property
    def not_run(self) -> list[str]:
        """The rows of its tables without any result."""
        rows = dict.fromkeys(row for table in self.tables for row in table.rows)
        return [row for row in rows if row not in self.cells]

    @cached_property
    def frames(self) -> dict[str, list[pd.DataFrame]]:
        """The predictions of each complete row, and of the ensemble, a frame for each seed."""
        found = {
            row: [frame for cell in cells if (frame := read_predictions(cell)) is not None]
            for row, cells in self.cells.items()
            if row not in self.missing
        }
        pair = [found.get(row, []) for row in ("Vanilla", self.base_weights)]
        if all(pair) and "prediction" in pair[0][0] and self.base_weights != "Vanilla":
            found[ENSEMBLE] = [
                a.assign(prediction=(a["prediction"] + b["prediction"]) / 2).filter(
                    ["label", "shot", "unseen", "prediction"]
                )
                for a, b in zip(*pair, strict=True)
            ]
        return found

    @property
    def base_weights(self) -> str:
        """The row of the base re-weighting, or Vanilla where there is none."""
        return next((row for row in ("SQINV", "INV", "Vanilla + LDS") if row in self.cells), "Vanilla")

    @property
    def standin(self) -> str | None:
        """Which stand-in took the place of the data, if any."""
        return next(iter(self.results.values()))[0].get("standin")

    @property
    def data(self) -> tuple[str, ...]:
        """What two groups on one data set share."""
        flags = re.findall(r"--(?:data_dir|dataset|csv|target) \S+", self.tables[0].flags)
        return self.results[next(iter(self.results))][0].get("dataset", ""), *flags

    @property
    def metrics(self) -> list[str]:
        """The metrics of its tables that predictions give, the main one first."""
        return [metric for metric in self.tables[0].metrics if metric in MOMENTS]

    def base(self, row: str) -> str:
        """Return the row that this one is compared with."""
        named = self.of[row].rows[row].get("base") if row in self.of else None
        first = re.split(r" \+ | \(", row)[0]
        return named or (first if first in self.cells and first != row else "Vanilla")

    def minutes(self, row: str) -> float | None:
        """Return the mean minutes of training of a run; None where they were not recorded."""
        known = [result["minutes"] for result in self.results.get(row, ()) if "minutes" in result]
        return float(np.mean(known)) if known else None

    def recorded(self, row: str, metric: str, shot: str) -> float | None:
        """Return the mean over seeds of what the results say, for metrics that predictions alone do not give."""
        values = [result["shots"][shot].get(metric) for result in self.results.get(row, ())]
        return float(np.mean(values)) if values and None not in values else None

    @cached_property
    def drawn(self) -> dict[tuple[str, str, str], tuple[float, np.ndarray]]:
        """The mean over seeds and the resamples of each row, metric and shot."""
        found = {}
        for shot in (*GROUPS, *UNSEEN):
            keys = [(row, metric) for row in self.frames for metric in self.metrics]
            rows = [([moments_of(f, metric, shot) for f in self.frames[row]], metric) for row, metric in keys]
            if not rows or not len(rows[0][0][0]):
                continue
            for (row, metric), (seeds, _), values in zip(keys, rows, resampled(rows, RESAMPLES), strict=True):
                mean = np.mean([MOMENTS[metric](seed.sum(axis=0)[None])[0] for seed in seeds])
                found[row, metric, shot] = float(mean), values
        return found

    @cached_property
    def effects(self) -> list[Effect]:
        """The difference of every complete row from its base row, where that is complete too."""
        found = []
        for (row, metric, shot), (value, values) in self.drawn.items():
            base = (self.base(row), metric, shot)
            if row == base[0] or base not in self.drawn:
                continue
            low, high = np.percentile(
                differences(values, self.drawn[base][1]), [(100 - LEVEL) / 2, (100 + LEVEL) / 2]
            )
            if np.isfinite([low, high]).all():
                difference = value - self.drawn[base][0]
                found.append(Effect(row, base[0], metric, shot, value, difference, float(low), float(high)))
        return found

    def claims(self) -> list[tuple[Claim, Table]]:
        """Return every claim of its tables once, of the first that has it: there the paper's number stands too."""
        found: dict[tuple[str, ...], tuple[Claim, Table]] = {}
        for table in self.tables:
            for c in table.claims:
                found.setdefault((c.better, c.than, c.metric, c.shot), (c, table))
        return list(found.values())

    def judged(self) -> list[Judged]:
        """Return the claims whose rows are complete, judged at Holm's levels over them all."""
        keys = {}
        for claim, table in self.claims():
            pair = [(row, claim.metric, claim.shot) for row in (claim.better, claim.than)]
            if all(key in self.drawn for key in pair):
                keys[claim] = (pair, table)
        drawn = [differences(*(self.drawn[key][1] for key in pair)) for pair, _ in keys.values()]
        levels = holm([p_value(values) for values in drawn])
        return [
            self._judged(claim, *keys[claim], values, level)
            for claim, values, level in zip(keys, drawn, levels, strict=True)
        ]

    def _judged(
        self, claim: Claim, pair: list, table: Table, values: np.ndarray, level: tuple[float, bool]
    ) -> Judged:
        alpha, rejected = level
        low, high = np.percentile(values, [50 * alpha, 100 - 50 * alpha])
        ours = self.drawn[pair[0]][0] - self.drawn[pair[1]][0]
        paper = difference_of(*(paper_number(table, row, claim.metric, claim.shot) for row, _, _ in pair))
        as_claimed = (ours > 0) is METRICS[claim.metric].higher_is_better
        word: Any = ("holds" if as_claimed else "does not hold") if rejected else "undecided"
        names = {table.dataset, table.key.removeprefix("tabular-").removeprefix("study-")}
        carried = bool(claim.on) and not names & set(claim.on)
        return Judged(claim, carried, ours, None if carried else paper, float(low), float(high), word)


def groups(*, apart: bool = False) -> list[Group]:
    """Return the groups that have results, in the order of the recipes.

    With `apart`, those that take no part in the study: rows of an "own" protocol do not compare, an "apart" or
    "sensitivity" table varies what the study keeps.
    """
    pooled: dict[tuple[str, str, str], list[Table]] = {}
    for table in read_tables().values():
        outside = table.protocol if table.protocol in APART else ""
        if table.folder == "results" and bool(outside) == apart and any(recorded_cells(table)):
            key = (table.script, " ".join(table.flags.split()), outside and table.key)
            pooled.setdefault(key, []).append(table)
    return [group for group in map(Group, pooled.values()) if group.cells]


def _scored(cell: Cell) -> bool:
    """Return whether a cell has a result with metrics; a stage that trains no head has none."""
    return bool((read_result(cell) or {}).get("shots"))


def one_of_each(studied: Iterable[Group]) -> Iterator[Group]:
    """Yield the first group of each data set; a zero-shot subset is none of its own."""
    seen = set()
    for group in studied:
        if group.data not in seen and "zero" not in group.tables[0].groups:
            seen.add(group.data)
            yield group


def ranks(studied: list[Group]) -> dict[str, list[int]]:
    """Return the ranks of each row by the main metric over all labels, one for each data set.

    The base re-weighting of each data set, INV or SQINV, goes by one name.
    """
    found: dict[str, list[int]] = {}
    for group in one_of_each(studied):
        metric = group.metrics[0]
        values = {row: group.drawn[row, metric, "all"][0] for row in group.frames if row in group.cells}
        order = sorted(values, key=values.__getitem__, reverse=METRICS[metric].higher_is_better)
        for rank, row in enumerate(order, start=1):
            name = re.sub(rf"^{re.escape(group.base_weights)}(?=$| \+)", "base weights", row)
            found.setdefault(name, []).append(rank)
    return found
