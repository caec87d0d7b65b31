"""What `scripts/prepare.py nyud2 --check` looks at: image and depth pairs, the FDS subset, the test mask."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image
from preparing.nyud2_labelled import is_labelled, read_split, row_of, training_rows
from preparing.report import Report
from preparing.splits import published_ids, some

from common import cli
from common.datasets.depth import (
    COUNTS,
    DEPTH_BINS,
    FIRST_BIN,
    MASK,
    SUBSET_CSV,
    TEST_CSV,
    TRAIN_CSV,
    Pair,
    centre_crop,
    counted_depth,
    open_image,
    open_test_depth,
    open_train_depth,
    read_mask,
    read_pairs,
    shrink,
    to_metres,
)
from common.datasets.standin import Standin
from common.errors import UserError
from common.images.decode import in_threads, reported

T = TypeVar("T")

PUBLISHED_COUNTS = cli.ROOT / "data" / "nyud2_counts.json"
IMAGE_MODES = ("RGB", "L", "P", "RGBA")  # the others have no colours that a network is given


def check_nyud2(folder: Path, standin: Standin, report: Report) -> None:
    """Check NYUD2-DIR: the lists, every file that they name, the FDS subset and the test mask."""
    lists = {name: report.reads(read_pairs, folder, name) for name in (TRAIN_CSV, TEST_CSV, SUBSET_CSV)}
    train, test, subset = lists.values()
    published = bool(report.paper)
    if train is not None and published and is_labelled(train):
        published = False
        hold_to_labelled(train, report)
    if train is not None:
        report.expect("training images", len(train), "train")
        counts = check_files(train, TRAIN_CSV, report)
        if counts is not None:
            check_counts(folder, counts, report, published=published)
    if test is not None:
        report.expect("test images", len(test), "test")
        whole = check_files(test, TEST_CSV, report) is not None
        check_mask(folder / MASK, test if whole else None, len(test), report)
    if train is not None and test is not None:
        both = sorted(str(image) for image in {pair.image for pair in train} & {pair.image for pair in test})
        report.none_of("images", len(train) + len(test), "stand in training and in test", both)
    if subset is not None and train is not None:
        report.expect("images of the FDS subset", len(subset), "subset")
        others = sorted(str(pair.image) for pair in set(subset) - set(train))
        report.none_of(f"rows of {SUBSET_CSV}", len(subset), f"are not in {TRAIN_CSV}", others)
    for name in (SUBSET_CSV, MASK):
        if published and (folder / name).is_file():
            report.known_file(folder / name, published_ids()[name])


def hold_to_labelled(train: Sequence[Pair], report: Report) -> None:
    """Hold the report to the labelled images in place of the paper's, and check which of them are in training.

    The mask has no fact to hold it to: how many pixels it takes depends on how depth was stored.
    """
    print("The labelled images of NYU Depth V2: held to their official split, not to the paper's data.")
    wanted, rows = training_rows(), [row_of(pair) for pair in train]
    report.source = "the official split has"
    subset, test = min(report.paper["subset"], len(wanted)), read_split()["images"] - len(wanted)
    report.paper = {"train": len(wanted), "test": test, "subset": subset}
    others = [str(pair.image) for pair, row in zip(train, rows, strict=True) if row not in wanted]
    report.none_of(f"rows of {TRAIN_CSV}", len(train), "are not for training in the official split", others)
    report.none_of("labelled training images", len(wanted), "are missing", sorted(wanted - set(rows)))


class Look(NamedTuple):
    """What reading the two files of a pair gave: pixels in each depth bin, int64 (100,), or what is wrong."""

    counts: np.ndarray | None = None
    flaw: str = ""


def check_files(pairs: Sequence[Pair], name: str, report: Report) -> np.ndarray | None:
    """Check that every image and depth map is there, decodes to its end and has one size.

    Returns the pixels of all of them in each depth bin, int64 (100,); None if one cannot be used.
    """
    first = {pair: row for row, pair in reversed(list(enumerate(pairs)))}
    twice = [str(pair.image) for row, pair in enumerate(pairs) if first[pair] != row]
    report.none_of(f"rows of {name}", len(pairs), "were there before", twice)
    counts, flaws = np.zeros(DEPTH_BINS.num, np.int64), []
    looks = in_threads(partial(look_at, test=name == TEST_CSV), pairs, os.cpu_count() or 1)
    for look in reported(looks, f"Checking {name}", len(pairs)):
        if look.counts is None:
            flaws.append(look.flaw)
        else:
            counts += look.counts
    report.none_of(f"pairs of {name}", len(pairs), "cannot be used", flaws)
    return None if flaws else counts


def look_at(pair: Pair, *, test: bool) -> Look:
    """Read both files of a pair."""
    try:
        image = open_image(pair.image, IMAGE_MODES, "a colour image")
        stored = (open_test_depth if test else open_train_depth)(pair.depth)
    except UserError as error:
        return Look(flaw=str(error).partition(";")[0])
    if image.size != stored.size:
        sizes = " and ".join(f"{side.width} x {side.height}" for side in (image, stored))
        return Look(flaw=f"{pair.image}: image and depth differ in size ({sizes})")
    depth = to_metres(centre_crop(shrink(stored, Image.Resampling.NEAREST)), test=test)
    return Look(DEPTH_BINS.counts(depth[depth > 0]))


def check_counts(folder: Path, counts: np.ndarray, report: Report, *, published: bool) -> None:
    """Check that the training pixels in each bin are those of the weights and shots."""
    files = [PUBLISHED_COUNTS] if published else []
    files += [folder / COUNTS] if (folder / COUNTS).is_file() else []
    for file in files:
        try:
            told = np.array(json.loads(file.read_text(encoding="utf-8"))["counts"], np.int64)
            off = int(np.abs(told - counts).sum())
        except (ValueError, KeyError, TypeError) as error:
            report.wrong(f"{file.name}: is broken ({error}); python scripts/prepare.py nyud2 writes it")
            continue
        what = f"{file.name}: {off:,} of {counts.sum():,} training pixels differ"
        (report.wrong if off else report.fine)(what)


def check_mask(file: Path, test: Sequence[Pair] | None, images: int, report: Report) -> None:
    """Check that the mask takes as many pixels of each depth bin; without `test`, only its shape."""
    mask = report.reads(read_mask, file, images)
    if mask is None or test is None:
        return
    counts = np.zeros(DEPTH_BINS.num, np.int64)
    depths = in_threads(lambda pair: counted_depth(pair.depth, test=True), test, os.cpu_count() or 1)
    depths = reported(depths, "Checking the test mask", len(test))
    for depth, used in zip(depths, mask, strict=True):
        counts += DEPTH_BINS.counts(depth[used > 0])
    near, far = int(counts[:FIRST_BIN].sum()), counts[FIRST_BIN:]
    found = np.unique(far[far > 0])
    if near or len(found) != 1:
        report.wrong(
            f"{MASK}: takes {some(found)} pixels of the depth bins from {FIRST_BIN} on, where each should "
            f"give as many, and {near:,} nearer ones; it may belong to other test images"
        )
        return
    report.expect("masked test pixels of each depth bin", int(found[0]), "mask")
    report.expect("depth bins with masked test pixels", len(far[far > 0]), "mask_bins")
