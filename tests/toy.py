"""A toy data set of random vectors, for tests of the engine and of every method: a `Task`, its flags, and runs."""

import itertools
import json
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from torch import nn

from common.bins import Bins
from common.flags import flag
from common.method import all_methods
from common.metrics import Shots, shot_table
from common.task import Batch, Data, Length, Task
from common.training import command

BINS = Bins.integers(0, 9)


@dataclass(frozen=True)
class ToyFlags:
    """Toy."""

    val_interval: int = flag(5, "steps between checks", low=0)
    max_vals: int = flag(4, "checks", low=1)


class Vectors:
    """A split of N(0, 1) vectors whose label, 0 to 9, is linear in them; remembers what was asked of it."""

    augments = False

    def __init__(self, n, seed, lengths=None):
        rng = np.random.default_rng(seed)
        self.x = torch.tensor(rng.normal(size=(n, 3)), dtype=torch.float32)
        self.labels = np.clip(np.round(4.5 + 2 * self.x[:, 0].numpy()), 0, 9).astype(np.float32)
        self.weights, self.lengths, self.asked = None, lengths, []

    def __len__(self):
        return len(self.labels)

    def weighted(self, weights):
        self.weights = weights
        return self

    def batches(self, draws, *, augment, device):
        for draw in draws:
            self.asked.append((draw.indices.tolist(), draw.seed, augment))
            targets = torch.tensor(self.labels[draw.indices])[:, None]
            weights = None if self.weights is None else torch.tensor(self.weights[draw.indices])[:, None]
            yield Batch(self.x[draw.indices], targets, weights)


class Encoder(nn.Module):
    feature_dim = 4

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Dropout(0.1))

    def forward(self, x):
        return self.body(x)


def load(settings=None):
    train, val, test = Vectors(50, 0), Vectors(20, 1), Vectors(20, 2)
    return Data(train, val, test, BINS, Shots(BINS, BINS.counts(train.labels), 5, 2))


def length(settings):
    return Length(settings[ToyFlags].val_interval, settings[ToyFlags].max_vals)


TASK = Task(
    name="toy", title="Toy", unit="vector", load=load, build=lambda settings, data: Encoder(),
    run_name=lambda settings, methods: "run", length=length, flags=(ToyFlags,),
    defaults={
        "lr": 0.05, "batch_size": 8, "loss": "l1", "schedule": (), "momentum": 0.0, "weight_decay": 0.0, "seed": 1,
    },
    select=lambda settings: "mse" if settings.values()["loss"] == "mse" else "mae",
    key_map=(("encoder.", "net."), ("head.", "net.linear.")), metrics=("mae", "mse"), table=("mae",),
)  # fmt: skip


def settings_of(root, *flags, task=TASK, **more):
    """The settings of a run of 7 steps an epoch and a check every 5 steps."""
    words = [word for flag in flags for word in flag.split()]
    pairs = itertools.chain.from_iterable((f"--{name}", str(value)) for name, value in more.items())
    argv = ["--device", "cpu", "--store_root", str(root), *words, *pairs]
    return command.settings_of(task, "toy", "Toy", argv)


def run(root, *flags, task=TASK, **more):
    """Run to the end in `root`/run; returns the directory."""
    assert command.run(task, settings_of(root, *flags, task=task, **more)) == 0
    return root / "run"


def with_changes(**changes):
    """The toy task with other settings."""
    return replace(TASK, **changes)


def history(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


# --- The same task on other shapes of data, so that a method meets each of them


class Augmented(Vectors):
    """Vectors with random views."""

    augments = True

    def batches(self, draws, *, augment, device):
        for draw in draws:
            for batch in super().batches([draw], augment=augment, device=device):
                noise = torch.randn(draw.size, 3, generator=torch.Generator().manual_seed(draw.seed))
                yield batch._replace(inputs=batch.inputs + 0.01 * noise[draw.rows]) if augment else batch


class Pairs(Vectors):
    """Two vectors a sample, as sentences come in pairs."""

    def batches(self, draws, *, augment, device):
        for batch in super().batches(draws, augment=augment, device=device):
            yield batch._replace(inputs=(batch.inputs, batch.inputs.roll(1, 1)))

    def resampled(self, rows, plan):
        made = plan(self.x[rows].numpy())
        other = type(self)(len(self), 0)
        other.x = torch.lerp(
            self.x[made.first], self.x[made.second], torch.from_numpy(made.share).float()[:, None]
        )
        other.labels = made.labels
        return other


class PairEncoder(Encoder):
    def forward(self, inputs):
        first, second = map(self.body, inputs)
        return first * second


class Maps(Vectors):
    """A map of labels a sample, some of them unknown; weights are those of bins."""

    def __init__(self, n, seed):
        super().__init__(n, seed)
        self.depth = torch.tensor(self.labels)[:, None, None, None] + torch.arange(6.0).view(1, 1, 2, 3) / 8
        self.depth[::3, :, 0, 0] = torch.nan
        self.all, self.labels = self.labels, None

    def __len__(self):
        return len(self.x)

    def batches(self, draws, *, augment, device):
        for draw in draws:
            targets = self.depth[draw.indices]
            weights = None
            if self.weights is not None:
                weights = torch.from_numpy(self.weights)[BINS.index(targets.nan_to_num())]
            inputs = self.x[draw.indices][:, :, None, None].expand(-1, -1, 2, 3)
            yield Batch(inputs, targets, weights, targets.isfinite())


class MapEncoder(nn.Module):
    feature_dim = 4

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Tanh())

    def forward(self, x):
        return self.body(x)


class MapMetrics:
    """MAE and MSE over all known pixels, by shot."""

    def __init__(self, task, split, data):
        self.task, self.shots, self.rows_ = task, data.shots, []

    def add(self, draw, prediction, targets):
        known = targets.isfinite()
        self.rows_.append((targets[known].numpy(), prediction.mean[known].numpy()))

    @property
    def columns(self):
        label, prediction = map(np.concatenate, zip(*self.rows_, strict=True))
        return {"label": label, "prediction": prediction}

    def table(self):
        return shot_table(self.columns, self.shots, self.task.metrics)

    def rows(self):
        return pd.DataFrame(self.columns)


def load_as(kind):
    def loaded(settings=None):
        splits = [kind(50, 0), kind(20, 1), kind(20, 2)]
        labels = splits[0].labels if splits[0].labels is not None else splits[0].all
        counts = BINS.counts(labels)
        dense = None if splits[0].labels is not None else counts * 6
        return Data(*splits, BINS, Shots(BINS, counts, 5, 2), counts=dense)

    return loaded


WITHOUT_MAPS = [method.name() for method in all_methods() if not method.maps]
KINDS = {
    "vectors": replace(TASK, load=load_as(type("Vectors", (Augmented,), {"resampled": Pairs.resampled}))),
    "pairs": replace(TASK, load=load_as(Pairs), build=lambda settings, data: PairEncoder(), methods_without=("conr",)),
    "maps": replace(
        TASK, load=load_as(Maps), build=lambda settings, data: MapEncoder(), evaluator=MapMetrics,
        head=lambda dim: nn.Conv2d(dim, 1, 1), methods_without=("resample", *WITHOUT_MAPS),
    ),
}  # fmt: skip
