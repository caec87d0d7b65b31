"""A plain reference: training as the paper's released code goes about it, in our own words and on any device.

Every image is decoded whenever it is wanted, tensors are NCHW and float32, FDS goes over the labels one by one, and
its statistics come from a second pass whose features are gathered first. Only benchmarks and their tests use it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from common.images.encoder import ResNetEncoder


class Faces(Dataset):
    """Images decoded, resized, cropped and flipped one at a time."""

    def __init__(
        self, files: Sequence[Path], labels: np.ndarray, weights: np.ndarray, size: int, padding: int = 16
    ) -> None:
        self.files, self.labels, self.weights = files, labels, weights
        self.transform = transforms.Compose(
            [
                transforms.Resize((size, size)),
                transforms.RandomCrop(size, padding=padding),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize([0.5] * 3, [0.5] * 3),
            ]
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
        with Image.open(self.files[index]) as image:
            pixels = self.transform(image.convert("RGB"))
        return pixels, self.labels[[index]], self.weights[[index]]


class Tables:
    """Running and smoothed mean and variance of each label, filled by loops."""

    def __init__(self, labels: int, channels: int) -> None:
        self.mean, self.var = torch.zeros(labels, channels), torch.ones(labels, channels)
        self.smoothed_mean, self.smoothed_var = self.mean.clone(), self.var.clone()
        window = torch.exp(-(torch.arange(-2.0, 3) ** 2) / 8)
        self.window = window / window.sum()

    def smooth_tables(self) -> None:
        """Smooth the running tables over neighbouring labels."""
        last, far = len(self.mean) - 1, torch.arange(-2, 3)
        for label in range(len(self.mean)):
            near = (label + far).abs()
            near = torch.where(near > last, 2 * last - near, near)
            self.smoothed_mean[label] = (self.window[:, None] * self.mean[near]).sum(0)
            self.smoothed_var[label] = (self.window[:, None] * self.var[near]).sum(0)

    def update(self, features: torch.Tensor, labels: torch.Tensor, momentum: float = 0.9) -> None:
        """Take mean and variance of the features of one label after the other."""
        for label in torch.unique(labels).tolist():
            own = features[labels == label]
            mean, var = own.mean(0), own.var(0, unbiased=len(own) > 1)
            index = min(int(label), len(self.mean) - 1)
            self.mean[index] = momentum * self.mean[index] + (1 - momentum) * mean
            self.var[index] = momentum * self.var[index] + (1 - momentum) * var

    def calibrate(self, features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Whiten and colour the features of one label after the other (eq. 5), in a copy."""
        features = features.clone()
        for label in torch.unique(labels).tolist():
            rows, index = labels == label, min(int(label), len(self.mean) - 1)
            factor = (self.smoothed_var[index] / self.var[index]).clamp(0.1, 10).sqrt()
            features[rows] = (features[rows] - self.mean[index]) * factor + self.smoothed_mean[index]
        return features


class PublishedRun:
    """A model, its optimiser and its images; `epoch` trains once over them and passes over them again."""

    def __init__(self, faces: Faces, model: str, batch: int, device: torch.device) -> None:
        self.encoder = ResNetEncoder(model).to(device)
        self.head = nn.Linear(self.encoder.feature_dim, 1).to(device)
        self.tables, self.device = Tables(100, self.encoder.feature_dim), device
        parameters = [*self.encoder.parameters(), *self.head.parameters()]
        self.optimizer = torch.optim.Adam(parameters, lr=1e-3)
        self.loader = DataLoader(faces, batch, shuffle=True, num_workers=min(2, torch.get_num_threads()))

    def epoch(self) -> None:
        """Train on every image, then take the statistics of their features in a second pass."""
        self.encoder.train()
        for images, labels, weights in self.loader:
            features = self.encoder(images.to(self.device))
            features = self.tables.calibrate(features.cpu(), labels.flatten()).to(self.device)
            error = (self.head(features) - labels.to(self.device)).abs()
            self.optimizer.zero_grad()
            (error * weights.to(self.device)).mean().backward()
            self.optimizer.step()
        self.statistics()

    @torch.no_grad()
    def statistics(self) -> None:
        """Gather all features in training mode, then smooth the old tables and update them."""
        batches = [(self.encoder(images.to(self.device)).cpu(), labels) for images, labels, _ in self.loader]
        features, labels = map(torch.cat, zip(*batches, strict=True))
        self.tables.smooth_tables()
        self.tables.update(features, labels.flatten())
