"""STS-B-DIR: how alike are two sentences, 0 to 5 (paper, section 4.2, Table 3).

    python sts-b-dir/train.py                                      Vanilla
    python sts-b-dir/train.py --reweight inverse                   INV
    python sts-b-dir/train.py --lds --fds                          LDS + FDS (inverse weights)
    python sts-b-dir/train.py --loss focal_mse                     Focal-R
    python sts-b-dir/train.py --retrain_fc --pretrained CKPT --reweight inverse              RRT

Paper, Table 3, test MSE and Pearson correlation (x 100) over all pairs: Vanilla 0.974 and 74.2, LDS + FDS
0.907 and 76.0. That is at the defaults here: GloVe 840B, 2 layers of 1,500 units, made for a GPU. A size for
a CPU, and its numbers, are in README.md.
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

PROG = "sts-b-dir/train.py"
TASK = load_task("sts-b")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return command.main(TASK, PROG, __doc__, argv)


if __name__ == "__main__":
    sys.exit(run_command(PROG, main))
