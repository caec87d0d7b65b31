"""The age data sets end to end on tiny faces: what a run writes and reads back, exact resumption, RRT."""

import contextlib
import functools
import math
import os
import random
import shutil
import signal
import time
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from PIL import Image
from runs import FILES, assert_same_end, ended, history, in_child, killed_at, outcome, read, same, snapshot
from tiny_faces import call, command, read_csv, run_dir, write_csv, write_faces
from torch import nn
from torchvision import transforms

from common.fds import FDS
from common.training import checkpoint, engine
from common.training import evaluate as evaluation

pytestmark = pytest.mark.slow

GROUPS = ["all", "many", "medium", "few", "zero", "interpolation", "extrapolation"]
COMBINATIONS = {
    "vanilla": "",
    "sqrt_inv": "--reweight sqrt_inv",
    "inverse": "--reweight inverse",
    "lds": "--lds",
    "lds_inverse": "--lds --reweight inverse --lds_kernel laplace",
    "fds": "--fds --start_smooth 0",
    "fds_released": "--fds --start_smooth 0 --fds_variant released",
    "lds_fds": "--lds --fds",
    "mse": "--loss mse",
    "huber": "--loss huber",
    "focal_mse": "--loss focal_mse",
    "focal_l1": "--loss focal_l1",
    "sgd": "--optimizer sgd",
    "seed": "--seed 5",
    "schedule": "--schedule 1 2",
}


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    return write_faces(tmp_path_factory.mktemp("faces") / "data")


def flags_of(name):
    """FDS first acts in the third epoch (docs/differences.md, FDS 2)."""
    return f"{COMBINATIONS[name]} --epoch {epochs(name)}"


def epochs(name):
    return 3 if "fds" in name or name == "schedule" else 2


@pytest.fixture(scope="module")
def trained(faces, tmp_path_factory):
    """The run directory of a combination, trained when it is first asked for."""
    root, done = tmp_path_factory.mktemp("runs"), {}

    def get(name):
        if name not in done:
            argv = command(faces, flags_of(name), f"--store_root {root} --store_name {name}")
            assert call(argv) == 0
            done[name] = run_dir(argv)
        return done[name]

    return get


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def state_of(path, name="ckpt.pth.tar"):
    return torch.load(path / name)["state_dict"]


def labels_of(faces, split="test"):
    return np.array([float(row["age"]) for row in read_csv(faces / "agedb.csv") if row["split"] == split])


# --- what a run writes


@pytest.mark.parametrize("name", COMBINATIONS)
def test_every_combination_trains(trained, name):
    path = trained(name)
    found = {file.name for file in path.iterdir()}
    assert {file for file in found if not file.startswith("events.out.tfevents.")} == FILES
    records = history(path)
    assert [record["step"] for record in records] == [5, 10, 15][: epochs(name)]
    assert [record["epoch"] for record in records] == [1, 2, 3][: epochs(name)]
    assert all(math.isfinite(record["val"]["all"][metric]) for record in records for metric in ("mae", "mse"))
    assert records[-1]["train_loss"] < records[0]["train_loss"]
    select = "mse" if name == "mse" else "mae"
    best = min(records, key=lambda record: record["val"]["all"][select])
    saved = torch.load(path / "ckpt.best.pth.tar")
    assert (saved["state"]["step"], saved["epoch"]) == (best["step"], best["epoch"])
    assert saved["best_loss"] == best["val"]["all"][select]


def test_every_flag_of_a_combination_acts(trained):
    ends = [history(trained(name))[-1]["val"]["all"]["mae"] for name in COMBINATIONS]
    assert len(set(ends)) == len(COMBINATIONS)


@pytest.mark.parametrize(
    ("name", "rates"), [("schedule", [1e-3, 1e-4, 1e-5]), ("vanilla", [1e-3] * 2), ("sgd", [1e-3] * 2)]
)
def test_the_rate_drops_tenfold_at_the_schedule(trained, name, rates):
    assert [record["lr"] for record in history(trained(name))] == pytest.approx(rates, rel=1e-9)


