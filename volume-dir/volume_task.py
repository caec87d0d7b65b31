"""Volumes with a number each, such as images of heads with an age, as a `Task`."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from sfcn import CHANNELS, Sfcn
from volume_split import VolumeSplit

from common.datasets import faces
from common.datasets.own import check_bins, check_groups, csv_of, in_its_folder, label_bins, shots_by_share
from common.datasets.shots import FEW_BELOW, MANY_ABOVE, shots_of
from common.datasets.standin import STANDIN, read_standin
from common.errors import UserError
from common.flags import POSITIVE, flag
from common.images.split import load_faces
from common.methods.criterion import CriterionFlags
from common.relevance import Relevance
from common.settings import Running, Settings, Training
from common.task import Data, Length, Task

SUBJECT = "subject"  # the column of what must not stand in two splits
AXES = ("x", "y", "z")
HINT = "python scripts/make_standin.py volumes draws a stand-in"


@dataclass(frozen=True)
class VolumeFlags:
    """Volumes."""

    csv: str = flag("", "the CSV with path, split and labels; paths are relative to it", metavar="FILE")
    target: str = flag("label", "the CSV's column of labels")
    epoch: int = flag(90, "epochs to train", "--epoch", "--epochs", low=1, grows=True)
    shape: tuple[int, ...] = flag((160, 192, 160), "volumes are resized to these three sides", low=1)
    channels: tuple[int, ...] = flag(
        CHANNELS, "of each block of the SFCN; each but the last halves the sides", low=1
    )
    dropout: float = flag(0.5, "share of features to drop in training", low=0, high=0.99)
    flips: tuple[str, ...] = flag(
        ("x",), "axes along which a half is mirrored (x: left to right)", choices=AXES
    )
    shift: int = flag(2, "voxels to shift by at most, along each axis", low=0)
    intensity: float = flag(0.0, "how far intensities are scaled and offset at most", low=0, high=1)
    workers: int = flag(32, "decoding threads (at most the cores)", low=0, identity=False)
    cache: str = flag(
        "auto", "resized volumes: auto (in the data folder, if the disk has room), off, or a folder", identity=False
    )  # fmt: skip
    bad_images: str = flag("error", "what to do with broken files", choices=("error", "skip"))
    bin_width: float | None = flag(None, "width of a label bin", low=POSITIVE)
    bins: int | None = flag(
        None, "number of label bins of equal width (default: one for each whole number, or Freedman-Diaconis)", low=1
    )  # fmt: skip
    shots: str = flag(
        "counts", "by training volumes in a label's bin, or a third of them each", choices=("counts", "share")
    )  # fmt: skip
    many_above: float | None = flag(
        None, f"many-shot: more in the bin (default: {MANY_ABOVE}, or the stand-in's)", low=0
    )
    few_below: float | None = flag(
        None, f"few-shot: fewer in the bin (default: {FEW_BELOW}, or the stand-in's)", low=0
    )


def complete(settings: Settings) -> Settings:
    """Return the settings with the CSV's folder as --data_dir; raises UserError for flags that contradict."""
    own = settings[VolumeFlags]
    if len(own.shape) != 3:
        raise UserError(
            f"--shape {' '.join(map(str, own.shape))}: a volume has three sides, such as 96 112 96"
        )
    if len(own.channels) < 2:
        raise UserError("--channels: names two blocks at least")
    least = 2 ** (len(own.channels) - 1)
    if min(own.shape) < least:
        raise UserError(
            f"--shape {' '.join(map(str, own.shape))}: {len(own.channels)} --channels need {least} voxels of a side "
            "at least; give greater sides or fewer channels"
        )
    check_bins(own.bin_width, own.bins)
    return in_its_folder(settings)


