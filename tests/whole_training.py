"""Whole trainings of the published programs, repeated with this project's own engine.

`training_age.npz` and `training_nyud2.npz` hold what the published programs computed with given weights, given
batches, no augmentation and float64. A `Rehearsal` trains the same through `train.py`; `differences` compares.
"""

import contextlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from golden_weights import filled
from tiny_faces import load_train, resnet_tiny
from torch.optim.optimizer import register_optimizer_step_pre_hook

from common.cli import run_command
from common.task import Draw
from common.training import command, draws, engine
from common.training.checkpoint import renamed
from common.training.regressor import key_map

# --- All that these tests touch of the engine's inside


def use_orders(patch, training, extra_pass=None):
    """Train on the samples in these orders, `(epochs, N)`; without `extra_pass`, that order is the engine's own."""
    own = draws.epoch_draws

    def given(split, batch_size, seed, epoch, purpose=draws.TRAINING, **kwargs):
        orders = training if purpose == draws.TRAINING else extra_pass
        if orders is None:
            return own(split, batch_size, seed, epoch, purpose, **kwargs)
        order = orders[min(epoch, len(orders) - 1)].astype(np.int64)  # a batch is read ahead of the last step
        return [Draw(indices, 0) for indices in np.split(order, range(batch_size, len(order), batch_size))]

    for module in (draws, engine):
        patch.setattr(module, "epoch_draws", given)


def without_augmentation(patch, split):
    """Let a class of splits give each training image as it gives one for validation."""
    own = split.batches
    patch.setattr(split, "batches", lambda self, draws, *, augment, device: own(
        self, draws, augment=False, device=device
    ))  # fmt: skip


def fill(regressor, task, head_bias, bias):
    """Fill the weights by the golden recipe, over the published keys; FDS keeps its own."""
    ours = regressor.state_dict()
    published = {name.removeprefix("module."): key for key, name in published_keys(ours, task).items()}
    names = sorted(name for name in published if "FDS." not in name)
    state = {published[name]: filled(name, ours[published[name]], i) for i, name in enumerate(names)}
    state[published[head_bias]] += bias
    regressor.load_state_dict({**ours, **state})


def published_keys(state, task):
    """Return the published key of each key of a regressor."""
    return {key: next(iter(renamed({key: None}, key_map(task)))) for key in state}


def prepare_model(patch, recording, head_bias, bias):
    """Start from a small ResNet with the given weights, in float64; note the weights of the loss."""
    own = command.build_regressor
    patch.setattr(torchvision.models, "get_model", lambda name, **kwargs: resnet_tiny())

    def build(task, settings, data, *methods):
        regressor = own(task, settings, data, *methods)
        fill(regressor, task, head_bias, bias)
        regressor.double()
        regressor.encoder.register_forward_pre_hook(lambda module, inputs: (inputs[0].double(),))
        recording.weights = data.train.weights
        return regressor

    patch.setattr(command, "build_regressor", build)


# --- What a training says of itself, through torch alone


@dataclass
class Recording:
    """What happened in one training."""

    weights: np.ndarray | None = None  # of the loss
    losses: list[float] = field(default_factory=list)  # of each step
    rates: list[float] = field(default_factory=list)
    checkpoints: list[dict] = field(
        default_factory=list
    )  # the model's state after each epoch, without module.


@contextlib.contextmanager
def recorded(patch, recording):
    """Record each loss that goes backward, each learning rate, and each model that is saved."""
    backward, save = torch.Tensor.backward, torch.save

    def noted_backward(loss, *args, **kwargs):
        recording.losses.append(loss.item())
        backward(loss, *args, **kwargs)

    def noted_save(content, *args, **kwargs):
        state = content["state_dict"].items()
        recording.checkpoints.append({key.removeprefix("module."): value.clone() for key, value in state})
        save(content, *args, **kwargs)

    patch.setattr(torch.Tensor, "backward", noted_backward)
    patch.setattr(torch, "save", noted_save)
    hook = register_optimizer_step_pre_hook(
        lambda optimizer, *args: recording.rates.append(float(optimizer.param_groups[0]["lr"]))
    )
    try:
        yield
    finally:
        hook.remove()


# --- One training


class Reference:
    """A file of reference numbers."""

    def __init__(self, path):
        with np.load(path) as file:
            self.arrays = dict(file)
        self.configurations = json.loads(str(self.arrays["configurations"]))
        self.keys = json.loads(str(self.arrays["keys"]))

    def __getitem__(self, name):
        return self.arrays[name]

    def of(self, configuration):
        """Return the numbers of a configuration by their names."""
        start = f"{configuration}/"
        return {key.removeprefix(start): v for key, v in self.arrays.items() if key.startswith(start)}


class Rehearsal:
    """A finished training of this project: its recording and its run directory."""

    def __init__(self, folder, recording):
        self.folder, self.recording = folder, recording

    @property
    def best(self):
        return self.folder / "ckpt.best.pth.tar"

    @property
    def best_epoch(self):
        return torch.load(self.best, weights_only=False)["epoch"]

    @cached_property
    def checks(self):
        return [json.loads(line) for line in (self.folder / "metrics.jsonl").read_text().splitlines()]

    def validation(self, metrics):
        """Return the tables of validation, `(epochs, 4, metrics)`."""
        return np.stack([table(check["val"], metrics) for check in self.checks])

    def test(self, metrics):
        """Return the table of the final test, `(4, metrics)`."""
        return table(json.loads((self.folder / "metrics.json").read_text())["shots"], metrics)

    @property
    def states(self):
        """Return the model's state after each epoch without FDS's buffers, and those."""
        states, statistics = [], []
        for state in self.recording.checkpoints:
            states.append({key: value for key, value in state.items() if "FDS." not in key})
            statistics.append({key.rpartition(".")[2]: v for key, v in state.items() if "FDS." in key})
        return states, statistics