def test_args_json_says_what_was_run(trained):
    args = read(trained("lds_fds") / "args.json")
    assert (args["lds"], args["fds"], args["reweight"], args["seed"]) == (True, True, "sqrt_inv", 0)
    assert (args["model"], args["lr"], args["fds_variant"]) == ("resnet_tiny", 0.001, "paper")


def test_buckets_are_those_of_the_data_set(trained):
    """AgeDB's begin at 3, as published; every training image is counted once an epoch."""
    state = state_of(trained("fds"))
    assert state["module.FDS.running_mean"].shape == (97, 64)
    assert state["module.FDS.num_samples_tracked"].sum() == 3 * 80
    assert not any(key.startswith("module.FDS") for key in state_of(trained("vanilla")))


def test_metrics_json_is_the_contract(trained, faces):
    path = trained("vanilla")
    result = read(path / "metrics.json")
    assert list(result) == ["dataset", "split", "checkpoint", "epoch", "bins", "relevance", "shots"]
    assert result["bins"] == {"low": 0, "high": 121, "num": 121}
    assert (result["dataset"], result["split"]) == ("agedb", "test")
    assert result["checkpoint"] == str(path / "ckpt.best.pth.tar")
    assert result["epoch"] == torch.load(path / "ckpt.best.pth.tar")["epoch"]
    assert list(result["shots"]) == GROUPS
    assert all(set(row) == {"n", "mae", "mse", "gm", "bmae", "sera"} for row in result["shots"].values())
    train, labels = labels_of(faces, "train"), labels_of(faces)
    counts = np.array([(train == label).sum() for label in labels])
    expected = [
        24,
        (counts > 3).sum(),
        ((counts >= 2) & (counts <= 3)).sum(),
        (counts < 2).sum(),
        (counts == 0).sum(),
        ((counts == 0) & (train.min() < labels) & (labels < train.max())).sum(),
        ((labels < train.min()) | (labels > train.max())).sum(),
    ]
    assert [result["shots"][group]["n"] for group in GROUPS] == expected
    assert 0 < expected[4] < expected[3], "some few-shot ages are seen in training, some are not"


@pytest.mark.parametrize("name", ["vanilla", "lds_fds"])
def test_predictions_csv_reproduces_the_metrics(trained, faces, name):
    path = trained(name)
    rows, shots = pd.read_csv(path / "predictions.csv"), read(path / "metrics.json")["shots"]
    assert list(rows.columns) == ["label", "prediction", "shot", "unseen", "path"]
    for kind in GROUPS[5:]:
        assert (rows["unseen"] == kind).sum() == shots[kind]["n"]
    np.testing.assert_array_equal(rows["label"], labels_of(faces))
    for group in GROUPS[:4]:
        chosen = rows if group == "all" else rows[rows["shot"] == group]
        error = (chosen["prediction"] - chosen["label"]).abs()
        assert len(error) == shots[group]["n"] > 0
        assert shots[group]["mae"] == pytest.approx(error.mean(), rel=1e-6)
        assert shots[group]["mse"] == pytest.approx((error**2).mean(), rel=1e-6)
        assert shots[group]["gm"] == pytest.approx(np.exp(np.log(error).mean()), rel=1e-5)


def without_zero(folder):
    """Every label of the validation and test splits is one of training; a bin has 1, 2 or 7 images."""
    ages = {"train": [20] * 7 + [21] * 7 + list(range(22, 55)) + list(range(22, 55)), "val": [20, 30] * 12}
    rows = read_csv(folder / "agedb.csv")
    for split, labels in (ages | {"test": ages["val"]}).items():
        for row, age in zip([row for row in rows if row["split"] == split], labels, strict=True):
            row["age"] = age
    write_csv(folder / "agedb.csv", rows)
    return folder


