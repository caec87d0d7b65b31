"""The random transforms of training on a whole batch at once, on whatever device holds it.

Published order: Resize, RandomCrop(S, padding=16), RandomHorizontalFlip, ToTensor, Normalize(.5, .5).
Resize draws nothing and is done beforehand (`common.images.cache`). Padding comes before normalising,
so the border of a crop is black: -1, not 0.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from common.images.resident import onto
from common.task import Draw

PADDING = 16


def random_crop_flip(images: torch.Tensor, draw: Draw, padding: int = PADDING) -> torch.Tensor:
    """A random crop of each zero-padded image, half of them mirrored; uint8 `(n, 3, H, W)` in and out.

    The draw is made on the CPU from its seed alone, so that it is the same on every device.
    """
    generator = torch.Generator().manual_seed(draw.seed)
    top, left = torch.randint(0, 2 * padding + 1, (2, draw.size), generator=generator)[:, draw.rows]
    flip = torch.rand(draw.size, generator=generator)[draw.rows] < 0.5
    return crop_flip(images, top, left, flip, padding)


def crop_flip(
    images: torch.Tensor, top: torch.Tensor, left: torch.Tensor, flip: torch.Tensor, padding: int
) -> torch.Tensor:
    """The crop of image i at (`top[i]`, `left[i]`) of its padded self, mirrored where `flip[i]`.

    `top` and `left` are int64 `(n,)` in 0 … 2 * padding, `flip` is bool `(n,)`.
    """
    device, (height, width) = images.device, images.shape[2:]
    padded = F.pad(images, (padding,) * 4)
    # A view that holds every crop of every image: indexing it copies the wanted ones and nothing else.
    crops = padded.unfold(2, height, 1).unfold(3, width, 1)
    chosen = crops[torch.arange(len(images), device=device), :, onto(top, device), onto(left, device)]
    return torch.where(onto(flip, device)[:, None, None, None], chosen.flip(3), chosen)


GREY = (0.299, 0.587, 0.114)


def jitter_colours(images: torch.Tensor, draw: Draw, strength: float) -> torch.Tensor:
    """Change brightness, contrast and saturation of each image, in this order; uint8 `(n, 3, H, W)` in and out.

    Each is a step of random size, from -`strength` to `strength`, towards black, the image's mean grey, or grey.
    The draw is made on the CPU from its seed alone, and is not that of the crops.
    """
    generator = torch.Generator().manual_seed(draw.seed ^ 1)
    drawn = torch.rand(3, draw.size, 1, 1, 1, generator=generator)[:, draw.rows]
    amounts = strength * (2 * drawn - 1)
    floats, share = images.float(), onto(torch.tensor(GREY), images.device).view(1, 3, 1, 1)
    for what, amount in zip(("black", "mean", "grey"), onto(amounts, images.device), strict=True):
        grey = (floats * share).sum(1, keepdim=True)
        target = {"black": torch.zeros_like(grey), "mean": grey.mean((2, 3), keepdim=True), "grey": grey}[
            what
        ]
        floats = torch.lerp(floats, target.expand_as(floats), amount).clamp(0, 255)
    return floats.round().to(torch.uint8)


def normalize(images: torch.Tensor) -> torch.Tensor:
    """uint8 `(n, 3, H, W)` to contiguous float32 in [-1, 1], with the roundings of ToTensor and Normalize."""
    floats = images.to(torch.float32, memory_format=torch.contiguous_format)
    return floats.div_(255).sub_(0.5).div_(0.5)
