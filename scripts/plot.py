"""Pictures of results: the error by label of several runs, under the label histogram of the training set.

python scripts/plot.py --table agedb-standin --out error.png
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from common import cli
from common.errors import UserError
from common.recipes import Table, find_table
from common.rundir import read_json
from common.splits import COLOURS
from common.task import read_standin

# Okabe and Ito's colours, which colour-blind readers tell apart; line styles say the same once more.
LINES = [
    ("#000000", "-"), ("#56B4E9", "--"), ("#009E73", "-."), ("#CC79A7", ":"),
    ("#D55E00", "-"), ("#0072B2", "--"), ("#E69F00", "-."),
]  # fmt: skip
WIDTH = 5  # labels whose errors are averaged together; a single age has a few test samples only


def training_counts(table: Table) -> tuple[pd.Series, Path]:
    """Training samples by label of a face table, and the data folder; labels are whole numbers."""
    flags = table.flags.split()
    if "--data_dir" not in flags or "mae" not in table.metrics:
        raise UserError(f"--table {table.name}: is no table of faces; choose one whose labels are ages")
    folder = cli.ROOT / flags[flags.index("--data_dir") + 1]
    file = next(folder.glob("*.csv"), None)
    if file is None:
        raise UserError(f"{folder}: has no data; draw them, or get them, as for the runs of {table.name}")
    frame = pd.read_csv(file)
    return frame.loc[frame["split"] == "train", "age"].value_counts().sort_index(), folder


def predictions(table: Table, row: str) -> pd.DataFrame:
    """`predictions.csv` of every seed of a row that has been run, one below the other."""
    results = [read_json(cell.result) for cell in table.cells() if cell.row == row]
    files = [cli.ROOT / Path(r["checkpoint"]).parent / "predictions.csv" for r in results if r]
    found = [pd.read_csv(file) for file in files if file.exists()]
    return pd.concat(found) if found else pd.DataFrame(columns=["label", "prediction", "shot"])


def histogram(axes: Axes, counts: pd.Series, many_above: float, few_below: float) -> None:
    """Bars of the training counts, coloured by shot."""
    shot = np.where(counts > many_above, "many", np.where(counts < few_below, "few", "medium"))
    axes.bar(counts.index, counts.to_numpy(), width=1, color=[COLOURS[s] for s in shot])
    names = {"many": f"many (> {many_above:g})", "medium": "medium", "few": f"few (< {few_below:g})"}
    axes.legend([Patch(color=COLOURS[s]) for s in names], names.values(), title="shot", frameon=False)
    axes.set_ylabel("training samples")


def error_lines(axes: Axes, table: Table) -> None:
    """The mean absolute error of each row, over stretches of `WIDTH` labels."""
    for (colour, style), row in zip(itertools.cycle(LINES), table.rows, strict=False):
        frame = predictions(table, row)
        if frame.empty:
            continue
        error = (frame["prediction"] - frame["label"]).abs()
        by_label = error.groupby(frame["label"] // WIDTH * WIDTH + WIDTH / 2).mean()
        axes.plot(
            by_label.index, by_label.to_numpy(), style, color=colour, label=row, marker="o", markersize=3
        )
    if not axes.lines:
        return
    axes.set_ylabel(f"test MAE in years\n(mean over {WIDTH} ages)")
    axes.set_xlabel("age in years")
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)


def error_by_label(table: Table, out: Path) -> None:
    """The picture of a face table: the training histogram above the error by age of each row."""
    counts, folder = training_counts(table)
    standin = read_standin(folder)
    figure = Figure(figsize=(9, 7), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[2, 3])
    histogram(above, counts, standin.many_above or 100, standin.few_below or 20)
    error_lines(below, table)
    if not below.lines:
        raise UserError(
            f"--table {table.name}: has no run here; python scripts/reproduce.py --table {table.name}"
        )
    figure.suptitle(table.title)
    try:
        figure.savefig(out, dpi=120)
    except (OSError, ValueError) as error:
        raise UserError(f"--out {out}: cannot be written ({error})") from error


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = cli.Parser(prog="scripts/plot.py", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--table", required=True, help="a face table of data/recipes.toml that has been run here"
    )
    parser.add_argument("--out", type=Path, required=True, help="the picture, PNG or SVG by its ending")
    args = parser.parse_args(argv)
    error_by_label(find_table(args.table), args.out)
    return 0


if __name__ == "__main__":
    sys.exit(cli.run_command("scripts/plot.py", main))
