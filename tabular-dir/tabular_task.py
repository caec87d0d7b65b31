"""A table of numbers and categories with a number to predict, as a `Task`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from table_columns import FIRST_LINE, Columns, equal_columns, fit_columns, numbers_of, read_table
from table_split import TableSplit, read_splits
from torch import nn

from common.bins import Bins
from common.datasets.faces import SPLITS
from common.datasets.own import (
    check_bins,
    check_groups,
    csv_of,
    in_its_folder,
    label_bins,
    make_splits,
    shots_by_share,
)
from common.errors import UserError
from common.files import digest, write_atomically
from common.flags import POSITIVE, flag
from common.methods.criterion import CriterionFlags
from common.metrics import Shots
from common.report import log
from common.settings import Running, Settings, Training
from common.task import Data, Length, Task
from common.training import command

SPLIT_FILE = "split.csv"  # in a run's directory, where its splits were made


@dataclass(frozen=True)
class TableFlags:
    """Tables."""

    csv: str = flag("", "the table, a CSV whose first line names its columns", metavar="FILE")
    target: str = flag("", "the column of labels", metavar="COLUMN")
    split: str = flag(
        "split", "a column with train, val and test; or make splits: balanced over labels, or random"
    )
    split_seed: int = flag(0, "seed of the splits that are made", low=0)
    group: str = flag("", "a column whose equal values stay in one split", metavar="COLUMN")
    categories: tuple[str, ...] = flag((), "columns of categories that look like numbers", metavar="COLUMN")
    ignore: tuple[str, ...] = flag((), "columns to leave out", metavar="COLUMN")
    bin_width: float | None = flag(None, "width of a label bin", low=POSITIVE)
    bins: int | None = flag(
        None, "number of label bins of equal width (default: one for each whole number, or Freedman-Diaconis)", low=1
    )  # fmt: skip
    shots: str = flag(
        "counts", "by training rows in a label's bin, or a third of training rows each", choices=("counts", "share")
    )  # fmt: skip
    many_above: float = flag(100, "many-shot: more in the bin", low=0, when=lambda own: own.shots == "counts")
    few_below: float = flag(20, "few-shot: fewer in the bin", low=0, when=lambda own: own.shots == "counts")
    width: int = flag(128, "units of a hidden layer", low=1)
    layers: int = flag(2, "hidden layers", low=1)
    dropout: float = flag(0.0, "share of units to drop in training", low=0, high=0.99)
    val_interval: int = flag(100, "steps between checks; 0: every epoch", low=0)
    max_vals: int = flag(20, "checks at most", low=1, grows=True)
    boosting: bool = flag(False, "gradient boosting of scikit-learn in place of a network")


class TableEncoder(nn.Module):
    """A perceptron: vectors `(n, d)` to features `(n, feature_dim)`.

    Its buffers are what was fitted to the training rows: the checkpoint then says what its inputs are.
    """

    def __init__(self, own: TableFlags, columns: Columns, target: tuple[float, float]) -> None:
        super().__init__()
        self.fitted = nn.Module()
        for name, values in (columns.arrays() | {"target": np.array(target)}).items():
            self.fitted.register_buffer(name, torch.from_numpy(values))
        parts: list[nn.Module] = []
        for dim in (columns.width, *(own.width,) * (own.layers - 1)):
            parts += [nn.Linear(dim, own.width), nn.ReLU()] + [nn.Dropout(own.dropout)] * (own.dropout > 0)
        self.body = nn.Sequential(*parts)
        self.feature_dim = own.width

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        return self.body(vectors)


def complete(settings: Settings) -> Settings:
    """Return the settings with the CSV's folder as --data_dir; raises UserError for flags that contradict."""
    own = settings[TableFlags]
    check_bins(own.bin_width, own.bins)
    if own.boosting and settings[Running].evaluate:
        raise UserError(
            "--boosting and --evaluate: no tree is kept; the command without --evaluate fits them again"
        )
    if own.shots == "counts" and own.many_above < own.few_below:
        raise UserError(f"--many_above {own.many_above:g} is below --few_below {own.few_below:g}")
    return in_its_folder(settings)


def load(settings: Settings) -> Data:
    """Load the table, its splits, bins and shots; all but the test rows themselves follows from training rows."""
    own, path = settings[TableFlags], csv_of(settings)
    table = checked_columns(read_table(path) if own.csv else None, own, path)
    labels = labels_of(table, own.target, path)
    splits = splits_of(table, labels, settings, path)
    fitted = np.flatnonzero(splits == "train")
    bins = label_bins(labels[fitted], own.bin_width, own.bins)
    mean, scale = float(labels[fitted].mean()), float(labels[fitted].std())
    table = table.drop(columns={own.target, own.group, own.split, *own.ignore} & {*table})
    warn_of_copies(table.iloc[fitted], (labels[fitted] - mean) / scale, own.target)
    columns = fit_columns(table, fitted, own.categories, path)
    vectors = columns.vectors(table, path)
    rows = {name: np.flatnonzero(splits == name) for name in SPLITS}
    train, val, test = (
        TableSplit(vectors[r], labels[r].astype(np.float32), len(columns.numbers), r + FIRST_LINE)
        for r in rows.values()
    )
    arrays = [array.tobytes() for array in columns.arrays().values()]
    return Data(
        train, val, test, bins, shots_of(own, bins, train.labels), name=path.stem, target=(mean, scale),
        tied={"fit of its training rows": digest(arrays)}, extra=columns,
    )  # fmt: skip


