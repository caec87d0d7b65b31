"""Epochs and steps of whole trainings, beside the published way and beside the bare model's rate."""

from __future__ import annotations

import csv
import dataclasses
import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from types import MethodType

import torch
from measure import FAST, ROOT, Row, Sizes, Times, built, epoch_of, in_turn, precisions, standins, steps
from published_way import Faces, PublishedRun
from torch import nn

from common.settings import Training
from common.training.draws import evaluation_draws
from common.training.engine import Run
from common.training.evaluate import evaluate

sys.path.insert(0, str(ROOT / "scripts"))
import make_standin

CPU, HELD_OUT = torch.device("cpu"), 8
PUBLISHED = {"fp32": (1.6, None), "bf16": (3.5, 4.5)}  # wanted, with an extra pass and online


def agedb(folder: Path, sizes: Sizes) -> Path:
    """Return a folder of JPEGs in AgeDB's layout, whose CSV has just so many training images."""
    pixels = max(sizes.img_size, 16)
    scale = min(1.0, (sizes.images + 150) / 12_208)
    place = standins(folder, make_standin.main, "agedb", "--scale", f"{scale:.4f}", "--img_size", str(pixels))
    with (place / "agedb.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    kept = {"train": sizes.images, "val": HELD_OUT, "test": HELD_OUT}
    with (place / "bench.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        for split, number in kept.items():
            writer.writerows([row for row in rows if row["split"] == split][:number])
    return place


def bare(run: Run, batch: int, size: tuple[int, int], kind: str) -> dict[str, Callable[[], None]]:
    """Return a training step and a forward pass of a run's model alone, on one batch of random images there."""
    encoder, head, device = run.regressor.encoder, run.regressor.head, run.device
    assert head is not None
    layout = torch.channels_last
    encoder.to(memory_format=layout)
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], fused=True)
    images = torch.randn(batch, 3, *size, device=device).contiguous(memory_format=layout)

    def outputs() -> torch.Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=kind == "bf16"):
            return head(encoder(images)).float()

    def step() -> None:
        encoder.train()
        optimizer.zero_grad(set_to_none=True)
        outputs().abs().mean().backward()
        optimizer.step()

    @torch.no_grad()
    def forward() -> None:
        encoder.train()
        outputs()

    return {f"bare step {kind}": step, f"bare forward {kind}": forward}


def bare_epochs(times: Times, kind: str, steps_there: int, passes: int) -> None:
    """Add the time of the model alone for an epoch, with and without its second pass, to the times."""
    step, forward = times[f"bare step {kind}"], times[f"bare forward {kind}"]
    times[f"bare online {kind}"] = [steps_there * s for s in step]
    times[f"bare extra {kind}"] = [steps_there * s + passes * f for s, f in zip(step, forward, strict=True)]


