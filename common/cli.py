"""The command line: from groups of settings to their values, and how a command ends."""

from __future__ import annotations

import argparse
import difflib
import errno
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from common import flags
from common.errors import RunFailed, UserError
from common.files import read_json
from common.settings import Settings, checked, collect

if TYPE_CHECKING:
    import torch

ROOT = Path(__file__).resolve().parent.parent
# In an args.json: the digest of the data, and from before version 0.2 what was no flag of its own.
NO_FLAGS = frozenset({"name", "published_start", "val_interval", "max_vals", "data"})


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows a default where there is one to show and the help does not say it in words."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        told = (
            action.default is None or action.default is False or action.default in ("", (), argparse.SUPPRESS)
        )
        told = told or "default" in (action.help or "")
        return action.help if told else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """argparse with errors of one line, no abbreviations, and a guess at a misspelt flag."""

    def __init__(self, **how: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=HelpFormatter, **how)

    def parse_args(  # type: ignore[override]  # argparse has overloads for a namespace of its own kind
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> argparse.Namespace:
        """Like argparse's, but an unknown flag is named with the one that was probably meant."""
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            known = [flag for action in self._actions for flag in action.option_strings]
            near = difflib.get_close_matches(unknown[0].split("=")[0], known, n=1)
            self.error(f"unknown argument {unknown[0]}" + (f" (did you mean {near[0]}?)" if near else ""))
        return parsed

    def error(self, message: str) -> NoReturn:
        """One line on standard error and exit code 2."""
        tell(f"{self.prog}: error: {message}; see {self.prog} --help")
        raise SystemExit(2)


def parse(
    prog: str, doc: str, kinds: Sequence[type], defaults: Mapping[str, Any], argv: Sequence[str] | None
) -> Settings:
    """Return the settings of a command line; `defaults` replace those of fields.

    `--config FILE` gives the flags that the command line does not. Raises UserError for a broken file.
    """
    parser = parser_of(prog, doc, kinds, defaults)
    unset = object()
    names = [name for kind in kinds for name in flags.field_flags(kind)]
    found = vars(parser.parse_args(argv, argparse.Namespace(**dict.fromkeys(names, unset))))
    given = {name: value for name, value in found.items() if value is not unset}
    start = {name: parser.get_default(name) for name in names}
    if given.get("config") is not None:
        start |= read_config(given["config"], kinds)
    return collect(kinds, start | given, given, defaults)


def parser_of(prog: str, doc: str, kinds: Sequence[type], defaults: Mapping[str, Any]) -> Parser:
    """Return the parser of these groups of settings."""
    parser = Parser(prog=prog, description=doc.splitlines()[0])
    for kind in kinds:
        flags.add_flags(parser, kind, defaults)
    return parser


def read_config(path: Path, kinds: Sequence[type]) -> dict[str, Any]:
    """Return the flags in an `args.json`; raises UserError if it is missing, cut, or has an unknown name."""
    saved = read_json(path)
    if not isinstance(saved, dict):
        reason = "is cut short or no args.json" if path.is_file() else "there is no such file"
        raise UserError(f"--config {path}: {reason}; name the args.json in a run's directory")
    known = {name for kind in kinds for name in flags.field_flags(kind)}
    return checked(kinds, {k: v for k, v in saved.items() if k in known or k not in NO_FLAGS}, path)


def pick_device(name: str) -> torch.device:
    """`auto` takes the first of cuda, mps and cpu that is there; raises UserError for what is not."""
    import torch  # seconds to import, and most scripts need none

    local = os.environ.get("LOCAL_RANK")  # of a process that torchrun started
    if local is not None and name in ("auto", "cuda") and torch.cuda.is_available():
        name = f"cuda:{local}"
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {name}: there is no such device here; try --device auto") from error
    return device


def tell(line: str) -> None:
    """Print one line on standard error; of the processes that torchrun started, the first one does."""
    if os.environ.get("RANK", "0") == "0":
        print(line, file=sys.stderr)


def run_command(prog: str, command: Callable[[], int]) -> int:
    """Run a command to its exit code: 2 for what the user can mend, 1 for a failed run, 130 for Ctrl-C."""
    try:
        code = command()
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader has left, as in `| head`: what Python still holds for it is dropped
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # as a shell has it for SIGPIPE
    except (UserError, RunFailed) as error:
        tell(f"{prog}: error: {error}")
        return 2 if isinstance(error, UserError) else 1
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = f" ({error.filename})" if error.filename else ""
        tell(f"{prog}: error: the disk is full{where}; free some, then give the same command again")
        return 1
    except KeyboardInterrupt:
        tell(f"{prog}: stopped; nothing is lost, the same command goes on")
        return 130


@contextmanager
def stop_between_steps() -> Iterator[list[int]]:
    """A list that is empty until Ctrl-C or SIGTERM comes; a second signal acts at once."""
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        restore()
        logging.getLogger("dir").info("Stopping after this step; once more to stop at once")

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        restore()
