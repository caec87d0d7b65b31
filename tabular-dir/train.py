"""Tables: a column of numbers from the other columns.

    python tabular-dir/train.py --csv FILE --target COLUMN --split balanced                       Vanilla
    python tabular-dir/train.py --csv FILE --target COLUMN --split balanced --lds --fds           SQINV + LDS + FDS
    python tabular-dir/train.py --csv FILE --target COLUMN --split balanced --balanced_mse bmc    Balanced MSE
    python tabular-dir/train.py --csv FILE --target COLUMN --split balanced --boosting            gradient boosting

The paper has no tables. Nine public ones are in data/recipes.toml (`--table tabular-abalone` …); a run of
2,000 steps takes a few seconds on one core. What is read, and how, is in README.md.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # prefer the `common` beside this file
import common.environment  # noqa: F401 - ends in one line under a wrong interpreter

# isort: split
from common.cli import run_command
from common.task import load_task
from common.training import command

PROG = "tabular-dir/train.py"
TASK = load_task("tabular")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    settings = command.settings_of(TASK, PROG, __doc__, argv)
    if not settings.values()["boosting"]:
        return command.run(TASK, settings)
    from boosting import train_and_test  # scikit-learn takes a second to import

    return command.run(TASK, settings, train_and_test)


if __name__ == "__main__":
    sys.exit(run_command(PROG, main))
