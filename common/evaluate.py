"""Evaluation by shots: predictions of a split, its table, and `metrics.json`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from common.draws import evaluation_draws
from common.metrics import Shots, shot_table
from common.regressor import Regressor
from common.task import Data, Split, Task


@torch.no_grad()
def predict(regressor: Regressor, split: Split, task: Task, batch_size: int) -> np.ndarray:
    """Predictions in label units, float32 `(N,)`, in the order of the split."""
    regressor.eval()
    device = next(regressor.parameters()).device
    draws = evaluation_draws(split, batch_size)
    outputs = [regressor(batch.inputs)[0] for batch in split.batches(draws, augment=False, device=device)]
    preds = np.empty(len(split.labels), np.float32)
    preds[np.concatenate([draw.indices for draw in draws])] = torch.cat(outputs).squeeze(1).cpu().numpy()
    return preds * np.float32(task.target_scale)


def evaluate(
    regressor: Regressor, split: Split, task: Task, shots: Shots, batch_size: int
) -> tuple[dict[str, dict[str, Any]], np.ndarray]:
    """The shot table of a split, and the predictions behind it."""
    preds = predict(regressor, split, task, batch_size)
    return shot_table(preds, split.labels, shots, task.metrics), preds


def as_result(
    task: Task, data: Data, table: dict[str, Any], checkpoint: object, epoch: int | None
) -> dict[str, Any]:
    """The content of `metrics.json` (DESIGN, contracts); `standin` is there only where data stood in."""
    result = {"dataset": task.name, "split": "test", "checkpoint": str(checkpoint), "epoch": epoch}
    return result | ({"standin": data.standin} if data.standin else {}) | {"shots": table}