def age_epoch(folder: Path, sizes: Sizes) -> list[Row]:
    """Return rows of an AgeDB epoch with LDS and FDS, cached and warm, beside the published way and the model."""
    place, kinds = agedb(folder, sizes), precisions(CPU)
    flags = (
        f"--data_dir {place} --dataset bench --model {sizes.model} --img_size {sizes.img_size} --device cpu "
        f"--batch_size {sizes.batch} --lds --fds"
    )
    runs = {
        f"{how} {kind}": built("agedb", flags, FAST[kind], f"--fds_pass {how}")
        for kind in kinds
        for how in ("extra", "online")
    }
    train = next(iter(runs.values())).data.train
    assert train.labels is not None and train.weights is not None
    files = [place / path for path in train.names[1]]  # type: ignore[attr-defined]
    plain = PublishedRun(
        Faces(files, train.labels, train.weights, sizes.img_size), sizes.model, sizes.batch, CPU
    )
    works: dict[str, Callable[[], None]] = {"published": plain.epoch}
    for name, run in runs.items():
        works[name] = epoch_of(run)
    for kind in kinds:
        alone = built("agedb", flags.replace("--lds --fds", ""), FAST[kind])
        works |= bare(alone, sizes.batch, (sizes.img_size, sizes.img_size), kind)
    times = in_turn(works, sizes.rounds, warm=sizes.images <= sizes.batch)
    rows, there = [], -(-sizes.images // sizes.batch)
    for kind in kinds:
        bare_epochs(times, kind, there, there)
        for how, wanted in zip(("extra", "online"), PUBLISHED[kind], strict=True):
            name = f"AgeDB epoch, {kind}, --fds_pass {how}"
            rows.append(times.row("a", f"{name}: x published way", f"{how} {kind}", "published", wanted))
            rows.append(
                times.row("a", f"{name}: share of bare model", f"{how} {kind}", f"bare {how} {kind}", 0.9)
            )
    return rows


def packed(run: Run) -> Run:
    """Return the run with torch's own LSTM on packed sentences."""
    lstm = run.regressor.encoder.lstm
    lstm.forward = MethodType(lambda self, words: nn.LSTM.forward(self, words)[0], lstm)
    return run


def sts_steps(folder: Path, sizes: Sizes) -> list[Row]:
    """Return rows of an epoch of STS-B's steps, padded beside packed, with dropout and Adam."""
    place = ROOT / "data" / "sts-b"
    if not (place / "train_new.tsv").exists():
        place = standins(folder, make_standin.main, "sts-b", "--scale", "0.3")
    # --evaluate reads no word vectors; they are drawn at random.
    flags = f"--evaluate --data_dir {place} --d_word 100 --d_hid 128 --n_layers_enc 1 --device cpu"
    kinds = precisions(CPU)
    runs = {"packed": packed(built("sts-b", flags))}
    runs |= {f"padded {kind}": built("sts-b", flags, FAST[kind]) for kind in kinds}
    for run in runs.values():
        run.regressor.encoder.embedding.weight.data.normal_()
    number = min(sizes.steps, next(iter(runs.values())).steps_per_epoch)
    works = {name: lambda run=run: list(steps(run, number)) for name, run in runs.items()}
    times = in_turn(works, 2 * sizes.rounds - 1)
    name = f"{number} STS-B steps"
    wanted = {"fp32": 1.1, "bf16": 1.6}
    return [
        times.row("b", f"{name}, padded {kind}: x packed fp32", f"padded {kind}", "packed", wanted[kind])
        for kind in kinds
    ]


def few_rooms(run: Run, number: int) -> Run:
    """Return the run with so many images to train on, to take statistics of, and to test."""
    data = run.data

    def first(split):  # noqa: ANN001, ANN202 - a split of depth maps
        mask = None if split.mask is None else split.mask[:number]
        return dataclasses.replace(split, pairs=split.pairs[:number], mask=mask)

    statistics = None if data.statistics is None else first(data.statistics)
    run.data = dataclasses.replace(
        data, train=first(data.train), test=first(data.test), statistics=statistics
    )
    run.steps_per_epoch = -(-number // run.settings[Training].batch_size)
    return run


def depth_epoch(folder: Path, sizes: Sizes) -> list[Row]:
    """Return rows of a NYUD2 epoch with LDS and FDS, and of its evaluation, as shares of the bare model's rate."""
    place, kinds = standins(folder, make_standin.main, "nyud2", "--scale", "0.0002"), precisions(CPU)
    batch, height = max(sizes.rooms // 2, 1), sizes.depth_size
    flags = (
        f"--data_dir {place} --model {sizes.model} --pretrained_encoder none --img_size {height} --device cpu "
        f"--batch_size {batch} --select test"
    )
    works: dict[str, Callable[[], object]] = {}
    for kind in kinds:
        run = few_rooms(built("nyud2", flags, FAST[kind], "--lds --fds"), sizes.rooms)
        alone = few_rooms(built("nyud2", flags, FAST[kind]), sizes.rooms)
        works[f"extra {kind}"] = epoch_of(run)
        works |= bare(alone, batch, (height, height * 4 // 3), kind)
        works[f"test {kind}"] = lambda run=run: tested(run)
        works[f"read {kind}"] = lambda run=alone: read_and_predict(run)
    times, rows = in_turn(works, sizes.rounds, warm=sizes.rooms <= 2), []
    there = -(-sizes.rooms // batch)
    for kind in kinds:
        bare_epochs(times, kind, there, there)
        what = f"NYUD2 epoch, {kind}: share of bare model"
        rows.append(times.row("c", what, f"extra {kind}", f"bare extra {kind}", 0.85))
        what = f"NYUD2 evaluation, {kind}: share of reading and model"
        rows.append(times.row("c", what, f"test {kind}", f"read {kind}", 0.9))
    return rows


def tested(run: Run) -> dict:
    """Return the table of a run's test images."""
    return evaluate(run.regressor, run.data.test, run.task, run.data, run.training.batch_size).table()


@torch.no_grad()
def read_and_predict(run: Run) -> None:
    """Read the test images and predict them, without any metric."""
    run.regressor.eval()
    draws = evaluation_draws(run.data.test, run.training.batch_size)
    for batch in run.data.test.batches(draws, augment=False, device=run.device):
        run.regressor.predict(batch.inputs)


def gpu_rate(folder: Path, sizes: Sizes) -> list[Row]:
    """Return rows of the whole loop on a GPU, resident and not, as shares of the bare model's rate."""
    if not torch.cuda.is_available():
        return []
    place = agedb(folder, sizes)
    flags = (
        f"--data_dir {place} --dataset bench --model {sizes.model} --img_size {sizes.img_size} --device cuda "
        f"--batch_size {sizes.batch} --lds --fds --fds_pass online {FAST['bf16']}"
    )
    number = 20 * (sizes.images // sizes.batch)  # steps, over several epochs
    runs = {how: built("agedb", flags, f"--resident {how}") for how in ("on", "off")}
    works: dict[str, Callable[[], object]] = {
        how: lambda run=run: list(steps(run, number)) for how, run in runs.items()
    }
    alone = bare(built("agedb", flags), sizes.batch, (sizes.img_size, sizes.img_size), "bf16")
    step = alone["bare step bf16"]
    works["bare"] = lambda: [step() for _ in itertools.repeat(None, number)]
    times = in_turn(works, sizes.rounds)
    images = number * sizes.batch
    rates = Times({name: [images / t for t in seconds] for name, seconds in times.items()})
    return [
        dataclasses.replace(
            rates.row("g", f"images/s on the GPU, --resident {how}: share of bare model", "bare", how, 0.95),
            here=sorted(rates[how])[len(rates[how]) // 2],
            other=sorted(rates["bare"])[len(rates["bare"]) // 2],
            unit="/s",
        )
        for how in ("on", "off")
    ]
