"""UTKFace-DIR: how old is this face, on real photographs that anyone can get for research (not in the paper).

    python utkface-dir/train.py                                                    Vanilla
    python utkface-dir/train.py --reweight sqrt_inv                                SQINV
    python utkface-dir/train.py --lds --fds                                        SQINV + LDS + FDS
    python utkface-dir/train.py --loss focal_l1                                    Focal-R
    python utkface-dir/train.py --retrain_fc --pretrained CKPT --reweight inverse --epoch 30 --lr 1e-4   RRT

The defaults are AgeDB-DIR's: ResNet-50 at 224 pixels for 90 epochs, for a GPU. The split is not published but
ours, by AgeDB-DIR's rule (scripts/prepare.py utkface). The size that one CPU core carries, and its numbers,
are in README.md.
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

PROG = "utkface-dir/train.py"
TASK = load_task("utkface")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return command.main(TASK, PROG, __doc__, argv)


if __name__ == "__main__":
    sys.exit(run_command(PROG, main))
