"""Mean and variance of the features of each label bin, and how alike two bins are (paper, Figure 4)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from plotting.finished_runs import FinishedRun
from plotting.label_counts import TrainingLabels

from common import cli
from common.bins import Bins
from common.errors import UserError
from common.fds import FDS
from common.images.task import ImageFlags, choose_buckets
from common.method import choose_methods
from common.report import Progress
from common.settings import Settings, Training
from common.task import Data, Task
from common.training import checkpoint
from common.training.draws import evaluation_draws
from common.training.regressor import Regressor, build_regressor, check_tied, load_model


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
    check_smoothed(found["smoothed_mean_last_epoch"], path)
    samples = found["num_samples_tracked"]
    where = samples, training.bins, last_bucket(run.settings, training) - len(samples)
    running, smoothed = (
        Statistics(found[f"{kind}_mean_last_epoch"], found[f"{kind}_var_last_epoch"], *where)
        for kind in ("running", "smoothed")
    )
    return running, smoothed


def check_smoothed(mean: torch.Tensor, path: Path) -> None:
    """Raise UserError if FDS has not smoothed its means yet."""
    if not mean.any():
        raise UserError(
            f"{path}: is from before FDS smoothed anything, which is after the second epoch; train for longer"
        )


def last_bucket(settings: Settings, training: TrainingLabels) -> int:
    """Return one past the bin of FDS's last bucket; without a flag, the data set's."""
    bins = training.bins
    if ImageFlags in settings:
        return choose_buckets(settings[ImageFlags], bins, 0, bins.num)[1]
    return settings.values().get("bucket_num", bins.num)


def from_training_set(run: FinishedRun, name: str, folder: Path) -> Statistics:
    """Compute the statistics of the best checkpoint's features in one pass over the training set."""
    settings, data, regressor = tested_model(run, folder)
    return collect(regressor, run.task, data, settings[Training].batch_size, name)


def tested_model(run: FinishedRun, folder: Path) -> tuple[Settings, Data, Regressor]:
    """Return the model of the best checkpoint, for evaluation, and its data with the training set."""
    task, settings = run.task, run_again(run.settings, folder)
    data = task.load(settings.with_(evaluate=False))  # the training set is what is wanted
    regressor = build_regressor(task, settings, data, choose_methods(task, settings))
    for method in regressor:
        method.setup(regressor)
    content = checkpoint.load(run.checkpoint)
    check_tied(content, data, run.checkpoint)
    load_model(regressor, content, task, run.checkpoint)
    regressor.to(cli.pick_device("auto")).eval()
    return settings, data, regressor


@torch.no_grad()
def collect(regressor: Regressor, task: Task, data: Data, batch_size: int, name: str) -> Statistics:
    """Compute mean and variance of the features of each bin, in memory of O(bins x C)."""
    split, device = data.statistics or data.train, next(regressor.parameters()).device
    dim = regressor.encoder.feature_dim
    assert isinstance(dim, int)
    fds = FDS(dim, data.bins.num, 0, ks=1, bins=data.bins).to(device)
    with Progress(len(split), task.unit, f"features of {name}") as progress:
        for batch in split.batches(evaluation_draws(split, batch_size), augment=False, device=device):
            fds.collect(regressor.encoder(batch.inputs), batch.targets)
            progress.advance(len(batch.targets))
    fds.update(0)
    mean, variance, samples = (t.cpu() for t in (fds.running_mean, fds.running_var, fds.num_samples_tracked))
    return Statistics(mean, torch.where(samples[:, None] > 1, variance, 0.0), samples, data.bins)


def run_again(settings: Settings, folder: Path) -> Settings:
    """Return a run's settings for an evaluation with the data of this folder."""
    return settings.with_(data_dir=folder, evaluate=True, workers=os.cpu_count() or 1)
