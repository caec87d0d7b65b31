"""Balanced MSE: the squared error divided by the mass that the training labels put under the prediction.

Ren, Zhang, Yu and Liu, "Balanced MSE for Imbalanced Visual Regression", CVPR 2022. With predictions p, labels
y and a noise of variance s2 = sigma^2, the loss of a sample is (p - y)^2 / (2 s2) plus the logarithm of that
mass, in one of three estimates, and every loss is multiplied by 2 s2 without gradient:
- BMC: a softmax over the labels of the batch, logits -(p_i - y_j)^2 / (2 s2).
- GAI: a mixture of Gaussians fitted to the training labels (here once, by EM of scikit-learn).
- BNI: the training labels in bins, smoothed by the window of `--lds`.

What the published code does otherwise:
- It has no sign or floor for sigma, nor is sigma in its checkpoints. Here sigma enters as its square alone,
  which is at least 1e-12, and is in the checkpoint with the mixture or the bins.
- Its mixture depends on the order in which labels come. Here they are sorted, and the components too.
- Its loss is 2 s2 times the paper's negative log-likelihood (`--balanced_mse_variant paper`).
- BMC on depth has no recipe: (5e5)^2 logits. Here it acts on pixels drawn anew at every step.

Labels and predictions are in label units. Loss weights do not enter, as published. On depth maps the loss acts
on known pixels from the first bucket on (published: depth >= 0.7); bins below take the first bucket's share.
The authors have no run on AgeDB or STS-B.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from common.errors import UserError
from common.flags import POSITIVE, flag
from common.method import Method, Seen
from common.methods.label_density import first_bin
from common.methods.label_prior import bins_of, bmc_loss, bni_loss, gai_loss, mixture_of, variance_of
from common.methods.reweight import ReweightFlags
from common.settings import Running, Training
from common.task import Data

__all__ = ["BalancedMse", "bmc_loss", "bni_loss", "gai_loss"]
log = logging.getLogger("dir")


@dataclass(frozen=True)
class BalancedMseFlags:
    """Balanced MSE."""

    balanced_mse: str | None = flag(
        None, "criterion: Balanced MSE, with the prior of the batch, a mixture or bins",
        choices=("bmc", "gai", "bni"), switch=True,
    )  # fmt: skip
    balanced_mse_sigma: float = flag(
        10.0, "noise scale at first, in label units (its authors: 10 on age, 1 on depth)", low=POSITIVE
    )
    balanced_mse_rate: float = flag(
        1e-2, "learning rate of the noise scale, outside of --schedule; 0: fixed", low=0
    )
    balanced_mse_components: int = flag(
        8, "Gaussians of gai (its authors: 8 on age, 16 on depth)", low=1, when=lambda own: own.balanced_mse == "gai"
    )  # fmt: skip
    balanced_mse_pixels: int = flag(
        2048, "pixels that bmc draws from a batch of maps", low=2, when=lambda own: own.balanced_mse == "bmc"
    )
    balanced_mse_variant: str = flag(
        "published",
        "the loss as the code scales it, or the paper's likelihood",
        choices=("published", "paper"),
    )


class BalancedMse(Method):
    """Takes the place of the criterion; its noise scale is learned at a rate of its own, or fixed."""

    label = "Balanced MSE"
    paper = "Ren et al., Balanced MSE for Imbalanced Visual Regression, CVPR 2022"
    Flags = BalancedMseFlags
    roles = frozenset({"criterion"})
    order = 70
    scheduled = False

    def run_name(self) -> str:
        """Return the prior, the noise scale with its rate, and what is not the default."""
        own = self.flags
        more = f"_{own.balanced_mse_components}" if own.balanced_mse == "gai" else ""
        more += "" if own.balanced_mse_variant == "published" else f"_{own.balanced_mse_variant}"
        return f"_{own.balanced_mse}_{own.balanced_mse_sigma:g}_{own.balanced_mse_rate:g}{more}"

    def legend(self) -> tuple[str, ...]:
        """Return BMC, GAI or BNI."""
        return (self.flags.balanced_mse.upper(),)

    def describe(self) -> str:
        """Return the prior and the noise scale."""
        own = self.flags
        learned = f"learned at {own.balanced_mse_rate:g}" if own.balanced_mse_rate else "fixed"
        return f"Balanced MSE {own.balanced_mse}, noise {own.balanced_mse_sigma:g} {learned}"

    def prepare(self, data: Data) -> Data:
        """Refuse what has no prior; warn of loss weights, which have no effect."""
        size = self.settings[Training].batch_size
        if self.flags.balanced_mse == "bmc" and size == 1 and data.counts is None:
            raise UserError(
                "--balanced_mse bmc learns from the labels of a batch: --batch_size 1 must be 2 or more"
            )
        if data.train.weights is not None:
            log.warning("--balanced_mse takes no loss weights: those of the other flags do not enter it")
        return data

    def build(self, dim: int, data: Data) -> None:
        """Make the noise scale, and the mixture or the bins of the training labels."""
        own = self.flags
        sigma, self.rate = torch.tensor(own.balanced_mse_sigma), own.balanced_mse_rate or None
        self.sigma = nn.Parameter(sigma) if self.rate else nn.Buffer(sigma)
        self.bins, self.first = data.bins, first_bin(data)
        if own.balanced_mse == "gai":
            mixture = mixture_of(data, own.balanced_mse_components, fit=not self.settings[Running].evaluate)
            self.weights, self.means, self.variances = map(buffer, mixture)
        elif own.balanced_mse == "bni":
            shares = bins_of(data, self.settings[ReweightFlags], self.task.lds_border)
            self.centers, self.shares = map(buffer, shares)

    def losses(self, seen: Seen) -> Mapping[str, torch.Tensor]:
        """Return the mean loss of the batch's samples, or of its pixels from the first bucket on."""
        outputs, labels, _ = seen.known()
        preds, kind = self.task.in_label_units(outputs), self.flags.balanced_mse
        if seen.batch.targets.dim() > 2:
            counted = self.bins.index(labels) >= self.first
            preds, labels = preds[counted], labels[counted]
        if not len(labels):
            return {kind: preds.sum()}
        if kind == "gai":
            loss = gai_loss(preds, labels, self.sigma, self.weights, self.means, self.variances)
        elif kind == "bni":
            loss = bni_loss(preds, labels, self.sigma, self.centers, self.shares)
        else:
            loss = bmc_loss(*self.drawn(preds, labels), self.sigma)
        if self.flags.balanced_mse_variant == "paper":
            loss = loss / (2 * variance_of(self.sigma)).detach()
        return {kind: loss}

    def drawn(self, preds: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return all samples, or of more pixels than BMC can compare some that torch's generator draws."""
        number = self.flags.balanced_mse_pixels
        if labels.dim() == 2 or len(labels) <= number:
            return preds, labels
        rows = torch.randint(len(labels), (number,)).to(labels.device)
        return preds[rows], labels[rows]


def buffer(values: np.ndarray) -> nn.Buffer:
    """Return float32 values that the checkpoint keeps."""
    return nn.Buffer(torch.tensor(values, dtype=torch.float32))
