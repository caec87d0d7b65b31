"""Print the shot table of anybody's predictions: a CSV with the columns label and prediction.

    python scripts/evaluate.py predictions.csv --train-labels data/agedb/agedb.csv
    python scripts/evaluate.py mine.csv --train-labels train.csv --target score --bin_width 0.1 --metrics sera bmae

The shots of a test label follow from the training labels in its bin. Bins, limits and thresholds have the flags of
train.py. A head that predicts a distribution has further columns, as predictions.csv of a run: std, nll, crps, pit.
Numbers are read as float32, as runs write them, so that a run's own predictions give its metrics.json.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # prefer the `common` beside this file
import common.environment  # noqa: F401 - ends in one line under a wrong interpreter

# isort: split
import numpy as np

from common import cli, flags
from common.bins import Bins
from common.datasets import faces
from common.datasets.shots import FEW_BELOW, MANY_ABOVE, shots_of
from common.datasets.standin import read_standin
from common.errors import UserError
from common.files import check_writable, write_json
from common.metrics import METRICS, Shots, shot_table
from common.relevance import Relevance
from common.report import shot_text

TABLE = ("mae", "mse", "gm")  # printed without --metrics
OF_LABELS = {"bin", "relevance"}  # columns that follow from the training labels
COMPUTED = {name: metric for name, metric in METRICS.items() if metric.compute}  # from rows of predictions
HINT = "name a CSV with the columns label and prediction, such as a run's predictions.csv"


def make_parser() -> cli.Parser:
    """Return the parser."""
    parser = cli.Parser(prog="scripts/evaluate.py", description=__doc__.splitlines()[0])
    finite, positive = flags.number(float, -math.inf), flags.number(float, flags.POSITIVE)
    parser.add_argument("predictions", type=Path, metavar="FILE", help="the predictions, a CSV")
    parser.add_argument(
        "--train-labels", "--train_labels", type=Path, required=True, metavar="FILE",
        help="a CSV, of whose column split the training rows count, or one label a line",
    )  # fmt: skip
    parser.add_argument("--target", default="age", help="its column of labels")
    parser.add_argument(
        "--bin_width", type=positive, help="width of a label bin (default: a bin for each whole number)"
    )
    parser.add_argument("--label_min", type=finite, help="least label there is (default: 0)")
    parser.add_argument("--label_max", type=finite, help="greatest label there is (default: 200)")
    for name, words, value in (("many_above", "more", MANY_ABOVE), ("few_below", "fewer", FEW_BELOW)):
        text = f"{name.split('_')[0]}-shot: {words} in the bin (default: {value}, or the stand-in's)"
        parser.add_argument(f"--{name}", type=flags.number(float, 0), help=text)
    parser.add_argument(
        "--metrics", nargs="*", default=(), choices=COMPUTED, metavar="NAME",
        help=f"further rows of the table, of {', '.join(COMPUTED)}",
    )  # fmt: skip
    parser.add_argument("--metrics_json", type=Path, metavar="PATH", help="write the metrics here too")
    return parser


def read_predictions(file: Path) -> dict[str, np.ndarray]:
    """Return the columns that metrics need, float32 `(N,)`; raises UserError with the lines that are wrong."""
    names, rows = faces.read_rows(file, HINT)
    if absent := [name for name in ("label", "prediction") if name not in names]:
        raise UserError(f"{file}: has no column {', '.join(absent)} (it has {', '.join(names)}); {HINT}")
    needed = dict.fromkeys(["label", *(name for metric in COMPUTED.values() for name in metric.needs)])
    known = tuple(name for name in needed if name in names and name not in OF_LABELS)
    lines, cells = faces.read_columns(file, names, rows, known)
    if not lines:
        raise UserError(f"{file}: holds no prediction; {HINT}")
    anything = -math.inf, math.inf
    return {
        name: faces.read_numbers(file, lines, column, name, anything)
        for name, column in zip(known, cells, strict=True)
    }


def training(args: argparse.Namespace) -> tuple[Bins, Shots, Relevance]:
    """Return bins, shots and relevance of the training labels; says where their data are a stand-in."""
    labels = faces.read_train_labels(args.train_labels, args.target, args.label_min, args.label_max)
    bins = faces.label_bins(labels, args.bin_width, args.label_min, args.label_max)
    standin = read_standin(args.train_labels.parent)
    if standin.note:
        print(f"STAND-IN, not the real data: {standin.note}")
    return bins, shots_of(labels, bins, standin, args.many_above, args.few_below), Relevance.of(labels)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    args = make_parser().parse_args(argv)
    if args.metrics_json is not None:
        check_writable(args.metrics_json, "--metrics_json")
    columns = read_predictions(args.predictions)
    bins, shots, relevance = training(args)
    columns |= {"bin": bins.index(columns["label"]), "relevance": relevance(columns["label"])}
    for name in args.metrics:
        if absent := [need for need in METRICS[name].needs if need not in columns]:
            raise UserError(f"--metrics {name}: {args.predictions} lacks the column {', '.join(absent)}")
    table = shot_table(columns, shots, (*TABLE, "bmae", *args.metrics))
    print(f"Shots: many above {shots.many_above:g} training samples in a bin, few below {shots.few_below:g}")
    print(shot_text(table, (*TABLE, *args.metrics)))
    if args.metrics_json is not None:
        files = {"predictions": str(args.predictions), "train_labels": str(args.train_labels)}
        write_json(args.metrics_json, {**files, "shots": table})
    return 0


if __name__ == "__main__":
    sys.exit(cli.run_command("scripts/evaluate.py", main))
