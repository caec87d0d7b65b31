"""Scores of predicted distributions: how likely a label was, how far from it, and where in the distribution it lies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.special import betaln, ndtr, stdtr
from torch.distributions import Distribution, Laplace, Normal, StudentT


def score_columns(distribution: Distribution, targets: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return `std` and `nll` of each target and, for a family known here, `crps` and `pit`.

    `pit` is the probability of a label below the target (probability integral transform), and `crps` the
    continuous ranked probability score: the integral of (F(t) - [t >= y])^2 over t (Gneiting and Raftery, 2007).
    """
    columns = {"std": distribution.stddev, "nll": -distribution.log_prob(targets)}
    if type(distribution) not in FAMILIES:
        return columns
    known: Any = distribution
    scale = _exact(known.scale)
    pit, crps = FAMILIES[type(distribution)]((_exact(targets) - _exact(known.loc)) / scale, known)
    return columns | {"crps": torch.from_numpy(scale * crps).float(), "pit": torch.from_numpy(pit).float()}


def _exact(values: torch.Tensor) -> np.ndarray:
    """Return values in float64: what is left of a tail cancels in float32."""
    return values.detach().cpu().double().numpy()


def _normal(z: np.ndarray, _: Any) -> tuple[np.ndarray, np.ndarray]:
    pit = ndtr(z)
    return pit, z * (2 * pit - 1) + np.sqrt(2 / np.pi) * np.exp(-(z**2) / 2) - 1 / np.sqrt(np.pi)


def _laplace(z: np.ndarray, _: Any) -> tuple[np.ndarray, np.ndarray]:
    tail = np.exp(-np.abs(z))
    return np.where(z < 0, tail / 2, 1 - tail / 2), np.abs(z) + tail - 0.75


def _student(z: np.ndarray, distribution: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return them of a Student-t of more than one degree of freedom, as it has no mean otherwise."""
    df = _exact(distribution.df)
    pit = stdtr(df, z)
    log_density = -betaln(df / 2, 0.5) - np.log(df) / 2 - (df + 1) / 2 * np.log1p(z**2 / df)
    spread = 2 * np.sqrt(df) * np.exp(betaln(0.5, df - 0.5) - 2 * betaln(df / 2, 0.5))
    return pit, z * (2 * pit - 1) + (2 * (df + z**2) * np.exp(log_density) - spread) / (df - 1)


FAMILIES: dict[type, Callable[[np.ndarray, Any], tuple[np.ndarray, np.ndarray]]] = {
    Normal: _normal,
    Laplace: _laplace,
    StudentT: _student,
}
