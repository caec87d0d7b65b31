"""Images with a float label each, as the split that the engine trains on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

from common.datasets.faces import SPLITS, also, check_sizes, read_faces
from common.errors import UserError
from common.images.augment import PADDING, jitter_colours, normalize, random_crop_flip
from common.images.cache import cached_images
from common.images.decode import decode, file_stat, prefetch
from common.task import Batch, Draw

if TYPE_CHECKING:
    from common.methods.resample import Plan


@dataclass(eq=False)
class FaceSplit:
    """One split (a `common.task.Split`): `labels` float32 `(N,)`, `paths` and `rows` of `images` `(N,)`.

    `images` is the array of `common.images.cache`; where it is None, `workers` threads decode the files.
    `padding` is that of the random crops, in pixels; `jitter` adds random colours. `weights`, float32 `(N,)`,
    is for the loss and may be set later.
    """

    labels: np.ndarray
    paths: list[str]
    root: Path
    size: int
    rows: np.ndarray
    images: np.ndarray | None = None
    workers: int = 0
    padding: int = PADDING
    weights: np.ndarray | None = None
    jitter: float = 0.0  # of colours, in training
    lengths: None = None
    augments: ClassVar[bool] = True

    def __len__(self) -> int:
        return len(self.labels)

    def weighted(self, weights: np.ndarray) -> FaceSplit:
        """Return this split with weights of the loss, float32 `(N,)`."""
        return replace(self, weights=weights)

    def jittered(self, strength: float) -> FaceSplit:
        """Return this split with random colours in its training transforms."""
        return replace(self, jitter=strength)

    def resampled(self, rows: np.ndarray, plan: Callable[[np.ndarray], Plan]) -> FaceSplit:
        """Return the split of mixed images that `plan` makes from the features of `rows`."""
        from common.images.resample import resample_faces  # which is made of this class

        return resample_faces(self, rows, plan)

    def batches(self, draws: Iterable[Draw], *, augment: bool, device: torch.device) -> Iterator[Batch]:
        """The batch of each draw: inputs float32 `(n, 3, S, S)` in [-1, 1], targets and weights `(n, 1)`.

        One thread reads the next batch while the device is busy with this one. Raises `BadImage` where
        there is no cache and a file cannot be read.
        """
        pin = device.type == "cuda"  # a GPU copies from pinned memory while it computes
        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(max(self.workers, 1)) as decoders:
            read = partial(self._read, decoders=decoders, pin=pin)
            for draw, batch in prefetch(reader, read, draws):
                images = batch.inputs.to(device, non_blocking=True).permute(0, 3, 1, 2)
                targets = batch.targets.to(device, non_blocking=True)
                weights = None if batch.weights is None else batch.weights.to(device, non_blocking=True)
                images = self._augmented(images, draw.seed) if augment else images
                yield Batch(normalize(images), targets, weights)

    def _augmented(self, images: torch.Tensor, seed: int) -> torch.Tensor:
        images = random_crop_flip(images, seed, self.padding)
        return jitter_colours(images, seed, self.jitter) if self.jitter else images

    def _read(self, draw: Draw, decoders: Executor, pin: bool) -> Batch:
        """Return the batch on the CPU, its inputs still pixels: uint8 `(n, S, S, 3)`."""

        def tensor(array: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(array).pin_memory() if pin else torch.from_numpy(array)

        weights = None if self.weights is None else tensor(_column(self.weights, draw))
        pixels = self.pixels(draw.indices, decoders)
        return Batch(tensor(pixels), tensor(_column(self.labels, draw)), weights)

    def pixels(self, indices: np.ndarray, decoders: Executor) -> np.ndarray:
        """The images of these samples, uint8 `(n, S, S, 3)`: from the cache, or decoded by `decoders`."""
        if self.images is not None:
            return self.images[self.rows[indices]]
        files = [self.root / self.paths[index] for index in indices]
        return np.stack(list(decoders.map(partial(decode, size=self.size), files)))


def _column(values: np.ndarray, draw: Draw) -> np.ndarray:
    return values[draw.indices].astype(np.float32)[:, None]


def load_faces(
    data_dir: Path,
    csv: str,
    *,
    target: str = "age",
    label_min: float | None = None,
    label_max: float | None = None,
    img_size: int = 224,
    cache: str = "auto",
    bad_images: str = "error",
    workers: int = 4,
    padding: int = PADDING,
    hint: str = "",
) -> dict[str, FaceSplit]:
    """The splits "train", "val" and "test" of `data_dir/csv`, whose paths are relative to `data_dir`.

    For `cache` and `bad_images` see `common.images.cache.cached_images`, for the labels `read_faces`. Raises
    `UserError` as these do, and where bad images leave too little of a split.
    """
    table = read_faces(data_dir / csv, target, label_min, label_max, hint)
    if not any(file_stat(data_dir / path) for path in table.paths):
        raise UserError(
            f"{data_dir}: holds none of the {len(table.paths)} images of {csv}, "
            f"such as {table.paths[0]}{also(hint)}"
        )
    images, bad = cached_images(
        data_dir, table.paths, img_size, cache, bad_images=bad_images, workers=workers
    )
    check_sizes(table, f"{data_dir / csv} without its unusable images", bad)
    splits = {}
    for name in SPLITS:
        rows = table.rows(name, bad)
        paths = [table.paths[row] for row in rows]
        splits[name] = FaceSplit(
            table.labels[rows], paths, data_dir, img_size, rows, images, workers, padding
        )
    return splits
