"""Every image decoded and resized once, into one file that is mapped into memory.

A cache is `KEY.npy`, uint8 `(N, S, S, 3)` or of another item shape, and `KEY.json`: how many rows are on the disk,
their checksum, and the reason of each unreadable one. `KEY.checked` says which state of the file was checked. It is
written as `KEY.partial`, then renamed; one lock for the folder makes one process write while others wait. Images are
height x width x channel, as Pillow gives them: another order was no faster to read. Threads decode: Pillow lets
go of the interpreter lock, and processes were slower.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import itertools
import math
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from common.errors import UserError
from common.files import read_json, write_atomically, write_json
from common.images.cache_key import cache_key, state_of
from common.images.decode import (
    BadImage,
    decode,
    in_threads,
    missing,
    reported,
    unreadable,
)
from common.report import log

CHUNK = 512  # images between two records of progress, 77 MB at 224: what a kill can cost
READ_ONLY = "the folder cannot be written to"
WAY_OUT = "use --cache off, or --cache DIR with a folder on a disk that has room"
Found = tuple[np.ndarray, dict[str, Any]]  # the mapped array, and the content of KEY.json
Shape = tuple[int, ...]


class Rows(NamedTuple):
    """The rows of an array: the files they are from, and how `workers` threads read them."""

    root: Path
    paths: list[str]
    shape: Shape  # of the array
    read: Callable[[Path], np.ndarray]  # raises BadImage
    workers: int

    def files(self) -> list[Path]:
        """Return the path of each file."""
        return [self.root / path for path in self.paths]


def cached_images(
    root: Path, paths: list[str], size: int | Shape, cache: str, *, bad_images: str = "error", workers: int = 4,
    read: Callable[..., np.ndarray] | None = None,
) -> tuple[np.ndarray | None, dict[int, str]]:  # fmt: skip
    """Return the images `root/path` as one memory-mapped array, and for each unreadable row the reason.

    The array is uint8 `(N, size, size, 3)`, or `(N, *size)` as another `read(path, size)` gives it; zero in bad
    rows, or None without a cache. `cache` is "off", "auto" (`root/.cache`, where the images take at most half of
    the free disk) or a folder. `workers` threads decode. With `bad_images="skip"` the bad rows are the caller's to
    drop. Without a cache only "skip" looks into every file beforehand; "error" looks for missing ones, and
    `decode` names the rest.

    Raises UserError where `bad_images` is "error" and there are bad rows (after a look at every file), and
    for a cache that cannot be written or does not match its checksum.
    """
    item = (size, size, 3) if isinstance(size, int) else size
    reader = partial(read or decode, size=size)  # type: ignore[arg-type]
    rows = Rows(root, paths, (len(paths), *item), reader, workers)
    base = None if cache == "off" else _place(root, paths, rows.shape, cache, workers)
    if base is not None:
        images, bad = _read(base, rows)
    else:
        files = rows.files()
        images, bad = None, unreadable(files, workers, reader) if bad_images == "skip" else missing(files)
    if bad:
        named = [f"{paths[row]} {reason}" for row, reason in itertools.islice(bad.items(), 5)]
        named += [f"and {len(bad) - 5} more"] if len(bad) > 5 else []
        report = f"{root}: {len(bad)} of {len(paths)} images cannot be used: {', '.join(named)}"
        if bad_images == "error":
            raise UserError(f"{report}; replace them, or leave them out with --bad_images skip")
        log.warning("%s; left out", report)
    return images, bad


def _place(root: Path, paths: list[str], shape: Shape, cache: str, workers: int) -> Path | None:
    """Return `FOLDER/KEY` of the cache of these images; None where `auto` finds no room for it."""
    auto = cache == "auto"
    folder = root / ".cache" if auto else Path(cache).expanduser()
    with _writing(folder):
        if not auto or os.access(root, os.W_OK):
            folder.mkdir(parents=True, exist_ok=True)
    obstacle = READ_ONLY
    if folder.is_dir():
        size = shape[1] if len(shape) == 4 else shape[1:]  # an image goes by its side
        base, needed = folder / cache_key(root, paths, size, folder, workers), math.prod(shape)
        if not auto or _open(base, shape):
            return base
        if os.access(folder, os.W_OK):
            begun = sum(part.stat().st_size for part in folder.glob(f"{base.name}.partial"))
            if needed < (shutil.disk_usage(folder).free + begun) / 2:
                return base
            obstacle = f"it takes {needed / 1e9:.1f} GB, more than half of what is free"
    log.info("no image cache in %s: %s; images are decoded each time (or --cache DIR)", folder, obstacle)
    return None


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{folder}: cannot write the image cache ({error.strerror}); {WAY_OUT}") from error


def _open(base: Path, shape: Shape) -> Found | None:
    """Return the finished cache; None where one of its files is missing, cut or damaged."""
    try:
        images, facts = np.load(f"{base}.npy", mmap_mode="r"), _facts(base)
    except (OSError, ValueError, EOFError):
        return None
    return (images, facts) if images.shape == shape and facts["rows"] == len(images) else None


def _facts(base: Path) -> dict[str, Any]:
    """Return the content of KEY.json; that of a cache without rows if it is damaged."""
    saved: Any = read_json(Path(f"{base}.json"))
    with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError):
        bad = {int(row): str(reason) for row, reason in saved["bad"].items()}
        return {"rows": int(saved["rows"]), "crc32": int(saved["crc32"]), "bad": bad}
    return {"rows": 0, "crc32": 0, "bad": {}}


def _read(base: Path, rows: Rows) -> tuple[np.ndarray, dict[int, str]]:
    """Return the array and its bad rows; if they are not there, this process or another writes them first."""
    npy, found = Path(f"{base}.npy"), _open(base, rows.shape)
    if found is None:
        with _writing(base.parent), (base.parent / "cache.lock").open("a") as lock:
            try:  # the lock ends with its process, so a killed one leaves none behind
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                log.info("waiting for the run that writes the image cache %s", npy)
                fcntl.flock(lock, fcntl.LOCK_EX)
            found = _open(base, rows.shape) or _write(base, rows)
    _verify(npy, state_of(npy), found[1]["crc32"])
    return found[0], found[1]["bad"]


def _write(base: Path, rows: Rows) -> Found:
    partial, others = Path(f"{base}.partial"), list(base.parent.glob("*.npy"))
    for leftover in {*base.parent.glob("*.partial"), *base.parent.glob(".*.tmp")} - {partial}:
        leftover.unlink(missing_ok=True)  # of killed commands: this process has the lock
    taken = (
        f" ({sum(file.stat().st_size for file in others) / 1e9:.1f} GB of others are there)" if others else ""
    )
    log.info("writing the image cache %s.npy, %.1f GB%s", base, math.prod(rows.shape) / 1e9, taken)
    if not partial.exists():
        Path(f"{base}.json").unlink(missing_ok=True)  # it tells of an array that is gone
    facts = _facts(base)
    try:
        with partial.open("r+b" if facts["rows"] else "wb") as stream:
            _fill(stream, facts, base, rows)
    except OSError:
        partial.unlink(missing_ok=True)  # a part that cannot grow only fills the disk
        raise
    partial.replace(f"{base}.npy")
    return np.load(f"{base}.npy", mmap_mode="r"), facts


def _fill(stream: Any, facts: dict[str, Any], base: Path, rows: Rows) -> None:
    """Write the rows in order from where a killed command stopped; record what is on the disk."""

    def read(file: Path) -> np.ndarray | BadImage:
        try:
            return rows.read(file)
        except BadImage as error:
            return error

    files, shape, workers = rows.files(), rows.shape, rows.workers
    _allocate(stream.fileno(), math.prod(shape))
    np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
    start, blank = facts["rows"], np.zeros(shape[1:], np.uint8)
    stream.seek(start * blank.nbytes, os.SEEK_CUR)
    chunks = (in_threads(read, files[row : row + CHUNK], workers) for row in range(start, len(files), CHUNK))
    for row in reported(itertools.chain.from_iterable(chunks), "Caching images", len(files), start):
        if isinstance(row, BadImage):
            facts["bad"][facts["rows"]] = row.reason
        pixels = (blank if isinstance(row, BadImage) else row).data
        stream.write(pixels)
        facts |= {"rows": facts["rows"] + 1, "crc32": zlib.crc32(pixels, facts["crc32"])}
        if facts["rows"] % CHUNK == 0 or facts["rows"] == len(files):
            stream.flush()
            os.fsync(stream.fileno())
            write_json(Path(f"{base}.json"), facts)


def _allocate(descriptor: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):  # a full disk is noticed at once; on macOS as the rows are written
        os.posix_fallocate(descriptor, 0, size)


@functools.cache  # once in a process for each state of the file
def _verify(file: Path, state: str, checksum: int) -> None:
    """Raise UserError if the pixels have changed since they were written.

    They are read once for each state of the file, noted in `KEY.checked`: 30 GB in memory take 20 s.
    """
    note = file.with_suffix(".checked")
    if note.exists() and note.read_text(errors="replace") == f"{state} {checksum}":
        return
    images, crc = np.asarray(np.load(file, mmap_mode="r")), 0
    for row in reported(images, "Checking the image cache", len(images)):
        crc = zlib.crc32(row.data, crc)
    if crc != checksum:
        raise UserError(f"{file}: is damaged (its checksum is another); delete it, and it is written again")
    with contextlib.suppress(OSError):  # a finished cache can be read where nothing can be written
        write_atomically(note, f"{state} {checksum}")
