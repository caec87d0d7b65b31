"""The colours of NYUD2-DIR's images: the published random changes in training, and normalising."""

from __future__ import annotations

import numpy as np
import torch

from common.images.resident import onto
from common.task import Draw

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
EIGENVALUES = (0.2175, 0.0188, 0.0045)  # of ImageNet's colours (Krizhevsky et al., 2012)
EIGENVECTORS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))
GREY = (0.299, 0.587, 0.114)
LIGHTING, JITTER = 0.1, 0.4


def jitter_colours(images: torch.Tensor, draw: Draw) -> torch.Tensor:
    """PCA lighting, then brightness, contrast and saturation in a random order for each image.

    `images` float32 `(n, 3, H, W)` in [0, 1]; nothing is clamped, as published. The three are all linear
    interpolations towards an image (black, the mean of grey, grey), so each of three rounds does the whole
    batch at once, whichever of them an image's order has there.
    """
    n, device = draw.size, images.device
    rng = np.random.default_rng([draw.seed, 1])
    alpha = rng.normal(0, LIGHTING, (n, 3))[draw.rows]
    shift = (np.array(EIGENVECTORS) * (alpha * np.array(EIGENVALUES))[:, None]).sum(2)
    order = rng.permuted(np.tile(np.arange(3), (n, 1)), axis=1)[draw.rows]
    strength = rng.uniform(-JITTER, JITTER, (n, 3))[draw.rows]

    def column(values: np.ndarray) -> torch.Tensor:
        return onto(torch.from_numpy(values.astype(np.float32)), device).view(len(images), -1, 1, 1)

    images = images + column(shift)
    share = onto(torch.tensor(GREY), device).view(1, 3, 1, 1)
    for what, amount in zip(order.T, strength.T, strict=True):
        grey = (images * share).sum(1, keepdim=True)
        target = grey * column(what == 2) + grey.mean((2, 3), keepdim=True) * column(what == 1)
        images = torch.lerp(images, target.expand_as(images), column(amount))
    return images


def normalised(images: torch.Tensor) -> torch.Tensor:
    """Return images with the mean and deviation of ImageNet taken out."""
    mean, deviation = (onto(torch.tensor(v), images.device).view(1, 3, 1, 1) for v in (MEAN, DEVIATION))
    return (images - mean) / deviation
