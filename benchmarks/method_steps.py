"""What a training step costs under each method, beside a step of Vanilla.

    python benchmarks/method_steps.py
    python benchmarks/method_steps.py --steps 50 --batch_size 256

ResNet-18 on random images of 32 x 32 pixels with labels drawn from AgeDB-DIR's counts, on one thread. Steps of
all methods alternate and their processor time counts, so that it matters little what else the machine does. The
median is printed. Passes at the end of an epoch are not in it.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # prefer the `common` beside this folder
import common.environment  # noqa: F401 - ends in one line under a wrong interpreter

# isort: split
import numpy as np
import torch

from common import cli
from common.bins import Bins
from common.files import read_json
from common.method import choose_methods
from common.metrics import Shots
from common.settings import Settings
from common.task import Batch, Data, load_task
from common.training.command import settings_of
from common.training.engine import Run
from common.training.regressor import build_regressor, set_up

PROG = "benchmarks/method_steps.py"
METHODS = (
    "", "--lds", "--fds", "--ranksim", "--balanced_mse bmc", "--balanced_mse gai", "--balanced_mse bni", "--conr",
    "--dense_loss", "--ordinal_entropy", "--rnc", "--srl", "--dist_loss", "--evidential", "--uvote", "--vir",
)  # fmt: skip


class Images:
    """A split of random images, of which every view is the image itself."""

    augments, lengths = True, None

    def __init__(self, labels: np.ndarray) -> None:
        self.labels, self.weights = labels, None
        self.x = torch.randn(len(labels), 3, 32, 32, generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return len(self.labels)

    def weighted(self, weights: np.ndarray) -> Images:
        """Return the split with loss weights."""
        other = Images(self.labels)
        other.weights = weights
        return other

    def batches(self, draws: Iterator[Any], **_: Any) -> Iterator[Batch]:
        """Yield a batch for each draw."""
        for draw in draws:
            targets, weights = (
                None if column is None else torch.tensor(column[draw.indices], dtype=torch.float32)[:, None]
                for column in (self.labels, self.weights)
            )
            yield Batch(self.x[draw.indices], targets, weights)


def load(settings: Settings) -> Data:
    """Return 2,048 random images with AgeDB-DIR's distribution of ages."""
    counts = read_json(cli.ROOT / "data" / "histograms.json")["agedb"]
    ages = np.repeat([int(age) for age in counts], list(counts.values()))
    labels = np.random.default_rng(0).choice(ages, 2048).astype(np.float32)
    bins = Bins.integers(0, 120)
    split = Images(labels)
    return Data(split, split, split, bins, Shots(bins, bins.counts(labels), 100, 20))


def run_of(flags: str, batch_size: int) -> Run:
    """Return a run before its first step."""
    task = replace(load_task("agedb"), load=load)
    size = ["--model", "resnet18", "--img_size", "32", "--batch_size", str(batch_size), "--device", "cpu"]
    settings = settings_of(task, PROG, __doc__, [*size, *flags.split()])
    torch.manual_seed(0)
    methods, data = choose_methods(task, settings), load(settings)
    for method in methods:
        data = method.prepare(data)
    regressor = build_regressor(task, settings, data, methods)
    set_up(regressor, task, settings, data)
    return Run(task, settings, data, regressor, None)


def seconds_of(run: Run, batches: Iterator[Batch], step: int) -> float:
    """Return the processor seconds of a step, the batch not included."""
    batch = next(batches)
    began = time.process_time()
    run.step(batch, step)
    return time.process_time() - began


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = cli.Parser(prog=PROG, description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20, help="steps of each method")
    parser.add_argument("--batch_size", type=int, default=64, help="samples in a step")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    runs = [run_of(flags, args.batch_size) for flags in METHODS]
    feeds = [run.batches() for run in runs]
    times = [
        [seconds_of(run, feed, step) for run, feed in zip(runs, feeds, strict=True)]
        for step in range(args.steps + 1)
    ][1:]
    first, *medians = map(statistics.median, zip(*times, strict=True))
    print(f"Vanilla: {1000 * first:.0f} ms a step of {args.batch_size}")
    for flags, median in zip(METHODS[1:], medians, strict=True):
        print(f"{flags}: {median / first:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(cli.run_command(PROG, main))
