"""A folder beside the data that is filled, checked, and only then renamed into its places."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from downloading.sources import File
from downloading.unpack import unpack
from downloading.whole_files import ByteProgress, Expected, Refused, Seen, check, require_room
from downloading.word_vectors import write_vectors


@contextmanager
def drafted(out: Path, file: File) -> Iterator[Path]:
    """An empty folder beside where `file` lands, gone at the end; one that a kill has left is emptied."""
    draft = (out / next(iter(file.lands))).parent / f".{file.filename}.draft"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def take(file: File, given: Path, draft: Path, password: str) -> Seen | None:
    """Fill the draft from what the user has: the file, or a folder with it or with what is in it.

    Returns what the file turned out to be; None for a folder. Raises Refused if there is none of it.
    """
    names = (file.path, file.to, file.filename) if file.to else (file.filename,)
    here = given if given.is_file() else find(given, names)
    if here is not None and here.is_file():
        seen = check(here, file.expected)
        if seen.problem:
            raise Refused(f"{here}: {seen.problem}; it is not used")
        if file.unpack:
            unpack(here, draft, file.limits, password=password, names=file.names)
        else:
            copy(here, draft / file.to)
        return seen
    for path in {**file.lands, **file.holds}:
        if (there := content(file, given, path)) is not None:
            copy(there, draft / path)
    if not any(draft.iterdir()):
        raise Refused(f"{given}: holds neither {file.filename} nor {', '.join(file.lands)}")
    return None


def place(file: File, draft: Path, out: Path, *, overwrite: bool) -> None:
    """Rename what the draft holds to where it belongs, once all of it is checked.

    What was there goes with the draft under `overwrite`, else it stays. Raises Refused for what is missing or
    not what it should be.
    """
    made = find(draft, tuple(file.holds)) if file.vectors else None
    if made is not None:
        write_vectors(made, draft / file.vectors)
    found: dict[str, Path] = {}
    for path in file.lands:
        if not overwrite and (out / path).exists():
            continue
        there = content(file, draft, path)
        if there is None:
            raise Refused(f"{file.filename}: holds no {path}, so it is not what it should be")
        digest = file.lands[path]
        if digest and (problem := check(there, Expected(digest=digest)).problem):
            raise Refused(f"{file.filename}: its {path} {problem}")
        found[path] = there
    for number, (path, there) in enumerate(found.items()):
        target = out / path
        if target.exists():
            target.rename(draft / f".old{number}")
        there.rename(target)


def find(folder: Path, names: Sequence[str]) -> Path | None:
    """The first of these names in a folder or one of its folders."""
    found = (path for name in names for at in ("", "*/") for path in sorted(folder.glob(at + name)))
    return next((path for path in found if "__MACOSX" not in path.parts), None)


def content(file: File, folder: Path, path: str) -> Path | None:
    """Where in a `folder` is what lands at `path`; for images it is the folder with the most of them."""
    if not file.images:
        return find(folder, (path, Path(path).name))
    folders = [folder, *folder.glob("*/"), *folder.glob("*/*/")]
    count = {at: sum(1 for _ in at.glob("[!.]*.[jJ][pP][gG]")) for at in folders}
    best = max(count, key=lambda at: count[at])
    return best if count[best] else None


def copy(source: Path, target: Path) -> None:
    """Copy a file or a folder, with a bar."""
    files = [path for path in source.rglob("*") if path.is_file()] if source.is_dir() else [source]
    size = sum(path.stat().st_size for path in files)
    target.parent.mkdir(parents=True, exist_ok=True)
    require_room(target.parent, size, source.name)
    with ByteProgress(size, f"copying {source.name}") as progress:

        def one(here: str, there: str) -> None:
            shutil.copyfile(here, there)
            progress.advance(Path(there).stat().st_size)

        if source.is_dir():
            shutil.copytree(source, target, copy_function=one)
        else:
            one(str(source), str(target))
