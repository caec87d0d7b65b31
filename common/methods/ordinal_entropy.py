"""Ordinal Entropy: label centres spread in proportion to label distance, samples pulled to their centre."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from common.flags import flag
from common.method import Method, Seen
from common.methods.rows import column_of, unit_rows

VARIANTS = ("published", "paper")


@dataclass(frozen=True)
class OrdinalEntropyFlags:
    """Ordinal Entropy."""

    ordinal_entropy: bool = flag(
        False, "Ordinal Entropy: spread label centres, tighten samples around them", switch=True
    )
    ordinal_entropy_weight: float = flag(1.0, "coefficient of tightness - diversity", low=0)
    ordinal_entropy_tightness: float = flag(1.0, "share of the tightness; 0: diversity alone", low=0)
    ordinal_entropy_variant: str = flag(
        "published", "label distances scaled by the batch and lone samples left out, or as the paper has it",
        choices=VARIANTS,
    )  # fmt: skip


class OrdinalEntropy(Method):
    """Adds `weight (tightness T - D)` to the losses, on the features that the head gets.

    With the centre c_u of the raw features of label u, p_u = c_u / |c_u| and q_i = z_i / |z_i|:

    - T is the mean of |q_i - p_y(i)| over samples whose label occurs more than once in the batch,
    - D is the mean of a_uv |p_u - p_v| over all pairs u < v of distinct labels, a_uv = (|u - v| - m) / M,
      where m and M are the smallest and the largest |u - v| of the batch.

    Raw labels are the classes, on STS-B too. Loss weights do not enter. Feature and label maps are reduced to a
    quarter of their size by nearest neighbour; the distinct labels of each map are its classes, and the
    loss is a mean over maps, as published for depth. There, only known pixels count; the published code takes
    depths above 0.001.

    The paper has a_uv = |u - v| and T over all samples (`--ordinal_entropy_variant paper`). The published code is
    NaN where all labels differ and fails where all are equal: an undefined term is 0 here. It finds lone
    samples by a distance of exactly 0, here they are counted.
    """

    label = "Ordinal Entropy"
    paper = "Zhang et al., Improving Deep Regression with Ordinal Entropy, ICLR 2023"
    Flags = OrdinalEntropyFlags

    def run_name(self) -> str:
        """Return its name with its coefficient."""
        variant = "_paper" if self.flags.ordinal_entropy_variant == "paper" else ""
        return f"_{self.name()}_{self.flags.ordinal_entropy_weight:g}{variant}"

    def losses(self, seen: Seen) -> Mapping[str, torch.Tensor]:
        """Return the weighted loss of the batch."""
        own, labels = self.flags, seen.batch.targets
        if seen.batch.valid is not None:
            labels = torch.where(seen.batch.valid, labels, torch.nan)
        loss = ordinal_entropy_loss(
            seen.features, labels,
            tightness=own.ordinal_entropy_tightness, variant=own.ordinal_entropy_variant,
        )  # fmt: skip
        return {self.name(): own.ordinal_entropy_weight * loss}


def ordinal_entropy_loss(
    features: torch.Tensor, labels: torch.Tensor, *, tightness: float = 1.0, variant: str = "published"
) -> torch.Tensor:
    """Return `tightness` x T - D, where an undefined term is 0.

    Features are `(N, C)` with labels `(N,)` or `(N, 1)`, or maps `(N, C, H, W)` with labels `(N, 1, H, W)`, NaN
    where unknown. Raises ValueError for labels that do not fit.
    """
    maps = len(features) if features.dim() == 4 else 1
    if features.dim() == 4:
        features, labels, owner = _quarter(features, labels)
    else:
        labels = column_of(labels, len(features))
        owner = torch.zeros(len(features), dtype=torch.long, device=features.device)
    near, far = _terms(features, labels, owner, maps, variant)
    return (tightness * near - far).mean()


def _quarter(features: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the known pixels of maps of a quarter of the size: features `(m, C)`, labels and maps `(m,)`."""
    size = [max(1, side // 4) for side in features.shape[2:]]
    small = F.interpolate(features, size=size)
    depth = F.interpolate(labels, size=size).flatten(1)
    owner, place = depth.isfinite().nonzero(as_tuple=True)
    return small.flatten(2)[owner, :, place], depth[owner, place], owner


def _terms(
    features: torch.Tensor, labels: torch.Tensor, owner: torch.Tensor, maps: int, variant: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return tightness and diversity of each map, `(maps,)`; its classes are its distinct labels."""
    values, rank = labels.unique(return_inverse=True)
    code, which, count = (owner * len(values) + rank).unique(return_inverse=True, return_counts=True)
    sums = features.new_zeros(len(code), features.shape[1]).index_add(0, which, features)
    centres = unit_rows(sums / count.unsqueeze(1))
    gap = torch.linalg.vector_norm(unit_rows(features) - centres[which], dim=1)
    shared = count[which] > 1  # the gap of a lone sample is 0, or rounding with a gradient of size 1
    counted = shared | (variant == "paper")
    total = features.new_zeros(2, maps).index_add(1, owner, torch.stack((gap * shared, counted.to(gap))))
    class_owner = code // max(len(values), 1)
    spread = _diversity(centres, values[code % max(len(values), 1)], class_owner, maps, variant)
    return total[0] / total[1].clamp(min=1), spread


def _diversity(
    centres: torch.Tensor, labels: torch.Tensor, owner: torch.Tensor, maps: int, variant: str
) -> torch.Tensor:
    """Return the diversity of the centres of each map, `(maps,)`, from centres in the order of the maps."""
    number = torch.bincount(owner, minlength=maps)
    most = int(number.max()) if len(owner) else 0
    if most < 2:
        return centres.sum() * centres.new_zeros(maps)
    place = torch.arange(len(owner), device=owner.device) - (number.cumsum(0) - number)[owner]
    padded = centres.new_zeros(maps, most, centres.shape[1]).index_put((owner, place), centres)
    value = labels.new_zeros(maps, most, 1).index_put((owner, place), labels.unsqueeze(1))
    there = torch.arange(most, device=owner.device) < number.unsqueeze(1)
    pair = (there.unsqueeze(1) & there.unsqueeze(2)).triu(1)
    apart = _distances(value)
    if variant == "published":
        least = apart.masked_fill(~pair, torch.inf).amin((1, 2), keepdim=True)
        most_apart = apart.masked_fill(~pair, 0).amax((1, 2), keepdim=True)
        apart = torch.where(pair, (apart - least) / torch.where(most_apart > 0, most_apart, 1.0), 0)
    total = (apart * _distances(padded) * pair).sum((1, 2))
    return total / pair.sum((1, 2)).clamp(min=1)


def _distances(rows: torch.Tensor) -> torch.Tensor:
    """Return the distances between the rows of each map, by the published formula."""
    square = rows.square().sum(2)
    product = rows @ rows.transpose(1, 2)
    return (square.unsqueeze(2) + square.unsqueeze(1) - 2 * product).clamp(min=1e-12).sqrt()
