"""The training labels of a data set, counted by bin: all that a picture needs, so no image is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from plotting.data_sets import TITLES, load_module

from common.bins import Bins
from common.cli import ROOT
from common.datasets import depth
from common.datasets.faces import LIMITS, label_bins, read_faces
from common.datasets.standin import read_standin
from common.errors import UserError
from common.images.task import AGES, FEW_BELOW, MANY_ABOVE, first_given
from common.lds import smooth_counts
from common.metrics import Shots


@dataclass(frozen=True)
class TrainingLabels:
    """The label histogram of a training set, its shots, and the words for its axes."""

    title: str  # of the data set
    quantity: str  # what a label is: "age"
    unit: str  # of a label: "years"; empty where it has none
    sample: str  # what is counted: "images"
    shots: Shots  # bins, counts and thresholds
    bins: Bins  # of LDS and FDS: those of the shots, but for a flag that moves them
    standin: str | None = None
    whole: bool = False  # labels are whole numbers, so a bin lies around its numbers
    border: str = "constant"  # of LDS
    first_bin: int = 0  # of LDS; those below have no samples

    def centres(self, bins: Bins) -> np.ndarray:
        """Return the centre of each bin on the label axis, float64 `(bins.num,)`."""
        return bins.left_edges + (bins.width - self.whole) / 2

    def smoothed(self, window: np.ndarray) -> np.ndarray:
        """Return the LDS density (paper, eq. 1) over `shots.bins`, scaled to the number of samples."""
        counts, first = self.shots.counts.astype(np.float64), self.first_bin
        counts[first:] = smooth_counts(counts[first:], window / window.sum(), self.border)
        return counts

    @property
    def axis(self) -> str:
        """The label of the label axis."""
        return f"{self.quantity} ({self.unit})" if self.unit else self.quantity


def of_run(dataset: str, args: Mapping[str, Any], folder: Path) -> TrainingLabels:
    """Return the training labels of a run on `dataset`, the `Task`'s name, with these arguments."""
    if dataset == "sts-b":
        return _similarities(folder, args["bucket_num"])
    if dataset == "nyud2":
        return _depths(folder)
    return _numbers(folder, args)


def of_folder(where: Path) -> TrainingLabels:
    """Return the training labels of a data folder, known by its files, or of a CSV of faces.

    Raises UserError where there is no such folder, or nothing in it that is known.
    """
    if where.is_file():
        return _numbers(where.parent, {"dataset": where.stem})
    if (where / "train_new.tsv").exists():
        return _similarities(where)
    if (where / depth.TRAIN_CSV).exists() or (where / depth.COUNTS).exists():
        return _depths(where)
    found = sorted(where.glob("*.csv"))
    if len(found) == 1:
        return _numbers(where, {"dataset": found[0].stem})
    if found:
        raise UserError(f"{where}: holds several CSVs ({', '.join(f.name for f in found)}); name one of them")
    raise UserError(
        f"{where}: is neither a run (args.json) nor a data folder (with a CSV of faces, train_new.tsv or "
        f"{depth.TRAIN_CSV})"
    )


def _numbers(folder: Path, args: Mapping[str, Any]) -> TrainingLabels:
    """Return the labels of faces, or of any images with a number each."""
    name, target, standin = args["dataset"], args.get("target", "age"), read_standin(folder)
    limits = args.get("label_min"), args.get("label_max")
    table = read_faces(folder / f"{name}.csv", target, *limits, hint="--data_dir says where the data are")
    labels = table.labels[table.rows("train")]
    bins = label_bins(labels, args.get("bin_width"), *limits)
    shot_bins = Bins.integers(0, int(LIMITS[1])) if bins == AGES else bins
    many = first_given(args.get("many_above"), standin.many_above, MANY_ABOVE)
    few = first_given(args.get("few_below"), standin.few_below, FEW_BELOW)
    shots = Shots(shot_bins, shot_bins.counts(labels), many, few)
    unit, whole = "years" if target == "age" else "", bool((labels == np.round(labels)).all())
    return TrainingLabels(
        TITLES.get(name, name), target, unit, "images", shots, bins, standin.note, whole=whole
    )


def _similarities(folder: Path, bucket_num: int = 50) -> TrainingLabels:
    """Return the labels of sentence pairs; `--bucket_num` moves the bins of LDS and FDS, not of the shots."""
    read_pairs = load_module(ROOT / "sts-b-dir" / "sts_text.py").read_pairs
    if not (folder / "train_new.tsv").is_file():
        raise UserError(f"{folder}: has no train_new.tsv; --data_dir says where the data are")
    scores, standin = read_pairs(folder / "train_new.tsv").scores, read_standin(folder)
    bins = Bins.uniform(0, 5, 50)
    shots = Shots(bins, bins.counts(scores), standin.many_above or 100, standin.few_below or 30)
    moved = Bins.uniform(0, 5, bucket_num)
    return TrainingLabels(TITLES["sts-b"], "similarity score", "", "pairs", shots, moved, standin.note)


def _depths(folder: Path) -> TrainingLabels:
    """Return the labels of depth maps: the counted pixels of each bin."""
    read_counts = load_module(ROOT / "nyud2-dir" / "depth_data.py").read_counts
    counts = read_counts(folder, 0, ROOT / "data" / "nyud2_counts.json")
    standin = read_standin(folder)
    shots = depth.shots_of(counts, standin)
    return TrainingLabels(
        TITLES["nyud2"], "depth", "m", "pixels", shots, shots.bins, standin.note,
        border="reflect", first_bin=depth.FIRST_BIN,
    )  # fmt: skip
