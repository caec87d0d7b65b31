"""A CSV of one's own: what is in it, balanced splits, and the command that trains on it (see `scripts/prepare.py`)."""

from __future__ import annotations

import argparse
import importlib
import math
import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from preparing.own_table import Own, copies, read_own
from preparing.splits import some, summary

from common import cli, flags
from common.bins import Bins
from common.datasets import faces
from common.datasets.own import label_bins as automatic_bins
from common.datasets.own import make_splits, parted, shots_by_share
from common.datasets.shots import FEW_BELOW, MANY_ABOVE
from common.errors import UserError
from common.files import write_atomically
from common.metrics import Shots

MOST_LINES = 20  # of a histogram


def tell_copies(own: Own, digests: list[str], splits: np.ndarray | None) -> None:
    """Print how many rows are copies of others, under other labels, and in other splits."""
    first: dict[str, int] = {}
    pairs = [(row, first.setdefault(digest, row)) for row, digest in enumerate(digests)]
    pairs = [(row, other) for row, other in pairs if row != other]
    named = some(f"line {own.lines[row]} of line {own.lines[other]}" for row, other in pairs)
    print(f"Exact copies: {len(pairs):,}" + (f" ({named})." if pairs else "."))
    if differ := sum(own.labels[row] != own.labels[other] for row, other in pairs):
        print(f"  Under another label: {differ:,}.")
    if splits is not None and (apart := parted(digests, splits)):
        print(f"  In two splits: {len(apart):,}, which makes a test easier than it should be.")


def tell_groups(own: Own, column: str, splits: np.ndarray | None) -> None:
    """Print how many groups there are, and which stand in two splits."""
    groups = own.columns[column]
    found = parted(groups, splits) if splits is not None else []
    print(f"Groups: {len(set(groups) - {''}):,} values of {column}.")
    if found:
        named = some(
            f"{groups[one]!r} in lines {own.lines[one]} and {own.lines[other]}" for one, other in found
        )
        print(
            f"  In two splits: {len(found):,} ({named}). Without the column split, new ones keep them together."
        )


def choose_bins(own: Own, labels: np.ndarray, args: argparse.Namespace) -> Bins:
    """Return the bins that the printed command has."""
    bins = automatic_bins(labels, args.bin_width, args.bins)
    if own.kind != "images":
        return bins
    low, high = math.floor(own.labels.min()), math.ceil(own.labels.max())
    return faces.label_bins(own.labels, float(f"{bins.width:.3g}"), low, high)


def choose_shots(bins: Bins, labels: np.ndarray) -> Shots:
    """Return shots by the paper's counts where some bin has so many, else a third of the training rows each."""
    counts = bins.counts(labels)
    if counts.max() > MANY_ABOVE:
        return Shots(bins, counts, MANY_ABOVE, FEW_BELOW)
    return shots_by_share(bins, labels)


def histogram_lines(shots: Shots) -> list[str]:
    """Return the training rows of each bin, or of some bins together, as lines with a bar and their shots."""
    bins, each = shots.bins, math.ceil(shots.bins.num / MOST_LINES)
    lines = []
    for first in range(0, bins.num, each):
        middles, count = bins.left_edges[first:][:each] + bins.width / 2, shots.counts[first:][:each].sum()
        groups = ", ".join(dict.fromkeys(shots.of(middles)))
        bar = "#" * math.ceil(40 * count / (each * shots.counts.max()))
        lines.append(f"  {bins.left_edges[first]:>10.6g} …{count:>8,}  {groups:<18} {bar}".rstrip())
    return lines


def tell_labels(shots: Shots, labels: np.ndarray, splits: np.ndarray) -> None:
    """Print the histogram of the training labels, what each split has, and what is few-shot."""
    bins = shots.bins
    print(f"Training rows by label, in {bins.num} bins of {bins.width:g}:", *histogram_lines(shots), sep="\n")
    print(summary(labels, splits, shots, "bins"))
    few, edges = shots.of(bins.centers) == "few", [*bins.left_edges, bins.high]
    cuts = np.flatnonzero(np.diff(np.r_[False, few, False])).reshape(-1, 2)
    ranges = some(f"{edges[low]:g} to {edges[high]:g}" for low, high in cuts) or "none"
    own = f"{shots.counts[few].sum():,} of {shots.counts.sum():,} training rows"
    print(f"Few-shot will be {few.sum()} of {bins.num} bins, {own}: {ranges}.")


