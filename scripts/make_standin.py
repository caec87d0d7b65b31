"""Draw a small stand-in for a data set, in exactly the on-disk format of the real one.

    python scripts/make_standin.py agedb --out data/standin/agedb --scale 0.2 --img_size 48
    python scripts/make_standin.py sts-b --out data/standin/sts-b --scale 0.3
    python scripts/make_standin.py nyud2 --out data/standin/nyud2 --scale 0.01
    python scripts/make_standin.py volumes --out data/standin/volumes --scale 0.06 --img_size 24

The labels follow the real histogram, scaled, and the published split rule; the shot thresholds are scaled
too and stand in `standin.json`, which every table that uses the data prints. Same arguments, same bytes.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing import Pool
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # prefer the `common` beside this file
import common.environment  # noqa: F401 - ends in one line under a wrong interpreter

# isort: split
import numpy as np
from preparing.splits import balanced_split
from standin.faces import Face, contact_sheet, save
from standin.text import write_corpus
from standin.volumes import draw_volumes

from common import cli, flags
from common.datasets.depth import FEW_BELOW, MANY_ABOVE
from common.datasets.standin import Standin
from common.errors import UserError
from common.files import read_json
from common.report import Progress, start_logging

NAMES = ("Anna", "Boris", "Chen", "Dana", "Emil", "Farah", "Goran", "Hana", "Ivo", "Jun", "Kofi", "Lena")
SURNAMES = (
    "Adler", "Baker", "Costa", "Diaz", "Endo", "Fox", "Grant", "Haas", "Ito", "Jones", "Klein", "Lund",
)  # fmt: skip
SHEET = 60  # faces of a contact sheet


def histogram(name: str) -> dict[int, int]:
    """Return the real label histogram: counts by age, or by the number of the score bin."""
    content = json.loads((cli.ROOT / "data" / "histograms.json").read_text(encoding="utf-8"))[name]
    counts = enumerate(content) if isinstance(content, list) else content.items()
    return {int(label): count for label, count in counts}


def scaled(count: int, scale: float) -> int:
    """Return a count of the real histogram at this scale; a count above 0 stays at least 1."""
    return max(1, round(count * scale)) if count else 0


def draw_sts_b(folder: Path, args: argparse.Namespace) -> None:
    """Write a corpus of graded paraphrases, and word vectors for it."""
    counts = [scaled(count, args.scale) for count in histogram("sts-b").values()]
    write_corpus(folder, counts, max(2, round(50 * args.scale)), args.seed)


def agedb_path(number: int, age: int, person: int, male: bool) -> str:
    """Return a path as AgeDB has it: the number, a name, the age and the sex."""
    name = NAMES[person % len(NAMES)] + SURNAMES[person // len(NAMES) % len(SURNAMES)]
    return f"AgeDB/{number}_{name}_{age}_{'m' if male else 'f'}.jpg"


def imdb_wiki_path(number: int, age: int, person: int, male: bool) -> str:
    """Return a path as IMDB-WIKI has it: 88 % in the one folder, the rest in the other."""
    source = "imdb_crop" if number % 100 < 88 else "wiki_crop"
    return f"{source}/{person % 100:02d}/nm{person:07d}_rm{number:09d}_{age}.jpg"


def leave_signals_to_the_parent() -> None:
    """Ignore Ctrl-C in a worker: it reaches the whole group, and only the parent reports and tidies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def draw_faces(
    folder: Path,
    args: argparse.Namespace,
    *,
    csv_name: str,
    path_of: Callable[..., str],
    cap: int,
    people: float,
) -> None:
    """Write the CSV in a random order, split by the published rule, and draw a face for each row.

    `cap` is the most samples of an age in validation and in test, `people` the faces of one person.
    """
    rng = np.random.default_rng(args.seed)
    counts = {age: scaled(count, args.scale) for age, count in histogram(args.name).items()}
    ages = rng.permutation(np.repeat(list(counts), list(counts.values()))).tolist()
    persons = rng.integers(max(1, round(len(ages) / people)), size=len(ages)).tolist()
    men = rng.random(max(persons) + 1) < 0.55
    faces = [
        Face(path_of(number, age, person, bool(men[person])), age, person, bool(men[person]))
        for number, (age, person) in enumerate(zip(ages, persons, strict=True))
    ]
    splits = balanced_split(ages, max(1, round(cap * args.scale)))
    with (folder / csv_name).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["age", "path", "split"])
        writer.writerows((face.age, face.path, split) for face, split in zip(faces, splits, strict=True))
    jobs = [(folder, face, number, args.seed, args.img_size) for number, face in enumerate(faces)]
    with (
        Pool(initializer=leave_signals_to_the_parent) as pool,
        Progress(len(jobs), "face", f"drawing {args.name}") as progress,
    ):
        for _ in pool.imap_unordered(save, jobs, chunksize=16):
            progress.advance(1)
    if args.contact_sheet is not None:
        ordered = sorted(faces, key=lambda face: face.age)
        chosen = [ordered[i] for i in np.linspace(0, len(ordered) - 1, min(SHEET, len(ordered))).astype(int)]
        contact_sheet([(folder / face.path, face.age) for face in chosen], args.contact_sheet)


