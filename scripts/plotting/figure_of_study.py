"""The study as one figure: what each row changes against its base row, on every data set."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from plotting.figures import title
from plotting.figures_of_tables import BEST, WORST

from common.metrics import METRICS, UNSEEN
from common.report import HEADINGS

COLOURS = {"better": BEST, "worse": WORST, "undecided": "#999999"}
LIMIT = 60  # per cent; what lies beyond is drawn at the border
SHOTS = ("all", "few")


def study(effects: pd.DataFrame) -> Figure:
    """Draw each row's change in per cent of its base row with the interval, by data set, over all and few-shot labels.

    `effects` is results/study.csv; of each table its first metric is drawn. A table of zero-shot labels shows other
    labels of data that another table has, so it is left out.
    """
    of_subset = effects.loc[effects["shot"].isin(UNSEEN), "table"]
    effects = effects[~effects["table"].isin(of_subset)]
    main = effects.groupby("table", sort=False)["metric"].transform("first")
    shown = effects[(effects["metric"] == main) & effects["shot"].isin(SHOTS)].copy()
    sign = np.array([1 if METRICS[metric].higher_is_better else -1 for metric in shown["metric"]])
    base = (shown["value"] - shown["difference"]).abs()
    for name in ("difference", "low", "high"):
        shown[name] = 100 * sign * shown[name] / base
    over_all = shown[shown["shot"] == "all"].groupby(["row", "base"])["difference"].median()
    order = list(over_all.sort_values().index)  # the best is drawn last, which is above
    figure = Figure(figsize=(9, 1.6 + 0.32 * len(order)), layout="constrained")
    panels = figure.subplots(1, len(SHOTS), sharey=True)
    for axes, shot in zip(panels, SHOTS, strict=True):
        _panel(axes, shown[shown["shot"] == shot], order)
        axes.set_title(f"{HEADINGS[shot]} labels", fontsize=11)
    counts = shown.groupby(["row", "base"])["table"].nunique()
    names = [f"{row} against {than} ({counts[row, than]})" for row, than in order]
    panels[0].set_yticks(range(len(order)), names, fontsize=9)
    handles = [Line2D([], [], color=COLOURS[word], marker="o", label=word) for word in COLOURS]
    figure.legend(handles=handles, loc="outside right upper", fontsize=8, frameon=False)
    told = f"% better (right) or worse (left) than the base row, cut off at {LIMIT}; a point is a data set"
    figure.supxlabel(told, fontsize=9)
    title(figure, f"What each row is worth on {shown['table'].nunique()} real data sets, with 95 % intervals")
    return figure


def _panel(axes: Axes, effects: pd.DataFrame, order: list[tuple[str, str]]) -> None:
    """Draw the changes of one shot, the data sets of a row one below the other."""
    for place, (row, base) in enumerate(order):
        own = effects[(effects["row"] == row) & (effects["base"] == base)]
        offsets = np.linspace(0.3, -0.3, len(own) + 2)[1:-1]
        numbers = own[["difference", "low", "high"]].to_numpy(float).clip(-LIMIT, LIMIT)
        for y, (x, low, high), word in zip(place + offsets, numbers, own["verdict"], strict=True):
            colour = COLOURS[str(word)]
            axes.plot([low, high], [y, y], color=colour, linewidth=0.9, alpha=0.7)
            axes.plot(x, y, "o", color=colour, markersize=3)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.grid(axis="y", linewidth=0.3)
    axes.spines[["top", "right"]].set_visible(False)
