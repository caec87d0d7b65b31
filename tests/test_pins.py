"""Every constant in which the four published programs differ, with its source.

The published code was copied once for each data set, and the copies have drifted. Line numbers are those of
its commit a6fdc45; "paper" is arXiv:2102.09554v2. A pin is read off a run's own parts wherever they can show
it: the FDS module calibrates, the criterion is evaluated, the optimiser is asked for its groups.
"""

import dataclasses
import functools
import json
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import sts_corpus
import tiny_depth
import tiny_faces
import torch
from golden_counts import agedb_train_counts, labels_with, nyud2_train_counts, sts_train_counts
from torch import nn

from common.method import Seen, choose_methods
from common.task import Batch, load_task
from common.training.command import settings_of
from common.training.engine import Run
from common.training.optimizer import learning_rates
from common.training.regressor import build_regressor

AGE, STS, NYU = ("agedb", "imdb-wiki"), ("sts-b",), ("nyud2",)
ALL = AGE + STS + NYU
BIN_NUM = {"agedb": 121, "imdb-wiki": 121, "sts-b": 50, "nyud2": 100}
FOLDERS = tempfile.TemporaryDirectory()  # removed with the interpreter


# How a pin is read. Only what stands above the table of pins knows the inside of a run.


@functools.cache
def folder(name):
    """A few made-up samples in the data set's own format."""
    path = Path(FOLDERS.name) / name
    if name in AGE:
        return tiny_faces.write_faces(path, name=name.replace("-", "_"))
    if name == "sts-b":
        return sts_corpus.write_corpus(path, standin=False)
    set_depth_counts(tiny_depth.tiny_nyud2(path), nyud2_train_counts())
    return path


def set_depth_counts(path, counts):
    """Let these be the training pixels of a depth folder in each bin."""
    (path / "depth_counts.json").write_text(json.dumps({"counts": [int(n) for n in counts], "images": 12}))


def parsed(name, flags):
    """The task and the complete settings of the command line `train.py FLAGS`."""
    task, off = load_task(name), ["--cache", "off"] if name in AGE else []
    argv = ["--data_dir", str(folder(name)), *off, *flags.split()]
    return task, settings_of(task, "train.py", "x", argv)


def prepared(task, settings):
    """The methods of a run, and the data as they want them."""
    data, methods = task.load(settings), choose_methods(task, settings)
    for method in methods:
        data = method.prepare(data)
    return data, methods


def started(name, flags=""):
    """A run of `train.py FLAGS` before its first step, with three numbers in place of the encoder."""
    task, settings = parsed(name, flags)
    data, methods = prepared(task, settings)
    encoder = nn.Identity()
    encoder.feature_dim = 3
    task = dataclasses.replace(task, build=lambda settings, data: encoder)
    run = Run(task, settings, data, build_regressor(task, settings, data, methods), None)
    run.args = SimpleNamespace(**settings.values())
    return run


def loss_of(run, target, output=0.0):
    """The training loss of one output against one target in label units."""
    target, output = (torch.full((1, 1), value, dtype=torch.float64) for value in (target, output))
    seen = Seen(Batch(None, target, None), output, output, output, None, 0)
    return float(sum(loss for method in run.regressor for loss in method.losses(seen).values()))


def weights(name, counts, flags):
    """The loss weight of each bin, float32 `(bins,)`, NaN where it is nobody's, for these training counts."""
    if name == "nyud2":
        set_depth_counts(folder(name), counts)
        table = prepared(*parsed(name, flags))[0].train.weights
        set_depth_counts(folder(name), nyud2_train_counts())
        return table
    task, settings = parsed(name, flags)
    data = task.load(settings)
    labels = labels_with(counts, data.bins)
    split = Labels(labels)
    for method in choose_methods(task, settings):
        split = method.prepare(dataclasses.replace(data, train=split)).train
    table = np.full(data.bins.num, np.nan, np.float32)
    table[data.bins.index(labels)] = split.weights
    return table


@dataclasses.dataclass
class Labels:
    """A split of labels alone."""

    labels: np.ndarray
    weights: np.ndarray | None = None

    def weighted(self, weights):
        return Labels(self.labels, weights)


