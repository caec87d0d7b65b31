"""The training losses: each is a mean over samples, with optional weights (paper, appendix B.1).

Weights are keyword-only: passed by position they once landed in another argument of Focal-R and Huber and
were lost without a word.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F


def _weighted_mean(loss: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    if weights is None:
        return loss.mean()
    if weights.shape != loss.shape:
        raise ValueError(f"weights {tuple(weights.shape)} and targets {tuple(loss.shape)} differ in shape")
    return (loss * weights).mean()


def _error(inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    # (n, 1) against (n,) would broadcast to (n, n) and train on noise.
    if inputs.shape != targets.shape:
        raise ValueError(f"inputs {tuple(inputs.shape)} and targets {tuple(targets.shape)} differ in shape")
    return inputs - targets


def _focal_factor(error: torch.Tensor, activate: str, beta: float, gamma: float) -> torch.Tensor:
    if activate == "sigmoid":
        return (2 * torch.sigmoid(beta * error.abs()) - 1) ** gamma
    if activate == "tanh":
        return torch.tanh(beta * error.abs()) ** gamma
    raise ValueError(f"activate {activate!r} is neither 'sigmoid' nor 'tanh'")


def weighted_mse_loss(
    inputs: torch.Tensor, targets: torch.Tensor, *, weights: torch.Tensor | None = None
) -> torch.Tensor:
    """Mean squared error; `inputs`, `targets` and `weights` of one shape."""
    return _weighted_mean(_error(inputs, targets) ** 2, weights)


def weighted_l1_loss(
    inputs: torch.Tensor, targets: torch.Tensor, *, weights: torch.Tensor | None = None
) -> torch.Tensor:
    """Mean absolute error; `inputs`, `targets` and `weights` of one shape."""
    return _weighted_mean(_error(inputs, targets).abs(), weights)


def weighted_huber_loss(
    inputs: torch.Tensor, targets: torch.Tensor, *, weights: torch.Tensor | None = None, beta: float = 1.0
) -> torch.Tensor:
    """Quadratic below `beta` (in label units), linear above, with slope 1."""
    _error(inputs, targets)
    return _weighted_mean(F.smooth_l1_loss(inputs, targets, reduction="none", beta=beta), weights)


def weighted_focal_mse_loss(
    inputs: torch.Tensor,
    targets: torch.Tensor,
    *,
    weights: torch.Tensor | None = None,
    activate: str = "sigmoid",
    beta: float = 0.2,
    gamma: float = 1.0,
) -> torch.Tensor:
    """Focal-R on the squared error: e^2 (2 sigmoid(beta |e|) - 1)^gamma (paper, section 4.1)."""
    error = _error(inputs, targets)
    return _weighted_mean(error**2 * _focal_factor(error, activate, beta, gamma), weights)


def weighted_focal_l1_loss(
    inputs: torch.Tensor,
    targets: torch.Tensor,
    *,
    weights: torch.Tensor | None = None,
    activate: str = "sigmoid",
    beta: float = 0.2,
    gamma: float = 1.0,
) -> torch.Tensor:
    """Focal-R on the absolute error: |e| (2 sigmoid(beta |e|) - 1)^gamma (paper, section 4.1)."""
    error = _error(inputs, targets)
    return _weighted_mean(error.abs() * _focal_factor(error, activate, beta, gamma), weights)


LOSSES = {
    "mse": weighted_mse_loss,
    "l1": weighted_l1_loss,
    "huber": weighted_huber_loss,
    "focal_mse": weighted_focal_mse_loss,
    "focal_l1": weighted_focal_l1_loss,
}
