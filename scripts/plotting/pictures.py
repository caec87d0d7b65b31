"""The pictures of `scripts/plot.py`: each function takes the parsed flags and draws one."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from plotting import figure_of_study, figures, figures_of_spread, figures_of_tables, label_counts
from plotting.feature_statistics import from_buffers, from_training_set
from plotting.finished_runs import FinishedRun, by_name, check_same_data, of_table, read_run
from plotting.label_counts import TrainingLabels, folder_of, title_of
from preparing.splits import write_together
from reproducing.recipes import find_table

from common import cli
from common.errors import UserError
from common.lds import PUBLISHED_KERNELS, SIGMA_KERNELS, get_lds_kernel_window
from common.methods.smoothing import SmoothingFlags
from common.metrics import WITH_DISTRIBUTION

AGE = 30.0  # the anchor of the paper's Figure 4
Drawn = tuple[Figure, list[FinishedRun]]  # a picture, and the runs in it


def histogram(args: argparse.Namespace) -> Drawn:
    """Draw the label histogram of a training set, with its shots and the LDS-smoothed density."""
    if (args.where / "args.json").exists():
        runs = [read_run(args.where)]
        training = training_labels(runs[0], args)
    elif args.tensorboard or args.data_dir:
        raise UserError(f"{args.where}: is no run (no args.json); --tensorboard and --data_dir go with one")
    else:
        runs, training = [], label_counts.of_folder(args.where)
    return figures.histogram(training, *density(training, args)), runs


def error(args: argparse.Namespace) -> Drawn:
    """Draw the test error by label of several methods, below the training histogram."""
    named, runs = chosen(args)
    training = training_labels(runs[0], args)
    if args.table:  # results may be kept without predictions
        named = {name: [run for run in group if run.kept] for name, group in named.items()}
        if not any(named.values()):
            raise UserError(f"--table {args.table}: its runs left no predictions here; run them again")
    frames = {name: [run.errors() for run in group] for name, group in named.items()}
    return figures.error(training, *density(training, args), frames), runs


def features(args: argparse.Namespace) -> Drawn:
    """Draw the similarity of the feature statistics of each bin to those of an anchor bin.

    One run with FDS shows its running statistics before and after smoothing. Other runs, and several, show
    the features of the training set.
    """
    named, runs = chosen(args, seeds_apart=True)
    training = training_labels(runs[0], args)
    middle = training.centres(training.bins)[training.bins.num // 2]
    anchor = args.anchor if args.anchor is not None else AGE if training.quantity == "age" else middle
    if len(runs) == 1 and runs[0].settings[SmoothingFlags].fds:
        before, after = from_buffers(runs[0], training)
        statistics = {"before FDS": before, "after FDS": after}
        title = f"features before and after FDS, {runs[0].method}"
    else:
        folder, title = data_folder(runs[0], args), "features of the training set"
        statistics = {name: from_training_set(g[0], name, folder) for name, g in named.items() if g}
    lines = {name: part.similarity(anchor, training) for name, part in statistics.items()}
    return figures.features(training, anchor, lines, title), runs


def heatmap(args: argparse.Namespace) -> Drawn:
    """Draw every metric and shot of several methods, or of a whole table, against Vanilla."""
    named, runs = chosen(args)
    rows = {name: [run.result for run in group] for name, group in named.items() if group}
    task, settings = runs[0].task, runs[0].settings
    heading = find_table(args.table, args.scale).title if args.table else title_of(task, settings)
    shown = [name for name in WITH_DISTRIBUTION if all(name in run.result["shots"]["all"] for run in runs)]
    return figures_of_tables.heatmap(heading, rows, [*task.table, *shown]), runs


def calibration(args: argparse.Namespace) -> Drawn:
    """Draw whether predicted distributions cover what they say, and whether errors grow with their spread."""
    named, runs = chosen(args)
    frames = {
        name: pd.concat([run.distribution() for run in group]) for name, group in named.items() if group
    }
    task, settings = runs[0].task, runs[0].settings
    heading = title_of(task, settings)
    return figures_of_spread.calibration(
        heading, frames, task.label_unit, runs[0].result.get("standin")
    ), runs


def study(args: argparse.Namespace) -> Drawn:
    """Draw what each row of the study changes against its base row, on every data set that is no stand-in."""
    path = cli.ROOT / "results" / "study.csv"
    if not path.exists():
        raise UserError(f"{path}: is not here; run python scripts/study.py")
    effects = pd.read_csv(path)
    return figure_of_study.study(effects[~effects["table"].str.endswith("-standin")]), []


def kernels(args: argparse.Namespace) -> Drawn:
    """Draw the windows of LDS and FDS."""
    return figures_of_tables.kernels(args.kernels or PUBLISHED_KERNELS, args.ks, args.sigma), []


def chosen(
    args: argparse.Namespace, *, seeds_apart: bool = False
) -> tuple[dict[str, list[FinishedRun]], list[FinishedRun]]:
    """Return the runs that the command names, by method and as one list; check that they share their data."""
    if bool(args.runs) == bool(args.table):
        raise UserError("name the runs to draw, or a --table, and not both")
    if args.table:
        named = of_table(find_table(args.table, args.scale), args.rows)
    else:
        read = [read_run(folder) for folder in args.runs]
        check_same_data(read)  # first: runs of other data have other flags
        named = by_name(read, seeds_apart=seeds_apart)
    runs = [run for group in named.values() for run in group]
    check_same_data(runs)
    return named, runs


def data_folder(run: FinishedRun, args: argparse.Namespace) -> Path:
    """Return the data folder of the command, or else of the run."""
    return args.data_dir or folder_of(run.settings)


def training_labels(run: FinishedRun, args: argparse.Namespace) -> TrainingLabels:
    """Return the training labels of a run."""
    return label_counts.of_run(run.task, run.settings.with_(data_dir=data_folder(run, args)))


def density(training: TrainingLabels, args: argparse.Namespace) -> tuple[np.ndarray, str]:
    """Return the smoothed counts and their legend."""
    kernel, ks, sigma = args.lds_kernel, args.lds_ks, args.lds_sigma
    name = f"{kernel} {ks}" + (f"/{sigma:g}" if kernel in SIGMA_KERNELS else "")
    return training.smoothed(get_lds_kernel_window(kernel, ks, sigma)), f"LDS-smoothed ({name})"


def save(figure: Figure, out: Path) -> None:
    """Write the picture atomically; the same figure gives the same bytes."""
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
