"""How fast everything is, as ratios of two works measured in turn on this machine.

    python benchmarks/bench.py             # all: 16 minutes on two cores with bf16
    python benchmarks/bench.py --quick     # about two minutes
    python benchmarks/bench.py --only d f
    python benchmarks/bench.py --out results/bench.json && python scripts/tables.py    # into README.md

The parts: an AgeDB epoch (a), STS-B's steps (b), a NYUD2 epoch and its evaluation (c), FDS beside loops over labels
(d), cost as work grows (e), start-up and memory (f), a GPU if there is one (g), two processes beside one (h).
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # prefer the `common` beside this folder
import common.environment  # noqa: F401 - ends in one line under a wrong interpreter

# isort: split
import torch
from costs import evaluate_depth, fds_beside_loops, growth, startup
from epochs import age_epoch, depth_epoch, gpu_rate, sts_steps
from measure import PROG, ROOT, Row, Sizes, processor
from processes import processes

from common import cli
from common.files import write_json
from common.flags import number

PARTS: dict[str, Callable[[Path, Sizes], list[Row]]] = {
    "f": startup,  # first, as a child begins with its parent's peak
    "a": age_epoch,
    "b": sts_steps,
    "c": depth_epoch,
    "d": fds_beside_loops,
    "e": growth,
    "g": gpu_rate,
    "h": processes,
}
QUICK = Sizes(
    images=64, batch=32, model="resnet18", img_size=112, rooms=2, depth_size=84, steps=10, samples=10_000
)


def line(row: Row) -> str:
    """Return one line of the table."""
    wanted = "" if row.wanted is None else f"{'<=' if row.at_most else '>='} {row.wanted:g}"
    mark = "" if row.good else "  short of it"
    seconds = f"{row.here:>9.3g} {row.unit:<3} {row.other:>9.3g} {row.unit:<3}"
    return f"{row.part}  {row.what:<62}{seconds} {row.ratio:>7.2f}  {wanted}{mark}".rstrip()


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the flags."""
    parser = cli.Parser(prog=PROG, description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer and smaller images, ResNet-18")
    parser.add_argument("--only", nargs="+", choices=sorted(PARTS), help="some of the parts, a to h")
    parser.add_argument("--images", type=number(int, 1), help="of an AgeDB epoch")
    parser.add_argument("--threads", type=number(int, 1), default=torch.get_num_threads(), help="of torch")
    parser.add_argument("--out", type=Path, help="file to write; README.md shows results/bench.json")
    parser.add_argument(
        "--peak", type=number(int, 1), help="only evaluate so many depth maps: print the peak"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    args = parse(argv)
    if args.peak:
        print(evaluate_depth(args.peak))
        return 0
    torch.set_num_threads(args.threads)
    logging.disable(logging.WARNING)  # of runs, whose log is not wanted here
    sizes = QUICK if args.quick else Sizes()
    sizes = dataclasses.replace(sizes, images=args.images or sizes.images)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    print(
        f"{processor()}; {device}; torch {torch.__version__}\n{'':<67}{'here':>8}{'other':>14}{'ratio':>12}"
    )
    rows, began = [], time.monotonic()
    for name, part in PARTS.items():
        if args.only is None or name in args.only:
            for row in part(ROOT / "data" / "standin" / "bench", sizes):
                print(line(row), flush=True)
                rows.append(row)
    content = {
        "machine": processor(),
        "gpu": device,
        "torch": torch.__version__,
        "quick": args.quick,
        "minutes": round((time.monotonic() - began) / 60, 1),
        "rows": [dataclasses.asdict(row) for row in rows],
    }
    if args.out is not None:
        write_json(args.out, content)
        print(f"{args.out}: written")
    return 0


if __name__ == "__main__":
    sys.exit(cli.run_command(PROG, main))
