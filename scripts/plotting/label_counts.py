"""The training labels of a data set, counted by bin: all that a picture needs, so no image is read."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.bins import Bins
from common.datasets import depth
from common.datasets.faces import label_bins, read_faces
from common.datasets.shots import shots_of
from common.datasets.standin import read_standin
from common.errors import UserError
from common.images.task import ImageFlags
from common.lds import smooth_counts
from common.metrics import Shots
from common.settings import Running, Settings
from common.task import Task, load_task, task_names
from common.training.command import settings_of

PAIRS_CSV = "train_new.tsv"  # tells a folder of sentence pairs


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


def default_settings(task: Task, **changes: object) -> Settings:
    """Return the settings of a `train.py` without flags, with other values of some fields."""
    return settings_of(task, task.name, task.title, []).with_(**changes)


def of_run(task: Task, settings: Settings) -> TrainingLabels:
    """Return the training labels of a run on a data set with these settings."""
    if ImageFlags in settings:
        return _images(task, settings)
    if task.counted == "pixels":
        return _depths(task, settings)
    data = task.load(settings)
    sample = f"{task.unit}s"
    return TrainingLabels(
        task.title, task.label_name, task.label_unit, sample, data.shots, data.bins, data.standin
    )


def of_folder(where: Path) -> TrainingLabels:
    """Return the training labels of a data folder, known by its files, or of a CSV of faces.

    Raises UserError where there is no such folder, or nothing in it that is known.
    """
    if where.is_file():
        return _of_csv(where)
    if (where / PAIRS_CSV).exists():
        return _of_data("sts-b", where)
    if (where / depth.TRAIN_CSV).exists() or (where / depth.COUNTS).exists():
        return _of_data("nyud2", where)
    csvs = sorted(where.glob("*.csv"))
    if len(csvs) == 1:
        return _of_csv(csvs[0])
    if csvs:
        raise UserError(f"{where}: holds several CSVs ({', '.join(f.name for f in csvs)}); name one of them")
    raise UserError(
        f"{where}: is neither a run (args.json) nor a data folder (with a CSV of faces, {PAIRS_CSV} or "
        f"{depth.TRAIN_CSV})"
    )


def title_of(task: Task, settings: Settings) -> str:
    """Return the title of the data: images of a CSV of one's own go by its name."""
    if ImageFlags not in settings:
        return task.title
    name = settings[ImageFlags].dataset
    titles = {other.defaults.get("dataset"): other.title for other in map(load_task, task_names())}
    return titles.get(name, name)


def _of_data(name: str, folder: Path) -> TrainingLabels:
    """Return the labels of a data set in a folder, as its `train.py` without flags sees them."""
    task = load_task(name)
    return of_run(task, default_settings(task, data_dir=folder))


def _of_csv(path: Path) -> TrainingLabels:
    """Return the labels of faces, as any data set of images sees them."""
    task = load_task("agedb")
    return of_run(task, default_settings(task, data_dir=path.parent, dataset=path.stem))


def _images(task: Task, settings: Settings) -> TrainingLabels:
    """Return the labels of faces, or of any images with a number each."""
    own, folder = settings[ImageFlags], folder_of(settings)
    limits = own.label_min, own.label_max
    table = read_faces(
        folder / f"{own.dataset}.csv", own.target, *limits, hint="--data_dir says where the data are"
    )
    labels = table.labels[table.rows("train")]
    bins, standin = label_bins(labels, own.bin_width, *limits), read_standin(folder)
    return TrainingLabels(
        title_of(task, settings),
        own.target,
        task.label_unit if own.target == task.label_name else "",
        f"{task.unit}s",
        shots_of(labels, bins, standin, own.many_above, own.few_below),
        bins,
        standin.note,
        whole=bool((labels == np.round(labels)).all()),
    )


def _depths(task: Task, settings: Settings) -> TrainingLabels:
    """Return the labels of depth maps: the counted pixels of each bin."""
    own = importlib.import_module("depth_task")  # its folder is on the path, as its task is loaded
    counts = own.read_counts(folder_of(settings), 0, own.COUNTS)
    standin = read_standin(folder_of(settings))
    shots = depth.shots_of(counts, standin)
    return TrainingLabels(
        task.title, task.label_name, task.label_unit, task.counted, shots, shots.bins, standin.note,
        border=task.lds_border, first_bin=settings[own.DepthFlags].bucket_start,
    )  # fmt: skip


def folder_of(settings: Settings) -> Path:
    """Return the data folder of complete settings."""
    folder = settings[Running].data_dir
    assert folder is not None
    return folder
