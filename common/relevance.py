"""The relevance of a label: 0 at the median of the training labels, 1 where they are extreme.

Ribeiro and Moniz, Imbalanced Regression and Extreme Value Prediction, Machine Learning 109, 2020. Importing this
module loads neither torch nor scipy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Relevance:
    """Three control points: relevance 1 at `low`, 0 at `median` and 1 at `high`, with slope 0 at each.

    Between them runs the monotone cubic interpolation (pchip), beyond them relevance stays 1.
    """

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, labels: np.ndarray, coefficient: float = 1.5) -> Relevance:
        """Return the relevance that training labels define, by the fences of the adjusted box plot.

        Hubert and Vandervieren, 2008: with Tukey's hinges Q1 and Q3, the fences are Q1 - c exp(-4 m) (Q3 - Q1) and
        Q3 + c exp(3 m) (Q3 - Q1) for a medcouple m of at least 0, and mirrored below 0. The authors' package takes
        the fences too, where a box plot draws its whiskers to the last label within them.
        """
        ordered = np.sort(np.asarray(labels, np.float64), axis=None)
        depth = (len(ordered) + 3) // 2 / 2
        places = np.array([depth, (len(ordered) + 1) / 2, len(ordered) + 1 - depth]) - 1
        hinges = (ordered[np.floor(places).astype(int)] + ordered[np.ceil(places).astype(int)]) / 2
        first, median, third = hinges.tolist()
        skewness, reach = medcouple(ordered), coefficient * (third - first)
        down, up = (-4, 3) if skewness >= 0 else (-3, 4)
        return cls(first - reach * math.exp(down * skewness), median, third + reach * math.exp(up * skewness))

    def __call__(self, labels: np.ndarray) -> np.ndarray:
        """Return the relevance of each label, float64, shaped as `labels`."""
        distance = np.asarray(labels, np.float64) - self.median
        reach = np.where(distance < 0, self.low, self.high) - self.median
        # Where most labels are equal, a fence lies on the median: every other label is extreme.
        share = np.where(reach == 0, distance != 0, distance / np.where(reach == 0, 1, reach)).clip(0, 1)
        return share**2 * (3 - 2 * share)


def medcouple(labels: np.ndarray) -> float:
    """Return the medcouple, a robust skewness from -1 to 1 (Brys, Hubert and Struyf, 2004).

    It is the median of (a + b) / (a - b) over all pairs of a label `a` not below the median and one `b` not above,
    both less the median. Bisection counts the pairs above a bound by a sorted search, so memory is O(n).
    """
    values, counts = np.unique(labels - np.median(labels), return_counts=True)
    above, below = values >= 0, values <= 0
    pairs = int(counts[above].sum() * counts[below].sum())
    ranks = (pairs + 1) // 2, pairs // 2 + 1  # two middle pairs, where their number is even
    return sum(_ranked(values[above], counts[above], values[below], counts[below], k) for k in ranks) / 2


def _ranked(
    above: np.ndarray, many_above: np.ndarray, below: np.ndarray, many_below: np.ndarray, rank: int
) -> float:
    """Return the value of the pair of that rank, from the greatest."""
    left = np.concatenate([many_below.cumsum()[::-1], [0]])  # labels from a place of `below` reversed on
    ties = int(many_above[0]) if above[0] == 0 else 0

    def at_least(bound: float) -> int:
        place = np.searchsorted(-below[::-1], above * ((1 - bound) / (1 + bound)), side="right")
        reached = many_below.sum() - left[place]
        # Pairs of two labels at the median are 1, 0 or -1: as many above as below, and 0 on the diagonal.
        tied = ties * (ties - 1) // 2 + (ties if bound <= 0 else 0)
        return int((many_above * reached).sum()) - ties**2 + tied

    low, high = -1.0, 1.0
    if at_least(high) >= rank:
        return high
    for _ in range(52):
        middle = (low + high) / 2
        low, high = (middle, high) if at_least(middle) >= rank else (low, middle)
    return low
