"""What scripts/probe_fds.py found, for docs/fds.md: means over seeds of the errors in docs/fds/TABLE.csv."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from reproducing.overview import short
from reproducing.recipes import Table
from reproducing.results import read_result
from reproducing.table_text import MINUS, markdown_table

from common import cli
from common.errors import UserError
from common.metrics import METRICS

if TYPE_CHECKING:
    import pandas as pd

    Found = list[tuple[Table, pd.DataFrame]]

MARKED = re.compile(r"(<!-- probe (readers|data|settings) ((?:\S+ )+)-->\n).*?(<!-- end -->)", re.DOTALL)
BINS = ("raw", "true bin", "random bin", "predicted bin")  # what calibrates the features
READERS = (
    ("head", "train", "the run's head", "training"),
    ("head", "test", "the run's head", "test"),
    ("ridge", "train", "new linear reader", "other half of training"),
    ("ridge", "test", "new linear reader", "test"),
)


def updated(text: str, find: Callable[[str, str], Table]) -> str:
    """Return a page's text with what stands from `<!-- probe KIND TABLE... -->` to `<!-- end -->` written anew.

    `find` gives the table that a marker of some kind names. Raises UserError if one was not probed.
    """
    return MARKED.sub(lambda mark: mark[1] + _formatted(mark, find) + mark[4], text)


def _formatted(mark: re.Match, find: Callable[[str, str], Table]) -> str:
    lines = {"readers": _readers, "data": _data, "settings": _settings}[mark[2]]
    found = [(table, probed(table)) for table in (find("probe", name) for name in mark[3].split())]
    return markdown_table(list(lines(found)), left=2) + "\n"


def probed(table: Table) -> pd.DataFrame:
    """Return the errors over all bins of a table's runs: row, seed, reader and split, a column for each calibration.

    Raises UserError without a file, or where it has not the same seeds for each row.
    """
    import pandas as pd  # a second to import

    path = cli.ROOT / "docs" / "fds" / f"{table.name}.csv"
    if not path.is_file():
        raise UserError(
            f"{path}: is not there; run scripts/probe_fds.py --table {table.name} --out "
            f"{path.with_suffix('.png')}"
        )
    found = pd.read_csv(path)
    seeds = {str(row): frozenset(own["seed"]) for row, own in found.groupby("run")}
    if len(set(seeds.values())) != 1 or not seeds.keys() <= table.rows.keys():
        raise UserError(f"{path}: has other rows than {table.name}, or not the same seeds for each")
    return found[found["part"] == "all"]


def _mean(frame: pd.DataFrame, row: str, reader: str, split: str, bins: str) -> float:
    own = frame[(frame["run"] == row) & (frame["reader"] == reader) & (frame["split"] == split)]
    return float(own[bins].mean())


def _readers(found: Found) -> Iterator[list[str]]:
    """Yield a line for each reader and split of a table's only row."""
    yield ["reader", "rows", *BINS]
    for _, frame in found:
        (row,) = frame["run"].unique()
        for reader, split, name, rows in READERS:
            yield [name, rows, *(short(_mean(frame, row, reader, split, bins)) for bins in BINS)]


def _settings(found: Found) -> Iterator[list[str]]:
    """Yield a line for each row: what is in brackets is what was changed."""
    parts = [*READERS[:2], READERS[3]]
    yield ["data", "changed", *(f"{n}, {x}: {b}" for _, _, n, x in parts for b in BINS[:2])]
    for table, frame in found:
        for row in (row for row in table.rows if row in set(frame["run"])):
            changed = re.search(r"\((.*)\)", row)
            cells = (short(_mean(frame, row, *part[:2], b)) for part in parts for b in BINS[:2])
            yield [table.name, changed[1] if changed else "nothing", *cells]


def _data(found: Found) -> Iterator[list[str]]:
    """Yield a line for each table's only row, beside its base row under the same seeds; shares in per cent."""
    yield [
        "data", "metric", "training, test rows", "dim", "without FDS", "with FDS", "read, training", "read, test",
        "new reader, test, raw", "true bin",
    ]  # fmt: skip
    for table, frame in found:
        (row,), metric = frame["run"].unique(), frame["metric"].iloc[0]
        base = row.replace(" + FDS", "")
        results = [read_result(table.cell(base, seed)) or {} for seed in sorted(set(frame["seed"]))]
        values = {
            split: [_mean(frame, row, "head", split, b) for b in BINS[:2]] for split in ("train", "test")
        }
        sizes = frame[frame["reader"] == "head"].groupby("split")["n"].first()
        yield [
            table.name, METRICS[metric].heading, f"{sizes['train']:,}, {sizes['test']:,}", f"{frame['dim'].iloc[0]}",
            short(float(np.mean([x["shots"]["all"][metric] for x in results]))), short(values["test"][0]),
            *(f"{100 * (1 - b / a):.0f} %".replace("-", MINUS) for a, b in values.values()),
            *(short(_mean(frame, row, "ridge", "test", b)) for b in BINS[:2]),
        ]  # fmt: skip
