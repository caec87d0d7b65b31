"""NYUD2-DIR's files: which image goes with which depth, how depth is stored, and which pixels are used.

What `nyud2-dir/`, `scripts/prepare.py nyud2` and `scripts/make_standin.py nyud2` share (paper, appendix B.3).
"""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from common.bins import Bins
from common.datasets.standin import Standin
from common.errors import UserError
from common.metrics import Shots

DEPTH_BINS = Bins.uniform(0, 10, 100)  # of 0.1 m
FIRST_BIN = 7  # no training pixel is nearer than 0.7 m
MANY_ABOVE, FEW_BELOW = 2.6e7, 1e7  # training pixels in a bin
TRAINING_PIXELS = 3_513_286_656  # behind these thresholds: 50,688 images of 304 x 228
MAX_DEPTH = 10.0  # metres, of an 8-bit training depth of 255
HEIGHT, WIDTH = 228, 304  # of the crop; depth is counted and tested at this size
SHORT_SIDE = 240  # before the crop

TRAIN_CSV, TEST_CSV, SUBSET_CSV = "nyu2_train.csv", "nyu2_test.csv", "nyu2_train_FDS_subset.csv"
MASK, COUNTS = "test_balanced_mask.npy", "depth_counts.json"
GET_NYUD2 = (
    "python scripts/download.py nyud2 gets the data, python scripts/make_standin.py nyud2 draws a stand-in"
)


class Pair(NamedTuple):
    """An image and its depth map, as files."""

    image: Path
    depth: Path


def read_pairs(folder: Path, name: str) -> list[Pair]:
    """The rows of a CSV without a header; the first component of each path (`data/`) is dropped.

    Raises UserError if there is no such file, it is empty, or a row is not two paths inside the folder.
    """
    file = folder / name
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            rows = [row for row in csv.reader(stream) if any(cell.strip() for cell in row)]
    except FileNotFoundError:
        raise UserError(f"{file}: there is no such file; {GET_NYUD2}") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file}: cannot be read as a CSV in UTF-8 ({error})") from error
    if not rows:
        raise UserError(f"{file}: holds no row; {GET_NYUD2}")
    return [_pair(folder, row, f"{file}, row {number}") for number, row in enumerate(rows, 1)]


def _pair(folder: Path, row: list[str], where: str) -> Pair:
    below = [Path(*Path(cell.strip()).parts[1:]) for cell in row]
    if len(below) != 2 or any(not path.parts or ".." in path.parts for path in below):
        raise UserError(f"{where}: is not IMAGE,DEPTH with paths such as data/nyu2_train/scene/1.jpg")
    return Pair(folder / below[0], folder / below[1])


def scene(pair: Pair) -> str:
    """The scene of a frame: its folder without the part of the recording (kitchen_0029 of kitchen_0029b)."""
    return re.sub(r"(?<=\d)[a-z]*(_out)?$", "", pair.image.parent.name)


def open_image(path: Path, modes: tuple[str, ...], wanted: str) -> Image.Image:
    """A decoded image of one of these Pillow modes; raises UserError if it is missing, damaged or another."""
    try:
        with Image.open(path) as image:
            image.load()
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file; {GET_NYUD2}") from None
    except UnidentifiedImageError as error:
        raise UserError(f"{path}: is not an image; replace the file") from error
    except (OSError, ValueError, SyntaxError) as error:  # Pillow's readers raise all of these on bad bytes
        raise UserError(f"{path}: cannot be read ({error}); replace the file") from error
    if image.mode not in modes:
        raise UserError(f"{path}: is a {image.mode!r} image, where {wanted} is expected; convert the file")
    return image


def open_train_depth(path: Path) -> Image.Image:
    """A training depth as it is stored: 8-bit grey, 255 for 10 m; 0 is no measurement."""
    return open_image(path, ("L",), "8-bit grey (training depth, 255 for 10 m)")


def open_test_depth(path: Path) -> Image.Image:
    """A test depth as it is stored: 16-bit grey, millimetres; 0 is no measurement."""
    return open_image(path, ("I;16", "I;16B", "I"), "16-bit grey (test depth in millimetres)")


def shrink(image: Image.Image, method: Image.Resampling, short_side: int = SHORT_SIDE) -> Image.Image:
    """The image with its shorter side resized to `short_side`, as published (bilinear; depth nearest)."""
    width, height = image.size
    if min(width, height) == short_side:
        return image
    size = (short_side, int(short_side * height / width))
    if width >= height:
        size = (int(short_side * width / height), short_side)
    return image.resize(size, method)


def centre_crop(image: Image.Image, width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """The middle `width` x `height` pixels; zeros where the image has fewer, as published."""
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))


def counted_depth(path: Path, *, test: bool = False) -> np.ndarray:
    """Depth in metres at the size at which it is counted, float32 `(228, 304)`; 0 is no measurement.

    The nearest pixels of the shrunken map, cropped, without augmentation: what the published counts
    (`data/nyud2_counts.json`) and the balanced test mask are made from.
    """
    stored = open_test_depth(path) if test else open_train_depth(path)
    return to_metres(centre_crop(shrink(stored, Image.Resampling.NEAREST)), test=test)


def to_metres(stored: Image.Image, *, test: bool) -> np.ndarray:
    """Depth in metres, float32 of the image's size, in the published order of operations."""
    values = np.asarray(stored).astype(np.float32)
    return values / np.float32(1000) if test else values / np.float32(255) * np.float32(MAX_DEPTH)


def read_mask(file: Path, images: int) -> np.ndarray:
    """The balanced test mask, `(images, 228, 304)`, mapped from the disk; raises UserError for another."""
    shape = (images, HEIGHT, WIDTH)
    try:
        mask = np.load(file, mmap_mode="r")
    except FileNotFoundError:
        raise UserError(
            f"{file}: there is no such file; python scripts/prepare.py nyud2 draws it, "
            "python scripts/download.py splits gets the published one"
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: cannot be read ({error}); delete it and prepare it again") from error
    if mask.shape != shape or mask.dtype.kind not in "bu":
        raise UserError(
            f"{file}: has shape {mask.shape} and type {mask.dtype}, not {shape} of uint8, a mask for each "
            f"row of {TEST_CSV}; python scripts/prepare.py nyud2 --overwrite draws it anew"
        )
    return mask


def shots_of(counts: np.ndarray, standin: Standin) -> Shots:
    """The published thresholds in proportion to the training pixels `(100,)`; a stand-in has its own."""
    share = counts.sum() / TRAINING_PIXELS
    many = MANY_ABOVE * share if standin.many_above is None else standin.many_above
    few = FEW_BELOW * share if standin.few_below is None else standin.few_below
    return Shots(DEPTH_BINS, counts, many, few)
