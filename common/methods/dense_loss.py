"""DenseLoss: loss weights from a kernel density of the training labels (DenseWeight).

Steininger, Kobs, Davidson, Krause and Hotho, "Density-based weighting for imbalanced regression", Machine
Learning 110, 2021. With p' the density scaled to [0, 1] and m any loss of a sample,

    w*(y) = max(1 - alpha p'(y), eps),    w(y) = w*(y) / mean of w* over the training labels,
    DenseLoss = mean_i w(y_i) m(prediction_i, y_i).

The density is that of the published package: a Gaussian kernel of bandwidth 1.06 s n^(-1/5), linear binning on
4,096 points, the kernel cut where it falls to 1e-4, the value of the grid point at or left of the label. A plain
density at the label differs by up to .006 on AgeDB-DIR. A label below the grid has the density of its last point,
as published.

What the published code does otherwise: a second fit of one object keeps the first bandwidth and the weights of
labels that were asked for before. Here an object is fitted once. It has no kernel where the bandwidth is 3,990
or more; here such labels are scaled until it is 1.

The weights take the place of those of `--reweight` and `--lds`. On depth maps the labels are the centres of the
bins, each as often as it has training pixels, and the bandwidth is at least a bin: this is ours, as the authors
have no such data, and no run on the benchmark's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from common.errors import UserError
from common.flags import POSITIVE, flag
from common.method import Method
from common.methods.label_density import first_bin, pooled, spread
from common.methods.reweight import ReweightFlags
from common.settings import Settings
from common.task import Data, Task

GRID = 4096
CUT = 1e-4  # density at which the kernel ends
TOLERANCE = 1e-3  # of the root that says where that is: it moves the grid, so it is part of the recipe


@dataclass(frozen=True)
class DenseLossFlags:
    """DenseLoss."""

    dense_loss: bool = flag(False, "loss weights from a kernel density of the labels: DenseLoss", switch=True)
    dense_loss_alpha: float = flag(1.0, "0: all weigh the same; 1: the densest label weighs nothing", low=0)
    dense_loss_eps: float = flag(1e-6, "the least weight before scaling", low=POSITIVE)
    dense_loss_bandwidth: float | None = flag(
        None, "of the kernel, in label units (default: by rule)", low=POSITIVE
    )


class DenseLoss(Method):
    """Weights the training split by DenseWeight; the criterion takes it from there."""

    label = "DenseLoss"
    paper = "Steininger et al., Density-based weighting for imbalanced regression, Machine Learning 110, 2021"
    Flags = DenseLossFlags
    roles = frozenset({"weighting"})
    order = 35

    @classmethod
    def complete(cls, settings: Settings, task: Task) -> Settings:
        """Raise UserError beside LDS, which smooths the density that `--reweight` divides by."""
        if settings[DenseLossFlags].dense_loss and settings[ReweightFlags].lds:
            raise UserError("--lds and --dense_loss: cannot go together, each weights the loss; drop one")
        return settings

    def run_name(self) -> str:
        """Return alpha, and what is not the default."""
        own = self.flags
        eps = "" if own.dense_loss_eps == 1e-6 else f"_eps_{own.dense_loss_eps:g}"
        width = "" if own.dense_loss_bandwidth is None else f"_h_{own.dense_loss_bandwidth:g}"
        return f"_dense_loss_{own.dense_loss_alpha:g}{eps}{width}"

    def describe(self) -> str:
        """Return alpha."""
        return f"DenseLoss alpha {self.flags.dense_loss_alpha:g}"

    def prepare(self, data: Data) -> Data:
        """Weight the training split: each sample or, where labels are dense, each bin."""
        own = self.flags
        kwargs = {
            "alpha": own.dense_loss_alpha, "eps": own.dense_loss_eps, "bandwidth": own.dense_loss_bandwidth,
        }  # fmt: skip
        try:
            if data.counts is not None:
                weights = dense_weights(data, data.counts, kwargs)
            else:
                assert data.train.labels is not None
                weights = DenseWeight(data.train.labels, **kwargs)(data.train.labels)
        except ValueError as error:
            raise UserError(f"--dense_loss: {error}") from error
        return replace(data, train=data.train.weighted(weights.astype(np.float32)))


def dense_weights(data: Data, counts: np.ndarray, kwargs: Mapping[str, float | None]) -> np.ndarray:
    """Return the weight of each bin `(B,)`; bins below the first bucket count as it and take its weight."""
    first, bins = first_bin(data), data.bins
    kept, centers = pooled(counts, first), bins.centers[first:]
    width = kwargs["bandwidth"] or max(rule(centers, kept), bins.width)
    weights = DenseWeight(centers, **{**kwargs, "bandwidth": width}, counts=kept)(centers)  # type: ignore[arg-type]
    return spread(weights, first)


class DenseWeight:
    """The weight of a label by its density among the training labels; call it with labels `(N,)`.

    `counts` says how often each of the labels is there; by default once. Raises ValueError where the labels
    have no density: fewer than two distinct ones.
    """

    def __init__(
        self,
        labels: ArrayLike,
        alpha: float = 1.0,
        eps: float = 1e-6,
        bandwidth: float | None = None,
        *,
        counts: ArrayLike | None = None,
    ) -> None:
        values = np.asarray(labels, np.float64).ravel()
        share = np.ones(len(values)) if counts is None else np.asarray(counts, np.float64)
        values, share = values[share > 0], share[share > 0]
        if len(np.unique(values)) < 2:
            raise ValueError("a density needs training labels of two values at least")
        self.alpha, self.eps, self.bandwidth = alpha, eps, bandwidth or rule(values, share)
        self.grid, density = density_on_grid(values, share / share.sum(), self.bandwidth)
        self.scaled = (density - density.min()) / (density.max() - density.min())
        self.mean = float(np.average(self._raw(values), weights=share))

    def density(self, labels: ArrayLike) -> np.ndarray:
        """Return p' of labels: of the grid point at or left of each."""
        return self.scaled[np.searchsorted(self.grid, np.asarray(labels, np.float64), side="right") - 1]

    def __call__(self, labels: ArrayLike) -> np.ndarray:
        """Return the weight of each label, float64; their mean over the training labels is 1."""
        return self._raw(labels) / self.mean

    def _raw(self, labels: ArrayLike) -> np.ndarray:
        return np.maximum(1 - self.alpha * self.density(labels), self.eps)


