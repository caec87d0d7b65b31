"""Every image decoded and resized once, into one file that is mapped into memory.

A cache is `KEY.npy`, uint8 `(N, S, S, 3)`, and `KEY.json`, which rows of it could not be read and why.
While it is written it is called `KEY.partial`, and `KEY.json` says how far it is.

Rows are height x width x channel, as Pillow gives them: the other order was no faster to read, crop and
normalise (39 against 38 ms for 64 images at 224 on one core) and costs a transposition when writing.
Threads decode, not processes: Pillow lets go of the interpreter lock (380 images/s with one thread, 740
with two; 300 and 630 with processes).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import io
import itertools
import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.errors import UserError
from common.images.decode import BadImage, decode, file_stat, missing, reported, unreadable
from common.report import log

VERSION = 1  # part of the key: raise it with any change of the bytes that a row holds
CHUNK = 512  # images between two records of progress, 77 MB at 224: what a kill can cost
READ_ONLY = "the folder cannot be written to"
WAY_OUT = "use --cache off, or --cache DIR with a folder on a disk that has room"


def cached_images(
    root: Path, paths: list[str], size: int, cache: str, *, bad_images: str = "error", workers: int = 4
) -> tuple[np.ndarray | None, dict[int, str]]:
    """The images `root/path` as one memory-mapped array, and why which of its rows could not be read.

    The array is uint8 `(N, size, size, 3)`, zero in bad rows, or None without a cache. `cache` is "off",
    "auto" (`root/.cache`, where the images take at most half of the free disk) or a folder. `workers`
    threads decode. With `bad_images="skip"` the bad rows are the caller's to drop. Without a cache only
    "skip" looks into every file beforehand; "error" looks for missing ones, and `decode` names the rest.

    Raises `UserError` where `bad_images` is "error" and there are bad rows (after a look at every file), and
    where the cache cannot be written.
    """
    files = [root / path for path in paths]
    store = None if cache == "off" else _store(root, paths, size, cache, workers)
    if store is not None:
        images, bad = store.read(files, workers)
    else:
        images, bad = None, unreadable(files, workers) if bad_images == "skip" else missing(files)
    if bad:
        report = _report(root, paths, bad)
        if bad_images == "error":
            raise UserError(f"{report}; replace them, or leave them out with --bad_images skip")
        log.warning("%s; left out", report)
    return images, bad


def _report(root: Path, paths: list[str], bad: dict[int, str]) -> str:
    named = [f"{paths[row]} {reason}" for row, reason in itertools.islice(bad.items(), 5)]
    more = [f"and {len(bad) - 5} more"] if len(bad) > 5 else []
    return f"{root}: {len(bad)} of {len(paths)} images cannot be used: {', '.join(named + more)}"


def _store(root: Path, paths: list[str], size: int, cache: str, workers: int) -> _Store | None:
    """Where the cache of these images is or will be; None where `auto` finds no room for it."""
    auto = cache == "auto"
    folder = root / ".cache" if auto else Path(cache).expanduser()
    with _writing(folder):
        if not auto or os.access(root, os.W_OK):
            folder.mkdir(parents=True, exist_ok=True)
    obstacle: str | None = READ_ONLY
    if folder.is_dir():
        store = _Store(folder, _key(root, paths, size, folder, workers), (len(paths), size, size, 3))
        obstacle = store.obstacle() if auto else None
        if obstacle is None:
            return store
    log.info("no image cache in %s: %s; images are decoded each time (or --cache DIR)", folder, obstacle)
    return None


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{folder}: cannot write the image cache ({error.strerror or error}); {WAY_OUT}"
        ) from error


def _key(root: Path, paths: list[str], size: int, folder: Path, workers: int) -> str:
    """A name for what the cache holds: sha256 over the size and every file's path and content.

    The contents are read once for each state of the files (size, times, inode; the change time cannot be
    set back), noted in `STATE.key`: reading 16,488 files takes a second, 213,553 on a cold disk minutes.
    """

    def digest(parts: Iterable[str]) -> str:
        return hashlib.sha256(json.dumps([VERSION, size, paths, *parts]).encode()).hexdigest()[:20]

    files = [root / path for path in paths]
    note = folder / f"{digest(map(_state, files))}.key"
    if not note.exists():
        with ThreadPoolExecutor(max(workers, 1)) as pool:
            contents = reported(pool.map(_content, files), "Looking for changed images", len(files))
            key = digest(contents)
        with contextlib.suppress(OSError):  # a finished cache can be read where nothing can be written
            _write_whole(note, key)
        return key
    return note.read_text()


def _state(file: Path) -> str:
    now = file_stat(file)
    return f"{now.st_size} {now.st_mtime_ns} {now.st_ctime_ns} {now.st_ino}" if now else "missing"


def _content(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except (OSError, ValueError):
        return "unreadable"


def _write_whole(path: Path, text: str) -> None:
    """The file with this text, or as it was before: never a part of it, after a loss of power neither."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    with draft.open("w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(path)


