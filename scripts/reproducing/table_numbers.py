"""The numbers of a table: means and deviations over seeds of what is recorded, beside the paper's."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from reproducing.recipes import Table
from reproducing.results import read_result

from common import cli
from common.errors import UserError
from common.metrics import METRICS

PUBLISHED_SHOT = {
    "all": "all", "many": "many", "medium": "med", "few": "few",
    "zero": "zero", "interpolation": "interp", "extrapolation": "extrap",
}  # fmt: skip
Results = Mapping[str, Sequence[dict[str, Any]]]  # row -> contents of metrics.json, a seed each


@dataclass(frozen=True)
class Number:
    """One number of a table: a row's metric on a shot."""

    row: str
    metric: str
    shot: str
    n: int  # test samples
    seeds: int  # with a value
    mean: float | None
    sd: float | None  # over seeds (n - 1); None with fewer than two
    paper: float | None
    best: bool = False  # of the rows of the table

    @property
    def difference(self) -> float | None:
        """Ours less the paper's."""
        return difference_of(self.mean, self.paper)


def difference_of(value: float | None, other: float | None) -> float | None:
    """Return `value` less `other`; None if one of them is not known."""
    return None if value is None or other is None else value - other


@cache
def published() -> dict[tuple, float]:
    """Read the paper's numbers by table, dataset, method, variant ("" without), metric and shot."""
    import pandas as pd  # slow to import

    numbers = pd.read_csv(cli.ROOT / "data" / "published.csv").fillna({"variant": ""})
    numbers = numbers[numbers["kind"] == "value"]
    keys = numbers[["table", "dataset", "method", "variant", "metric", "shot"]]
    return dict(zip(keys.itertuples(index=False, name=None), numbers["value"], strict=True))


@cache
def later_published() -> tuple[dict[str, str], ...]:
    """Read the numbers that are published of later methods, each with its source and protocol."""
    with (cli.ROOT / "data" / "later_published.csv").open(encoding="utf-8", newline="") as file:
        return tuple(csv.DictReader(file))


def later_number(table: Table, row: str, metric: str, shot: str) -> dict[str, str] | None:
    """Return the published line of the first of the table's sources that has it."""
    wanted = (table.dataset, table.rows[row].get("paper"), PUBLISHED_SHOT[shot])
    names = (table.metrics[metric], table.metrics[metric].removesuffix("(%)"))
    found = [
        line for source in table.published for line in later_published()
        if (line["dataset"], line["method"], line["shot"]) == wanted
        and line["metric"] in names and line["source"].startswith(source)
    ]  # fmt: skip
    return found[0] if found else None


def paper_number(table: Table, row: str, metric: str, shot: str) -> float | None:
    """Return the number of the first of the table's `papers` or sources that has it; correlations from -1 to 1."""
    if line := later_number(table, row, metric, shot):
        return fraction(line["metric"], float(line["value"]))
    recipe, name = table.rows[row], table.metrics[metric]
    method, variant = recipe.get("paper"), recipe.get("variant", "")
    for paper in table.papers:
        key = (paper, table.dataset, method, variant, name, PUBLISHED_SHOT[shot])
        if key in published():
            return fraction(name, published()[key])
    return None


def fraction(metric: str, value: float) -> float:
    """Return a published number, of a percentage its fraction."""
    return round(value / 100, 6) if metric.endswith("(%)") else value


def rows_of(table: Table) -> dict[str, list[dict[str, Any]]]:
    """Return the recorded results of each row that has any; a stage that trains no head has none.

    Raises UserError if no row has, if a file is cut short or of another configuration, or if some results are
    of other data than the first.
    """
    found = [(cell, result) for cell in table.cells() if (result := read_result(cell) or {}).get("shots")]
    if not found:
        raise UserError(
            f"{table.folder}/{table.name}: has no result; run scripts/reproduce.py --table {table.name}"
        )
    first, data = found[0][0], data_of(found[0][1])
    for cell, result in found:
        if data_of(result) != data:
            raise UserError(
                f"{cell.result}: is of other data ({data_of(result)}) than {first.result.name} ({data}); "
                "run the rows of one of the two again"
            )
    rows = {row: [result for cell, result in found if cell.row == row] for row in table.rows}
    return {row: results for row, results in rows.items() if results}


def data_of(result: Mapping[str, Any]) -> str:
    """Return the stand-in's description of a result, or "the real data"."""
    return result.get("standin", "the real data")


def numbers(table: Table, rows: Results) -> list[Number]:
    """Return every number, metric by metric and row by row.

    The paper's are left out where a stand-in took the place of its data: a difference would mean nothing. Where
    each row has a protocol of its own, none is the best.
    """
    standin = "standin" in next(iter(rows.values()))[0]
    found = [
        _number(table, row, metric, shot, rows[row], with_paper=not standin)
        for metric in table.metrics for row in rows for shot in table.groups
    ]  # fmt: skip
    best = {
        (metric, shot): (max if METRICS[metric].higher_is_better else min)(means)
        for metric in table.metrics for shot in table.groups
        if (means := [x.mean for x in found if (x.metric, x.shot) == (metric, shot) and x.mean is not None])
    }  # fmt: skip
    if table.protocol == "own":
        best = {}
    return [
        Number(**{**vars(x), "best": x.mean is not None and x.mean == best.get((x.metric, x.shot))})
        for x in found
    ]


def _number(
    table: Table, row: str, metric: str, shot: str, results: Sequence[dict[str, Any]], *, with_paper: bool
) -> Number:
    groups = [result["shots"].get(shot, {"n": 0}) for result in results]
    known = [value for group in groups if (value := group.get(metric)) is not None]
    return Number(
        row=row,
        metric=metric,
        shot=shot,
        n=groups[0]["n"],
        seeds=len(known),
        mean=statistics.mean(known) if known else None,
        sd=statistics.stdev(known) if len(known) > 1 else None,
        paper=paper_number(table, row, metric, shot) if with_paper else None,
    )
