"""NYUD2-DIR: the test table of a checkpoint, under the published name and flags.

python nyud2-dir/test.py --eval_model CKPT
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

PROG = "nyud2-dir/test.py"
TASK = load_task("nyud2")


def main(argv: Sequence[str] | None = None) -> int:
    """Run `train.py --evaluate`; return its exit code."""
    return command.main(TASK, PROG, __doc__, argv, evaluate=True)


if __name__ == "__main__":
    sys.exit(run_command(PROG, main))
