"""NYUD2-DIR end to end on a few planes: what a run writes, what it reads back, and exact resumption."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from runs import FILES, assert_same_end, ended, history, in_child, killed_at, outcome, read, same
from tiny_depth import PROG, call, command, run_dir, tiny_nyud2, train
from torch import nn

from common.cli import ROOT
from common.fds import FDS
from common.settings import Training
from common.training import engine
from common.training.command import run_name, settings_of
from common.training.optimizer import learning_rates
from common.training.regressor import Regressor

pytestmark = pytest.mark.slow

METRICS = ["rmse", "mse", "mae", "abs_rel", "log10", "delta1", "delta2", "delta3"]
COMBINATIONS = {
    "vanilla": "",
    "inverse": "--reweight inverse",
    "sqrt_inv": "--reweight sqrt_inv",
    "lds": "--lds",
    "fds": "--fds --start_smooth 0",
    "lds_fds": "--lds --fds --start_smooth 0",
    "focal": "--loss focal_l1 --lds",
    "l1": "--loss l1",
    "huber": "--loss huber",
    "focal_mse": "--loss focal_mse",
    "keep_invalid": "--keep_invalid --reweight inverse",
    "val": "--select val --val_fraction 0.2 --fds",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_nyud2(tmp_path_factory.mktemp("nyud2"))


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    """The run directory of a combination, trained when it is first asked for."""
    root, done = tmp_path_factory.mktemp("runs"), {}

    def get(name):
        if name not in done:
            argv = command(folder, COMBINATIONS[name], f"--store_root {root} --store_name {name}")
            assert call(argv) == 0
            done[name] = run_dir(argv)
        return done[name]

    return get


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def refused(argv, capsys, *parts):
    assert call(argv) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    for part in parts:
        assert str(part) in error


@pytest.mark.parametrize("name", COMBINATIONS)
def test_every_combination_trains(trained, name):
    path = trained(name)
    assert {file.name for file in path.iterdir() if not file.name.startswith("events.")} == FILES
    result = read(path / "metrics.json")
    assert result["dataset"] == "nyud2"
    assert list(result["shots"])[:4] == ["all", "many", "medium", "few"]
    for row in result["shots"].values():
        assert list(row) == ["n", *METRICS]
    assert np.isfinite(result["shots"]["all"]["rmse"])
    assert result["shots"]["all"]["rmse"] == pytest.approx(result["shots"]["all"]["mse"] ** 0.5)
    assert len(history(path)) == 2


def test_every_flag_of_a_combination_acts(trained):
    ends = {name: (trained(name) / "predictions.csv").read_bytes() for name in COMBINATIONS}
    assert len(set(ends.values())) == len(ends)


def test_predictions_are_per_bin_and_reproduce_the_table(trained):
    rows = pd.read_csv(trained("lds") / "predictions.csv")
    assert list(rows) == ["bin", "label", "shot", "train_pixels", "n", *METRICS]
    table = read(trained("lds") / "metrics.json")["shots"]
    for group, row in table.items():
        mine = rows[(rows["n"] > 0) & ((rows["shot"] == group) | (group == "all"))]
        if group in ("zero", "interpolation", "extrapolation"):
            seen = rows["bin"][rows["train_pixels"] > 0]
            wanted = rows["bin"].between(seen.min(), seen.max())
            wanted = {"zero": True, "interpolation": wanted, "extrapolation": ~wanted}[group]
            mine = rows[(rows["n"] > 0) & (rows["train_pixels"] == 0) & wanted]
        assert mine["n"].sum() == row["n"]
        for name in METRICS[1:] if row["n"] else ():
            assert (mine[name] * mine["n"]).sum() / row["n"] == pytest.approx(row[name])


def test_the_log_and_the_result_say_what_selected(trained, folder):
    log = (trained("vanilla") / "training.log").read_text()
    assert "The best epoch is chosen on the TEST set" in log
    assert "selected on the test set, as the paper did" in log
    assert "12 training, 4 test" in log
    assert read(trained("vanilla") / "metrics.json")["selected_on"] == "test"
    log = (trained("val") / "training.log").read_text()
    assert "1 scenes are held out for validation" in log
    assert "8 training, 4 validation, 4 test" in log
    assert "TEST set" not in log
    assert "selected_on" not in read(trained("val") / "metrics.json")


def test_the_best_epoch_has_the_lowest_rmse(trained):
    records = history(trained("vanilla"))
    best = min(range(2), key=lambda i: records[i]["val"]["all"]["rmse"])
    result = read(trained("vanilla") / "metrics.json")
    assert result["epoch"] == best, "published epochs count from 0"
    assert result["shots"]["all"] == records[best]["val"]["all"], "val is the test set"


def test_the_rate_drops_tenfold_every_five_epochs():
    def rates(argv):
        settings = settings_of(train.TASK, "p", "x", argv)
        args = SimpleNamespace(**settings.values())
        rates = partial(learning_rates, settings[Training], Regressor(nn.Linear(1, 1), None))
        return args, [rates(epoch, args.epochs)[0] for epoch in range(args.epochs)]

    args, ten = rates([])
    assert (args.lr, args.weight_decay, args.batch_size, args.loss) == (1e-4, 1e-4, 32, "mse")
    assert ten == pytest.approx([1e-4] * 5 + [1e-5] * 5)
    assert rates(["--epochs", "12"])[1] == pytest.approx([1e-4] * 5 + [1e-5] * 5 + [1e-6] * 2)
    assert rates(["--epochs", "4", "--schedule", "2"])[1] == pytest.approx([1e-4] * 2 + [1e-5] * 2)


def test_published_flags_and_names():
    line = (
        "--epochs 20 --start_epoch 0 --learning-rate 1e-4 --wd 1e-4 --batch_size 32 --store_root x "
        "--store_name y --data_dir d --resume --lds --lds_kernel gaussian --lds_ks 5 --lds_sigma 2 --fds "
        "--fds_kernel gaussian --fds_ks 5 --fds_sigma 2 --start_update 0 --start_smooth 1 --bucket_num 100 "
        "--bucket_start 7 --fds_mmt 0.9 --reweight inverse"
    )
    settings = settings_of(train.TASK, "p", "x", line.split())
    args = SimpleNamespace(**settings.values())
    assert run_name(train.TASK, settings) == "y_lds_gau_5_2_fds_gau_5_2_0_1_0.9_lr_0.0001_bs_32_seed_0"
    assert (args.bucket_num, args.bucket_start, args.resume) == (100, 7, "")


def test_a_checkpoint_has_the_published_keys(trained):
    content = torch.load(trained("lds_fds") / "ckpt.best.pth.tar", weights_only=False)
    assert {"state_dict", "epoch", "error", "metric"} <= content.keys()
    keys = content["state_dict"].keys()
    assert all(key.startswith("module.") for key in keys)
    for key in ("module.R.conv2.weight", "module.R.FDS.running_mean", "module.E.layer1.0.conv1.weight"):
        assert key in keys
    assert content["state_dict"]["module.R.FDS.running_mean"].shape == (93, 80)
    for group in ("overall", "many", "medium", "few"):
        assert {"RMSE", "ABS_REL", "LG10", "MAE", "DELTA1", "DELTA2", "DELTA3", "NUM"} <= content["metric"][
            group
        ].keys()
    assert content["error"] == content["metric"]["overall"]["RMSE"]


def test_fds_sees_its_subset_without_augmentation(folder, monkeypatch):
    """600 images in the real data (FDS 4), 6 here; in train mode."""
    seen = []
    collect = FDS.collect

    def spy(self, features, labels):
        seen.append((len(features), bool(labels.isnan().any())))
        collect(self, features, labels)

    monkeypatch.setattr(FDS, "collect", spy)
    assert call(command(folder, "--fds --epochs 1")) == 0
    assert sum(n for n, _ in seen) == 6
    assert not any(unknown for _, unknown in seen), "no rotation, so no empty corner"


def released(path, trained, name, **change):
    """A checkpoint as the authors published theirs: numpy scalars under an old path, and no more keys."""
    state = torch.load(trained(name) / "ckpt.best.pth.tar")["state_dict"]
    metric = {"overall": {"RMSE": np.float64(1.4), "MSE": 1.96, "NUM": 870201}}
    content = {"state_dict": state, "epoch": 9, "error": np.float64(1.4), "metric": metric} | change
    torch.save(content, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert b"numpy.core.multiarray" in path.read_bytes()
    return path


@pytest.mark.parametrize("name", ["lds", "lds_fds"])
@pytest.mark.parametrize("flags", ["", "--fds"])
def test_a_released_checkpoint_is_evaluated(trained, folder, tmp_path, capsys, name, flags):
    path = released(tmp_path / "released.pth.tar", trained, name)
    argv = command(folder, flags, f"--evaluate --eval_model {path} --metrics_json m.json")
    assert call(argv) == 0
    mine = read(tmp_path / "m.json")
    assert mine["shots"] == read(trained(name) / "metrics.json")["shots"]
    assert "(epoch 10)" in capsys.readouterr().out
    assert not (tmp_path / "checkpoint").exists()


def test_the_published_test_script_evaluates_without_training_images(trained, folder, tmp_path):
    """As the README of the published code has it; a process of its own, as a user's."""
    copy = shutil.copytree(folder, tmp_path / "test_only")
    shutil.rmtree(copy / "nyu2_train")
    (copy / "nyu2_train.csv").unlink()
    flags = "--model resnet18 --img_size 36 --device cpu --metrics_json m.json"
    argv = [
        "--eval_model",
        str(trained("lds") / "ckpt.best.pth.tar"),
        "--data_dir",
        str(copy),
        *flags.split(),
    ]
    done = subprocess.run(
        [sys.executable, str(ROOT / "nyud2-dir" / "test.py"), *argv],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    mine, theirs = (read(f)["shots"]["all"] for f in (tmp_path / "m.json", trained("lds") / "metrics.json"))
    assert mine == pytest.approx(theirs, rel=1e-5)


def test_a_checkpoint_of_another_model_is_refused(trained, folder, capsys):
    argv = command(folder, f"--model resnet50 --evaluate --eval_model {trained('lds') / 'ckpt.best.pth.tar'}")
    refused(argv, capsys, "ckpt.best.pth.tar", "--model")


def test_rrt_retrains_r(trained, folder, capsys):
    pretrained = trained("fds") / "ckpt.best.pth.tar"
    argv = command(folder, f"--retrain_fc --pretrained {pretrained} --reweight inverse --seed 3")
    assert call(argv) == 0
    assert "RRT: the encoder is frozen, a fresh R is trained" in capsys.readouterr().out
    before = torch.load(pretrained)["state_dict"]
    after = torch.load(run_dir(argv) / "ckpt.pth.tar")["state_dict"]
    for key, value in after.items():
        if key.endswith((".running_mean", ".running_var", "num_batches_tracked")):
            continue
        assert torch.equal(value, before[key]) == (not key.startswith("module.R.")), key


# --- bad input


def test_a_weird_size_and_buckets(folder, capsys):
    refused(command(folder, "--img_size 100"), capsys, "--img_size 100", "multiple of 12")
    refused(command(folder, "--bucket_num 101"), capsys, "--bucket_num", "100 bins")
    refused(command(folder, "--start_epoch 2"), capsys, "--start_epoch 2", "--epochs 2")


def test_missing_data_and_files(folder, tmp_path, capsys):
    refused(command(tmp_path / "nowhere"), capsys, "nyu2_test.csv: there is no such file", "scripts/")
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "nyu2_train/room_0001_out/4.png").unlink()
    refused(command(copy), capsys, "4.png: there is no such file")
    (copy / "test_balanced_mask.npy").unlink()
    refused(command(copy), capsys, "test_balanced_mask.npy", "prepare.py nyud2")
    assert not (tmp_path / "checkpoint").exists() or not any((tmp_path / "checkpoint").iterdir())


