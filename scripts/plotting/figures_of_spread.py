"""Figures of predicted distributions: whether they cover what they say, and whether errors grow with their spread."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from plotting.figures import ANCHOR, styles, title

from common.metrics import coverage, miscalibration

GROUPS = 10  # of like many samples, by predicted spread


def calibration(data: str, runs: Mapping[str, pd.DataFrame], unit: str, standin: str | None) -> Figure:
    """Draw the observed against the expected coverage, and the error against the predicted spread, of each method.

    `runs` holds `FinishedRun.distribution` by method, over all seeds.
    """
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for style, (name, frame) in zip(styles(), runs.items(), strict=False):
        columns = {"pit": frame["pit"].to_numpy()}
        level, observed = coverage(columns)
        look = style | {"marker": ""}
        left.step(level, [*observed, 1], where="post", **look, label=f"{name}: {miscalibration(columns):.3f}")
        right.plot(*spread_and_error(frame), **style, markersize=4, label=name)
    limit = max(right.get_xlim()[1], right.get_ylim()[1])
    for axes, end in ((left, 1), (right, limit)):
        finish(axes, end)
    left.set_xlabel("expected coverage of a central interval")
    left.set_ylabel("observed share of test labels")
    left.legend(
        handles=left.lines[:-1], title="method: area between coverage and the diagonal",
        loc="lower left", bbox_to_anchor=(0, 1), alignment="left",
    )  # fmt: skip
    unit = f" ({unit})" if unit else ""
    right.set_xlabel(f"predicted standard deviation{unit}")
    right.set_ylabel(f"root mean squared error{unit}")
    title(figure, f"{data}: calibration, and error by predicted spread", standin)
    return figure


def spread_and_error(frame: pd.DataFrame) -> tuple[list[float], list[float]]:
    """Return the root mean square of spread and of error in each group of like spread."""
    squares = frame.sort_values("std", kind="stable")[["std", "error"]].to_numpy() ** 2
    groups = np.array_split(squares, min(GROUPS, len(squares)))
    std, error = np.sqrt([group.mean(0) for group in groups]).T.tolist()
    return std, error


def finish(axes: Axes, end: float) -> None:
    """Draw the diagonal, on which a perfect method lies, and a square frame around it."""
    axes.plot([0, end], [0, end], color=ANCHOR, linewidth=1, zorder=0)
    axes.set(xlim=(0, end), ylim=(0, end), aspect="equal")
    axes.grid(alpha=0.3)
