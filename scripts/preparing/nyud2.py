"""What NYUD2-DIR needs beside its images: depth counts, FDS subset and balanced test mask.

The published subset and mask were drawn without a seed; other data gets its own by the same rules (paper,
section 4 and appendix B). See `scripts/prepare.py`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from preparing.check_nyud2 import PUBLISHED_COUNTS
from preparing.depth_pixels import Counted, check_files, count, depths, draw_mask, masked_per_bin
from preparing.nyud2_labelled import write_layout
from preparing.splits import COLOURS, Writers, some, write_together

from common import cli, flags
from common.datasets.depth import (
    COUNTS,
    DEPTH_BINS,
    FIRST_BIN,
    MASK,
    SUBSET_CSV,
    TEST_CSV,
    TRAIN_CSV,
    Pair,
    read_mask,
    read_pairs,
    shots_of,
)
from common.datasets.standin import Standin, read_standin
from common.errors import UserError
from common.metrics import GROUPS, Shots
from common.report import HEADINGS, start_logging

SUBSET = 600  # images of the published FDS subset
HISTOGRAM = "depth_counts.png"


# --- what comes out


def summary(shots: Shots, tested: np.ndarray) -> str:
    """Format the number of bins, training pixels and masked test pixels of each group of shots."""
    of = shots.of(DEPTH_BINS.centers)
    of[:FIRST_BIN] = ""
    rules = {"many": f" (> {shots.many_above:,.0f})", "few": f" (< {shots.few_below:,.0f})"}
    rows = [["", *(HEADINGS[group] + rules.get(group, "") for group in GROUPS)]]
    for name, values in (("bins", np.ones_like(tested)), ("train", shots.counts), ("test mask", tested)):
        sums = (values[of != "" if group == "all" else of == group].sum() for group in GROUPS)
        rows.append([name, *(f"{total:,}" for total in sums)])
    return "\n".join(f"  {row[0]:<9}" + "".join(f"{cell:>20}" for cell in row[1:]) for row in rows)


def empty_bins(counts: np.ndarray, what: str) -> str:
    """Return a line that names the bins from `FIRST_BIN` on without a pixel; "" if there is none."""
    empty = [f"{DEPTH_BINS.left_edges[b]:.1f} m" for b in range(FIRST_BIN, DEPTH_BINS.num) if not counts[b]]
    return f"Bins without a {what} pixel: {len(empty)} (those from {some(empty)})" if empty else ""


def histogram(file: Path, title: str, shots: Shots) -> None:
    """Draw the training pixels in each bin as a PNG, on a log scale, coloured by shot."""
    from matplotlib.figure import Figure  # slow to import

    middles, width = DEPTH_BINS.centers, DEPTH_BINS.width
    present, shot = shots.counts > 0, shots.of(middles)
    few, many = f"{shots.few_below:,.0f}", f"{shots.many_above:,.0f}"
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for name, rule in (("many", f"> {many}"), ("medium", f"{few} to {many}"), ("few", f"< {few}")):
        mine = present & (shot == name)
        label = f"{HEADINGS[name]}-shot: {rule} pixels ({mine.sum()} bins)"
        axes.bar(middles[mine], shots.counts[mine], 0.85 * width, color=COLOURS[name], label=label)
    axes.set(xlabel="Depth (metres)", ylabel="Training pixels in 0.1 m", title=title, yscale="log")
    axes.set_xlim(DEPTH_BINS.low, DEPTH_BINS.high)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(file, dpi=150, format="png")


# --- the files: each of these functions tells what there is, and adds what is to be written


def published_counts() -> Counted:
    """Return the training pixels of NYUD2-DIR in each bin, which are part of this repository."""
    content = json.loads(PUBLISHED_COUNTS.read_text(encoding="utf-8"))
    return Counted(np.array(content["counts"], np.int64), content["images"], 0)


def read_counted(file: Path, images: int) -> Counted:
    """Read the existing counts; raises UserError if they are broken or of other images."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        counted = Counted(np.array(content["counts"], np.int64), content["images"], content.get("invalid", 0))
        if counted.counts.shape != (DEPTH_BINS.num,) or not counted.counts.any():
            raise ValueError("not 100 counts")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file}: is broken ({error}); write it anew with --overwrite") from error
    if counted.images != images:
        raise UserError(
            f"{file}: was counted over {counted.images:,} images, not the {images:,} of {TRAIN_CSV}; "
            "write it anew with --overwrite"
        )
    return counted