def read_table(settings: Settings, needed: tuple[str, ...]) -> faces.FaceTable:
    """Read the CSV; raises UserError for its defects, for a subject in two splits, and for labels that are all one."""
    csv, target = csv_of(settings), settings[VolumeFlags].target
    if not settings[VolumeFlags].csv:
        raise UserError(f"--csv FILE names the CSV with path, split and labels; {HINT}")
    names, rows = faces.read_rows(csv, HINT)
    if "split" not in names:
        raise UserError(
            f"{csv}: has no column split; python scripts/prepare.py own {csv} writes balanced splits"
        )
    table = faces.read_faces(csv, target, -math.inf, math.inf, needed=needed)
    if SUBJECT in names:
        lines, (subjects,) = faces.read_columns(csv, names, rows, (SUBJECT,))
        check_groups(csv, lines, SUBJECT, subjects, table.split)
    trained = table.labels[table.rows("train")]
    if not len(trained) or np.ptp(trained) == 0:
        raise UserError(
            f"{csv}: its training rows hold {len(set(trained))} different labels of {target}; add others"
        )
    return table


def load(settings: Settings) -> Data:
    """Load the splits of the CSV; bins, shots and the scale of labels follow from its training rows."""
    own, running, csv = settings[VolumeFlags], settings[Running], csv_of(settings)
    needed = ("test",) if running.evaluate else faces.SPLITS
    table, standin = read_table(settings, needed), read_standin(csv.parent)
    labels = table.labels[table.rows("train")]
    bins = label_bins(labels, own.bin_width, own.bins)
    counted = shots_of(labels, bins, standin, own.many_above, own.few_below)
    splits = load_faces(
        table, needed=needed, img_size=(*own.shape, 2), cache=own.cache, bad_images=own.bad_images,
        workers=min(own.workers, os.cpu_count() or 1), kind=VolumeSplit, shift=own.shift,
        flips=tuple(AXES.index(axis) for axis in own.flips), intensity=own.intensity,
    )  # fmt: skip
    train = replace(splits["train"], labels=labels, paths=[]) if running.evaluate else splits["train"]
    return Data(
        train, splits["val"], splits["test"], bins,
        shots_by_share(bins, labels) if own.shots == "share" else counted,
        target=(float(labels.mean()), float(labels.std())), relevance=Relevance.of(labels),
        standin=standin.note, name=csv.stem,
    )  # fmt: skip


def build(settings: Settings, data: Data) -> Sfcn:
    """Build the encoder; raises UserError where batch norm would meet a single value."""
    own, size = settings[VolumeFlags], settings[Training].batch_size
    halvings = len(own.channels) - 1
    alone = (len(data.train) % size or size) == 1 and not settings[Running].evaluate
    if alone and max(own.shape) < 2 ** (halvings + 1):
        raise UserError(
            f"--batch_size {size}: leaves a batch of one volume, of which the last block keeps one voxel, and batch "
            "norm cannot train on it; choose another"
        )
    return Sfcn(own.channels, own.dropout)


def run_name(settings: Settings, methods: str) -> str:
    """Return the name of a run."""
    own, training, running = settings[VolumeFlags], settings[Training], settings[Running]
    store = f"_{running.store_name}" if running.store_name else ""
    shape, loss = "x".join(map(str, own.shape)), settings[CriterionFlags].loss
    name = f"{Path(own.csv).stem}_{own.target}_sfcn_{shape}{store}{methods}_{training.optimizer}_{loss}"
    return f"{name}_{training.lr}_{training.batch_size}_seed_{running.seed}"


TASK = Task(
    name="volume",
    title="Volumes",
    unit="volume",
    load=load,
    build=build,
    run_name=run_name,
    length=lambda settings: Length(0, settings[VolumeFlags].epoch),
    files=lambda settings: [csv_of(settings), csv_of(settings).parent / STANDIN],
    flags=(VolumeFlags,),
    complete=complete,
    defaults={"lr": 1e-3, "batch_size": 8, "loss": "l1", "schedule": (60, 80)},
    checkpoint_hint="; its sizes follow --channels",
    metrics=("mae", "mse", "gm", "bmae"),
    counted="volumes",
)  # fmt: skip
