"""What preparing a face data set is, whichever it is: the flags, the split, its report and its files."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from preparing.persons import draw_apart, held_out, leak, require_persons, shortfall
from preparing.splits import OLDEST, SEED, Rows, balanced_split, shots_of, summary, write_files
from preparing.variants import Variant, add_variant_arguments, unseen, variant_of

from common import cli, flags
from common.datasets.faces import FaceTable, read_faces
from common.datasets.standin import Standin, read_standin
from common.errors import UserError

AGEDB_ROWS, AGEDB_CAP = 16_488, 30  # the rows of AgeDB-DIR, and how many of an age it validates on
WORDS = {3: "three", 5: "five"}


class Source(NamedTuple):
    """Rows to be split, where they come from, and why their split cannot be the published one, if known."""

    rows: Rows
    where: Path
    problem: str = ""
    splits: list[str] | None = None  # of the rows, where they are not drawn but known


class FaceSet(NamedTuple):
    """What one data set of faces brings: where its rows are, and how to tell the published split."""

    name: str  # of the command and of the folder under data/
    title: str
    cap: int | None  # validation rows, and test rows, of an age at most; None: AgeDB's, scaled to the size
    source: Callable[[argparse.Namespace], Source]
    published: Callable[[Iterable[float], Iterable[str], Iterable[str]], bool]  # of ages, paths and splits
    share: int = 3  # one row of so many of an age is for validation at most, and one for testing
    kind: str = "published"  # what its split is called
    persons: Callable[[Path, list[str]], list[str] | None] = lambda folder, paths: (
        None
    )  # on each image, if known
    apart: Callable[[list[str]], list[str]] | None = None  # the committed splits of the published rows

    @property
    def csv(self) -> str:
        """The name of the CSV that the data set is trained from."""
        return f"{self.name.replace('-', '_')}.csv"

    def draw(self, ages: list[int], seed: int) -> list[str]:
        """Return the split of each row by the published rule."""
        cap = max(1, round(AGEDB_CAP * len(ages) / AGEDB_ROWS)) if self.cap is None else self.cap
        return balanced_split(ages, cap, seed, self.share)


def parser(name: str, doc: str, holds: str) -> cli.Parser:
    """Return the flags of every face data set; `holds` describes --data_dir."""
    parser = cli.Parser(prog=f"scripts/prepare.py {name}", description=doc)
    parser.add_argument("--data_dir", type=Path, default=cli.ROOT / "data" / name, help=holds)
    out = f"the CSV to write, not DATA_DIR/{name.replace('-', '_')}.csv"
    parser.add_argument("--out", type=Path, metavar="FILE", help=out)
    parser.add_argument("--overwrite", action="store_true", help="write anew what is there already")
    parser.add_argument("--seed", type=flags.number(int, 0), default=SEED, help="of the shuffling")
    parser.add_argument("--check", action="store_true", help="check the data folder; write nothing")
    add_variant_arguments(parser)
    parser.set_defaults(csv=None, persons=None)
    return parser


def add_persons_argument(parser: argparse.ArgumentParser) -> None:
    """Add the flag of splits by person."""
    told = "no person stands in two splits, in a CSV of its own; train.py --dataset takes its name"
    parser.add_argument("--persons", choices=("apart",), help=told)


def report_split(kind: str, ages: np.ndarray, splits: np.ndarray, standin: Standin, problem: str) -> None:
    """Print what the split is (the one of this kind if there is no `problem`) and its summary."""
    if standin.note:
        print(f"Stand-in, not the real data: {standin.note}")
    if problem:
        print(f"This is NOT the {kind} split: {problem}.")
    else:
        print(f"This is the {kind} split: all {len(ages):,} rows agree with it.")
    if older := (ages > OLDEST).sum():
        print(f"Of an age above {OLDEST}: {older:,}, which the published rule gives to training.")
    print(summary(ages, splits, shots_of(ages, splits, standin)))


def read_existing(file: Path) -> FaceTable:
    """Read the existing CSV; raises UserError if it cannot be trained on."""
    try:
        return read_faces(file)
    except UserError as error:
        raise UserError(f"{error}; or write it anew with --overwrite") from error


def use_existing(faces: FaceSet, file: Path, standin: Standin) -> None:
    """Say what the CSV holds that is there already."""
    table = read_existing(file)
    same = faces.published(table.labels, table.paths, table.split)
    report_split(
        faces.kind, table.labels, table.split, standin, "" if same else "its rows or their splits are others"
    )
    print(f"{file}: is there already and is used as it is; --overwrite writes it anew")


def fresh_split(faces: FaceSet, args: argparse.Namespace) -> tuple[Rows, np.ndarray, str]:
    """Return the rows, their splits by the published rule, and the reason if these are not the published ones."""
    rows, where, problem, known = faces.source(args)
    splits = np.array(known or faces.draw(rows.ages, args.seed))
    if "val" not in splits:
        raise UserError(
            f"{where}: no age from 0 to {OLDEST} has {WORDS[faces.share]} images, so that "
            "validation and test would be empty; add images"
        )
    same = faces.published(rows.ages, rows.paths, splits)
    if args.seed != SEED:
        problem = problem or f"its seed is {SEED}, not {args.seed}"
    return rows, splits, "" if same else problem or "the rows or their order are others"


def whole_split(faces: FaceSet, args: argparse.Namespace) -> tuple[Rows, np.ndarray]:
    """Return the split that a subset is cut from: the data set's CSV if it is there, else drawn now."""
    file = args.data_dir / faces.csv
    if args.csv or not file.is_file():
        rows, splits, _ = fresh_split(faces, args)
        return rows, splits
    table = read_existing(file)
    if (table.labels != np.round(table.labels)).any():
        raise UserError(
            f"{file}: has ages that are not whole numbers, which no subset is made of; round them"
        )
    print(f"{file}: the subset is cut from it")
    return Rows(table.labels.astype(int).tolist(), table.paths), table.split