def checked_columns(table: pd.DataFrame | None, own: TableFlags, path: Path) -> pd.DataFrame:
    """Return the table; raises UserError where a column that a flag names is not there."""
    if table is None:
        raise UserError("--csv FILE names the table, --target COLUMN its labels")
    if not own.target:
        raise UserError(f"--target COLUMN names the labels; {path} has {', '.join(map(str, table))}")
    named = {"--target": (own.target,), "--group": (own.group,) * bool(own.group)}
    named |= {"--categories": own.categories, "--ignore": own.ignore}
    for option, columns in named.items():
        for column in columns:
            if column not in table:
                raise UserError(
                    f"{option} {column}: {path} has no such column; it has {', '.join(map(str, table))}"
                )
    return table


def labels_of(table: pd.DataFrame, target: str, path: Path) -> np.ndarray:
    """Return the labels, float64; raises UserError, with the line, where one is missing or no number."""
    labels = numbers_of(table, target, path, "each label must be one")
    missing = np.flatnonzero(np.isnan(labels))
    if len(missing):
        raise UserError(f"{path}, line {missing[0] + FIRST_LINE}: {target} is missing; remove the line")
    return labels


def splits_of(table: pd.DataFrame, labels: np.ndarray, settings: Settings, path: Path) -> np.ndarray:
    """Return the split of each row: of the column that --split names, of the run's own file, or a new one.

    Raises UserError for splits that part a group, and for training labels that are all one number.
    """
    own = settings[TableFlags]
    if own.split in table:
        splits = read_splits(table[own.split], path)
    elif own.split in ("balanced", "random"):
        splits = made_splits(table, labels, settings, path)
    else:
        raise UserError(f"{path}: has no column {own.split}; --split balanced or --split random makes splits")
    if own.group:
        groups = table[own.group].fillna("").tolist()
        check_groups(path, range(FIRST_LINE, FIRST_LINE + len(groups)), own.group, groups, splits)
    trained = labels[splits == "train"]
    if np.ptp(trained) == 0:
        raise UserError(
            f"{path}: every training row has the {own.target} {trained[0]:g}, so nothing can be learned"
        )
    return splits


def made_splits(table: pd.DataFrame, labels: np.ndarray, settings: Settings, path: Path) -> np.ndarray:
    """Return the splits that a run has kept beside it, or new ones, which are kept where the run has a directory."""
    own, running = settings[TableFlags], settings[Running]
    tested = running.eval_model or running.resume if running.evaluate else ""
    folder = Path(tested).parent if tested else running.store_root / command.run_name(TASK, settings)
    kept = folder / SPLIT_FILE
    if kept.is_file():
        splits = read_splits(pd.read_csv(kept, dtype=str)["split"], kept)
        if len(splits) != len(table):
            raise UserError(
                f"{kept}: has {len(splits):,} rows, {path} {len(table):,}; it is of another table"
            )
        return splits
    bins = label_bins(labels, own.bin_width, own.bins)
    if own.split == "random":
        bins = Bins.uniform(bins.low, bins.high, 1)
    groups = table[own.group].fillna("").to_numpy(str) if own.group else np.arange(len(table))
    splits = make_splits(labels, bins, groups, own.split_seed)
    if folder.is_dir() and not running.evaluate:
        frame = pd.DataFrame({"line": np.arange(len(table)) + FIRST_LINE, "split": splits})
        write_atomically(kept, frame.to_csv(index=False))
    return splits


def warn_of_copies(table: pd.DataFrame, labels: np.ndarray, target: str) -> None:
    """Warn of columns that give the label away."""
    for column in equal_columns(table, labels):
        log.warning(
            "%s equals %s, up to a factor and a constant: --ignore %s leaves it out", column, target, column
        )


def shots_of(own: TableFlags, bins: Bins, labels: np.ndarray) -> Shots:
    """Return the shots that the training labels define."""
    if own.shots == "share":
        return shots_by_share(bins, labels)
    return Shots(bins, bins.counts(labels), own.many_above, own.few_below)


def build(settings: Settings, data: Data) -> TableEncoder:
    """Build the encoder."""
    assert data.target is not None
    return TableEncoder(settings[TableFlags], data.extra, data.target)


def run_name(settings: Settings, methods: str) -> str:
    """Return the name of a run."""
    own, training, running = settings[TableFlags], settings[Training], settings[Running]
    kind = "boosting" if own.boosting else f"mlp{own.layers}x{own.width}"
    store = f"_{running.store_name}" if running.store_name else ""
    name = f"{Path(own.csv).stem}_{own.target}_{kind}{store}{methods}_{settings[CriterionFlags].loss}"
    return f"{name}_{training.lr}_{training.batch_size}_seed_{running.seed}"


TASK = Task(
    name="tabular",
    title="Tabular-DIR",
    unit="row",
    load=load,
    build=build,
    run_name=run_name,
    length=lambda settings: Length(settings[TableFlags].val_interval, settings[TableFlags].max_vals),
    files=lambda settings: [csv_of(settings)],
    flags=(TableFlags,),
    complete=complete,
    defaults={"lr": 1e-3, "batch_size": 256, "loss": "l1"},
    checkpoint_hint="; its sizes follow --width, --layers and the columns of the table",
    metrics=("mae", "mse", "gm", "bmae"),
    counted="rows",
)  # fmt: skip
