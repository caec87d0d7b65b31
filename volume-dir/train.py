"""Volumes, such as images of heads: a number from each (not in the paper).

    python volume-dir/train.py --csv FILE                                   Vanilla
    python volume-dir/train.py --csv FILE --reweight sqrt_inv               SQINV
    python volume-dir/train.py --csv FILE --lds --fds                       SQINV + LDS + FDS
    python volume-dir/train.py --csv FILE --ranksim                         RankSim

The network is the SFCN of Peng et al. (2021) at 160 x 192 x 160 voxels, for a GPU; a CPU takes a smaller one
(--shape 24 24 24 --channels 8 16 16). What is read, and how, is in README.md.
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

PROG = "volume-dir/train.py"
TASK = load_task("volume")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return command.main(TASK, PROG, __doc__, argv)


if __name__ == "__main__":
    sys.exit(run_command(PROG, main))
