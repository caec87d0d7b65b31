"""Batch norm over the shares of all ranks: torch's own on GPUs, and one for CPUs, where torch has none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from common.method import at_least_float32

if TYPE_CHECKING:
    from common.training.ranks import Stream


def share_norms(module: nn.Module, stream: Stream, device: torch.device) -> None:
    """Let every batch norm of a module normalise by the whole batch while `stream` is active."""
    for norm in module.modules():
        if isinstance(norm, _BatchNorm):
            # Another class of the same parameters: the optimiser and the checkpoint know them already.
            norm.__class__ = SharedNorm if device.type == "cpu" else TorchNorm
            norm.stream = stream  # type: ignore[assignment]  # no module, and no part of the state
            norm.process_group = None  # type: ignore[assignment]  # torch's own asks for it: all ranks


class TorchNorm(nn.SyncBatchNorm):
    """Torch's own for GPUs, alone where all ranks have the whole batch."""

    stream: Stream

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise `(n, C, …)`."""
        return super().forward(x) if self.stream.active else _BatchNorm.forward(self, x)


class SharedNorm(_BatchNorm):
    """Batch norm by count, mean and M2 of all ranks, merged in their order."""

    stream: Stream

    def _check_input_dim(self, input: torch.Tensor) -> None:
        """Take any number of dimensions."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise `(n, C, …)`; in eval mode, or where all ranks have the whole batch, as torch does."""
        if not (self.training and self.stream.active):
            return super().forward(x)
        mean, var, count = moments_of_all(x)
        if self.track_running_stats:
            self._track(mean, var * count / (count - 1).clamp(min=1))
        shape = (1, -1, *[1] * (x.dim() - 2))
        scaled = (x - mean.to(x.dtype).view(shape)) * (var + self.eps).rsqrt().to(x.dtype).view(shape)
        return scaled * self.weight.view(shape) + self.bias.view(shape) if self.affine else scaled

    @torch.no_grad()
    def _track(self, mean: torch.Tensor, var: torch.Tensor) -> None:
        assert self.num_batches_tracked is not None and self.running_mean is not None
        assert self.running_var is not None
        self.num_batches_tracked.add_(1)
        share = self.momentum if self.momentum is not None else 1 / int(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_(var.to(self.running_var.dtype), share)


def moments_of_all(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return mean and variance `(C,)` over all ranks and their count, in at least float32, with gradient."""
    values = at_least_float32(x.transpose(0, 1).flatten(1))
    own = values.mean(1)
    m2 = (values - own[:, None]).square().sum(1)
    table = EachRank.apply(torch.cat([own, m2, own.new_tensor([values.shape[1]])]))
    means, m2s, counts = table[:, : len(own)], table[:, len(own) : -1], table[:, -1:]
    count = counts.sum()
    mean = (counts * means).sum(0) / count
    var = (m2s + counts * (means - mean).square()).sum(0) / count
    return mean, var, count


class EachRank(torch.autograd.Function):
    """The vector `(k,)` of each rank as a table `(ranks, k)`; a rank's gradient is the sum of all ranks'."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:
        table = values.new_zeros(dist.get_world_size(), len(values))
        table[dist.get_rank()] = values
        dist.all_reduce(table)
        return table

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        grad = grad.contiguous().clone()
        dist.all_reduce(grad)
        return grad[dist.get_rank()]
