"""Evaluate the checkpoints that the authors released, and print our numbers beside theirs.

    python scripts/evaluate_released.py                       every one that is in data/checkpoints
    python scripts/evaluate_released.py --rows 'agedb*'       some of them
    python scripts/evaluate_released.py -- --device cuda:1    what follows -- goes to each train.py

Each is one `train.py --evaluate` command, which is printed. A test MAE or MSE that differs by more than 0.02,
or an RMSE by more than 0.01, fails. The authors' numbers are those of their README files
(data/released_checkpoints.csv); scripts/download.py checkpoints gets the files.
"""

from __future__ import annotations

import fnmatch
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # prefer the `common` beside this file
import common.environment  # noqa: F401 - ends in one line under a wrong interpreter

# isort: split

from common import cli
from common.errors import RunFailed, UserError
from common.files import read_json
from common.report import HEADINGS

PUBLISHED = cli.ROOT / "data" / "released_checkpoints.csv"
LIMITS = {"MAE": 0.02, "MSE": 0.02, "RMSE": 0.01}
SHOTS = {"all": "all", "many": "many", "med": "medium", "few": "few"}  # theirs -> ours


@dataclass(frozen=True)
class Released:
    """One checkpoint: its name, where it is, and the authors' test numbers by shot."""

    name: str  # of the file, as agedb-lds-fds
    dataset: str  # as the folder of its train.py is called
    path: Path
    metric: str
    numbers: dict[str, float]

    def command(self, more: Sequence[str] = ()) -> list[str]:
        """Return the `train.py` command that evaluates it."""
        return [f"{self.dataset}-dir/train.py", "--evaluate", "--resume", str(self.path), *more]


def released(folder: Path, table: Path = PUBLISHED) -> list[Released]:
    """Return every released checkpoint, in the order of the table."""
    import pandas as pd  # slow to import, as are the data sets

    from common.task import load_task, task_names

    names = {load_task(name).title: name for name in task_names()}
    found = []
    for key, rows in pd.read_csv(table).groupby(["dataset", "method", "metric"], sort=False):
        title, method, metric = map(str, key)
        # "SQINV + LDS + FDS" was trained with --lds --fds.
        parts = [part.lower() for part in method.split(" + ") if part in ("LDS", "FDS")]
        name = "-".join([names[title], *parts])
        numbers = {SHOTS[shot]: value for shot, value in zip(rows["shot"], rows["value"], strict=True)}
        found.append(Released(name, names[title], folder / f"{name}.pth.tar", metric, numbers))
    return found


def evaluate(one: Released, more: Sequence[str]) -> dict[str, float | None]:
    """Return our test numbers by shot; raises RunFailed, with its output, if the command fails."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "metrics.json"
        command = [sys.executable, *one.command(more), "--metrics_json", str(result)]
        done = subprocess.run(command, cwd=cli.ROOT, stdout=subprocess.PIPE, text=True, check=False)
        found = read_json(result)
    if done.returncode or found is None:
        raise RunFailed(f"{one.name}: the command above ended with exit code {done.returncode}")
    if "standin" in found:
        raise RunFailed(
            f"{one.name}: the authors tested on the real data, this is a stand-in ({found['standin']})"
        )
    return {shot: found["shots"][shot][one.metric.lower()] for shot in one.numbers}


def compared(one: Released, ours: dict[str, float | None]) -> bool:
    """Print our numbers beside theirs; False if one differs by more than its limit."""
    limit, good = LIMITS[one.metric], True
    print(f"  {one.metric:<10}{'ours':>10}{'theirs':>10}{'difference':>12}")
    for shot, theirs in one.numbers.items():
        value = ours[shot]
        mine = float("nan") if value is None else value
        close = abs(mine - theirs) <= limit
        verdict = "" if close else f"   more than {limit:g}"
        print(f"  {HEADINGS[shot]:<10}{mine:>10.3f}{theirs:>10.3f}{mine - theirs:>+12.3f}{verdict}")
        good = good and close
    return good


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    words, more = (
        (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
    )
    parser = cli.Parser(prog="scripts/evaluate_released.py", description=__doc__.splitlines()[0])
    folder = cli.ROOT / "data" / "checkpoints"
    parser.add_argument("--folder", type=Path, default=folder, help="where the checkpoints are")
    parser.add_argument("--rows", default="*", help="checkpoints, as a shell pattern: agedb-lds, nyud2*")
    args = parser.parse_args(words)
    every = released(args.folder.resolve())
    chosen = [one for one in every if fnmatch.fnmatch(one.name, args.rows)]
    if not chosen:
        raise UserError(f"--rows {args.rows!r} matches none of {', '.join(one.name for one in every)}")
    here = [one for one in chosen if one.path.is_file()]
    if not here:
        raise UserError(
            f"{args.folder}: holds none of them; python scripts/download.py checkpoints gets them"
        )
    for one in chosen:
        if one not in here:
            print(f"{one.name}: not here ({one.path.name})")
    failed = []
    for one in here:
        print(f"{one.name}: python {shlex.join(one.command(more))}", flush=True)
        try:
            good = compared(one, evaluate(one, more))
        except RunFailed as error:
            print(f"  {error}", flush=True)
            good = False
        failed += [] if good else [one.name]
    if failed:
        raise RunFailed(f"{len(failed)} of {len(here)} do not agree: {', '.join(failed)}")
    print(f"{len(here)} of {len(here)} agree with the authors' numbers ({len(every)} were released)")
    return 0


if __name__ == "__main__":
    sys.exit(cli.run_command("scripts/evaluate_released.py", main))
