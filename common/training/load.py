"""The data of a run, as its task loads them, and the lines that tell what they are."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from common.relevance import Relevance
from common.settings import Settings
from common.task import Data, Task

log = logging.getLogger("dir")


def load(task: Task, settings: Settings, kept: Mapping[str, Any] | None = None) -> Data:
    """Load the data, to be tested alone if a checkpoint's `kept` is given, and log a few lines on what they are."""
    loads = task.load_tested if kept is not None else None
    data = task.load(settings) if loads is None else loads(settings, kept or {})
    if data.relevance is None and data.train.labels is not None:
        data = replace(data, relevance=Relevance.of(data.train.labels))  # before a method changes them
    sizes = {"training": data.train, data.selected_on: data.val, "test": data.test}
    log.info(
        "%s: %s", data.name or task.name, ", ".join(f"{len(split):,} {name}" for name, split in sizes.items())
    )
    if data.selected_on == "test":
        log.info("The best epoch is chosen on the TEST set, as in the paper: its test numbers are optimistic")
    if data.standin:
        log.info("STAND-IN, not the real data: %s", data.standin)
    many, few = map(rounded, (data.shots.many_above, data.shots.few_below))
    log.info("Shots: many above %s training %s in a bin, few below %s", many, task.counted, few)
    return data


def rounded(bound: float) -> str:
    """Return a shot threshold for people: whole from 100 on, else as short as it can be."""
    return f"{bound:,.0f}" if bound >= 100 else f"{bound:.4g}"
