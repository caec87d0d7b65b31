"""The result of a test: the content of `metrics.json`, and what is told of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from common.files import write_json
from common.metrics import METRICS
from common.report import shot_text
from common.settings import Running, Settings
from common.task import Data, Task
from common.training import ranks

log = logging.getLogger("dir")


def as_result(
    task: Task, data: Data, table: Mapping[str, Any], checkpoint: object, epoch: int | None
) -> dict[str, Any]:
    """Return the content of `metrics.json`.

    `standin` is there only where data stood in, `selected_on` only where it was the test set, `shots_by` only
    where the thresholds of the shots follow from the data. `bins` and `relevance` say what bMAE, bMSE and SERA take
    from the training labels, so that these follow from `predictions.csv` alone.
    """
    result: dict[str, Any] = {
        "dataset": task.name, "split": "test", "checkpoint": str(checkpoint), "epoch": epoch,
    }  # fmt: skip
    if data.standin:
        result["standin"] = data.standin
    if data.selected_on == "test":
        result["selected_on"] = "test"
    if data.shots.rule:
        result["shots_by"] = data.shots.rule
    needs = {column for name in table.get("all", ()) if name in METRICS for column in METRICS[name].needs}
    if "bin" in needs:
        result["bins"] = asdict(data.bins)
    if "relevance" in needs and data.relevance is not None:
        result["relevance"] = asdict(data.relevance)
    return result | {"shots": dict(table)}


def report(result: dict[str, Any], task: Task, settings: Settings) -> None:
    """Log the test table, and write the result to `--metrics_json` too."""
    standin = f"\n  on a stand-in: {result['standin']}" if "standin" in result else ""
    epoch = "" if result["epoch"] is None else f" (epoch {result['epoch'] + task.epoch_offset})"
    selected = "\n  selected on the test set, as the paper did" if "selected_on" in result else ""
    selected += f"\n  shots: {result['shots_by']}" if "shots_by" in result else ""
    table = "  no head, so no test table"
    if result["shots"]:
        table = shot_text(result["shots"], (*task.table, *more_metrics(result["shots"]["all"], settings)))
    log.info("Test of %s%s%s%s\n%s", result["checkpoint"], epoch, standin, selected, table)
    path = settings[Running].metrics_json
    if path is not None and ranks.rank() == 0:
        write_json(path, result)


def more_metrics(known: Mapping[str, Any], settings: Settings) -> list[str]:
    """Return those of `--metrics` that the test knows; log which it does not."""
    asked = {METRICS[name].key: name for name in settings[Running].metrics}
    if absent := [name for key, name in asked.items() if key not in known]:
        have = ", ".join(name for name in known if name != "n")
        log.warning("--metrics %s: not measured by this test; it has %s", " ".join(absent), have)
    return [name for key, name in asked.items() if key in known]
