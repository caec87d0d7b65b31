"""Figures over the label axis: the training histogram, errors by label, and the similarity of bins."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter
from plotting.finished_runs import by_bin, correlation
from plotting.label_counts import TrainingLabels
from preparing.splits import COLOURS

from common.report import HEADINGS

if TYPE_CHECKING:
    from plotting.feature_statistics import Similarity

mpl.use("Agg")
mpl.rcParams.update(
    {
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
        "legend.fontsize": 9,
        "legend.handlelength": 1.6,
        "svg.hashsalt": "dir",
    }
)

# Okabe and Ito's colours, which colour-blind readers tell apart; line styles say the same once more.
LINES = [
    ("#000000", "-"), ("#56B4E9", "--"), ("#009E73", "-."), ("#CC79A7", ":"),
    ("#D55E00", "-"), ("#0072B2", "--"), ("#E69F00", "-."),
]  # fmt: skip
ANCHOR, TINT = "#707070", 0.18
ROOM = 124  # characters of a legend in a row
WIDTH = 5  # bins whose errors are averaged together in a line; a single age has a few test samples only


def styles() -> Iterator[dict[str, str]]:
    """Yield the look of one line after the other."""
    each = itertools.product("osD^", LINES)  # a marker for each round of colours
    return ({"color": colour, "linestyle": style, "marker": marker} for marker, (colour, style) in each)


def title(figure: Figure, text: str, standin: str | None = None) -> None:
    """Set the title of a figure, and mark a stand-in as one."""
    if standin and "stand-in" not in text.lower():
        text += " (STAND-IN, not the real data)"
    figure.suptitle(textwrap.fill(text, 100), fontsize=12)
    if standin:
        figure.supxlabel(textwrap.fill(f"Stand-in: {standin}", 130), fontsize=8)


def legend_above(axes: Axes, handles: Sequence[Artist] | None = None) -> None:
    """Draw a legend over the axes and as wide, where it covers nothing."""
    handles = axes.get_legend_handles_labels()[0] if handles is None else handles
    widths = [len(str(handle.get_label())) + 6 for handle in handles]
    columns = len(handles) if sum(widths) <= ROOM else max(1, ROOM // max(widths))
    axes.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(0, 1, 1, 0), mode="expand", ncols=columns,
        borderaxespad=0.2, columnspacing=1, handletextpad=0.5,
    )  # fmt: skip


def bars(axes: Axes, training: TrainingLabels, density: np.ndarray | None, told: str = "") -> None:
    """Draw the training counts as bars in the colours of their shots, and the smoothed density."""
    shots, centres = training.shots, training.centres(training.shots.bins)
    shot = shots.of(shots.bins.centers)
    rules = {"many": f"> {_short(shots.many_above)}", "few": f"< {_short(shots.few_below)}"}
    for name in ("many", "medium", "few"):
        mine = (shot == name) & (shots.counts > 0)
        rule = f" ({rules[name]})" if name in rules else ""
        label = f"{HEADINGS[name].lower()}-shot{rule}: {mine.sum()} bin{'' if mine.sum() == 1 else 's'}"
        axes.bar(centres[mine], shots.counts[mine], shots.bins.width, color=COLOURS[name], label=label)
    if density is not None:
        first = training.first_bin
        axes.plot(centres[first:], density[first:], color="black", linewidth=1.8, label=told)
    axes.set_ylabel(f"training {training.sample}")
    axes.yaxis.set_major_formatter(EngFormatter(sep=""))
    present = np.flatnonzero(shots.counts)
    axes.set_xlim(*centres[present[[0, -1]]] + np.array([-1.5, 1.5]) * shots.bins.width)
    axes.set_ylim(bottom=0)
    legend_above(axes)


def _short(value: float) -> str:
    """Format a threshold in few characters; those in proportion to a stand-in are long."""
    if value >= 1e6:
        return f"{value / 1e6:.3g}M"
    return f"{value:,.0f}" if value >= 1000 else f"{value:g}"


def histogram(training: TrainingLabels, density: np.ndarray, told: str) -> Figure:
    """Draw the label histogram with its shots, and the LDS-smoothed density (paper, section 3.1)."""
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    bars(axes, training, density, told)
    axes.set_xlabel(training.axis)
    total = f"{training.shots.counts.sum():,} training {training.sample}"
    title(figure, f"{training.title}: label histogram of {total}", training.standin)
    return figure


def error(
    training: TrainingLabels, density: np.ndarray, told: str, runs: Mapping[str, list[pd.DataFrame]]
) -> Figure:
    """Draw the histogram above the error by label of each method (paper, Figure 2); seeds are pooled.

    `runs` holds `FinishedRun.errors` by method; a method without runs leaves its colour to nobody else.
    """
    figure = Figure(figsize=(9, 7.5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[2, 3])
    bars(above, training, density, told)
    bins, centres = training.shots.bins, training.centres(training.shots.bins)
    for style, (name, frames) in zip(styles(), runs.items(), strict=False):
        if not frames:
            continue
        errors = by_bin(frames, bins)
        r = [correlation(errors, counted) for counted in (training.shots.counts, density)]
        seeds = f", {len(frames)} runs" if len(frames) > 1 else ""
        label = f"{name}{seeds}: {_signed(r[0])} / {_signed(r[1])}"
        stretch = errors.index.to_numpy() // WIDTH
        sums = pd.DataFrame({"n": errors["n"], "total": errors["n"] * errors["error"]}).groupby(stretch).sum()
        at = [centres[first * WIDTH : (first + 1) * WIDTH].mean() for first in sums.index]
        below.plot(at, sums["total"] / sums["n"], **style, markersize=3, label=label)
    unit = f" {training.unit}" if training.unit else ""
    below.set_ylabel(
        f"test MAE{unit and f' ({training.unit})'}\nover stretches of {WIDTH * bins.width:g}{unit}"
    )
    below.set_xlabel(training.axis)
    # Test labels may lie beyond those of training.
    tested = np.concatenate([line.get_xdata() for line in below.lines])
    low, high = below.get_xlim()
    below.set_xlim(min(low, tested.min() - bins.width), max(high, tested.max() + bins.width))
    below.set_ylim(bottom=0)
    below.grid(alpha=0.3)
    below.legend(
        title="method: Pearson's r of a bin's error with\nits count / with its smoothed count",
        alignment="left",
    )
    title(figure, f"{training.title}: error by label", training.standin)
    return figure


def _signed(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:+.2f}".replace("-", "−")


def features(training: TrainingLabels, anchor: float, lines: Mapping[str, Similarity], what: str) -> Figure:
    """Draw the cosine similarity of each bin's feature statistics to the anchor bin's (paper, Figure 4)."""
    figure = Figure(figsize=(9, 8), layout="constrained")
    panels = figure.subplots(3, 1, sharex=True, height_ratios=[3, 3, 2])
    bars(panels[2], training, None)
    for axes, moment in zip(panels, ("mean", "variance"), strict=False):
        for style, (name, similarity) in zip(styles(), lines.items(), strict=False):
            values = getattr(similarity, moment)
            axes.plot(similarity.at, values, **style, markersize=2.5, label=name)
        axes.set_ylabel(f"cosine similarity of\nfeature {moment}")
        axes.grid(alpha=0.3)
    for axes in panels:
        shade_few(axes, training)
        axes.axvline(anchor, color=ANCHOR, linewidth=1)
    marks = [
        Line2D([], [], color=ANCHOR, label=f"anchor: {training.quantity} {anchor:g}"),
        Patch(color=COLOURS["few"], alpha=TINT, label="few or no training samples"),
    ]
    legend_above(panels[0], [*panels[0].lines[: len(lines)], *marks])
    panels[2].set_xlabel(training.axis)
    title(figure, f"{training.title}: {what}", training.standin)
    return figure


def shade_few(axes: Axes, training: TrainingLabels) -> None:
    """Tint each stretch of bins with few training samples or none."""
    few = np.concatenate([[False], training.shots.counts < training.shots.few_below, [False]])
    edges = np.flatnonzero(few[1:] != few[:-1])
    bins, limits = training.shots.bins, axes.get_xlim()
    for first, end in edges.reshape(-1, 2):
        left, width = training.centres(bins)[first] - bins.width / 2, (end - first) * bins.width
        axes.axvspan(left, left + width, color=COLOURS["few"], alpha=TINT, linewidth=0, zorder=0)
    axes.set_xlim(limits)
