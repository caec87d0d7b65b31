"""SFCN, a light convolutional network for volumes (Peng et al., Medical Image Analysis 68, 2021)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

CHANNELS = (32, 64, 128, 256, 256, 64)  # as published


class Sfcn(nn.Sequential):
    """Volumes `(n, 1, D, H, W)` to features `(n, channels[-1])`.

    Each block but the last halves the sides: convolution of 3, batch norm, max pooling, ReLU. The last one has a
    convolution of 1 and no pooling. Published is a soft classification over ages; here a head regresses.
    """

    def __init__(self, channels: Sequence[int] = CHANNELS, dropout: float = 0.5) -> None:
        blocks: list[nn.Module] = []
        for dim, out in zip((1, *channels[:-2]), channels[:-1], strict=True):
            blocks += [nn.Conv3d(dim, out, 3, padding=1), nn.BatchNorm3d(out), nn.MaxPool3d(2), nn.ReLU()]
        blocks += [nn.Conv3d(channels[-2], channels[-1], 1), nn.BatchNorm3d(channels[-1]), nn.ReLU()]
        super().__init__(*blocks, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Dropout(dropout))
        self.feature_dim = channels[-1]

    def forward(self, volumes: torch.Tensor) -> torch.Tensor:
        features = super().forward(volumes)
        assert isinstance(features, torch.Tensor)
        return features
