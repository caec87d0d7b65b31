"""What every benchmark needs: works timed in turn, a row of the table, the machine, and a run without a directory."""

from __future__ import annotations

import itertools
import platform
import re
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import torch

from common import cli
from common.method import choose_methods
from common.task import load_task
from common.training.command import prepare, settings_of
from common.training.compute import precision
from common.training.engine import Run

ROOT, PROG = cli.ROOT, "benchmarks/bench.py"
FAST = {"fp32": "--fast", "bf16": "--fast --amp bf16"}  # the flags of each precision


@dataclass(frozen=True)
class Sizes:
    """How much work the benchmarks do."""

    images: int = 128
    batch: int = 64
    model: str = "resnet50"
    img_size: int = 224
    rooms: int = 8
    depth_size: int = 228
    steps: int = 42  # on STS-B, an epoch of it
    samples: int = 50_000  # of FDS's larger table
    channels: int = 2048
    rows: int = 1000  # of a CSV, the smallest of three
    rounds: int = 3


@dataclass(frozen=True)
class Row:
    """Two medians, and their ratio: how many times as fast as the other, or its share of a limit."""

    part: str
    what: str
    here: float
    other: float
    ratio: float
    wanted: float | None = None
    at_most: bool = False  # the ratio shall not exceed `wanted`
    unit: str = "s"

    @property
    def good(self) -> bool:
        """Return whether the ratio is as wanted."""
        return self.wanted is None or (
            self.ratio <= self.wanted if self.at_most else self.ratio >= self.wanted
        )


class Times(dict[str, list[float]]):
    """Seconds of each work in each round."""

    def row(self, part: str, what: str, here: str, other: str, wanted: float | None = None) -> Row:
        """Return how many times as fast one work is as another, both measured in the same rounds."""
        ratios = [b / a for a, b in zip(self[here], self[other], strict=True)]
        middle = statistics.median
        return Row(part, what, middle(self[here]), middle(self[other]), middle(ratios), wanted)


def in_turn(works: Mapping[str, Callable[[], object]], rounds: int, *, warm: bool = True) -> Times:
    """Time the works one after the other, round by round, so that a slow minute meets each of them."""
    for work in works.values() if warm else ():
        work()
    times = Times({name: [] for name in works})
    for _, (name, work) in itertools.product(range(rounds), works.items()):
        began = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times[name].append(time.perf_counter() - began)
    return times


def flat(
    part: str, what: str, work_of: Callable[[int], Callable[[], object]], first: int, rounds: int
) -> Row:
    """Return the time of an item when there are 16 times as many, beside that of the first number."""
    numbers = {str(first * times): first * times for times in (1, 4, 16)}
    times = in_turn({name: work_of(number) for name, number in numbers.items()}, rounds)
    each = Times({name: [t / numbers[name] * 1e6 for t in times[name]] for name in numbers})
    (few, middle, many), growth = numbers, []
    growth = [max(m, n) / f for f, m, n in zip(each[few], each[middle], each[many], strict=True)]
    row = each.row(part, what, many, few)
    return Row(part, what, row.here, row.other, statistics.median(growth), 1.25, at_most=True, unit="us")


def precisions(device: torch.device) -> list[str]:
    """Return the precisions that the device is fast in."""
    return ["fp32", "bf16"] if precision("auto", device) == "bf16" else ["fp32"]


def processor() -> str:
    """Return the name of the processor, its cores here, and its instructions for bf16."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    name = re.search(r"model name\s*: (.+)", text)
    kinds = [flag for flag in ("avx512_bf16", "amx_bf16") if re.search(rf"\b{flag}\b", text)]
    told = name[1] if name else platform.processor() or platform.machine()
    return f"{told}, {torch.get_num_threads()} threads, bf16: {', '.join(kinds) or 'none'}"


def built(name: str, *flags: str) -> Run:
    """Return the run of a command before its first step, as `train.py` makes it."""
    task = load_task(name)
    settings = settings_of(task, PROG, "A benchmark.", " ".join(flags).split())
    where = SimpleNamespace(path=Path("a benchmark"))  # nothing is written
    return prepare(task, settings, choose_methods(task, settings), where)  # type: ignore[arg-type]


def epoch_of(run: Run) -> Callable[[], None]:
    """Return what trains one more epoch, from the second on, where FDS smooths."""
    epochs = itertools.count(1)

    def epoch() -> None:
        number, batches = next(epochs), run.batches()
        for batch in itertools.islice(batches, run.steps_per_epoch):
            run.pending.append((len(batch.targets), run.step(batch, number)))
            run.state.step += 1
        run.settle()
        run.end_epoch(number)
        run.state.step = 0

    return epoch


def standins(folder: Path, script: Callable[[list[str]], int], name: str, *flags: str) -> Path:
    """Return the folder of a stand-in, drawn where it is not there."""
    place = folder / "-".join([name, *(flag for flag in flags if not flag.startswith("--"))])
    if not place.exists() and script([name, "--out", str(place), *flags]):
        raise RuntimeError(f"{place}: could not be drawn")
    return place


def steps(run: Run, number: int) -> Iterator[dict[str, torch.Tensor]]:
    """Train so many steps of the second epoch, from making their batches on."""
    for batch in itertools.islice(run.batches(), number):
        yield run.step(batch, 1)
