"""The criteria of the paper: L1, MSE, Huber, and Focal-R on the first two (section 4.1, appendix B.1)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from common.flags import POSITIVE, flag
from common.loss import LOSSES
from common.method import Method, Seen
from common.settings import Settings
from common.task import Task


@dataclass(frozen=True)
class CriterionFlags:
    """Criterion."""

    loss: str = flag("l1", "training loss", choices=tuple(LOSSES))
    huber_beta: float = flag(
        1.0, "where the Huber loss turns linear", low=POSITIVE, when=lambda own: own.loss == "huber"
    )


class Criterion(Method):
    """The loss between outputs and targets, a mean over samples (`common.loss`)."""

    label = "Focal-R"
    paper = "Yang et al., Delving into Deep Imbalanced Regression, ICML 2021, section 4.1"
    Flags = CriterionFlags
    roles = frozenset({"criterion"})
    gives_way = True
    order = 10

    def __init__(self, settings: Settings, task: Task) -> None:
        super().__init__(settings, task)
        self.criterion = make_criterion(self.flags.loss, self.flags.huber_beta, task.focal_beta)

    def run_name(self) -> str:
        """Return nothing: each data set puts the loss where its published names have it."""
        return ""

    def legend(self) -> tuple[str, ...]:
        """Return "Focal-R" for the focal losses; the others are part of Vanilla."""
        return (self.label,) if self.flags.loss.startswith("focal") else ()

    def describe(self) -> str:
        """Return the name of the loss."""
        return f"loss {self.flags.loss}"

    def losses(self, seen: Seen) -> Mapping[str, torch.Tensor]:
        """Return the mean loss over what is known of the batch."""
        outputs, targets, weights = seen.known()
        return {self.flags.loss: self.criterion(outputs, self.task.learned(targets), weights=weights)}


def make_criterion(loss: str, huber_beta: float, focal_beta: float) -> Callable[..., torch.Tensor]:
    """Return the loss function of `--loss`, with its beta where it has one."""
    betas = {"focal_mse": focal_beta, "focal_l1": focal_beta, "huber": huber_beta}
    function: Callable[..., torch.Tensor] = LOSSES[loss]
    return functools.partial(function, beta=betas[loss]) if loss in betas else function
