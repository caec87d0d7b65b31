"""Volumes with a number each, as the split that the engine trains on, and its random transforms."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from volume_files import decode_volume, packed, resized, unpacked

from common.images.split import FaceSplit
from common.methods.resample import NOISE_RATIO, Plan
from common.task import Draw

SMALL = (8, 8, 8)  # shape at which SMOTER takes distances


@dataclass(eq=False, kw_only=True)
class VolumeSplit(FaceSplit):
    """One split of volumes; `flips` are the axes, 0 to 2, along which a half of the volumes is mirrored.

    `shift` is the greatest shift along an axis, in voxels; `intensity` that of the scale and the offset.
    """

    decode: ClassVar[Callable[..., np.ndarray]] = staticmethod(decode_volume)
    flips: tuple[int, ...] = ()
    shift: int = 0
    intensity: float = 0.0

    def inputs_of(self, pixels: torch.Tensor, draw: Draw | None) -> torch.Tensor:
        """Return bytes of float16 on their device as float32 `(n, 1, D, H, W)`, augmented where a draw is given."""
        volumes = pixels.view(torch.float16)[..., 0].float()
        if draw is not None:
            numbers = uniform(draw).to(volumes.device)
            volumes = transformed(volumes, numbers, self.flips, self.shift, self.intensity)
        return volumes[:, None]

    def jittered(self, strength: float) -> VolumeSplit:
        """Return this split with other intensities in its training transforms."""
        return replace(self, intensity=max(self.intensity, strength))

    def resampled(self, rows: np.ndarray, plan: Callable[[np.ndarray], Plan]) -> ResampledVolumes:
        """Return the split of mixed volumes that `plan` makes from the features of `rows`."""
        with ThreadPoolExecutor(max(self.workers, 1)) as decoders:
            volumes = (unpacked(self.pixels(rows[[place]], decoders))[0] for place in range(len(rows)))
            small = [resized(volume, SMALL).ravel() for volume in volumes]
        made = plan(np.reshape(small, (len(rows), -1)))
        return ResampledVolumes(**vars(self) | {"labels": made.labels}, plan=made)


@dataclass(eq=False, kw_only=True)
class ResampledVolumes(VolumeSplit):
    """A resampled `VolumeSplit`: `labels` are the plan's, `paths` and `rows` those before it.

    Voxels have a deviation of 1, which the noise is a share of.
    """

    plan: Plan

    def pixels(self, indices: np.ndarray, decoders: Executor) -> np.ndarray:
        """Return the volumes of these samples as bytes, mixed as the plan says."""
        rows = self.plan.first[indices], self.plan.second[indices]
        first, second = (unpacked(super(ResampledVolumes, self).pixels(row, decoders)) for row in rows)
        volumes = first + self.plan.share[indices, None, None, None] * (second - first)
        for volume, seed in zip(volumes, self.plan.noise[indices], strict=True):
            if seed:
                noise = np.random.default_rng(seed).standard_normal(volume.shape, np.float32)
                volume += NOISE_RATIO * noise
        return packed(volumes)


def uniform(draw: Draw) -> torch.Tensor:
    """Return 8 numbers from 0 to 1 for each sample of a draw, on the CPU: they are the same on every device."""
    return torch.rand(draw.size, 8, generator=torch.Generator().manual_seed(draw.seed))[draw.rows]


def transformed(
    volumes: torch.Tensor, numbers: torch.Tensor, flips: tuple[int, ...], shift: int, intensity: float
) -> torch.Tensor:
    """Return volumes `(n, D, H, W)` mirrored, shifted, scaled and offset as `numbers` `(n, 8)` from 0 to 1 say.

    A shifted volume repeats its border.
    """
    places = []
    for axis, side in enumerate(volumes.shape[1:]):
        moved = ((2 * shift + 1) * numbers[:, 3 + axis]).long()[:, None] - shift
        place = (torch.arange(side, device=volumes.device) + moved).clamp(0, side - 1)
        mirrored = (numbers[:, axis] < 0.5)[:, None] & (axis in flips)
        places.append(torch.where(mirrored, side - 1 - place, place))
    depth, height, width = places
    own = torch.arange(len(volumes), device=volumes.device)[:, None, None, None]
    chosen = volumes[own, depth[:, :, None, None], height[:, None, :, None], width[:, None, None]]
    scale, offset = (intensity * (2 * numbers[:, 6:] - 1)).T[..., None, None, None]
    return chosen * (1 + scale) + offset
