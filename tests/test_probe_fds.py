"""scripts/probe_fds.py: what calibration tells a reader, on statistics that are made so, and on runs."""

import json

import numpy as np
import pandas as pd
import probe_fds
import pytest
import torch
from plotting.fds_probe import BINS, PARTS, buckets, measured, rows_of, thirds_of_bins
from test_tabular import run, written
from torch import nn

from common import cli
from common.bins import Bins
from common.fds import FDS
from common.task import Batch
from common.training.regressor import Regressor

NOISE = 0.5


class Vectors:
    """Features of N(0, 0.5), three of them, that know nothing of their labels."""

    lengths = None

    def __init__(self, labels, seed):
        self.labels = np.array(labels, np.float32)
        noise = np.random.default_rng(seed).normal(0, NOISE, (len(labels), 3))
        self.x = torch.tensor(noise, dtype=torch.float32)

    def __len__(self):
        return len(self.labels)

    def batches(self, draws, *, augment, device):
        assert not augment
        for draw in draws:
            yield Batch(self.x[draw.indices], torch.tensor(self.labels[draw.indices])[:, None], None)


class Encoder(nn.Module):
    feature_dim = 3

    def forward(self, x):
        return x


def model():
    """A head whose answer is its first feature."""
    head = nn.Linear(3, 1)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, 0, 0]]))
        head.bias.zero_()
    return Regressor(Encoder(), head).eval()


def telling(buckets_):
    """Statistics that add its label's bin to a feature: all is calibrated from mean 0 to the bin's number."""
    fds = FDS(3, buckets_, 0, ks=1, bins=Bins.integers(0, buckets_ - 1))
    fds.smoothed_mean_last_epoch.copy_(torch.arange(float(buckets_))[:, None].expand(-1, 3))
    return fds


def read(fds, train, test):
    """The error by reader, split, part and what calibrated the features."""
    thirds = thirds_of_bins(fds, train.labels)
    parts = {
        name: rows_of(model(), fds, split, train.labels, thirds, 16)
        for name, split in (("train", train), ("test", test))
    }
    frame = pd.DataFrame(measured(model(), parts, "mae"))
    return frame.set_index(["reader", "split", "part", "features"])["error"].sort_index()


def test_a_label_that_calibration_tells_is_read_by_the_head_and_by_a_new_reader():
    train, test = Vectors([0] * 80 + [1] * 60 + [2] * 40 + [3] * 20, 0), Vectors([0, 1, 2, 3] * 20, 1)
    found = read(telling(4), train, test)
    for split, labels in (("train", train.labels), ("test", test.labels)):
        noise = NOISE * np.sqrt(2 / np.pi)
        head = found["head", split, "all"]
        assert head["true bin"] == pytest.approx(noise, rel=0.15)
        assert head["raw"] > 1.5 * noise and head["random bin"] > 1.5 * noise
        raw = (train if split == "train" else test).x[:, 0].numpy()
        assert head["raw"] == pytest.approx(np.abs(raw - labels).mean(), rel=1e-5)
        ridge = found["ridge", split, "all"]
        assert ridge["true bin"] < 0.5 * ridge["raw"]  # three features tell the bin better than one
        assert ridge["true bin"] < 0.8 * noise
        assert ridge["random bin"] == pytest.approx(ridge["raw"], rel=0.2)


def test_parts_are_thirds_of_bins_by_training_rows():
    train, test = Vectors([0] * 80 + [1] * 60 + [2] * 40, 0), Vectors([2, 2, 0, 1, 3], 1)
    fds = telling(4)
    assert thirds_of_bins(fds, train.labels).tolist() == [
        2,
        1,
        0,
        0,
    ]  # a bin without a row is among the emptiest
    assert buckets(fds, np.array([-3, 2.0, 9])).tolist() == [0, 2, 3]
    found = read(fds, train, test)["head", "test"].xs("raw", level="features")
    errors = np.abs(test.x[:, 0].numpy() - test.labels)
    order = {"emptiest": [0, 1, 4], "middle": [3], "fullest": [2], "all": [0, 1, 2, 3, 4]}
    for part in PARTS:
        assert found[part] == pytest.approx(errors[order[part]].mean(), rel=1e-5)


def test_with_one_bin_calibration_changes_nothing():
    train, test = Vectors([0] * 40, 0), Vectors([0] * 10, 1)
    fds = FDS(3, 1, 0, ks=1, bins=Bins.integers(0, 0))
    for epoch in (0, 1):
        fds.update_last_epoch_stats(epoch)
        fds.update_running_stats(train.x, torch.tensor(train.labels), epoch)
    assert fds.smoothed_mean_last_epoch.any()
    found = read(fds, train, test)["head"].unstack()
    for name in BINS[1:]:
        assert found[name].equals(found["raw"])


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("probe")
    csv = written(folder)
    more = "--bins 10 --max_vals 12"
    return {
        name: run(csv, folder / name, f"{more} {name}")
        for name in ("--fds", "--fds --fds_mmt 0.5", "--lr 1e-4")
    }


def call(*argv):
    return cli.run_command("scripts/probe_fds.py", lambda: probe_fds.main([str(word) for word in argv]))


@pytest.mark.slow
def test_raw_features_of_a_run_err_as_its_test_did(runs, tmp_path, capsys):
    with_fds = [runs["--fds"], runs["--fds --fds_mmt 0.5"]]
    assert call(*with_fds, "--out", tmp_path / "new" / "p.png") == 0
    text = capsys.readouterr().out
    found = pd.read_csv(tmp_path / "new" / "p.csv")
    assert set(found["run"]) == {"FDS, fds_mmt 0.5", "FDS, fds_mmt 0.9"}
    assert set(BINS) < set(found)
    assert len(found) == 2 * 2 * 2 * len(PARTS) and (tmp_path / "new" / "p.png").stat().st_size
    for folder in with_fds:
        told = json.loads((folder / "metrics.json").read_text())["shots"]["all"]
        mmt = json.loads((folder / "args.json").read_text())["fds_mmt"]
        one = found[(found["fds_mmt"] == mmt) & (found["reader"] == "head") & (found["split"] == "test")]
        one = one[one["part"] == "all"].iloc[0]
        assert one["raw"] == pytest.approx(told["mae"], rel=1e-4)
        assert one["n"] == told["n"]
        assert one["true bin"] != one["raw"]
        assert f"{one['true bin']:.3f}" in text


@pytest.mark.slow
def test_runs_of_several_tables_are_refused(runs, tmp_path, capsys):
    other = run(written(tmp_path, name="other.csv"), tmp_path / "other", "--fds")
    assert call(runs["--fds"], other, "--out", tmp_path / "p.png") == 2
    assert "is on other data" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_without_fds_is_refused_in_one_line(runs, tmp_path, capsys):
    assert call(runs["--lr 1e-4"], "--out", tmp_path / "p.png") == 2
    error = capsys.readouterr().err
    assert (
        error.count("\n") == 1
        and f"{runs['--lr 1e-4']}: was trained without --fds, so nothing was calibrated" in error
    )
    assert not (tmp_path / "p.csv").exists()