def constants(name):
    """Every pinned constant of a data set, by name."""
    plain, smoothed, mse, huber, focal, sgd = (
        started(name, flags)
        for flags in ("", "--lds --fds", "--loss mse", "--loss huber", "--loss focal_l1", "--optimizer sgd")
    )
    args, data, scale = plain.args, plain.data, 1 / loss_of(started(name, "--loss l1"), 1.0)
    by_epoch = plain.check_every == plain.steps_per_epoch
    return fds_constants(smoothed) | {
        "bins": (data.bins.low, data.bins.high, data.bins.num),
        "shots": (data.shots.many_above, data.shots.few_below),
        "lds_scheme": smoothed.args.reweight,
        "lds_window": (args.lds_kernel, args.lds_ks, args.lds_sigma),
        "lds_border": border(name, smoothed.args.bucket_start if name == "nyud2" else 0),
        "clip_counts": clip_counts(name),
        "focal_beta": focal_beta(focal, scale),
        "huber_beta": round(2 * (10 - loss_of(huber, 10 * scale)), 9),
        "target_scale": round(scale, 9),
        "optimizer": type(plain.optimizer).__name__,
        "adam_weight_decay": plain.optimizer.param_groups[0]["weight_decay"],
        "sgd_weight_decay": sgd.optimizer.param_groups[0]["weight_decay"],
        "lr": plain.optimizer.param_groups[0]["lr"],
        "schedule": drops(plain),
        "batch_size": args.batch_size,
        "loss": args.loss,
        "max_grad_norm": args.max_grad_norm,
        "check_every": "epoch" if by_epoch else plain.check_every,
        "checks": plain.max_steps // plain.check_every,
        "patience": args.patience,
        "select": (plain.select, data.selected_on),
        "select_under_mse": mse.select,
        "retrained": plain.task.retrained,
        "gm": [metric for metric in plain.task.metrics if metric.startswith("gm")],
        "seed": args.seed,
    }


def fds_constants(run):
    """What the FDS module of a run does, and what its statistics are taken of."""
    fds, own = run.regressor.methods["smoothing"].statistics, run.data.statistics
    return {
        "fds_clip": variance_ratios(fds),
        "fds_momentum": momentum(fds),
        "fds_empty": empty_bucket(fds),
        "fds_buckets": (fds.bucket_start, fds.bucket_num),
        "fds_epochs": (fds.start_update, fds.start_smooth),
        "fds_window": [round(float(value), 3) for value in fds.kernel_window],
        "fds_variant": fds.variant,
        "fds_pass": "training set" if own is None else "subset",
    }


def variance_ratios(fds):
    """The least and the greatest ratio of variances that calibration applies."""
    fds.reset()
    found = []
    for variance in (1e-6, 1e6):
        fds.smoothed_var_last_epoch.fill_(variance)
        found.append(float(fds.smooth(torch.ones(1, 3), torch.ones(1, 1), 99)[0, 0]) ** 2)
    return tuple(round(value, 5) for value in found)


def momentum(fds):
    """The share of the old mean in the new one, seen in a bucket whose features go from 0 to 1."""
    fds.reset()
    for epoch in (0, 1):
        fds.update_last_epoch_stats(epoch)
        fds.update_running_stats(torch.full((4, 3), float(epoch)), torch.full((4, 1), 4.0), epoch)
    return round(1 - float(fds.running_mean.max()), 5)


def empty_bucket(fds):
    """What becomes of the second bucket if only the first and the third get samples, of mean 1."""
    fds.reset()
    places = fds.bins.left_edges[fds.bucket_start + np.array([0, 2, 0, 2])] + fds.bins.width / 2
    fds.update_running_stats(torch.ones(4, 3), torch.tensor(places)[:, None], 0)
    return {(1.0, 0.0, 1.0): "keep", (1.0, 1.0, 1.0): "fill"}[tuple(fds.running_mean[:3, 0].tolist())]


def border(name, first):
    """What LDS takes to lie beyond the first bin: nothing, or the bins before it in the mirror."""
    counts = np.zeros(BIN_NUM[name], np.int64)
    counts[[first, first + 20]] = 1_000_000
    at_border, inside = weights(name, counts, "--reweight sqrt_inv --lds")[[first, first + 20]]
    density = float(inside / at_border)  # the window is .858 .946 1 .946 .858
    return {1.0: "constant", 1.946: "reflect"}[round(density, 3)]