draw_agedb = partial(draw_faces, csv_name="agedb.csv", path_of=agedb_path, cap=30, people=29)
draw_imdb_wiki = partial(draw_faces, csv_name="imdb_wiki.csv", path_of=imdb_wiki_path, cap=150, people=10)


def draw_nyud2(folder: Path, args: argparse.Namespace) -> None:
    """Draw rooms with NYUD2's histogram of depth, in its layout; write what prepare.py would."""
    from preparing import nyud2  # loads torch
    from standin import frames  # loads matplotlib and scipy

    counts = nyud2.published_counts()
    sizes = scaled(counts.images, args.scale), max(frames.LEAST_TEST, scaled(654, args.scale))
    with Pool(initializer=leave_signals_to_the_parent) as pool:
        frames.write_rooms(pool, folder, args.seed, sizes, counts.counts)
    if args.contact_sheet is not None:
        frames.contact_sheet(folder, args.contact_sheet)
    told = describe(args)
    standin = Standin(told["note"], told["many_above"], told["few_below"])
    nyud2.prepare(folder, args.seed, standin)


FACES = "drawn faces with the real age histogram and the published split rule; no photographs"
# name -> how to draw it, its shot thresholds at scale 1, what it is
STANDINS: dict[str, tuple[Callable[[Path, argparse.Namespace], None], tuple[float, float], str]] = {
    "agedb": (draw_agedb, (100, 20), FACES),
    "imdb-wiki": (draw_imdb_wiki, (100, 20), FACES.replace("the real", "an approximate")),
    "sts-b": (
        draw_sts_b,
        (100, 30),
        "paraphrases from templates with the real score histogram; no real sentences",
    ),
    "nyud2": (
        draw_nyud2,
        (MANY_ABOVE, FEW_BELOW),
        "rendered rooms with the real histogram of depth; no photographs",
    ),
    "volumes": (draw_volumes, (60, 30), "drawn heads with made-up labels; no scans"),
}


def describe(args: argparse.Namespace) -> dict[str, Any]:
    """Return the content of `standin.json`."""
    _, (many, few), note = STANDINS[args.name]
    told = {"dataset": args.name, "scale": args.scale, "seed": args.seed}
    told |= {"many_above": many * args.scale, "few_below": few * args.scale, "note": note}
    return told if args.name in ("sts-b", "nyud2") else told | {"img_size": args.img_size}


@contextmanager
def appearing(folder: Path):  # noqa: ANN201 - a generator behind a decorator
    """Yield a temporary folder that is renamed to `folder` at the end: whole, or not there."""
    folder = folder.resolve()  # not a link to it, and not "."
    draft = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        draft.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"--out {folder}: cannot be made ({error.strerror}); name another folder") from error
    try:
        yield draft
        if folder.exists():
            folder.rmdir()  # empty, as checked before
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def scale(text: str) -> float:
    """Parse a number above 0, at most 1."""
    value = flags.number(float, flags.POSITIVE, 1)(text)
    return float(value)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the flags of this script."""
    parser = cli.Parser(prog="scripts/make_standin.py", description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=tuple(STANDINS), help="what to stand in for")
    parser.add_argument("--out", type=Path, default=None, help="folder to write (default: data/NAME here)")
    parser.add_argument(
        "--scale", type=scale, default=0.2, help="share of the real number of samples, up to 1"
    )
    parser.add_argument("--seed", type=flags.number(int, 0), default=0, help="of everything that is drawn")
    parser.add_argument(
        "--img_size", type=flags.number(int, 16, 1024), default=64, help="faces, volumes: side in pixels"
    )
    sheet = "a PNG of some of the faces or rooms"
    parser.add_argument("--contact_sheet", type=Path, default=None, metavar="PNG", help=sheet)
    args = parser.parse_args(argv)
    args.out = args.out or cli.ROOT / "data" / args.name
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    args = parse(argv)
    start_logging(None)
    told = describe(args)
    if args.out.exists() and not args.out.is_dir():
        raise UserError(f"--out {args.out}: is a file; name a folder")
    if args.out.is_dir() and any(args.out.iterdir()):
        there = read_json(args.out / "standin.json")
        if there == told:
            print(f"{args.out}: this stand-in is there already")
            return 0
        what = "another stand-in" if there else "other data"
        raise UserError(
            f"{args.out}: holds {what}, which is not mixed or replaced; name another folder with --out"
        )
    try:
        with appearing(args.out) as draft:
            STANDINS[args.name][0](draft, args)
            (draft / "standin.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    except KeyboardInterrupt:
        print(f"scripts/make_standin.py: stopped; nothing was left in {args.out}", file=sys.stderr)
        return 130
    print(f"{args.out}: {told['note']}")
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that the draft is removed
    sys.exit(cli.run_command("scripts/make_standin.py", main))
