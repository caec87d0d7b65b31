"""The recorded result of a finished cell: its `metrics.json` with its command, and its predictions.

Both are small and in git, so that tables and verdicts can be checked without the runs.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from reproducing import predictions
from reproducing.predictions import Columns
from reproducing.recipes import Cell, Table

from common.cli import ROOT
from common.errors import RunFailed, UserError
from common.files import read_json, write_json

if TYPE_CHECKING:
    import pandas as pd

State = Literal["recorded", "new", "cut short", "damaged", "unsigned", "without predictions", "another"]

DEFECTS = {
    "cut short": "is cut short",
    "damaged": "is damaged (a metric is no finite number)",
    "unsigned": "does not say which command made it",
}


def state(cell: Cell) -> State:
    """Return the state of a cell's recorded result.

    An "unsigned" result names no command, as train.py by itself writes it. "another" is the result of another
    command, hence of another configuration.
    """
    if not cell.result.exists():
        return "new"
    result = _whole(cell.result)
    if result is None:
        return "cut short"
    if not _sound(result):
        return "damaged"
    if "command" not in result:
        return "unsigned"
    if result["command"] != cell.identity:
        return "another"
    whole = not result["shots"] or has_predictions(cell)
    return "recorded" if whole else "without predictions"


def recorded_cells(table: Table) -> Iterator[Cell]:
    """Yield the table's own cells that have a result, of whichever seed."""
    files = (ROOT / table.folder / table.name).glob("*.seed*.json")
    seeds = sorted({int(seed) for file in files if (seed := file.stem.rpartition(".seed")[2]).isdecimal()})
    own = (cell for cell in table.cells(tuple(seeds)) if cell.table == table.name) if seeds else ()
    yield from (cell for cell in own if cell.result.exists())


def read_result(cell: Cell) -> dict[str, Any] | None:
    """Return the content of its `metrics.json`, or None if there is none.

    Raises UserError if the file is damaged, or may be of another configuration than the recipe's.
    """
    current = state(cell)
    if current == "new":
        return None
    if current == "another":
        raise UserError(mismatch(cell))
    if current in DEFECTS:
        raise UserError(f"{cell.result}: {DEFECTS[current]}; run scripts/reproduce.py again")
    return _whole(cell.result)


def ran_here(cell: Cell) -> bool:
    """Return whether the run is here, finished, with its checkpoint; a clone brings results alone."""
    checkpoint = ROOT / (_whole(cell.result) or {}).get("checkpoint", "")
    return checkpoint.is_file() and (checkpoint.parent / "metrics.json").exists()


def mismatch(cell: Cell) -> str:
    """Return the message on a result of another command."""
    recorded = (read_json(cell.result) or {}).get("command", "").split()
    wanted = cell.identity.split()
    there = " ".join(word for word in recorded if word not in wanted) or "fewer flags"
    here = " ".join(word for word in wanted if word not in recorded) or "fewer flags"
    return (
        f"{cell.result}: is of another configuration ({there} there, {here} here); "
        "move it away, or mend the recipe"
    )


def record(cell: Cell) -> None:
    """Record the result of a run that has just ended: first its predictions, then its metrics and command.

    A stage that trains no head has neither metrics nor predictions.
    Raises RunFailed if the run left no whole result.
    """
    result = _whole(cell.result)
    if result is None:
        raise RunFailed(f"{cell.result}: the run left no whole result")
    run = ROOT / Path(result["checkpoint"]).parent
    kept = {}
    if result["shots"]:
        columns = _of_run(run / "predictions.csv")
        kept = {"predictions": predictions.digest_of(columns)}
        try:
            predictions.write_cells(cell.predictions, {cell.result.stem: columns})
        except UserError as error:
            raise RunFailed(str(error)) from error
    write_json(cell.result, {"command": cell.identity, **result, **_minutes(run / "metrics.jsonl"), **kept})


def _of_run(source: Path) -> Columns:
    """Read a run's predictions as texts."""
    try:
        return predictions.parse(source.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunFailed(f"{source}: the run left no predictions ({error})") from error


def fold(cells: Iterable[Cell]) -> None:
    """Move predictions that an earlier version kept as a file a cell into the file of their table.

    Raises UserError if one is broken.
    """
    tables: dict[Path, dict[Cell, Columns]] = {}
    for cell in cells:
        if (columns := _old_form(cell)) is not None and cell.result.exists():
            tables.setdefault(cell.predictions, {})[cell] = columns
    for file, found in tables.items():
        predictions.write_cells(file, {cell.result.stem: columns for cell, columns in found.items()})
        for cell, columns in found.items():
            if (result := _whole(cell.result)) is not None:
                write_json(cell.result, result | {"predictions": predictions.digest_of(columns)})
            _old_file(cell).unlink()


def _minutes(log: Path) -> dict[str, float]:
    """Return the minutes of training that a run's log ends with, validation left out; nothing without a log.

    They depend on the machine and on what ran beside it.
    """
    try:
        last = log.read_text().splitlines()[-1]
        return {"minutes": round(json.loads(last)["seconds"] / 60, 2)}
    except (OSError, IndexError, KeyError, ValueError):
        return {}


def has_predictions(cell: Cell) -> bool:
    """Return whether its predictions are kept, whole or broken."""
    try:
        return prediction_texts(cell) is not None
    except UserError:
        return True


def prediction_texts(cell: Cell) -> Columns | None:
    """Return its predictions as texts by column; None if there are none.

    Raises UserError if the file is broken.
    """
    old = _old_form(cell)
    return predictions.read_cell(cell.predictions, cell.result.stem) if old is None else old


def read_predictions(cell: Cell) -> pd.DataFrame | None:
    """Return its predictions, a row per test sample or, for depth, per bin; None if there are none.

    Raises UserError if the file is broken.
    """
    columns = prediction_texts(cell)
    if columns is None:
        return None
    import pandas as pd  # slow to import

    try:
        return pd.DataFrame({name: _values(name, texts) for name, texts in columns.items()})
    except ValueError as error:
        raise UserError(
            f"{cell.predictions}: is broken in {cell.result.stem} ({error}); restore it, or delete that result "
            "and run scripts/reproduce.py again"
        ) from error


def _values(name: str, texts: list[str]) -> list[str] | np.ndarray:
    """Return the values of a column; an empty text is NaN."""
    return texts if name in predictions.OF_TEXT else np.array([text or "nan" for text in texts], float)


def _old_file(cell: Cell) -> Path:
    return cell.result.with_suffix(".csv.gz")


def _old_form(cell: Cell) -> Columns | None:
    """Return the predictions of a file of its own, which is newer than the table's where there is one."""
    file = _old_file(cell)
    if not file.exists():
        return None
    try:
        return predictions.parse(gzip.decompress(file.read_bytes()).decode())
    except (OSError, EOFError, ValueError) as error:
        raise UserError(
            f"{file}: is broken ({error}); delete it and run scripts/reproduce.py again"
        ) from error


def _whole(path: Path) -> dict[str, Any] | None:
    """Return a result, or None if it is missing or cut short."""
    content = read_json(path)
    whole = isinstance(content, dict) and {"checkpoint", "shots"} <= content.keys()
    return content if whole else None


def _sound(result: dict[str, Any]) -> bool:
    """Return whether every metric of a result is a finite number or null."""
    shots = result["shots"]
    return isinstance(shots, dict) and all(
        isinstance(group, dict) and "n" in group and all(map(_is_metric, group.values()))
        for group in shots.values()
    )


def _is_metric(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and isfinite(value))
