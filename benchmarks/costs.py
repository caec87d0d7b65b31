"""What parts cost: FDS beside loops over labels, growth with the work, start-up and memory."""

from __future__ import annotations

import csv
import dataclasses
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from measure import PROG, ROOT, Row, Sizes, flat, in_turn
from PIL import Image
from published_way import Tables

from common.bins import Bins
from common.datasets.depth import DEPTH_BINS, FIRST_BIN
from common.datasets.faces import read_faces
from common.fds import FDS
from common.images.split import load_faces
from common.lds import sample_weights
from common.metrics import Shots
from common.task import Prediction, load_task
from common.training.draws import epoch_draws

AGES = 100
HEIGHT, WIDTH = 114, 152  # of the maps of a training batch


def samples(number: int, channels: int, labels: int = AGES) -> tuple[torch.Tensor, torch.Tensor]:
    """Return random features `(n, C)` and labels `(n,)`."""
    random = torch.Generator().manual_seed(0)
    return (
        torch.randn(number, channels, generator=random),
        torch.randint(0, labels, (number,), generator=random).float(),
    )


def trained_fds(fds: FDS, features: torch.Tensor, labels: torch.Tensor) -> FDS:
    """Return an FDS layer with the statistics of two epochs of these features."""
    for epoch in range(2):
        fds.update_last_epoch_stats(epoch)
        fds.update_running_stats(features, labels, epoch)
    return fds


def fds_beside_loops(folder: Path, sizes: Sizes) -> list[Row]:
    """Return rows of FDS's smoothing and statistics beside loops over labels, after a check that both agree."""
    rows = []
    for number in (min(256, sizes.samples), sizes.samples):
        features, labels = samples(number, sizes.channels)
        fds = trained_fds(FDS(sizes.channels, AGES, 0), features, labels)
        tables = Tables(AGES, sizes.channels)
        tables.mean, tables.var = fds.running_mean_last_epoch, fds.running_var_last_epoch
        tables.smoothed_mean, tables.smoothed_var = fds.smoothed_mean_last_epoch, fds.smoothed_var_last_epoch
        known = (tables.var > 0).all(1)[labels.long()]
        ours, theirs = fds.smooth(features, labels, 2), tables.calibrate(features, labels)
        torch.testing.assert_close(ours[known], theirs[known], rtol=1e-3, atol=1e-3)
        loops, size = Tables(AGES, sizes.channels), f"{number:,} x {sizes.channels:,}"
        works: dict[str, Callable[[], object]] = {
            "smooth": lambda f=features, y=labels, fds=fds: fds.smooth(f, y, 2),
            "smooth by label": lambda f=features, y=labels, t=tables: t.calibrate(f, y),
            "statistics": lambda f=features, y=labels, fds=fds: fds.update_running_stats(f, y, 2),
            "statistics by label": lambda f=features, y=labels, t=loops: t.update(f, y),
        }
        times = in_turn(works, sizes.rounds)
        for what in ("smooth", "statistics"):
            rows.append(times.row("d", f"FDS {what}, {size}: x loop over labels", what, f"{what} by label"))
    return rows


