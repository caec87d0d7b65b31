"""The encoder of images: a ResNet of torchvision (paper, section 4.1)."""

from __future__ import annotations

import torch
from torch import nn


class ResNetEncoder(nn.Module):
    """A torchvision ResNet without its last layer: images `(n, 3, S, S)` -> features `(n, feature_dim)`.

    Its children keep torchvision's names, which are the published ones.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        from torchvision import models  # takes as long as torch, and a --help builds no model

        resnet = models.get_model(name, weights=None)
        self.feature_dim = resnet.fc.in_features
        for child, module in resnet.named_children():
            if child != "fc":
                self.add_module(child, module)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        for module in self.children():
            images = module(images)
        return images.flatten(1)
