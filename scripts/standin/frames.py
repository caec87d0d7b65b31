"""Frames of rendered rooms in the files of NYU Depth v2: which views are kept, the picture, the folder.

Of the views that a camera could have, those are kept that bring the histogram of depth nearest to the real
one; a view is chosen on a coarse depth map, before anything is rendered.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator, Sequence
from multiprocessing.pool import Pool
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from PIL import Image
from standin.materials import Rng
from standin.raycast import HEIGHT, WIDTH, Camera, cast, colours, depth_of, lit, look
from standin.rooms import Room, kind_of, room

from common.datasets.depth import DEPTH_BINS, MAX_DEPTH, TEST_CSV, TRAIN_CSV
from common.report import Progress

NEAREST = 0.7  # metres: nothing is nearer in the real data
FRAMES, SCENES = 8, 12  # of a training scene at most, and scenes at least
VIEWS, TEST_VIEWS = 4, 16  # that are tried for each frame that is kept; a test frame has its own room
LEAST_TEST = 32  # frames, so that each bin has test pixels
SHEET = 8  # frames of a contact sheet, each of another scene
COARSE = (40, 30)  # pixels of the depth map on which a view is chosen
LEVELS = 256  # of an 8-bit depth
BEYOND = 0.02  # of a view's pixels may lie outside NEAREST … MAX_DEPTH; they are stored as that
SURFACES = 8  # that a view shows at least, so that it is not of a bare wall


class View(NamedTuple):
    """Where a camera is and how it is turned: metres and radians."""

    x: float
    y: float
    z: float
    yaw: float
    pitch: float
    roll: float

    def camera(self) -> Camera:
        """The same as a position and axes."""
        return look(np.array(self[:3]), self.yaw, self.pitch, self.roll)


def draw_view(rng: Rng, size: np.ndarray) -> View:
    """A person near a wall, the camera at breast or eye height, turned towards somewhere in the room."""
    x, y = rng.beta(0.6, 0.6, 2) * (size[:2] - 0.3) + 0.15
    to_x, to_y = rng.uniform(0.1, 0.9, 2) * size[:2]
    yaw = np.arctan2(to_y - y, to_x - x) + rng.normal(0, 0.25)
    return View(x, y, rng.uniform(1.0, 1.75), yaw, *np.deg2rad(rng.normal((13, 0), (9, 1.5))))


def levels(depth: np.ndarray) -> np.ndarray:
    """Depth in metres as 8-bit steps, 255 for 10 m."""
    return (depth * np.float32((LEVELS - 1) / MAX_DEPTH) + np.float32(0.5)).astype(np.uint8)


def candidates(job: tuple[int, int, int]) -> tuple[list[View], np.ndarray]:
    """`count` views of a room, and the histogram of the 8-bit depth of each, `(count, 256)`."""
    seed, number, count = job
    rng, here = np.random.default_rng([seed, 1, number]), room(seed, number)
    views: list[View] = []
    histograms = np.zeros((count, LEVELS), np.int64)
    tried = 0
    while len(views) < count:
        view = draw_view(rng, here.size)
        hits = cast(here.quads, view.camera(), *COARSE)
        depth = depth_of(hits)
        beyond = ((depth < NEAREST) | (depth > MAX_DEPTH)).mean()
        good = beyond <= BEYOND and len(np.unique(hits.quad)) >= SURFACES
        tried += 1
        if good or tried > 50 * count:  # a room that has no good view still has views
            measured = levels(np.clip(depth, NEAREST, MAX_DEPTH))
            histograms[len(views)] = np.bincount(measured.ravel(), minlength=LEVELS)
            views.append(view)
    return views, histograms


def choose(total: np.ndarray, histograms: np.ndarray, count: int, wanted: np.ndarray) -> list[int]:
    """The `count` views that, one after the other, bring `total` nearest to `wanted`; they are added to it.

    `total` and `wanted` are `(256,)`, `histograms` `(n, 256)`. Near is by the Hellinger distance, to which
    the long tail counts.
    """
    left, chosen = list(range(len(histograms))), []
    for _ in range(count):
        sums = total + histograms[left]
        shares = sums / sums.sum(1, keepdims=True)
        chosen.append(left.pop(int(((np.sqrt(shares) - np.sqrt(wanted)) ** 2).sum(1).argmin())))
        total += histograms[chosen[-1]]
    return chosen


def wanted_levels(counts: np.ndarray) -> np.ndarray:
    """The share of each 8-bit depth: `counts` `(100,)` of the bins, even over the two or three of a bin."""
    bins = DEPTH_BINS.index(
        np.arange(LEVELS, dtype=np.float32) / np.float32(LEVELS - 1) * np.float32(MAX_DEPTH)
    )
    share = np.asarray(counts, float)[bins] / np.bincount(bins, minlength=DEPTH_BINS.num)[bins]
    return share / share.sum()


def photograph(here: Room, view: View, rng: Rng) -> tuple[np.ndarray, np.ndarray]:
    """A picture, uint8 `(480, 640, 3)`, and its depth in metres, float32 `(480, 640)`."""
    camera = view.camera()
    hits = cast(here.quads, camera)
    depth = np.clip(depth_of(hits), NEAREST, MAX_DEPTH)
    picture = colours(here.quads, camera, hits, depth)
    picture *= lit(here.quads, here.light, camera, hits, depth)[..., None]
    return develop(picture, rng), depth


@functools.cache
def film_grain() -> np.ndarray:
    """More noise than a picture needs, so that each cuts its own from it."""
    return np.random.default_rng(5).standard_normal((2 * HEIGHT, 2 * WIDTH), np.float32)


def develop(picture: np.ndarray, rng: Rng) -> np.ndarray:
    """What a camera makes of light, float32 `(h, w, 3)`: exposure, white balance, highlights, grain."""
    gain = rng.uniform(0.22, 0.36) / picture[::8, ::8].mean() * (1 + rng.normal(0, 0.05, 3))
    picture *= gain.astype(np.float32)
    picture /= 1 + np.float32(0.35) * picture
    np.sqrt(picture, out=picture)
    grain = film_grain()
    top, left = rng.integers(np.array(grain.shape) - picture.shape[:2])
    grain = grain[top : top + picture.shape[0], left : left + picture.shape[1]]
    picture += (grain * np.float32(rng.uniform(0.005, 0.02)))[..., None]
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)


class Scene(NamedTuple):
    """The frames of one room: what a worker renders."""

    seed: int
    number: int  # of the room
    test: bool
    views: list[View]
    names: list[tuple[str, str]]  # image and depth of each view, below the data folder


def scene_names(place: str, views: int) -> list[tuple[str, str]]:
    """The files of a training scene."""
    return [(f"nyu2_train/{place}/{n}.jpg", f"nyu2_train/{place}/{n}.png") for n in range(1, views + 1)]


def frame_names(number: int) -> list[tuple[str, str]]:
    """The files of a test scene, which has one frame."""
    return [(f"nyu2_test/{number:05d}_colors.png", f"nyu2_test/{number:05d}_depth.png")]


def save(job: tuple[Path, Scene]) -> int:
    """Render the frames of a scene and write them below a folder; how many there are."""
    folder, scene = job
    here = room(scene.seed, scene.number)
    for number, (view, names) in enumerate(zip(scene.views, scene.names, strict=True)):
        rng = np.random.default_rng([scene.seed, 3, scene.number, number])
        picture, depth = photograph(here, view, rng)
        image, stored = (folder / name for name in names)
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(image, quality=90, compress_level=1)
        numbers = np.rint(depth * 1000).astype(np.uint16) if scene.test else levels(depth)
        Image.fromarray(numbers).save(stored, compress_level=3)
    return len(scene.views)


def plan(pool: Pool, seed: int, sizes: tuple[int, int], counts: Sequence[int]) -> list[Scene]:
    """The scenes of training, then of test; `sizes` are their frames, `counts` the real histogram."""
    train, test = sizes
    rooms = max(-(-train // FRAMES), min(SCENES, train))
    frames = [len(part) for part in np.array_split(range(train), rooms)]
    scenes, kinds = [], Counter()
    training = plan_split(pool, seed, 0, frames, VIEWS, counts, "training")
    for number, views in enumerate(training):
        kind = kind_of(seed, number)
        kinds[kind] += 1
        names = scene_names(f"{kind}_{kinds[kind]:04d}_out", len(views))
        scenes.append(Scene(seed, number, False, views, names))
    testing = plan_split(pool, seed, rooms, [1] * test, TEST_VIEWS, counts, "test")
    for number, views in enumerate(testing):
        scenes.append(Scene(seed, rooms + number, True, views, frame_names(number)))
    return scenes


def plan_split(
    pool: Pool, seed: int, first: int, frames: list[int], tried: int, counts: Sequence[int], what: str
) -> Iterator[list[View]]:
    """The views of each room from number `first` on: `frames` of it, chosen from `tried` times as many."""
    wanted, total = wanted_levels(np.array(counts)), np.zeros(LEVELS)
    jobs = [(seed, first + number, tried * count) for number, count in enumerate(frames)]
    found = pool.imap(candidates, jobs, 4)
    with Progress(len(jobs), "room", f"planning {what}") as progress:
        for count, (views, histograms) in zip(frames, found, strict=True):
            yield [views[k] for k in choose(total, histograms, count, wanted)]
            progress.advance(1)


def write_rooms(
    pool: Pool,
    folder: Path,
    seed: int,
    sizes: tuple[int, int],
    counts: Sequence[int],
    sheet: Path | None = None,
) -> None:
    """Render `sizes` = (training, test) frames into `folder` and write the two CSV files.

    `counts` `(100,)` is the histogram to follow; `sheet` is where a picture of some frames goes. The same
    arguments give the same files, however many processes `pool` has.
    """
    scenes = plan(pool, seed, sizes, counts)
    for name, test in ((TRAIN_CSV, False), (TEST_CSV, True)):
        rows = [names for scene in scenes if scene.test == test for names in scene.names]
        text = "".join(f"data/{image},data/{depth}\n" for image, depth in rows)
        (folder / name).write_text(text, encoding="utf-8")
    with Progress(sum(sizes), "frame", "rendering rooms") as progress:
        for count in pool.imap_unordered(save, [(folder, scene) for scene in scenes]):
            progress.advance(count)
    if sheet is not None:
        shown = [scene.names[0] for scene in scenes if not scene.test][:SHEET]
        contact_sheet([(folder / image, folder / depth) for image, depth in shown], sheet)


def contact_sheet(pairs: Sequence[tuple[Path, Path]], out: Path, columns: int = 4) -> None:
    """A PNG of the given pictures, each above its depth: dark blue is near, red is far."""
    width, height = WIDTH // 2, HEIGHT // 2
    sheet = Image.new("RGB", (columns * width, -(-len(pairs) // columns) * 2 * height))
    for number, (image, depth) in enumerate(pairs):
        x, y = number % columns * width, number // columns * 2 * height
        with Image.open(image) as picture, Image.open(depth) as stored:
            sheet.paste(picture.resize((width, height)), (x, y))
            metres = np.asarray(stored.resize((width, height), Image.Resampling.NEAREST))
        sheet.paste(Image.fromarray(colormaps["turbo"](metres, bytes=True)[..., :3].copy()), (x, y + height))
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(out, "PNG")
