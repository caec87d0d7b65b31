"""Branches that predict a Laplace distribution each: their loss, curriculum and head, which gives one answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.distributions import Laplace

from common.method import at_least_float32
from common.methods.outputs import ScaledHead, check_shapes
from common.task import Prediction


def laplace_nll(
    mu: torch.Tensor,
    log_scale: torch.Tensor,
    targets: torch.Tensor,
    *,
    weights: torch.Tensor | None = None,
    clamp_high: float = 5.0,
) -> torch.Tensor:
    """Return mean(w (log(2 s) + |y - mu| / s)), s = exp(clamp(log_scale, -5, clamp_high)) + 1e-10.

    No gradient reaches a log-scale that is clamped. Raises ValueError unless all are of one shape.
    """
    check_shapes(targets, mu, log_scale, weights)
    scale = log_scale.clamp(-5, clamp_high).exp() + 1e-10
    loss = (2 * scale).log() + (targets - mu).abs() / scale
    return (loss if weights is None else loss * weights).mean()


def curriculum(kind: str, epoch: int, epochs: int) -> tuple[float, float]:
    """Return the coefficients of the first branch and of each other, from a = 1 - (epoch / epochs)^2, at least 0."""
    a = max(1 - (epoch / epochs) ** 2, 0.0)
    return {"grow": (1.0, 1 - a), "hand_over": (a, 1 - a), "fade": (a, 1.0), "none": (1.0, 1.0)}[kind]


def branch_losses(
    means: Sequence[torch.Tensor],
    log_scales: Sequence[torch.Tensor],
    targets: torch.Tensor,
    weights: Sequence[torch.Tensor | None],
    coefficients: tuple[float, float],
    *,
    clamp_high: float = 5.0,
) -> list[torch.Tensor]:
    """Return `laplace_nll` of each branch, times the coefficient of the first or of the others."""
    branches = zip(means, log_scales, weights, strict=True)
    return [
        coefficients[number > 0] * laplace_nll(mu, log_scale, targets, weights=w, clamp_high=clamp_high)
        for number, (mu, log_scale, w) in enumerate(branches)
    ]


def combine(
    means: Sequence[torch.Tensor], log_scales: Sequence[torch.Tensor], answer: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and log-scale of the answer of all branches."""
    mean, log_scale = torch.stack(tuple(means)), torch.stack(tuple(log_scales))
    if answer == "minvar":
        least = log_scale.argmin(0, keepdim=True)
        return mean.gather(0, least)[0], log_scale.gather(0, least)[0]
    share = torch.softmax(-log_scale if answer == "avgvar" else torch.zeros_like(log_scale), dim=0)
    return (share * mean).sum(0), (share * log_scale).sum(0)


class BranchesHead(ScaledHead):
    """Features to the means of all branches, then their log-scales, in units of a label that the regressor learns."""

    def __init__(
        self,
        means: nn.Module,
        log_scales: Callable[[torch.Tensor], torch.Tensor],
        answer: str,
        *scale_and_mean: float,
    ) -> None:
        super().__init__(*scale_and_mean)
        self.means, self.answer = means, answer
        self.log_scales = (
            log_scales  # a function, not a module: its parameters train at the rate of the method
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.means(features), self.log_scales(features)], dim=1)

    def predict(self, features: torch.Tensor) -> Prediction:
        """Return the Laplace distribution of the answer; mean and log-scale of each branch are columns."""
        means, log_scales = at_least_float32(self(features)).chunk(2, dim=1)
        means, log_scales = self.in_label_units(means), log_scales + math.log(self.target_scale)
        answer = combine(means.unbind(1), log_scales.unbind(1), self.answer)
        mean, log_scale = (value.unsqueeze(1) for value in answer)
        columns = {"branch": log_scales.argmin(1, keepdim=True).float()} if self.answer == "minvar" else {}
        for number, pair in enumerate(zip(means.split(1, 1), log_scales.split(1, 1), strict=True)):
            columns |= {f"mean_{number}": pair[0], f"log_scale_{number}": pair[1]}
        # Only beyond these bounds would the scale leave float32.
        return Prediction(mean, Laplace(mean, log_scale.clamp(-60, 60).exp()), columns)
