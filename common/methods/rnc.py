"""Rank-N-Contrast: an encoder trained to order features as labels, then a linear layer on it."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from common.errors import UserError
from common.flags import POSITIVE, flag
from common.method import Head, Method, Needs, Seen
from common.methods.reweight import ReweightFlags
from common.methods.rows import pooled_rows
from common.settings import Running, Settings, Training
from common.task import Task

if TYPE_CHECKING:
    from common.training.regressor import Regressor

log = logging.getLogger("dir")
PAPER = "Zha et al., Rank-N-Contrast: Learning Continuous Representations for Regression, NeurIPS 2023"


@dataclass(frozen=True)
class RncFlags:
    """Rank-N-Contrast, first stage."""

    rnc: bool = flag(
        False, "stage 1 of Rank-N-Contrast: train the encoder alone, without a head", switch=True
    )
    rnc_temperature: float = flag(2.0, "of feature distances", low=POSITIVE)


@dataclass(frozen=True)
class RncProbeFlags:
    """Rank-N-Contrast, second stage."""

    rnc_probe: bool = flag(
        False, "second stage of Rank-N-Contrast: a fresh head on the frozen encoder of --pretrained"
    )


def cosine_to(floor: float, epoch: int, epochs: int) -> float:
    """Return the published factor of the rate: a cosine that ends at `floor`, its first epoch already below 1."""
    return floor + (1 - floor) * (1 + math.cos(math.pi * (epoch + 1) / epochs)) / 2


def first_stage_factor(epoch: int, epochs: int) -> float:
    """Return the factor of the first stage's rate, which ends at a thousandth."""
    return cosine_to(0.1**3, epoch, epochs)


def second_stage_factor(epoch: int, epochs: int) -> float:
    """Return the factor of the second stage's rate, which ends at 0.008."""
    return cosine_to(0.2**3, epoch, epochs)


class Rnc(Method):
    """Trains the encoder so that of two samples the one nearer in label is the more similar.

    With the n = 2N rows of two views, label distances d_ij (L1) and s_ij = -|f_i - f_j| / t:
    L = 1 / (n (n - 1)) sum_i sum_(j != i) ( ln sum_(k != i, d_ik >= d_ij) exp(s_ik) - s_ij ).

    As published: no loss weights, batches of full size, a cosine schedule, the last epoch is kept, no head. The
    published sum is shifted by 0 only and underflows to -inf for features far apart; here each row is sorted
    once and has a running log-sum-exp, so that memory is O(n^2). A feature map is pooled over all places, and its
    label is the mean of the known ones; depth is ours. Transforms are those of the data set, not the published
    ones; where a data set has no augmentation, dropout alone tells the two views apart.
    """

    label = "RnC stage 1"
    paper = PAPER
    Flags = RncFlags
    roles = frozenset({"head", "criterion"})
    owns_head = True
    needs = Needs(views=2, drop_last=True, schedule=first_stage_factor, keep="last")

    @classmethod
    def complete(cls, settings: Settings, task: Task) -> Settings:
        """Raise UserError where a model without a head would be evaluated."""
        if settings[RncFlags].rnc and settings[Running].evaluate:
            raise UserError(
                "--rnc trains no head, so --evaluate has nothing to test; give --rnc_probe with it"
            )
        return settings

    def run_name(self) -> str:
        """Return its name with its temperature."""
        return f"_rnc_{self.flags.rnc_temperature:g}"

    def head(self, dim: int) -> Head | None:
        """Return None: the first stage trains no head."""
        return None

    def setup(self, regressor: Regressor) -> None:
        """Warn that weights do nothing here."""
        if self.settings[ReweightFlags].reweight not in (None, "none"):
            log.warning("RnC: loss weights do not enter the first stage")

    def losses(self, seen: Seen) -> Mapping[str, torch.Tensor]:
        """Return the loss over all rows of the batch."""
        rows, labels = pooled_rows(seen.features, seen.batch)
        return {self.name(): rank_n_contrast(rows, labels, self.flags.rnc_temperature)}


class RncProbe(Method):
    """Trains a fresh head on the frozen encoder of the first stage, which stays in eval mode.

    Published: SGD on L1 over a linear layer, a cosine schedule, the best epoch is kept. Other criteria and
    weights may be given.
    """

    label = "RnC"
    paper = PAPER
    Flags = RncProbeFlags
    roles = frozenset({"head"})
    order = 50
    needs = Needs(eval_encoder=True, schedule=second_stage_factor)

    @classmethod
    def name(cls) -> str:
        """Return a name of its own beside the first stage of this module."""
        return "rnc_probe"

    @classmethod
    def complete(cls, settings: Settings, task: Task) -> Settings:
        """Raise UserError where the first stage is missing."""
        if settings[RncProbeFlags].rnc_probe and not settings[Training].pretrained:
            raise UserError("--rnc_probe needs --pretrained CKPT, the checkpoint of its first stage (--rnc)")
        return settings

    def setup(self, regressor: Regressor) -> None:
        """Freeze the whole encoder."""
        regressor.encoder.requires_grad_(False)
        log.info("RnC: the encoder is frozen and in eval mode, a fresh head is trained")


def rnc_loss(features: torch.Tensor, labels: torch.Tensor, temperature: float = 2.0) -> torch.Tensor:
    """Return the loss of features `(N, 2, C)`, two views of each sample, with labels `(N,)` or `(N, d)`.

    Raises ValueError for features or labels of another shape.
    """
    if features.dim() != 3 or features.shape[1] != 2:
        raise ValueError(f"features {tuple(features.shape)} are not two views of each sample (N, 2, C)")
    if labels.dim() not in (1, 2) or len(labels) != len(features):
        raise ValueError(f"labels {tuple(labels.shape)} are not one for each of {len(features)} samples")
    return rank_n_contrast(
        features.transpose(0, 1).flatten(0, 1), labels.reshape(len(labels), -1).repeat(2, 1), temperature
    )


def rank_n_contrast(rows: torch.Tensor, labels: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return the loss of rows `(n, C)` with labels `(n, d)`; 0 for fewer than two rows."""
    if len(rows) < 2:
        return 0 * rows.sum()
    similar = -_others(torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")) / temperature
    near, order = (-_others(torch.cdist(labels, labels, p=1))).sort(dim=1)  # the farthest first
    similar = similar.gather(1, order)
    last_tie = torch.searchsorted(near, near, right=True) - 1  # equally far ones share one sum
    return (similar.logcumsumexp(1).gather(1, last_tie) - similar).mean()


def _others(square: torch.Tensor) -> torch.Tensor:
    """Return a matrix `(n, n)` without its diagonal, `(n, n - 1)`."""
    n = len(square)
    return square.flatten()[1:].view(n - 1, n + 1)[:, :-1].reshape(n, n - 1)