def subset(variant: Variant, rows: Rows, splits: np.ndarray, seed: int) -> tuple[Rows, np.ndarray]:
    """Return the rows that the variant keeps, each image once, and print the number of them."""
    first = np.sort(np.unique([os.path.normpath(path) for path in rows.paths], return_index=True)[1])
    if repeated := len(rows.paths) - len(first):
        print(f"Left out, as an earlier row has the same image: {repeated:,} rows.")
        rows, splits = rows.taken(first), splits[first]
    ages = np.array(rows.ages)
    keep = variant.kept(ages, splits, seed)
    for split in ("train", "test"):
        if left_out := (~keep & (splits == split)).sum():
            print(f"Left out of the {split} split: {left_out:,} of {(splits == split).sum():,} rows.")
    print(unseen(ages[keep], splits[keep]))
    return rows.taken(np.flatnonzero(keep)), splits[keep]


def persons_apart(faces: FaceSet, args: argparse.Namespace) -> tuple[Rows, np.ndarray]:
    """Return the rows of splits without a person in two, and print what they lack."""
    rows, whole = whole_split(faces, args)
    persons = require_persons(faces.persons(args.data_dir, rows.paths), faces.title)
    wanted = held_out(rows.ages, whole)
    if faces.apart and args.seed == SEED and faces.published(rows.ages, rows.paths, whole):
        splits = np.array(faces.apart(rows.paths))
    else:
        splits = draw_apart(rows.ages, persons, wanted, args.seed)
    print(f"Before: {leak(np.array(rows.ages), whole, np.array(persons))}.")
    print(f"Now: {leak(np.array(rows.ages), splits, np.array(persons))}.")
    print(shortfall(rows.ages, splits, wanted))
    kept = np.flatnonzero(splits != "")
    return rows.taken(kept), splits[kept]


def file_name(faces: FaceSet, variant: Variant, persons: str | None) -> str:
    """Return the name of the CSV; raises UserError for flags that contradict each other."""
    if persons and variant:
        raise UserError("--persons apart: is of the whole data set; leave the flags of a subset out")
    return f"{Path(faces.csv).stem}_{persons}.csv" if persons else variant.file_name(faces.csv)


def prepare(faces: FaceSet, args: argparse.Namespace) -> int:
    """Write the CSV and the histogram that the flags ask for; returns the exit code."""
    variant = variant_of(args)
    args.out = args.out or args.data_dir / file_name(faces, variant, args.persons)
    if args.out.suffix != ".csv":
        raise UserError(f"--out {args.out}: does not end in .csv; choose a name that does")
    if (variant or args.persons) and args.out.resolve() == (args.data_dir / faces.csv).resolve():
        raise UserError(f"--out {args.out}: is the whole data set, which a subset must not replace")
    standin = read_standin(args.data_dir)
    if args.out.is_file() and not args.overwrite:
        use_existing(faces, args.out, standin)
        return 0
    if variant:
        rows, splits = subset(variant, *whole_split(faces, args), args.seed)
        problem = "it is a subset of ours, as the authors' own were never released"
    elif args.persons:
        rows, splits = persons_apart(faces, args)
        problem = "no person stands in two of these splits"
    else:
        rows, splits, problem = fresh_split(faces, args)
    report_split(faces.kind, np.array(rows.ages), splits, standin, problem)
    write_files(args.out, faces.title, rows, splits, standin)
    print(f"{args.out} and {args.out.with_suffix('.png').name}: written")
    return 0
