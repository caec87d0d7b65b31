"""Run the rows of a table of the paper, and print the paper's numbers and ours side by side.

    python scripts/reproduce.py --list
    python scripts/reproduce.py --table 2                                       (or --table agedb)
    python scripts/reproduce.py --table 3 --scale small --rows 'INV*' --seeds 0,1 --jobs 2
    python scripts/reproduce.py --table 3 --scale small --dry-run

Each cell, a row under a seed, is one ordinary `train.py` command. Stopped or killed, the same command goes
on: a finished cell is recognised by its `metrics.json`, an unfinished one resumes from its checkpoint, and
one that fails stops no other. What they end with is kept in results/. `--scale small` is a size for a CPU, on
drawn data where the real ones are too many or not public; without the flag it is `paper` where there is a
GPU, else `small`.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import fnmatch
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # prefer the `common` beside this file
import common.environment  # noqa: F401 - ends in one line under a wrong interpreter

# isort: split
from reproducing.launch import Launcher, Local
from reproducing.recipes import Cell, Table, find_table, read_tables
from reproducing.results import fold, state
from reproducing.sweep import Sweep
from tables import markdown

from common import cli, flags
from common.errors import RunFailed, UserError


def parser() -> cli.Parser:
    """Return the flags of this script."""
    parser = cli.Parser(prog="scripts/reproduce.py", description=__doc__.splitlines()[0])
    parser.add_argument("--table", help="number of the paper's table, or a name of data/recipes.toml")
    parser.add_argument(
        "--scale",
        choices=("paper", "small", "demo"),
        help="size of model, data and training: the paper's, or small, which a CPU carries, on drawn data "
        "where the real ones are too many or not public (default: paper where there is a GPU, else small)",
    )
    parser.add_argument("--list", action="store_true", help="list the tables and their rows")
    parser.add_argument("--rows", default="*", help="rows to run, as a shell pattern")
    parser.add_argument("--seeds", type=seeds, default=None, help="as 0,1,2; without it, the table's")
    parser.add_argument(
        "--jobs", type=flags.number(int, 1), default=1, help="runs at a time, sharing the machine"
    )
    parser.add_argument(
        "--launcher",
        choices=("local", "fork", "ray"),
        default="local",
        help="run here; or as forks of one process without a GPU, for runs that are shorter than their imports; "
        "or on a Ray cluster (RAY_ADDRESS) that sees this folder",
    )
    parser.add_argument(
        "--processes-per-run",
        type=flags.number(int, 1),
        default=1,
        help="processes of each run, started by torchrun; with --launcher local",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the commands only")
    return parser


def seeds(text: str) -> tuple[int, ...]:
    """Parse whole numbers between commas, each once (an argparse type)."""
    try:
        found = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        found = (-1,)
    if min(found) < 0:  # to train.py a negative seed is a random one, which no table can name
        raise argparse.ArgumentTypeError(f"{text!r} is no list of seeds such as 0,1,2")
    return found


def list_tables() -> None:
    """Print each table with its rows and flags."""
    for table in read_tables().values():
        several = "s" if len(table.papers) > 1 else ""
        papers = f" (Table{several} {' and '.join(map(str, table.papers))})" if table.papers else ""
        print(f"{table.name}{papers}: {table.title}\n  {table.source}")
        base = " ".join(f"{table.script} {table.flags}".split())
        print(f"  --table {table.key} --scale {table.scale}: {base}")
        for row, recipe in table.rows.items():
            print(f"    {row:<28} {recipe['flags']}")


def chosen(args: argparse.Namespace) -> Table:
    """Return the table of the command, at its scale and with its seeds."""
    if not args.table:
        raise UserError("name a table with --table; --list shows them")
    scale = args.scale
    if scale is None and args.table not in read_tables():
        import torch  # slow to import

        scale = "paper" if torch.cuda.is_available() else "small"
    table = find_table(args.table, scale)
    return dataclasses.replace(table, seeds=args.seeds or table.seeds)


def cells_of(table: Table, rows: str) -> list[Cell]:
    """Return the cells of the rows that match; raises UserError if none does."""
    cells = [cell for cell in table.cells() if fnmatch.fnmatch(cell.row, rows)]
    if not cells:
        raise UserError(f"--rows {rows!r} matches no row of {table.name}; --list shows them")
    return cells


def own_or_missing(cells: list[Cell], table: Table) -> list[Cell]:
    """Return the cells to run: a recorded run of another table is taken as it is."""
    return [cell for cell in cells if cell.table == table.name or state(cell) != "recorded"]


def make_data(table: Table) -> None:
    """Make the data that can be made; what is there stays.

    Raises UserError if they cannot be made; the command has said why. A row whose data are missing says so itself.
    """
    for command in table.setup:
        print(f"$ python scripts/{command}", flush=True)
        script, *argv = shlex.split(command)
        code = subprocess.call([sys.executable, f"scripts/{script}", *argv], cwd=cli.ROOT)
        if code == 130:
            raise KeyboardInterrupt
        if code:
            raise UserError(f"--table {table.key}: its data could not be made, see above; nothing was run")


def launcher(name: str, jobs: int, processes: int = 1) -> Launcher:
    """Return the launcher of this name; raises UserError where it runs one process alone."""
    if name == "local":
        return Local(jobs, processes)
    if processes > 1:
        raise UserError(f"--processes-per-run {processes}: goes with --launcher local, not with {name}")
    if name == "fork":
        from reproducing.launch_forks import Forks  # loads torch

        return Forks(jobs)
    from reproducing.launch_ray import OnRay  # optional

    return OnRay(jobs)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    args = parser().parse_args(argv)
    if args.list:
        list_tables()
        return 0
    table = chosen(args)
    cells = cells_of(table, args.rows)
    if args.dry_run:
        for cell in cells:
            print("python", shlex.join(cell.command()))
        return 0
    print(f"{table.name}: {table.title}", flush=True)
    # Before the data are made, which may take minutes: it may refuse.
    runs = launcher(args.launcher, args.jobs, args.processes_per_run)
    fold(cells)
    make_data(table)
    try:
        Sweep(own_or_missing(cells, table), runs).run()
    except RunFailed:
        with contextlib.suppress(UserError):  # what there is, is worth seeing
            print(f"\nWhat is recorded, earlier results among it:\n\n{markdown(table)}")
        raise
    print("\n" + markdown(table))
    return 0


if __name__ == "__main__":
    sys.exit(cli.run_command("scripts/reproduce.py", main))
