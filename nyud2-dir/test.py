"""NYUD2-DIR: the test table of a checkpoint, under the published name and flags.

python nyud2-dir/test.py --eval_model CKPT
"""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # prefer the `common` beside this file
import common.environment  # noqa: F401 - ends in one line under a wrong interpreter

# isort: split
import depth_task

from common.cli import run_command

PROG = "nyud2-dir/test.py"


def main(argv: Sequence[str] | None = None) -> int:
    """`train.py --evaluate`; returns its exit code."""
    return depth_task.main(PROG, __doc__, argv, evaluate=True)


if __name__ == "__main__":
    sys.exit(run_command(PROG, main))
