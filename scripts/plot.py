"""Pictures of data, runs and tables, as PNG or SVG, and for TensorBoard.

    python scripts/plot.py histogram RUN_OR_DATA --out FILE     training labels, shots, and the LDS density
    python scripts/plot.py error RUN... --out FILE              error by label under them (paper, Figure 2)
    python scripts/plot.py features RUN... --out FILE           feature statistics of bins (Figure 4)
    python scripts/plot.py heatmap RUN... --out FILE            every metric and shot, against Vanilla
    python scripts/plot.py kernels --out FILE                   the windows of LDS and FDS

RUN is a folder that train.py wrote; `--table NAME` in its place takes a table's runs. Runs that differ in
their seed alone are put together.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # prefer the `common` beside this file
import common.environment  # noqa: F401 - ends in one line under a wrong interpreter

# isort: split
import numpy as np
from matplotlib.figure import Figure
from plotting import figures, figures_of_tables, label_counts
from plotting.data_sets import TITLES, task_of
from plotting.feature_statistics import from_buffers, from_training_set
from plotting.finished_runs import FinishedRun, by_name, check_same_data, method, of_table, read_run
from plotting.label_counts import TrainingLabels
from preparing.splits import write_together
from reproducing.recipes import find_table

from common import cli
from common.errors import UserError
from common.lds import PUBLISHED_KERNELS, SIGMA_KERNELS, get_lds_kernel_window
from common.report import start_logging, stop_logging

ENDINGS = (".png", ".svg", ".pdf")
AGE = 30.0  # the anchor of the paper's Figure 4
ODD = cli.number(int, 1, odd=True)
Drawn = tuple[Figure, list[FinishedRun]]  # a picture, and the runs that it is of


def histogram(args: argparse.Namespace) -> Drawn:
    """The label histogram of a training set, with its shots and the LDS-smoothed density."""
    if (args.where / "args.json").exists():
        runs = [read_run(args.where)]
        training = training_labels(runs[0], args)
    elif args.tensorboard or args.data_dir:
        raise UserError(f"{args.where}: is no run (no args.json); --tensorboard and --data_dir go with one")
    else:
        runs, training = [], label_counts.of_folder(args.where)
    return figures.histogram(training, *density(training, args)), runs


def error(args: argparse.Namespace) -> Drawn:
    """The test error by label of several methods, below the training histogram."""
    named, runs = chosen(args)
    training = training_labels(runs[0], args)
    if args.table:  # results may be kept without predictions
        named = {name: [run for run in group if run.predictions.is_file()] for name, group in named.items()}
        if not any(named.values()):
            raise UserError(f"--table {args.table}: its runs left no predictions here; run them again")
    frames = {name: [run.errors() for run in group] for name, group in named.items()}
    return figures.error(training, *density(training, args), frames), runs


def features(args: argparse.Namespace) -> Drawn:
    """Cosine similarity of the feature mean and variance of each bin to those of an anchor bin.

    Of one run with FDS: its running statistics before and after smoothing. Of other runs, or of several: the
    features of the training set.
    """
    named, runs = chosen(args, seeds_apart=True)
    training = training_labels(runs[0], args)
    middle = training.centres(training.bins)[training.bins.num // 2]
    anchor = args.anchor if args.anchor is not None else AGE if training.quantity == "age" else middle
    if len(runs) == 1 and runs[0].args["fds"]:
        before, after = from_buffers(runs[0], training)
        found, what = (
            {"before FDS": before, "after FDS": after},
            f"features before and after FDS, {method(runs[0].args)}",
        )
    else:
        folder, what = data_folder(runs[0], args), "features of the training set"
        found = {name: from_training_set(g[0], name, folder) for name, g in named.items() if g}
    lines = {name: statistics.similarity(anchor, training) for name, statistics in found.items()}
    return figures.features(training, anchor, lines, what), runs


def heatmap(args: argparse.Namespace) -> Drawn:
    """Every metric and shot of several methods, or of a whole table, against Vanilla."""
    named, runs = chosen(args)
    rows = {name: [run.result for run in group] for name, group in named.items() if group}
    dataset = runs[0].result["dataset"]
    name = runs[0].args.get("dataset", dataset)
    heading = find_table(args.table, args.scale).title if args.table else TITLES.get(name, name)
    return figures_of_tables.heatmap(heading, rows, task_of(dataset).table), runs


def kernels(args: argparse.Namespace) -> Drawn:
    """The windows of LDS and FDS."""
    return figures_of_tables.kernels(args.kernels, args.ks, args.sigma), []


def chosen(
    args: argparse.Namespace, *, seeds_apart: bool = False
) -> tuple[dict[str, list[FinishedRun]], list[FinishedRun]]:
    """The runs that the command names, by method and in a row; all are on the same data."""
    if bool(args.runs) == bool(args.table):
        raise UserError("name the runs to draw, or a --table, and not both")
    if args.table:
        named = of_table(find_table(args.table, args.scale), args.rows)
    else:
        named = by_name([read_run(folder) for folder in args.runs], seeds_apart=seeds_apart)
    runs = [run for group in named.values() for run in group]
    check_same_data(runs)
    return named, runs


def data_folder(run: FinishedRun, args: argparse.Namespace) -> Path:
    """Where the data are: as the command says, or as the run found them."""
    return args.data_dir or Path(run.args["data_dir"])


def training_labels(run: FinishedRun, args: argparse.Namespace) -> TrainingLabels:
    """The training labels of a run."""
    return label_counts.of_run(run.result["dataset"], run.args, data_folder(run, args))


def density(training: TrainingLabels, args: argparse.Namespace) -> tuple[np.ndarray, str]:
    """The smoothed counts, and what to call them."""
    kernel, ks, sigma = args.lds_kernel, args.lds_ks, args.lds_sigma
    told = f"{kernel} {ks}" + (f"/{sigma:g}" if kernel in SIGMA_KERNELS else "")
    return training.smoothed(get_lds_kernel_window(kernel, ks, sigma)), f"LDS-smoothed ({told})"


def save(figure: Figure, out: Path) -> None:
    """Write the picture whole or not at all; the same figure gives the same bytes."""
    kind = out.suffix[1:].lower()
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    write_together({out: lambda part: figure.savefig(part, dpi=120, format=kind, metadata=metadata)})


def send(figure: Figure, kind: str, runs: Sequence[FinishedRun]) -> None:
    """Show the picture in the TensorBoard of each run, as `pictures/KIND`."""
    from torch.utils.tensorboard import SummaryWriter  # seconds to import

    here = [run.folder for run in runs if run.folder.is_dir()]
    if not here:
        raise UserError("--tensorboard: these runs have no folder here, only their results")
    for folder in here:
        with SummaryWriter(str(folder)) as writer:
            writer.add_figure(f"pictures/{kind}", figure)


def picture(text: str) -> Path:
    """An argparse type: a file whose ending is a format."""
    if Path(text).suffix.lower() not in ENDINGS:
        raise argparse.ArgumentTypeError(f"{text!r} ends in none of {', '.join(ENDINGS)}")
    return Path(text)


def add_picture(kinds: argparse._SubParsersAction, draw: Callable[[argparse.Namespace], Drawn]) -> cli.Parser:
    """The parser of one picture, with the flags that all have."""
    told = " ".join(draw.__doc__.split())
    parser = kinds.add_parser(draw.__name__, help=told.split(".")[0], description=told)
    parser.set_defaults(draw=draw, tensorboard=False, data_dir=None)
    parser.add_argument(
        "--out", type=picture, required=True, metavar="FILE", help="the picture; ends in .png, .svg or .pdf"
    )
    if draw is not kernels:
        parser.add_argument("--tensorboard", action="store_true", help="show it in the runs' TensorBoard too")
    return parser


def add_runs(parser: cli.Parser) -> None:
    """Which runs to draw."""
    parser.add_argument("runs", type=Path, nargs="*", metavar="RUN", help="a folder that train.py wrote")
    parser.add_argument("--table", metavar="NAME", help="in place of RUN: a table of scripts/reproduce.py")
    parser.add_argument("--scale", help="of the table, where its name does not say it")
    parser.add_argument("--rows", default="*", help="of the table, as a shell pattern")


def add_data(parser: cli.Parser) -> None:
    """Where the runs' data are."""
    parser.add_argument("--data_dir", type=Path, help="the runs' data (default: where they found them)")