def count_training(
    folder: Path, train: Sequence[Pair], standin: Standin, overwrite: bool
) -> tuple[Counted, str]:
    """Return the counts of the training depths, and their origin in words."""
    published = published_counts()
    real = len(train) == published.images and not standin.note
    if (folder / COUNTS).is_file() and not overwrite:
        return read_counted(folder / COUNTS, len(train)), f"{COUNTS} is there already and is used as it is"
    if real and not overwrite:
        return (
            published,
            f"{TRAIN_CSV} has the {published.images:,} published rows: the published counts are used",
        )
    check_files(train, str(folder / TRAIN_CSV))
    counted = count(train, test=False, name=str(folder / TRAIN_CSV))
    told = (
        f"{len(train):,} training images counted; pixels without a measurement, left out: {counted.invalid:,}"
    )
    if real:
        off = int(np.abs(counted.counts - published.counts).sum())
        told += "; the published counts " + (f"differ by {off:,} pixels" if off else "are the same")
    return counted, told


def training_counts(
    folder: Path, train: Sequence[Pair], seed: int, standin: Standin, overwrite: bool, files: Writers
) -> tuple[Shots, str]:
    """Return the shots of the training pixels: of `depth_counts.json`, published, or counted now."""
    counted, told = count_training(folder, train, standin, overwrite)
    shots = shots_of(counted.counts, standin)
    title = f"{'Stand-in for ' if standin.note else ''}NYUD2-DIR: {counted.images:,} training images"
    content = {"what": "training pixels in each 0.1 m bin, at 304 x 228 without augmentation"}
    content |= counted._asdict() | {"counts": counted.counts.tolist(), "seed": seed}
    text = partial(Path.write_text, data=json.dumps(content) + "\n", encoding="utf-8")
    for name, write in ((COUNTS, text), (HISTOGRAM, partial(histogram, title=title, shots=shots))):
        if overwrite or not (folder / name).is_file():
            files[folder / name] = write
    return shots, told


def draw_subset(pairs: int, seed: int) -> np.ndarray:
    """Draw the rows of the FDS subset in file order, int64: 600, or all if there are fewer."""
    rng = np.random.default_rng([seed, 0])
    return np.sort(rng.choice(pairs, min(SUBSET, pairs), replace=False))


def fds_subset(folder: Path, train: Sequence[Pair], seed: int, overwrite: bool, files: Writers) -> str:
    """Return the training images from which FDS takes its statistics."""
    if (folder / SUBSET_CSV).is_file() and not overwrite:
        images = len(read_pairs(folder, SUBSET_CSV))
        return f"{SUBSET_CSV} is there already, {images:,} images, and is used as it is"
    rows = draw_subset(len(train), seed)
    lines = (folder / TRAIN_CSV).read_text(encoding="utf-8-sig").splitlines()
    lines = [line for line in lines if line.replace(",", "").strip()]  # as `read_pairs` skips the others
    text = "".join(f"{lines[row].strip()}\n" for row in rows)
    files[folder / SUBSET_CSV] = partial(Path.write_text, data=text, encoding="utf-8")
    return f"FDS subset: {len(rows):,} of the {len(train):,} training images, seed {seed}"


