"""Re-weighting by the label density, raw or smoothed by LDS (paper, sections 3.1 and 4.1, appendix B.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from common.errors import UserError
from common.flags import POSITIVE, flag
from common.lds import REWEIGHTS, SIGMA_KERNELS, bin_weights, sample_weights
from common.method import Method
from common.methods.kernel import KERNEL_HELP, KERNEL_SIZE, KERNEL_WIDTH, kernel_name, window_name
from common.methods.label_density import first_bin, pooled, spread
from common.settings import Settings
from common.task import Data, Task

SCHEMES = {"none": (), "sqrt_inv": ("SQINV",), "inverse": ("INV",)}  # as rows and legends call them


@dataclass(frozen=True)
class ReweightFlags:
    """Re-weighting and LDS."""

    reweight: str | None = flag(
        None,
        "loss weights from the label density (default: none, or with --lds the paper's scheme)",
        choices=REWEIGHTS,
    )
    lds: bool = flag(False, "label distribution smoothing")
    lds_kernel: str = flag(
        "gaussian", KERNEL_HELP, parse=kernel_name, metavar="KERNEL", when=lambda own: own.lds
    )
    lds_ks: int = flag(5, KERNEL_SIZE, when=lambda own: own.lds, low=1, odd=True)
    lds_sigma: float = flag(
        2.0, KERNEL_WIDTH, low=POSITIVE, when=lambda own: own.lds and own.lds_kernel in SIGMA_KERNELS
    )


class Reweight(Method):
    """Weights of the loss, from the inverse of the label density or of its square root; LDS smooths the density."""

    label = "LDS"
    paper = "Yang et al., Delving into Deep Imbalanced Regression, ICML 2021, section 3.1"
    Flags = ReweightFlags
    roles = frozenset({"weighting"})
    order = 30

    @classmethod
    def wanted(cls, settings: Settings) -> bool:
        """Return whether the loss has weights."""
        return settings[ReweightFlags].reweight not in (None, "none")

    @classmethod
    def complete(cls, settings: Settings, task: Task) -> Settings:
        """Let `--lds` alone mean the scheme of the paper's LDS rows."""
        own = settings[ReweightFlags]
        if own.reweight is None:
            return settings.with_(reweight=task.lds_reweight if own.lds else "none")
        if own.lds and own.reweight == "none":
            raise UserError("--lds smooths the density that --reweight divides by: drop --reweight none")
        return settings

    def run_name(self) -> str:
        """Return the window of LDS or else the scheme, as published."""
        own = self.flags
        if own.lds:
            return window_name("lds", own.lds_kernel, own.lds_ks, own.lds_sigma)
        return f"_{own.reweight}"

    def legend(self) -> tuple[str, ...]:
        """Return the scheme, and LDS where the density is smoothed."""
        return SCHEMES[self.flags.reweight] + (("LDS",) if self.flags.lds else ())

    def describe(self) -> str:
        """Return the scheme and the window of LDS."""
        own = self.flags
        smoothed = f", LDS {own.lds_kernel} {own.lds_ks}/{own.lds_sigma:g}" if own.lds else ""
        return f"re-weighting {own.reweight}{smoothed}"

    def prepare(self, data: Data) -> Data:
        """Weight the training split: each sample or, where labels are dense, each bin."""
        own = self.flags
        kwargs = {
            "reweight": own.reweight, "lds": own.lds, "lds_kernel": own.lds_kernel, "lds_ks": own.lds_ks,
            "lds_sigma": own.lds_sigma, "border": self.task.lds_border, "clip_counts": self.task.clip_counts,
        }  # fmt: skip
        if data.counts is not None:
            weights = dense_weights(data.counts, first_bin(data), kwargs)
        else:
            assert data.train.labels is not None
            weights = sample_weights(data.train.labels, data.bins, **kwargs)
        return replace(data, train=data.train.weighted(weights))


def dense_weights(counts: np.ndarray, first: int, kwargs: Mapping[str, Any]) -> np.ndarray:
    """Return the loss weight of each bin, float32 `(B,)`; bins below `first` count as and take its weight."""
    return spread(bin_weights(pooled(counts, first), **kwargs), first).astype(np.float32)
