"""Images with a number each as a `Task`: AgeDB-DIR, IMDB-WIKI-DIR, and any CSV like theirs (paper, section
4.1).

They differ in a CSV and a first FDS bucket; so does any other data set of such images (`--dataset`,
`--target`, `--bin_width`, `--label_min`, `--label_max`).
"""

from __future__ import annotations

import argparse
import functools
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from common.bins import Bins
from common.cli import pick_device
from common.datasets import faces
from common.datasets.shots import AGES, FEW_BELOW, MANY_ABOVE, shots_of
from common.datasets.standin import STANDIN, Standin, read_standin
from common.errors import UserError
from common.flags import POSITIVE, flag
from common.images.augment import PADDING
from common.images.encoder import ResNetEncoder
from common.images.resident import resident_flag
from common.images.split import load_faces
from common.methods.criterion import CriterionFlags
from common.relevance import Relevance
from common.report import log
from common.settings import Running, Settings, Training
from common.task import Data, Length, Task

DEFAULTS = {"lr": 1e-3, "batch_size": 256, "loss": "l1", "schedule": (60, 80)}  # the published ones


def resnets() -> list[str]:
    """Return the names of torchvision's ResNets, of every kind."""
    from torchvision import models  # takes as long as torch

    return [name for name in models.list_models(models) if "resne" in name]


def resnet(text: str) -> str:
    """Return the name of a ResNet, as an argparse type."""
    if text not in (names := resnets()):
        raise argparse.ArgumentTypeError(f"invalid choice: {text!r} (choose from {', '.join(names)})")
    return text


@dataclass(frozen=True)
class ImageFlags:
    """Images."""

    dataset: str = flag("", "the CSV in the data folder, without its ending")
    model: str = flag("resnet50", "a ResNet of torchvision, from scratch", parse=resnet)
    epoch: int = flag(90, "epochs to train", "--epoch", "--epochs", low=1, grows=True)
    img_size: int = flag(224, "images are resized to this square", low=8)
    padding: int = flag(PADDING, "zeros around an image before a random crop", low=0)
    workers: int = flag(32, "decoding threads (at most the cores)", low=0, identity=False)
    cache: str = flag(
        "auto",
        "resized images: auto (in the data folder, if the disk has room), off, or a folder",
        identity=False,
    )
    resident: str = resident_flag()
    bad_images: str = flag("error", "what to do with broken files", choices=("error", "skip"))
    target: str = flag("age", "the CSV's column of labels")
    train_labels: Path | None = flag(
        None,
        "with --evaluate: training labels for the shots, a CSV or a label a line (default: the CSV's)",
        metavar="FILE",
        identity=False,
    )
    bin_width: float | None = flag(
        None, "width of a label bin (default: a bin for each whole number)", low=POSITIVE
    )
    label_min: float | None = flag(
        None,
        "least label there is (default: 0; with fractions the whole number below the least)",
    )
    label_max: float | None = flag(None, "greatest label there is (default: 200)")
    many_above: float | None = flag(
        None, f"many-shot: more in the bin (default: {MANY_ABOVE}, or the stand-in's)", low=0
    )
    few_below: float | None = flag(
        None, f"few-shot: fewer in the bin (default: {FEW_BELOW}, or the stand-in's)", low=0
    )
    bucket_num: int | None = flag(None, "FDS: one past the last bucket (default on ages: 100)", low=1)
    bucket_start: int | None = flag(None, "FDS: first bucket (default on ages: as published)", low=0)


def image_task(
    name: str,
    title: str,
    *,
    bucket_start: int,
    source: str,
    published: Callable[[], np.ndarray] | None = None,
) -> Task:
    """Return the task with the settings of the published age code.

    `source` says how to get the data where they are not there; `bucket_start` is the first FDS bucket on
    ages. `published` gives the training labels of the published split, for the shots of a folder that has
    test rows only.
    """
    dataset = name.replace("-", "_")
    return Task(
        name=name, title=title, unit="image",
        label_name="age",
        label_unit="years",
        load=functools.partial(load, dataset, source, bucket_start, published),
        build=build,
        run_name=run_name,
        length=lambda settings: Length(0, settings[ImageFlags].epoch),
        files=files,
        flags=(ImageFlags,),
        defaults=DEFAULTS | {"dataset": dataset},
        key_map=(("head.", "module.linear."), ("encoder.", "module.")),
        metrics=("mae", "mse", "gm", "bmae"),
        method_prefix="module.",
        pretrained=("encoder.", "methods.smoothing."),  # published: every key but the head's
        checkpoint_hint="; its sizes follow --model, those of FDS --bucket_start and --bucket_num",
        fds_clip=(0.1, 10.0),
        clip_counts=(5, 1000),
        adam_weight_decay=0.0,
        select=lambda settings: "mse" if settings[CriterionFlags].loss == "mse" else "mae",
        model_name=lambda settings: settings[ImageFlags].model,
    )  # fmt: skip