def balanced_mask(
    folder: Path, test: Sequence[Pair], seed: int, overwrite: bool, files: Writers
) -> tuple[np.ndarray, str]:
    """Return the test pixels that the mask takes of each bin, int64 (100,), and a line on it."""
    check_files(test, str(folder / TEST_CSV))
    if (folder / MASK).is_file() and not overwrite:
        try:
            mask = read_mask(folder / MASK, len(test))
        except UserError as error:
            raise UserError(f"{error}, or draw it anew with --overwrite") from error
        taken = np.zeros(DEPTH_BINS.num, np.int64)
        for used, depth in zip(mask, depths(test, test=True, what="Reading the test mask"), strict=True):
            taken += DEPTH_BINS.counts(depth[(used > 0) & (depth > 0)])
        return taken, f"{MASK} is there already, {taken.sum():,} pixels, and is used as it is"
    counted = count(test, test=True, name=str(folder / TEST_CSV))
    each = masked_per_bin(counted.counts)
    taken = np.minimum(counted.counts, each)
    taken[:FIRST_BIN] = 0
    files[folder / MASK] = partial(draw_mask, pairs=test, counts=counted.counts, seed=seed)
    told = f"Test mask: {each:,} pixels of each of {np.count_nonzero(taken)} bins, seed {seed}"
    return taken, f"{told}; test pixels without a measurement: {counted.invalid:,}"


def prepare(folder: Path, seed: int, standin: Standin, *, overwrite: bool = False) -> list[str]:
    """Write what is not there of the counts, their histogram, the FDS subset and the mask.

    Prints what there is; returns the names of what was written. Raises UserError for what is wrong with the
    data, and then nothing is written.
    """
    train, test = (read_pairs(folder, name) for name in (TRAIN_CSV, TEST_CSV))
    files: Writers = {}
    shots, told = training_counts(folder, train, seed, standin, overwrite, files)
    lines = [f"Stand-in, not the real data: {standin.note}"] if standin.note else []
    lines += [told, fds_subset(folder, train, seed, overwrite, files)]
    taken, told = balanced_mask(folder, test, seed, overwrite, files)
    lines += [told, summary(shots, taken), empty_bins(shots.counts, "training"), empty_bins(taken, "test")]
    write_together(files)
    print("\n".join(filter(None, lines)))
    return [file.name for file in files]


def parser() -> cli.Parser:
    """Return the flags of `prepare.py nyud2`."""
    parser = cli.Parser(
        prog="scripts/prepare.py nyud2", description="Count depths, draw the FDS subset and the test mask."
    )
    parser.add_argument(
        "--data_dir",
        type=Path,
        help=f"the folder with {TRAIN_CSV} (default: data/nyud2; with --labelled, its own)",
    )
    parser.add_argument(
        "--labelled",
        type=Path,
        metavar="FILE",
        help="nyu_depth_v2_labeled.mat: write its 1,449 images in this layout first (needs h5py)",
    )
    parser.add_argument("--seed", type=flags.number(int, 0), default=0, help="of the subset and the mask")
    parser.add_argument("--overwrite", action="store_true", help="write anew what is there already")
    parser.add_argument("--check", action="store_true", help="check the data folder; write nothing")
    return parser


def nyud2(argv: Sequence[str]) -> int:
    """Run `prepare.py nyud2` and return its exit code."""
    args = parser().parse_args(argv)
    folder = args.data_dir or cli.ROOT / "data" / ("nyud2-labelled" if args.labelled else "nyud2")
    start_logging(None)
    if args.labelled:
        if (folder / TRAIN_CSV).is_file() and not args.overwrite:
            raise UserError(
                f"{folder / TRAIN_CSV}: is there already; leave --labelled out, or add --overwrite"
            )
        write_layout(args.labelled, folder)
    written = prepare(folder, args.seed, read_standin(folder), overwrite=args.overwrite)
    print(f"{folder}: {', '.join(written)} written" if written else f"{folder}: all is there")
    return 0
