"""Training, validation and test rows of a table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from table_columns import FIRST_LINE

from common.datasets.faces import SPLITS
from common.errors import UserError
from common.methods.resample import NOISE_RATIO, Plan
from common.task import Batch, Draw


@dataclass(eq=False)
class TableSplit:
    """One split: vectors float32 `(N, d)`, labels and weights float32 `(N,)`, and the line of each row."""

    augments: ClassVar[bool] = False
    vectors: np.ndarray
    labels: np.ndarray
    numbers: int  # the vectors' first entries are numbers, the others 0 or 1
    lines: np.ndarray | None = None
    weights: np.ndarray | None = None
    lengths: None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def names(self) -> tuple[str, np.ndarray] | None:
        """The column of `predictions.csv` that says which row of the CSV it is."""
        return None if self.lines is None else ("line", self.lines)

    def weighted(self, weights: np.ndarray) -> TableSplit:
        """Return this split with weights of the loss."""
        return replace(self, weights=weights)

    def batches(self, draws: Iterable[Draw], *, augment: bool, device: torch.device) -> Iterator[Batch]:
        """Yield the batch of each draw; nothing is augmented."""
        columns = (self.labels, self.weights)
        vectors = torch.from_numpy(self.vectors).to(device)
        labels, weights = (None if c is None else torch.from_numpy(c).to(device)[:, None] for c in columns)
        assert labels is not None
        for draw in draws:
            rows = torch.from_numpy(draw.indices).to(device)
            yield Batch(vectors[rows], labels[rows], None if weights is None else weights[rows])

    def resampled(self, rows: np.ndarray, plan: Callable[[np.ndarray], Plan]) -> TableSplit:
        """Return the split that `plan` makes; numbers are mixed, the rest is that of the first row."""
        made = plan(self.vectors[rows])
        vectors, numbers = self.vectors[made.first], slice(0, self.numbers)
        spread, share = self.vectors[rows, numbers].std(axis=0), made.share[:, None]
        vectors[:, numbers] += share * (self.vectors[made.second, numbers] - vectors[:, numbers])
        for row in np.flatnonzero(made.noise):
            noise = np.random.default_rng(made.noise[row]).standard_normal(self.numbers, np.float32)
            vectors[row, numbers] += NOISE_RATIO * spread * noise
        return TableSplit(vectors, made.labels, self.numbers)


def read_splits(column: pd.Series, path: Path) -> np.ndarray:
    """Return the split of each row, which the column says.

    Raises UserError for another word, or a split without rows.
    """
    splits = column.fillna("").to_numpy(str)
    unknown = np.flatnonzero(~np.isin(splits, SPLITS))
    if len(unknown):
        row = int(unknown[0])
        raise UserError(
            f"{path}, line {row + FIRST_LINE}: {column.name} '{splits[row]}' is none of {', '.join(SPLITS)}"
        )
    for name in SPLITS:
        if name not in splits:
            raise UserError(
                f"{path}: {column.name} has no {name} row; add some, or --split balanced makes splits"
            )
    return splits
