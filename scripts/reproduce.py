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
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path

from common import cli
from common.errors import RunFailed, UserError
from common.recipes import Cell, Table, find_table, read_tables
from common.rundir import read_json


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
    """An argparse type: whole numbers between commas, each once."""
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
        print(f"{table.name}: {table.title}\n  {table.script} {' '.join(table.flags.split())}")
        for row, recipe in table.rows.items():
            print(f"    {row:<28} {recipe['flags']}")


def check_first_stages(table: Table, cells: list[Cell], rows: str) -> None:
    """Raise UserError for a row that starts from a checkpoint that is neither here nor about to be made."""
    chosen = {(cell.row, cell.seed) for cell in cells}
    for cell in cells:
        if cell.needs is None or (cell.needs, cell.seed) in chosen:
            continue
        first = next(c for c in table.cells((cell.seed,)) if c.row == cell.needs)
        checkpoint = (read_json(first.result) or {}).get("checkpoint")
        if checkpoint is None or not (cli.ROOT / checkpoint).exists():
            raise UserError(
                f"--rows {rows!r}: {cell.row} starts from the checkpoint of {cell.needs}, which is not here "
                f"for seed {cell.seed}; choose that row too, or run it first"
            )


def run_cell(cell: Cell, threads: int, children: set[subprocess.Popen], stopping: threading.Event) -> int:
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
        if stopping.is_set():
            child.terminate()
        code = child.wait()
        children.discard(child)
    return code


@contextmanager
def signals_as_ctrl_c() -> Iterator[None]:
    """SIGTERM and the end of the terminal become KeyboardInterrupt: no run goes on without the sweep."""
    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) == signal.SIG_DFL]
    for number in numbers:  # not under nohup, which ignores SIGHUP
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


class Sweep:
    """Runs cells on a few threads, a first stage before the rows that need it; counts what became of them."""

    def __init__(self, cells: list[Cell], jobs: int) -> None:
        self.cells, self.jobs = cells, jobs
        self.threads = max(1, (os.cpu_count() or 1) // jobs)
        self.children: set[subprocess.Popen] = set()
        self.stopping = threading.Event()
        self.began = time.monotonic()
        self.ended: dict[Cell, int] = {}

    def run(self) -> None:
        """Run all cells; raises RunFailed if one failed, after the others have ended."""
        waiting = list(self.cells)
        running: dict[Future, Cell] = {}
        with signals_as_ctrl_c(), ThreadPoolExecutor(self.jobs) as pool:
            try:
                while waiting or running:
                    self._drop_orphans(waiting)
                    while len(running) < self.jobs and (cell := self._ready(waiting, running)):
                        waiting.remove(cell)
                        print(f"start  {cell.row}, seed {cell.seed}", flush=True)
                        future = pool.submit(run_cell, cell, self.threads, self.children, self.stopping)
                        running[future] = cell
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        self._finish(running.pop(future), future.result())
            except BaseException:
                self.stopping.set()  # for a run that is only now being started
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

    def _drop_orphans(self, waiting: list[Cell]) -> None:
        """Give up the rows whose first stage failed."""
        failed = {(cell.row, cell.seed) for cell, code in self.ended.items() if code}
        for cell in [c for c in waiting if (c.needs, c.seed) in failed]:
            waiting.remove(cell)
            self.ended[cell] = 1
            print(
                f"NOT RUN {cell.row}, seed {cell.seed}: {cell.needs} failed, which it starts from", flush=True
            )

    def _finish(self, cell: Cell, code: int) -> None:
        self.ended[cell] = code
        minutes = (time.monotonic() - self.began) / 60
        left = minutes / len(self.ended) * (len(self.cells) - len(self.ended))
        log = Path(cell.store_root) / f"seed{cell.seed}.log"
        state = "done  " if code == 0 else "FAILED"
        print(f"{state} {cell.row}, seed {cell.seed}; {len(self.ended)}/{len(self.cells)} after "
              f"{minutes:.1f} min, about {left:.0f} min left", flush=True)  # fmt: skip
        if code:
            last = (cli.ROOT / log).read_text(encoding="utf-8", errors="replace").strip().rsplit("\n", 1)[-1]
            print(f"       exit code {code}, log {log}: {last}", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    args = parser().parse_args(argv)
    if args.list:
        list_tables()
        return 0
    if not args.table:
        raise UserError("name a table with --table; --list shows them")
    table = find_table(args.table)
    cells = [cell for cell in table.cells(args.seeds) if fnmatch.fnmatch(cell.row, args.rows)]
    if not cells:
        raise UserError(f"--rows {args.rows!r} matches no row of {args.table}; --list shows them")
    if args.dry_run:
        for cell in cells:
            print("python", shlex.join(cell.command()))
        return 0
    check_first_stages(table, cells, args.rows)
    Sweep(cells, args.jobs).run()
    return 0


if __name__ == "__main__":
    sys.exit(cli.run_command("scripts/reproduce.py", main))