def test_an_empty_shot_has_null_metrics_and_zero_is_there_only_where_it_is(faces, tmp_path, capsys):
    data = without_zero(shutil.copytree(faces, tmp_path / "data"))
    argv = command(data, "--epoch 1")
    assert call(argv) == 0
    shots = read(run_dir(argv) / "metrics.json")["shots"]
    assert list(shots) == GROUPS[:4]
    assert [shots[group]["n"] for group in GROUPS[:4]] == [24, 12, 12, 0]
    assert shots["few"] == {"n": 0, "mae": None, "mse": None, "gm": None, "bmae": None, "sera": None}
    assert list(history(run_dir(argv))[0]["val"]) == GROUPS[:4]
    table = capsys.readouterr().out.split("Test of ")[1]
    assert not any(word in table for word in ("Zero", "Interp.", "Extrap."))
    assert "unseen" not in (run_dir(argv) / "predictions.csv").read_text()
    assert table.split("MAE")[1].splitlines()[0].split()[-1] == "–"


def test_a_validation_label_that_training_lacks_is_few_shot_and_shown_as_zero(faces, tmp_path, capsys):
    data = without_zero(shutil.copytree(faces, tmp_path / "data"))
    rows = read_csv(data / "agedb.csv")
    next(row for row in rows if row["split"] == "val")["age"] = 99
    write_csv(data / "agedb.csv", rows)
    argv = command(data, "--epoch 1 --lds --fds")
    assert call(argv) == 0
    val = history(run_dir(argv))[0]["val"]
    assert [val[group]["n"] for group in GROUPS[3:]] == [1, 1, 0, 1]
    assert val["extrapolation"] == val["zero"] == val["few"] and val["zero"]["mae"] > 50
    assert "zero" not in read(run_dir(argv) / "metrics.json")["shots"]
    assert "Zero" in capsys.readouterr().out


def test_the_log_tells_the_run_and_the_test_table(trained, capsys):
    log = (trained("lds_fds") / "training.log").read_text()
    for told in (
        "seed 0, device cpu", "agedb: 80 training, 24 validation, 24 test",
        "Shots: many above 3 training samples in a bin, few below 2",
        "Methods: loss l1; re-weighting sqrt_inv, LDS gaussian 5/2; FDS gaussian 5/2, paper",
        "Step 15 (epoch 3.0): training loss",
        "Test of ", "MAE ↓", "GM ↓",
    ):  # fmt: skip
        assert told in log


def test_a_standin_is_named_in_every_table(faces, tmp_path, capsys):
    data = shutil.copytree(faces, tmp_path / "data")
    told = (
        '{"dataset": "agedb", "scale": 0.01, "seed": 0, "note": "made up", "many_above": 1, "few_below": 0.2}'
    )
    (data / "standin.json").write_text(told)
    argv = command(data, "--epoch 1")
    assert call(argv) == 0
    assert "made up" in read(run_dir(argv) / "metrics.json")["standin"]
    assert capsys.readouterr().out.count("agedb at scale 0.01, seed 0: made up") == 2


@pytest.mark.parametrize(("model", "dim"), [("resnet18", 512)])
def test_a_resnet_of_torchvision_trains(faces, model, dim):
    argv = command(faces, f"--model {model} --lds --fds --epoch 1 --batch_size 40")
    assert call(argv) == 0
    assert run_dir(argv).name == f"agedb_{model}_lds_gau_5_2_fds_gau_5_2_0_1_0.9_adam_l1_0.001_40_seed_0"
    assert state_of(run_dir(argv))["module.linear.weight"].shape == (1, dim)


def test_imdb_wiki_is_the_same_with_its_own_table_and_buckets(tmp_path, capsys):
    data = write_faces(tmp_path / "data", name="imdb_wiki")
    argv = command(data, "--fds --epoch 1")
    assert call(argv, "imdb-wiki-dir") == 0
    path = run_dir(argv, "imdb-wiki")
    assert path.name == "imdb_wiki_resnet_tiny_fds_gau_5_2_0_1_0.9_adam_l1_0.001_16_seed_0"
    assert read(path / "metrics.json")["dataset"] == "imdb-wiki"
    assert state_of(path)["module.FDS.running_mean"].shape == (100, 64)
    capsys.readouterr()
    write_csv(data / "agedb.csv", read_csv(data / "imdb_wiki.csv"))
    assert call(command(data, f"--evaluate --resume {path / 'ckpt.pth.tar'}")) == 2
    assert "is a checkpoint of imdb-wiki, not of agedb" in capsys.readouterr().err


