"""NYUD2-DIR as a `Task`: what its train.py and its test.py share (paper, section 4.3 and appendix B.3)."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from depth_data import DepthSplit, Sizes, hold_out, read_counts, weight_table
from depth_metrics import METRICS, DepthMetrics
from depth_model import IMAGENET, DepthEncoder, depth_head, imagenet_file, load_blocks

from common import cli
from common.datasets import depth as files
from common.errors import UserError
from common.task import Data, Task, read_standin
from common.training.command import run

log = logging.getLogger("dir")
DATA = cli.ROOT / "data"


def parser(prog: str, doc: str) -> cli.Parser:
    """Every flag of the published scripts, under its name and with its default, and ours."""
    parser = cli.Parser(prog=prog, description=doc.splitlines()[0])
    cli.add_imbalance_arguments(parser, bucket_num=100, bucket_start=files.FIRST_BIN)
    cli.add_training_arguments(
        parser,
        lr=1e-4,
        batch_size=32,
        loss="mse",
        huber_beta=1.0,
        max_grad_norm=0.0,
        patience=0,
        schedule=None,
        momentum=0.9,
        print_freq=10,
    )
    cli.add_run_arguments(parser, seed=0)
    own = parser.add_argument_group("depth")
    own.add_argument("--epochs", type=cli.number(int, 1), default=10, help="epochs to train (paper: 20)")
    own.add_argument("--start_epoch", type=cli.number(int, 0), default=0, help="count epochs from here")
    own.add_argument(
        "--weight_decay", "--wd", type=cli.number(float, 0), default=1e-4, help="of either optimiser"
    )
    own.add_argument("--model", choices=tuple(IMAGENET), default="resnet50", help="the encoder")
    own.add_argument(
        "--pretrained_encoder",
        default="imagenet",
        metavar="WHAT",
        help="encoder to start from: imagenet (torchvision's IMAGENET1K_V1), none, or a file like it",
    )
    own.add_argument(
        "--img_size", type=cli.number(int, 24), default=files.HEIGHT, help="height of the crop (width: 4/3)"
    )
    own.add_argument(
        "--select",
        choices=("test", "val"),
        default="test",
        help="what picks the best epoch: the test set, as in the paper, or scenes held out from training",
    )
    own.add_argument(
        "--val_fraction", type=cli.number(float, 0.001, 0.9), default=0.05, help="of images, for --select val"
    )
    own.add_argument(
        "--keep_invalid",
        action="store_true",
        help="train on pixels without a measurement as depth 0, as the published code does",
    )
    own.add_argument(
        "--workers", type=cli.number(int, 1), default=32, help="decoding threads (at most the cores)"
    )
    cli.add_own_run_arguments(parser, store_name="nyud2")
    return parser


def run_name(args: argparse.Namespace) -> str:
    """The published name of a run, what the published code does not have, and the seed."""
    loss = "" if args.loss == "mse" else f"_{args.loss}"
    select = "_val" if args.select == "val" else ""
    name = f"{args.store_name}{cli.method_name(args)}{loss}{select}_lr_{args.lr}_bs_{args.batch_size}"
    return f"{name}_seed_{args.seed}"


def load(args: argparse.Namespace) -> Data:
    """The splits; the published counts or those of `depth_counts.json` give shots and weights."""
    sizes, folder, workers = Sizes.of(args.img_size), args.data_dir, min(args.workers, os.cpu_count() or 1)
    test = files.read_pairs(folder, files.TEST_CSV)
    mask = files.read_mask(folder / files.MASK, len(test))
    # Evaluation needs no training images.
    known = args.evaluate and not (folder / files.TRAIN_CSV).exists()
    train = [] if known else files.read_pairs(folder, files.TRAIN_CSV)
    subset = files.read_pairs(folder, files.SUBSET_CSV) if args.fds and not args.evaluate else []
    for pair in test if args.evaluate else (*train, *subset, *test):
        check_there(pair)
    counts = read_counts(folder, len(train), DATA / "nyud2_counts.json")
    held: list[files.Pair] = []
    if args.select == "val" and not args.evaluate:
        train, held = hold_out(train, args.val_fraction, args.seed)
        scenes = {files.scene(pair) for pair in held}
        subset = [pair for pair in subset if files.scene(pair) not in scenes]
        log.info("%d scenes are held out for validation", len(scenes))
    splits = {
        "train": DepthSplit(train, sizes, workers, keep_invalid=args.keep_invalid),
        "statistics": DepthSplit(subset, sizes, workers, keep_invalid=args.keep_invalid) if subset else None,
        "test": DepthSplit(test, sizes, workers, tested=True, sixteen_bit=True, mask=mask),
    }
    splits["val"] = DepthSplit(held, sizes, workers, tested=True) if held else splits["test"]
    if args.reweight != "none":
        splits["train"].weights = weight_table(
            counts,
            args.bucket_start,
            reweight=args.reweight,
            lds=args.lds,
            lds_kernel=args.lds_kernel,
            lds_ks=args.lds_ks,
            lds_sigma=args.lds_sigma,
        )
    standin = read_standin(folder)
    return Data(
        **splits,
        bins=files.DEPTH_BINS,
        shots=files.shots_of(counts, standin),
        standin=standin.note,
        selected_on="validation" if held else "test",
    )


def check_there(pair: files.Pair) -> None:
    """Raise UserError if one of the two files is not there."""
    for file in pair:
        if not file.is_file():
            raise UserError(f"{file}: there is no such file; {files.GET_NYUD2}")


def build(args: argparse.Namespace, data: Data) -> DepthEncoder:
    """The encoder; its ImageNet weights are read only where a checkpoint will not bring its own."""
    encoder = DepthEncoder(args.model)
    if args.pretrained_encoder != "none" and not (args.evaluate or args.pretrained):
        file = imagenet_file(args.model) if args.pretrained_encoder == "imagenet" else args.pretrained_encoder
        load_blocks(encoder.E, Path(file))
        log.info("Encoder starts from %s", file)
    return encoder


PUBLISHED_GROUPS = {"all": "overall", "many": "many", "medium": "medium", "few": "few"}
PUBLISHED_NAMES = {name: name.upper() for name in METRICS} | {"log10": "LG10", "n": "NUM"}


def published(content: dict[str, Any]) -> dict[str, Any]:
    """The keys of a published depth checkpoint: its epochs count from 0, `metric` is of its last check."""
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
    unit="image",
    load=load,
    build=build,
    key_map=(("head.", "module.R.conv2."), ("FDS.", "module.R.FDS."), ("encoder.", "module.")),
    checkpoint_hint="; its sizes follow --model, those of FDS --bucket_start and --bucket_num",
    fds_clip=(0.2, 5.0),
    lds_reweight="inverse",
    head=depth_head,
    retrained=("R",),
    select="rmse",
    metrics=METRICS,
    table=("rmse", "delta1"),
    counted="pixels",
    evaluator=DepthMetrics,
    published=published,
)


def main(prog: str, doc: str, argv: Sequence[str] | None = None, **defaults: Any) -> int:
    """The command, with other `defaults` of its flags where they are given; returns its exit code."""
    flags = parser(prog, doc)
    flags.set_defaults(**defaults)
    args = flags.parse_args(argv)
    cli.resolve(args, lds_reweight=TASK.lds_reweight)
    if args.bucket_num > files.DEPTH_BINS.num or args.bucket_start >= args.bucket_num:
        raise UserError("--bucket_start and --bucket_num: must be in order, within the 100 bins of 0.1 m")
    args.resume_from, args.val_interval, args.max_vals = "", 0, args.epochs
    args.data_dir = args.data_dir or DATA / "nyud2"
    if args.start_epoch >= args.epochs:
        raise UserError(
            f"--start_epoch {args.start_epoch}: leaves nothing to train of --epochs {args.epochs}"
        )
    args.fds_variant = "paper"  # the released depth code does what the paper states (FACTS F1, F3)
    if args.schedule is None:
        args.schedule = list(range(5, args.epochs, 5))
    return run(TASK, args, run_name)
