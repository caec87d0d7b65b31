"""Depth metrics in one pass: sums per bin in float64, so memory does not grow with the images."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from common.task import Data, Draw, Prediction, Split, Task

log = logging.getLogger("dir")
NAMES = ("rmse", "mse", "mae", "abs_rel", "log10", "delta1", "delta2", "delta3")
SUMS = ("n", "mse", "mae", "abs_rel", "log10", "delta1", "delta2", "delta3")
NEAREST = 1e-3  # metres; stands in for a prediction at or below zero, where a logarithm is asked for


class DepthMetrics:
    """The published metrics over all pixels of a split whose depth is known (a `common.task.Evaluator`).

    Outputs are resized to the targets, bilinearly with aligned corners, as published. A prediction at or
    below zero misses every delta and counts as 1 mm in log10 (published: NaN, and a hit); it is counted.
    With `balanced`, every bin that has a pixel weighs the same, as it does in the balanced test set.
    """

    def __init__(self, task: Task, split: Split, data: Data) -> None:
        self.bins, self.shots = data.bins, data.shots
        self.balanced = split is not data.test
        self.sums = np.zeros((self.bins.num, len(SUMS)))
        self.below_zero = 0

    def add(self, draw: Draw, prediction: Prediction, targets: torch.Tensor) -> None:
        """Add one batch of depths in metres: means `(n, 1, h, w)`, targets `(n, 1, H, W)`, NaN if unknown."""
        outputs = prediction.mean
        if outputs.shape[-2:] != targets.shape[-2:]:
            outputs = F.interpolate(outputs, targets.shape[-2:], mode="bilinear", align_corners=True)
        known = ~targets.isnan()
        self.add_pixels(outputs[known], targets[known])

    def add_pixels(self, preds: torch.Tensor, depths: torch.Tensor) -> None:
        """Predicted and true depths in metres, `(p,)` each."""
        index = self.bins.index(depths).cpu()
        p, y = preds.cpu().double(), depths.cpu().double()
        positive = p > 0
        error, safe = (p - y).abs(), torch.where(positive, p, NEAREST)
        ratio = torch.where(positive, torch.maximum(safe / y, y / safe), torch.inf)
        columns = [torch.ones_like(p), error**2, error, error / y, (safe.log10() - y.log10()).abs()]
        columns += [(ratio <= 1.25**power).double() for power in (1, 2, 3)]
        for number, column in enumerate(columns):
            self.sums[:, number] += torch.bincount(index, column, minlength=self.bins.num).numpy()
        self.below_zero += int((~positive).sum())

    def table(self) -> dict[str, dict[str, Any]]:
        """The metrics of each group of depths; `zero` and its kinds if training lacks a tested bin."""
        if self.below_zero:
            log.info(
                "%s of %s predicted depths are at or below zero: no delta hit, 1 mm in log10",
                f"{self.below_zero:,}",
                f"{int(self.sums[:, 0].sum()):,}",
            )
        tested = np.flatnonzero(self.sums[:, 0])
        groups = self.shots.groups(self.bins.centers[tested])
        return {group: self._metrics(tested[mask]) for group, mask in groups.items()}

    def rows(self) -> pd.DataFrame:
        """One row per bin: its middle in metres, shot, training and tested pixels, and metrics."""
        middle = self.bins.centers
        columns = {
            "bin": np.arange(self.bins.num),
            "label": middle.round(6),
            "shot": self.shots.of(middle),
            "train_pixels": self.shots.counts,
        }
        per_bin = [self._metrics(np.array([i])) for i in range(self.bins.num)]
        return pd.DataFrame(columns | {name: [row[name] for row in per_bin] for name in ("n", *NAMES)})

    def _metrics(self, bins: np.ndarray) -> dict[str, Any]:
        n = int(self.sums[bins, 0].sum())
        if n == 0:
            return {"n": 0} | dict.fromkeys(NAMES)
        if self.balanced:
            sums = self.sums[bins]
            means = (sums / sums[:, :1]).mean(0)
        else:
            means = self.sums[bins].sum(0) / n
        found = dict(zip(SUMS, means.tolist(), strict=True))
        found["rmse"] = found["mse"] ** 0.5
        return {"n": n} | {name: found[name] for name in NAMES}
