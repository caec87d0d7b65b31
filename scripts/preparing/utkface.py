"""UTKFace-DIR from the names of its images (see `scripts/prepare.py`)."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from preparing.faces import FaceSet, Source, parser, prepare
from preparing.splits import OLDEST, SEED, Rows, some

from common import cli
from common.errors import UserError

PART = cli.ROOT / "data" / "utkface_split.json"
FOLDER = "UTKFace"
ENDING = r" ?\.?jpg(?:\.chip)?(?:\.jpg)?"  # the published names include one without a dot, one with a space
NAME = re.compile(rf"(([0-9]{{1,3}})_[01]_[0-4]_[0-9]+){ENDING}")
LACKING = re.compile(rf"[0-9]+(?:_[0-9]*){{0,3}}{ENDING}")
GET_UTKFACE = "python scripts/download.py utkface says where UTKFace is"


@cache
def read_part() -> dict[str, str]:
    """Return the split of each image of the committed part, by the leading fields of its name."""
    content = json.loads(PART.read_text(encoding="utf-8"))
    return {
        f"{fields}_{date}": split
        for split in ("train", "val", "test")
        for fields, dates in content[split].items()
        for date in dates.split()
    }


def image_names(folder: Path) -> list[str]:
    """Return the sorted names of the images that have all fields; raises UserError for a name of another form."""
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.is_file())
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror}); {GET_UTKFACE}") from error
    names = [name for name in names if name.lower().endswith(".jpg") and not name.startswith(".")]
    if not names:
        raise UserError(f"{folder}: holds no image; those of UTKFace belong directly into it; {GET_UTKFACE}")
    lacking = [name for name in names if not NAME.fullmatch(name)]
    renamed = [name for name in lacking if not LACKING.fullmatch(name)]
    if renamed:
        raise UserError(
            f"{folder}: {len(renamed):,} of {len(names):,} images are not named "
            f"<age>_<gender>_<race>_<date>.jpg.chip.jpg ({some(map(repr, renamed))}); rename or remove them"
        )
    if lacking:
        print(f"Left out, as their names lack a field: {len(lacking):,} ({some(lacking)}).")
    return [name for name in names if NAME.fullmatch(name)]


def fields_of(name: str) -> str:
    """Return the leading fields of an image's name: age, gender, race and date."""
    match = NAME.fullmatch(name)
    return match[1] if match else ""


def age_of(name: str) -> int:
    """Return the age in an image's name."""
    return int(name.partition("_")[0])


def first_copies(folder: Path, names: list[str]) -> list[str]:
    """Return the names without exact copies of an earlier image, and print how many there are."""
    same: dict[bytes, list[str]] = defaultdict(list)
    for name in names:
        same[hashlib.sha256((folder / name).read_bytes()).digest()].append(name)
    copied = [group for group in same.values() if len(group) > 1]
    if copied:
        others = sum(len({age_of(name) for name in group}) > 1 for group in copied)
        print(
            f"Left out, as exact copies of another image: {len(names) - len(same):,} ({len(copied):,} images "
            f"have copies, {others:,} of them under another age; the first by name is kept)."
        )
    return [group[0] for group in same.values()]


def source(args: argparse.Namespace) -> Source:
    """Return the images of the folder, and the committed split where it covers them."""
    folder, part = args.data_dir / FOLDER, read_part()
    names = image_names(folder)
    if args.part:
        names = [name for name in names if fields_of(name) in part]
    old = [name for name in names if age_of(name) > OLDEST]
    if old:
        raise UserError(f"{folder}: has an age above {OLDEST} ({some(map(repr, old))}); correct these names")
    names = first_copies(folder, names)
    if args.part and not names:
        raise UserError(f"{folder}: holds no image of the part that {PART.name} lists; leave --part out")
    rows = Rows([age_of(name) for name in names], [f"{folder.name}/{name}" for name in names])
    found = [part.get(fields_of(name)) for name in names]
    splits = [split for split in found if split]
    if args.seed != SEED or len(splits) < len(names):
        others = (
            f"its {len(names):,} images are not the {len(part):,} of {PART.name}, which --part takes alone"
        )
        return Source(rows, folder, "" if args.seed != SEED else others)
    missing = f"{len(part) - len(names):,} of the {len(part):,} images of {PART.name} are missing"
    return Source(rows, folder, missing, splits)


def is_committed(ages: Iterable[float], paths: Iterable[str], splits: Iterable[str]) -> bool:
    """Return whether these rows, in any order, are the committed split."""
    names = [path.rpartition("/")[2] for path in paths]
    right = all(name.startswith(f"{age:g}_") for age, name in zip(ages, names, strict=True))
    return right and dict(zip(map(fields_of, names), splits, strict=True)) == read_part()


UTKFACE = FaceSet("utkface", "UTKFace-DIR", None, source, is_committed, share=5, kind="committed")


def utkface(argv: Sequence[str]) -> int:
    """Run `prepare.py utkface` and return its exit code."""
    doc = "Split UTKFace by the published rule of AgeDB-DIR, scaled to its size."
    flags = parser("utkface", doc, f"the folder that holds {FOLDER}/")
    flags.add_argument(
        "--part", action="store_true", help=f"only the images of the split in data/{PART.name}"
    )
    return prepare(UTKFACE, flags.parse_args(argv))
