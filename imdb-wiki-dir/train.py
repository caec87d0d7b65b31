"""IMDB-WIKI-DIR: how old is this face (paper, section 4.1, Table 1).

    python imdb-wiki-dir/train.py                                                  Vanilla
    python imdb-wiki-dir/train.py --reweight sqrt_inv                              SQINV
    python imdb-wiki-dir/train.py --lds --fds                                      SQINV + LDS + FDS
    python imdb-wiki-dir/train.py --loss focal_l1                                  Focal-R
    python imdb-wiki-dir/train.py --retrain_fc --pretrained CKPT --reweight inverse --epoch 30 --lr 1e-4   RRT

Paper, Table 1, test MAE in years over all and few-shot ages: Vanilla 8.06 and 26.33, SQINV + LDS + FDS 7.78
and 22.19. That is ResNet-50 at 224 pixels for 90 epochs over 191,509 images, on four GPUs.
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

PROG = "imdb-wiki-dir/train.py"
TASK = load_task("imdb-wiki")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return command.main(TASK, PROG, __doc__, argv)


if __name__ == "__main__":
    sys.exit(run_command(PROG, main))
