"""Decode one image file, find the bad ones of a list, and read one batch ahead."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from common.errors import RunFailed, UserError
from common.report import Progress

if TYPE_CHECKING:
    from common.task import Draw  # loads torch, which preparing data needs not

S = TypeVar("S")
T = TypeVar("T")

# These errors say that a file is bad. Any other errno (too many open files, a lost network disk) is no fault
# of the image, and must not make `--bad_images skip` drop it.
FILE_ERRNOS = {None, errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.EACCES, errno.ELOOP, errno.ENAMETOOLONG}
IRREGULAR = "is a folder, a pipe or a device, not a file"


class BadImage(UserError):
    """An unreadable image: `reason` says why, the message names the file and the way out."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}; replace the file, or leave it out with --bad_images skip")
        self.reason = reason


def decode(path: Path, size: int) -> np.ndarray:
    """Return the image in RGB, resized as torchvision's Resize((size, size)) does: uint8 `(size, size, 3)`.

    EXIF rotation is not applied, as in the published code. Raises BadImage where the file is missing,
    truncated or no image, and RunFailed where the machine failed to read it.
    """
    with reading(path), Image.open(path) as image:
        return np.asarray(_rgb(image).resize((size, size), Image.Resampling.BILINEAR))


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever a reader raises on bad bytes into BadImage, and what the machine failed at into RunFailed."""
    if problem(path) == IRREGULAR:
        raise BadImage(path, IRREGULAR)
    try:
        yield
    except (MemoryError, UserError):
        raise
    except UnidentifiedImageError as error:
        raise BadImage(path, "is not an image") from error
    except FileNotFoundError as error:
        raise BadImage(path, "is missing") from error
    except Exception as error:  # readers raise all sorts
        if isinstance(error, OSError) and error.errno not in FILE_ERRNOS:
            raise RunFailed(f"{path}: {error}") from error
        raise BadImage(path, f"cannot be read ({error})") from error


def _rgb(image: Image.Image) -> Image.Image:
    """Convert any mode to 8-bit RGB; 16-bit grey keeps its high byte, which `convert` would clip to white."""
    if image.mode == "I" or image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # the same pixels without Pillow's warning
    return image.convert("RGB")


def file_stat(file: Path | str) -> os.stat_result | None:
    """Return the status of a file; None where there is no such file, or the name cannot be one."""
    try:
        return os.stat(file)  # noqa: PTH116 - 200,000 paths as text take a second, as Path three more
    except (OSError, ValueError):
        return None


def problem(file: Path) -> str | None:
    """Return why a path is no file that can be opened; a pipe would hang whoever opens it."""
    found = file_stat(file)
    if found is None:
        return "is missing"
    return None if stat.S_ISREG(found.st_mode) else IRREGULAR


def missing(files: list[Path]) -> dict[int, str]:
    """Return the rows without a file, each with the reason as BadImage gives it; no file is opened."""
    return {row: reason for row, file in enumerate(files) if (reason := problem(file))}


def unreadable(
    files: list[Path], workers: int, read: Callable[[Path], object] | None = None
) -> dict[int, str]:
    """Return the rows of the files that do not decode, with the reasons; `workers` threads read them all."""

    def reason(file: Path) -> str | None:
        try:
            decode(file, 8) if read is None else read(file)
        except BadImage as error:
            return error.reason
        return None

    reasons = reported(in_threads(reason, files, workers), "Checking images", len(files))
    return {row: found for row, found in enumerate(reasons) if found}


def in_threads(function: Callable[[S], T], items: Iterable[S], workers: int) -> Iterator[T]:
    """Yield the function of each item, in order, from `workers` threads; left early, it begins no other."""
    pool = ThreadPoolExecutor(max(workers, 1))
    try:
        yield from pool.map(function, items)
    finally:
        pool.shutdown(cancel_futures=True)


def reported(items: Iterable[T], what: str, total: int, start: int = 0) -> Iterator[T]:
    """Yield the items under a progress bar that begins at `start` of `total`."""
    with Progress(total, "image", what, start=start) as progress:
        for item in items:
            yield item
            progress.advance(1)


def prefetch(reader: Executor, read: Callable[[Draw], T], draws: Iterable[Draw]) -> Iterator[tuple[Draw, T]]:
    """Yield each draw with what `read` gives for it, in order; the next one is read meanwhile."""
    waiting: tuple[Draw, Future[T]] | None = None
    for draw in draws:
        following = draw, reader.submit(read, draw)
        if waiting:
            yield waiting[0], waiting[1].result()
        waiting = following
    if waiting:
        yield waiting[0], waiting[1].result()
