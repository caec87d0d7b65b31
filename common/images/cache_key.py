"""The name of an image cache, which follows from what the files hold."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path

from common.files import write_atomically
from common.images.decode import file_stat, in_threads, problem, reported

VERSION = 1  # part of the key: raise it with any change of the bytes that a row holds


def cache_key(root: Path, paths: list[str], size: int | tuple[int, ...], folder: Path, workers: int) -> str:
    """Return a name for what the cache holds: sha256 over the size and every file's path and content.

    The contents are read once for each state of the files (size, times, inode; the change time cannot be
    set back), noted in `STATE.key`: reading 16,488 files takes a second, 213,553 on a cold disk minutes.
    """

    def digest(parts: Iterable[str]) -> str:
        return hashlib.sha256(json.dumps([VERSION, size, paths, *parts]).encode()).hexdigest()[:20]

    note = folder / f"{digest(state_of(os.path.join(root, path)) for path in paths)}.key"  # noqa: PTH118
    noted = note.read_text(errors="replace") if note.exists() else ""
    if re.fullmatch("[0-9a-f]{20}", noted):
        return noted
    files = (root / path for path in paths)
    key = digest(reported(in_threads(_content, files, workers), "Looking for changed images", len(paths)))
    with contextlib.suppress(OSError):  # a finished cache can be read where nothing can be written
        write_atomically(note, key)
    return key


def state_of(file: Path | str) -> str:
    now = file_stat(file)
    return f"{now.st_size} {now.st_mtime_ns} {now.st_ctime_ns} {now.st_ino}" if now else "missing"


def _content(file: Path) -> str:
    with contextlib.suppress(OSError):
        if not problem(file):
            with file.open("rb") as stream:
                return hashlib.file_digest(stream, "sha256").hexdigest()
    return "unreadable"
