"""A draft folder beside the data: it is filled, checked, and only then renamed into place."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from downloading.sources import File
from downloading.unpack import unpack
from downloading.whole_files import Expected, Refused, Seen, check, require_room
from downloading.word_vectors import write_vectors

log = logging.getLogger("dir")


@contextmanager
def drafted(out: Path, file: File) -> Iterator[Path]:
    """Yield an empty draft folder beside the destination of `file`, and remove it at the end."""
    draft = (out / next(iter(file.lands))).parent / f".{file.filename}.draft"
    shutil.rmtree(draft, ignore_errors=True)  # a killed call may have left one
    draft.mkdir(parents=True)
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def take(file: File, given: Path, draft: Path, password: str) -> Seen | None:
    """Fill the draft from `given`: the file itself, or a folder with it or with its content.

    Returns the check of the file, or None for its content. Raises Refused if `given` holds nothing of it.
    """
    names = (file.path, file.to, file.filename) if file.to else (file.filename,)
    source = given if given.is_file() else find(given, names)
    if source is not None and source.is_file():
        seen = check(source, file.expected)
        if seen.problem:
            raise Refused(f"{source}: {seen.problem}; it is not used")
        if file.unpack:
            unpack(source, draft, file.limits, password=password, names=file.names)
        else:
            copy(source, draft / file.to)
        return seen
    for path in {**file.lands, **file.holds}:
        if (part := content(file, given, path)) is not None:
            copy(part, draft / path)
    if not any(draft.iterdir()):
        raise Refused(f"{given}: holds neither {file.filename} nor {', '.join(file.lands)}")
    return None


def place(file: File, draft: Path, out: Path, *, overwrite: bool) -> None:
    """Rename the content of the draft into place, once all of it is checked.

    Existing files stay, or with `overwrite` go with the draft. Raises Refused for missing or wrong content.
    """
    source = find(draft, tuple(file.holds)) if file.vectors else None
    if source is not None:
        write_vectors(source, draft / file.vectors)
    parts: dict[str, Path] = {}
    for path, digest in file.lands.items():
        if not overwrite and (out / path).exists():
            continue
        part = content(file, draft, path)
        if part is None:
            raise Refused(f"{file.filename}: holds no {path}, so it is not what it should be")
        if digest and (problem := check(part, Expected(digest=digest)).problem):
            raise Refused(f"{file.filename}: its {path} {problem}")
        parts[path] = part
    for number, (path, part) in enumerate(parts.items()):
        if (out / path).exists():
            (out / path).rename(draft / f".old{number}")
        part.rename(out / path)


def find(folder: Path, names: Sequence[str]) -> Path | None:
    """Return the first of these names in a folder or one of its folders."""
    paths = (path for name in names for at in ("", "*/") for path in sorted(folder.glob(at + name)))
    return next((path for path in paths if "__MACOSX" not in path.parts), None)


def content(file: File, folder: Path, path: str) -> Path | None:
    """Return the part of `folder` that lands at `path`; for images, the folder with the most of them."""
    if not file.images:
        return find(folder, (path, Path(path).name))
    folders = [folder, *folder.glob("*/"), *folder.glob("*/*/")]
    count = {at: sum(1 for _ in at.glob("[!.]*.[jJ][pP][gG]")) for at in folders}
    best = max(count, key=lambda at: count[at])
    return best if count[best] else None


def copy(source: Path, target: Path) -> None:
    """Copy a file or a folder."""
    files = source.rglob("*") if source.is_dir() else [source]
    size = sum(path.stat().st_size for path in files if path.is_file())
    target.parent.mkdir(parents=True, exist_ok=True)
    require_room(target.parent, size, source.name)
    log.info("copying %s", source)
    if source.is_dir():
        shutil.copytree(source, target, copy_function=shutil.copyfile)
    else:
        shutil.copyfile(source, target)
