"""UVOTE: branches trained on differently weighted data, of which the most certain one answers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from common.errors import UserError
from common.flags import POSITIVE, flag
from common.method import Method, Seen
from common.methods.label_density import DENSITIES, LabelWeights, exponents_of, label_weights
from common.methods.laplace import BranchesHead, branch_losses, curriculum, laplace_nll
from common.methods.outputs import Outputs, known_outputs
from common.methods.reweight import ReweightFlags
from common.settings import Settings, Training
from common.task import Data, Task

__all__ = ["Uvote", "laplace_nll"]


@dataclass(frozen=True)
class UvoteFlags:
    """UVOTE."""

    uvote: bool = flag(False, "UVOTE: several branches, the most certain one answers", switch=True)
    uvote_branches: int = flag(2, "branches (published: 2 on AgeDB, else 3)", low=2)
    uvote_exponents: tuple[float, ...] = flag(
        (), "power of the density by which each branch divides (default: evenly from 0 to 1)", low=0
    )
    uvote_weights: str = flag(
        "counts", "density: of label bins (age), by a Gaussian kernel (STS-B), or no weights",
        choices=(*DENSITIES, "none"),
    )  # fmt: skip
    uvote_bandwidth: float = flag(
        0.5, "of the kernel, in label units", low=POSITIVE, when=lambda own: own.uvote_weights == "kde"
    )
    uvote_curriculum: str = flag(
        "grow", "with a = 1 - (epoch / epochs)^2, the first branch and the others count 1 and 1 - a (grow), "
        "a and 1 - a (hand_over), a and 1 (fade), or 1 and 1 (none)", choices=("grow", "hand_over", "fade", "none"),
    )  # fmt: skip
    uvote_epochs: int | None = flag(None, "epochs of the curriculum (default: those of the run)", low=1)
    uvote_clamp_high: float = flag(5.0, "largest log-scale in the loss (IMDB-WIKI: 10)", low=-5)
    uvote_answer: str = flag(
        "minvar", "the branch of least scale, the mean of all, or a mean weighted by 1 / scale",
        choices=("minvar", "avg", "avgvar"),
    )  # fmt: skip


class Uvote(Method):
    """Replaces head and criterion: each of M branches predicts a mean mu and a log-scale l of a Laplace distribution.

    The loss of branch m is NLL_m = mean(w_m (log(2 s) + |y - mu| / s)), s = exp(clamp(l, -5, 5)) + 1e-10, with
    weights w_m = density^(-r_m) of mean 1 and r evenly from 0 to 1. A curriculum moves from the first branch to
    the others. The answer is the mean of the branch of least l, not clamped. Log-scales train at a tenth of --lr.

    The defaults are those of the published AgeDB code. Its others, by flags:

    - IMDB-WIKI: 3 branches, `--uvote_clamp_high 10`, `--uvote_curriculum hand_over` (`fade` if static).
    - STS-B: `--uvote_branches 3 --uvote_exponents 0 1 0.5 --uvote_weights kde --uvote_curriculum hand_over
      --uvote_epochs 200`; its README has no weights (`none`).

    `--lds` smooths counts^r where r > 0, as published; no other weights of the loss go with it. At r = 1 counts are
    clipped where the data set does so. Published validation looks at the first branch alone, here at the answer. The
    oracle, the branch with the smallest error, follows from the columns of predictions.csv. Depth maps are ours: a
    distribution at each pixel, weights of the bins of depth. The published start of the weights is not taken over.
    """

    label = "UVOTE"
    paper = "Jiang et al., Uncertainty Voting Ensemble for Imbalanced Deep Regression, GCPR 2024"
    Flags = UvoteFlags
    roles = frozenset({"head", "criterion"})
    owns_head = True
    order = 110  # after whatever else weights or resamples the data
    implies = frozenset({"INV", "SQINV"})
    weights: LabelWeights | None = None
    epochs = 1

    @classmethod
    def complete(cls, settings: Settings, task: Task) -> Settings:
        """Raise UserError for exponents or weights that contradict the branches."""
        own = settings[UvoteFlags]
        if not own.uvote:
            return settings
        given, branches = len(own.uvote_exponents), own.uvote_branches
        if given not in (0, branches):
            raise UserError(f"--uvote_exponents: {given} for --uvote_branches {branches}; give one for each")
        weighted = settings[ReweightFlags]
        if weighted.lds and own.uvote_weights != "counts":
            raise UserError(f"--lds smooths counts, not --uvote_weights {own.uvote_weights}; drop one")
        if not weighted.lds and weighted.reweight not in (None, "none"):
            raise UserError("--reweight and --uvote: UVOTE weights each branch itself; drop --reweight")
        return settings

    def run_name(self) -> str:
        """Return its name with the branches and whatever is not the default."""
        own = self.flags
        parts = [f"_{self.name()}_{own.uvote_branches}"]
        parts += [f"{value:g}" for value in own.uvote_exponents]
        words = (own.uvote_weights, own.uvote_curriculum, own.uvote_answer)
        parts += [word for word in words if word not in ("counts", "grow", "minvar")]
        return "_".join(parts)

    def describe(self) -> str:
        """Return the branches, their weights and the curriculum."""
        own = self.flags
        return f"UVOTE {own.uvote_branches} branches, weights {own.uvote_weights}, {own.uvote_curriculum}"

    def prepare(self, data: Data) -> Data:
        """Compute the weights of each branch; raises UserError for labels without a density by kernel."""
        own = self.flags
        if data.train.weights is not None and not self.settings[ReweightFlags].lds:
            raise UserError("--uvote: weights each branch itself; drop the flag that weights the loss")
        self.epochs = own.uvote_epochs or epochs_of(self.task, self.settings, len(data.train))
        if own.uvote_weights != "none":
            exponents = exponents_of(own.uvote_exponents, own.uvote_branches)
            self.weights = label_weights(
                data,
                exponents,
                own.uvote_weights,
                own.uvote_bandwidth,
                self.settings[ReweightFlags],
                self.task,
            )
        return data

    def head(self, dim: int) -> BranchesHead:
        """Return the head; the log-scales are made in `build`, as parameters of the method."""
        own, task = self.flags, self.task
        return BranchesHead(
            Outputs(task.head, dim, own.uvote_branches), lambda features: self.scales(features), own.uvote_answer,
            task.target_scale, task.target_mean,
        )  # fmt: skip

    def build(self, dim: int, data: Data) -> None:
        """Make the log-scales of all branches, which train at a tenth of the rate."""
        self.rate = self.settings[Training].lr / 10
        self.scales = Outputs(self.task.head, dim, self.flags.uvote_branches)

    def losses(self, seen: Seen) -> Mapping[str, torch.Tensor]:
        """Return the loss of each branch, times its coefficient in the curriculum."""
        own = self.flags
        outputs, targets, _ = known_outputs(seen)
        means, log_scales = outputs[: own.uvote_branches], outputs[own.uvote_branches :]
        weights = [None] * len(means) if self.weights is None else list(self.weights(targets))
        losses = branch_losses(
            means, log_scales, self.task.learned(targets), weights,
            curriculum(own.uvote_curriculum, seen.epoch, self.epochs), clamp_high=own.uvote_clamp_high,
        )  # fmt: skip
        return {f"{self.name()}_{number}": loss for number, loss in enumerate(losses)}


def epochs_of(task: Task, settings: Settings, samples: int) -> int:
    """Return the epochs of a run."""
    length = task.length(settings)
    if not length.check_every:
        return length.checks
    return math.ceil(length.check_every * length.checks / math.ceil(samples / settings[Training].batch_size))
