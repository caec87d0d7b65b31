"""The density of training labels, in bins or by a Gaussian kernel, and weights of labels by powers of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from common.bins import Bins
from common.errors import UserError
from common.lds import get_lds_kernel_window, smooth_counts
from common.task import Data, Task

if TYPE_CHECKING:
    from common.methods.reweight import ReweightFlags

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
    first = first_bin(data)
    counts, smooth = pooled(bin_counts(data), first), partial(smoothed, lds=lds, border=task.lds_border)
    rows = [bin_powers(counts, exponent, smooth=smooth, clip=task.clip_counts) for exponent in exponents]
    bins: Bins = data.bins
    return LabelWeights(np.stack(rows), lambda y: bins.index(y).clamp(min=first) - first)


def first_bin(data: Data) -> int:
    """Return the first bin that counts for itself; where labels are dense, bins below the buckets do not."""
    return data.buckets[0] if data.counts is not None and data.buckets else 0


def pooled(counts: np.ndarray, first: int) -> np.ndarray:
    """Return the counts from the first bin on; labels below it belong to it."""
    kept = counts[first:].copy()
    kept[0] += counts[:first].sum()
    return kept


def spread(values: np.ndarray, first: int) -> np.ndarray:
    """Return the value of each bin `(B,)`, from those of the first bin on; bins below take that of the first."""
    return np.concatenate([np.repeat(values[:1], first), values])


def bin_counts(data: Data) -> np.ndarray:
    """Return the training labels in each bin `(B,)`."""
    if data.counts is not None:
        return data.counts
    assert data.train.labels is not None
    return data.bins.counts(data.train.labels)


def smoothed(counts: np.ndarray, lds: ReweightFlags, border: str) -> np.ndarray:
    """Return counts as LDS smooths them; without `--lds` as they are."""
    if not lds.lds:
        return counts
    return smooth_counts(counts, get_lds_kernel_window(lds.lds_kernel, lds.lds_ks, lds.lds_sigma), border)


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
