"""FDS's calibration of feature maps, a piece of one map after the other, with its gradient."""

from __future__ import annotations

from typing import Any

import torch

CACHED = 2**17  # values of a piece on a CPU: what its cache holds beside their tables


def rows_of_a_piece(rows: torch.Tensor) -> int:
    """Return how many of the rows `(n, C)` are worked on together: on a CPU as many as its cache holds."""
    return max(CACHED // rows.shape[1], 1) if rows.device.type == "cpu" else max(len(rows), 1)


def calibrated(
    features: torch.Tensor, bucket: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor | None
) -> torch.Tensor:
    """Return `features * scale[bucket] + shift[bucket]` of maps `(N, C, H, W)`, in their memory format.

    `bucket` is `(N, H * W)`. Tables of all pixels at once would be twice as large as the features.
    """
    out, tables = torch.empty_like(features), [scale] if shift is None else [scale, shift]
    by_pixel = features.stride(1) == 1  # a pixel's channels are neighbours: channels-last
    tables = tables if by_pixel else [table.T.contiguous() for table in tables]
    for maps in zip(features.flatten(2), out.flatten(2), bucket, strict=True):
        size = rows_of_a_piece(maps[0].T)
        for x, result, where in zip(*(part.split(size, -1) for part in maps), strict=True):
            by, *to = (t[where].T if by_pixel else t.index_select(1, where) for t in tables)
            torch.addcmul(to[0], x, by, out=result) if to else torch.mul(x, by, out=result)
    return out


class CalibrateMaps(torch.autograd.Function):
    """`calibrated`, with a gradient that keeps the buckets instead of the tables of all pixels."""

    @staticmethod
    def forward(
        ctx: Any, features: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor, bucket: torch.Tensor
    ) -> torch.Tensor:
        ctx.save_for_backward(scale, bucket)
        return calibrated(features, bucket, scale, shift)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        scale, bucket = ctx.saved_tensors
        return calibrated(grad, bucket, scale, None), None, None, None