def load(
    dataset: str,
    source: str,
    bucket_start: int,
    published: Callable[[], np.ndarray] | None,
    settings: Settings,
) -> Data:
    """Load the data of this task, or another CSV that `--dataset` names: nobody can download a user's own."""
    own = settings[ImageFlags]
    if own.dataset == dataset:
        return load_images(settings, source, bucket_start, published if own.target == "age" else None)
    data = load_images(settings, "--dataset names the CSV in --data_dir", bucket_start)
    return replace(data, name=own.dataset)


def files(settings: Settings) -> list[Path]:
    """Return the files that hold labels, names and thresholds."""
    folder = settings[Running].data_dir
    assert folder is not None
    return [folder / f"{settings[ImageFlags].dataset}.csv", folder / STANDIN]


def run_name(settings: Settings, methods: str) -> str:
    """Return the published name of a run, and the seed."""
    own, training, running = settings[ImageFlags], settings[Training], settings[Running]
    store = f"_{running.store_name}" if running.store_name else ""
    loss = settings[CriterionFlags].loss
    name = f"{own.dataset}_{own.model}{store}{methods}_{training.optimizer}_{loss}"
    return f"{name}_{training.lr}_{training.batch_size}_seed_{running.seed}"


def load_images(
    settings: Settings, hint: str, bucket_start: int, published: Callable[[], np.ndarray] | None = None
) -> Data:
    """Load the splits of `DATASET.csv`, their bins, and the shots that the training labels define.

    With `--evaluate`, the test images alone are looked for. The labels are those of all training rows, whether
    or not their images can be used, so that evaluating a run gives its own shots.
    """
    own, running = settings[ImageFlags], settings[Running]
    assert running.data_dir is not None
    csv, needed = running.data_dir / f"{own.dataset}.csv", ("test",) if running.evaluate else faces.SPLITS
    table = faces.read_faces(csv, own.target, own.label_min, own.label_max, hint, needed)
    standin = read_standin(running.data_dir)
    labels = training_labels(settings, table, standin, published)
    bins = faces.label_bins(labels, own.bin_width, own.label_min, own.label_max)
    shots = shots_of(labels, bins, standin, own.many_above, own.few_below)
    buckets = choose_buckets(own, bins, bucket_start, int(bins.index(labels).max()))
    splits = load_faces(
        table, needed=needed, img_size=own.img_size, cache=own.cache, bad_images=own.bad_images,
        workers=min(own.workers, os.cpu_count() or 1), padding=own.padding,
        resident=own.resident, device=pick_device(running.where), hint=hint,
    )  # fmt: skip
    train = replace(splits["train"], labels=labels, paths=[]) if running.evaluate else splits["train"]
    return Data(
        train, splits["val"], splits["test"], bins, shots,
        buckets=buckets, standin=standin.note, relevance=Relevance.of(labels),
    )  # fmt: skip


def training_labels(
    settings: Settings, table: faces.FaceTable, standin: Standin, published: Callable[[], np.ndarray] | None
) -> np.ndarray:
    """Return the labels that shots and bins follow: of `--train_labels`, of the CSV, or the published ones.

    Raises UserError, naming the flag, where a CSV to evaluate on has no training rows and none are known.
    """
    own, rows = settings[ImageFlags], table.rows("train")
    if own.train_labels is not None and settings[Running].evaluate:
        return faces.read_train_labels(own.train_labels, own.target, own.label_min, own.label_max)
    if own.train_labels is not None:
        log.warning("--train_labels has no effect without --evaluate")
    if len(rows):
        return table.labels[rows]
    if published is None or standin.note:
        raise UserError(
            f"{table.csv}: has no training rows, whose labels define the shots; --train_labels FILE gives them "
            f"(a CSV with the column {own.target}, or one label a line)"
        )
    log.info("%s has no training rows: the shots follow the labels of the published split", table.csv)
    return published()


def choose_buckets(own: ImageFlags, bins: Bins, published_start: int, last: int) -> tuple[int, int]:
    """Return FDS's buckets: of the flags, the published ones for ages, or every bin for other labels.

    `last` is the highest bin with a training sample. Raises UserError for buckets beyond it.
    """
    start, num = (published_start, 100) if bins == AGES else (0, bins.num)
    start = start if own.bucket_start is None else own.bucket_start
    if start > last:
        raise UserError(f"--bucket_start {start}: training labels end in bin {last}")
    return start, num if own.bucket_num is None else own.bucket_num


def build(settings: Settings, data: Data) -> ResNetEncoder:
    """Build the encoder with fresh weights; raises UserError where batch norm would meet a single value."""
    own, size = settings[ImageFlags], settings[Training].batch_size
    smallest = len(data.train) % size or size
    if smallest == 1 and own.img_size <= 32 and not settings[Running].evaluate:
        raise UserError(
            f"--batch_size {size}: leaves a batch of one image, and batch norm cannot train on it "
            f"at --img_size {own.img_size}; choose another"
        )
    return ResNetEncoder(own.model)
