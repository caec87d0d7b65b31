"""The recorded result of a finished cell: its `metrics.json` with its command, and its predictions.

Both are small and in git, so that tables and verdicts can be checked without the runs.
"""

from __future__ import annotations

import gzip
import json
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from reproducing.recipes import Cell

from common.cli import ROOT
from common.errors import RunFailed, UserError
from common.files import read_json, write_atomically, write_json

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
    whole = cell.predictions.exists() or not result["shots"]
    return "recorded" if whole else "without predictions"


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
    if result["shots"]:
        _record_predictions(cell, run / "predictions.csv")
    write_json(cell.result, {"command": cell.identity, **result, **_minutes(run / "metrics.jsonl")})


def _record_predictions(cell: Cell, source: Path) -> None:
    """Compress a run's predictions; without a time in it, the same run gives the same bytes."""
    try:
        content = source.read_bytes()
    except OSError as error:
        raise RunFailed(f"{source}: the run left no predictions ({error.strerror})") from error
    write_atomically(cell.predictions, gzip.compress(content, mtime=0))


def _minutes(log: Path) -> dict[str, float]:
    """Return the minutes of training that a run's log ends with, validation left out; nothing without a log.

    They depend on the machine and on what ran beside it.
    """
    try:
        last = log.read_text().splitlines()[-1]
        return {"minutes": round(json.loads(last)["seconds"] / 60, 2)}
    except (OSError, IndexError, KeyError, ValueError):
        return {}


def read_predictions(cell: Cell) -> pd.DataFrame | None:
    """Return its predictions, a row per test sample or, for depth, per bin; None if there are none.

    Raises UserError if the file is broken.
    """
    if not cell.predictions.exists():
        return None
    import pandas as pd  # slow to import

    try:
        return pd.read_csv(cell.predictions)
    except (OSError, EOFError, ValueError) as error:
        raise UserError(
            f"{cell.predictions}: is broken ({error}); delete it and run scripts/reproduce.py again"
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
