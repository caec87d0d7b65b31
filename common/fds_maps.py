"""FDS's calibration of feature maps, one map after the other, with its gradient."""

from __future__ import annotations

from typing import Any

import torch


class CalibrateMaps(torch.autograd.Function):
    """`features * scale[bucket] + shift[bucket]` on maps `(N, C, H, W)`, one after the other.

    The tables of all maps at once would be twice as large as the features, and autograd would keep one.
    """

    @staticmethod
    def forward(
        ctx: Any, features: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor, bucket: torch.Tensor
    ) -> torch.Tensor:
        ctx.save_for_backward(scale, bucket)
        scale, shift, out = scale.T.contiguous(), shift.T.contiguous(), torch.empty_like(features)
        for one, its_bucket, calibrated in zip(features, bucket, out, strict=True):
            by, to = (table.index_select(1, its_bucket).view_as(one) for table in (scale, shift))
            torch.addcmul(to, one, by, out=calibrated)
        return out

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        scale, bucket = ctx.saved_tensors
        scale, out = scale.T.contiguous(), torch.empty_like(grad)
        for one, its_bucket, product in zip(grad, bucket, out, strict=True):
            torch.mul(one, scale.index_select(1, its_bucket).view_as(one), out=product)
        return out, None, None, None