def test_a_cache_changes_no_bit(faces, tmp_path):
    ends = []
    for cache in ("auto", "off", str(tmp_path / "elsewhere")):
        argv = command(faces, f"--lds --fds --cache {cache} --epoch 1 --overwrite")
        assert call(argv) == 0
        ends.append(outcome(run_dir(argv)))
    assert list((tmp_path / "elsewhere").glob("*.npy"))
    assert same(ends[0], ends[1])
    assert same(ends[0], ends[2])


def test_the_seed_alone_decides(faces, trained):
    argv = command(faces, flags_of("vanilla"), "--workers 1 --print_freq 1")
    assert call(argv) == 0
    assert same(state_of(run_dir(argv)), state_of(trained("vanilla")))
    assert not same(state_of(trained("seed")), state_of(trained("vanilla")))


# --- what is read back


def test_a_finished_run_says_so_and_changes_nothing(trained, faces, capsys, tmp_path):
    path = trained("vanilla")
    argv = command(faces, flags_of("vanilla"), f"--store_root {path.parent} --store_name vanilla")
    before = snapshot(path)
    assert call([*argv, "--metrics_json", str(tmp_path / "new/m.json")]) == 0
    out = capsys.readouterr().out
    assert f"{path} is finished (--overwrite starts over)" in out
    assert f"{read(path / 'metrics.json')['shots']['few']['mae']:.3f}" in out
    assert snapshot(path) == before
    assert read(tmp_path / "new/m.json") == read(path / "metrics.json")


def test_another_configuration_under_the_same_name_is_refused(trained, faces, capsys):
    path = trained("vanilla")
    argv = command(
        faces, flags_of("vanilla"), f"--store_root {path.parent} --store_name vanilla --schedule 7"
    )
    before = snapshot(path)
    assert call(argv) == 2
    told = capsys.readouterr().err
    for part in (path, "--schedule [60, 80] there, [7] here", "--store_name", "--overwrite"):
        assert str(part) in told
    assert snapshot(path) == before


@pytest.mark.parametrize("name", ["lds_fds", "sgd"])
def test_evaluation_of_the_best_checkpoint_is_the_result_of_the_run(trained, faces, tmp_path, name):
    path = trained(name)
    before = snapshot(path)
    argv = command(faces, flags_of(name), f"--store_root {path.parent} --store_name {name} --evaluate")
    assert call([*argv, "--metrics_json", str(tmp_path / "own.json")]) == 0
    assert read(tmp_path / "own.json") == read(path / "metrics.json")
    best = path / "ckpt.best.pth.tar"
    named = command(faces, f"--evaluate --resume {best} --metrics_json {tmp_path / 'named.json'}")
    assert call(named) == 0, "neither the run's name nor --fds is needed"
    assert read(tmp_path / "named.json") == read(path / "metrics.json")
    assert snapshot(path) == before


# --- checkpoints of the published code, and checkpoints for it


class Published(nn.Module):
    """The layout of the published model: a ResNet's layers under torchvision's names, `linear`, `FDS`."""

    def __init__(self, name="resnet_tiny", buckets=0):
        super().__init__()
        resnet = torchvision.models.get_model(name)
        for child, module in resnet.named_children():
            if child != "fc":
                setattr(self, child, module)
        self.linear = nn.Linear(resnet.fc.in_features, 1)
        if buckets:
            self.FDS = PublishedFDS(buckets, resnet.fc.in_features)

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.linear(self.avgpool(x).view(len(x), -1))


class PublishedFDS(nn.Module):
    def __init__(self, buckets, dim):
        super().__init__()
        self.register_buffer("epoch", torch.zeros(1).fill_(0))
        for kind, value in (("mean", 0.0), ("var", 1.0)):
            for name in (f"running_{kind}", f"running_{kind}_last_epoch", f"smoothed_{kind}_last_epoch"):
                self.register_buffer(name, torch.full((buckets, dim), value))
        self.register_buffer("num_samples_tracked", torch.zeros(buckets))