def add_density(parser: cli.Parser) -> None:
    """The window of the smoothed density, named as for training."""
    parser.add_argument(
        "--lds_kernel", type=cli.kernel, default="gaussian", help="kernel of the smoothed density"
    )
    parser.add_argument("--lds_ks", type=ODD, default=5, help="its size in bins, odd")
    parser.add_argument(
        "--lds_sigma", type=cli.number(float, cli.POSITIVE), default=2.0, help="its sigma in bins"
    )


def make_parser() -> cli.Parser:
    """A sub-command for each picture."""
    parser = cli.Parser(prog="scripts/plot.py", description=__doc__.splitlines()[0])
    kinds = parser.add_subparsers(required=True, metavar="PICTURE")
    own = add_picture(kinds, histogram)
    own.add_argument("where", type=Path, metavar="RUN_OR_DATA", help="a run, or a data folder")
    add_data(own)
    add_density(own)
    own = add_picture(kinds, error)
    add_runs(own)
    add_data(own)
    add_density(own)
    own = add_picture(kinds, features)
    add_runs(own)
    add_data(own)
    own.add_argument(
        "--anchor", type=float, metavar="LABEL", help="compare with this bin (default: age 30, or the middle)"
    )
    add_runs(add_picture(kinds, heatmap))
    own = add_picture(kinds, kernels)
    own.add_argument(
        "--kernels",
        nargs="+",
        metavar="NAME",
        type=cli.kernel,
        default=PUBLISHED_KERNELS,
        help="as for --lds_kernel",
    )
    own.add_argument("--ks", nargs="+", type=ODD, default=[5, 9, 15], help="sizes, odd")
    own.add_argument("--sigma", type=cli.number(float, cli.POSITIVE), default=2.0, help="in bins")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    args = make_parser().parse_args(argv)
    start_logging(None)
    try:
        figure, runs = args.draw(args)
    finally:
        stop_logging()
    save(figure, args.out)
    if args.tensorboard:
        send(figure, args.draw.__name__, runs)
    return 0


if __name__ == "__main__":
    sys.exit(cli.run_command("scripts/plot.py", main))