def clip_counts(name):
    """The least and the greatest count that inverse weights tell apart; None if all differ."""
    told = [*range(1, 12), *range(995, 1006)]
    counts = np.zeros(BIN_NUM[name], np.int64)
    counts[20 : 20 + len(told)] = told
    found = weights(name, counts, "--reweight inverse")[20 : 20 + len(told)]
    low = max(n for n, weight in zip(told, found, strict=True) if weight == found[0])
    high = min(n for n, weight in zip(told, found, strict=True) if weight == found[-1])
    return None if (low, high) == (1, 1005) else (low, high)


def focal_beta(run, scale):
    """Beta in |e| (2 sigmoid(beta |e|) - 1), solved for at an error of 0.05 in the loss's own units."""
    share = (loss_of(run, 0.05 * scale) / 0.05 + 1) / 2
    return round(float(np.log(share / (1 - share)) / 0.05), 6)


def drops(run):
    """The epochs at which the rate is a tenth of the epoch before, up to the last."""
    last = run.max_steps // run.steps_per_epoch
    rates = [learning_rates(run.training, run.regressor, epoch, last)[0] for epoch in range(last)]
    return [epoch for epoch in range(1, last) if rates[epoch] == pytest.approx(rates[epoch - 1] / 10)]


# The pins: constant, data sets, value, source