def pixels(faces, split):
    """The split as the published loader gives it: tensors in [-1, 1]."""
    steps = transforms.Compose(
        [transforms.Resize((16, 16)), transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)]
    )
    rows = [row for row in read_csv(faces / "agedb.csv") if row["split"] == split]
    return torch.stack([steps(Image.open(faces / row["path"]).convert("RGB")) for row in rows])


@pytest.fixture(scope="module")
def published(faces):
    """A model and its checkpoint as the published code trained and saved them, for so many FDS buckets."""

    @functools.cache
    def get(buckets=0):
        torch.manual_seed(3)
        model = nn.DataParallel(Published(buckets=buckets))
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        images, labels = pixels(faces, "train")[:40], torch.from_numpy(labels_of(faces, "train")[:40, None])
        for _ in range(4):
            optimizer.zero_grad()
            (model(images) - labels).abs().mean().backward()
            optimizer.step()
        state = optimizer.state_dict()
        for values in state["state"].values():
            values["step"] = int(values["step"])  # a number, and fewer settings, in torch of that time
        kept = ("lr", "betas", "eps", "weight_decay", "amsgrad", "params")
        state["param_groups"] = [{key: group[key] for key in kept} for group in state["param_groups"]]
        told = {"epoch": 1, "model": "resnet50", "best_loss": 9.5}
        return model.eval(), told | {"state_dict": model.state_dict(), "optimizer": state}

    return get


@pytest.fixture
def released(published, tmp_path):
    """The file of such a checkpoint, with its state_dict changed or another epoch, where asked for."""

    def write(buckets=0, *, change=None, legacy=True, **more):
        content = published(buckets)[1] | more
        content["state_dict"] = dict(content["state_dict"])
        if change is not None:
            change(content["state_dict"])
        path = tmp_path / "released.pth.tar"
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
        return path

    return write


@pytest.mark.parametrize("flags", ["", "--fds", "--lds --fds --fds_variant released"])
@pytest.mark.parametrize(("buckets", "legacy"), [(0, True), (97, True), (97, False)])
def test_a_released_checkpoint_is_evaluated(
    faces, published, released, tmp_path, capsys, flags, buckets, legacy
):
    path, model = released(buckets, epoch=77, legacy=legacy), published(buckets)[0]
    argv = command(faces, flags, f"--evaluate --resume {path} --metrics_json {tmp_path / 'm.json'}")
    assert call(argv) == 0
    result = read(tmp_path / "m.json")
    assert (result["checkpoint"], result["epoch"]) == (str(path), 77)
    with torch.no_grad():
        error = np.abs(model(pixels(faces, "test")).squeeze(1).double().numpy() - labels_of(faces))
    shots = result["shots"]
    assert shots["all"]["mae"] == pytest.approx(error.mean(), abs=1e-4)
    assert shots["all"]["mse"] == pytest.approx((error**2).mean(), rel=1e-5)
    out = capsys.readouterr().out
    assert f"Test of {path} (epoch 77)" in out
    assert f"{shots['few']['mae']:.3f}" in out
    assert not (tmp_path / "checkpoint").exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda s: s.pop("module.layer2.0.conv1.weight"), "lacks module.layer2.0.conv1.weight"),
        (lambda s: s.pop("module.linear.bias"), "lacks module.linear.bias"),
        (
            lambda s: s.update({"module.layer9.weight": torch.zeros(1)}),
            "holds the unknown module.layer9.weight",
        ),
        (lambda s: s.update({"other": torch.zeros(1)}), "holds the unknown other"),
        (
            lambda s: s.update({"module.linear.weight": torch.zeros(1, 99)}),
            "has shape (1, 99), this model's has (1, 64)",
        ),
    ],
)
@pytest.mark.parametrize("mode", ["--evaluate --resume", "--resume", "--pretrained"])
def test_a_checkpoint_that_does_not_fit_is_refused_by_key(
    faces, released, tmp_path, capsys, change, told, mode
):
    path = released(change=change)
    assert call(command(faces, f"{mode} {path}")) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    for part in (f"agedb-dir/train.py: error: {path}: ", told, "--model"):
        assert part in error
    assert not list((tmp_path / "checkpoint").glob("*"))


def test_another_model_is_named(faces, released, capsys):
    path = released()
    assert call(command(faces, f"--model resnet18 --evaluate --resume {path}")) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert str(path) in error and "--model" in error


