"""Evaluation by shots: the predictions over a split, its table, and `metrics.json`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from common.errors import RunFailed
from common.metrics import shot_table
from common.report import Progress
from common.task import Data, Draw, Evaluator, Prediction, Split, Task
from common.training import ranks
from common.training.draws import evaluation_draws
from common.training.regressor import Regressor
from common.training.scores import score_columns


class Predictions:
    """One row for each sample, a column for each thing that a head predicts (a `common.task.Evaluator`)."""

    def __init__(self, task: Task, split: Split, data: Data) -> None:
        self.task, self.split, self.data = task, split, data
        self.indices: list[np.ndarray] = []
        self.batches: list[dict[str, torch.Tensor]] = []  # on the device until the end

    def add(self, draw: Draw, prediction: Prediction, targets: torch.Tensor) -> None:
        """Keep the predictions `(n, 1)` of a batch."""
        self.indices.append(draw.indices)
        self.batches.append(columns_of(prediction, targets))

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """Labels and predictions in label units, `(N,)` each, in the order of the split.

        Raises RunFailed if a sample was never predicted.
        """
        assert self.split.labels is not None
        indices = np.concatenate(self.indices)
        made = np.bincount(indices, minlength=len(self.split)) > 0
        if not made.all():
            raise RunFailed(f"{(~made).sum():,} of {len(made):,} samples were never predicted")
        columns = {"label": self.split.labels}
        for name in self.batches[0]:
            values = torch.cat([batch[name].flatten() for batch in self.batches]).cpu().numpy()
            columns[name] = np.full(len(made), np.nan, values.dtype)
            columns[name][indices] = values
        return columns

    def table(self) -> dict[str, dict[str, Any]]:
        """Return the shot table."""
        columns, data = self.columns, self.data
        of_labels = {"bin": data.bins.index(columns["label"])}
        if data.relevance is not None:
            of_labels["relevance"] = data.relevance(columns["label"])
        return shot_table(columns | of_labels, data.shots, self.task.metrics)

    def rows(self) -> pd.DataFrame:
        """Return one row per sample, in the order of the split; a split with `names` says which sample it is."""
        columns = self.columns
        more = {name: columns.pop(name) for name in list(columns) if name not in ("label", "prediction")}
        names: tuple[str, Sequence[object]] | None = getattr(self.split, "names", None)
        named = {} if names is None else {names[0]: names[1]}
        return pd.DataFrame(columns | self.data.shots.columns(columns["label"]) | named | more)


def columns_of(prediction: Prediction, targets: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return what was predicted of a batch by column; a distribution gives its deviation and scores of the targets."""
    columns = {"prediction": prediction.mean, **prediction.columns}
    if prediction.distribution is not None:
        columns |= score_columns(prediction.distribution, targets)
    return columns


@torch.no_grad()
def evaluate(regressor: Regressor, split: Split, task: Task, data: Data, batch_size: int) -> Evaluator:
    """Return the regressor's predictions over a split, which give its shot table and `predictions.csv`."""
    regressor.eval()
    device = next(regressor.parameters()).device
    evaluator = (task.evaluator or Predictions)(task, split, data)
    draws = evaluation_draws(split, batch_size)
    with Progress(len(split), task.unit, "evaluation") as progress:
        batches = ranks.batches(split, draws, augment=False, device=device)
        for draw, batch in zip(draws, batches, strict=True):
            prediction = regressor.predict(batch.inputs, batch.share)
            evaluator.add(draw, prediction, ranks.whole(batch).targets)
            progress.advance(len(draw.indices))
    return evaluator
