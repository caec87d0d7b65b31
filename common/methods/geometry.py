"""What methods on features share: unit rows, labels as a column, and rows of feature maps."""

from __future__ import annotations

import torch

from common.task import Batch


def unit(rows: torch.Tensor) -> torch.Tensor:
    """Divide each row by its norm; a row of zeros stays as it is, with a gradient of ordinary size.

    The published codes divide by a floor of 1e-12 there, which makes gradients of 1e12.
    """
    norm = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    return rows / torch.where(norm > 1e-12, norm, 1.0)


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