def test_statistics_of_other_buckets_are_refused_where_fds_is_on(faces, released, capsys):
    path = released(100)
    assert call(command(faces, f"--evaluate --resume {path}")) == 0, "without --fds they do not matter"
    assert call(command(faces, f"--fds --evaluate --resume {path}")) == 2
    error = capsys.readouterr().err
    for part in ("FDS.", "(100, 64)", "(97, 64)", "--bucket_start"):
        assert part in error
    assert call(command(faces, f"--fds --bucket_start 0 --evaluate --resume {path}")) == 0


@pytest.fixture
def starts(monkeypatch):
    """What each run starts from: its step, its optimizer's state and its weights."""
    seen, real = [], engine.Run.train

    def spy(self):
        state = {key: value.clone() for key, value in self.regressor.state_dict().items()}
        optimizer = {key: dict(value) for key, value in self.optimizer.state_dict()["state"].items()}
        moments = {number: values["exp_avg"].clone() for number, values in optimizer.items()}
        seen.append((self.state.step, moments, {n: float(v["step"]) for n, v in optimizer.items()}, state))
        return real(self)

    monkeypatch.setattr(engine.Run, "train", spy)
    return seen


@pytest.mark.parametrize(("buckets", "flags"), [(0, ""), (97, "--fds --reweight sqrt_inv")])
def test_a_released_checkpoint_trains_on_from_its_epoch(faces, released, capsys, starts, buckets, flags):
    path = released(buckets)
    theirs = torch.load(path)
    argv = command(faces, flags, f"--epoch 3 --resume {path}")
    assert call(argv) == 0
    assert f"Resuming {path} at step 5 of at most 15" in capsys.readouterr().out
    [(step, moments, counts, weights)] = starts
    assert step == 5
    names = (("head.", "linear."), ("methods.smoothing.statistics.", "FDS."), ("encoder.", ""))
    ours = checkpoint.renamed(weights, tuple((mine, f"module.{theirs}") for mine, theirs in names))
    assert same(dict(sorted(ours.items())), dict(sorted(theirs["state_dict"].items())))
    expected = {number: values["exp_avg"] for number, values in theirs["optimizer"]["state"].items()}
    assert same(moments, expected)
    assert set(counts.values()) == {4.0}
    records = history(run_dir(argv))
    assert [record["epoch"] for record in records] == [2, 3]
    assert torch.load(run_dir(argv) / "ckpt.pth.tar")["epoch"] == 3
    assert read(run_dir(argv) / "metrics.json")["shots"]["all"]["n"] == 24


def test_a_released_checkpoint_with_a_number_of_old_numpy_is_evaluated(faces, released):
    path = released(best_loss=np.float64(9.5))
    content = path.read_bytes()
    assert b"numpy._core.multiarray" in content
    path.write_bytes(content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert call(command(faces, f"--evaluate --resume {path}")) == 0


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ("--epoch 2", ("epoch 2", "--epoch")),
        ("--epoch 3 --optimizer sgd", ("--optimizer",)),
        ("--epoch 3 --retrain_fc --reweight inverse --pretrained {path}", ("--retrain_fc",)),
        ("--epoch 3 --fds", ("FDS", "--pretrained")),
    ],
)
def test_training_that_cannot_go_on_from_a_checkpoint_is_refused(
    faces, released, tmp_path, capsys, flags, told
):
    path = released(epoch=2)
    assert call(command(faces, f"--resume {path}", flags.format(path=path))) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    for part in (str(path), *told):
        assert part in error
    assert not list((tmp_path / "checkpoint").glob("*"))


