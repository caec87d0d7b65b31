"""Write the split of a data set, and a histogram of its training labels, by the published rule.

    python scripts/prepare.py agedb                 from the images in data/agedb/AgeDB
    python scripts/prepare.py agedb --csv FILE      from the rows (age, path) of a CSV, in file order

A CSV that is there already is used as it is; --overwrite writes it anew.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common import cli
from common.errors import UserError
from common.faces import read_faces
from common.splits import OLDEST, SEED, Rows, balanced_split, read_rows, shots_of, some, summary, write_files
from common.task import Standin, read_standin

AGEDB_ORDER = cli.ROOT / "data" / "agedb_order.json"
AGEDB_CAP = 30  # validation rows, and test rows, of an age at most
AGEDB_NAME = re.compile(r"([0-9]{1,9})_.+_(-?[0-9]{1,9})_[mf]\.(?i:jpg)")
GET_AGEDB = (
    "AgeDB comes on request from https://ibug.doc.ic.ac.uk/resources/agedb/, a stand-in from "
    "python scripts/make_standin.py agedb"
)
UNREADABLE = re.compile("[\ud800-\udfff]")  # how Python shows bytes of a name that are not UTF-8
IMAGES = (".jpg", ".jpeg", ".png")


class Order(NamedTuple):
    """What data/agedb_order.json says of the published agedb.csv."""

    numbers: list[int]  # that lead the file names, in file order
    sha256: str  # of its rows as `fingerprint` has them


def read_order(path: Path = AGEDB_ORDER) -> Order:
    """The published order; it is part of this repository."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return Order(content["numbers"], content["sha256"])


def fingerprint(ages: Iterable[float], paths: Iterable[str], splits: Iterable[str]) -> str | None:
    """A hash of number, age and split of all rows, in whatever order; None if a path has no number."""
    names = [AGEDB_NAME.fullmatch(path.rpartition("/")[2]) for path in paths]
    if None in names:
        return None
    rows = zip((int(name[1]) for name in names), ages, splits, strict=True)
    text = "".join(f"{number},{age:g},{split}\n" for number, age, split in sorted(rows))
    return hashlib.sha256(text.encode()).hexdigest()


# --- where the rows come from


def image_names(folder: Path) -> list[str]:
    """The names of the images in a folder; raises UserError if there is none."""
    if not folder.is_dir():
        raise UserError(
            f"{folder}: there is no such folder; --data_dir is the one that holds {folder.name}/. {GET_AGEDB}"
        )
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.is_file())
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror}); mend its permissions") from error
    names = [name for name in names if name.lower().endswith(IMAGES) and not name.startswith(".")]
    if not names:
        raise UserError(f"{folder}: holds no image; the images of AgeDB belong directly into it. {GET_AGEDB}")
    return names


def read_names(folder: Path) -> dict[int, tuple[int, str]]:
    """Age and file name by leading number; raises UserError for names that cannot be AgeDB's."""
    names = image_names(folder)
    found = {name: AGEDB_NAME.fullmatch(name) for name in names}

    def refuse(wrong: list[str], what: str, way_out: str) -> None:
        if wrong:
            of = f"{len(wrong):,} of {len(names):,} images"
            raise UserError(f"{folder}: {of} {what} ({some(map(repr, wrong))}); {way_out}")

    refuse(
        [name for name, match in found.items() if match is None],
        "are not named <number>_<Name>_<age>_<m|f>.jpg",
        "rename or remove them, or give ages and paths with --csv",
    )
    refuse(
        [name for name in names if UNREADABLE.search(name)],
        "have names that are not UTF-8",
        "rename them, as with convmv -f cp850 -t utf8 -r --notest; only the number and the age matter",
    )
    refuse(
        [name for name, match in found.items() if not 0 <= int(match[2]) <= OLDEST],
        f"have an age outside 0 to {OLDEST}",
        "correct these names or remove the images",
    )
    images: dict[int, tuple[int, str]] = {}
    for name, match in found.items():
        number = int(match[1])
        if number in images:
            pair = f"{images[number][1]!r} and {name!r}"
            raise UserError(f"{folder}: two images have the number {number} ({pair}); remove one of them")
        images[number] = int(match[2]), name
    return images


def rows_of_folder(folder: Path, order: Order) -> tuple[Rows, str]:
    """The images of a folder in the published order, and why their split cannot be the published one.

    The second is empty if nothing is missing. Where a number is not in the order, rows are sorted by number.
    """
    images = read_names(folder)
    known = set(order.numbers)
    unknown = sorted(images.keys() - known)
    missing = sorted(known - images.keys())
    numbers, problem = [number for number in order.numbers if number in images], ""
    if unknown:
        numbers = sorted(images)
        problem = (
            f"{len(unknown):,} of the {len(images):,} images have a number that is not AgeDB's "
            f"({some(unknown)}), so that the published order does not apply. Rows are sorted by number"
        )
    elif missing:
        problem = (
            f"{len(missing):,} of the {len(known):,} images are missing (number {some(missing)}). "
            "The others are in the published order"
        )
    ages = [images[number][0] for number in numbers]
    return Rows(ages, [f"{folder.name}/{images[number][1]}" for number in numbers]), problem


