"""Mean and variance of the features of each label bin, and how alike two bins are (paper, Figure 4)."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from plotting.data_sets import parser_of, task_of
from plotting.finished_runs import FinishedRun
from plotting.label_counts import TrainingLabels

from common import cli
from common.bins import Bins
from common.errors import UserError
from common.fds import FDS
from common.images import task as age
from common.report import Progress
from common.task import Data, Task
from common.training import checkpoint
from common.training.draws import evaluation_draws
from common.training.regressor import Regressor, build_regressor, load_model


class Similarity(NamedTuple):
    """Cosine similarity of each bin's statistics to the anchor's, `(bins,)` each; NaN for an empty bin."""

    at: np.ndarray  # where the bins lie, in label units
    mean: np.ndarray
    variance: np.ndarray


@dataclass(frozen=True)
class Statistics:
    """Feature mean and unbiased variance `(B, C)` of the bins `first` … `first + B - 1` of `bins`."""

    mean: torch.Tensor
    variance: torch.Tensor
    samples: torch.Tensor  # (B,)
    bins: Bins
    first: int = 0

    def similarity(self, anchor: float, training: TrainingLabels) -> Similarity:
        """Return the similarity to the bin of the label `anchor`; raises UserError if it has no sample."""
        centres = training.centres(self.bins)[self.first :][: len(self.mean)]
        here, full = int(self.bins.index(anchor)) - self.first, self.samples.numpy() > 0
        if not (0 <= here < len(full) and full[here]):
            nearest = centres[full][np.abs(centres[full] - anchor).argmin()]
            raise UserError(
                f"--anchor {anchor:g}: has no training sample in its bin; the nearest with one is {nearest:g}"
            )
        sides = [cosine(table, here, full) for table in (self.mean, self.variance)]
        return Similarity(centres, *sides)


def cosine(table: torch.Tensor, anchor: int, full: np.ndarray) -> np.ndarray:
    """Return the cosine of each row of `table` `(B, C)` with row `anchor`; NaN where not `full`, or all is 0."""
    rows = table.double()
    lengths = rows.norm(dim=1)
    products = (rows @ rows[anchor]).numpy() / np.maximum((lengths * lengths[anchor]).numpy(), 1e-300)
    return np.where(full & (lengths.numpy() > 0) & (lengths[anchor].item() > 0), products, np.nan)


def from_buffers(run: FinishedRun, training: TrainingLabels) -> tuple[Statistics, Statistics]:
    """Return the FDS statistics of the last epoch, and the same smoothed.

    They are in the best checkpoint (paper, eqs. 2 and 3). Raises UserError where nothing was smoothed yet.
    """
    path = run.checkpoint
    state = checkpoint.state_of(checkpoint.load(path), path)
    found = {key.rpartition("FDS.")[2]: value for key, value in state.items() if "FDS." in key}
    if "smoothed_mean_last_epoch" not in found:
        raise UserError(f"{path}: holds no FDS statistics")
    if not found["smoothed_mean_last_epoch"].any():
        raise UserError(
            f"{path}: is from before FDS smoothed anything, which is after the second epoch; train for longer"
        )
    where = found["num_samples_tracked"], training.bins, first_bucket(run, training)
    return tuple(
        Statistics(found[f"{kind}_mean_last_epoch"], found[f"{kind}_var_last_epoch"], *where)
        for kind in ("running", "smoothed")
    )


def first_bucket(run: FinishedRun, training: TrainingLabels) -> int:
    """Return the bin of FDS's first bucket; without a flag, the data set's."""
    args = argparse.Namespace(**run.args)
    if args.bucket_start is None:
        age.choose_buckets(args, training.bins, training.bins.num)
    return args.bucket_start


def from_training_set(run: FinishedRun, name: str, folder: Path) -> Statistics:
    """Compute the statistics of the best checkpoint's features in one pass over the training set."""
    device = cli.pick_device("auto")
    task, args = task_of(run.result["dataset"]), run_again(run, folder)
    data = task.load(args)
    regressor = build_regressor(task, args, data).to(device)
    path = run.checkpoint
    load_model(regressor, checkpoint.load(path), task, path)
    return collect(regressor.eval(), task, data, args.batch_size, name)


@torch.no_grad()
def collect(regressor: Regressor, task: Task, data: Data, batch_size: int, name: str) -> Statistics:
    """Compute mean and variance of the features of each bin, in memory of O(bins x C)."""
    split, device = data.statistics or data.train, next(regressor.parameters()).device
    fds = FDS(regressor.encoder.feature_dim, data.bins.num, 0, ks=1, bins=data.bins).to(device)
    with Progress(len(split), task.unit, f"features of {name}") as progress:
        for batch in split.batches(evaluation_draws(split, batch_size), augment=False, device=device):
            fds.collect(regressor(batch.inputs)[1], batch.targets)
            progress.advance(len(batch.targets))
    fds.update(0)
    mean, variance, samples = (t.cpu() for t in (fds.running_mean, fds.running_var, fds.num_samples_tracked))
    return Statistics(mean, torch.where(samples[:, None] > 1, variance, 0.0), samples, data.bins)


def run_again(run: FinishedRun, folder: Path) -> argparse.Namespace:
    """Return the run's arguments for an evaluation; newer flags have their defaults."""
    defaults = vars(parser_of(run.result["dataset"]).parse_args([]))
    now = {"data_dir": folder, "evaluate": True, "workers": os.cpu_count() or 1}
    return argparse.Namespace(**{**defaults, **run.args, **now})
