"""One configuration, one directory: `<store_root>/<store_name>/` holds everything that a run writes."""

from __future__ import annotations

import fcntl
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.cli import NO_FLAGS
from common.errors import UserError
from common.files import read_json, write_atomically, write_json
from common.settings import Settings
from common.task import Evaluator, Length
from common.training import checkpoint

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class RunDir:
    """The directory of a run, locked for one process; other programs read its files by their names.

    Raises UserError if the directory holds a run of another configuration, is in use, or is no run at all.
    """

    def __init__(
        self,
        path: Path,
        settings: Settings,
        *,
        log_file: str = "training.log",
        overwrite: bool = False,
        data: str | None = None,
        length: Callable[[Settings], Length] = lambda settings: Length(0, 0),
    ) -> None:
        self._name_files(path, log_file)
        self._aside = path / ".replaced"  # a run that --overwrite takes the place of
        self._writer: SummaryWriter | None = None
        self._purge_from: int | None = None
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock()
        except OSError as error:
            raise UserError(
                f"{path}: cannot be made ({error.strerror}); choose another --store_root"
            ) from error
        for leftover in path.glob(".*.tmp"):  # of a process that was killed as it wrote
            leftover.unlink()
        try:
            if overwrite:
                self._set_aside()
            self._claim(settings, data, length)
        except UserError:
            self.close()
            raise

    def _name_files(self, path: Path, log_file: str) -> None:
        self.path = path
        self.last, self.best = path / "ckpt.pth.tar", path / "ckpt.best.pth.tar"
        self.metrics, self.predictions = path / "metrics.json", path / "predictions.csv"
        self.history = path / "metrics.jsonl"
        self.log: Path | None = path / log_file

    @property
    def result(self) -> dict[str, Any] | None:
        """The content of `metrics.json`, which is written last; None while the run is unfinished."""
        return read_json(self.metrics)

    def keep(self, content: dict[str, Any], *, best: bool) -> None:
        """Write the checkpoint, as the best one too if it is."""
        checkpoint.save(self.last, content, also=self.best if best else None)

    def keep_predictions(self, tested: Evaluator) -> None:
        """Write `predictions.csv`."""
        tested.rows().to_csv(self.predictions, index=False)

    def finish(self, result: dict[str, Any]) -> None:
        """Write `metrics.json`, which marks the run as finished."""
        write_json(self.metrics, result)

    def record(self, record: dict[str, Any]) -> None:
        """One more line of `metrics.jsonl`, and the same as TensorBoard scalars."""
        with self.history.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        self.write_scalars("val", record["val"], record["step"], {"train/loss": record["train_loss"]})

    def rewind(self, step: int) -> None:
        """Drop the lines of `metrics.jsonl` after `step`: a resumed run writes them again."""
        self._purge_from = step + 1
        if not self.history.exists():
            return
        lines = self.history.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        whole = [line for line in lines if line.endswith("\n")]
        kept = [line for number, line in enumerate(whole, 1) if self._step_of(line, number) <= step]
        write_atomically(self.history, "".join(kept))

    def _step_of(self, line: str, number: int) -> int:
        try:
            return int(json.loads(line)["step"])
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{self.history}, line {number}: is damaged; remove this line to go on, or start over with --overwrite"
            ) from error

    def write_scalars(self, what: str, table: dict[str, dict], step: int, more: dict | None = None) -> None:
        """TensorBoard scalars of every metric and shot, as `val/mse/few`."""
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter  # seconds to import; only training needs it

            self._writer = SummaryWriter(str(self.path), purge_step=self._purge_from)
        rows = {f"{what}/{metric}/{group}": v for group, row in table.items() for metric, v in row.items()}
        for name, value in {**(more or {}), **rows}.items():
            if value is not None:
                self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def _lock(self) -> None:
        self._lock_file = (self.path / ".lock").open("w")
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{self.path}: another process is running here; wait for it or stop it") from None

    def close(self) -> None:
        """Close the TensorBoard file and let go of the lock."""
        if self._writer is not None:
            self._writer.close()
        self._lock_file.close()

    def begin(self) -> None:
        """The run can start: let go of the run that `--overwrite` replaces."""
        shutil.rmtree(self._aside, ignore_errors=True)

    def withdraw(self) -> None:
        """The run cannot start: leave everything as it was found."""
        if not self._new:
            return
        for item in self._content():
            shutil.rmtree(item) if item.is_dir() and not item.is_symlink() else item.unlink()
        if self._aside.exists():
            for item in self._aside.iterdir():
                item.rename(self.path / item.name)
            self._aside.rmdir()
        else:
            (self.path / ".lock").unlink()
            self.path.rmdir()

    def _set_aside(self) -> None:
        for item in self._content():
            self._aside.mkdir(exist_ok=True)
            item.replace(self._aside / item.name)

    def _content(self) -> list[Path]:
        """What is there beside the lock; refuses a directory that holds something else than a run."""
        content = [item for item in self.path.iterdir() if item.name not in (".lock", self._aside.name)]
        if content and not (self.path / "args.json").exists():
            raise UserError(f"{self.path}: is not empty and holds no run (no args.json): choose another name")
        return content

    def _claim(self, settings: Settings, data: str | None, length: Callable[[Settings], Length]) -> None:
        """Take a new directory, or make sure that the one there is of the same run and of the same data."""
        path = self.path / "args.json"
        mine = settings.identity() | ({"data": data} if data else {})
        self._new = not self._content()
        if not self._new:
            saved = read_saved(path)
            theirs = saved_settings(path, settings)
            if data and saved.get("data") not in (None, data):
                raise UserError(
                    f"{self.path}: the data have changed since this run began (labels, names or texts in "
                    f"{settings.identity().get('data_dir')}); bring them back, choose another --store_name, or "
                    "--overwrite the run"
                )
            known = "data" in saved
            before = length(theirs)
            self._refuse_another(theirs, settings, before, moved=known)
            if length(settings).checks <= before.checks:
                return
            for file in (self.metrics, self.predictions):  # the longer run is not finished
                file.unlink(missing_ok=True)
        write_json(path, mine)

    def _refuse_another(self, theirs: Settings, mine: Settings, before: Length, *, moved: bool) -> None:
        """Raise UserError if the run here is another one; where its data lie is not what a run is."""
        there, here = theirs.identity(), mine.identity()
        if moved:
            here["data_dir"] = there["data_dir"]
        done = math.inf if before.check_every else before.checks
        differ = sorted(n for n in here if here[n] != there[n] and not mine.grown(n, theirs, done))
        if differ:
            named = ", ".join(f"{mine.option(n)} {there[n]!r} there, {here[n]!r} here" for n in differ[:4])
            raise UserError(
                f"{self.path}: holds a run of another configuration ({named}); to go on with it give its own "
                f"flags (--config {self.path / 'args.json'}), else choose another --store_name or --store_root, "
                "or --overwrite it"
            )


class Bystander(RunDir):
    """The directory of a run for its other processes: they read, and leave all writing to the first."""

    def __init__(self, path: Path, result: dict[str, Any] | None) -> None:
        self._name_files(path, "")
        self._result, self.log = result, None

    @property
    def result(self) -> dict[str, Any] | None:
        """The content of `metrics.json` as the first process found it."""
        return self._result

    def _leave(self, *_: object, **__: object) -> None:
        """Do nothing: the first process does it."""

    keep = keep_predictions = finish = record = rewind = write_scalars = begin = withdraw = close = _leave


def read_saved(path: Path) -> dict[str, Any]:
    """Return the content of an `args.json`; raises UserError if it is damaged."""
    saved = read_json(path)
    if not isinstance(saved, dict):
        raise UserError(f"{path}: is damaged; start the run over with --overwrite, or move the folder away")
    return saved


def saved_settings(path: Path, like: Settings) -> Settings:
    """Return the settings that an `args.json` holds, with the groups of `like`; what it lacks has its default.

    Raises UserError if the file is damaged or holds an unknown name.
    """
    known = like.values()
    saved = {k: v for k, v in read_saved(path).items() if k in known or k not in NO_FLAGS}
    return like.saved(saved, path)
