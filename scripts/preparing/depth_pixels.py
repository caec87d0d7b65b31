"""Depth maps one after the other: how many pixels each bin has, and the balanced test mask.

As many maps are read at a time as there are cores, and no more: memory does not grow with their number.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from preparing.splits import some

from common.datasets.depth import DEPTH_BINS, FIRST_BIN, GET_NYUD2, HEIGHT, WIDTH, Pair, counted_depth
from common.errors import UserError
from common.images.decode import reported


class Counted(NamedTuple):
    """The pixels of all depth maps of a split at 304 x 228, without augmentation."""

    counts: np.ndarray  # in each of DEPTH_BINS, int64 (100,)
    images: int
    invalid: int  # pixels without a measurement, which `counts` leaves out


def check_files(pairs: Sequence[Pair], name: str) -> None:
    """Raise UserError if a file of these rows is not there."""
    files = {file for pair in pairs for file in pair}
    absent = sorted(str(file) for file in files if not file.is_file())
    if absent:
        raise UserError(
            f"{name}: {len(absent):,} of its {len(files):,} files are not there ({some(absent)}); {GET_NYUD2}"
        )


def depth_of(pair: Pair, *, test: bool) -> np.ndarray:
    """Return `counted_depth` of a pair; raises UserError also if image and depth differ in size."""
    depth = counted_depth(pair.depth, test=test)
    sizes = []
    for file in pair:
        try:
            with Image.open(file) as image:  # its header only
                sizes.append("{} x {}".format(*image.size))
        except OSError as error:
            raise UserError(f"{file}: is not an image; replace the file") from error
    if sizes[0] != sizes[1]:
        raise UserError(f"{pair.image} and {pair.depth}: differ in size ({' and '.join(sizes)}); replace one")
    return depth


def depths(pairs: Sequence[Pair], *, test: bool, what: str) -> Iterator[np.ndarray]:
    """Yield the depth of each pair in order, float32 `(228, 304)`; threads read a few ahead."""

    def read() -> Iterator[np.ndarray]:
        rest = iter(pairs)
        with ThreadPoolExecutor(workers) as pool:
            waiting = deque(pool.submit(depth_of, pair, test=test) for pair in islice(rest, 2 * workers))
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(depth_of, pair, test=test) for pair in islice(rest, 1))

    workers = os.cpu_count() or 1
    return reported(read(), what, len(pairs))


def count(pairs: Sequence[Pair], *, test: bool, name: str) -> Counted:
    """Count the pixels in each bin; raises UserError if no depth map has a measurement."""
    counts, invalid = np.zeros(DEPTH_BINS.num, np.int64), 0
    for depth in depths(pairs, test=test, what=f"Counting {Path(name).name}"):
        valid = depth[depth > 0]
        counts += DEPTH_BINS.counts(valid)
        invalid += depth.size - valid.size
    if not counts[FIRST_BIN:].any():
        near = DEPTH_BINS.left_edges[FIRST_BIN]
        raise UserError(
            f"{name}: not one of its {len(pairs):,} depth maps has a pixel from {near:g} m on (0 is no "
            "measurement); training depth is 8-bit, 255 for 10 m, test depth 16-bit in millimetres"
        )
    return Counted(counts, len(pairs), invalid)


def masked_per_bin(counts: np.ndarray) -> int:
    """Return how many test pixels each bin gives: as many as the rarest bin from `FIRST_BIN` on has."""
    return int(min(filter(None, counts[FIRST_BIN:].tolist())))


def draw_mask(file: Path, pairs: Sequence[Pair], counts: np.ndarray, seed: int) -> None:
    """Write the balanced mask, uint8 `(N, 228, 304)`: as many pixels of each bin, any as likely as another.

    How many of a bin's pixels fall to the next image is hypergeometric in what is left of the bin, so one
    pass draws from all images evenly and holds none of them.
    """
    rng = np.random.default_rng([seed, 1])
    left = counts.copy()
    left[:FIRST_BIN] = 0
    wanted = np.minimum(left, masked_per_bin(counts))
    mask = np.lib.format.open_memmap(file, "w+", np.uint8, (len(pairs), HEIGHT, WIDTH))
    for row, depth in zip(mask, depths(pairs, test=True, what="Drawing the test mask"), strict=True):
        index = np.where(depth > 0, DEPTH_BINS.index(depth), 0)
        here = np.minimum(np.bincount(index.ravel(), minlength=DEPTH_BINS.num), left)
        taken = rng.hypergeometric(here, left - here, wanted)
        row[:] = pick(index, taken, rng)
        left, wanted = left - here, wanted - taken
    mask.flush()


def pick(index: np.ndarray, taken: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a bool mask shaped as `index` (the bin of each pixel) with `taken[b]` pixels of bin b."""
    flat = index.ravel()
    order = rng.permutation(flat.size)
    order = order[np.argsort(flat[order], kind="stable")]  # by bin, and within a bin by chance
    sizes = np.bincount(flat, minlength=len(taken))
    place = np.arange(flat.size) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    chosen = np.zeros(flat.size, bool)
    chosen[order] = place < np.repeat(taken, sizes)
    return chosen.reshape(index.shape)
