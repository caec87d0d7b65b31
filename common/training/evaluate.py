"""Evaluation by shots: what a regressor says of a split, its table, and `metrics.json`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from common.metrics import prediction_rows, shot_table
from common.report import Progress
from common.task import Data, Draw, Evaluator, Split, Task
from common.training.draws import evaluation_draws
from common.training.regressor import Regressor


class Predictions:
    """One prediction for each sample (a `common.task.Evaluator`)."""

    def __init__(self, task: Task, split: Split, data: Data) -> None:
        self.task, self.split, self.data = task, split, data
        self.indices: list[np.ndarray] = []
        self.outputs: list[torch.Tensor] = []  # on the device until the end

    def add(self, draw: Draw, outputs: torch.Tensor, targets: torch.Tensor) -> None:
        """Keep the outputs `(n, 1)` of a batch."""
        self.indices.append(draw.indices)
        self.outputs.append(outputs)

    @property
    def preds(self) -> np.ndarray:
        """Predictions in label units, float32 `(N,)`, in the order of the split."""
        preds = np.empty(len(self.split), np.float32)
        preds[np.concatenate(self.indices)] = torch.cat(self.outputs).squeeze(1).cpu().numpy()
        return preds

    def table(self) -> dict[str, dict[str, Any]]:
        """The shot table."""
        return shot_table(self.preds, self.split.labels, self.data.shots, self.task.metrics)

    def rows(self) -> pd.DataFrame:
        """One row per sample."""
        return prediction_rows(self.preds, self.split.labels, self.data.shots)


@torch.no_grad()
def evaluate(regressor: Regressor, split: Split, task: Task, data: Data, batch_size: int) -> Evaluator:
    """What the regressor says of a split: its shot table, and the rows of `predictions.csv` behind it."""
    regressor.eval()
    device = next(regressor.parameters()).device
    evaluator = (task.evaluator or Predictions)(task, split, data)
    draws = evaluation_draws(split, batch_size)
    with Progress(len(split), task.unit, "evaluation") as progress:
        batches = split.batches(draws, augment=False, device=device)
        for draw, batch in zip(draws, batches, strict=True):
            outputs, _ = regressor(batch.inputs)
            evaluator.add(draw, outputs * task.target_scale, batch.targets)
            progress.advance(len(draw.indices))
    return evaluator


def as_result(
    task: Task, data: Data, table: dict[str, Any], checkpoint: object, epoch: int | None
) -> dict[str, Any]:
    """The content of `metrics.json` (DESIGN, contracts).

    `standin` is there only where data stood in, `selected_on` only where it was the test set.
    """
    result = {"dataset": task.name, "split": "test", "checkpoint": str(checkpoint), "epoch": epoch}
    if data.standin:
        result["standin"] = data.standin
    if data.selected_on == "test":
        result["selected_on"] = "test"
    return result | {"shots": table}
