"""Whether FDS's calibration tells a head the label: errors on features as they are, and calibrated by some bin.

In training the label's own bin chooses scale and shift of a feature; in a test nothing does. Where the head errs less
on features that their true bin calibrated, it has learned to read what it will not have.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from plotting.feature_statistics import check_smoothed, tested_model
from plotting.figures import LINES, title
from plotting.finished_runs import FinishedRun
from reproducing.probed import BINS
from reproducing.table_text import markdown_table
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from common.errors import UserError
from common.fds import FDS
from common.methods.smoothing import SmoothingFlags
from common.metrics import METRICS
from common.settings import Training
from common.task import Split
from common.training.draws import evaluation_draws
from common.training.regressor import Regressor

PARTS = ("all", "emptiest", "middle", "fullest")  # test or training rows, by a third of the bins
READERS = {"head": "the run's head", "ridge": "a new linear reader"}  # of features
FLAGS = ("fds_variant", "fds_mmt", "fds_kernel", "fds_ks", "fds_sigma", "lr", "seed")
STRENGTHS = np.logspace(-3, 5, 9)  # of the ridge, from which it takes the best by leaving one out


@dataclass(frozen=True)
class Rows:
    """The rows of one split: features by what calibrated them, `(N, C)` each, labels and third of bins, `(N,)`."""

    features: Mapping[str, torch.Tensor]
    labels: np.ndarray
    third: np.ndarray

    def part(self, name: str) -> np.ndarray:
        """Return which rows a part has."""
        return np.ones(len(self.third), bool) if name == "all" else self.third == PARTS.index(name) - 1

    def half(self, chosen: np.ndarray) -> Rows:
        """Return the rows that a mask chooses."""
        mask = torch.from_numpy(chosen)
        features = {name: values[mask] for name, values in self.features.items()}
        return Rows(features, self.labels[chosen], self.third[chosen])


def probe(run: FinishedRun, name: str, folder: Path) -> pd.DataFrame:
    """Return the errors of both readers of a run with FDS, by split, calibration and part.

    Raises UserError for a run without FDS, with dense labels, or from before FDS smoothed anything.
    """
    if not run.settings[SmoothingFlags].fds:
        raise UserError(f"{run.folder}: was trained without --fds, so nothing was calibrated")
    settings, data, regressor = tested_model(run, folder)
    fds = regressor.methods["smoothing"].statistics
    assert isinstance(fds, FDS)
    check_smoothed(fds.smoothed_mean_last_epoch, run.checkpoint)
    if data.train.labels is None:
        raise UserError(f"{run.folder}: has a map of labels for each sample; the probe reads one label")
    size, labels, metric = settings[Training].batch_size, data.train.labels, run.task.table[0]
    thirds = thirds_of_bins(fds, labels)
    parts = {x: rows_of(regressor, fds, getattr(data, x), labels, thirds, size) for x in ("train", "test")}
    found = measured(regressor, parts, metric)
    values = run.settings.values()
    told = {"run": name, "metric": metric, "dim": fds.feature_dim} | {x: values[x] for x in FLAGS}
    return pd.DataFrame([told | line for line in found])


@torch.no_grad()
def rows_of(
    regressor: Regressor, fds: FDS, split: Split, training: np.ndarray, thirds: np.ndarray, batch_size: int
) -> Rows:
    """Return the rows of a split, in the order of its evaluation."""
    device, raw, labels = next(regressor.parameters()).device, [], []
    for batch in split.batches(evaluation_draws(split, batch_size), augment=False, device=device):
        raw.append(regressor.encode(batch.inputs).cpu())
        labels.append(batch.targets.flatten().cpu())
    features, own = torch.cat(raw), torch.cat(labels)
    predicted = torch.from_numpy(answers(regressor, features))
    return Rows(
        calibrated(fds, features, own, predicted, training), own.numpy(), thirds[buckets(fds, own.numpy())]
    )


def calibrated(
    fds: FDS, features: torch.Tensor, labels: torch.Tensor, predicted: torch.Tensor, training: np.ndarray
) -> dict[str, torch.Tensor]:
    """Return the features raw, and as the bin of each label, of a random and of the predicted one calibrates them.

    A random bin is any that has a training row.
    """
    _, first = np.unique(buckets(fds, training), return_index=True)
    random = torch.from_numpy(np.random.default_rng(0).choice(training[first], len(labels)))
    by = zip(BINS[1:], (labels, random, predicted), strict=True)
    return {"raw": features} | {name: fds.smooth(features, label, fds.start_smooth) for name, label in by}


def buckets(fds: FDS, labels: np.ndarray) -> np.ndarray:
    """Return the FDS bucket of each label, from 0."""
    return np.clip(fds.bins.index(labels), fds.bucket_start, fds.bucket_num - 1) - fds.bucket_start


def thirds_of_bins(fds: FDS, training: np.ndarray) -> np.ndarray:
    """Return the third of each bucket by training rows, 0 for the emptiest; those without a row are among them."""
    counts = np.bincount(buckets(fds, training), minlength=fds.buckets)
    filled = np.flatnonzero(counts)
    thirds = np.zeros(fds.buckets, int)
    for third, part in enumerate(np.array_split(filled[np.argsort(counts[filled], kind="stable")], 3)):
        thirds[part] = third
    return thirds


@torch.no_grad()
def answers(regressor: Regressor, features: torch.Tensor) -> np.ndarray:
    """Return what the head predicts from features, in label units, `(N,)`."""
    device = next(regressor.parameters()).device
    return regressor.answer(features.to(device)).mean.flatten().cpu().numpy()


def measured(regressor: Regressor, parts: Mapping[str, Rows], metric: str) -> Iterator[dict[str, object]]:
    """Yield the errors of the head, then of a ridge regression that half of the training rows fit."""
    train = parts["train"]
    fit = np.random.default_rng(0).permutation(len(train.labels)) % 2 == 0
    readers = {"head": parts, "ridge": {"train": train.half(~fit), "test": parts["test"]}}
    for name in BINS:
        ridge = fitted(train.half(fit), name)
        for reader, (split, rows) in ((x, pair) for x, of in readers.items() for pair in of.items()):
            features = rows.features[name]
            predicted = answers(regressor, features) if reader == "head" else ridge.predict(features.numpy())
            error = np.abs(predicted - rows.labels) ** (2 if metric == "mse" else 1)
            for part in PARTS:
                mask = rows.part(part)
                value = float(error[mask].mean()) if mask.any() else float("nan")
                told = {"reader": reader, "split": split, "features": name, "part": part}
                yield told | {"n": int(mask.sum()), "error": value}


def fitted(rows: Rows, name: str) -> Pipeline:
    """Return a ridge regression of the label on standardised features."""
    return make_pipeline(StandardScaler(), RidgeCV(STRENGTHS)).fit(rows.features[name].numpy(), rows.labels)


def text(found: pd.DataFrame) -> str:
    """Format the errors of one run as Markdown."""
    lines = [["reader", "split", "bins", "n", *BINS]]
    for key, group in found.groupby(["reader", "split", "part"], sort=False):
        by = dict(zip(group["features"], group["error"], strict=True))
        lines.append([*map(str, key), f"{group['n'].iloc[0]:,}", *(f"{by[x]:.3f}" for x in BINS)])
    first = found.iloc[0]
    heading = (
        f"{first['run']}, seed {first['seed']}: {METRICS[first['metric']].heading} on features by their bin"
    )
    return f"{heading}\n\n{markdown_table(lines, left=3)}\n"


def csv(found: pd.DataFrame) -> str:
    """Format the errors as CSV, a column for each calibration."""
    keys = [name for name in found if name not in ("features", "error")]
    wide = found.pivot(index=keys, columns="features", values="error")[list(BINS)]
    return wide.to_csv(float_format="%.6g")


def figure(found: pd.DataFrame) -> Figure:
    """Draw the errors, means over seeds: a line of panels for each row, a panel for each reader and split."""
    runs, panels = found["run"].unique(), [(x, split) for x in READERS for split in ("train", "test")]
    drawn = Figure(figsize=(13, 1.2 + 2.4 * len(runs)), layout="constrained")
    grid = drawn.subplots(len(runs), len(panels), squeeze=False, sharey="row")
    for line, run in zip(grid, runs, strict=True):
        for axes, (reader, split) in zip(line, panels, strict=True):
            here = found[(found["run"] == run) & (found["reader"] == reader) & (found["split"] == split)]
            for i, (name, (colour, _)) in enumerate(zip(BINS, LINES, strict=False)):
                own = here[here["features"] == name].groupby("part")["error"]
                heights = own.mean().reindex(list(PARTS))
                axes.bar(np.arange(len(PARTS)) + (i - 1.5) * 0.2, heights, 0.2, color=colour, label=name)
            axes.set_xticks(range(len(PARTS)), PARTS)
            axes.set_title(f"{READERS[reader]}, {'training' if split == 'train' else split}", fontsize=9)
        line[0].set_ylabel(f"{textwrap.fill(run, 24)}\n{METRICS[here['metric'].iloc[0]].heading}", fontsize=8)
    drawn.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=len(BINS))
    title(drawn, "Features as they are, and calibrated by a bin; by thirds of bins by training rows")
    return drawn
