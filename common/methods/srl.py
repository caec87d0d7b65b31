"""SRL: surrogate-driven representation learning, which lays the bins' centroids along a curve on the unit sphere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from common.fds import FDS
from common.flags import POSITIVE, flag
from common.method import Method, Passes, Seen
from common.methods.label_density import bin_counts
from common.methods.rows import column_of, drawn_rows, unit_rows
from common.task import Data

TERMS = ("srl_contrastive", "srl_enveloping", "srl_homogeneity")  # in logs, and their coefficients
Terms = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class SrlFlags:
    """SRL."""

    srl: bool = flag(False, "SRL: surrogate-driven representation learning", switch=True)
    srl_contrastive: float = flag(10.0, "coefficient of the contrastive term", low=0)
    srl_enveloping: float = flag(100.0, "coefficient of the enveloping term", low=0)
    srl_homogeneity: float = flag(0.01, "coefficient of the homogeneity term", low=0)
    srl_temperature: float = flag(
        0.3, "of the contrastive term", low=POSITIVE, when=lambda own: own.srl_variant != "paper"
    )
    srl_dim: int = flag(128, "dimension of the projection", low=1)
    srl_points: int = flag(2000, "points on the sphere that are to be enveloped", low=1)
    srl_momentum: float = flag(0.9, "of the stored surrogate", low=0, high=1)
    srl_distance_weights: bool = flag(False, "weigh the contrastive sum by the distance of bins")
    srl_variant: str = flag(
        "agedb", "whose published loss module, or the paper's formulas; sts-b has a class for each score",
        choices=("agedb", "imdb-wiki", "sts-b", "paper"),
    )  # fmt: skip
    srl_pixels: int = flag(1024, "known pixels drawn from a batch of maps", low=1)


class Srl(Method):
    """Adds three terms on a projection of the features that the head gets; the head reads them unprojected.

    With unit projections q_i and a unit surrogate c_k for each bin k = 0 … K - 1 (the batch's centroid or, where the
    batch has no such bin, the stored one without gradient), and points r_p drawn once on the sphere:

    - contrastive: mean_i ( logsumexp_k(q_i.c_k / t) - q_i.c_y(i) / t ), c without gradient,
    - enveloping: 1 - mean_p max_k r_p.c_k,
    - homogeneity: A sum_k c_k.c_(k+1) + 0.1 var_k(c_k.c_(k+1)).

    The projection is Linear-ReLU-Linear to unit length. Published training code exists for STS-B alone; the wiring on
    age is not known and taken from there, the defaults are AgeDB's flags. A is -1 in the AgeDB module and +1 in those
    of IMDB-WIKI and STS-B (`--srl_variant`), which pushes neighbours apart. The STS-B module makes a centroid of each
    distinct score, writes it to row int(score) and aims at the nearest of K points instead of the bin; with one
    score it fails, here it does not. `paper`: a sum of contrasts without temperature, the sum of
    |c_(k+1) - c_k|^2 (which A = -1 is half of, up to a constant), and regression alone in the first epoch.

    Bins go from the first of the data set to the last with a training label: 102 on AgeDB and 50 on STS-B, as
    published; on IMDB-WIKI ages from 120 share the last of 121 bins (published: 187). The stored surrogate
    is updated after each epoch by one more pass and is 0 in the first two, as published. A learned surrogate,
    the code's second variant, is not here. On depth maps, which are ours, pixels are drawn.
    """

    label = "SRL"
    paper = "Dong et al., Improving Deep Imbalanced Regression by Surrogate-driven Representation Learning, CVPR 2025"
    Flags = SrlFlags

    def run_name(self) -> str:
        """Return its name with its coefficients and its variant."""
        own = self.flags
        weights = "_".join(f"{getattr(own, name):g}" for name in TERMS)
        return f"_srl_{weights}" + ("" if own.srl_variant == "agedb" else f"_{own.srl_variant}")

    def build(self, dim: int, data: Data) -> None:
        """Make the projection, the points, and the stored surrogate, which is a table of means as FDS keeps."""
        own, width = self.flags, self.flags.srl_dim
        self.bins, self.number = data.bins, bins_in_use(data)
        self.projection = nn.Sequential(nn.Linear(dim, width), nn.ReLU(), nn.Linear(width, width))
        self.points = nn.Buffer(unit_rows(torch.randn(own.srl_points, width)))
        self.updates = nn.Buffer(torch.zeros((), dtype=torch.long))
        self.store = FDS(
            width, self.number, 0, ks=1, momentum=own.srl_momentum, bins=data.bins, empty=self.task.fds_empty,
            variant="released",
        )  # fmt: skip

    def losses(self, seen: Seen) -> Mapping[str, torch.Tensor]:
        """Return the three weighted terms; all are 0 in the first epoch of the paper's variant."""
        own = self.flags
        rows, labels = drawn_rows(seen.features, seen.batch, own.srl_pixels)
        projected = self.projection(rows)
        off = not len(rows) or (own.srl_variant == "paper" and not self.updates)
        terms = (0 * projected.sum(),) * 3 if off else self.terms(projected, labels)
        return {name: getattr(own, name) * term for name, term in zip(TERMS, terms, strict=True)}

    def terms(self, projected: torch.Tensor, labels: torch.Tensor) -> Terms:
        """Return the three terms of projected features `(n, C)` with labels `(n,)` by the chosen variant."""
        own, store, paper = self.flags, self.store, self.flags.srl_variant == "paper"
        target = classes = self.bins.index(labels).clamp(max=self.number - 1)
        if own.srl_variant == "sts-b":
            spread = torch.linspace(self.bins.low, self.bins.high, self.number, device=labels.device)
            classes, target = labels, (labels.unsqueeze(1) - spread).abs().argmin(1)
        return srl_terms(
            projected, classes, store.running_mean if paper else store.running_mean_last_epoch, self.points,
            1.0 if paper else own.srl_temperature, -1 if own.srl_variant == "agedb" else 1, target=target,
            distance_weights=own.srl_distance_weights, paper=paper,
        )  # fmt: skip

    def end_of_epoch(self, epoch: int, passes: Passes) -> None:
        """Update the stored surrogate from the unit projections of the training data."""
        for seen in passes("SRL surrogate"):
            rows, labels = drawn_rows(seen.features, seen.batch, self.flags.srl_pixels)
            self.store.collect(unit_rows(self.projection(rows)), labels)
        self.store.update_last_epoch_stats(int(self.updates))
        self.store.update(int(self.updates))
        self.updates.add_(1)


