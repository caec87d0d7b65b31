"""What AgeDB-DIR and IMDB-WIKI-DIR share: flags, loading, and a ResNet from scratch (paper, section 4.1).

The two differ in a CSV and a first FDS bucket; so does any other data set of images with a number each
(`--dataset`, `--target`, `--bin_width`, `--label_min`, `--label_max`).
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

import torch
import torchvision
from torch import nn

from common import cli
from common.bins import Bins
from common.datasets.faces import LAST_AGE, LIMITS, label_bins
from common.errors import UserError
from common.images.augment import PADDING
from common.images.resample import resample_faces
from common.images.split import load_faces
from common.metrics import Shots
from common.task import Data, Task, read_standin
from common.training.command import run

AGES = Bins.integers(0, LAST_AGE)
MANY_ABOVE, FEW_BELOW = 100, 20  # the published shots; a stand-in brings its own
SOURCES = {
    "agedb": "AgeDB comes on request: python scripts/download.py agedb says how, and python "
    "scripts/prepare.py agedb writes its CSV",
    "imdb-wiki": "python scripts/download.py imdb-wiki gets the faces, and python scripts/prepare.py "
    "imdb-wiki writes their CSV",
}
RESNETS = tuple(name for name in torchvision.models.list_models(torchvision.models) if "resne" in name)


class ResNetEncoder(nn.Module):
    """A torchvision ResNet without its last layer: images `(n, 3, S, S)` -> features `(n, feature_dim)`.

    Its children keep torchvision's names, which are the published ones.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        resnet = torchvision.models.get_model(name, weights=None)
        self.feature_dim = resnet.fc.in_features
        for child, module in resnet.named_children():
            if child != "fc":
                self.add_module(child, module)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        for module in self.children():
            images = module(images)
        return images.flatten(1)


def load(args: argparse.Namespace) -> Data:
    """The three splits of `DATASET.csv`, their bins, and the shots that the training labels define."""
    splits = load_faces(
        args.data_dir,
        f"{args.dataset}.csv",
        target=args.target,
        label_min=args.label_min,
        label_max=args.label_max,
        img_size=args.img_size,
        cache=args.cache,
        bad_images=args.bad_images,
        workers=min(args.workers, os.cpu_count() or 1),
        padding=args.padding,
        hint=way_to_get(args),
    )
    train = splits["train"]
    bins = label_bins(train.labels, args.bin_width, args.label_min, args.label_max)
    # LDS and re-weighting pool ages above 120; the published shots count every age by itself.
    shot_bins = Bins.integers(0, int(LIMITS[1])) if bins == AGES else bins
    standin = read_standin(args.data_dir)
    many = first_given(args.many_above, standin.many_above, MANY_ABOVE)
    few = first_given(args.few_below, standin.few_below, FEW_BELOW)
    shots = Shots(shot_bins, shot_bins.counts(train.labels), many, few)
    choose_buckets(args, bins, int(bins.index(train.labels).max()))
    if args.resample and not args.evaluate:
        train = resample_faces(args, train, shots)
    return Data(train, splits["val"], splits["test"], bins, shots, standin=standin.note)


def way_to_get(args: argparse.Namespace) -> str:
    """What to do where the data are not there; nobody can download a user's own."""
    if args.dataset != args.name.replace("-", "_"):
        return "--dataset names the CSV in --data_dir"
    return f"{SOURCES[args.name]}, or draw a stand-in with python scripts/make_standin.py {args.name}"


def first_given(*values: float | None) -> float:
    """The first of the values that is not None."""
    return next(value for value in values if value is not None)


def choose_buckets(args: argparse.Namespace, bins: Bins, last: int) -> None:
    """FDS's buckets, where no flag says them: the published ones for ages, every bin for other labels.

    `last` is the highest bin with a training sample. Raises UserError for buckets beyond it.
    """
    start, num = (args.published_start, 100) if bins == AGES else (0, bins.num)
    args.bucket_start = start if args.bucket_start is None else args.bucket_start
    args.bucket_num = num if args.bucket_num is None else args.bucket_num
    if args.fds and args.bucket_start > last:
        raise UserError(f"--bucket_start {args.bucket_start}: training labels end in bin {last}")
    cli.check_buckets(args)


def build(args: argparse.Namespace, data: Data) -> ResNetEncoder:
    """The encoder with fresh weights; raises UserError where batch norm would meet a single value."""
    smallest = len(data.train.labels) % args.batch_size or args.batch_size
    if smallest == 1 and args.img_size <= 32 and not args.evaluate:
        raise UserError(
            f"--batch_size {args.batch_size}: leaves a batch of one image, and batch norm cannot train on it "
            f"at --img_size {args.img_size}; choose another"
        )
    return ResNetEncoder(args.model)


