"""AgeDB-DIR: how old is this face (paper, section 4.1, Table 2).

    python agedb-dir/train.py                                                      Vanilla
    python agedb-dir/train.py --reweight sqrt_inv                                  SQINV
    python agedb-dir/train.py --lds --fds                                          SQINV + LDS + FDS
    python agedb-dir/train.py --loss focal_l1                                      Focal-R
    python agedb-dir/train.py --retrain_fc --pretrained CKPT --reweight inverse --epoch 30 --lr 1e-4    RRT

Paper, Table 2, test MAE in years over all and few-shot ages: Vanilla 7.77 and 13.67, SQINV + LDS + FDS 7.55
and 10.79. That is ResNet-50 at 224 pixels for 90 epochs over 12,208 images, on four GPUs; a stand-in that two
CPU cores carry, and its numbers, are in README.md.
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

PROG = "agedb-dir/train.py"
TASK = load_task("agedb")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return command.main(TASK, PROG, __doc__, argv)


if __name__ == "__main__":
    sys.exit(run_command(PROG, main))
