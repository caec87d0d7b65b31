"""A tiny folder of faces in the published layout, a tiny ResNet, and `train.py` as a function."""

import contextlib
import csv
import importlib.util
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torchvision.models._api import register_model
from torchvision.models.resnet import BasicBlock, ResNet

from common import cli
from common.images import task as image_task
from common.settings import Running
from common.task import load_task
from common.training.command import run_name, settings_of

torch.set_num_threads(1)  # so small a model is slower on two, and a forked child must not inherit a pool

ROOT = Path(__file__).resolve().parent.parent
SIZES = {"train": 80, "val": 24, "test": 24}
TINY = "--model resnet_tiny --img_size 16 --batch_size 16 --epoch 2 --device cpu --many_above 3 --few_below 2"


class TinyResNet(ResNet):
    """torchvision's ResNet an eighth as wide: its children, keys and forward pass, 64 features."""

    def _make_layer(self, block, planes, *args, **how):
        return super()._make_layer(block, planes // 8, *args, **how)


@register_model()
def resnet_tiny(weights=None):
    model = TinyResNet(BasicBlock, [1, 1, 1, 1])
    model.fc = nn.Linear(64, 1000)
    return model


of_torchvision = image_task.resnets
image_task.resnets = lambda: [*of_torchvision(), "resnet_tiny"]


def load_train(folder):
    """`FOLDER/train.py` as a module; every data set has a `train.py`, so it gets a name of its own."""
    name = folder.replace("-", "_") + "_train"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, ROOT / folder / "train.py")
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def write_faces(folder, *, name="agedb", target="age", labels=None, seed=0):
    """Images whose colour follows their label, and `NAME.csv`; `labels` of all rows, or long-tailed ages."""
    rng = np.random.default_rng(seed)
    number = sum(SIZES.values())
    if labels is None:
        labels = np.clip(np.round(rng.exponential(12, number)) + 1, 1, 60).astype(int)
    (folder / "faces").mkdir(parents=True, exist_ok=True)
    splits = np.repeat(list(SIZES), list(SIZES.values()))
    place = (labels - np.min(labels)) / np.ptp(labels)
    rows = []
    for row, (label, split) in enumerate(zip(labels, splits, strict=True)):
        colour = np.array([255 * place[row], 255 * (1 - place[row]), 128])
        pixels = colour + rng.normal(0, 12, (*rng.integers(16, 25, 2), 3))
        file = f"faces/{row}.png"
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / file)
        rows.append({target: label, "path": file, "split": split})
    write_csv(folder / f"{name}.csv", rows)
    return folder


def read_csv(path):
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def write_csv(path, rows):
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def command(data, *flags):
    """The arguments of a tiny run; runs land below the current directory, as a user's do."""
    return ["--data_dir", str(data), *TINY.split(), *(word for flag in flags for word in str(flag).split())]


def call(argv, folder="agedb-dir"):
    """The exit code of `FOLDER/train.py argv`, run in this process."""
    train = load_train(folder)
    try:
        return cli.run_command(train.PROG, lambda: train.main(argv))
    except SystemExit as end:
        return end.code


def run_dir(argv, dataset="agedb"):
    """Where a run of `argv` writes."""
    task = load_task(dataset)
    settings = settings_of(task, "", " ", argv)
    return settings[Running].store_root / run_name(task, settings)


def trained_in(folder, argv, of="agedb-dir", dataset="agedb"):
    """Train in `folder`; the run directory, absolute."""
    with contextlib.chdir(folder):
        assert call(argv, of) == 0
        return run_dir(argv, dataset).resolve()