PINS = [
    ("bins", AGE, (0, 121, 121), "agedb-dir/datasets.py:60-83: an integer age, at most 120"),
    ("bins", STS, (0, 5, 50), "sts-b-dir/tasks.py:49-72"),
    ("bins", NYU, (0, 10, 100), "nyud2-dir/loaddata.py:36-51"),
    ("shots", AGE, (100, 20), "agedb-dir/train.py:338,363-378"),
    ("shots", STS, (100, 30), "paper p14, sts-b-dir/util.py:109-113"),
    ("shots", NYU, (2.6e7, 1e7), "paper p14, nyud2-dir/util.py:37-43"),
    ("fds_clip", AGE, (0.1, 10), "agedb-dir/utils.py:97"),
    ("fds_clip", STS, (0.5, 2), "sts-b-dir/util.py:63"),
    ("fds_clip", NYU, (0.2, 5), "nyud2-dir/util.py:151"),
    ("fds_empty", AGE + NYU, "keep", "agedb-dir/fds.py and nyud2-dir/fds.py: mean 0 and variance 1 stay"),
    ("fds_empty", STS, "fill", "sts-b-dir/fds.py:112-126"),
    ("fds_buckets", ("agedb",), (3, 100), "agedb-dir/train.py:39-41"),
    ("fds_buckets", ("imdb-wiki",), (0, 100), "imdb-wiki-dir/train.py:39-41"),
    ("fds_buckets", STS, (0, 50), "sts-b-dir/train.py:79-80"),
    ("fds_buckets", NYU, (7, 100), "nyud2-dir/train.py:47-48"),
    ("fds_momentum", ALL, 0.9, "paper, section 3.2; --fds_mmt of the four train.py"),
    ("fds_epochs", ALL, (0, 1), "--start_update and --start_smooth of the four train.py"),
    ("fds_window", ALL, [0.186, 0.205, 0.217, 0.205, 0.186], "paper p13 (5/2), agedb-dir/fds.py:42-44"),
    ("fds_variant", ALL, "paper", "paper, section 3.2; the released one is a choice"),
    ("fds_pass", AGE + STS, "training set", "agedb-dir/train.py:269-281"),
    ("fds_pass", NYU, "subset", "preprocess_nyud2.py:41 of its data scripts: 600 images"),
    ("lds_window", ALL, ("gaussian", 5, 2), "paper p13; agedb-dir/train.py:29-30 has 9 and 1"),
    ("lds_scheme", AGE, "sqrt_inv", "paper, Tables 8 and 9; README of the published code"),
    ("lds_scheme", STS + NYU, "inverse", "paper, Tables 10 and 12; README of the published code"),
    ("lds_border", AGE + STS, "constant", "agedb-dir/datasets.py:76-77, sts-b-dir/tasks.py:66"),
    ("lds_border", NYU, "reflect", "nyud2-dir/loaddata.py:42"),
    ("clip_counts", AGE, (5, 1000), "agedb-dir/datasets.py:67, paper p15"),
    ("clip_counts", STS + NYU, None, "sts-b-dir/tasks.py:49-72, nyud2-dir/loaddata.py:36-51"),
    ("focal_beta", AGE, 0.2, "agedb-dir/loss.py:31-38"),
    ("focal_beta", STS, 20, "sts-b-dir/models.py:99-107: errors of label / 5"),
    ("focal_beta", NYU, 0.2, "no Focal-R published on depth; that of the age code"),
    ("huber_beta", AGE, 1, "agedb-dir/loss.py: the default of its Huber loss"),
    ("huber_beta", STS, 0.3, "sts-b-dir/train.py:58 (0.5 in its loss.py)"),
    ("huber_beta", NYU, 1, "no Huber loss published on depth; that of the age code"),
    ("target_scale", AGE + NYU, 1, "agedb-dir/train.py, nyud2-dir/train.py:200"),
    ("target_scale", STS, 5, "sts-b-dir/models.py:99-107, util.py:143"),
    (
        "optimizer",
        ALL,
        "Adam",
        "train.py:163-164 (age), trainer.py:21-24 (STS-B), train.py:146 (NYUD2)",
    ),
    ("adam_weight_decay", AGE, 0, "agedb-dir/train.py:163-164: the flag reaches SGD only"),
    ("adam_weight_decay", STS, 1e-5, "sts-b-dir/trainer.py:21-24"),
    ("adam_weight_decay", NYU, 1e-4, "nyud2-dir/train.py:22-25,146"),
    ("sgd_weight_decay", AGE, 1e-4, "agedb-dir/train.py:56-63"),
    ("sgd_weight_decay", STS, 1e-5, "sts-b-dir/trainer.py:21-24"),
    ("sgd_weight_decay", NYU, 1e-4, "nyud2-dir/train.py:22-25"),
    ("lr", AGE, 1e-3, "agedb-dir/train.py:56-63"),
    ("lr", STS, 1e-4, "sts-b-dir/train.py:42,51"),
    ("lr", NYU, 1e-4, "nyud2-dir/train.py:22-25"),
    ("schedule", AGE, [60, 80], "agedb-dir/train.py:62, utils.py:81-86"),
    ("schedule", STS, [], "sts-b-dir/trainer.py:21-24: a fixed rate"),
    ("schedule", NYU, [5], "nyud2-dir/train.py:230-231: every 5 epochs, 10 by default"),
    ("batch_size", AGE, 256, "agedb-dir/train.py"),
    ("batch_size", STS, 128, "sts-b-dir/train.py"),
    ("batch_size", NYU, 32, "paper p14, nyud2-dir/train.py"),
    ("loss", AGE, "l1", "agedb-dir/train.py:56-63"),
    ("loss", STS + NYU, "mse", "sts-b-dir/models.py:99-107, nyud2-dir/train.py:200"),
    ("max_grad_norm", AGE + NYU, 0, "no clipping in agedb-dir/train.py and nyud2-dir/train.py"),
    ("max_grad_norm", STS, 5, "sts-b-dir/trainer.py:147-148"),
    ("check_every", AGE + NYU, "epoch", "agedb-dir/train.py:203-231, nyud2-dir/train.py:158-167"),
    ("check_every", STS, 400, "sts-b-dir/train.py:60-62"),
    ("checks", AGE, 90, "agedb-dir/train.py: 90 epochs"),
    ("checks", STS, 100, "sts-b-dir/train.py:60-62"),
    ("checks", NYU, 10, "nyud2-dir/train.py:18; paper p14 has 20"),
    ("patience", AGE + NYU, 0, "no early stop in agedb-dir/train.py and nyud2-dir/train.py"),
    ("patience", STS, 10, "sts-b-dir/train.py:60-62, trainer.py:56,65-67"),
    ("select", AGE, ("mae", "validation"), "agedb-dir/train.py:203-231"),
    ("select", STS, ("mse", "validation"), "sts-b-dir/trainer.py:56"),
    ("select", NYU, ("rmse", "test"), "nyud2-dir/train.py:158-167"),
    ("select_under_mse", AGE + STS, "mse", "agedb-dir/train.py:203-231: L1, or MSE where it is the loss"),
    ("select_under_mse", NYU, "rmse", "nyud2-dir/train.py:158-167"),
    ("retrained", AGE + STS, (), "agedb-dir/train.py:154-183: the head alone"),
    ("retrained", NYU, ("R",), "nyud2-dir/train.py:128-142"),
    ("gm", AGE, ["gm"], "agedb-dir/train.py:326,383: no epsilon"),
    ("gm", STS, ["gm_nonzero"], "sts-b-dir/util.py:153-158: 1e-10 for an exact hit"),
    ("gm", NYU, [], "nyud2-dir/util.py has none"),
    ("seed", AGE + NYU, 0, "none set in the published code; runs here repeat"),
    ("seed", STS, 111, "sts-b-dir/train.py:22,153-159"),
]
ROWS = [(name, constant, value) for constant, names, value, _ in PINS for name in names]


