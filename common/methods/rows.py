"""What contrastive methods share: the rows of a batch that they compare, one for each sample or image."""

from __future__ import annotations

from typing import NamedTuple

import torch

from common.method import Head, Seen


class Rows(NamedTuple):
    """One row for each sample, or for each image that has a known pixel."""

    features: torch.Tensor  # (n, C); maps are flattened
    labels: torch.Tensor  # (n, 1), in label units; of maps the mean
    predictions: torch.Tensor | None  # (n, 1), in label units, without gradient; of maps the mean
    weights: torch.Tensor | None  # (n, 1); of maps the mean


def rows_of(seen: Seen, features: torch.Tensor, predictions: torch.Tensor | None = None) -> Rows:
    """Return the rows of these features; means over maps are those of the known pixels."""
    batch = seen.batch
    if batch.targets.dim() == 2:
        return Rows(features, batch.targets, predictions, batch.weights)
    valid = torch.ones_like(batch.targets, dtype=torch.bool) if batch.valid is None else batch.valid
    known = valid.flatten(1).any(1)

    def mean(values: torch.Tensor | None) -> torch.Tensor | None:
        if values is None:
            return None
        total = values.where(valid, 0.0).flatten(1).sum(1, keepdim=True)
        return (total / valid.flatten(1).sum(1, keepdim=True).clamp_min(1))[known]

    labels = mean(batch.targets)
    assert labels is not None
    return Rows(features.flatten(1)[known], labels, mean(predictions), mean(batch.weights))


@torch.no_grad()
def predictions_of(seen: Seen, features: torch.Tensor, target_scale: float) -> torch.Tensor:
    """Return what the head predicts from features, in label units, without gradient."""
    assert seen.head is not None
    if isinstance(seen.head, Head):
        return seen.head.predict(features).mean.float()
    return seen.head(features).float() * target_scale


def unit_rows(features: torch.Tensor) -> torch.Tensor:
    """Return each row divided by its norm; a row of (almost) zeros becomes 0 and gets no gradient.

    The published code divides by a norm of at least 1e-12, so that such a row gets a gradient of 1e11.
    """
    flat = features.flatten(1)
    norm = torch.linalg.vector_norm(flat, dim=1, keepdim=True)
    return flat / norm.where(norm > 1e-12, torch.inf)