def rule(values: np.ndarray, share: np.ndarray) -> float:
    """Return the bandwidth 1.06 s n^(-1/5) of values that are each there `share` times."""
    mean = np.average(values, weights=share)
    return float(1.06 * np.sqrt(np.average((values - mean) ** 2, weights=share)) * share.sum() ** -0.2)


def density_on_grid(values: np.ndarray, share: np.ndarray, width: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the grid and the density of values, whose shares sum to 1, by linear binning and a cut kernel."""
    from scipy.optimize import brentq  # this and the next load slowly
    from scipy.stats import norm

    if norm.pdf(0, scale=width) <= CUT:
        grid, density = density_on_grid(values / width, share, 1.0)
        return grid * width, density / width
    reach = brentq(lambda x: norm.pdf(x, scale=width) - CUT, 0, 8 * width, xtol=TOLERANCE) + TOLERANCE
    border = max(0.05 * np.ptp(values), reach)
    grid = np.linspace(values.min() - border, values.max() + border, GRID)
    step = (grid[-1] - grid[0]) / (GRID - 1)
    position = (values - grid[0]) / step
    left = np.floor(position).astype(int)
    binned = np.bincount(left, share * (1 - position + left), GRID)
    binned += np.bincount(left + 1, share * (position - left), GRID)
    size = int(reach / step)
    kernel = norm.pdf(np.arange(-size, size + 1) * step, scale=width)
    return grid, np.convolve(binned, kernel, mode="same")
