"""Pictures of data, runs and tables, as PNG or SVG, and for TensorBoard.

    python scripts/plot.py histogram RUN_OR_DATA --out FILE     training labels, shots, and the LDS density
    python scripts/plot.py error RUN... --out FILE              error by label under them (paper, Figure 2)
    python scripts/plot.py features RUN... --out FILE           feature statistics of bins (Figure 4)
    python scripts/plot.py heatmap RUN... --out FILE            every metric and shot, against Vanilla
    python scripts/plot.py calibration RUN... --out FILE        predicted distributions: coverage, error by spread
    python scripts/plot.py study --out FILE                     every row of the study against its base row
    python scripts/plot.py kernels --out FILE                   the windows of LDS and FDS

RUN is a folder that train.py wrote; `--table NAME` in its place takes a table's runs. Runs that differ in
their seed alone are put together.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # prefer the `common` beside this file
import common.environment  # noqa: F401 - ends in one line under a wrong interpreter

# isort: split
from common import cli, flags
from common.methods.kernel import kernel_name
from common.report import start_logging, stop_logging

ENDINGS = (".png", ".svg", ".pdf")
ODD = flags.number(int, 1, odd=True)
HELP = {
    "histogram": "The label histogram of a training set, with its shots and the LDS-smoothed density.",
    "error": "The test error by label of several methods, below the training histogram.",
    "features": "Cosine similarity of the feature mean and variance of each bin to those of an anchor bin. "
    "Of one run with FDS: its running statistics before and after smoothing. Of other runs, or of several: "
    "the features of the training set.",
    "heatmap": "Every metric and shot of several methods, or of a whole table, against Vanilla.",
    "calibration": "Observed against expected coverage of predicted distributions, and error against predicted "
    "spread. Of runs whose head predicts a distribution.",
    "study": "What each row of the study changes against its base row, on every data set, with intervals.",
    "kernels": "The windows of LDS and FDS.",
}


def picture(text: str) -> Path:
    """Parse the path of a picture, whose ending names the format (an argparse type)."""
    if Path(text).suffix.lower() not in ENDINGS:
        raise argparse.ArgumentTypeError(f"{text!r} ends in none of {', '.join(ENDINGS)}")
    return Path(text)


def add_picture(kinds: argparse._SubParsersAction, name: str) -> cli.Parser:
    """Add the parser of one picture, with the flags that all have."""
    parser = kinds.add_parser(name, help=HELP[name].split(".")[0], description=HELP[name])
    parser.set_defaults(picture=name, tensorboard=False, data_dir=None)
    parser.add_argument(
        "--out", type=picture, required=True, metavar="FILE", help="the picture; ends in .png, .svg or .pdf"
    )
    if name not in ("study", "kernels"):
        parser.add_argument("--tensorboard", action="store_true", help="show it in the runs' TensorBoard too")
    return parser


def add_runs(parser: cli.Parser) -> None:
    """Add the flags that choose runs."""
    parser.add_argument("runs", type=Path, nargs="*", metavar="RUN", help="a folder that train.py wrote")
    parser.add_argument("--table", metavar="NAME", help="in place of RUN: a table of scripts/reproduce.py")
    parser.add_argument("--scale", help="of the table, where its name does not say it")
    parser.add_argument("--rows", default="*", help="of the table, as a shell pattern")


def add_data(parser: cli.Parser) -> None:
    """Add the flag for the runs' data."""
    parser.add_argument("--data_dir", type=Path, help="the runs' data (default: where they found them)")


def add_density(parser: cli.Parser) -> None:
    """Add the flags of the smoothed density, named as for training."""
    parser.add_argument(
        "--lds_kernel", type=kernel_name, default="gaussian", help="kernel of the smoothed density"
    )
    parser.add_argument("--lds_ks", type=ODD, default=5, help="its size in bins, odd")
    parser.add_argument(
        "--lds_sigma", type=flags.number(float, flags.POSITIVE), default=2.0, help="its sigma in bins"
    )


def make_parser() -> cli.Parser:
    """Return the parser, with a sub-command for each picture."""
    parser = cli.Parser(prog="scripts/plot.py", description=__doc__.splitlines()[0])
    kinds = parser.add_subparsers(required=True, metavar="PICTURE")
    own = add_picture(kinds, "histogram")
    own.add_argument("where", type=Path, metavar="RUN_OR_DATA", help="a run, or a data folder")
    add_data(own)
    add_density(own)
    own = add_picture(kinds, "error")
    add_runs(own)
    add_data(own)
    add_density(own)
    own = add_picture(kinds, "features")
    add_runs(own)
    add_data(own)
    own.add_argument(
        "--anchor", type=float, metavar="LABEL", help="compare with this bin (default: age 30, or the middle)"
    )
    add_runs(add_picture(kinds, "heatmap"))
    add_runs(add_picture(kinds, "calibration"))
    add_picture(kinds, "study")
    own = add_picture(kinds, "kernels")
    own.add_argument(
        "--kernels",
        nargs="+",
        metavar="NAME",
        type=kernel_name,
        help="as for --lds_kernel (default: the published ones)",
    )
    own.add_argument("--ks", nargs="+", type=ODD, default=[5, 9, 15], help="sizes, odd")
    own.add_argument("--sigma", type=flags.number(float, flags.POSITIVE), default=2.0, help="in bins")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    args = make_parser().parse_args(argv)
    from plotting import pictures  # loads torch and matplotlib

    start_logging(None)
    try:
        figure, runs = getattr(pictures, args.picture)(args)
    finally:
        stop_logging()
    pictures.save(figure, args.out)
    if args.tensorboard:
        pictures.send(figure, args.picture, runs)
    return 0


if __name__ == "__main__":
    sys.exit(cli.run_command("scripts/plot.py", main))
