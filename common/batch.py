"""What passes between a data set and the engine: which samples, their batch, and what is predicted of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

if TYPE_CHECKING:
    from torch.distributions import Distribution


class Share(NamedTuple):
    """The samples of a batch that one of several processes encodes."""

    places: np.ndarray  # of its samples in the batch, int64
    of: int  # samples in the batch

    def rows(self, own: int) -> np.ndarray:
        """Return where its `own` rows, one or more views of each of its samples, stand among those of the batch."""
        views = np.arange(own // len(self.places))[:, None]
        return (views * self.of + self.places).ravel()

    def size(self, own: int) -> int:
        """Return how many rows the batch has, of which `own` are here."""
        return own // len(self.places) * self.of


class Draw(NamedTuple):
    """One batch to be made: which samples, and the seed of whatever augmentation draws for them.

    With a `share`, the samples are a part of the batch, and augmentation draws for the whole of it.
    """

    indices: np.ndarray  # int64 (n,)
    seed: int
    share: Share | None = None

    @property
    def size(self) -> int:
        """The rows of the whole batch."""
        return len(self.indices) if self.share is None else self.share.size(len(self.indices))

    @property
    def rows(self) -> np.ndarray | slice:
        """Where its own samples stand among them."""
        return slice(None) if self.share is None else self.share.rows(len(self.indices))


class Batch(NamedTuple):
    """One batch on the device: inputs, targets `(n, 1)` in label units, weights `(n, 1)` or None.

    Dense targets and weights are maps `(n, 1, H, W)`; a target that is NaN is unknown. Where there is one,
    `valid` is False there and True elsewhere; None says that all are known. With V views, the n rows are V
    times n / V samples in the same order.
    """

    inputs: Any
    targets: torch.Tensor
    weights: torch.Tensor | None
    valid: torch.Tensor | None = None
    share: Share | None = None  # of the whole batch, where several processes share it

    def first(self, number: int) -> Batch:
        """Return the first rows; the inputs must be a tensor with a row for each target."""
        weights, valid = (None if part is None else part[:number] for part in (self.weights, self.valid))
        return Batch(self.inputs[:number], self.targets[:number], weights, valid, self.share)


class Prediction(NamedTuple):
    """What a head predicts, in label units: the mean `(n, 1)` or `(n, 1, H, W)`, and a distribution where it
    has one.

    `columns` holds whatever else it predicts for each sample; each becomes a column of `predictions.csv`.
    """

    mean: torch.Tensor
    distribution: Distribution | None = None
    columns: Mapping[str, torch.Tensor] = {}
