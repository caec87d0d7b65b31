"""What methods share that smooth over label bins: the flags of a kernel, its buckets, its part of a run's name."""

from __future__ import annotations

import argparse
import difflib
from typing import TYPE_CHECKING

from common.errors import UserError
from common.lds import KERNELS, PUBLISHED_KERNELS, SIGMA_KERNELS

if TYPE_CHECKING:
    from common.task import Data

KERNEL_HELP = (
    f"{', '.join(PUBLISHED_KERNELS)} as published, or a window of scipy.signal.windows: "
    f"{', '.join(KERNELS[len(PUBLISHED_KERNELS) :])}"
)
KERNEL_SIZE = "kernel size in bins, odd (the paper's; the published age code has 9 and 5)"
KERNEL_WIDTH = "kernel sigma in bins (the paper's; the published age code has 1)"


def kernel_name(text: str) -> str:
    """Return the name of a kernel, as an argparse type."""
    if text in KERNELS:
        return text
    from scipy.signal import windows  # slow to import, and a known name needs none

    near = difflib.get_close_matches(text, KERNELS, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    if text in windows.__all__:
        hint = "it needs a parameter of its own or dips below 0; "
    raise argparse.ArgumentTypeError(f"invalid choice: {text!r} ({hint}choose from {', '.join(KERNELS)})")


def window_name(method: str, kernel: str, ks: int, sigma: float) -> str:
    """Return the kernel's part of a run's name, composed as published: `_lds_gau_5_2`."""
    short = kernel[:3] if kernel in PUBLISHED_KERNELS else kernel
    return f"_{method}_{short}_{ks}" + (f"_{sigma:g}" if kernel in SIGMA_KERNELS else "")


def buckets_of(data: Data, option: str, ks: int) -> tuple[int, int]:
    """Return the first bin with feature statistics, and one past the last.

    Raises UserError for a kernel that is wider than these buckets can reflect.
    """
    first, last = data.buckets or (0, data.bins.num)
    if last - first <= ks // 2:
        raise UserError(
            f"{option} {ks}: is too wide for {last - first} buckets, from --bucket_start {first} to --bucket_num {last}"
        )
    return first, last
