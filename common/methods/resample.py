"""SMOTER and SMOGN, the paper's resampling baselines (section 4, appendix B), whose code was not released.

SMOTER (Torgo, Ribeiro, Pfahringer and Branco, "SMOTE for Regression", EPIA 2013) leaves out samples with
common labels and puts synthetic ones between neighbours with rare labels. SMOGN (Branco, Torgo and Ribeiro,
"SMOGN: a Pre-processing Approach for Imbalanced Regression", PMLR 74, 2017) does so only where the
neighbour is near, and adds Gaussian noise to a sample where it is not.

Both leave it to their user which labels are rare, how much is left out and how much is made. The paper takes
the label density for it, so here the relevance of a label is 1 / the training samples in its bin. Few-shot
bins are rare: each is filled up to the bound of few-shot. Many-shot bins are common: each is cut to the mean
over bins, or to the bound of many-shot where that is more. Medium-shot bins stay as they are.

A plan says which training rows make up each sample; what mixes their inputs is with each kind of data.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, cast

import numpy as np
from scipy.spatial.distance import cdist

from common.flags import flag
from common.method import Method
from common.metrics import Shots
from common.settings import Running, Settings
from common.task import Data, Split, Task

log = logging.getLogger("dir")
LABELS = {"smoter": "SMOTER", "smogn": "SMOGN"}
NOISE_RATIO = 0.1  # SMOGN's noise, in standard deviations of what it is added to (paper, appendix B)
RANDOM = 2  # random numbers of its own, beside the purposes of common.training.draws
BLOCK = 1024  # rows of a distance matrix that are in memory at once


@dataclass(frozen=True)
class Plan:
    """A training set of M samples made from N: the `kept` ones come first, then the synthetic ones.

    Sample i is (1 - `share[i]`) of row `first[i]` and `share[i]` of row `second[i]`, or row `first[i]` and
    the Gaussian noise that the seed `noise[i]` gives.
    """

    first: np.ndarray  # int64 (M,)
    second: np.ndarray  # int64 (M,), `first` again where nothing is mixed
    share: np.ndarray  # float32 (M,), from 0 to 1
    noise: np.ndarray  # int64 (M,), 0 for none
    labels: np.ndarray  # float32 (M,)
    kept: int


class Resamplable(Protocol):
    """A split whose samples can be mixed."""

    def resampled(self, rows: np.ndarray, plan: Callable[[np.ndarray], Plan]) -> Split:
        """Return the split that `plan` makes from the features `(F, d)` of `rows`, int64 `(F,)`."""
        ...


@dataclass(frozen=True)
class ResampleFlags:
    """Resampling."""

    resample: str | None = flag(
        None, "resample the training set, a baseline of the paper (default: none)", choices=("none", *LABELS),
        switch=True,
    )  # fmt: skip
    neighbours: int = flag(5, "nearest neighbours that --resample chooses from", low=1)


class Resample(Method):
    """Replaces the training set by one with fewer common and more rare labels."""

    label = "SMOTER"
    paper = "Torgo et al., SMOTE for Regression, EPIA 2013; Branco et al., SMOGN, PMLR 74, 2017"
    Flags = ResampleFlags
    order = 20

    @classmethod
    def complete(cls, settings: Settings, task: Task) -> Settings:
        """Let `--resample none` mean what no flag means."""
        return settings.with_(resample=None) if settings[ResampleFlags].resample == "none" else settings

    def run_name(self) -> str:
        """Return which of the two it is."""
        return f"_{self.flags.resample}"

    def legend(self) -> tuple[str, ...]:
        """Return which of the two it is, as papers write it."""
        return (LABELS[self.flags.resample],)

    def describe(self) -> str:
        """Return which of the two it is, and its neighbours."""
        return f"{LABELS[self.flags.resample]} with {self.flags.neighbours} neighbours"

    def prepare(self, data: Data) -> Data:
        """Resample the training split."""
        assert data.train.labels is not None
        train, labels = cast(Resamplable, data.train), data.train.labels
        rows, seed = few_rows(labels, data.shots), self.settings[Running].seed

        def plan(features: np.ndarray) -> Plan:
            made = make_plan(
                labels, data.shots, features, neighbours=self.flags.neighbours,
                noise=self.flags.resample == "smogn", seed=seed,
            )  # fmt: skip
            self.log_plan(made, len(labels))
            return made

        return replace(data, train=train.resampled(rows, plan))

    def log_plan(self, made: Plan, number: int) -> None:
        """Log how many of the training samples were kept, left out and made."""
        noisy = int((made.noise > 0).sum())
        log.info(
            "%s: %s training samples became %s: %s kept, %s of many-shot labels left out, %s of few-shot "
            "labels synthetic%s", self.legend()[0], f"{number:,}", f"{len(made.labels):,}",
            f"{made.kept:,}", f"{number - made.kept:,}", f"{len(made.labels) - made.kept:,}",
            f" (by noise: {noisy:,})" if self.flags.resample == "smogn" else "",
        )  # fmt: skip


def few_rows(labels: np.ndarray, shots: Shots) -> np.ndarray:
    """Return the rows of few-shot labels in their order, int64 `(F,)`."""
    return np.flatnonzero(shots.of(labels) == "few")


def make_plan(
    labels: np.ndarray, shots: Shots, features: np.ndarray, *, neighbours: int, noise: bool, seed: int
) -> Plan:
    """Resample the training `labels` `(N,)` that `shots` counts; `features` `(F, d)` are those of `few_rows`.

    A synthetic sample has a seed case and one of its `neighbours` nearest in Euclidean distance, of the same
    region: a range of few-shot labels with no other training label in between. So its label is few-shot too.
    It lies on the line between the two, and its label is their mean weighted by the inverse distance to each,
    which on a line is the share of each (Torgo et al., 2013). All random choices follow from `seed`.

    With `noise` (SMOGN) that is so only where the neighbour is nearer than half the median distance of the
    seed case to the others of its region (Branco et al., 2017). Elsewhere the seed case gets noise and so
    does its label, of `NOISE_RATIO` times the standard deviation in its region, which it does not leave. A
    case that is alone in its region is repeated (SMOTER) or gets noise (SMOGN).
    """
    rng = np.random.default_rng([seed, RANDOM])
    kept, few = _kept(labels, shots, rng), few_rows(labels, shots)
    none = np.zeros(len(kept), np.int64)
    parts = [(kept, kept, none, none, labels[kept])]
    for rows in _regions(labels, shots):
        cases = _cases(labels[rows], shots, rng)
        inputs = features[np.searchsorted(few, rows)]
        others, *rest = _synthesise(labels[rows].astype(np.float64), inputs, cases, neighbours, noise, rng)
        parts.append((rows[cases], rows[others], *rest))
    first, second, share, seeds, label = map(np.concatenate, zip(*parts, strict=True))
    return Plan(first, second, share.astype(np.float32), seeds, label.astype(np.float32), len(kept))


def _kept(labels: np.ndarray, shots: Shots, rng: np.random.Generator) -> np.ndarray:
    """The rows that under-sampling keeps, in their order."""
    index = shots.bins.index(labels)
    limit = math.ceil(max(shots.counts[shots.counts > 0].mean(), shots.many_above))
    keep = np.ones(len(labels), bool)
    for common in np.flatnonzero(shots.counts > limit):
        keep[rng.permutation(np.flatnonzero(index == common))[limit:]] = False
    return np.flatnonzero(keep)


def _regions(labels: np.ndarray, shots: Shots) -> list[np.ndarray]:
    """The rows of each range of few-shot labels, by label."""
    few, order = shots.of(labels) == "few", np.argsort(labels, kind="stable")
    ranges = np.split(order, np.flatnonzero(np.diff(few[order])) + 1)
    return [rows for rows in ranges if few[rows[0]]]


def _cases(labels: np.ndarray, shots: Shots, rng: np.random.Generator) -> np.ndarray:
    """The seed case of each synthetic sample: the cases of a bin in turn, until the bin is full."""
    index, full = shots.bins.index(labels), math.ceil(shots.few_below)
    bins = [rng.permutation(np.flatnonzero(index == rare)) for rare in np.unique(index)]
    return np.concatenate([np.resize(cases, full - len(cases)) for cases in bins])


def _synthesise(
    labels: np.ndarray, features: np.ndarray, cases: np.ndarray, k: int, noise: bool, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of one region, for each seed case: its neighbour, the share of that, the seed of noise, the label."""
    nearest, distance, safe = _neighbours(features, k)
    which = rng.integers(nearest.shape[1], size=len(cases))
    others, share = nearest[cases, which], rng.random(len(cases))
    mixed = (1 - share) * labels[cases] + share * labels[others]
    jittered = labels[cases] + NOISE_RATIO * labels.std() * rng.standard_normal(len(cases))
    seeds = rng.integers(1, 2**63, len(cases))
    far = noise & (distance[cases, which] >= safe[cases])
    made = np.where(far, jittered, mixed).clip(labels.min(), labels.max())
    return np.where(far, cases, others), np.where(far, 0, share), np.where(far, seeds, 0), made


def _neighbours(features: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The k nearest others of each row (fewer if there are fewer), their distances, and the safe distance.

    A row without others is its own neighbour, at no safe distance.
    """
    if len(features) == 1:
        return np.zeros((1, 1), np.int64), np.zeros((1, 1)), np.zeros(1)
    found = []
    for start in range(0, len(features), BLOCK):
        distance = cdist(features[start : start + BLOCK], features)
        itself = np.arange(len(distance))
        distance[itself, start + itself] = np.inf
        nearest = np.argsort(distance, axis=1, kind="stable")[:, : min(k, len(features) - 1)]
        others = np.sort(distance, axis=1)[:, :-1]
        found.append((nearest, np.take_along_axis(distance, nearest, 1), np.median(others, axis=1) / 2))
    nearest, distance, safe = map(np.concatenate, zip(*found, strict=True))
    return nearest, distance, safe