def table(shots, metrics):
    """Return a shot table as an array, NaN where a group is empty."""
    values = [[shots[group].get(metric) for metric in metrics] for group in ("all", "many", "medium", "few")]
    return np.array(values, float)


def rehearse(program, data, folder, flags, prepare):
    """Train `program` on `data` below `folder`; `prepare(patch, recording)` puts in weights and batches."""
    folder.mkdir()
    recording, argv = Recording(), ["--data_dir", str(data), "--device", "cpu", *flags]
    train = load_train(program)
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(folder):
        prepare(patch, recording)
        with recorded(patch, recording):
            assert run_command(train.PROG, lambda: train.main(argv)) == 0
    (metrics,) = folder.rglob("metrics.json")
    return Rehearsal(metrics.parent, recording)


# --- Comparing

BUFFERS = (
    "running_mean", "running_var", "running_mean_last_epoch", "running_var_last_epoch",
    "smoothed_mean_last_epoch", "smoothed_var_last_epoch",
)  # fmt: skip
FEATURES = (0, 16, 32, 48)  # of each bucket these are kept, and the sum over all
EXACT = 1e-12  # of losses and weights, where nothing is rounded to float32; seen: 6e-14
ROUNDED = 4e-7  # the rounding of float32 weights and kernels, amplified; seen: 2e-7
METRIC, GEOMETRIC = 1e-6, 1e-4  # predictions are kept as float32, and an error next to 0 weighs much in GM
RATE = 1e-15


class Differences(dict):
    """The greatest difference of each number, relative to what it is measured by, and which are too large."""

    def __init__(self):
        super().__init__()
        self.too_large = {}

    def add(self, name, ours, reference, limit, scale=None):
        """Compare two arrays; `scale` is the reference itself if it is None."""
        ours, reference = np.asarray(ours, float), np.asarray(reference, float)
        if ours.shape != reference.shape or (np.isnan(ours) != np.isnan(reference)).any():
            self[name] = np.inf
        else:
            scale = np.abs(reference) if scale is None else scale
            with np.errstate(divide="ignore", invalid="ignore"):
                relative = np.where(ours == reference, 0.0, np.abs(ours - reference) / scale)
            self[name] = float(np.nanmax(relative, initial=0.0))
        if not self[name] <= limit:
            self.too_large[name] = f"{self[name]:.1e} > {limit:g}"


def compare(run, reference, metrics, keys):
    """Return the differences between a training and its reference numbers, of what both data sets share."""
    found = Differences()
    rounded = "running_mean" in reference or not {"weights", "bucket_weights"}.isdisjoint(reference)
    limit = ROUNDED if rounded else EXACT
    found.add("loss", run.recording.losses, reference["loss"], limit)
    found.add("lr", run.recording.rates, reference["lr"], RATE)
    compare_tables(found, run.validation(metrics), reference["val"], "val", metrics)
    found.add("best_epoch", run.best_epoch, reference["best_epoch"], 0)
    states, statistics = run.states
    compare_state(found, states[-1], reference, keys, limit)
    compare_statistics(found, statistics, reference)
    return found


def compare_tables(found, ours, reference, name, metrics):
    """Compare shot tables, metric by metric."""
    for i, metric in enumerate(metrics):
        limit = {"gm": GEOMETRIC, "n": 0}.get(metric, METRIC)
        found.add(f"{name} {metric}", ours[..., i], reference[..., i], limit)


def compare_state(found, state, reference, keys, limit):
    """Compare the last model: its keys, the sums of each, and the head."""
    found.add("keys", 0 if sorted(state) == keys else 1, 0, 0)
    sums = [float(state[key].double().sum()) for key in sorted(state)]
    absolute = [float(state[key].double().abs().sum()) for key in sorted(state)]
    found.add("state_sum", sums, reference["state_sum"], limit, np.maximum(reference["state_abs"], 1e-300))
    found.add("state_abs", absolute, reference["state_abs"], limit)
    for key in ("linear.weight", "linear.bias", "R.conv2.weight", "R.conv2.bias"):
        if key in reference:
            found.add(key, state[key], reference[key], limit, np.abs(reference[key]).max())


def compare_statistics(found, statistics, reference):
    """Compare FDS's buffers after each epoch; a run without FDS has none."""
    if "running_mean" not in reference:
        found.add("buffers", sum(map(len, statistics)), 0, 0)
        return
    for name in BUFFERS:
        ours = [np.asarray(buffers[name].double()) for buffers in statistics]
        ours = [np.concatenate([b[:, FEATURES], b.sum(1, keepdims=True)], 1) for b in ours]
        found.add(name, ours, reference[name], ROUNDED, np.abs(reference[name]).max())
    tracked = [np.asarray(buffers["num_samples_tracked"]) for buffers in statistics]
    found.add("num_samples_tracked", tracked, reference["num_samples_tracked"], 0)
    found.add("fds_epoch", [float(b["epoch"]) for b in statistics], reference["fds_epoch"], 0)


def golden_file(name):
    """Return a file of reference numbers."""
    return Reference(Path(__file__).parent / "golden" / name)