def bins_in_use(data: Data) -> int:
    """Return one more than the last bin with a training label."""
    return int(np.flatnonzero(bin_counts(data))[-1]) + 1


def srl_terms(
    features: torch.Tensor,
    bins: torch.Tensor,
    surrogate: torch.Tensor,
    points: torch.Tensor,
    temperature: float,
    homogeneity_sign: int = -1,
    *,
    target: torch.Tensor | None = None,
    distance_weights: bool = False,
    paper: bool = False,
) -> Terms:
    """Return (contrastive, enveloping, homogeneity) of features `(N, C)` in bins `(N,)`.

    The stored surrogate is `(K, C)`, the points are `(P, C)`. With a `target`, the bin that the contrast of each
    row aims at, distinct labels may take the place of bins. Raises ValueError for bins that do not fit.
    """
    bins = column_of(bins, len(features))
    if target is None:
        if len(bins) and not 0 <= int(bins.min()) <= int(bins.max()) < len(surrogate):
            raise ValueError(f"bins from {int(bins.min())} to {int(bins.max())} are not of {len(surrogate)}")
        target = bins
    rows = unit_rows(features)
    current = current_surrogate(rows, bins, surrogate.to(rows.dtype))
    logits = rows @ current.detach().T / temperature
    inner = logits
    if distance_weights:
        far = (target.unsqueeze(1) - torch.arange(len(current), device=target.device)).abs() + 1
        inner = logits + (far / far.max()).log()
    contrast = inner.logsumexp(1) - logits.gather(1, target.unsqueeze(1)).squeeze(1)
    enveloping = 1 - (points.to(rows.dtype) @ current.T).amax(1).mean()
    if paper:
        return contrast.sum(), enveloping, current.diff(dim=0).square().sum()
    near = (current[1:] * current[:-1]).sum(1)
    spread = 0.1 * near.var() if len(near) > 1 else 0
    return contrast.mean(), enveloping, homogeneity_sign * near.sum() + spread


def current_surrogate(rows: torch.Tensor, labels: torch.Tensor, stored: torch.Tensor) -> torch.Tensor:
    """Return the unit surrogate `(K, C)`: row int(label) is the centroid of the label, absent rows are the stored ones.

    Where several labels share a row the largest has it, but each gets its gradient, as published for scores.
    """
    values, which, count = labels.unique(return_inverse=True, return_counts=True)
    centres = rows.new_zeros(len(values), rows.shape[1]).index_add(0, which, rows) / count.unsqueeze(1)
    row = values.long().clamp(0, len(stored) - 1)
    has_row = torch.ones_like(row, dtype=torch.bool)
    has_row[:-1] = row[1:] != row[:-1]
    table = stored.index_copy(0, row[has_row], centres.detach()[has_row])
    return unit_rows(table.index_add(0, row, centres - centres.detach()))
