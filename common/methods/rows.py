"""What methods on features share: the rows of a batch that they compare, one for each sample, image or pixel."""

from __future__ import annotations

from typing import NamedTuple

import torch

from common.method import Seen, at_least_float32
from common.task import Batch, Task


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
def predictions_of(seen: Seen, features: torch.Tensor, task: Task) -> torch.Tensor:
    """Return what the head predicts from features, in label units, without gradient."""
    assert seen.head is not None
    return task.in_label_units(at_least_float32(seen.head(features)))


def unit_rows(features: torch.Tensor) -> torch.Tensor:
    """Return each row divided by its norm; a row of (almost) zeros becomes 0 and gets no gradient.

    The published code divides by a norm of at least 1e-12, so that such a row gets a gradient of 1e11.
    """
    flat = features.flatten(1)
    norm = torch.linalg.vector_norm(flat, dim=1, keepdim=True)
    return flat / norm.where(norm > 1e-12, torch.inf)


def column_of(labels: torch.Tensor, rows: int) -> torch.Tensor:
    """Return labels `(N,)` or `(N, 1)` as `(N,)`; raises ValueError unless there is one for each row."""
    if labels.numel() != rows or labels.shape[0] != rows:
        raise ValueError(f"labels {tuple(labels.shape)} are not one for each of {rows} rows of features")
    return labels.reshape(-1)


def drawn_pixels(batch: Batch, limit: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw at most `limit` known pixels of a batch of maps; return their samples and their places."""
    known = torch.ones_like(batch.targets, dtype=torch.bool) if batch.valid is None else batch.valid
    sample, place = known.flatten(1).nonzero(as_tuple=True)
    kept = torch.randperm(len(sample), device=sample.device)[:limit]
    return sample[kept], place[kept]


def drawn_rows(features: torch.Tensor, batch: Batch, limit: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return features as rows `(m, C)` and their labels `(m,)`; of maps, those of drawn pixels."""
    if features.dim() == 2:
        return features, column_of(batch.targets, len(features))
    sample, place = drawn_pixels(batch, limit)
    return features.flatten(2)[sample, :, place], batch.targets.flatten(1)[sample, place]


def pooled_rows(features: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Return features as rows `(n, C)` and labels `(n, 1)`; a map gives its mean, and the mean of its known labels.

    A map without a known label is left out.
    """
    if features.dim() == 2:
        return features, batch.targets
    labels = batch.targets.flatten(1).nanmean(1, keepdim=True)
    known = labels.isfinite().squeeze(1)
    return features.flatten(2).mean(2)[known], labels[known]
