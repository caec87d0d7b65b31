"""RRT: a fresh regressor on the frozen encoder of a first stage (paper, section 4.1)."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from common.errors import UserError
from common.flags import flag
from common.method import Method, Needs
from common.methods.reweight import ReweightFlags
from common.settings import Settings, Training
from common.task import Task

if TYPE_CHECKING:
    from common.training.regressor import Regressor

log = logging.getLogger("dir")


@dataclass(frozen=True)
class RrtFlags:
    """RRT."""

    retrain_fc: bool = flag(False, "RRT: train a fresh head on the frozen encoder of --pretrained")


class Rrt(Method):
    """Freezes the encoder by `requires_grad` alone, so that batch-norm statistics keep moving, as published."""

    label = "RRT"
    paper = "Yang et al., Delving into Deep Imbalanced Regression, ICML 2021, section 4.1"
    Flags = RrtFlags
    roles = frozenset({"head"})
    order = 50
    implies = frozenset({"INV", "SQINV"})

    def __init__(self, settings: Settings, task: Task) -> None:
        super().__init__(settings, task)
        self.needs = Needs(fresh=task.retrained)

    @classmethod
    def complete(cls, settings: Settings, task: Task) -> Settings:
        """Raise UserError where the first stage is missing."""
        if settings[RrtFlags].retrain_fc and not settings[Training].pretrained:
            raise UserError("--retrain_fc needs --pretrained CKPT, the first stage whose encoder it keeps")
        return settings

    def run_name(self) -> str:
        """Return the published name."""
        return "_retrain_fc"

    def setup(self, regressor: Regressor) -> None:
        """Freeze the encoder but for the parts that are trained anew with the head."""
        trained = ("head.", "methods.", *(f"encoder.{part}." for part in self.task.retrained))
        for name, parameter in regressor.named_parameters():
            parameter.requires_grad_(name.startswith(trained))
        log.info(
            "RRT: the encoder is frozen, a fresh %s is trained", " and ".join(self.task.retrained) or "head"
        )
        if self.settings[ReweightFlags].reweight == "none":
            log.warning(
                "RRT without --reweight trains the head on the same losses; the paper re-weights them"
            )
