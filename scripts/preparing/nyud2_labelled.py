"""NYUD2-DIR's layout from the labelled part of NYU Depth V2, one HDF5 file (see `scripts/prepare.py nyud2`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from preparing.splits import some, write_together

from common import cli
from common.datasets.depth import MAX_DEPTH, TEST_CSV, TRAIN_CSV, Pair
from common.errors import UserError
from common.files import read_json
from common.report import Progress

SPLIT = cli.ROOT / "data" / "nyud2_labelled.json"
VARIABLES = ("images", "depths", "scenes")
GET_LABELLED = (
    "the labelled data set is nyu_depth_v2_labeled.mat from "
    "https://cs.nyu.edu/~fergus/datasets/nyu_depth_v2.html (2.8 GB)"
)


def read_split() -> dict[str, Any]:
    """Return the official split, which is part of this repository."""
    split = read_json(SPLIT)
    assert split is not None
    return split


def training_rows() -> set[int]:
    """Return the rows of the file, counted from 1, that are for training."""
    split = read_split()
    return set(range(1, split["images"] + 1)) - set(split["test"])


def row_of(pair: Pair) -> int | None:
    """Return the row of the file, counted from 1, that a training image is from; None if its name tells none."""
    return int(pair.image.stem) + 1 if pair.image.stem.isdecimal() else None


def is_labelled(train: Sequence[Pair]) -> bool:
    """Return whether a training list is of the labelled images, also where some are missing or others were added."""
    wanted = training_rows()
    return len(train) < 2 * len(wanted) and 2 * len(wanted & set(map(row_of, train))) > len(wanted)


@contextmanager
def opened(mat: Path) -> Iterator[Any]:
    """Yield the open file with its variables; raises UserError if it is no HDF5, or lacks one of them."""
    try:
        import h5py
    except ImportError as error:
        raise UserError("--labelled needs h5py: pip install h5py") from error
    try:
        file = h5py.File(mat, "r")
    except FileNotFoundError as error:
        raise UserError(f"--labelled {mat}: there is no such file; {GET_LABELLED}") from error
    except OSError as error:
        raise UserError(f"--labelled {mat}: cannot be read as HDF5; {GET_LABELLED}") from error
    with file:
        absent = [name for name in VARIABLES if name not in file]
        if absent:
            raise UserError(f"--labelled {mat}: has no variable {', '.join(absent)}; {GET_LABELLED}")
        yield file


def scene_names(mat: Path, file: Any, images: int) -> list[str]:
    """Return the scene of each image; raises UserError for names that are none."""
    names = [
        bytes(np.ravel(file[cell]).astype(np.uint8)).decode("ascii", "replace") for cell in file["scenes"][0]
    ]
    bad = [name for name in names if not name.replace("_", "").isalnum()]
    if bad or len(names) != images:
        reason = f"its scenes are not {images:,} names" + (f" ({some(map(repr, bad))})" if bad else "")
        raise UserError(f"--labelled {mat}: {reason}; {GET_LABELLED}")
    return names


def check_shapes(mat: Path, file: Any, images: int) -> None:
    """Raise UserError unless the file has colours and depths of as many images as the split numbers."""
    colours, depths = file["images"].shape, file["depths"].shape
    if len(colours) != 4 or colours[:2] != (images, 3) or depths != (images, *colours[2:]):
        raise UserError(
            f"--labelled {mat}: its images are {colours} and its depths {depths}, not {images:,} pairs of one size; "
            f"{GET_LABELLED}"
        )


def paths_of(split: dict[str, Any], scenes: list[str]) -> list[tuple[str, str, bool]]:
    """Return image, depth, and whether it is for testing, of each row of the file."""
    place = {row: number for number, row in enumerate(split["test"])}
    found = []
    for row, scene in enumerate(scenes, 1):
        if row in place:
            stem = f"nyu2_test/{place[row]:05d}"
            found.append((f"{stem}_colors.png", f"{stem}_depth.png", True))
        else:
            stem = f"nyu2_train/{scene}_out/{row - 1}"
            found.append((f"{stem}.jpg", f"{stem}.png", False))
    return found


def save_pair(folder: Path, paths: tuple[str, str, bool], colours: np.ndarray, metres: np.ndarray) -> None:
    """Write an image and its depth, `(3, W, H)` and `(W, H)`, in the published formats."""
    image, depth, test = paths
    (folder / image).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(colours.T)).save(folder / image, quality=95)
    if test:
        stored = np.round(metres.T * 1000).astype(np.uint16)
    else:
        stored = np.round(np.clip(metres.T / MAX_DEPTH, 0, 1) * 255).astype(np.uint8)
    Image.fromarray(stored).save(folder / depth)


def write_layout(mat: Path, folder: Path) -> None:
    """Write images, depths and the two CSVs; the CSVs come last, so a folder that has them is whole."""
    split = read_split()
    with opened(mat) as file:
        check_shapes(mat, file, split["images"])
        rows = paths_of(split, scene_names(mat, file, split["images"]))
        with Progress(len(rows), "image", f"Writing {folder}") as progress:
            for number, paths in enumerate(rows):
                save_pair(folder, paths, file["images"][number], file["depths"][number])
                progress.advance(1)
    texts = {
        name: "".join(f"data/{image},data/{depth}\n" for image, depth, of_test in rows if of_test is test)
        for name, test in ((TRAIN_CSV, False), (TEST_CSV, True))
    }
    write_together({folder / name: partial(Path.write_text, data=text) for name, text in texts.items()})
