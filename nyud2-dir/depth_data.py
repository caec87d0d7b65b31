"""NYUD2-DIR as batches: the published transforms, image and depth moved together (paper, appendix B.3)."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
from depth_colours import jitter_colours, normalised
from PIL import Image
from scipy import ndimage

from common.bins import Bins
from common.datasets import depth as files
from common.datasets.depth import Pair
from common.errors import UserError
from common.images.decode import prefetch
from common.images.resident import fits, onto
from common.task import Batch, Draw

log = logging.getLogger("dir")
DEGREES = 5.0  # of a random rotation
SIZE_STEP = 12  # crops of 4/3, and model outputs of half their size, need whole numbers
COUNT_AGAIN = "python scripts/prepare.py nyud2 --overwrite counts them"
KNOWN = 128  # in a map of what is known: resampling moves it either way wherever an unknown pixel has a share


class Sizes(NamedTuple):
    """What `--img_size`, the crop's height, means: 228 (published) is a crop of 304 x 228 from 320 x 240."""

    short_side: int
    width: int
    height: int

    @classmethod
    def of(cls, img_size: int) -> Sizes:
        """Raises UserError for a height that is no multiple of 12."""
        if img_size % SIZE_STEP:
            raise UserError(f"--img_size {img_size}: is not a multiple of {SIZE_STEP}, such as 228 or 84")
        return cls(round(img_size * files.SHORT_SIDE / files.HEIGHT), img_size * 4 // 3, img_size)


class Move(NamedTuple):
    """How one training image and its depth are moved."""

    flip: bool
    degrees: float


class Decoded(NamedTuple):
    """One image and its depth at their working size, before anything is drawn at random."""

    image: np.ndarray  # uint8 (H, W, 3)
    depth: np.ndarray  # as stored (h, w)


class Sample(NamedTuple):
    """One image on the CPU; `unmeasured` counts pixels that the depth file itself does not know."""

    pixels: np.ndarray  # uint8 (H, W, 3)
    depth: np.ndarray  # metres, float32 (h, w), NaN where unknown
    unmeasured: int


@dataclass(eq=False)
class DepthSplit:
    """One split (a `common.task.Split`) of image files and depth files.

    With `tested`, depth stays at 304 x 228, where metrics are computed, else it is half the crop, as the
    outputs are. `sixteen_bit` depth is a test file's. `mask` `(N, 228, 304)` says which pixels are tested.
    `weights`, float32 `(B,)`, is the loss weight of each of `bins`. `memory` keeps what was decoded.
    """

    pairs: list[Pair]
    sizes: Sizes
    workers: int
    bins: Bins = files.DEPTH_BINS
    tested: bool = False
    sixteen_bit: bool = False
    mask: np.ndarray | None = None
    keep_invalid: bool = False
    weights: np.ndarray | None = None
    memory: dict[tuple[Pair, bool], Decoded] | None = None
    labels: None = None  # depth is read with its image
    lengths: None = None
    augments: ClassVar[bool] = True

    def __len__(self) -> int:
        return len(self.pairs)

    def weighted(self, weights: np.ndarray) -> DepthSplit:
        """Return this split with the loss weight of each bin, float32 `(B,)`."""
        return replace(self, weights=weights)

    def batches(self, draws: Iterable[Draw], *, augment: bool, device: torch.device) -> Iterator[Batch]:
        """The batch of each draw: inputs `(n, 3, H, W)`, targets (metres) and weights `(n, 1, h, w)`.

        Threads read the next batch while the device is busy with this one. Raises UserError for a file that
        cannot be used.
        """
        table = None if self.weights is None else torch.from_numpy(self.weights).to(device)
        unmeasured = seen = 0
        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(max(self.workers, 1)) as decoders:
            read = partial(self._read, augment=augment, decoders=decoders)
            for draw, samples in prefetch(reader, read, draws):
                pixels = onto(torch.from_numpy(np.stack([sample.pixels for sample in samples])), device)
                depth = np.stack([sample.depth for sample in samples])[:, None]
                images = pixels.permute(0, 3, 1, 2).contiguous().float() / 255
                images = jitter_colours(images, draw) if augment else images
                targets = onto(torch.from_numpy(depth), device)
                valid = None if np.isfinite(depth).all() else targets.isfinite()
                weights = None if table is None else table[self.bins.index(targets.nan_to_num())]
                yield Batch(normalised(images), targets, weights, valid)
                unmeasured, seen = unmeasured + sum(s.unmeasured for s in samples), seen + len(samples)
                if seen >= len(self):
                    self._report(unmeasured)
                    unmeasured = seen = 0

    def _report(self, unmeasured: int) -> None:
        if unmeasured:
            fate = "trained on as depth 0" if self.keep_invalid and not self.tested else "left out"
            of = f"{unmeasured:,} pixels of these {len(self):,} depth maps"
            log.info("%s have no measurement: %s", of, fate)

    def _read(self, draw: Draw, augment: bool, decoders: Executor) -> list[Sample]:
        pairs = [self.pairs[index] for index in draw.indices]
        masks = [None if self.mask is None else self.mask[index] for index in draw.indices]
        moves = _moves(draw) if augment else [None] * len(pairs)
        return list(decoders.map(self._sample, pairs, masks, moves))

    def _sample(self, pair: Pair, mask: np.ndarray | None, move: Move | None) -> Sample:
        image, depth = map(Image.fromarray, self.decoded(pair))
        if self.tested:
            metres, unmeasured = self._tested(depth, mask)
        else:
            unmeasured = int((np.asarray(depth) == 0).sum())
            metres = self._trained(depth, move)
        image = moved(image, move, order=2)
        pixels = np.asarray(files.centre_crop(image, self.sizes.width, self.sizes.height))
        return Sample(pixels, metres, unmeasured)

    def decoded(self, pair: Pair) -> Decoded:
        """Return the image and its depth as stored, both at the size from which they are moved and cropped."""
        kept = {} if self.memory is None else self.memory
        if (pair, self.tested) not in kept:
            kept[pair, self.tested] = self._decode(pair)
        return kept[pair, self.tested]

    def _decode(self, pair: Pair) -> Decoded:
        image = files.open_image(pair.image, ("RGB", "L", "P", "RGBA"), "a colour image").convert("RGB")
        depth = (files.open_test_depth if self.sixteen_bit else files.open_train_depth)(pair.depth)
        if image.size != depth.size:
            sizes = " and ".join(f"{i.width} x {i.height}" for i in (image, depth))
            raise UserError(f"{pair.image} and {pair.depth}: differ in size ({sizes}); replace one of them")
        image = files.shrink(image, Image.Resampling.BILINEAR, self.sizes.short_side)
        side = files.SHORT_SIDE if self.tested else self.sizes.short_side
        depth = files.shrink(depth, Image.Resampling.NEAREST, side)
        return Decoded(np.asarray(image), np.asarray(depth))

    def _tested(self, stored: Image.Image, mask: np.ndarray | None) -> tuple[np.ndarray, int]:
        metres = files.to_metres(files.centre_crop(stored), test=self.sixteen_bit)
        asked = np.ones_like(metres, bool) if mask is None else mask.astype(bool)
        known = metres > 0
        return np.where(asked & known, metres, np.float32(np.nan)), int((asked & ~known).sum())

    def _trained(self, stored: Image.Image, move: Move | None) -> np.ndarray:
        """Depth at half the crop; unknown wherever a pixel without a measurement has a share in it."""
        known = Image.fromarray(np.where(np.asarray(stored) > 0, KNOWN, 0).astype(np.uint8))
        whole = known.getextrema()[0] == KNOWN
        metres = files.to_metres(self._halved(moved(stored, move, order=2)), test=False)
        if self.keep_invalid:
            return metres
        # Without holes only the corners that a rotation empties are unknown: no need for splines.
        share = np.asarray(self._halved(moved(known, move, order=0 if whole else 2))).astype(int)
        return np.where(abs(share - KNOWN) <= 1, metres, np.float32(np.nan))

    def _halved(self, image: Image.Image) -> Image.Image:
        cropped = files.centre_crop(image, self.sizes.width, self.sizes.height)
        return cropped.resize((self.sizes.width // 2, self.sizes.height // 2), Image.Resampling.BICUBIC)


def moved(image: Image.Image, move: Move | None, *, order: Literal[0, 2]) -> Image.Image:
    """Flipped, then rotated about its middle by splines of this order, zeros outside, as published."""
    if move is None:
        return image
    if move.flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    rotated = ndimage.rotate(np.asarray(image), move.degrees, reshape=False, order=order)
    return Image.fromarray(rotated)


def _moves(draw: Draw) -> list[Move]:
    rng = np.random.default_rng([draw.seed, 0])
    flips = rng.random(draw.size)[draw.rows] < 0.5
    degrees = rng.uniform(-DEGREES, DEGREES, draw.size)[draw.rows]
    return [Move(bool(flip), float(angle)) for flip, angle in zip(flips, degrees, strict=True)]


def keep_in_memory(splits: Iterable[DepthSplit], resident: str) -> None:
    """Let splits keep what they decode, the smallest first, as far as memory goes by the sizes of first pairs."""
    taken, memory = 0, dict[tuple[Pair, bool], Decoded]()
    for split in sorted(splits, key=len):
        if resident != "off" and len(split):
            split.memory = memory
            taken += len(split) * sum(part.nbytes for part in split.decoded(split.pairs[0]))
            if not fits(taken, torch.device("cpu"), resident):
                split.memory = None


def hold_out(pairs: list[Pair], fraction: float, seed: int) -> tuple[list[Pair], list[Pair]]:
    """Training and validation pairs: whole scenes, drawn until they hold `fraction` of the images.

    Raises UserError if there are too few scenes for both.
    """
    scenes = [files.scene(pair) for pair in pairs]
    order = sorted(set(scenes))
    if len(order) < 2:
        raise UserError("--select val: all training images are of one scene; use --select test")
    np.random.default_rng(seed).shuffle(order)
    sizes = np.cumsum([scenes.count(name) for name in order])
    held = set(order[: min(int((sizes < fraction * len(pairs)).sum()) + 1, len(order) - 1)])
    split = [[p for p, s in zip(pairs, scenes, strict=True) if (s in held) == wanted] for wanted in (0, 1)]
    return split[0], split[1]


def read_counts(folder: Path, images: int, published: Path) -> np.ndarray:
    """Training pixels in each bin, int64 `(100,)`: of `depth_counts.json`, or else the published ones.

    Raises UserError where neither is of these training images.
    """
    own = folder / files.COUNTS
    file = own if own.exists() else published
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        counts, counted = np.array(content["counts"], np.int64), int(content["images"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file}: is broken; {COUNT_AGAIN}") from error
    if counts.shape != (files.DEPTH_BINS.num,) or images not in (0, counted):
        told = f"{own}: counts {counted:,} training images in {len(counts)} bins, not {images:,} in 100"
        if file == published:
            told = f"{own}: is not there, and {images:,} training images are not the published {counted:,}"
        raise UserError(f"{told}; {COUNT_AGAIN}")
    return counts