def split_of(own: Own, args: argparse.Namespace, groups: list[str]) -> tuple[Path, np.ndarray]:
    """Write balanced splits into a new CSV beside the one that has none; return it and them."""
    bins = automatic_bins(own.labels, args.bin_width, args.bins)
    splits = make_splits(own.labels, bins, groups, args.seed)
    if any((splits == split).sum() < 2 for split in faces.SPLITS):
        raise UserError(
            f"{own.file}: has too few rows of a bin for splits; --bins with fewer makes them wider"
        )
    out, text = own.file.with_name(f"{own.file.stem}_split.csv"), own.written(splits)
    if out.exists() and out.read_text(encoding="utf-8") != text:
        raise UserError(f"{out}: is there with other content, and is not overwritten; rename or remove it")
    write_atomically(out, text)
    print(f"Splits: written to {out}, balanced over labels.")
    return out, splits


def command_of(own: Own, file: Path, shots: Shots, args: argparse.Namespace) -> list[str]:
    """Return the words of the command that trains on a file."""
    values: dict[str, object] = {"bin_width": args.bin_width, "bins": args.bins}
    if own.kind == "images":
        bins = shots.bins
        values = {"bin_width": bins.width, "label_min": bins.low, "label_max": math.ceil(own.labels.max())}
        if shots.rule is not None:
            values |= {"many_above": shots.many_above, "few_below": shots.few_below}
        start = [
            "agedb-dir/train.py",
            "--data_dir",
            shlex.quote(str(file.parent)),
            "--dataset",
            shlex.quote(file.stem),
        ]
    else:
        values |= {"shots": "share" if shots.rule is not None else None}
        values |= (
            {"group": args.group and shlex.quote(args.group)} if own.kind == "rows" else shape_flags(own)
        )
        start = [
            f"{'tabular' if own.kind == 'rows' else 'volume'}-dir/train.py",
            "--csv",
            shlex.quote(str(file)),
        ]
    pairs = [("--target", shlex.quote(own.target))]
    for name, value in values.items():
        if value not in (None, ""):
            pairs.append((f"--{name}", f"{value:.12g}" if isinstance(value, float) else str(value)))
    return ["python", *start, *(word for pair in pairs for word in pair)]


def shape_flags(own: Own) -> dict[str, str]:
    """Return the flags for the shape of the first volume; a small one has fewer halvings."""
    from common.task import load_task  # loads torch

    load_task("volume")  # which puts its folder on the path
    channels = importlib.import_module("sfcn").CHANNELS
    shape = (
        importlib.import_module("volume_files").read_array(own.file.parent / own.columns["path"][0]).shape[:3]
    )
    blocks = int(math.log2(max(min(shape, default=1), 2))) + 1
    fewer = () if blocks >= len(channels) else (*channels[: blocks - 1], channels[-1])
    return {"shape": " ".join(map(str, shape)), "channels": " ".join(map(str, fewer))}


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the flags of `prepare.py own`."""
    what = "Look at a CSV of your own, and make splits if it has none."
    parser = cli.Parser(prog="scripts/prepare.py own", description=what)
    add = parser.add_argument
    add("csv", type=Path, metavar="FILE.csv", help="images or volumes (a column path), or a table")
    add("--target", metavar="COLUMN", help="the labels (default: label, target, age, y, or the only one)")
    add("--group", metavar="COLUMN", help="whose equal values stay in one split (default: subject)")
    add("--bin_width", type=flags.number(float, flags.POSITIVE), help="width of a label bin")
    add("--bins", type=flags.number(int, 1), help="number of label bins")
    add("--seed", type=flags.number(int, 0), default=0, help="of the splits that are made")
    return parser.parse_args(argv)


def own(argv: Sequence[str]) -> int:
    """Run `prepare.py own` and return its exit code."""
    args = parse(argv)
    table = read_own(args.csv, args.target)
    if args.group and args.group not in table.columns:
        there = ", ".join(table.columns)
        raise UserError(f"--group {args.group}: {args.csv} has no such column; it has {there}")
    args.group = args.group or ("subject" if "subject" in table.columns else None)
    labels, splits, file, digests = table.labels, None, args.csv, copies(table)
    print(
        f"{args.csv}: {len(labels):,} {table.kind}; {table.target} from {labels.min():g} to {labels.max():g}."
    )
    if "split" in table.columns:
        faces.check_splits(args.csv, table.lines, table.columns["split"])
        splits = np.array(table.columns["split"])
    tell_copies(table, digests, splits)
    if args.group:
        tell_groups(table, args.group, splits)
    if splits is None:
        file, splits = split_of(table, args, table.columns[args.group] if args.group else digests)
    if absent := [split for split in faces.SPLITS if not (splits == split).any()]:
        told = f"{args.csv}: no row has split {' or '.join(absent)}"
        raise UserError(f"{told}; mark some, or take the column split out to have new ones made")
    trained = labels[splits == "train"]
    shots = choose_shots(choose_bins(table, trained, args), trained)
    tell_labels(shots, labels, splits)
    print(f"To train:\n  {' '.join(command_of(table, file, shots, args))}")
    return 0
