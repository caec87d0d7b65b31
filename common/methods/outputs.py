"""What heads with several outputs share: the data set's own head several times over, and outputs at known targets."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import nn

from common.errors import UserError
from common.method import Head, Method, Seen

if TYPE_CHECKING:
    from common.training.regressor import Regressor


class Outputs(nn.Module):
    """Several heads of the kind that the data set has: features to outputs `(n, K)`, or maps `(n, K, H, W)`."""

    def __init__(self, make: Callable[[int], nn.Module], dim: int, number: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(make(dim) for _ in range(number))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return torch.cat([head(features) for head in self.heads], dim=1)


class ScaledHead(Head):
    """A head whose outputs are in units of (label - `target_mean`) / `target_scale`."""

    def __init__(self, target_scale: float = 1.0, target_mean: float = 0.0) -> None:
        super().__init__()
        self.target_scale, self.target_mean = target_scale, target_mean

    def in_label_units(self, means: torch.Tensor) -> torch.Tensor:
        """Return means in label units."""
        return means * self.target_scale + self.target_mean


def known_outputs(seen: Seen) -> tuple[tuple[torch.Tensor, ...], torch.Tensor, torch.Tensor | None]:
    """Return each output, the targets in label units, and the weights, of what is known of the batch.

    All are of one shape: `(n, 1)`, or `(p,)` where some pixels are unknown.
    """
    assert seen.outputs is not None
    valid, weights = seen.batch.valid, seen.batch.weights
    outputs, targets = seen.outputs.split(1, dim=1), seen.batch.targets
    if valid is None:
        return outputs, targets, weights
    known = tuple(output[valid] for output in outputs)
    return known, targets[valid], None if weights is None else weights[valid]


def check_shapes(labels: torch.Tensor, *others: torch.Tensor | None) -> None:
    """Raise ValueError unless all have the shape of the labels: (n, 1) against (n,) would broadcast to (n, n)."""
    for other in others:
        if other is not None and other.shape != labels.shape:
            raise ValueError(
                f"predictions {tuple(other.shape)} and labels {tuple(labels.shape)} differ in shape"
            )


def refuse_own_heads(regressor: Regressor, method: Method, reason: str) -> None:
    """Raise UserError, naming both flags, beside a method without a head or with one of several outputs."""
    for other in regressor:
        if other.owns_head:
            raise UserError(
                f"{method.option()} and {other.option()}: cannot go together, as {reason}; drop one of them"
            )
