"""A data set as a value: what the engine needs to know of it, and nothing else.

A new data set is one folder with a `train.py` that fills in a `Task`; no other file changes.
"""

from __future__ import annotations

import argparse
import functools
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
import torch

from common.bins import Bins
from common.errors import UserError
from common.lds import sample_weights
from common.metrics import Shots


class Draw(NamedTuple):
    """One batch to be made: which samples, and the seed of whatever augmentation draws for them."""

    indices: np.ndarray  # int64 (n,)
    seed: int


class Batch(NamedTuple):
    """What a regressor trains on, on the device: inputs, targets `(n, 1)`, weights `(n, 1)` or None.

    Dense targets and weights are maps `(n, 1, H, W)`; a target that is NaN is unknown. Where there is one,
    `valid` is False there and True elsewhere; None says that all are known.
    """

    inputs: Any
    targets: torch.Tensor
    weights: torch.Tensor | None
    valid: torch.Tensor | None = None


class Split(Protocol):
    """One split of a data set. Batches depend on the draws alone, so a resumed run sees the same ones."""

    labels: np.ndarray  # float32 (N,); dense labels are read with their batch
    weights: np.ndarray | None  # of the loss, float32 (N,); of a dense split, of each bin
    lengths: np.ndarray | None  # cost of each sample, for batches of like length; None where all are equal

    def __len__(self) -> int: ...

    def batches(self, draws: Iterable[Draw], *, augment: bool, device: torch.device) -> Iterator[Batch]:
        """The batch of each draw, in order; `augment` where the training transforms are wanted."""
        ...


class Evaluator(Protocol):
    """Takes what a regressor says of a split, batch by batch, and gives its tables."""

    def add(self, draw: Draw, outputs: torch.Tensor, targets: torch.Tensor) -> None:
        """One batch: outputs and targets in label units, on the device."""
        ...

    def table(self) -> dict[str, dict[str, float | int | None]]:
        """The metrics of each shot, with `n`."""
        ...

    def rows(self) -> pd.DataFrame:
        """What `predictions.csv` holds."""
        ...


@dataclass(frozen=True)
class Data:
    """The three splits, the bins of their labels, and what a table must say of them."""

    train: Split
    val: Split
    test: Split
    bins: Bins  # of re-weighting and LDS; FDS's buckets are its bins bucket_start … bucket_num - 1
    shots: Shots  # by training counts; its bins may be others
    statistics: Split | None = None  # FDS's own subset, not augmented; None takes training, augmented (F4)
    selected_on: str = "validation"  # what `val` is: the paper's depth models are selected on the test set
    standin: str | None = None  # what stands in for the real data, in words; None on real data
    extra: Any = None  # what only the task's own `build` reads (a vocabulary, word vectors)


@dataclass(frozen=True)
class Task:
    """The settings in which the published copies differ (protocol of the paper, section 4 and appendix B)."""

    name: str
    unit: str  # what one sample is, for the progress bar
    fds_clip: tuple[float, float]  # bounds of the variance ratio in the calibration
    load: Callable[[argparse.Namespace], Data]
    build: Callable[[argparse.Namespace, Data], torch.nn.Module]  # the encoder; says its `feature_dim`
    key_map: tuple[tuple[str, str], ...]  # (prefix here, prefix in the published state_dict)
    checkpoint_hint: str = ""  # what an error on a checkpoint that does not fit adds
    fds_empty: str = "keep"
    lds_reweight: str = "sqrt_inv"  # what `--lds` alone means in the paper's rows
    lds_border: str = "constant"
    clip_counts: tuple[int, int] | None = None  # of `inverse`
    head: Callable[[int], torch.nn.Module] = functools.partial(torch.nn.Linear, out_features=1)
    retrained: tuple[str, ...] = ()  # parts of the encoder that RRT trains anew with the head
    target_scale: float = 1.0  # the regressor learns label / target_scale
    focal_beta: float = 0.2
    adam_weight_decay: float | None = None  # None: --weight_decay, as with SGD
    select: str = "mae"  # the validation metric that picks the best checkpoint
    metrics: tuple[str, ...] = ("mae", "mse", "gm")  # of metrics.json
    table: tuple[str, ...] = ("mae", "gm")  # of the table that a person reads
    counted: str = "samples"  # what shots count
    evaluator: Callable[[Task, Split, Data], Evaluator] | None = None  # None: a prediction for each sample
    published: Callable[[dict[str, Any]], dict[str, Any]] | None = None  # more keys of a checkpoint

    def weights(self, args: argparse.Namespace, labels: np.ndarray, bins: Bins) -> np.ndarray | None:
        """The loss weight of each training sample, float32 `(N,)` of mean 1; None without re-weighting."""
        if args.reweight == "none":
            return None
        return sample_weights(
            labels,
            bins,
            reweight=args.reweight,
            lds=args.lds,
            lds_kernel=args.lds_kernel,
            lds_ks=args.lds_ks,
            lds_sigma=args.lds_sigma,
            clip_counts=self.clip_counts,
            border=self.lds_border,
        )


class Standin(NamedTuple):
    """What `standin.json` in a data folder says; all None on real data."""

    note: str | None = None
    many_above: float | None = None  # shot thresholds, scaled with the data
    few_below: float | None = None


def read_standin(folder: Path) -> Standin:
    """The stand-in's note and thresholds; raises UserError if `standin.json` is there and broken."""
    path = folder / "standin.json"
    if not path.exists():
        return Standin()
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        note = f"{told['dataset']} at scale {told['scale']:g}, seed {told['seed']}: {told['note']}"
        return Standin(note, float(told["many_above"]), float(told["few_below"]))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: is broken; draw the stand-in again with scripts/make_standin.py") from error
