"""Label distribution smoothing (paper, section 3.1, eq. 1): loss weights from a smoothed label density."""

from __future__ import annotations

from typing import Any, Literal, cast

import numpy as np

from common.bins import Bins

PUBLISHED_KERNELS = ("gaussian", "triang", "laplace")
# Windows of scipy that need no parameter of their own, or take sigma for it. Not flattop: it dips below 0,
# and a density must not.
KERNELS = PUBLISHED_KERNELS + (
    "barthann", "bartlett", "blackman", "blackmanharris", "bohman", "boxcar", "cosine", "exponential",
    "general_gaussian", "hamming", "hann", "lanczos", "nuttall", "parzen", "taylor", "tukey",
)  # fmt: skip
SIGMA_KERNELS = ("gaussian", "laplace", "exponential", "general_gaussian")
Border = Literal["reflect", "constant", "nearest", "mirror", "wrap"]
REWEIGHTS = ("none", "sqrt_inv", "inverse")


def get_lds_kernel_window(kernel: str, ks: int, sigma: float) -> np.ndarray:
    """The symmetric kernel k(y, y') over `ks` neighbouring bins, float64 `(ks,)`, its maximum 1.

    The published Gaussian is scipy's filter run on an impulse of length `ks`, whose border reflects: wider
    than a true Gaussian (5/2 is .858 .946 1 .946 .858). It is what every number of the paper was made with.
    The other names are windows of `scipy.signal.windows` at their defaults, some of them 0 at both ends;
    `sigma`, in bins, is the tau of exponential and the sig of general_gaussian with p = 1, a true Gaussian.

    Raises ValueError for an unknown kernel, an even size or, where it matters, a sigma that is not positive.
    """
    if kernel not in KERNELS:
        raise ValueError(f"kernel {kernel!r} is none of {', '.join(KERNELS)}")
    if ks < 1 or ks % 2 == 0:
        raise ValueError(f"kernel size {ks} is not a positive odd number")
    if kernel in SIGMA_KERNELS and sigma <= 0:
        raise ValueError(f"kernel sigma {sigma} is not positive")
    from scipy.ndimage import gaussian_filter1d  # seconds to import, and names of kernels need none
    from scipy.signal import windows

    if kernel == "gaussian":
        impulse = (np.arange(ks) == ks // 2).astype(np.float64)
        window = gaussian_filter1d(impulse, sigma=sigma)
    elif kernel in ("laplace", "exponential"):
        window = np.exp(-np.abs(np.arange(ks) - ks // 2) / sigma)
    elif kernel == "general_gaussian":
        window = windows.general_gaussian(ks, p=1, sig=sigma)
    else:
        window = getattr(windows, kernel)(ks).clip(min=0)  # rounding leaves some ends at -1e-17
    return window / window.max()


def smooth_counts(counts: np.ndarray, window: np.ndarray, border: str = "constant") -> np.ndarray:
    """The effective label density (eq. 1): `counts` `(B,)` convolved with `window`, in the type of `counts`.

    Integer counts give truncated integers, as in the published code; `border` is scipy's mode.
    """
    from scipy.ndimage import convolve1d  # slow to import

    return convolve1d(counts, weights=window, mode=cast(Border, border))


def bin_weights(
    counts: np.ndarray,
    *,
    reweight: str,
    lds: bool = False,
    lds_kernel: str = "gaussian",
    lds_ks: int = 5,
    lds_sigma: float = 2,
    clip_counts: tuple[int, int] | None = None,
    border: str = "constant",
) -> np.ndarray:
    """The loss weight of each bin, float64 `(B,)`, scaled so that its mean over the counted samples is 1.

    In the published order: counts `(B,)`, then their square root (`sqrt_inv`) or a clip to `clip_counts`
    (`inverse`), then LDS with `border`, then the inverse (section 3.1 and appendix B.1). A bin without a
    sample weighs 0 unless its neighbours give it a density. Raises ValueError for an unknown scheme.
    """
    if reweight not in REWEIGHTS:
        raise ValueError(f"reweight {reweight!r} is none of {', '.join(REWEIGHTS)}")
    if reweight == "none":
        if lds:
            raise ValueError("LDS smooths the density that re-weighting divides by: choose a reweight scheme")
        return np.ones(len(counts))
    density = np.sqrt(counts) if reweight == "sqrt_inv" else np.asarray(counts)
    if reweight == "inverse" and clip_counts is not None:
        density = np.clip(density, *clip_counts)
    if lds:
        density = smooth_counts(density, get_lds_kernel_window(lds_kernel, lds_ks, lds_sigma), border)
    weights = np.divide(1.0, density, out=np.zeros(len(counts)), where=density > 0)
    return weights * (np.sum(counts) / np.dot(counts, weights))


def sample_weights(labels: np.ndarray, bins: Bins, **how: Any) -> np.ndarray:
    """The loss weight of each training sample, float32 `(N,)`, mean 1: that of its bin (`bin_weights`)."""
    return bin_weights(bins.counts(labels), **how)[bins.index(labels)].astype(np.float32)
