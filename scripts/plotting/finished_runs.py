"""Finished runs, read for a picture: what each is called beside the others, and its error by label."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from plotting.label_counts import default_settings, folder_of
from reproducing.recipes import Cell, Table
from reproducing.results import has_predictions, read_predictions, read_result

from common.bins import Bins
from common.cli import ROOT
from common.errors import UserError
from common.files import read_json
from common.method import choose_methods, legend
from common.settings import Settings
from common.task import Task, load_task
from common.training.command import settings_of
from common.training.rundir import saved_settings

NOT_A_METHOD = {"seed", "pretrained", "data_dir", "store_name", "suffix"}  # never part of a name


@dataclass(frozen=True)
class FinishedRun:
    """What there is of a run; one that only its results are kept of has no folder here."""

    folder: Path
    settings: Settings
    result: dict[str, Any]  # metrics.json
    predictions: Path
    cell: Cell | None = None  # whose recorded predictions are read, where they are kept

    @property
    def kept(self) -> bool:
        """Whether its predictions are here."""
        return self.cell is not None or self.predictions.is_file()

    @property
    def task(self) -> Task:
        """The data set."""
        return load_task(self.result["dataset"])

    @property
    def method(self) -> str:
        """The name of its method, as the paper's rows have it: "Vanilla", "SQINV + LDS", "RRT" …"""
        return legend(choose_methods(self.task, self.settings))

    @property
    def checkpoint(self) -> Path:
        """The checkpoint that was tested."""
        return self.folder / "ckpt.best.pth.tar"

    @property
    def data(self) -> tuple[str | None, ...]:
        """What two runs must share to be in one picture; not the folder, which a copy changes."""
        flags = self.settings.values()
        standin = self.result.get("standin")
        names = (flags.get(name) for name in ("dataset", "csv", "target"))
        return self.result["dataset"], *names, standin

    def errors(self) -> pd.DataFrame:
        """Return `label`, `n` and `error`, a mean absolute error, for each test sample or bin."""
        frame = self._frame()
        try:
            if "prediction" in frame:  # whatever else a head predicts is in further columns
                error = (frame["prediction"] - frame["label"]).abs()
                columns = {"label": frame["label"], "n": 1, "error": error}
            else:  # dense labels: a row per bin
                frame = frame[frame["n"] > 0]
                columns = {"label": frame["label"], "n": frame["n"], "error": frame["mae"]}
            return pd.DataFrame(columns).astype(float)
        except (ValueError, KeyError, TypeError) as error:
            raise self._broken(error) from error

    def distribution(self) -> pd.DataFrame:
        """Return `error`, `std` and `pit` of each test sample; raises UserError where no distribution was predicted."""
        frame = self._frame()
        if absent := [name for name in ("std", "pit") if name not in frame]:
            raise UserError(
                f"{self.predictions}: has no column {', '.join(absent)}; the head must predict a distribution for "
                "each sample, and a run older than these columns must be tested again (--evaluate --predictions)"
            )
        try:
            errors = (frame["prediction"] - frame["label"]).abs()
            return pd.DataFrame({"error": errors, "std": frame["std"], "pit": frame["pit"]}).astype(float)
        except (ValueError, KeyError, TypeError) as error:
            raise self._broken(error) from error

    def _frame(self) -> pd.DataFrame:
        if self.cell is not None and (frame := read_predictions(self.cell)) is not None:
            return frame
        if not self.predictions.is_file():
            raise UserError(f"{self.predictions}: there is no such file; start the run over with --overwrite")
        try:
            return pd.read_csv(self.predictions)
        except (OSError, EOFError, ValueError) as error:
            raise self._broken(error) from error

    def _broken(self, error: Exception) -> UserError:
        return UserError(f"{self.predictions}: is broken ({error}); start the run over with --overwrite")


def read_run(folder: Path) -> FinishedRun:
    """Read the run in a folder; raises UserError if it is none, or not finished."""
    if not (folder / "args.json").is_file():
        what = "is no run (no args.json)" if folder.is_dir() else "there is no such folder"
        raise UserError(f"{folder}: {what}; a run is a folder that train.py wrote")
    _read_whole(folder / "args.json")
    result = _read_whole(folder / "metrics.json", "dataset", "shots")
    settings = saved_settings(folder / "args.json", default_settings(load_task(result["dataset"])))
    return FinishedRun(folder, settings, result, folder / "predictions.csv")


