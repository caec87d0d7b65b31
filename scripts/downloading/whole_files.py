"""Files that are all there or not at all: what is known of one, its check, its room on the disk, its lock."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from common.errors import UserError
from common.report import Progress

MB = 1_000_000
CHUNK = 1 << 20


class Refused(UserError):
    """This file cannot be had, or not from this source; another file may still be."""


class Expected(NamedTuple):
    """What is known of a file: its length in bytes, and "sha256:…", "git-blob:…" or "" for unknown."""

    size: int | None = None
    digest: str = ""


class Seen(NamedTuple):
    """What a file turned out to be.

    `checked_by` is "sha256", "git-blob", "length" or, where nothing is known of it, "nothing"; `problem` is
    what is wrong with it, or "".
    """

    size: int
    sha256: str
    checked_by: str
    problem: str


class ByteProgress(Progress):
    """A `Progress` in whole megabytes that is told bytes."""

    def __init__(self, total: int, what: str, start: int = 0) -> None:
        super().__init__(total // MB, "MB", what, start=start // MB)
        self._bytes = start

    def advance(self, items: int, note: str = "") -> None:
        """`items` more bytes are done."""
        self._bytes += items
        super().advance(self._bytes // MB - self.done, note)


def check(path: Path, expected: Expected) -> Seen:
    """Read a file and compare it with what is known of it."""
    size = path.stat().st_size
    sha256, blob = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    kind, _, known = expected.digest.partition(":")
    with path.open("rb") as file, ByteProgress(size, f"checking {path.name}") as progress:
        while data := file.read(CHUNK):
            sha256.update(data)
            if kind == "git-blob":
                blob.update(data)
            progress.advance(len(data))
    found = (blob if kind == "git-blob" else sha256).hexdigest()
    problem = ""
    if expected.size not in (None, size):
        problem = f"has {size:,} bytes where {expected.size:,} are right"
    elif known and found != known:
        problem = f"has the {kind} {found} where {known} is right"
    return Seen(size, sha256.hexdigest(), kind or ("length" if expected.size else "nothing"), problem)


def set_aside(path: Path, name: str) -> Path:
    """Rename a file that must not be used to NAME.bad, beside it; returns that."""
    return path.replace(path.with_name(f"{name}.bad"))


def size_text(size: int) -> str:
    """A number of bytes for people."""
    unit, name = (1e9, "GB") if size >= 1e9 else (1e6, "MB") if size >= 1e6 else (1e3, "kB")
    return f"{size / unit:,.1f} {name}"


def require_room(folder: Path, needed: int, what: str) -> None:
    """Raise UserError where the disk of `folder`, which may not exist yet, has not `needed` bytes free."""
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise UserError(
            f"{folder}: {what} needs {size_text(needed)} and {size_text(free)} are free; free some, or name "
            "another disk with --out"
        )


def disk_error(error: OSError, folder: Path) -> UserError:
    """What to tell of a file that could not be read or written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(
            f"{folder}: the disk is full; what has been downloaded is kept: free some space and give the "
            "same command"
        )
    return UserError(
        f"{error.filename or folder}: {error.strerror or error}; mend that, or name another --out"
    )


@contextmanager
def locked(folder: Path, name: str) -> Iterator[None]:
    """Hold `folder` for one process that downloads `name`; raises UserError if another one does."""
    path = folder / f".{name}.lock"
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"{folder}: another process is downloading {name} here; wait for it or stop it"
                ) from None
            # Whoever held the lock removes the file, perhaps between the two calls above.
            if not path.exists() or not os.path.samestat(path.stat(), os.fstat(file.fileno())):
                continue
            try:
                yield
            finally:
                path.unlink()
                with suppress(OSError):  # leave no empty folder behind
                    folder.rmdir()
            return