@pytest.fixture(scope="module")
def found():
    """The constants of a data set, read when it is first asked for."""
    return functools.cache(constants)


@pytest.mark.parametrize(("name", "constant", "value"), ROWS, ids=[f"{n}: {c}" for n, c, _ in ROWS])
def test_a_constant_is_the_published_one(found, name, constant, value):
    assert found(name)[constant] == value


@pytest.mark.parametrize("name", ALL)
def test_every_constant_is_pinned_for_every_data_set(found, name):
    assert sorted(found(name)) == sorted(constant for row, constant, _ in ROWS if row == name)


def test_every_pin_has_a_source():
    assert all(source for *_, source in PINS)


# What does not fit into a row


def test_depth_drops_its_rate_every_five_epochs_however_many_there_are():
    assert drops(started("nyud2", "--epochs 20")) == [5, 10, 15]  # nyud2-dir/train.py:230-231, paper p14
    assert drops(started("nyud2", "--epochs 5")) == []


@pytest.mark.parametrize("name", ["agedb", "sts-b", "nyud2"])
@pytest.mark.parametrize("lds", ["raw", "lds"])
@pytest.mark.parametrize("scheme", ["inverse", "sqrt_inv"])
def test_the_flags_give_the_published_weights(golden, name, scheme, lds):
    """Order, clip, border, truncation and scale of the loss weights at once."""
    counts = {"agedb": agedb_train_counts, "sts-b": sts_train_counts, "nyud2": nyud2_train_counts}[name]()
    ours = weights(name, counts, f"--reweight {scheme}" + (" --lds" if lds == "lds" else ""))
    file = golden / {"agedb": "agedb_weights.json", "sts-b": "sts_weights.json"}.get(name, "nyu_weights.json")
    published = json.loads(file.read_text())[f"{scheme}|{lds}|gaussian|5|2"]
    if name == "agedb":
        np.testing.assert_allclose([ours[int(y)] for y in published], list(published.values()), rtol=1e-5)
    elif name == "nyud2":
        np.testing.assert_allclose(ours, published, rtol=1e-5)
    else:  # of the first and the last 200 rows, whose bins are not in the file
        assert np.isclose(np.array(published)[:, None], ours[None], rtol=1e-5).any(1).all()


@pytest.mark.parametrize(
    ("name", "labels", "bins"),
    [
        ("agedb", [0, 1, 119, 120, 121, 186], [0, 1, 119, 120, 120, 120]),
        ("sts-b", [0, 0.2, 0.6, 0.7, 1.1, 2.3, 4.6, 4.9, 5], [0, 2, 6, 7, 11, 23, 46, 49, 49]),
        ("nyud2", [0.69, 0.7, 2.3, 9.99, 10, 11], [6, 7, 23, 99, 99, 99]),
    ],
)
def test_a_label_falls_into_the_published_bin(name, labels, bins):
    """int(float32(label) x float32(bins per unit)), the last bin for what lies above."""
    assert started(name).data.bins.index(np.float32(labels)).tolist() == bins
