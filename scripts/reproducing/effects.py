"""What a comparison ends with: a difference with its interval, a claim with its verdict, and Holm's correction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from reproducing.claims import LEVEL
from reproducing.recipes import Claim

from common.metrics import METRICS


@dataclass(frozen=True)
class Effect:
    """The difference of a row from its base row on a metric and shot, with its interval."""

    row: str
    base: str
    metric: str
    shot: str
    value: float  # of the row
    difference: float  # row less base
    low: float
    high: float

    @property
    def smallest(self) -> float:
        """The smallest difference that the data could have shown: half of the interval."""
        return (self.high - self.low) / 2

    @property
    def word(self) -> Literal["better", "worse", "undecided"]:
        """Better or worse where the interval leaves 0 out."""
        low, high = (
            (self.low, self.high) if METRICS[self.metric].higher_is_better else (-self.high, -self.low)
        )
        return "better" if low > 0 else "worse" if high < 0 else "undecided"


@dataclass(frozen=True)
class Judged:
    """A claim with its difference, its interval at Holm's level, and what the paper reports."""

    claim: Claim
    carried: bool  # the claim was made on other data
    ours: float
    paper: float | None
    low: float
    high: float
    word: Literal["holds", "does not hold", "undecided"]


def p_value(values: np.ndarray) -> float:
    """Return the two-sided bootstrap p-value of a difference of 0."""
    share = min((values <= 0).mean(), (values >= 0).mean())
    return min(1.0, max(2 * share, 2 / (len(values) + 1)))


def holm(ps: list[float], level: float = 1 - LEVEL / 100) -> list[tuple[float, bool]]:
    """Return the level at which each p-value is tested, and whether it passes (Holm, 1979)."""
    found: list[tuple[float, bool]] = [(level, False)] * len(ps)
    alive = True
    for rank, i in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        alpha = level / (len(ps) - rank)
        alive = alive and ps[i] <= alpha
        found[i] = (alpha, alive)
    return found