def task(name: str) -> Task:
    """The settings of the published age code, for the data set `name`."""
    return Task(
        name=name,
        unit="image",
        load=load,
        build=build,
        key_map=(("head.", "module.linear."), ("FDS.", "module.FDS."), ("encoder.", "module.")),
        checkpoint_hint="; its sizes follow --model, those of FDS --bucket_start and --bucket_num",
        fds_clip=(0.1, 10.0),
        clip_counts=(5, 1000),
        adam_weight_decay=0.0,
    )


def parser(prog: str, doc: str, dataset: str) -> cli.Parser:
    """Every flag of the published scripts, under its name and with its default, and ours."""
    parser = cli.Parser(prog=prog, description=doc.splitlines()[0])
    cli.add_imbalance_arguments(parser, bucket_num=None, bucket_start=None, neighbours=5)
    cli.add_training_arguments(
        parser,
        lr=1e-3,
        batch_size=256,
        loss="l1",
        huber_beta=1.0,
        max_grad_norm=0.0,
        patience=0,
        schedule=[60, 80],
    )
    cli.add_run_arguments(parser, seed=0)
    own = parser.add_argument_group("faces")
    own.add_argument("--dataset", default=dataset, help="the CSV in the data folder, without its ending")
    own.add_argument(
        "--model", choices=RESNETS, default="resnet50", help="a ResNet of torchvision, from scratch"
    )
    own.add_argument("--epoch", type=cli.number(int, 1), default=90, help="epochs to train")
    own.add_argument("--momentum", type=cli.number(float, 0), default=0.9, help="of SGD")
    own.add_argument("--weight_decay", type=cli.number(float, 0), default=1e-4, help="of SGD (Adam has none)")
    own.add_argument(
        "--img_size", type=cli.number(int, 8), default=224, help="images are resized to this square"
    )
    own.add_argument(
        "--padding",
        type=cli.number(int, 0),
        default=PADDING,
        help="zeros around an image before a random crop",
    )
    own.add_argument(
        "--workers", type=cli.number(int, 1), default=32, help="decoding threads (at most the cores)"
    )
    own.add_argument(
        "--print_freq", type=cli.number(int, 1), default=10, help="steps between looks at the loss"
    )
    own.add_argument(
        "--cache",
        default="auto",
        help="resized images: auto (in the data folder, if the disk has room), off, or a folder",
    )
    own.add_argument(
        "--bad_images", choices=("error", "skip"), default="error", help="what to do with broken files"
    )
    own.add_argument("--target", default="age", help="the CSV's column of labels")
    own.add_argument(
        "--bin_width",
        type=cli.number(float, cli.POSITIVE),
        default=None,
        help="width of a label bin (default: a bin for each whole number)",
    )
    own.add_argument("--label_min", type=float, default=None, help="least label there is (default: 0)")
    own.add_argument("--label_max", type=float, default=None, help="greatest label there is (default: 200)")
    own.add_argument(
        "--many_above",
        type=cli.number(float, 0),
        default=None,
        help=f"many-shot: more in the bin (default: {MANY_ABOVE}, or the stand-in's)",
    )
    own.add_argument(
        "--few_below",
        type=cli.number(float, 0),
        default=None,
        help=f"few-shot: fewer in the bin (default: {FEW_BELOW}, or the stand-in's)",
    )
    own.add_argument("--store_name", default="", help="put into the run's name")
    own.add_argument("--gpu", type=int, default=None, help="published form of --device cuda:N")
    own.add_argument(
        "--resume",
        dest="resume_from",
        default="",
        metavar="CKPT",
        help="train on from this checkpoint, or with --evaluate test it (a run's own is found without)",
    )
    return parser


def run_name(args: argparse.Namespace) -> str:
    """The published name of a run, and the seed."""
    store = f"_{args.store_name}" if args.store_name else ""
    name = f"{args.dataset}_{args.model}{store}{cli.method_name(args)}"
    return f"{name}_{args.optimizer}_{args.loss}_{args.lr}_{args.batch_size}_seed_{args.seed}"


def main(prog: str, doc: str, name: str, bucket_start: int, argv: Sequence[str] | None = None) -> int:
    """The command of a face data set, looked for in `data/NAME`; returns its exit code."""
    args = parser(prog, doc, name.replace("-", "_")).parse_args(argv)
    settings = task(name)
    cli.resolve(args, lds_reweight=settings.lds_reweight)
    args.name, args.published_start = name, bucket_start
    args.data_dir = args.data_dir or cli.ROOT / "data" / name
    args.device = args.device if args.gpu is None else f"cuda:{args.gpu}"
    args.val_interval, args.max_vals, args.must_resume = 0, args.epoch, False
    args.eval_model = args.resume_from if args.evaluate else ""
    return run(settings, args, run_name)