@pytest.mark.parametrize("name", ["vanilla", "lds_fds", "mse"])
def test_the_published_code_reads_a_checkpoint_of_ours(trained, faces, name):
    """As its `train.py --resume` does: a strict load, the optimizer's state, the epoch and the best loss."""
    path = trained(name)
    content = torch.load(path / "ckpt.best.pth.tar", weights_only=False)
    model = nn.DataParallel(Published(buckets=97 if "fds" in name else 0))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    model.load_state_dict(content["state_dict"])
    optimizer.load_state_dict(content["optimizer"])
    assert content["epoch"] in (1, 2, 3)
    assert content["model"] == "resnet_tiny"
    assert isinstance(content["best_loss"], float)
    for key, parameter in model.named_parameters():
        assert optimizer.state[parameter]["exp_avg"].shape == parameter.shape, key
        assert optimizer.state[parameter]["step"] == content["epoch"] * 5, key
    with torch.no_grad():
        preds = model.eval()(pixels(faces, "test")).squeeze(1)
    told = pd.read_csv(path / "predictions.csv")["prediction"]
    np.testing.assert_allclose(preds.numpy(), told, rtol=1e-5, atol=1e-4)
    images, labels = pixels(faces, "train"), torch.from_numpy(labels_of(faces, "train")).float()[:, None]
    (model.train()(images) - labels).abs().mean().backward()
    optimizer.step()


# --- RRT


def test_rrt_trains_a_fresh_head_on_a_frozen_encoder(trained, faces, starts, capsys):
    pretrained = trained("vanilla") / "ckpt.best.pth.tar"
    argv = command(faces, f"--retrain_fc --pretrained {pretrained} --reweight inverse --seed 2")
    assert "_inverse_retrain_fc_adam_l1_" in run_dir(argv).name
    assert call(argv) == 0
    out = capsys.readouterr().out
    assert f"Encoder loaded from {pretrained}" in out
    assert "RRT: the encoder is frozen, a fresh head is trained" in out
    before, after = torch.load(pretrained)["state_dict"], state_of(run_dir(argv))
    parameters = [key for key, _ in nn.DataParallel(Published()).named_parameters()]
    encoder = [key for key in parameters if "linear" not in key]
    assert len(encoder) == len(parameters) - 2
    for key in encoder:
        assert torch.equal(before[key], after[key]), key
    moved = [key for key in before if key.endswith(("running_mean", "running_var"))]
    assert all(not torch.equal(before[key], after[key]) for key in moved), "as published (RRT 1)"
    [(step, moments, _, start)] = starts
    assert (step, moments) == (0, {})
    for part in ("weight", "bias"):
        fresh, trained_head = start[f"head.{part}"], after[f"module.linear.{part}"]
        assert fresh.abs().max() <= 64**-0.5
        assert not torch.equal(fresh, before[f"module.linear.{part}"])
        assert not torch.equal(fresh, trained_head)
    assert len(torch.load(run_dir(argv) / "ckpt.pth.tar")["optimizer"]["state"]) == 2


def test_rrt_starts_from_a_released_checkpoint_too(faces, released, starts):
    path = released(97)
    argv = command(faces, f"--retrain_fc --pretrained {path} --reweight inverse --epoch 1")
    assert call(argv) == 0
    conv1 = torch.load(path)["state_dict"]["module.conv1.weight"]
    assert torch.equal(state_of(run_dir(argv))["module.conv1.weight"], conv1)
    assert torch.equal(starts[0][3]["encoder.conv1.weight"], conv1)


def test_rrt_without_weights_warns(trained, faces, capsys):
    argv = command(faces, f"--retrain_fc --pretrained {trained('vanilla') / 'ckpt.best.pth.tar'} --epoch 1")
    assert call(argv) == 0
    assert "RRT without --reweight" in capsys.readouterr().out


# --- a run that fails


def test_a_loss_that_is_not_finite_names_the_step(faces, capsys, tmp_path):
    argv = command(faces, "--lr 1e30 --optimizer sgd --epoch 1")
    assert call(argv) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "agedb-dir/train.py: error: the loss l1 is " in error
    assert "at step 2 (epoch 0)" in error
    assert "there is no checkpoint yet; try a smaller --lr" in error
    assert not (run_dir(argv) / "ckpt.pth.tar").exists()


