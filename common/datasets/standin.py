"""What a data folder says of itself where it is a stand-in for the real data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from common.errors import UserError

STANDIN = "standin.json"


class Standin(NamedTuple):
    """The content of `standin.json` in a data folder; all None on real data."""

    note: str | None = None
    many_above: float | None = None  # shot thresholds, scaled with the data
    few_below: float | None = None


def read_standin(folder: Path) -> Standin:
    """Return the stand-in's note and thresholds; raises UserError if `standin.json` is there and broken."""
    path = folder / STANDIN
    if not path.exists():
        return Standin()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        note = (
            f"{content['dataset']} at scale {content['scale']:g}, seed {content['seed']}: {content['note']}"
        )
        return Standin(note, float(content["many_above"]), float(content["few_below"]))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: is broken; draw the stand-in again with scripts/make_standin.py") from error
