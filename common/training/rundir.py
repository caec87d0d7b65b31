"""One configuration, one directory: `<store_root>/<store_name>/` holds everything that a run writes."""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import shutil
from pathlib import Path
from typing import Any

from common.errors import UserError

# What a run may be given anew without becoming another run.
NOT_CONFIGURATION = frozenset(
    {
        "device",
        "cuda",
        "gpu",
        "workers",
        "resume_from",
        "must_resume",
        "evaluate",
        "eval_model",
        "overwrite",
        "metrics_json",
    }
    | {"store_root", "log_file", "print_freq", "cache"}
)


def write_json(path: Path, content: Any) -> None:
    """Write JSON under a temporary name, then rename: a reader never sees half a file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)


def read_json(path: Path) -> Any | None:
    """The content of a JSON file, or None if it is not there or cut short."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def configuration(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments that make a run what it is, as JSON keeps them."""
    kept = {
        name: str(value.resolve()) if isinstance(value, Path) else value
        for name, value in vars(args).items()
        if name not in NOT_CONFIGURATION
    }
    return json.loads(json.dumps(kept, default=str, sort_keys=True))


class RunDir:
    """The directory of a run, locked for one process; the file names are the contract of DESIGN.

    Raises UserError if the directory holds a run of another configuration, is in use, or is no run at all.
    """

    def __init__(self, path: Path, args: argparse.Namespace) -> None:
        self.path = path
        self.last, self.best = path / "ckpt.pth.tar", path / "ckpt.best.pth.tar"
        self.metrics, self.predictions = path / "metrics.json", path / "predictions.csv"
        self.history = path / "metrics.jsonl"
        self.log = path / getattr(args, "log_file", "training.log")
        self._aside = path / ".replaced"  # a run that --overwrite takes the place of
        self._writer, self._purge_from = None, None
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
            if args.overwrite:
                self._set_aside()
            self._claim(args)
        except UserError:
            self.close()
            raise

    @property
    def result(self) -> dict[str, Any] | None:
        """The content of `metrics.json`, which is written last; None while the run is unfinished."""
        return read_json(self.metrics)

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
        lines = self.history.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
        temporary = self.history.with_name(f".{self.history.name}.{os.getpid()}.tmp")
        temporary.write_text("".join(kept), encoding="utf-8")
        temporary.replace(self.history)

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

    def _claim(self, args: argparse.Namespace) -> None:
        mine = configuration(args)
        self._new = not self._content()
        if self._new:
            write_json(self.path / "args.json", mine)
            return
        theirs = read_json(self.path / "args.json") or {}
        differ = [name for name in mine | theirs if mine.get(name) != theirs.get(name)]
        if differ:
            told = ", ".join(
                f"--{n} {theirs.get(n)!r} there, {mine.get(n)!r} here" for n in sorted(differ)[:4]
            )
            raise UserError(
                f"{self.path}: holds a run of another configuration ({told}); "
                "choose another --store_name or --store_root, or --overwrite it"
            )
