"""NYUD2-DIR as a `Task`: what its train.py and its test.py share (paper, section 4.3 and appendix B.3)."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from depth_data import DepthSplit, Sizes, hold_out, keep_in_memory, read_counts
from depth_metrics import NAMES, DepthMetrics
from depth_model import IMAGENET, DepthEncoder, depth_head, imagenet_file, load_blocks

from common.cli import ROOT
from common.datasets import depth as files
from common.datasets.standin import STANDIN, read_standin
from common.errors import UserError
from common.flags import flag
from common.images.resident import resident_flag
from common.methods.criterion import CriterionFlags
from common.methods.smoothing import SmoothingFlags
from common.settings import Running, Settings, Training
from common.task import Data, Length, Task

log = logging.getLogger("dir")
COUNTS = ROOT / "data" / "nyud2_counts.json"


@dataclass(frozen=True)
class DepthFlags:
    """Depth."""

    epochs: int = flag(10, "epochs to train (paper: 20)", "--epochs", "--epoch", low=1, grows=True)
    start_epoch: int = flag(0, "count epochs from here", "--start_epoch", "--start-epoch", low=0)
    model: str = flag("resnet50", "the encoder", choices=tuple(IMAGENET))
    pretrained_encoder: str = flag(
        "imagenet",
        "encoder to start from: imagenet (torchvision's IMAGENET1K_V1), none, or a file like it",
        metavar="WHAT",
    )
    img_size: int = flag(files.HEIGHT, "height of the crop (width: 4/3)", low=24)
    select: str = flag(
        "test",
        "what picks the best epoch: the test set, as in the paper, or scenes held out from training",
        choices=("test", "val"),
    )
    val_fraction: float = flag(
        0.05, "of images, for --select val", low=0.001, high=0.9, when=lambda own: own.select == "val"
    )
    keep_invalid: bool = flag(
        False, "train on pixels without a measurement as depth 0, as the published code does"
    )
    resident: str = resident_flag()
    workers: int = flag(32, "decoding threads (at most the cores)", low=0, identity=False)
    bucket_num: int = flag(100, "FDS: one past the last bucket", low=1)
    bucket_start: int = flag(files.FIRST_BIN, "FDS and LDS: first bucket", low=0)


def complete(settings: Settings) -> Settings:
    """Return the settings with the published schedule; raises UserError for flags that contradict each other."""
    own = settings[DepthFlags]
    if own.bucket_num > files.DEPTH_BINS.num or own.bucket_start >= own.bucket_num:
        raise UserError("--bucket_start and --bucket_num: must be in order, within the 100 bins of 0.1 m")
    if own.start_epoch >= own.epochs:
        raise UserError(f"--start_epoch {own.start_epoch}: leaves nothing to train of --epochs {own.epochs}")
    if settings[Training].schedule is None:
        return settings.with_(schedule=tuple(range(5, own.epochs, 5)))
    return settings


def run_name(settings: Settings, methods: str) -> str:
    """Return the published name of a run, what the published code does not have, and the seed."""
    own, training, running = settings[DepthFlags], settings[Training], settings[Running]
    loss = "" if settings[CriterionFlags].loss == "mse" else f"_{settings[CriterionFlags].loss}"
    select = "_val" if own.select == "val" else ""
    name = f"{running.store_name}{methods}{loss}{select}_lr_{training.lr}_bs_{training.batch_size}"
    return f"{name}_seed_{running.seed}"


def load(settings: Settings) -> Data:
    """Load the splits; the published counts or those of `depth_counts.json` give shots and weights."""
    own, running = settings[DepthFlags], settings[Running]
    folder, evaluate = running.data_dir, running.evaluate
    assert folder is not None
    test = files.read_pairs(folder, files.TEST_CSV)
    mask = files.read_mask(folder / files.MASK, len(test))
    # Evaluation needs no training images.
    known = evaluate and not (folder / files.TRAIN_CSV).exists()
    train = [] if known else files.read_pairs(folder, files.TRAIN_CSV)
    wanted = settings[SmoothingFlags].fds and not evaluate
    subset = files.read_pairs(folder, files.SUBSET_CSV) if wanted else []
    for pair in test if evaluate else (*train, *subset, *test):
        check_there(pair)
    counts = read_counts(folder, len(train), COUNTS)
    held: list[files.Pair] = []
    if own.select == "val" and not evaluate:
        train, held = hold_out(train, own.val_fraction, running.seed)
        scenes = {files.scene(pair) for pair in held}
        subset = [pair for pair in subset if files.scene(pair) not in scenes]
        log.info("%d scenes are held out for validation", len(scenes))
    sizes, workers = Sizes.of(own.img_size), min(own.workers, os.cpu_count() or 1)
    tested = DepthSplit(test, sizes, workers, tested=True, sixteen_bit=True, mask=mask)
    standin = read_standin(folder)
    invalid = own.keep_invalid
    training, statistics = (DepthSplit(p, sizes, workers, keep_invalid=invalid) for p in (train, subset))
    val = DepthSplit(held, sizes, workers, tested=True) if held else tested
    keep_in_memory([tested] if evaluate else dict.fromkeys([tested, val, statistics, training]), own.resident)
    return Data(
        train=training,
        val=val,
        test=tested,
        statistics=statistics if subset else None,
        bins=files.DEPTH_BINS,
        buckets=(own.bucket_start, own.bucket_num),
        counts=counts,
        shots=files.shots_of(counts, standin),
        standin=standin.note,
        selected_on="validation" if held else "test",
    )


def data_files(settings: Settings) -> list[Path]:
    """Return the files that hold names, counts and thresholds; pixels and the mask are not among them."""
    folder = settings[Running].data_dir
    assert folder is not None
    names = [files.TRAIN_CSV, files.TEST_CSV, files.COUNTS, STANDIN]
    return [
        folder / name
        for name in (*names, files.SUBSET_CSV)
        if name != files.SUBSET_CSV or settings[SmoothingFlags].fds
    ]


def check_there(pair: files.Pair) -> None:
    """Raise UserError if one of the two files is not there."""
    for file in pair:
        if not file.is_file():
            raise UserError(f"{file}: there is no such file; {files.GET_NYUD2}")


def build(settings: Settings, data: Data) -> DepthEncoder:
    """Build the encoder; its ImageNet weights are read only where a checkpoint will not bring its own."""
    own = settings[DepthFlags]
    encoder = DepthEncoder(own.model)
    if own.pretrained_encoder != "none" and not (settings[Running].evaluate or settings[Training].pretrained):
        imagenet = own.pretrained_encoder == "imagenet"
        file = imagenet_file(own.model) if imagenet else Path(own.pretrained_encoder)
        load_blocks(encoder.E, file)
        log.info("Encoder starts from %s", file)
    return encoder


PUBLISHED_GROUPS = {"all": "overall", "many": "many", "medium": "medium", "few": "few"}
PUBLISHED_NAMES = {name: name.upper() for name in NAMES} | {"log10": "LG10", "n": "NUM"}


def published(content: dict[str, Any]) -> dict[str, Any]:
    """Return the keys of a published depth checkpoint: its epochs count from 0, `metric` is of its last check."""
    table = content["state"]["table"] or {}
    metric = {
        PUBLISHED_GROUPS[group]: {PUBLISHED_NAMES[name]: value for name, value in row.items()}
        for group, row in table.items()
        if group in PUBLISHED_GROUPS
    }
    error = metric["overall"]["RMSE"] if metric else float("inf")
    return {"epoch": content["epoch"] - 1, "error": error, "metric": metric}


TASK = Task(
    name="nyud2",
    title="NYUD2-DIR",
    unit="image",
    label_name="depth",
    label_unit="m",
    load=load,
    build=build,
    run_name=run_name,
    length=lambda settings: Length(0, settings[DepthFlags].epochs, settings[DepthFlags].start_epoch),
    files=data_files,
    flags=(DepthFlags,),
    defaults={
        "lr": 1e-4, "batch_size": 32, "loss": "mse", "schedule": None, "momentum": 0.9, "store_name": "nyud2",
    },
    complete=complete,
    key_map=(("head.", "module.R.conv2."), ("encoder.", "module.")),
    method_prefix="module.R.",
    checkpoint_hint="; its sizes follow --model, those of FDS --bucket_start and --bucket_num",
    methods_without=("resample",),
    fds_clip=(0.2, 5.0),
    fds_released={"guard": "bucket"},
    lds_reweight="inverse",
    lds_border="reflect",
    head=depth_head,
    retrained=("R",),
    select=lambda settings: "rmse",
    metrics=NAMES,
    table=("rmse", "delta1"),
    counted="pixels",
    evaluator=DepthMetrics,
    model_name=lambda settings: settings[DepthFlags].model,
    epoch_offset=1,
    published=published,
)  # fmt: skip
