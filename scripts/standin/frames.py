"""Write frames of drawn rooms in the files of NYU Depth v2.

Of the views that a camera could have, those are kept that bring the histogram of depth nearest to the real
one. A view is chosen on a coarse depth map, before anything is rendered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from multiprocessing.pool import Pool
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from PIL import Image
from standin.raycast import HEIGHT, WIDTH, View, cast, photograph
from standin.rooms import Rng, kind_of, room

from common.datasets.depth import DEPTH_BINS, MAX_DEPTH, TEST_CSV, TRAIN_CSV, Pair, read_pairs
from common.report import Progress

NEAREST = 0.7  # metres: nothing is nearer in the real data
FRAMES, SCENES = 8, 12  # of a training scene at most, and scenes at least
VIEWS, TEST_VIEWS = 6, 16  # that are tried for each frame that is kept; a test frame has its own room
LEAST_TEST = 32  # frames, so that each bin has test pixels
SHEET = 8  # frames of a contact sheet, each of another scene
COARSE = (40, 30)  # pixels of the depth map on which a view is chosen
LEVELS = 256  # of an 8-bit depth
BEYOND = 0.02  # of a view's pixels may lie outside NEAREST … MAX_DEPTH; they are stored as that
FACES = 8  # of walls and boxes that a view shows at least, so that it is not of a bare wall


def draw_view(rng: Rng, size: np.ndarray) -> View:
    """Draw a view from near a wall, from breast or eye height, towards somewhere in the room."""
    x, y = rng.beta(0.6, 0.6, 2) * (size[:2] - 0.3) + 0.15
    to_x, to_y = rng.uniform(0.1, 0.9, 2) * size[:2]
    yaw = np.arctan2(to_y - y, to_x - x) + rng.normal(0, 0.25)
    return View(x, y, rng.uniform(1.0, 1.75), yaw, *np.deg2rad(rng.normal((13, 0), (9, 1.5))))


def levels(depth: np.ndarray) -> np.ndarray:
    """Return depth in metres as 8-bit steps, 255 for 10 m."""
    return (depth * np.float32((LEVELS - 1) / MAX_DEPTH) + np.float32(0.5)).astype(np.uint8)


def candidates(job: tuple[int, int, int]) -> tuple[list[View], np.ndarray]:
    """Draw `count` views of a room; return them and the histogram of each 8-bit depth, `(count, 256)`."""
    seed, number, count = job
    rng, here = np.random.default_rng([seed, 1, number]), room(seed, number)
    views: list[View] = []
    histograms, tried = [], 0
    while len(views) < count:
        view = draw_view(rng, here.size)
        hits = cast(here, view, *COARSE)
        beyond = ((hits.depth < NEAREST) | (hits.depth > MAX_DEPTH)).mean()
        good = beyond <= BEYOND and len(np.unique(hits.surface * 3 + hits.axis)) >= FACES
        tried += 1
        if good or tried > 50 * count:  # a room that has no good view still has views
            measured = levels(np.clip(hits.depth, NEAREST, MAX_DEPTH))
            histograms.append(np.bincount(measured.ravel(), minlength=LEVELS))
            views.append(view)
    return views, np.array(histograms)


def choose(total: np.ndarray, histograms: np.ndarray, count: int, wanted: np.ndarray) -> list[int]:
    """Choose `count` views that, one after the other, bring `total` nearest to `wanted`; add them to it.

    `total` and `wanted` are `(256,)`, `histograms` `(n, 256)`. The measure is the Hellinger distance,
    to which the long tail counts.
    """
    left, chosen = list(range(len(histograms))), []
    for _ in range(count):
        sums = total + histograms[left]
        shares = sums / sums.sum(1, keepdims=True)
        chosen.append(left.pop(int(((np.sqrt(shares) - np.sqrt(wanted)) ** 2).sum(1).argmin())))
        total += histograms[chosen[-1]]
    return chosen


def wanted_levels(counts: np.ndarray) -> np.ndarray:
    """Return the share of each 8-bit depth `(256,)`, even over the two or three of each of 100 bins."""
    metres = np.arange(LEVELS, dtype=np.float32) / np.float32(LEVELS - 1) * np.float32(MAX_DEPTH)
    bins = DEPTH_BINS.index(metres)
    share = np.asarray(counts, float)[bins] / np.bincount(bins, minlength=DEPTH_BINS.num)[bins]
    return share / share.sum()


class Scene(NamedTuple):
    """The frames of one room, which one worker renders."""

    seed: int
    number: int  # of the room
    test: bool
    views: list[View]
    names: list[tuple[str, str]]  # image and depth of each view, below the data folder


def save(job: tuple[Path, Scene]) -> int:
    """Render the frames of a scene into a folder; return how many there are."""
    folder, scene = job
    here = room(scene.seed, scene.number)
    for number, (view, names) in enumerate(zip(scene.views, scene.names, strict=True)):
        rng = np.random.default_rng([scene.seed, 3, scene.number, number])
        picture, depth = photograph(here, view, rng)
        depth = np.clip(depth, NEAREST, MAX_DEPTH)
        image, stored = (folder / name for name in names)
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(image, quality=90, compress_level=1)
        numbers = np.rint(depth * 1000).astype(np.uint16) if scene.test else levels(depth)
        Image.fromarray(numbers).save(stored, compress_level=3)
    return len(scene.views)


def plan(pool: Pool, seed: int, sizes: tuple[int, int], counts: np.ndarray) -> list[Scene]:
    """Return the scenes of training, then of test; `sizes` are their frames, `counts` the real histogram."""
    train, test = sizes
    rooms = max(-(-train // FRAMES), min(SCENES, train))
    frames = [len(part) for part in np.array_split(range(train), rooms)]
    scenes: list[Scene] = []
    kinds: Counter[str] = Counter()
    for number, views in enumerate(plan_split(pool, seed, 0, frames, VIEWS, counts, "training")):
        kind = kind_of(seed, number)
        kinds[kind] += 1
        stems = [f"nyu2_train/{kind}_{kinds[kind]:04d}_out/{n}" for n in range(1, len(views) + 1)]
        scenes.append(Scene(seed, number, False, views, [(f"{stem}.jpg", f"{stem}.png") for stem in stems]))
    for number, views in enumerate(plan_split(pool, seed, rooms, [1] * test, TEST_VIEWS, counts, "test")):
        names = [(f"nyu2_test/{number:05d}_colors.png", f"nyu2_test/{number:05d}_depth.png")]
        scenes.append(Scene(seed, rooms + number, True, views, names))
    return scenes


def plan_split(
    pool: Pool, seed: int, first: int, frames: list[int], tried: int, counts: np.ndarray, what: str
) -> Iterator[list[View]]:
    """Yield `frames` views of each room from number `first` on, chosen from `tried` times as many."""
    wanted, total = wanted_levels(counts), np.zeros(LEVELS)
    jobs = [(seed, first + number, tried * count) for number, count in enumerate(frames)]
    found = pool.imap(candidates, jobs, 4)
    with Progress(len(jobs), "room", f"planning {what}") as progress:
        for count, (views, histograms) in zip(frames, found, strict=True):
            yield [views[k] for k in choose(total, histograms, count, wanted)]
            progress.advance(1)


def write_rooms(pool: Pool, folder: Path, seed: int, sizes: tuple[int, int], counts: np.ndarray) -> None:
    """Render `sizes` = (training, test) frames into `folder` and write the two CSV files.

    `counts` `(100,)` is the histogram to follow. The same arguments give the same files, however many
    processes `pool` has.
    """
    scenes = plan(pool, seed, sizes, counts)
    for name, test in ((TRAIN_CSV, False), (TEST_CSV, True)):
        rows = [names for scene in scenes if scene.test == test for names in scene.names]
        text = "".join(f"data/{image},data/{depth}\n" for image, depth in rows)
        (folder / name).write_text(text, encoding="utf-8")
    with Progress(sum(sizes), "frame", "rendering rooms") as progress:
        for count in pool.imap_unordered(save, [(folder, scene) for scene in scenes]):
            progress.advance(count)


def contact_sheet(folder: Path, out: Path, columns: int = 4) -> None:
    """Write a PNG of a frame of some scenes, each above its depth: dark blue is near, red is far."""
    first: dict[Path, Pair] = {}
    for pair in read_pairs(folder, TRAIN_CSV):
        first.setdefault(pair.image.parent, pair)
    shown = list(first.values())[:SHEET]
    tiles = [np.zeros((HEIGHT, WIDTH // 2, 3), np.uint8)] * (-(-len(shown) // columns) * columns)
    for number, (image, depth) in enumerate(shown):
        with Image.open(image) as picture, Image.open(depth) as stored:
            colours = colormaps["turbo"](np.asarray(stored)[::2, ::2], bytes=True)[..., :3]
            tiles[number] = np.concatenate([np.asarray(picture.reduce(2)), colours])
    rows = [np.concatenate(tiles[k : k + columns], 1) for k in range(0, len(tiles), columns)]
    out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows)).save(out, "PNG")
