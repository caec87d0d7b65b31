"""SMOTER and SMOGN on images: pixels are mixed before augmentation (paper, appendix B)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image

from common.images.decode import reported
from common.images.split import FaceSplit
from common.methods.resample import NOISE_RATIO, Plan

SMALL = 16  # pixels of a side at which distances are taken: what tells two faces apart survives there
CHUNK = 64  # images in memory at once


@dataclass(eq=False, kw_only=True)
class ResampledFaces(FaceSplit):
    """A resampled `FaceSplit`: `labels` are the plan's, `paths` and `rows` those before it.

    `spread` is the standard deviation of few-shot pixels, float32 `(3,)`, from 0 to 255. A synthetic image
    is rounded to 8 bits, as every image is; its noise is the same each time. Images are mixed on the CPU.
    """

    plan: Plan
    spread: np.ndarray

    def pixels(self, indices: np.ndarray, decoders: Executor) -> np.ndarray:
        """The images of these samples, uint8 `(n, S, S, 3)`; only those that are mixed are read twice."""
        share, noise = self.plan.share[indices], self.plan.noise[indices]
        images = np.array(super().pixels(self.plan.first[indices], decoders))
        made = np.flatnonzero((share > 0) | (noise > 0))
        if len(made):
            others = super().pixels(self.plan.second[indices[made]], decoders)
            mixed = images[made] + share[made, None, None, None] * (others - images[made].astype(np.float32))
            for image, seed in zip(mixed, noise[made], strict=True):
                if seed:
                    image += self.spread * _normal(seed, image.shape)
            images[made] = mixed.round().clip(0, 255).astype(np.uint8)
        return images


def _normal(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    return NOISE_RATIO * np.random.default_rng(seed).standard_normal(shape, np.float32)


def resample_faces(split: FaceSplit, rows: np.ndarray, plan: Callable[[np.ndarray], Plan]) -> ResampledFaces:
    """Return the split that `plan` makes from the features of `rows`: their pixels at 16 x 16, in RGB."""
    small = list(reported(_small(split, rows), "Looking for neighbours", len(rows)))
    features = np.reshape(small, (len(rows), SMALL * SMALL * 3)).astype(np.float32)
    spread = features.reshape(-1, 3).std(0) if len(rows) else np.zeros(3, np.float32)
    made = plan(features)
    return ResampledFaces(**vars(split) | {"labels": made.labels, "resident": None}, plan=made, spread=spread)


def _small(split: FaceSplit, rows: np.ndarray) -> Iterator[np.ndarray]:
    """Each image at 16 x 16 pixels, from the same pixels with and without a cache: a run may change it."""
    with ThreadPoolExecutor(max(split.workers, 1)) as decoders:
        for start in range(0, len(rows), CHUNK):
            for image in split.pixels(rows[start : start + CHUNK], decoders):
                yield np.asarray(Image.fromarray(image).resize((SMALL, SMALL), Image.Resampling.BOX))
