"""Dist Loss: the sorted predictions of a batch follow the labels that a batch should contain."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from common.flags import POSITIVE, flag
from common.loss import LOSSES
from common.method import Method, Needs, Seen
from common.methods.criterion import CriterionFlags, make_criterion
from common.methods.outputs import refuse_own_heads
from common.methods.pseudo_labels import label_density, label_grid, pseudo_labels
from common.methods.rows import drawn_pixels
from common.methods.softsort import ascending, soft_sort
from common.settings import Training
from common.task import Data

if TYPE_CHECKING:
    from common.training.regressor import Regressor


@dataclass(frozen=True)
class DistLossFlags:
    """Dist Loss."""

    dist_loss: bool = flag(
        False, "Dist Loss: pull the sorted predictions of a batch to the label distribution", switch=True
    )
    dist_loss_weight: float = flag(1.0, "coefficient of the sorted predictions' loss", low=0)
    dist_loss_strength: float = flag(
        0.1, "of the soft sort: neighbours that differ by less than its inverse are sorted exactly", low=POSITIVE,
    )  # fmt: skip
    dist_loss_bandwidth: float = flag(0.5, "of the label density, in standard deviations", low=POSITIVE)
    dist_loss_min: float | None = flag(None, "first label of the density (default: of the bins)")
    dist_loss_max: float | None = flag(None, "last label of the density (default: of the bins)")
    dist_loss_step: float | None = flag(
        None, "between labels of the density (default: width of a bin)", low=POSITIVE
    )
    dist_loss_pixels: int = flag(1024, "known pixels drawn from a batch of maps", low=1)
    dist_loss_variant: str = flag(
        "published", "loss weights multiply sorted predictions in the order of the batch, or each its own (aligned)",
        choices=("published", "aligned"),
    )  # fmt: skip


class DistLoss(Method):
    """Adds `weight x mean_i w_i l(sorted_i, pseudo_i)` to the criterion l of `--loss`.

    The pseudo-labels are B labels in the proportions of a Gaussian density estimate over the training labels,
    ascending. The sort is differentiable (Blondel et al., Fast Differentiable Sorting and Ranking, 2020).

    As published: batches of full size, and w_i is the weight of the i-th sample of the batch, not that of the
    i-th smallest prediction (`--dist_loss_variant aligned`). A batch of another size takes the pseudo-labels at
    evenly spaced ranks. Predictions and pseudo-labels are scaled as the criterion's, on STS-B to label / 5; the
    published code is for ages. On depth maps, which are ours, pixels are drawn, and the density is that of the counts.
    The published `--unweighted` is inverted; here weights act where there are any.
    """

    label = "Dist Loss"
    paper = "Nie et al., Dist Loss: Enhancing Regression in Few-Shot Region through Distribution Distance, ICLR 2025"
    Flags = DistLossFlags
    needs = Needs(drop_last=True)

    def run_name(self) -> str:
        """Return its name with its coefficient and its strength."""
        own = self.flags
        aligned = "_aligned" if own.dist_loss_variant == "aligned" else ""
        return f"_{self.name()}_{own.dist_loss_weight:g}_{own.dist_loss_strength:g}{aligned}"

    def prepare(self, data: Data) -> Data:
        """Draw up the pseudo-labels; raises UserError for labels without a density."""
        own = self.flags
        grid = label_grid(data.bins, own.dist_loss_min, own.dist_loss_max, own.dist_loss_step)
        dense = data.counts is not None
        labels = data.bins.centers if dense else np.asarray(data.train.labels, np.float64)
        size = own.dist_loss_pixels if dense else self.settings[Training].batch_size
        density = label_density(labels, grid, own.dist_loss_bandwidth, data.counts)
        self.labels_wanted = pseudo_labels(grid, density, size)
        return data

    def build(self, dim: int, data: Data) -> None:
        """Keep the pseudo-labels with the model; they follow from the data, so no checkpoint holds them."""
        pseudo = torch.as_tensor(getattr(self, "labels_wanted", np.zeros(1)), dtype=torch.float32)
        self.pseudo = nn.Buffer(self.task.learned(pseudo[:, None]), persistent=False)
        chosen = self.settings[CriterionFlags]
        self.criterion = make_criterion(chosen.loss, chosen.huber_beta, self.task.focal_beta)

    def setup(self, regressor: Regressor) -> None:
        """Raise UserError beside a method without a head or with one of several outputs."""
        refuse_own_heads(regressor, self, "one prediction of each sample is sorted")

    def losses(self, seen: Seen) -> Mapping[str, torch.Tensor]:
        """Return the weighted loss of the sorted predictions."""
        assert seen.outputs is not None
        preds, weights = seen.outputs, seen.batch.weights
        if preds.dim() == 4:
            drawn = drawn_pixels(seen.batch, self.flags.dist_loss_pixels)
            preds = preds.flatten(1)[drawn][:, None]
            weights = None if weights is None else weights.flatten(1)[drawn][:, None]
        if weights is not None and self.flags.dist_loss_variant == "aligned":
            weights = weights[ascending(preds.detach().flatten())]
        if not len(preds):
            return {self.name(): 0 * seen.outputs.sum()}
        ranks = (torch.arange(len(preds), device=preds.device) + 0.5) * (len(self.pseudo) / len(preds))
        sorted_preds = soft_sort(preds.flatten(), self.flags.dist_loss_strength)[:, None]
        loss = self.criterion(sorted_preds, self.pseudo[ranks.long()].to(preds.dtype), weights=weights)
        return {self.name(): self.flags.dist_loss_weight * loss}


def dist_loss(
    preds: torch.Tensor,
    targets: torch.Tensor,
    pseudo_labels: torch.Tensor,
    *,
    weights: torch.Tensor | None = None,
    distribution_weight: float = 1.0,
    regularization_strength: float = 1.0,
    loss_fn: str = "l1",
) -> torch.Tensor:
    """Return the loss of the predictions plus that of the sorted ones, all `(n, 1)`; weights as published.

    Raises ValueError for shapes that differ.
    """
    criterion: Callable[..., torch.Tensor] = LOSSES[loss_fn]
    plain = criterion(preds, targets, weights=weights)
    sorted_preds = soft_sort(preds.flatten(), regularization_strength).view_as(preds)
    return distribution_weight * criterion(sorted_preds, pseudo_labels, weights=weights) + plain
