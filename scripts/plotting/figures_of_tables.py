"""Figures without a label axis: a whole table as a heat map, and the windows of LDS and FDS."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from plotting.figures import styles, title

from common.lds import get_lds_kernel_window
from common.metrics import GROUPS, METRICS
from common.report import HEADINGS, number

# Okabe and Ito's vermilion and blue with white between: told apart by all eyes.
WORST, BEST = "#D55E00", "#0072B2"
WORSE_TO_BETTER = LinearSegmentedColormap.from_list(
    "worse_to_better", [WORST, "#FFFFFF", BEST]
).with_extremes(bad="#E5E5E5")
STRONGEST = 50  # per cent; a larger change gets the same colour


def heatmap(heading: str, rows: Mapping[str, Sequence[dict]], metrics: Sequence[str]) -> Figure:
    """Draw the mean over seeds of each row, metric and shot, coloured by its change from the first row.

    `rows` holds contents of `metrics.json` by row; "Vanilla", where it is there, takes the first row's part.
    """
    reference = "Vanilla" if "Vanilla" in rows else next(iter(rows))
    figure = Figure(figsize=(9, 1.9 + 0.5 * len(rows)), layout="constrained")
    panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    values = {metric: _means(rows, metric) for metric in metrics}
    first_row = list(rows).index(reference)
    changes = {m: _better_by(values[m], first_row, higher=METRICS[m].higher_is_better) for m in metrics}
    largest = max(np.abs(change).max(initial=1, where=np.isfinite(change)) for change in changes.values())
    limit = min(largest, STRONGEST)
    norm = Normalize(-limit, limit)
    first = next(iter(rows.values()))[0]
    for axes, metric in zip(panels, metrics, strict=True):
        image = axes.imshow(np.ma.masked_invalid(changes[metric]), WORSE_TO_BETTER, norm, aspect="auto")
        _write_cells(axes, values[metric], changes[metric], norm)
        heads = [f"{HEADINGS[group]}\nn = {first['shots'][group]['n']:,}" for group in GROUPS]
        axes.set_xticks(range(len(GROUPS)), heads, fontsize=9)
        better = "higher" if METRICS[metric].higher_is_better else "lower"
        axes.set_title(f"{METRICS[metric].heading} ({better} is better)")
        axes.tick_params(length=0, top=False)
        axes.spines[:].set_visible(False)
    counts = {len(results) for results in rows.values()}
    names = [row + (f" ({len(results)})" if len(counts) > 1 else "") for row, results in rows.items()]
    panels[0].set_yticks(range(len(rows)), names)
    bar = figure.colorbar(image, ax=panels, extend="both" if largest > limit else "neither", pad=0.02)
    bar.set_label(f"% better (+) or\nworse (−) than {reference}")
    over = {1: "one run a row"}.get(max(counts), f"mean over {max(counts)} runs a row")
    title(figure, f"{heading}: {'mean over (n) runs' if len(counts) > 1 else over}", first.get("standin"))
    return figure


def _means(rows: Mapping[str, Sequence[dict]], metric: str) -> np.ndarray:
    """Return the means `(rows, shots)`; NaN where a shot has no test sample."""
    known = [
        [[v for r in results if (v := r["shots"][group].get(metric)) is not None] for group in GROUPS]
        for results in rows.values()
    ]
    return np.array([[statistics.mean(cell) if cell else np.nan for cell in row] for row in known])


def _better_by(values: np.ndarray, reference: int, *, higher: bool) -> np.ndarray:
    """Return by how many per cent each number is better than the reference row; NaN without one."""
    base = np.where(values[reference] == 0, np.nan, values[reference])
    change = 100 * (values - base) / np.abs(base)
    return change if higher else -change


def _write_cells(axes: Axes, values: np.ndarray, changes: np.ndarray, norm: Normalize) -> None:
    """Write the number of each cell, and below it its change: better (+) or worse (−)."""
    for (row, column), value in np.ndenumerate(values):
        change = changes[row, column]
        text = number(None if np.isnan(value) else value)
        if np.isfinite(change) and change != 0:
            beyond = "" if abs(change) < 1000 else "> " if change > 0 else "< "  # a cell has no room for more
            shown = f"{np.clip(np.round(change, 1), -999, 999) + 0.0:+.{0 if beyond else 1}f}"
            text += f"\n{beyond}{shown} %".replace("-", "−")
        light = np.dot(WORSE_TO_BETTER(norm(change))[:3], (0.299, 0.587, 0.114))
        axes.text(column, row, text, ha="center", va="center", color="black" if light > 0.5 else "white")


def kernels(names: Sequence[str], sizes: Sequence[int], sigma: float) -> Figure:
    """Draw the window of each kernel at each size, as LDS (maximum 1) and FDS (sum 1) take it."""
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    panels = figure.subplots(2, len(sizes), sharey="row", squeeze=False)
    for column, ks in enumerate(sizes):
        for style, name in zip(styles(), names, strict=False):
            window = get_lds_kernel_window(name, ks, sigma)
            offsets = np.arange(ks) - ks // 2
            for axes, values in zip(panels[:, column], (window, window / window.sum()), strict=True):
                axes.plot(offsets, values, **style, markersize=4, label=name)
        panels[0, column].set_title(f"kernel size {ks}")
        panels[1, column].set_xlabel("distance in bins")
    for axes in panels.flat:
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.grid(alpha=0.3)
    panels[0, 0].set_ylabel("LDS: weight, maximum 1")
    panels[1, 0].set_ylabel("FDS: weight, sum 1")
    figure.legend(handles=panels[0, 0].lines, loc="outside lower center", ncols=len(names))
    title(figure, f"Windows of LDS and FDS, σ = {sigma:g} bins where a kernel has one")
    return figure
