"""Run the rows of a table, each an ordinary `train.py` command that can be run by hand.

    python scripts/reproduce.py --list
    python scripts/reproduce.py --table sts-b-small --jobs 2
    python scripts/reproduce.py --table sts-b-small --rows 'INV*' --seeds 0 --dry-run

Stopped or killed, the same command goes on: a finished cell is recognised by its run directory, and an
unfinished one resumes from its checkpoint. The results go to results/; scripts/tables.py prints them.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

from common import cli
from common.errors import RunFailed, UserError
from common.recipes import Cell, find_table, read_tables


def parser() -> cli.Parser:
    """The flags of this script."""
    parser = cli.Parser(prog="scripts/reproduce.py", description=__doc__.splitlines()[0])
    parser.add_argument("--table", help="name of a table of data/recipes.toml")
    parser.add_argument("--list", action="store_true", help="list the tables and their rows")
    parser.add_argument("--rows", default="*", help="rows to run, as a shell pattern")
    parser.add_argument("--seeds", type=seeds, default=None, help="as 0,1,2; without it, the table's")
    parser.add_argument(
        "--jobs", type=cli.number(int, 1), default=1, help="runs at a time, sharing the cores"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the commands only")
    return parser


def seeds(text: str) -> tuple[int, ...]:
    """An argparse type: whole numbers between commas."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of seeds such as 0,1,2") from None


def list_tables() -> None:
    """Print each table with its rows and flags."""
    for table in read_tables().values():
        print(f"{table.name}: {table.title}\n  {table.script} {' '.join(table.flags.split())}")
        for row, recipe in table.rows.items():
            print(f"    {row:<28} {recipe['flags']}")


def run_cell(cell: Cell, threads: int, children: set[subprocess.Popen]) -> int:
    """Run one cell to its end, its output in a log beside its runs; returns the exit code."""
    folder = cli.ROOT / cell.store_root
    folder.mkdir(parents=True, exist_ok=True)
    cell.result.parent.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    with (folder / f"seed{cell.seed}.log").open("a") as output:
        child = subprocess.Popen(
            [sys.executable, *cell.command()], cwd=cli.ROOT, env=environment, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
        children.add(child)
        code = child.wait()
        children.discard(child)
    return code


class Sweep:
    """Runs cells on a few threads, a first stage before the rows that need it; counts what became of them."""

    def __init__(self, cells: list[Cell], jobs: int) -> None:
        self.cells, self.jobs = cells, jobs
        self.threads = max(1, (os.cpu_count() or 1) // jobs)
        self.children: set[subprocess.Popen] = set()
        self.began = time.monotonic()
        self.ended: dict[Cell, int] = {}

    def run(self) -> None:
        """Run all cells; raises RunFailed if one failed, after the others have ended."""
        waiting = list(self.cells)
        running: dict[Future, Cell] = {}
        with ThreadPoolExecutor(self.jobs) as pool:
            try:
                while waiting or running:
                    while len(running) < self.jobs and (cell := self._ready(waiting, running)):
                        waiting.remove(cell)
                        print(f"start  {cell.row}, seed {cell.seed}", flush=True)
                        running[pool.submit(run_cell, cell, self.threads, self.children)] = cell
                    done, _ = wait(running, return_when=FIRST_COMPLETED)
                    for future in done:
                        self._finish(running.pop(future), future.result())
            except BaseException:
                for child in list(self.children):
                    child.terminate()  # SIGTERM: train.py writes a checkpoint before it ends
                raise
        failed = [cell for cell, code in self.ended.items() if code]
        if failed:
            names = ", ".join(f"{cell.row} seed {cell.seed}" for cell in failed)
            raise RunFailed(f"{len(failed)} of {len(self.cells)} runs failed: {names}")

    def _ready(self, waiting: list[Cell], running: dict[Future, Cell]) -> Cell | None:
        unfinished = {(c.row, c.seed) for c in [*waiting, *running.values()]}
        return next((c for c in waiting if (c.needs, c.seed) not in unfinished), None)

    def _finish(self, cell: Cell, code: int) -> None:
        self.ended[cell] = code
        minutes = (time.monotonic() - self.began) / 60
        left = minutes / len(self.ended) * (len(self.cells) - len(self.ended))
        log = Path(cell.store_root) / f"seed{cell.seed}.log"
        state = "done  " if code == 0 else "FAILED"
        print(f"{state} {cell.row}, seed {cell.seed}; {len(self.ended)}/{len(self.cells)} after "
              f"{minutes:.1f} min, about {left:.0f} min left", flush=True)  # fmt: skip
        if code:
            last = (cli.ROOT / log).read_text(encoding="utf-8").strip().rsplit("\n", 1)[-1]
            print(f"       exit code {code}, log {log}: {last}", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    args = parser().parse_args(argv)
    if args.list:
        list_tables()
        return 0
    if not args.table:
        raise UserError("name a table with --table; --list shows them")
    cells = [
        cell for cell in find_table(args.table).cells(args.seeds) if fnmatch.fnmatch(cell.row, args.rows)
    ]
    if not cells:
        raise UserError(f"--rows {args.rows!r} matches no row of {args.table}; --list shows them")
    if args.dry_run:
        for cell in cells:
            print("python", shlex.join(cell.command()))
        return 0
    Sweep(cells, args.jobs).run()
    return 0


if __name__ == "__main__":
    sys.exit(cli.run_command("scripts/reproduce.py", main))