def test_a_bin_with_no_pixel_trains(tmp_path):
    """Planes that end at 5 m: few-shot bins have no training pixel, FDS leaves them as they are."""
    folder = tiny_nyud2(tmp_path / "near")
    counts = read(folder / "depth_counts.json")
    assert counts["counts"][50] > 0
    counts["counts"][50] = 0
    (folder / "depth_counts.json").write_text(json.dumps(counts))
    argv = command(folder, "--reweight inverse --fds --start_smooth 0")
    assert call(argv) == 0
    state = torch.load(run_dir(argv) / "ckpt.pth.tar")["state_dict"]
    assert state["module.R.FDS.running_var"].isfinite().all()


# --- exact resumption


EXACT = "--lds --fds --start_smooth 0 --epochs 3"


@pytest.fixture(scope="module")
def undisturbed(folder, tmp_path_factory):
    argv = command(folder, EXACT)
    with contextlib.chdir(tmp_path_factory.mktemp("undisturbed")):
        assert call(argv) == 0
        return outcome(run_dir(argv))


MOMENTS = {  # where it resumes
    "in the middle of an epoch": (engine.Run, "step", 5, 3),
    "in the middle of the statistics of FDS": (FDS, "collect", 3, 3),
    "between the statistics and the check": (FDS, "update", 2, 3),
    "while it writes the checkpoint": (os, "fsync", 4, 6),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_kill_at_this_moment_resumes_exactly(folder, undisturbed, capsys, moment):
    argv = command(folder, EXACT)
    target, name, number, step = MOMENTS[moment]
    pid = in_child(lambda: call(argv), lambda: killed_at(target, name, number))
    assert ended(pid) == -signal.SIGKILL
    assert not (run_dir(argv) / "metrics.json").exists()
    capsys.readouterr()
    assert call(argv) == 0
    assert f"at step {step} of at most 9" in capsys.readouterr().out
    assert_same_end(run_dir(argv), undisturbed)


def test_start_epoch_counts_from_there(folder):
    argv = command(folder, "--start_epoch 1 --epochs 3")
    assert call(argv) == 0
    assert [record["epoch"] for record in history(run_dir(argv))] == [2, 3]


def test_a_finished_run_says_so(trained, folder, capsys):
    argv = command(folder, f"--store_root {trained('vanilla').parent} --store_name vanilla")
    before = outcome(trained("vanilla"))
    capsys.readouterr()
    assert call(argv) == 0
    assert "is finished" in capsys.readouterr().out
    assert same(outcome(trained("vanilla")), before)


def test_a_loss_that_is_not_finite_names_the_step(folder, capsys):
    assert call(command(folder, "--lr 1e30")) == 1
    error = capsys.readouterr().err
    assert f"{PROG}: error: the " in error
    assert "not finite" in error or "nan" in error
