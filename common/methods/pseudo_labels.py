"""The labels that a batch should contain: a Gaussian density of the training labels, as a number of whole labels."""

from __future__ import annotations

import numpy as np

from common.bins import Bins
from common.errors import UserError


def label_grid(bins: Bins, low: float | None, high: float | None, step: float | None) -> np.ndarray:
    """Return the labels of the density; whole numbers end at the last bin, other labels at its upper end.

    Raises UserError if they are not in order.
    """
    low = bins.low if low is None else low
    step = bins.width if step is None else step
    high = (bins.left_edges[-1] if bins.width == 1 else bins.high) if high is None else high
    if not low < high:
        raise UserError(f"--dist_loss_min {low:g} and --dist_loss_max {high:g}: must be in order")
    return np.arange(low, high + step, step)


def label_density(
    labels: np.ndarray, grid: np.ndarray, bandwidth: float, counts: np.ndarray | None = None
) -> np.ndarray:
    """Return the density of the labels within the grid on its points, of sum 1.

    Raises UserError for labels without spread.
    """
    from scipy.stats import gaussian_kde  # takes as long as all else that a --help loads

    inside = (labels >= grid[0]) & (labels <= grid[-1]) & (True if counts is None else counts > 0)
    if len(np.unique(labels[inside])) < 2:
        raise UserError("--dist_loss: fewer than two distinct training labels lie within its density's range")
    kde = gaussian_kde(labels[inside], bandwidth, None if counts is None else counts[inside])
    density = kde(grid)
    return density / density.sum()


def pseudo_labels(grid: np.ndarray, density: np.ndarray, size: int) -> np.ndarray:
    """Return `size` labels of the grid in the proportions of the density, ascending."""
    return np.repeat(grid, np.maximum(label_counts(density, size), 0))


def label_counts(density: np.ndarray, size: int) -> np.ndarray:
    """Return how many of `size` labels each grid point gets, by the published rounding.

    Ends that expect less than one label are gathered, and what rounding leaves goes to the middle.
    """
    share = size * density
    above, below = share.cumsum(), share[::-1].cumsum()[::-1]
    first, last = int((above >= 1).argmax()), len(share) - 1 - int((below[::-1] >= 1).argmax())
    counts = np.zeros(len(share), np.int64)
    counts[first] = np.rint(above[first])
    counts[first + 1 : last] = np.rint(share[first + 1 : last])
    counts[last] = np.rint(below[last])
    rest, middle, half = size - int(counts.sum()), int(counts.argmax()), len(share) // 2
    sign, whole = int(np.sign(rest)), abs(rest) // half
    if abs(rest) <= half:
        counts[_around(middle, abs(rest))] += sign
    else:
        counts[_around(middle, half)] += sign * whole
        counts[middle] += sign * (abs(rest) % half)
    return counts


def _around(middle: int, number: int) -> slice:
    return slice(max(0, middle - number // 2), middle - number // 2 + number)
