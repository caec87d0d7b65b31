"""Files that are whole or absent: atomic writing, and JSON. Importing it loads the standard library only."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from common.errors import UserError


def write_atomically(path: Path, data: bytes | str) -> None:
    """Write the file atomically: after a crash it holds either the old content or the new."""
    clean_up(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())  # else a loss of power may leave the new name without its content
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def clean_up(path: Path) -> None:
    """Remove what killed processes left of this file."""
    for leftover in path.parent.glob(f".{path.name}.*.tmp"):
        pid = leftover.name.split(".")[-2]
        if pid.isdecimal() and not Path(f"/proc/{pid}").exists() and Path("/proc/self").exists():
            leftover.unlink(missing_ok=True)


def check_writable(path: Path, flag: str) -> None:
    """Raise UserError, naming the flag, if the file cannot be written; makes its folder, and leaves no file."""
    temporary = path.absolute().with_name(f".{path.name}.{os.getpid()}.tmp")  # "." has no name by itself
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        temporary.unlink()
        if path.is_dir():
            raise IsADirectoryError(0, "it is a folder")
    except OSError as error:
        raise UserError(f"{flag} {path}: cannot be written ({error.strerror}); name another file") from error


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically."""
    write_atomically(path, json.dumps(content, indent=1) + "\n")


def digest(parts: Iterable[bytes]) -> str:
    """Return a short sha256 of some parts and where each ends."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(hashlib.sha256(part).digest())
    return whole.hexdigest()[:20]


def read_json(path: Path) -> Any | None:
    """Return the content of a JSON file; None if it is missing or not valid JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