@dataclass(frozen=True)
class _Store:
    """The files of one cache; see the top of this module for what they are called."""

    folder: Path
    key: str
    shape: tuple[int, int, int, int]

    def at(self, suffix: str) -> Path:
        return self.folder / f"{self.key}.{suffix}"

    @property
    def header(self) -> bytes:
        buffer = io.BytesIO()
        layout = {"descr": "|u1", "fortran_order": False, "shape": self.shape}
        np.lib.format.write_array_header_1_0(buffer, layout)
        return buffer.getvalue()

    @property
    def row_bytes(self) -> int:
        return math.prod(self.shape[1:])

    @property
    def total(self) -> int:
        """Bytes of the finished array on disk."""
        return len(self.header) + self.shape[0] * self.row_bytes

    def obstacle(self) -> str | None:
        """What keeps `auto` from this cache: None if it is there, or takes at most half of the free disk."""
        if self.done():
            return None
        if not os.access(self.folder, os.W_OK):
            return READ_ONLY
        partial = self.at("partial")
        begun = partial.stat().st_size if partial.exists() else 0  # its space is taken already
        if self.total > (shutil.disk_usage(self.folder).free + begun) / 2:
            return f"it takes {self.total / 1e9:.1f} GB, more than half of what is free"
        return None

    def done(self) -> bool:
        finished = self.at("npy")
        return finished.exists() and finished.stat().st_size == self.total and self.at("json").exists()

    def read(self, files: list[Path], workers: int) -> tuple[np.ndarray, dict[int, str]]:
        """The array and its bad rows; written first, by this process or by another, if they are not there."""
        if not self.done():
            with _writing(self.folder), self._locked():
                if not self.done():
                    self._write(files, workers)
        bad = {int(row): reason for row, reason in self._state()["bad"].items()}
        return np.load(self.at("npy"), mmap_mode="r"), dict(sorted(bad.items()))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One process at a time. The lock ends with the process, so a killed one leaves none behind."""
        with self.at("lock").open("a") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                log.info("waiting for the run that writes the image cache %s", self.at("npy"))
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def _write(self, files: list[Path], workers: int) -> None:
        others = [path for path in self.folder.glob("*.npy") if path != self.at("npy")]
        taken = sum(path.stat().st_size for path in others) / 1e9
        older = f" ({taken:.1f} GB of older ones are there too)" if others else ""
        log.info("writing the image cache %s, %.1f GB%s", self.at("npy"), self.total / 1e9, older)
        try:
            with self._opened() as descriptor:
                start = self._state()["rows"]
                rows = self._rows(files, descriptor, start, workers)
                for _ in reported(rows, "Caching images", len(files), start):
                    pass
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                self.at("partial").unlink(missing_ok=True)  # a part that cannot grow only fills the disk
            raise
        self.at("partial").replace(self.at("npy"))

    def _state(self) -> dict:
        state = self.at("json")
        return json.loads(state.read_text()) if state.exists() else {"rows": 0, "bad": {}}

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        """A descriptor of the partial file. All its space is taken now: a full disk is noticed at once."""
        partial = self.at("partial")
        resumed = partial.exists() and partial.stat().st_size == self.total
        if not resumed:
            self.at("json").unlink(missing_ok=True)  # before the file is there: it tells of another one
        with partial.open("r+b" if resumed else "wb") as stream:
            if not resumed:
                _allocate(stream.fileno(), self.total)
            _write_at(stream.fileno(), self.header, 0)
            yield stream.fileno()

    def _rows(self, files: list[Path], descriptor: int, start: int, workers: int) -> Iterator[None]:
        """Writes the rows from `start`, one for each step; what is recorded as done is on the disk."""
        bad = self._state()["bad"]

        def write(row: int) -> None:
            try:
                pixels = decode(files[row], self.shape[1])
            except BadImage as error:
                bad[row] = error.reason
            else:
                _write_at(descriptor, pixels.data, len(self.header) + row * self.row_bytes)

        with ThreadPoolExecutor(max(workers, 1)) as pool:
            for first in range(start, len(files), CHUNK):
                rows = range(first, min(first + CHUNK, len(files)))
                yield from pool.map(write, rows)
                os.fsync(descriptor)
                _write_whole(self.at("json"), json.dumps({"rows": rows.stop, "bad": bad}))


def _allocate(descriptor: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:  # macOS, where a full disk is noticed as the rows are written
        os.ftruncate(descriptor, size)


def _write_at(descriptor: int, data: bytes | memoryview, offset: int) -> None:
    if os.pwrite(descriptor, data, offset) != memoryview(data).nbytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
