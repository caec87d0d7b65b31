"""RankSim: the order of samples by feature similarity shall be their order by label distance.

Gong, Mori and Tung, "RankSim: Ranking Similarity Regularization for Deep Imbalanced Regression", ICML 2022.
Of each distinct label in a batch one sample is kept. With S the cosine similarities of the M kept features and
rk(a) the place of each entry of a, sorted from largest to smallest, divided by M,

    L = sum_i mean_j (rk(S_i)_j - rk(-|y_i - y|)_j)^2.

rk is a step function. Its gradient for an incoming gradient g is that of Blackbox Combinatorial Solvers
(Vlastelica et al., ICLR 2020): -(rk(a) - rk(a + lambda g)) / (lambda + 1e-8). The weight gamma of the loss is
part of g, so the gradient is not linear in gamma.

What the published code does otherwise:
- Ties: the age code sorts by an unstable sort, so ranks of tied labels depend on the device. Here as in its
  STS-B code: ascending and stable, then reversed, so of equal entries the later one has the better place.
- It draws the kept samples from Python's global generator, here from torch's.
- There a loss scaler would act inside rk's gradient; here whatever scales the loss later scales the gradient.
- A row of zeros gets a gradient of 1e11 there, none here.
- The paper's ranks are drawn as 1 to M (`paper`); the code divides them by M (`published`, the default).

The features are those after FDS; loss weights do not enter. Of depth maps a row is an image: its flattened map
and its mean known depth. The authors have no depth run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from common.errors import UserError
from common.flags import POSITIVE, flag
from common.method import Method, Seen
from common.methods.rows import rows_of, unit_rows
from common.settings import Settings, Training
from common.task import Task

VARIANTS = ("published", "paper")


@dataclass(frozen=True)
class RanksimFlags:
    """RankSim."""

    ranksim: bool = flag(False, "regularise features: RankSim", switch=True)
    ranksim_weight: float = flag(100.0, "gamma, of its loss (its authors: 100 on age, 3e-4 on STS-B)", low=0)
    ranksim_interpolation: float = flag(2.0, "lambda, of the gradient of ranks", low=POSITIVE)
    ranksim_variant: str = flag(
        "published", "ranks divided by their number, or as the paper draws them", choices=VARIANTS
    )


class RankSim(Method):
    """Adds the loss between the ranks of feature similarities and those of label distances."""

    label = "RankSim"
    paper = "Gong et al., RankSim, ICML 2022"
    Flags = RanksimFlags
    order = 60

    @classmethod
    def complete(cls, settings: Settings, task: Task) -> Settings:
        """Raise UserError for batches in which nothing can be out of order."""
        size = settings[Training].batch_size
        if settings[RanksimFlags].ranksim and size < 3:
            raise UserError(f"--ranksim ranks the samples of a batch: --batch_size {size} must be 3 or more")
        return settings

    def run_name(self) -> str:
        """Return its weight, its lambda and, if it is not the default, its variant."""
        own = self.flags
        variant = "" if own.ranksim_variant == "published" else f"_{own.ranksim_variant}"
        return f"_ranksim_{own.ranksim_weight:g}_{own.ranksim_interpolation:g}{variant}"

    def describe(self) -> str:
        """Return its weight and its lambda."""
        return f"RankSim weight {self.flags.ranksim_weight:g}, lambda {self.flags.ranksim_interpolation:g}"

    def losses(self, seen: Seen) -> Mapping[str, torch.Tensor]:
        """Return the loss of the batch, weight included."""
        own, rows = self.flags, rows_of(seen, seen.features)
        loss = ranksim_loss(
            rows.features, rows.labels, weight=own.ranksim_weight, interpolation=own.ranksim_interpolation,
            variant=own.ranksim_variant,
        )  # fmt: skip
        return {"ranksim": loss}


def ranksim_loss(
    features: torch.Tensor,
    labels: torch.Tensor,
    *,
    weight: float = 1.0,
    interpolation: float = 2.0,
    kept: torch.Tensor | None = None,
    variant: str = "published",
) -> torch.Tensor:
    """Return `weight` times the loss of features `(n, ...)` and labels `(n,)` or `(n, 1)`.

    `kept` are the rows to rank, one for each distinct label in ascending order; by default they are drawn
    from torch's generator. One or two rows have nothing out of order: 0, with gradient 0.
    """
    labels = labels.detach().float().flatten()
    kept = one_per_label(labels) if kept is None else kept
    labels, unit = labels[kept], unit_rows(features[kept])
    with torch.autocast(unit.device.type, enabled=False):  # half precision would tie similarities
        similarity = unit @ unit.T
    wanted = ranks(-(labels[:, None] - labels).abs())
    unit_of_rank = 1.0 if variant == "published" else float(len(kept))
    return _RankLoss.apply(similarity, wanted, weight, interpolation, unit_of_rank)


def one_per_label(labels: torch.Tensor) -> torch.Tensor:
    """Return one row of each distinct label, drawn uniformly, by ascending label; all rows if none repeats."""
    shuffled = torch.randperm(len(labels)).to(labels.device)
    order = shuffled[labels[shuffled].argsort(stable=True)]
    first = torch.ones_like(order, dtype=torch.bool)
    first[1:] = labels[order].diff() != 0
    rows = order[first]
    return rows if len(rows) < len(labels) else torch.arange(len(labels), device=labels.device)


def ranks(values: torch.Tensor) -> torch.Tensor:
    """Return the place of each entry in its row, sorted from largest to smallest, by the row's length."""
    size = values.shape[-1]
    places = torch.arange(size, 0, -1, device=values.device, dtype=torch.float32) / size
    order = values.argsort(dim=-1, stable=True)
    return torch.empty_like(values, dtype=torch.float32).scatter_(-1, order, places.expand_as(values))


class _RankLoss(torch.autograd.Function):
    """The loss of ranks, whose gradient is that of the module's docstring, taken in the forward pass."""

    @staticmethod
    def forward(ctx: Any, similarity: torch.Tensor, wanted: torch.Tensor, *numbers: float) -> torch.Tensor:
        weight, interpolation, scale = numbers
        found = ranks(similarity)
        error = scale * (found - wanted)
        incoming = weight * 2 * error / len(wanted)
        moved = ranks(similarity + interpolation * incoming)
        ctx.save_for_backward(scale * (moved - found).to(similarity.dtype) / (interpolation + 1e-8))
        return weight * error.square().mean(1).sum()

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return grads[0] * gradient, None, None, None, None