def _read_whole(file: Path, *keys: str) -> dict[str, Any]:
    """Return the content of a file of a finished run; raises UserError if it lacks one of the keys."""
    content = read_json(file)
    if isinstance(content, dict) and content.keys() >= set(keys):
        return content
    raise UserError(f"{file.parent}: is not finished (no whole {file.name}); give its train.py command again")


def kept_run(cell: Cell) -> FinishedRun | None:
    """Return the run of a cell from its recorded result, with or without its folder; None without one."""
    result = read_result(cell)
    if result is None:
        return None
    folder, task = ROOT / Path(result["checkpoint"]).parent, load_task(result["dataset"])
    if (folder / "args.json").is_file():
        settings = saved_settings(folder / "args.json", default_settings(task))
    else:
        settings = settings_of(task, cell.script, task.title, cell.command()[1:])
        settings = settings.with_(data_dir=ROOT / folder_of(settings))  # of a recipe: below the repository
    kept = cell if has_predictions(cell) else None
    return FinishedRun(folder, settings, result, folder / "predictions.csv", kept)


def check_same_data(runs: Sequence[FinishedRun]) -> None:
    """Raise UserError if some run is on other data than the first."""
    for run in runs:
        if run.data != runs[0].data:
            mine, theirs = (" ".join(map(str, filter(None, dict.fromkeys(r.data)))) for r in (run, runs[0]))
            raise UserError(
                f"{run.folder}: is on other data ({mine}) than {runs[0].folder} ({theirs}); "
                "a picture has runs of one data set"
            )


def by_name(runs: Sequence[FinishedRun], *, seeds_apart: bool = False) -> dict[str, list[FinishedRun]]:
    """Return the runs by method and by differing flags; seeds go together or apart."""
    ignored = NOT_A_METHOD - {"seed"} if seeds_apart else NOT_A_METHOD
    each = [(run, run.method, run.settings.identity()) for run in runs]
    named: dict[str, list[FinishedRun]] = {}
    for run, method, flags in sorted(each, key=lambda one: one[1] != "Vanilla"):  # the reference comes first
        alike = [other for _, name, other in each if name == method]
        differing = [
            f"{flag} {value}" for flag, value in flags.items()
            if flag not in ignored and any(other[flag] != value for other in alike)
        ]  # fmt: skip
        named.setdefault(", ".join([method, *differing]), []).append(run)
    return named


def of_table(table: Table, pattern: str = "*") -> dict[str, list[FinishedRun]]:
    """Return the runs of each row that matches a shell pattern; none for a row that has not been run.

    Raises UserError if no row fits, or none has been run.
    """
    named: dict[str, list[FinishedRun]] = {row: [] for row in table.rows if fnmatch.fnmatch(row, pattern)}
    if not named:
        raise UserError(f"--rows {pattern!r}: fits no row of {table.name} ({', '.join(table.rows)})")
    for cell in table.cells():
        if cell.row in named and (run := kept_run(cell)):
            named[cell.row].append(run)
    if not any(named.values()):
        raise UserError(
            f"--table {table.name}: has no run here; python scripts/reproduce.py --table {table.name}"
        )
    return named


def by_bin(frames: Iterable[pd.DataFrame], bins: Bins) -> pd.DataFrame:
    """Return `n` and the mean `error` over all frames, by bin with a sample."""
    frame = pd.concat(frames)
    total = frame["error"] * frame["n"]
    sums = pd.DataFrame({"n": frame["n"], "total": total}).groupby(bins.index(frame["label"])).sum()
    return pd.DataFrame({"n": sums["n"], "error": sums["total"] / sums["n"]})


def correlation(errors: pd.DataFrame, density: np.ndarray) -> float:
    """Return Pearson's r of the error of each bin with its density (paper, Figure 2); NaN without one."""
    mine = density[errors.index]
    if len(errors) < 3 or np.ptp(mine) == 0 or errors["error"].nunique() == 1:
        return float("nan")
    return float(np.corrcoef(errors["error"], mine)[0, 1])
