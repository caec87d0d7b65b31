"""The normal-inverse-gamma (NIG) distribution over a label's mean and variance: its loss, and as a posterior.

Amini et al., Deep Evidential Regression, NeurIPS 2020; used by `evidential` and `vir`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Normal

from common.method import at_least_float32
from common.methods.outputs import ScaledHead, check_shapes
from common.task import Prediction


def nig_terms(
    labels: torch.Tensor, gamma: torch.Tensor, nu: torch.Tensor, alpha: torch.Tensor, beta: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return NLL and REG of each label.

    With B = 2 beta (1 + nu):

    - NLL = 1/2 log(pi / nu) - alpha log B + (alpha + 1/2) log(nu (y - gamma)^2 + B) + lgamma(alpha)
      - lgamma(alpha + 1/2), of the Student-t that is left after mean and variance are integrated out,
    - REG = |y - gamma| (2 nu + alpha), which punishes evidence for a wrong mean.

    Raises ValueError unless all five have one shape.
    """
    check_shapes(labels, gamma, nu, alpha, beta)
    error, scale = labels - gamma, 2 * beta * (1 + nu)
    nll = (
        0.5 * (math.log(math.pi) - nu.log())
        - alpha * scale.log()
        + (alpha + 0.5) * (nu * error.square() + scale).log()
        + torch.lgamma(alpha)
        - torch.lgamma(alpha + 0.5)
    )
    return nll, error.abs() * (2 * nu + alpha)


def nig_loss(
    labels: torch.Tensor,
    gamma: torch.Tensor,
    nu: torch.Tensor,
    alpha: torch.Tensor,
    beta: torch.Tensor,
    coefficient: float = 0.01,
    *,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return mean(w (NLL + coefficient REG)); all tensors of one shape, else ValueError."""
    check_shapes(labels, weights)
    nll, reg = nig_terms(labels, gamma, nu, alpha, beta)
    loss = nll + coefficient * reg
    return (loss if weights is None else loss * weights).mean()


def nig_parameters(
    outputs: tuple[torch.Tensor, ...], weights: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return gamma, nu, alpha and beta of (gamma, n, beta), as `vir` has them; weights multiply the pseudo-count n.

    The posterior of a conjugate prior with gamma0 = nu0 = beta0 = 0 and alpha0 = 0.3: nu = n, alpha = 0.3 + n / 2.
    """
    gamma, count, beta = outputs
    count = count if weights is None else count * weights
    return gamma, count, 0.3 + count / 2, beta


class PosteriorHead(ScaledHead):
    """Means or samples `(n, C)` to gamma, pseudo-count n >= 2 and beta > 0, of labels as the regressor learns them."""

    def __init__(
        self, dim: int, mean_of: Callable[[torch.Tensor], torch.Tensor], *scale_and_mean: float
    ) -> None:
        super().__init__(*scale_and_mean)
        self.linear = nn.Linear(dim, 3)
        self.mean_of = mean_of  # a function, not a module: its parameters are those of the method

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        gamma, count, beta = at_least_float32(self.linear(z)).split(1, dim=1)
        count, beta = (F.softplus(value, beta=0.1, threshold=20) for value in (count, beta))
        # A beta that underflows to 0 would make the loss infinite.
        return torch.cat([gamma, count + 2, beta.clamp(min=1e-12)], dim=1)

    def predict(self, features: torch.Tensor) -> Prediction:
        """Return gamma and a Gaussian with the variance of the mean, beta / ((alpha - 1) nu), as published."""
        outputs = self(self.mean_of(features).to(self.linear.weight))
        gamma, nu, alpha, beta = nig_parameters(outputs.split(1, dim=1))
        mean, unit = self.in_label_units(gamma), self.target_scale
        std = (beta / ((alpha - 1) * nu)).sqrt() * unit
        parameters = {"nig_nu": nu, "nig_alpha": alpha, "nig_beta": beta * unit**2}
        return Prediction(mean, Normal(mean, std), parameters)
