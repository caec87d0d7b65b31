"""Whether a data folder is what the paper used, whole and readable (`scripts/prepare.py NAME --check`)."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from preparing import agedb
from preparing import sts_b as sts
from preparing.check_nyud2 import check_nyud2
from preparing.faces import FaceSet
from preparing.imdb_wiki import IMDB_WIKI
from preparing.persons import in_two_splits, leak, read_column
from preparing.report import Report, read_protocol
from preparing.splits import AGES, shots_of
from preparing.utkface import UTKFACE

from common import cli
from common.datasets.faces import FaceTable, read_faces
from common.datasets.standin import Standin, read_standin
from common.errors import RunFailed, UserError
from common.images.decode import unreadable
from common.report import start_logging

FACES = ("agedb", "imdb-wiki", "utkface")
MISSING = "is missing"  # as common.images.decode says it


def check(name: str, argv: Sequence[str]) -> int:
    """Run `prepare.py NAME --check`; raises RunFailed if something is not as published."""
    parser = cli.Parser(prog=f"scripts/prepare.py {name} --check", description="Check a data folder.")
    parser.add_argument("--check", action="store_true", help="read everything; write nothing")
    parser.add_argument("--data_dir", type=Path, default=cli.ROOT / "data" / name, help="the folder to check")
    if name in FACES:
        told = "the CSV's column of persons (default: subject, if it has one)"
        parser.add_argument("--group", metavar="COLUMN", help=told)
    parser.set_defaults(group=None)
    args = parser.parse_args(argv)
    folder = args.data_dir
    if not folder.is_dir():
        raise UserError(
            f"{folder}: there is no such folder; python scripts/download.py {name} says how to get the data"
        )
    start_logging(None)
    standin = read_standin(folder)
    if standin.note:
        print(f"Stand-in, not the real data: {standin.note}")
        print("It is checked against itself, not against the paper's Table 7.")
    report = Report({} if standin.note else read_protocol(name), args.group)
    CHECKS[name](folder, standin, report)
    if report.faults:
        first = report.faults[0] if len(report.faults) == 1 else f"{report.faults[0]}; and more above"
        raise RunFailed(f"{folder}: {len(report.faults)} of {report.checks} checks failed: {first}")
    print(f"{folder}: all is well, {report.checks} checks")
    return 0


# --- faces


def check_agedb(folder: Path, standin: Standin, report: Report) -> None:
    """Check AgeDB-DIR."""
    check_faces(agedb.face_set(agedb.read_order()), folder, standin, report)


def check_imdb_wiki(folder: Path, standin: Standin, report: Report) -> None:
    """Check IMDB-WIKI-DIR."""
    check_faces(IMDB_WIKI, folder, standin, report)


def check_utkface(folder: Path, standin: Standin, report: Report) -> None:
    """Check UTKFace-DIR."""
    check_faces(UTKFACE, folder, standin, report)


def check_faces(faces: FaceSet, folder: Path, standin: Standin, report: Report) -> None:
    """Check the CSV and its split, then every image."""
    table: FaceTable | None = report.reads(
        read_faces, folder / faces.csv, hint=f"python scripts/prepare.py {faces.name} writes it"
    )
    if table is None:
        return
    report.split(table.labels, table.split, shots_of(table.labels, table.split, standin), "ages", AGES)
    if report.paper:
        same = faces.published(table.labels, table.paths, table.split)
        (report.fine if same else report.wrong)(
            f"{faces.csv}: is {'' if same else 'not '}the published split"
        )
    check_paths(table, report)
    check_persons(faces, folder, table, report)
    check_images(folder, list(dict.fromkeys(table.paths)), report)


def check_paths(table: FaceTable, report: Report) -> None:
    """Check that no image is in two splits, nor twice in one."""
    splits_of = defaultdict(list)
    for path, split in zip(table.paths, table.split.tolist(), strict=True):
        splits_of[os.path.normpath(path)].append(split)
    number = len(splits_of)
    both = [path for path, found in splits_of.items() if len(set(found)) > 1]
    report.none_of("images", number, "stand in more than one split", both)
    twice = [path for path, found in splits_of.items() if len(found) > len(set(found))]
    report.none_of("images", number, "stand twice in a split", twice)


def check_persons(faces: FaceSet, folder: Path, table: FaceTable, report: Report) -> None:
    """Report who stands in two splits: a defect of a CSV that names persons, a fact of the published splits."""
    own = read_column(table.csv, report.group or "subject")
    if own is None and report.group:
        raise UserError(f"--group {report.group}: {table.csv} has no such column; name one of its own")
    if own is not None:
        print(f"  note   {leak(table.labels, table.split, own)}")
        report.none_of(
            "persons", len(set(own)), "stand in more than one split", in_two_splits(table.split, own)
        )
        return
    known = report.reads(faces.persons, folder, table.paths)
    if known is None:
        return
    print(f"  note   {leak(table.labels, table.split, np.array(known))}")
    apart = folder / f"{table.csv.stem}_apart.csv"
    if apart.is_file() and (other := report.reads(read_faces, apart)) is not None:
        who = faces.persons(folder, other.paths) or []
        both = in_two_splits(other.split, who)
        report.none_of("persons", len(set(who)), f"stand in more than one split of {apart.name}", both)


def check_images(folder: Path, paths: list[str], report: Report) -> None:
    """Check that every image is there and decodes to its end."""
    bad = unreadable([folder / path for path in paths], os.cpu_count() or 1)
    absent = [paths[row] for row, why in bad.items() if why == MISSING]
    damaged = [f"{paths[row]} {why}" for row, why in bad.items() if why != MISSING]
    report.none_of("images", len(paths), "are missing", absent)
    report.none_of("images", len(paths), "are damaged", damaged)


# --- sentence pairs


def check_sts_b(folder: Path, standin: Standin, report: Report) -> None:
    """Check STS-B-DIR: GLUE's files where they are, then the three split files."""
    order = sts.read_order()
    for name in sts.GLUE:
        if report.paper and (folder / name).is_file():
            report.known_file(folder / name, order.ids[name])
    absent = [name for name in sts.SPLIT_FILES.values() if not (folder / name).is_file()]
    if absent:
        report.wrong(f"{', '.join(absent)}: not there; python scripts/prepare.py sts-b writes them")
        return
    contents = {name: (folder / name).read_bytes() for name in sts.SPLIT_FILES.values()}
    read = report.reads(sts.split_scores, folder, contents)
    if read is None:
        return
    scores, splits = read
    shots = shots_of(scores, splits, standin, sts.SCORE_BINS, sts.FEW_BELOW)
    report.split(scores, splits, shots, "bins", sts.BALANCED)
    for name in contents:
        if report.paper:
            report.known_file(folder / name, order.ids[name])
    check_pairs(contents, report)


def check_pairs(contents: dict[str, bytes], report: Report) -> None:
    """Check the sentence pairs in more than one split; the published split repeats some of GLUE."""
    splits_of = defaultdict(set)
    for name, content in contents.items():
        for line in content.splitlines()[1:]:
            splits_of[tuple(line.split(b"\t")[7:9])].add(name)
    shared = [pair for pair, found in splits_of.items() if len(found) > 1]
    report.expect("sentence pairs in more than one split", len(shared), "shared")


CHECKS: dict[str, Callable[[Path, Standin, Report], None]] = {
    "agedb": check_agedb,
    "imdb-wiki": check_imdb_wiki,
    "utkface": check_utkface,
    "sts-b": check_sts_b,
    "nyud2": check_nyud2,
}
