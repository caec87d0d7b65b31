"""A data set as a value: what the engine needs to know of it, and nothing else.

A new data set is one folder with a `*_task.py` that fills in a `Task`; no other file changes.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch

from common.batch import Batch, Draw, Prediction
from common.bins import Bins
from common.cli import ROOT
from common.errors import UserError
from common.metrics import Shots
from common.relevance import Relevance
from common.settings import Settings

if TYPE_CHECKING:
    import pandas as pd


class Split(Protocol):
    """One split of a data set. Batches depend on the draws alone, so a resumed run sees the same ones.

    A split may have `names` as well, a column of `predictions.csv` and its value for each sample: ("path", paths).
    """

    @property
    def labels(self) -> np.ndarray | None:
        """Labels, float32 `(N,)`; None for dense labels, which are read with their batch."""

    @property
    def weights(self) -> np.ndarray | None:
        """Weights of the loss, float32 `(N,)`; of a dense split, of each bin."""

    @property
    def lengths(self) -> np.ndarray | None:
        """Cost of each sample, for batches of like length; None where all are equal."""

    @property
    def augments(self) -> bool:
        """Whether batches with `augment` differ from those without."""
        ...

    def __len__(self) -> int: ...

    def batches(self, draws: Iterable[Draw], *, augment: bool, device: torch.device) -> Iterator[Batch]:
        """Yield the batch of each draw, in order; `augment` where the training transforms are wanted."""
        ...

    def weighted(self, weights: np.ndarray) -> Split:
        """Return this split with weights of the loss."""
        ...


class Evaluator(Protocol):
    """Accumulates predictions over a split and computes its metrics."""

    def add(self, draw: Draw, prediction: Prediction, targets: torch.Tensor) -> None:
        """Add one batch; predictions and targets are in label units, on the device."""
        ...

    def table(self) -> dict[str, dict[str, float | int | None]]:
        """Return the metrics of each shot, with `n`."""
        ...

    def rows(self) -> pd.DataFrame:
        """Return what `predictions.csv` holds."""
        ...


@dataclass(frozen=True)
class Data:
    """The three splits, the bins of their labels, and what a table must say of them."""

    train: Split
    val: Split
    test: Split
    bins: Bins  # of re-weighting and LDS
    shots: Shots  # by training counts; its bins may be others
    buckets: tuple[int, int] | None = (
        None  # first bin with feature statistics, and one past the last; None: all
    )
    counts: np.ndarray | None = None  # training labels in each bin, int64 (B,), where labels are dense
    statistics: Split | None = (
        None  # a subset for feature statistics, not augmented; None: training, augmented
    )
    selected_on: str = "validation"  # what `val` is: the paper's depth models are selected on the test set
    tied: Mapping[str, str] = field(
        default_factory=dict
    )  # digests of what weights depend on: {"vocabulary": …}
    kept: Mapping[str, Any] = field(default_factory=dict)  # what `Task.load_tested` needs of the other splits
    standin: str | None = None  # what stands in for the real data, in words; None on real data
    name: str | None = None  # of a user's own data; None: the task's
    relevance: Relevance | None = None  # by training labels; None: by those of `train` as it is loaded
    target: tuple[float, float] | None = None  # (target_mean, target_scale), where the data say them
    extra: Any = None  # what only the task's own `build` reads (a vocabulary, word vectors)

    def for_checkpoint(self) -> dict[str, Any]:
        """Return what every checkpoint of a run on these data holds."""
        return {"tied": dict(self.tied)} | ({"kept": dict(self.kept)} if self.kept else {})


class Length(NamedTuple):
    """How long a run is: a check every `check_every` steps (0: every epoch), `checks` times at most."""

    check_every: int
    checks: int
    first_epoch: int = 0


def linear_head(dim: int) -> torch.nn.Module:
    """Return the usual head: features `(n, dim)` to outputs `(n, 1)`."""
    return torch.nn.Linear(dim, 1)


def nothing_to_complete(settings: Settings) -> Settings:
    """Return the settings as they are."""
    return settings


@dataclass(frozen=True)
class Task:
    """One data set: its settings, how to load it, how to build its encoder, and where the published copies differ."""

    name: str  # its folder is NAME-dir, its data land in data/NAME
    title: str  # as the paper writes it
    unit: str  # what one sample is, for the progress bar
    load: Callable[[Settings], Data]
    build: Callable[[Settings, Data], torch.nn.Module]  # the encoder; says its `feature_dim`
    run_name: Callable[[Settings, str], str]  # from the part of the name that the methods compose
    length: Callable[[Settings], Length]
    load_tested: Callable[[Settings, Mapping[str, Any]], Data] | None = (
        None  # for --evaluate, from what a checkpoint has `kept` (nothing: {}); None: as `load`
    )
    files: Callable[[Settings], list[Path]] = (
        lambda settings: []
    )  # their bytes say what labels, names and texts are
    flags: tuple[type, ...] = ()  # groups of settings of its own
    defaults: Mapping[str, Any] = field(default_factory=dict)  # of shared settings, where it has others
    complete: Callable[[Settings], Settings] = nothing_to_complete  # what one flag means for another
    key_map: tuple[tuple[str, str], ...] = ()  # (prefix here, prefix in the published state_dict)
    method_prefix: str = ""  # before the keys of methods in the published state_dict
    checkpoint_hint: str = ""  # what an error on a checkpoint that does not fit adds
    pretrained: tuple[str, ...] = ("encoder.",)  # what --pretrained takes over
    methods_without: tuple[str, ...] = ()  # methods that this data set has not
    fds_clip: tuple[float, float] = (0.1, 10.0)  # bounds of the variance ratio in the calibration
    fds_empty: str = "keep"
    fds_released: Mapping[str, str] = field(
        default_factory=lambda: {"variant": "released"}
    )  # how released FDS departs
    lds_reweight: str = "sqrt_inv"  # what `--lds` alone means in the paper's rows
    lds_border: str = "constant"
    clip_counts: tuple[int, int] | None = None  # of `inverse`
    head: Callable[[int], torch.nn.Module] = linear_head
    retrained: tuple[str, ...] = ()  # parts of the encoder that RRT trains anew with the head
    target_mean: float = 0.0  # the regressor learns (label - target_mean) / target_scale
    target_scale: float = 1.0
    focal_beta: float = 0.2
    adam_weight_decay: float | None = None  # None: --weight_decay, as with SGD
    select: Callable[[Settings], str] = lambda settings: (
        "mae"
    )  # the validation metric that picks the best checkpoint
    metrics: tuple[str, ...] = ("mae", "mse", "gm")  # of metrics.json
    table: tuple[str, ...] = ("mae", "gm")  # of the table that a person reads
    counted: str = "samples"  # what shots count
    label_name: str = "label"  # what a label is, for the axes of pictures
    label_unit: str = ""  # of a label: "years"; empty where it has none
    evaluator: Callable[[Task, Split, Data], Evaluator] | None = None  # None: a prediction for each sample
    model_name: Callable[[Settings], str] | None = None  # `model` of a checkpoint; None: the task's name
    epoch_offset: int = 0  # a published checkpoint of epoch e has seen e + this many epochs
    published: Callable[[dict[str, Any]], dict[str, Any]] | None = None  # more keys of a checkpoint

    def learned(self, labels: torch.Tensor) -> torch.Tensor:
        """Return labels as the regressor learns them."""
        return (labels - self.target_mean) / self.target_scale

    def in_label_units(self, outputs: torch.Tensor) -> torch.Tensor:
        """Return what the regressor has learned in label units."""
        return outputs * self.target_scale + self.target_mean


def task_names() -> list[str]:
    """Return the names of all data sets of this repository."""
    return sorted(path.parent.name.removesuffix("-dir") for path in ROOT.glob("*-dir/*_task.py"))


@functools.cache
def load_task(name: str) -> Task:
    """Return the `TASK` of a data set's folder; raises UserError if there is no such data set."""
    found = sorted((ROOT / f"{name}-dir").glob("*_task.py"))
    if not found:
        raise UserError(f"{name}: there is no such data set; there are {', '.join(task_names())}")
    folder = str(found[0].parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)  # its modules import each other
    return importlib.import_module(found[0].stem).TASK