def growth(folder: Path, sizes: Sizes) -> list[Row]:
    """Return rows of the time of an item at once, four times and 16 times as many images, labels, pixels, rows."""

    def labels(number: int) -> Callable[[], object]:
        bins = Bins.integers(0, number)
        fds = FDS(64, number, 0, bins=bins)
        features, values = samples(10 * number, 64, number)

        def work() -> None:
            fds.smooth(features, values, 2)
            fds.update_running_stats(features, values, 0)
            sample_weights(values.numpy(), bins, reweight="inverse", lds=True)

        return work

    def pixels(number: int) -> Callable[[], object]:
        fds = FDS(32, DEPTH_BINS.num, FIRST_BIN, bins=DEPTH_BINS)
        maps, depth = (
            torch.randn(number // WIDTH, 32, 1, WIDTH),
            10 * torch.rand(number // WIDTH, 1, 1, WIDTH),
        )
        maps, depth = maps.movedim(0, 2).movedim(3, 0), depth.movedim(0, 2).movedim(3, 0)

        def work() -> None:
            fds.smooth(maps, depth, 2)
            fds.update_running_stats(maps, depth, 0)

        return work

    def images(number: int) -> Callable[[], object]:
        split = load_rows(many_faces(folder, number))["train"]
        draws = epoch_draws(split, 64, 0, 0)
        cpu = torch.device("cpu")
        return lambda: [batch.targets for batch in split.batches(draws, augment=True, device=cpu)]

    def start(number: int) -> Callable[[], object]:
        csv_file = many_faces(folder, number)
        return lambda: load_rows(csv_file)

    works = {"image read": images, "label": labels, "pixel": pixels, "row at start": start}
    firsts = {"image read": sizes.rows, "label": 100, "pixel": 8 * WIDTH, "row at start": sizes.rows}
    return [
        flat("e", f"time per {name}, x1, x4, x16: growth", work, firsts[name], sizes.rounds)
        for name, work in works.items()
    ]


def many_faces(folder: Path, number: int) -> Path:
    """Return the CSV of a folder with so many names of one small JPEG."""
    place = folder / f"rows-{number}"
    if not (place / "faces.csv").exists():
        place.mkdir(parents=True)
        Image.fromarray(np.full((16, 16, 3), 99, np.uint8)).save(place / "face.jpg")
        splits = ["train"] * (number - 2) + ["val", "test"]
        for row in range(number):
            os.link(place / "face.jpg", place / f"{row}.jpg")
        with (place / "faces.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["age", "path", "split"])
            writer.writerows((20 + row % 50, f"{row}.jpg", split) for row, split in enumerate(splits))
    return place / "faces.csv"


def load_rows(file: Path):  # noqa: ANN201 - the splits of `load_faces`
    """Return the splits of a CSV of small images, from their cache where it is there."""
    return load_faces(read_faces(file), img_size=8)


def startup(folder: Path, sizes: Sizes) -> list[Row]:
    """Return rows of `--help` beside the imports that it cannot do without, and of an evaluation's memory."""
    commands = {
        "python": ["-c", "pass"],
        "torch": ["-c", "import torch, pandas, torchvision"],
        "scripts/reproduce.py": ["scripts/reproduce.py", "--help"],
        "agedb-dir/train.py": ["agedb-dir/train.py", "--help"],
    }
    works: dict[str, Callable[[], object]] = {
        name: lambda words=words: subprocess.run(
            [sys.executable, *words], check=True, cwd=ROOT, stdout=subprocess.DEVNULL
        )
        for name, words in commands.items()
    }
    times = in_turn(works, sizes.rounds, warm=sizes.rounds > 1)
    rows = [
        times.row("f", "train.py --help: share of importing torch", "agedb-dir/train.py", "torch"),
        times.row("f", "a script's --help: share of starting Python", "scripts/reproduce.py", "python"),
    ]
    most = max(sizes.rows // 5, 10)  # as many more would grow, if anything does
    few, many = (peak_of(number) for number in (10, most))
    grown = Row("f", f"peak of evaluating {most:,} depth maps over that of 10", many, few, many / few, 1.05)
    return [*rows, dataclasses.replace(grown, at_most=True, unit="MiB")]


def peak_of(images: int) -> float:
    """Return the MiB at the peak of a process that evaluates so many depth maps."""
    command = [sys.executable, str(ROOT / PROG), "--peak", str(images)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def evaluate_depth(images: int) -> float:
    """Evaluate so many depth maps, every pixel of them; return this process's peak in MiB."""
    task, random = load_task("nyud2"), torch.Generator().manual_seed(0)
    shots = Shots(DEPTH_BINS, np.arange(DEPTH_BINS.num), 50, 20)
    data = SimpleNamespace(bins=DEPTH_BINS, shots=shots, test=None)
    assert task.evaluator is not None
    metrics = task.evaluator(task, None, data)  # type: ignore[arg-type]
    for prediction, target in depth_maps(images, random):
        metrics.add(None, Prediction(prediction), target)  # type: ignore[arg-type]
    metrics.table()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def depth_maps(images: int, random: torch.Generator) -> Iterable[tuple[torch.Tensor, torch.Tensor]]:
    """Yield a random output and a random depth map for each image."""
    for _ in range(images):
        sizes = (1, 1, HEIGHT, WIDTH), (1, 1, 2 * HEIGHT, 2 * WIDTH)
        prediction, target = (torch.rand(*size, generator=random) * 9 + 0.7 for size in sizes)
        yield prediction, target