# --- what comes out


def report_split(ages: np.ndarray, splits: np.ndarray, standin: Standin, problem: str) -> None:
    """Print what the split is (the published one if there is no `problem`) and its summary."""
    if standin.note:
        print(f"Stand-in, not the real data: {standin.note}")
    if problem:
        print(f"This is NOT the published split: {problem}.")
    else:
        print(f"This is the published split: all {len(ages):,} rows agree with it.")
    if older := (ages > OLDEST).sum():
        print(f"Of an age above {OLDEST}: {older:,}, which the published rule gives to training.")
    print(summary(ages, splits, shots_of(ages, splits, standin)))


# --- the data sets


def agedb_parser() -> cli.Parser:
    """The flags of `prepare.py agedb`."""
    parser = cli.Parser(prog="scripts/prepare.py agedb", description="Split AgeDB-DIR by the published rule.")
    folder = cli.ROOT / "data" / "agedb"
    parser.add_argument("--data_dir", type=Path, default=folder, help="the folder that holds AgeDB/")
    parser.add_argument(
        "--csv", type=Path, metavar="FILE", help="split its rows (age, path), not a folder's images"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="the CSV to write, not DATA_DIR/agedb.csv")
    parser.add_argument("--overwrite", action="store_true", help="write anew what is there already")
    parser.add_argument("--seed", type=cli.number(int, 0), default=SEED, help="of the shuffling")
    return parser


def agedb_existing(out: Path, order: Order, standin: Standin) -> None:
    """Say what the CSV holds that is there already; raises UserError if it cannot be trained on."""
    try:
        table = read_faces(out)
    except UserError as error:
        raise UserError(f"{error}; or write it anew with --overwrite") from error
    same = fingerprint(table.labels, table.paths, table.split) == order.sha256
    report_split(table.labels, table.split, standin, "" if same else "its rows or their splits are others")
    print(f"{out}: is there already and is used as it is; --overwrite writes it anew")


def agedb_rows(args: argparse.Namespace, order: Order) -> tuple[Rows, str]:
    """The rows to be split, and why their split is not the published one, as far as the rows tell."""
    if args.csv is None:
        return rows_of_folder(args.data_dir / "AgeDB", order)
    if args.csv.resolve() == args.out.resolve():
        raise UserError(f"{args.csv}: would be overwritten with its own rows; choose another --out")
    return read_rows(args.csv), ""


def agedb(argv: Sequence[str], order_file: Path = AGEDB_ORDER) -> int:
    """`prepare.py agedb`; returns its exit code."""
    args = agedb_parser().parse_args(argv)
    args.out = args.out or args.data_dir / "agedb.csv"
    if args.out.suffix != ".csv":
        raise UserError(f"--out {args.out}: does not end in .csv; choose a name that does")
    order, standin = read_order(order_file), read_standin(args.data_dir)
    if args.out.is_file() and not args.overwrite:
        agedb_existing(args.out, order, standin)
        return 0
    rows, problem = agedb_rows(args, order)
    ages, splits = np.array(rows.ages), np.array(balanced_split(rows.ages, AGEDB_CAP, args.seed))
    if "val" not in splits:
        raise UserError(
            f"{args.csv or args.data_dir / 'AgeDB'}: no age from 0 to {OLDEST} has three images, so that "
            "validation and test would be empty; add images"
        )
    same = fingerprint(rows.ages, rows.paths, splits) == order.sha256
    if args.seed != SEED:
        problem = problem or f"its seed is {SEED}, not {args.seed}"
    problem = "" if same else problem or "the rows or their order are others"
    report_split(ages, splits, standin, problem)
    write_files(args.out, "AgeDB-DIR", rows, splits, standin)
    print(f"{args.out} and {args.out.with_suffix('.png').name}: written")
    return 0


DATASETS: dict[str, Callable[[Sequence[str]], int]] = {"agedb": agedb}


def main(argv: Sequence[str] | None = None) -> int:
    """The command: a name, then the flags of that data set; returns its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser = cli.Parser(prog="scripts/prepare.py", description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=tuple(DATASETS), help="the data set; its flags: NAME --help")
    return DATASETS[parser.parse_args(words[:1]).name](words[1:])


if __name__ == "__main__":
    sys.exit(cli.run_command("scripts/prepare.py", main))
