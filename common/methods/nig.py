"""The normal-inverse-gamma (NIG) distribution over a label's mean and variance, and its loss.

Amini et al., Deep Evidential Regression, NeurIPS 2020; used by `evidential` and `vir`.
"""

from __future__ import annotations

import math

import torch

from common.methods.outputs import check_shapes


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
