"""Metrics by shot: many-, medium- and few-shot labels are reported apart (paper, section 4).

A metric is a value: its name, which way is better, the prediction columns that it needs, and how it is
computed. Importing this module loads neither torch nor pandas.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from common.bins import Bins

GROUPS = ("all", "many", "medium", "few")
UNSEEN = ("interpolation", "extrapolation")  # the two kinds of zero-shot labels
# Of equal length: "label", "prediction", "bin" and "relevance" of the label, and what a head adds.
Columns = Mapping[str, np.ndarray]


def gm(errors: np.ndarray) -> float:
    """Return the geometric mean of absolute errors; one exact hit makes it 0 (paper, section 4.1)."""
    with np.errstate(divide="ignore"):
        return float(np.exp(np.mean(np.log(errors))))


def gm_nonzero(errors: np.ndarray) -> float:
    """Return GM as the published STS-B code has it: 1e-10 in place of an error of exactly 0."""
    return gm(np.where(errors == 0, 1e-10, errors))


def over_bins(columns: Columns, errors: np.ndarray) -> float:
    """Return the mean over bins with a sample of the mean error in each (Ren et al., CVPR 2022)."""
    _, index = np.unique(columns["bin"], return_inverse=True)
    return float(np.mean(np.bincount(index, errors) / np.bincount(index)))


def ause(columns: Columns) -> float | None:
    """Return the area under the sparsification error, as VIR's code has it (Wang and Wang, NeurIPS 2023).

    Samples are left out one by one, by falling spread and by falling error, until one is left. The curve is the
    difference between the two mean errors of what is left, divided by its maximum, over the share left out from 0
    to 1. None for fewer than three samples, which make no curve.
    """
    errors = _errors(columns)
    if len(errors) < 3:
        return None
    left = np.arange(len(errors), 0, -1)
    by_std, by_error = (
        np.cumsum(errors[np.argsort(-order, kind="stable")][::-1])[::-1] / left
        for order in (columns["std"], errors)
    )
    curve = np.abs(by_std - by_error)[1:]
    return float(np.trapezoid(curve, dx=1 / (len(curve) - 1)) / curve.max()) if curve.any() else 0.0


def uce(columns: Columns) -> float:
    """Return |mean error - mean std| over ten bins of equal width in std, weighted by their samples.

    UVOTE reports it (Jiang et al., GCPR 2024).
    """
    std = columns["std"]
    index = np.searchsorted(np.linspace(std.min(), std.max(), 11)[1:-1], std, side="right")
    return float(np.abs(np.bincount(index, _errors(columns) - std)).sum() / len(std))


def coverage(columns: Columns) -> tuple[np.ndarray, np.ndarray]:
    """Return the levels of central intervals at which one more label is covered, and the share covered until then.

    Levels begin at 0 and end at 1; the share holds between two of them.
    """
    level = np.sort(np.abs(2 * columns["pit"] - 1))
    return np.concatenate([[0], level, [1]]), np.arange(len(level) + 1) / len(level)


def miscalibration(columns: Columns) -> float:
    """Return the area between the observed and the expected coverage of central intervals, from 0 to 1/2.

    Kuleshov et al., ICML 2018, have the curve, Tran et al., 2020, the area. It is exact.
    """
    level, observed = coverage(columns)
    over, under = level[1:] - observed, observed - level[:-1]
    return float(np.sum(over * np.abs(over) + under * np.abs(under)) / 2)


def sera(columns: Columns) -> float | None:
    """Return the squared error-relevance area (Ribeiro and Moniz, 2020); None without a relevant label.

    The integral over t from 0 to 1 of the squared errors of labels of relevance t or more. An error counts up to
    the relevance of its label, so the integral is the sum of relevance times squared error.
    """
    relevance = columns["relevance"]
    return float(np.sum(relevance * _errors(columns) ** 2)) if relevance.any() else None


def _mean(name: str) -> Callable[[Columns], float]:
    return lambda columns: float(np.mean(columns[name]))


def _errors(columns: Columns) -> np.ndarray:
    return np.abs(columns["prediction"] - columns["label"])


def _correlation(name: str) -> Callable[[Columns], float | None]:
    def compute(columns: Columns) -> float | None:
        from scipy import stats  # a second to import

        if len(columns["label"]) < 2:
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a constant input has no correlation: NaN, reported as null
            value = float(getattr(stats, name)(columns["prediction"], columns["label"])[0])
        return value if np.isfinite(value) else None

    return compute


@dataclass(frozen=True)
class Metric:
    """A metric of a table: what it is called, which way is better, what it needs, and how it is computed."""

    name: str
    heading: str  # in tables
    compute: Callable[[Columns], float | None] | None = None  # None: a data set's own evaluator computes it
    higher_is_better: bool = False
    needs: tuple[str, ...] = ("prediction",)  # columns

    @property
    def key(self) -> str:
        """Its name in metrics.json: `gm_nonzero` is a way to compute GM, not another metric."""
        return self.name.removesuffix("_nonzero")


_METRICS = (
    Metric("mae", "MAE", lambda c: float(np.mean(_errors(c)))),
    Metric("mse", "MSE", lambda c: float(np.mean((c["prediction"] - c["label"]) ** 2))),
    Metric("gm", "GM", lambda c: gm(_errors(c))),
    Metric("gm_nonzero", "GM", lambda c: gm_nonzero(_errors(c))),
    Metric("bmae", "bMAE", lambda c: over_bins(c, _errors(c)), needs=("prediction", "bin")),
    Metric("bmse", "bMSE", lambda c: over_bins(c, _errors(c) ** 2), needs=("prediction", "bin")),
    Metric("pearson", "Pearson", _correlation("pearsonr"), higher_is_better=True),
    Metric("spearman", "Spearman", _correlation("spearmanr"), higher_is_better=True),
    Metric("nll", "NLL", _mean("nll"), needs=("nll",)),
    Metric("crps", "CRPS", _mean("crps"), needs=("crps",)),  # Gneiting and Raftery, 2007
    Metric("ause", "AUSE", ause, needs=("std",)),
    Metric("uce", "UCE", uce, needs=("std",)),
    Metric("miscalibration", "Miscal.", miscalibration, needs=("pit",)),
    Metric("sera", "SERA", sera, needs=("prediction", "relevance")),
    Metric("rmse", "RMSE"),
    Metric("abs_rel", "Abs rel"),
    Metric("log10", "Log10"),
    Metric("delta1", "Delta 1", higher_is_better=True),
    Metric("delta2", "Delta 2", higher_is_better=True),
    Metric("delta3", "Delta 3", higher_is_better=True),
)
METRICS: dict[str, Metric] = {metric.name: metric for metric in _METRICS}
WITH_DISTRIBUTION = ("nll", "ause")  # in every table whose head predicts a distribution
WHERE_KNOWN = (*WITH_DISTRIBUTION, "crps", "uce", "miscalibration", "sera")  # in metrics.json


def unseen_bins(counts: np.ndarray) -> np.ndarray:
    """Return the kind of each bin without a training sample, "" for all others; shaped as `counts`.

    "interpolation": it lies between bins that have one; "extrapolation": it lies outside (paper, Table 6).
    """
    seen = counts > 0
    between = np.logical_or.accumulate(seen) & np.logical_or.accumulate(seen[::-1])[::-1]
    return np.where(seen, "", np.where(between, *UNSEEN))


@dataclass(frozen=True)
class Shots:
    """The shot of a label by the training count of its bin: many above one threshold, few below the other."""

    bins: Bins
    counts: np.ndarray  # training samples in each bin, int64 (bins.num,)
    many_above: float
    few_below: float
    rule: str | None = None  # in words, where the thresholds follow from the counts

    def of(self, labels: np.ndarray) -> np.ndarray:
        """Return the shot of each label: an array of "many", "medium" and "few", shaped as `labels`."""
        count = self.counts[self.bins.index(labels)]
        return np.where(count > self.many_above, "many", np.where(count < self.few_below, "few", "medium"))

    def unseen(self, labels: np.ndarray) -> np.ndarray:
        """Return the kind of each zero-shot label, "" for all others; shaped as `labels`."""
        return unseen_bins(self.counts)[self.bins.index(labels)]

    def columns(self, labels: np.ndarray) -> dict[str, np.ndarray]:
        """Return the columns of predictions.csv that say the groups of a label: `unseen` only where one is."""
        kind = self.unseen(labels)
        return {"shot": self.of(labels)} | ({"unseen": kind} if (kind != "").any() else {})

    def groups(self, labels: np.ndarray) -> dict[str, np.ndarray]:
        """Return a boolean mask over `labels` for each group of the tables.

        Where training lacks a label altogether, `zero` and its kind mark it too; it stays in `few`, as published.
        """
        shot, kind = self.of(labels), self.unseen(labels)
        masks = {name: np.ones(len(labels), bool) if name == "all" else shot == name for name in GROUPS}
        zero = {"zero": kind != ""} | {name: kind == name for name in UNSEEN}
        return masks | zero if zero["zero"].any() else masks


def shot_table(
    columns: Columns, shots: Shots, metrics: tuple[str, ...]
) -> dict[str, dict[str, float | int | None]]:
    """Return the metrics of each group of `shots`, with its `n`; an empty group has n 0 and null metrics.

    `columns` hold `label` and `prediction`, `(N,)`, in label units. A metric whose columns are not there is
    left out; `WHERE_KNOWN` are there wherever their columns are.
    """
    labels = np.asarray(columns["label"])
    exact = {name: np.asarray(values, np.float64) for name, values in columns.items()}
    known = [METRICS[name] for name in (*metrics, *WHERE_KNOWN) if columns.keys() >= set(METRICS[name].needs)]
    table: dict[str, dict[str, float | int | None]] = {}
    for group, mask in shots.groups(labels).items():
        own = {name: values[mask] for name, values in exact.items()}
        table[group] = {"n": int(mask.sum())} | {
            metric.key: metric.compute(own) if mask.any() and metric.compute else None for metric in known
        }
    return table


def shot_metrics(
    preds: np.ndarray,
    labels: np.ndarray,
    train_labels: np.ndarray,
    many_shot_thr: float = 100,
    low_shot_thr: float = 20,
) -> dict[str, dict[str, float | None]]:
    """Return `mse`, `l1` and `gmean` for `many`, `median` and `low`, under their published names.

    Labels are counted by whole number (a fraction belongs to the number below it), so labels that are not
    whole do not all fall into `low`. An empty group has None.
    """
    known = np.concatenate([np.ravel(labels), np.ravel(train_labels)])
    bins = Bins.integers(int(np.floor(known.min())), int(np.floor(known.max())))
    shots = Shots(bins, bins.counts(train_labels), many_shot_thr, low_shot_thr)
    table = shot_table(
        {"label": np.ravel(labels), "prediction": np.ravel(preds)}, shots, ("mse", "mae", "gm")
    )
    names = {"mse": "mse", "mae": "l1", "gm": "gmean"}
    return {
        published: {names[metric]: value for metric, value in table[group].items() if metric != "n"}
        for published, group in (("many", "many"), ("median", "medium"), ("low", "few"))
    }
