"""The page's pictures as SVG: an interval as a bar, and the error by label over the training histogram."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
from reproducing.study import ENSEMBLE, Group
from reproducing.study_text import errors

from common import cli
from common.bins import Bins

POINTS = 25  # of a line; a single age has a few test samples only
# Okabe and Ito's colours without black and yellow, which one of the two backgrounds would hide.
COLOURS = ("#8a8a8a", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
DASHES = ("", "6 3", "2 3")
WIDTH, HEIGHT, LEFT, BOTTOM = 720, 260, 46, 24


def interval_bar(value: float, low: float, high: float, largest: float) -> str:
    """Return an interval around 0 as a bar; `largest` is half the width."""
    at = [70 + 66 * x / largest for x in (low, value, high)]
    text = f"{low:+.3f} to {high:+.3f}".replace("-", "−")
    return (
        f'<svg width="140" height="16" aria-hidden="true"><line class="axis" x1="70" x2="70" y1="0" y2="16"/>'
        f'<rect class="interval" x="{at[0]:.1f}" width="{max(at[2] - at[0], 1):.1f}" y="4" height="8"/>'
        f'<line class="tick" x1="{at[1]:.1f}" x2="{at[1]:.1f}" y1="1" y2="15"/></svg> {text}'
    )


def error_chart(group: Group) -> str:
    """Return the error of each complete row by label, over the histogram of training or test labels."""
    lines = {row: _pooled(errors(group, row)) for row in group.frames if row != ENSEMBLE}
    if not lines:
        return ""
    words, histogram = training_histogram(group)
    labels = [x for line in lines.values() for x, _ in line]
    low, high = min(labels), max(labels)
    histogram = [(x, n) for x, n in histogram if low <= x <= high]
    top = max(y for line in lines.values() for _, y in line)
    drawn = _bars(histogram, low, high) + _axes(low, high, top)
    entries = ""
    for i, (row, line) in enumerate(lines.items()):
        look = f'stroke="{COLOURS[i % len(COLOURS)]}" stroke-dasharray="{DASHES[i // len(COLOURS) % len(DASHES)]}"'
        name = f"{group.name}-line-{i}"
        points = " ".join(f"{_x(x, low, high):.1f},{_y(y, top):.1f}" for x, y in line)
        drawn += f'<polyline id="{name}" {look} points="{points}"><title>{escape(row)}</title></polyline>'
        sample = f'<svg width="28" height="10" aria-hidden="true"><polyline {look} points="0,5 28,5"/></svg>'
        entries += f'<li data-line="{name}">{sample} {escape(row)}</li>'
    title = f"Mean absolute error by label; grey: {words}"
    return (
        f'<figure><figcaption>{escape(title)}</figcaption><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}">{drawn}</svg><ul class="legend">{entries}</ul></figure>'
    )


def _x(label: float, low: float, high: float) -> float:
    return LEFT + (WIDTH - LEFT - 20) * (label - low) / ((high - low) or 1)


def _y(error: float, top: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - 10) * error / (top or 1)


def _pooled(points: Sequence[tuple[float, int, float]]) -> list[tuple[float, float]]:
    """Return label and error of neighbouring labels put together, weighted by their test samples."""
    label, n, error = np.array(points, float).T
    parts = np.array_split(np.arange(len(label)), min(POINTS, len(label)))
    return [
        (float(np.average(label[i], weights=n[i])), float(np.average(error[i], weights=n[i]))) for i in parts
    ]


def training_histogram(group: Group) -> tuple[str, list[tuple[float, float]]]:
    """Return what is counted, and label and count: of training where the repository knows it."""
    first = next(iter(group.frames.values()))[0]
    if "train_pixels" in first:
        return "training pixels", list(
            zip(first["label"].tolist(), first["train_pixels"].tolist(), strict=True)
        )
    known = _data("histograms.json")
    if group.data[0] == "sts-b":
        return "training pairs", [(0.1 * (i + 0.5), n) for i, n in enumerate(known["sts-b"])]
    if group.data[0] == "agedb":  # less validation and test, by the published rule
        words = "training images" + (" of the real data, which the stand-in follows" if group.standin else "")
        return words, [(float(age), n - 2 * min(n // 3, 30)) for age, n in known["agedb"].items()]
    if group.data == ("utkface", "--data_dir data/utkface"):
        ages: Counter[float] = Counter()
        for key, names in _data("utkface_split.json")["train"].items():
            ages[float(key.split("_")[0])] += len(names.split())
        return "training images", sorted(ages.items())
    if counts := known["tables"].get(_public_table(group)):
        bins = Bins(**next(iter(group.results.values()))[0]["bins"])
        return "training rows", list(zip((bins.left_edges + bins.width / 2).tolist(), counts, strict=True))
    points = errors(group, next(row for row in group.frames if row != ENSEMBLE))
    return "test samples", [(label, float(n)) for label, n, _ in points]


def _public_table(group: Group) -> str:
    """Return the name of its public table; empty for other data."""
    files = [word.partition("--csv data/tabular/")[2] for word in group.data]
    return next((file.removesuffix(".csv") for file in files if file), "")


def _data(name: str) -> dict[str, Any]:
    return json.loads((cli.ROOT / "data" / name).read_text(encoding="utf-8"))


def _bars(histogram: Sequence[tuple[float, float]], low: float, high: float) -> str:
    most, width = max((n for _, n in histogram), default=1), (WIDTH - LEFT) / max(len(histogram), 1)
    return "".join(
        f'<rect class="histogram" x="{_x(x, low, high) - width / 2:.1f}" width="{width:.1f}" '
        f'y="{_y(n, most):.1f}" height="{HEIGHT - BOTTOM - _y(n, most):.1f}"/>'
        for x, n in histogram if n > 0
    )  # fmt: skip


def _axes(low: float, high: float, top: float) -> str:
    base = HEIGHT - BOTTOM
    parts = [f'<line class="axis" x1="{LEFT}" x2="{WIDTH}" y1="{base}" y2="{base}"/>']
    parts += [
        f'<text x="{_x(x, low, high):.0f}" y="{HEIGHT - 6}" text-anchor="middle">{x:.3g}</text>'
        for x in np.linspace(low, high, 6)
    ]
    parts += [
        f'<text x="{LEFT - 6}" y="{_y(y, top) + 4:.0f}" text-anchor="end">{y:.3g}</text>'
        for y in np.linspace(0, top, 5)
    ]
    return "".join(parts)
