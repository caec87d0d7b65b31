"""Metrics by shot: many-, medium- and few-shot labels are reported apart (paper, section 4)."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from common.bins import Bins

GROUPS = ("all", "many", "medium", "few")


def gm(errors: np.ndarray) -> float:
    """Geometric mean of absolute errors over samples; one exact hit makes it 0 (paper, section 4.1)."""
    with np.errstate(divide="ignore"):
        return float(np.exp(np.mean(np.log(errors))))


def gm_nonzero(errors: np.ndarray) -> float:
    """GM as the published STS-B code has it: 1e-10 in place of an error of exactly 0."""
    return gm(np.where(errors == 0, 1e-10, errors))


def _correlation(function: Callable, preds: np.ndarray, labels: np.ndarray) -> float | None:
    if len(preds) < 2:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a constant input has no correlation: NaN, reported as null
        value = float(function(preds, labels)[0])
    return value if np.isfinite(value) else None


METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float | None]] = {
    "mae": lambda preds, labels: float(np.mean(np.abs(preds - labels))),
    "mse": lambda preds, labels: float(np.mean((preds - labels) ** 2)),
    "gm": lambda preds, labels: gm(np.abs(preds - labels)),
    "gm_nonzero": lambda preds, labels: gm_nonzero(np.abs(preds - labels)),
    "pearson": lambda preds, labels: _correlation(stats.pearsonr, preds, labels),
    "spearman": lambda preds, labels: _correlation(stats.spearmanr, preds, labels),
}
HIGHER_IS_BETTER = ("pearson", "spearman", "delta1", "delta2", "delta3")


@dataclass(frozen=True)
class Shots:
    """The shot of a label by the training count of its bin: many above one threshold, few below the other."""

    bins: Bins
    counts: np.ndarray  # training samples in each bin, int64 (bins.num,)
    many_above: float
    few_below: float

    def of(self, labels: np.ndarray) -> np.ndarray:
        """The shot of each label: an array of "many", "medium" and "few", shaped as `labels`."""
        count = self.counts[self.bins.index(labels)]
        return np.where(count > self.many_above, "many", np.where(count < self.few_below, "few", "medium"))

    def groups(self, labels: np.ndarray) -> dict[str, np.ndarray]:
        """A boolean mask over `labels` for each group of the tables.

        Where training lacks a label altogether, `zero` marks it too; such labels stay in `few`, as published.
        """
        shot = self.of(labels)
        masks = {name: np.ones(len(labels), bool) if name == "all" else shot == name for name in GROUPS}
        unseen = self.counts[self.bins.index(labels)] == 0
        return {**masks, "zero": unseen} if unseen.any() else masks


def shot_table(
    preds: np.ndarray, labels: np.ndarray, shots: Shots, metrics: tuple[str, ...]
) -> dict[str, dict[str, float | int | None]]:
    """`metrics` of each group of `shots`, with its `n`; an empty group has n 0 and null metrics.

    `preds` and `labels` are `(N,)`, in label units.
    """
    preds, labels = np.asarray(preds, np.float64), np.asarray(labels)
    table: dict[str, dict[str, float | int | None]] = {}
    for group, mask in shots.groups(labels).items():
        p, y = preds[mask], labels[mask].astype(np.float64)
        # "gm_nonzero" is a way to compute GM, not another metric: both are called gm.
        table[group] = {"n": int(mask.sum())} | {
            name.removesuffix("_nonzero"): METRICS[name](p, y) if len(p) else None for name in metrics
        }
    return table


def prediction_rows(preds: np.ndarray, labels: np.ndarray, shots: Shots) -> pd.DataFrame:
    """What `predictions.csv` holds: one row per sample, in the order of the split."""
    return pd.DataFrame({"label": labels, "prediction": preds, "shot": shots.of(labels)})


def shot_metrics(
    preds: np.ndarray,
    labels: np.ndarray,
    train_labels: np.ndarray,
    many_shot_thr: float = 100,
    low_shot_thr: float = 20,
) -> dict[str, dict[str, float | None]]:
    """`mse`, `l1` and `gmean` for `many`, `median` and `low`, under their published names.

    Labels are counted by whole number (a fraction belongs to the number below it), so labels that are not
    whole do not all fall into `low`. An empty group has None.
    """
    known = np.concatenate([np.ravel(labels), np.ravel(train_labels)])
    bins = Bins.integers(int(np.floor(known.min())), int(np.floor(known.max())))
    shots = Shots(bins, bins.counts(train_labels), many_shot_thr, low_shot_thr)
    table = shot_table(np.ravel(preds), np.ravel(labels), shots, ("mse", "mae", "gm"))
    names = {"mse": "mse", "mae": "l1", "gm": "gmean"}
    return {
        published: {names[metric]: value for metric, value in table[group].items() if metric != "n"}
        for published, group in (("many", "many"), ("median", "medium"), ("low", "few"))
    }
