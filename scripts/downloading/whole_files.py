"""Files that are whole or absent: their expected content, check, disk space and lock."""

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
    """A file that cannot be had, or not from this source; others may still be."""


class Expected(NamedTuple):
    """The known length of a file in bytes, and "sha256:…", "git-blob:…" or "" for unknown."""

    size: int | None = None
    digest: str = ""


class Seen(NamedTuple):
    """The result of a check.

    `checked_by` is "sha256", "git-blob", "length", or "nothing" where nothing is known of the file. `problem`
    is the defect, or "".
    """

    size: int
    sha256: str
    checked_by: str
    problem: str


class ByteProgress(Progress):
    """A `Progress` in whole megabytes that counts bytes."""

    def __init__(self, total: int, what: str, start: int = 0) -> None:
        super().__init__(total // MB, "MB", what, start=start // MB)

    def reach(self, position: int) -> None:
        """Show that `position` bytes are done."""
        self.advance(position // MB - self.done)


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
            progress.reach(file.tell())
    digest = (blob if kind == "git-blob" else sha256).hexdigest()
    problem = ""
    if expected.size not in (None, size):
        problem = f"has {size:,} bytes where {expected.size:,} are right"
    elif known and digest != known:
        problem = f"has the {kind} {digest} where {known} is right"
    return Seen(size, sha256.hexdigest(), kind or ("length" if expected.size else "nothing"), problem)


def set_aside(path: Path, name: str) -> Path:
    """Rename a file that must not be used to NAME.bad, beside it; return the new path."""
    return path.replace(path.with_name(f"{name}.bad"))


def size_text(size: int) -> str:
    """Format a number of bytes."""
    unit, name = (1e9, "GB") if size >= 1e9 else (1e6, "MB") if size >= 1e6 else (1e3, "kB")
    return f"{size / unit:,.1f} {name}"


def require_room(folder: Path, needed: int, what: str) -> None:
    """Raise UserError if fewer than `needed` bytes are free for `folder`, which may not exist yet."""
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise UserError(
            f"{folder}: {what} needs {size_text(needed)} and {size_text(free)} are free; free some, or name "
            "another disk with --out"
        )


def disk_error(error: OSError, folder: Path) -> UserError:
    """Return the error to show for a file that could not be read or written."""
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
    """Hold `folder` for one process that downloads `name`; raises UserError if another process holds it."""
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
            # The last holder removes the file, perhaps between the two calls above.
            if not path.exists() or not os.path.samestat(path.stat(), os.fstat(file.fileno())):
                continue
            try:
                yield
            finally:
                path.unlink()
                with suppress(OSError):  # the folder is not empty
                    folder.rmdir()
            return
