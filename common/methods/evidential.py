"""Evidential regression: a head that predicts a normal-inverse-gamma (NIG) distribution."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import StudentT

from common.flags import flag
from common.method import Method, Seen, at_least_float32
from common.methods.nig import nig_loss
from common.methods.outputs import Outputs, ScaledHead, known_outputs
from common.task import Prediction

FLOOR = 1e-6  # keeps nu, beta and alpha - 1 positive where softplus underflows


@dataclass(frozen=True)
class EvidentialFlags:
    """Evidential regression."""

    evidential: bool = flag(False, "predict a normal-inverse-gamma distribution", switch=True)
    evidential_coefficient: float = flag(0.01, "of the penalty on evidence for a wrong mean", low=0)


class EvidentialHead(ScaledHead):
    """Features to gamma, nu > 0, alpha > 1 and beta > 0, each from an output of its own; softplus keeps the bounds."""

    def __init__(self, make: Callable[[int], nn.Module], dim: int, *scale_and_mean: float) -> None:
        super().__init__(*scale_and_mean)
        self.outputs = Outputs(make, dim, 4)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        gamma, *rest = self.outputs(features).split(1, dim=1)
        nu, alpha, beta = (F.softplus(values) + FLOOR for values in rest)
        return torch.cat([gamma, nu, alpha + 1, beta], dim=1)

    def predict(self, features: torch.Tensor) -> Prediction:
        """Return gamma and the Student-t of a label: 2 alpha degrees, scale^2 = beta (1 + nu) / (nu alpha)."""
        gamma, nu, alpha, beta = at_least_float32(self(features)).split(1, dim=1)
        mean, unit = self.in_label_units(gamma), self.target_scale
        scale = (beta * (1 + nu) / (nu * alpha)).sqrt() * unit
        parameters = {"nig_nu": nu, "nig_alpha": alpha, "nig_beta": beta * unit**2}
        return Prediction(mean, StudentT(2 * alpha, mean, scale), parameters)


class Evidential(Method):
    """Replaces head and criterion: the loss is mean(w (NLL + coefficient REG)) of a NIG (`common.methods.nig`).

    The head predicts gamma, nu, alpha and beta of each label, as in the paper: nu and beta by softplus, alpha by
    softplus + 1. REG = |y - gamma| (2 nu + alpha); NLL is that of the Student-t that the head predicts.

    Ours: weights of `--reweight` and `--lds` multiply the loss of a sample, as they do with the criteria of the
    paper, and 1e-6 is added to each softplus. Depth maps have a distribution at each pixel. `std` in
    predictions.csv is that of the Student-t, so it holds the noise of labels and the doubt about their mean.
    There are no reference numbers for this head; those of its loss are in the tests of `vir`.
    """

    label = "Evidential"
    paper = "Amini et al., Deep Evidential Regression, NeurIPS 2020"
    Flags = EvidentialFlags
    roles = frozenset({"head", "criterion"})
    owns_head = True

    def run_name(self) -> str:
        """Return its name with its coefficient."""
        return f"_{self.name()}_{self.flags.evidential_coefficient:g}"

    def describe(self) -> str:
        """Return its name with its coefficient."""
        return f"{self.label}, coefficient {self.flags.evidential_coefficient:g}"

    def head(self, dim: int) -> EvidentialHead:
        """Return the head, whose outputs are made as those of the data set."""
        return EvidentialHead(self.task.head, dim, self.task.target_scale, self.task.target_mean)

    def losses(self, seen: Seen) -> Mapping[str, torch.Tensor]:
        """Return the loss over what is known of the batch."""
        (gamma, nu, alpha, beta), targets, weights = known_outputs(seen)
        loss = nig_loss(
            self.task.learned(targets), gamma, nu, alpha, beta,
            self.flags.evidential_coefficient, weights=weights,
        )  # fmt: skip
        return {self.name(): loss}
