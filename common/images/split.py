"""Images with a float label each, as the split that the engine trains on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from common.datasets.faces import SPLITS, FaceTable, also, check_sizes
from common.errors import UserError
from common.images.augment import PADDING, jitter_colours, normalize, random_crop_flip
from common.images.cache import cached_images
from common.images.decode import decode, file_stat, prefetch
from common.images.resident import resident_images
from common.task import Batch, Draw

if TYPE_CHECKING:
    from common.methods.resample import Plan

CPU = torch.device("cpu")


@dataclass(eq=False)
class FaceSplit:
    """One split (a `common.task.Split`): `labels` float32 `(N,)`, `paths` and `rows` of `images` `(N,)`.

    `images` is the array of `common.images.cache`; where it is None, `workers` threads decode the files.
    The reader of a file is `decode`, which a subclass may replace with `size` and `inputs_of`.
    `padding` is that of the random crops, in pixels; `jitter` adds random colours. `weights`, float32 `(N,)`,
    is for the loss and may be set later. `resident` holds `images` on the device, where they fit.
    """

    labels: np.ndarray
    paths: list[str]
    root: Path
    size: int | tuple[int, ...]
    rows: np.ndarray
    images: np.ndarray | None = None
    workers: int = 0
    padding: int = PADDING
    weights: np.ndarray | None = None
    jitter: float = 0.0  # of colours, in training
    resident: torch.Tensor | None = None
    lengths: None = None
    augments: ClassVar[bool] = True
    decode: ClassVar[Callable[..., np.ndarray]] = staticmethod(decode)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def names(self) -> tuple[str, list[str]]:
        """What names each sample in `predictions.csv`: its column, and the path of each image."""
        return "path", self.paths

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
        """Yield the batch of each draw: inputs float32 `(n, 3, S, S)` in [-1, 1], targets and weights `(n, 1)`.

        One thread reads the next batch while the device is busy with this one. Raises BadImage where
        there is no cache and a file cannot be read.
        """
        pin = device.type == "cuda"  # a GPU copies from pinned memory while it computes
        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(max(self.workers, 1)) as decoders:
            read = partial(self._read, decoders=decoders, pin=pin)
            for draw, batch in prefetch(reader, read, draws):
                pixels = batch.inputs.to(device, non_blocking=True)
                pixels = pixels if self.resident is None else self.resident[pixels]
                targets = batch.targets.to(device, non_blocking=True)
                weights = None if batch.weights is None else batch.weights.to(device, non_blocking=True)
                yield Batch(self.inputs_of(pixels, draw if augment else None), targets, weights)

    def inputs_of(self, pixels: torch.Tensor, draw: Draw | None) -> torch.Tensor:
        """Return pixels on their device as inputs, augmented where a draw is given."""
        images = pixels.permute(0, 3, 1, 2)
        if draw is not None:
            images = random_crop_flip(images, draw, self.padding)
            images = jitter_colours(images, draw, self.jitter) if self.jitter else images
        return normalize(images)

    def _read(self, draw: Draw, decoders: Executor, pin: bool) -> Batch:
        """Return the batch on the CPU, its inputs still pixels, uint8 `(n, S, S, 3)`, or rows of `resident`."""

        def tensor(array: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(array).pin_memory() if pin else torch.from_numpy(array)

        weights = None if self.weights is None else tensor(_column(self.weights, draw))
        resident = self.resident is not None
        inputs = self.rows[draw.indices] if resident else self.pixels(draw.indices, decoders)
        return Batch(tensor(inputs), tensor(_column(self.labels, draw)), weights)

    def pixels(self, indices: np.ndarray, decoders: Executor) -> np.ndarray:
        """Return the images of these samples, uint8 `(n, S, S, 3)`: from the cache, or decoded by `decoders`."""
        if self.images is not None:
            return self.images[self.rows[indices]]
        files = [self.root / self.paths[index] for index in indices]
        return np.stack(list(decoders.map(partial(self.decode, size=self.size), files)))


def _column(values: np.ndarray, draw: Draw) -> np.ndarray:
    return values[draw.indices].astype(np.float32)[:, None]


def load_faces(
    table: FaceTable, *, needed: Sequence[str] = SPLITS, img_size: int | tuple[int, ...] = 224, cache: str = "auto",
    bad_images: str = "error", workers: int = 4, resident: str = "off", device: torch.device = CPU, hint: str = "",
    kind: type[FaceSplit] = FaceSplit, **facts: Any,
) -> dict[str, FaceSplit]:  # fmt: skip
    """Return the splits "train", "val" and "test" of a CSV whose images lie beside it.

    Only images of the `needed` splits are looked for, checked and cached; the others have no pixels. `facts` are
    further fields of a split of this `kind`. Raises UserError as `common.images.cache` and `common.images.resident`
    do, and where too little of a split is left.
    """
    root, kept = table.csv.parent, np.flatnonzero(np.isin(table.split, needed))
    paths = [table.paths[row] for row in kept]
    if not any(file_stat(root / path) for path in paths):
        raise UserError(
            f"{root}: holds none of the {len(paths)} images of {table.csv.name}"
            f"{'' if len(kept) == len(table.paths) else ' (' + ', '.join(needed) + ')'}, "
            f"such as {paths[0]}{also(hint)}"
        )
    images, bad = cached_images(
        root, paths, img_size, cache, bad_images=bad_images, workers=workers, read=kind.decode
    )
    bad_rows = kept[list(bad)] if bad else ()
    check_sizes(table, f"{table.csv} without its unusable images", bad_rows, needed)
    there = resident_images(images, resident, device)
    place = np.zeros(len(table.paths), np.int64)  # of each row of the CSV among the images
    place[kept] = np.arange(len(kept))
    splits = {}
    for name in SPLITS:
        rows = table.rows(name, bad_rows)
        splits[name] = kind(
            table.labels[rows], [table.paths[row] for row in rows], root, img_size, place[rows],
            images if name in needed else None, workers, resident=there if name in needed else None, **facts,
        )  # fmt: skip
    return splits
