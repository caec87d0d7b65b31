"""Gaussian features, a mean and a variance for each dimension: how they are made, smoothed and sampled."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import nn

from common.fds import FDS
from common.method import at_least_float32

FLOOR = 1e-6  # of a variance


class GaussianLayers(nn.Module):
    """Two linear layers: features `(n, C)` to mean and variance, `(n, 2C)`."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mean, self.variance = nn.Linear(dim, dim), nn.Linear(dim, dim)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        variance = F.softplus(at_least_float32(self.variance(features))) + FLOOR
        return torch.cat([at_least_float32(self.mean(features)), variance], dim=1)


class GaussianBlock(nn.Module):
    """The last block of a torchvision ResNet with twice the channels: mean, then variance.

    Its children keep their names. The last convolution has 2C outputs; batch norm and the residual act on the
    mean alone. The mean half of the convolution keeps the weights that it had. The variance is divided by the
    area of the map, so that pooling gives that of a mean over independent pixels.
    """

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        for name, child in block.named_children():
            self.add_module(name, child)
        self.depth = max(int(name[4:]) for name, _ in block.named_children() if name.startswith("conv"))
        name = f"conv{self.depth}"
        self.add_module(name, _doubled(getattr(self, name)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        downsample = self._modules.get("downsample")
        residual, out = x if downsample is None else downsample(x), x
        for number in range(1, self.depth):
            out = F.relu(getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(out)))
        mean, variance = getattr(self, f"conv{self.depth}")(out).chunk(2, dim=1)
        mean = F.relu(getattr(self, f"bn{self.depth}")(mean) + residual)
        variance = F.softplus(at_least_float32(variance)) + FLOOR
        return torch.cat([at_least_float32(mean), variance / variance[0, 0].numel()], dim=1)


def _doubled(conv: nn.Conv2d) -> nn.Conv2d:
    """Return a convolution of twice the outputs, the first half with the weights that there are."""
    kernel, stride, padding = (
        cast(tuple[int, int], size) for size in (conv.kernel_size, conv.stride, conv.padding)
    )
    made = nn.Conv2d(conv.in_channels, 2 * conv.out_channels, kernel, stride, padding, bias=False)
    made = made.to(conv.weight)
    with torch.no_grad():
        made.weight[: conv.out_channels] = conv.weight
    return made


def with_gaussian_block(encoder: nn.Module) -> bool:
    """Replace the last block of an encoder that is a ResNet, and return whether it is one."""
    layer = getattr(encoder, "layer4", None)
    if not isinstance(layer, nn.Sequential):
        return False
    layer[-1] = GaussianBlock(layer[-1])
    return True


def sampled(gaussian: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
    """Return a draw from Gaussians `[mean | variance]`, `(n, 2C)` -> `(n, C)`; the noise is standard normal."""
    mean, variance = gaussian.chunk(2, dim=1)
    noise = torch.randn_like(mean) if noise is None else noise
    return mean + noise * variance.sqrt()


class GaussianFDS(FDS):
    """FDS of Gaussian features `[mu | var]`, `(n, 2C)`, with statistics [m1 | m2] and [v1 | v2] of each bucket.

    Over the n features of a bucket in an epoch:

    - m1 = mean mu and m2 = sum var / n^2, the mean and its variance,
    - v1 = mean(var - m2 + mu^2 - m1^2) and v2 = 2 v1^2 / (n - 1), the variance and its variance; v2 = 0 if n = 1.

    Buckets are smoothed with the kernel k (m1, v1) and with k^2, not scaled to 1 (m2, v2). Calibration with
    s = sqrt(clip(v1' / v1)), where ' is smoothed: mu <- (mu - m1) s + m1' and var <- (var + m2) s + m2', plus
    twice. v2 is kept and not used, as published. At first every mean is [0 | 1] and every variance 1, so that
    epoch 1 adds 2 to each variance.
    """

    def reset(self) -> None:
        """Forget all statistics."""
        super().reset()
        for name in ("running_mean", "running_mean_last_epoch", "smoothed_mean_last_epoch"):
            getattr(self, name)[:, self.feature_dim // 2 :] = 1

    def update(self, epoch: int) -> None:
        """Fold the statistics of what was collected into the running ones."""
        if self._stream is not None:
            count, mean, m2 = self._stream
            share, number = 1 / count.clamp(min=1), self.feature_dim // 2
            mu, var = mean.chunk(2, dim=1)
            v1 = var - var * share + m2[:, :number] * share
            less = (count - 1).clamp(min=1)
            v2 = torch.where(count > 1, 2 * v1.square() / less, 0.0)
            # FDS divides by n - 1 what it takes for a sum of squares.
            self._stream = (count, torch.cat([mu, var * share], 1), torch.cat([v1, v2], 1) * less)
        super().update(epoch)

    def _over_buckets(self, table: torch.Tensor) -> torch.Tensor:
        half = len(self.kernel_window) // 2
        padded = F.pad(table.T.unsqueeze(1), (half, half), mode="reflect").chunk(2)
        windows = (self.kernel_window.view(1, 1, -1), self.kernel_window.square().view(1, 1, -1))
        parts = [F.conv1d(part, window) for part, window in zip(padded, windows, strict=True)]
        return torch.cat(parts).squeeze(1).T

    def _calibration(self) -> tuple[torch.Tensor, torch.Tensor]:
        m1, m2 = self.running_mean_last_epoch.chunk(2, dim=1)
        new_m1, new_m2 = self.smoothed_mean_last_epoch.chunk(2, dim=1)
        v1, new_v1 = (
            table.chunk(2, dim=1)[0] for table in (self.running_var_last_epoch, self.smoothed_var_last_epoch)
        )
        valid = (v1 > 0) & (new_v1 >= 0) & (v1.sum(1, keepdim=True) >= 1e-10)
        ratio = new_v1 / torch.where(valid, v1, 1.0)
        scale = torch.where(valid, ratio.clamp(*self.clip).sqrt(), 1.0)
        shifts = (torch.where(valid, shift, 0.0) for shift in (new_m1 - m1 * scale, new_m2 + m2 * scale))
        shift, scale = torch.cat(tuple(shifts), 1), torch.cat([scale, scale], 1)
        return F.pad(scale, (0, 0, 0, 1), value=1.0), F.pad(shift, (0, 0, 0, 1))
