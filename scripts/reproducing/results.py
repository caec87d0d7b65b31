"""What is kept of a finished cell: its `metrics.json` with the command that made it, and its predictions.

Both are small and in git, so that tables and verdicts can be checked without the runs.
"""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from reproducing.recipes import Cell

from common.cli import ROOT
from common.errors import RunFailed, UserError
from common.files import read_json, write_json

if TYPE_CHECKING:
    import pandas as pd

State = Literal["recorded", "new", "cut short", "unsigned", "without predictions", "another"]


def state(cell: Cell) -> State:
    """What is kept of a cell.

    "unsigned" is a result that does not say its command, as train.py by itself writes it; "another" is one of
    another command: another configuration, which is never mixed with this one.
    """
    if not cell.result.exists():
        return "new"
    result = _whole(cell.result)
    if result is None:
        return "cut short"
    if "command" not in result:
        return "unsigned"
    if result["command"] != cell.identity:
        return "another"
    return "recorded" if cell.predictions.exists() else "without predictions"


def read_result(cell: Cell) -> dict[str, Any] | None:
    """The content of its `metrics.json`, None where there is none.

    Raises UserError if the file is cut short, or may be of another configuration than the recipe's.
    """
    found = state(cell)
    if found == "new":
        return None
    if found == "another":
        raise UserError(another(cell))
    if found in ("cut short", "unsigned"):
        what = "is cut short" if found == "cut short" else "does not say which command made it"
        raise UserError(f"{cell.result}: {what}; run scripts/reproduce.py again")
    return _whole(cell.result)


def ran_here(cell: Cell) -> bool:
    """Whether the run of its result is here, finished and with its checkpoint; results come with a clone."""
    checkpoint = ROOT / (_whole(cell.result) or {}).get("checkpoint", "")
    return checkpoint.is_file() and (checkpoint.parent / "metrics.json").exists()


def another(cell: Cell) -> str:
    """The message on a result of another command."""
    theirs = (read_json(cell.result) or {}).get("command", "").split()
    mine = cell.identity.split()
    there = " ".join(word for word in theirs if word not in mine) or "fewer flags"
    here = " ".join(word for word in mine if word not in theirs) or "fewer flags"
    return (
        f"{cell.result}: is of another configuration ({there} there, {here} here); "
        "move it away, or mend the recipe"
    )


def record(cell: Cell) -> None:
    """Keep what a run that has just ended wrote: its predictions, then its command, which marks it finished.

    Raises RunFailed if the run left no whole result.
    """
    result = _whole(cell.result)
    if result is None:
        raise RunFailed(f"{cell.result}: the run left no whole result")
    source = ROOT / Path(result["checkpoint"]).parent / "predictions.csv"
    try:
        content = source.read_bytes()
    except OSError as error:
        raise RunFailed(f"{source}: the run left no predictions ({error.strerror})") from error
    temporary = cell.predictions.with_name(f".{cell.predictions.name}.{os.getpid()}.tmp")
    temporary.write_bytes(gzip.compress(content, mtime=0))  # without a time: the same run, the same bytes
    temporary.replace(cell.predictions)
    write_json(cell.result, {"command": cell.identity, **result})


def read_predictions(cell: Cell) -> pd.DataFrame | None:
    """Its predictions, a row per test sample or, for depth, per bin; None where they were not kept.

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
    """A result, or None if it is not there or not whole."""
    content = read_json(path)
    whole = isinstance(content, dict) and {"checkpoint", "shots"} <= content.keys()
    return content if whole else None
