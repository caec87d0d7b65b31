"""Images that stay in the memory of the device, and copies to it that do not wait."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.errors import UserError
from common.flags import flag

CHUNK = 512  # images of one copy
SHARE = 2  # images take at most one part in so many of the free memory: the rest is the model's


def resident_flag() -> Any:
    """Declare the field of `--resident`."""
    return flag(
        "auto",
        "keep images in the device's memory (the CPU's: depth, which has no cache): auto (where they take at most "
        "half of what is free), on, off",
        choices=("auto", "on", "off"),
        identity=False,
    )


def free_memory(device: torch.device) -> int:
    """Return the bytes of memory that are free on a device; elsewhere than on CUDA it is the computer's."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):  # not on Linux
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def fits(size: int, device: torch.device, resident: str) -> bool:
    """Return whether images of `size` bytes may stay in memory; raises UserError for "on" where they do not fit."""
    room = free_memory(device) // SHARE
    if resident == "on" and size > room:
        raise UserError(
            f"--resident on: the images take {size / 1e9:.1f} GB, more than half of what is free on {device} "
            f"({SHARE * room / 1e9:.1f} GB); use --resident off, or smaller images (--img_size)"
        )
    return resident != "off" and size <= room


def resident_images(images: np.ndarray | None, resident: str, device: torch.device) -> torch.Tensor | None:
    """Return cached images as a tensor on the device; None where they stay where they are.

    On the CPU `auto` leaves them there: a mapped file is in memory as far as there is room. Raises UserError
    for "on" without a cache, or where they do not fit.
    """
    if resident == "on" and images is None:
        raise UserError(
            "--resident on: needs the image cache; drop --cache off, or name a folder with --cache DIR"
        )
    idle = resident == "off" or (resident == "auto" and device.type != "cuda")
    if images is None or idle or not fits(images.nbytes, device, resident):
        return None
    found = torch.empty(images.shape, dtype=torch.uint8, device=device)
    for start in range(0, len(images), CHUNK):
        found[start : start + CHUNK] = torch.from_numpy(np.array(images[start : start + CHUNK]))
    return found


def onto(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return values on the device; a copy to a GPU waits in its queue, not here."""
    if device.type == "cuda" and values.device.type == "cpu":
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)
