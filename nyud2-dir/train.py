"""NYUD2-DIR: how far away is every pixel (paper, section 4.3, Table 4).

    python nyud2-dir/train.py                                    Vanilla
    python nyud2-dir/train.py --lds                              LDS (inverse weights)
    python nyud2-dir/train.py --fds                              FDS
    python nyud2-dir/train.py --lds --fds                        LDS + FDS
    python nyud2-dir/train.py --evaluate --eval_model CKPT       what the published test.py does

Paper, Table 4, test RMSE in metres over all and few-shot depths: Vanilla 1.477 and 2.123, LDS + FDS 1.338
and 1.851. That is ResNet-50 with ImageNet weights over 50,688 images, made for GPUs; a stand-in that two CPU
cores carry, and its numbers, are in README.md.
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

PROG = "nyud2-dir/train.py"
TASK = load_task("nyud2")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return command.main(TASK, PROG, __doc__, argv)


if __name__ == "__main__":
    sys.exit(run_command(PROG, main))
