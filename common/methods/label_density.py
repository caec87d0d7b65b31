"""Weights of labels by powers of their density: of bins, or by a Gaussian kernel."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from common.bins import Bins
from common.errors import UserError
from common.lds import get_lds_kernel_window, smooth_counts
from common.methods.reweight import ReweightFlags
from common.task import Data, Task

DENSITIES = ("counts", "kde")


class LabelWeights:
    """Weights of labels from a table with a row for each power and a column for each bin or known label."""

    def __init__(self, table: np.ndarray, column: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self.table, self.column = torch.from_numpy(table.astype(np.float32)), column

    def __call__(self, labels: torch.Tensor) -> torch.Tensor:
        """Return the weights of labels, one more dimension in front."""
        self.table = self.table.to(labels.device)
        return self.table[:, self.column(labels)]


def exponents_of(given: Sequence[float], number: int) -> Sequence[float]:
    """Return the powers that were given, or else as many from 0 to 1."""
    return given or np.linspace(0, 1, number).tolist()


def label_weights(
    data: Data, exponents: Sequence[float], density: str, bandwidth: float, lds: ReweightFlags, task: Task
) -> LabelWeights:
    """Return the weights density^-r of training labels for each power r, of mean 1 over the training samples."""
    if density == "kde":
        if data.train.labels is None:
            raise UserError("--uvote_weights kde: needs a label for each sample, not maps; use counts")
        labels, counts = np.unique(data.train.labels, return_counts=True)
        table = kernel_weights(kernel_density(labels, counts, bandwidth), counts, exponents)
        known = torch.from_numpy(labels)
        return LabelWeights(table, lambda y: torch.searchsorted(known.to(y), y).clamp(max=len(labels) - 1))
    counts, first = counts_of(data)
    smooth = smoother(lds, task) if lds.lds else None
    rows = [bin_powers(counts, exponent, smooth=smooth, clip=task.clip_counts) for exponent in exponents]
    bins: Bins = data.bins
    return LabelWeights(np.stack(rows), lambda y: bins.index(y).clamp(min=first) - first)


def counts_of(data: Data) -> tuple[np.ndarray, int]:
    """Return the counts of training labels from the first bin on, and that bin; labels below it belong to it."""
    if data.counts is None:
        assert data.train.labels is not None
        return data.bins.counts(data.train.labels), 0
    first = data.buckets[0] if data.buckets else 0
    counts = data.counts[first:].copy()
    counts[0] += data.counts[:first].sum()
    return counts, first


def smoother(lds: ReweightFlags, task: Task) -> Callable[[np.ndarray], np.ndarray]:
    """Return the smoothing of densities that LDS asks for."""
    window = get_lds_kernel_window(lds.lds_kernel, lds.lds_ks, lds.lds_sigma)
    return lambda density: smooth_counts(density, window, task.lds_border)


def bin_powers(
    counts: np.ndarray,
    exponent: float,
    *,
    smooth: Callable[[np.ndarray], np.ndarray] | None = None,
    clip: tuple[int, int] | None = None,
) -> np.ndarray:
    """Return the weight of each bin: counts^-r, scaled so that its mean over the counted samples is 1.

    As in re-weighting, only at r = 1 are counts clipped, and truncated where they are smoothed. At r = 0
    all weigh 1.
    """
    if exponent == 0:
        return np.ones(len(counts))
    density = counts if exponent == 1 else counts**exponent
    if exponent == 1 and clip is not None:
        density = np.clip(density, *clip)
    density = smooth(density) if smooth is not None else density
    weights = np.divide(1.0, density, out=np.zeros(len(counts)), where=density > 0)
    return weights * (counts.sum() / np.dot(counts, weights))


def kernel_density(labels: np.ndarray, counts: np.ndarray, bandwidth: float) -> np.ndarray:
    """Return the density of distinct labels by a Gaussian kernel, an exact sum."""
    exact = labels.astype(np.float64)
    apart = (exact[:, None] - exact[None]) / bandwidth
    kernel = np.exp(-(apart**2) / 2) / (bandwidth * np.sqrt(2 * np.pi))
    return kernel @ counts / counts.sum()


def kernel_weights(density: np.ndarray, counts: np.ndarray, exponents: Sequence[float]) -> np.ndarray:
    """Return density^-r of each distinct label, a row for each r, of mean 1 over the counted samples."""
    weights = density ** -np.asarray(exponents, np.float64)[:, None]
    return weights * (counts.sum() / (weights @ counts))[:, None]