def test_the_last_good_checkpoint_outlives_a_loss_that_is_not_finite(trained, faces, capsys, monkeypatch):
    argv = command(faces, flags_of("vanilla"))
    with monkeypatch.context() as patch:
        patch.setattr(
            engine, "learning_rates", lambda training, regressor, epoch, epochs: [1e-3, 1e30][epoch:][:1]
        )
        assert call(argv) == 1
    last = run_dir(argv) / "ckpt.pth.tar"
    error = capsys.readouterr().err
    assert "(epoch 1)" in error
    assert f"the last good checkpoint is {last}" in error
    saved = torch.load(last)
    assert saved["state"]["step"] == 5
    assert all(value.isfinite().all() for value in saved["state_dict"].values())
    assert call(argv) == 0, "the mended command goes on from it"
    assert same(state_of(run_dir(argv)), state_of(trained("vanilla")))


# --- exact resumption: FDS and augmentation are on, 3 epochs of 5 steps

EXACT = "--lds --fds --start_smooth 0 --epoch 3"


@pytest.fixture(scope="module")
def undisturbed(faces, tmp_path_factory):
    argv = command(faces, EXACT)
    with contextlib.chdir(tmp_path_factory.mktemp("undisturbed")):
        assert call(argv) == 0
        return outcome(run_dir(argv))


MOMENTS = {  # where it resumes
    "in the middle of the first epoch": (engine.Run, "step", 3, None),
    "in the middle of an epoch": (engine.Run, "step", 8, 5),
    "in the middle of the statistics of FDS": (FDS, "collect", 12, 10),
    "between the statistics and the check": (FDS, "update", 2, 5),
    "while it writes the checkpoint": (os, "fsync", 4, 10),
    "while it tests": (evaluation.Predictions, "rows", 1, 15),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_kill_at_this_moment_resumes_exactly(faces, undisturbed, capsys, moment):
    argv = command(faces, EXACT)
    target, name, number, step = MOMENTS[moment]
    assert ended(in_child(lambda: call(argv), lambda: killed_at(target, name, number))) == -signal.SIGKILL
    path = run_dir(argv)
    assert not (path / "metrics.json").exists()
    capsys.readouterr()
    assert call(argv) == 0
    out = capsys.readouterr().out
    if step is None:
        assert "Resuming" not in out
    else:
        assert f"Resuming {path / 'ckpt.pth.tar'} at step {step} of at most 15" in out
    assert_same_end(path, undisturbed)


def checks(path):
    """How many lines of the history are whole."""
    file = path / "metrics.jsonl"
    return file.read_bytes().count(b"\n") if file.exists() else 0


def test_a_run_that_is_killed_again_and_again_ends_bit_for_bit_the_same(faces, undisturbed, tmp_path):
    """From the writing of the image cache on; the copy's folder has another name, so args.json differs."""
    data = shutil.copytree(faces, tmp_path / "data", ignore=shutil.ignore_patterns(".cache"))
    argv = command(data, EXACT)
    path, moment, codes = run_dir(argv), random.Random(), []  # any moment must do, so no seed
    for lines in (0, 0, 1, 2):
        pid, end = in_child(lambda: call(argv)), time.monotonic() + 60
        while (checks(path) < lines or not path.exists()) and time.monotonic() < end:
            time.sleep(0.001)
        time.sleep(moment.uniform(0, 0.1))
        os.kill(pid, signal.SIGKILL)
        codes.append(ended(pid))
    assert codes.count(-signal.SIGKILL) >= 2
    assert call(argv) == 0
    for mine, theirs in zip(outcome(path)[:2], undisturbed[:2], strict=True):
        assert same(mine, theirs)
    assert outcome(path)[2][:2] == undisturbed[2][:2]


def test_sgd_and_rrt_resume_exactly(trained, faces):
    pretrained = trained("vanilla") / "ckpt.pth.tar"
    for flags in ("--optimizer sgd", f"--retrain_fc --reweight inverse --pretrained {pretrained}"):
        argv = command(faces, flags)
        pid = in_child(partial(call, argv), lambda: killed_at(engine.Run, "step", 8))
        assert ended(pid) == -signal.SIGKILL
        assert torch.load(run_dir(argv) / "ckpt.pth.tar")["state"]["step"] == 5
        assert call(argv) == 0
        resumed = outcome(run_dir(argv))
        assert call([*argv, "--overwrite"]) == 0
        assert same(resumed, outcome(run_dir(argv)))
