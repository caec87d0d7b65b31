"""AgeDB-DIR from the names of its images, in the published order (see `scripts/prepare.py`)."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from preparing.faces import FaceSet, Source, add_persons_argument, parser, prepare
from preparing.splits import OLDEST, Rows, read_rows, some

from common import cli
from common.errors import UserError

ORDER = cli.ROOT / "data" / "agedb_order.json"
APART = cli.ROOT / "data" / "agedb_apart.json"
NAME = re.compile(r"([0-9]{1,9})_(?P<person>.+)_(?P<age>-?[0-9]{1,9})_[mf]\.(?i:jpg)")
GET_AGEDB = (
    "AgeDB comes on request: python scripts/download.py agedb says how; a stand-in from "
    "python scripts/make_standin.py agedb"
)
UNREADABLE = re.compile("[\ud800-\udfff]")  # how Python shows bytes of a name that are not UTF-8
IMAGES = (".jpg", ".jpeg", ".png")


class Order(NamedTuple):
    """What data/agedb_order.json says of the published agedb.csv."""

    numbers: list[int]  # that lead the file names, in file order
    sha256: str  # of its rows as `fingerprint` has them


def read_order(path: Path = ORDER) -> Order:
    """Return the published order, which is part of this repository."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return Order(content["numbers"], content["sha256"])


def fingerprint(ages: Iterable[float], paths: Iterable[str], splits: Iterable[str]) -> str | None:
    """Return a hash of number, age and split of all rows in any order; None if a path has no number."""
    names = [NAME.fullmatch(path.rpartition("/")[2]) for path in paths]
    numbers = [int(name[1]) for name in names if name]
    if len(numbers) < len(names):
        return None
    rows = zip(numbers, ages, splits, strict=True)
    text = "".join(f"{number},{age:g},{split}\n" for number, age, split in sorted(rows))
    return hashlib.sha256(text.encode()).hexdigest()


# --- where the rows come from


def image_names(folder: Path) -> list[str]:
    """Return the names of the images in a folder; raises UserError if there is none."""
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
    """Return age and file name by leading number; raises UserError for names that are not AgeDB's."""
    names = image_names(folder)
    found = {name: match for name in names if (match := NAME.fullmatch(name))}

    def refuse(wrong: list[str], what: str, way_out: str) -> None:
        if wrong:
            of = f"{len(wrong):,} of {len(names):,} images"
            raise UserError(f"{folder}: {of} {what} ({some(map(repr, wrong))}); {way_out}")

    refuse(
        [name for name in names if name not in found],
        "are not named <number>_<Name>_<age>_<m|f>.jpg",
        "rename or remove them, or give ages and paths with --csv",
    )
    refuse(
        [name for name in names if UNREADABLE.search(name)],
        "have names that are not UTF-8",
        "rename them, as with convmv -f cp866 -t utf8 -r --notest; only the number and the age matter",
    )
    refuse(
        [name for name, match in found.items() if not 0 <= int(match["age"]) <= OLDEST],
        f"have an age outside 0 to {OLDEST}",
        "correct these names or remove the images",
    )
    images: dict[int, tuple[int, str]] = {}
    for name, match in found.items():
        number = int(match[1])
        if number in images:
            pair = f"{images[number][1]!r} and {name!r}"
            raise UserError(f"{folder}: two images have the number {number} ({pair}); remove one of them")
        images[number] = int(match["age"]), name
    return images


def rows_of_folder(folder: Path, order: Order) -> tuple[Rows, str]:
    """Return the images of a folder in the published order, and the reason if they cannot give its split.

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


def source(args: argparse.Namespace, order: Order) -> Source:
    """Return the rows to split: those of --csv, or of the folder's images."""
    if args.csv is None:
        folder = args.data_dir / "AgeDB"
        rows, problem = rows_of_folder(folder, order)
        return Source(rows, folder, problem)
    if args.csv.resolve() == args.out.resolve():
        raise UserError(f"{args.csv}: would be overwritten with its own rows; choose another --out")
    return Source(read_rows(args.csv), args.csv)


def is_published(ages: Iterable[float], paths: Iterable[str], splits: Iterable[str], order: Order) -> bool:
    """Return whether these rows, in any order, are those of the published agedb.csv."""
    return fingerprint(ages, paths, splits) == order.sha256


def persons(folder: Path, paths: list[str]) -> list[str] | None:
    """Return the person on each image, from its name; None if a name has none."""
    names = [NAME.fullmatch(path.rpartition("/")[2]) for path in paths]
    found = [name["person"].strip() for name in names if name]
    return found if len(found) == len(paths) else None


def committed_apart(paths: list[str]) -> list[str]:
    """Return the committed splits without a person in two, of the published rows; "" for rows left out."""
    content = json.loads(APART.read_text(encoding="utf-8"))
    split_of = {number: split for split in ("val", "test") for number in content[split]}
    split_of |= dict.fromkeys(content["left_out"], "")
    return [split_of.get(int(path.rpartition("/")[2].partition("_")[0]), "train") for path in paths]


def face_set(order: Order) -> FaceSet:
    """Return AgeDB-DIR for `preparing.faces`."""
    published = partial(is_published, order=order)
    return FaceSet(
        "agedb",
        "AgeDB-DIR",
        30,
        partial(source, order=order),
        published,
        persons=persons,
        apart=committed_apart,
    )


def agedb(argv: Sequence[str], order_file: Path = ORDER) -> int:
    """Run `prepare.py agedb` and return its exit code."""
    flags = parser("agedb", "Split AgeDB-DIR by the published rule.", "the folder that holds AgeDB/")
    flags.add_argument(
        "--csv", type=Path, metavar="FILE", help="split its rows (age, path), not a folder's images"
    )
    add_persons_argument(flags)
    return prepare(face_set(read_order(order_file)), flags.parse_args(argv))
