"""scripts/feature_statistics.py: statistics and similarities of bins, on arrays and on tiny runs."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import sts_corpus
import torch
from drawn import call, drawn, legend
from plotting.feature_statistics import (
    Statistics,
    collect,
    cosine,
    from_buffers,
    from_training_set,
    run_again,
)
from plotting.finished_runs import read_run
from plotting.label_counts import of_run
from tiny_faces import command, trained_in, write_faces

from common.bins import Bins
from common.errors import UserError
from common.method import choose_methods
from common.task import Batch, Draw, load_task
from common.training import checkpoint
from common.training.regressor import build_regressor, load_model

pytestmark = pytest.mark.slow

BUCKETS = range(5, 40)
WITH_FDS = "--fds --start_smooth 0 --epoch 3 --bucket_start 5 --bucket_num 40"


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    return write_faces(tmp_path_factory.mktemp("faces") / "data")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def smoothed(faces, root):
    """A run whose FDS has smoothed."""
    return last_is_best(trained_in(root, command(faces, WITH_FDS)))


@pytest.fixture(scope="module")
def vanilla(faces, root):
    return trained_in(root, command(faces))


@pytest.fixture
def figures(monkeypatch):
    return drawn(monkeypatch)


def last_is_best(run):
    """The run, as if its last epoch had been its best; only then has FDS smoothed."""
    (run / "ckpt.best.pth.tar").unlink()
    shutil.copy(run / "ckpt.pth.tar", run / "ckpt.best.pth.tar")
    return run


def read(folder):
    """The run and its training labels."""
    run = read_run(folder)
    return run, of_run(run.task, run.settings)


def buffers_of(run):
    state = torch.load(run / "ckpt.best.pth.tar")["state_dict"]
    return {key.removeprefix("module.FDS."): value.numpy() for key, value in state.items() if ".FDS." in key}


# --- on arrays


def test_cosine_is_the_cosine():
    table = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 2.0], [-3.0, 0.0], [0.0, 0.0], [5.0, 5.0]])
    full = np.array([True, True, True, True, True, False])
    expected = [1, np.sqrt(0.5), 0, -1, np.nan, np.nan]  # no length, no sample: no cosine
    assert cosine(table, 0, full) == pytest.approx(expected, nan_ok=True)
    assert np.isnan(cosine(table, 4, full)).all()


def test_collect_gives_mean_and_unbiased_variance_of_each_bin():
    """Two batches; a bin of one sample has variance 0, one without a sample is known by its count."""
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(20, 3)).astype(np.float32), np.array([0, 1] * 9 + [2, 4])

    class Split:
        lengths = None
        labels = np.zeros(20)

        def __len__(self):
            return 20

        def batches(self, draws, *, augment, device):
            assert not augment
            for draw in draws:
                inputs, targets = x[draw.indices], labels[draw.indices, None]
                yield Batch(torch.from_numpy(inputs), torch.from_numpy(targets).float(), None)

    class Model(torch.nn.Linear):
        @staticmethod
        def encoder(inputs):
            return inputs

    Model.encoder.feature_dim = 3

    data = SimpleNamespace(train=Split(), statistics=None, bins=Bins.integers(0, 5))
    found = collect(Model(1, 1), SimpleNamespace(unit="vector"), data, 12, "x")
    for label in (0, 1, 2, 4):
        mine = x[labels == label]
        variance = mine.var(0, ddof=1) if len(mine) > 1 else np.zeros(3)
        assert found.mean[label].numpy() == pytest.approx(mine.mean(0), abs=1e-6)
        assert found.variance[label].numpy() == pytest.approx(variance, abs=1e-6)
    assert found.samples.tolist() == [9, 9, 1, 0, 1, 0]


def test_similarity_is_to_the_bin_of_the_anchor():
    bins = Bins.uniform(0, 5, 10)
    training = SimpleNamespace(centres=lambda bins: bins.left_edges + bins.width / 2)
    mean, variance = torch.eye(4), torch.ones(4, 4)
    statistics = Statistics(mean, variance, torch.tensor([1.0, 2, 0, 3]), bins, first=3)
    found = statistics.similarity(2.1, training)
    assert found.at == pytest.approx([1.75, 2.25, 2.75, 3.25])
    assert found.mean == pytest.approx([0, 1, np.nan, 0], nan_ok=True)
    assert found.variance == pytest.approx([1, 1, np.nan, 1], nan_ok=True)
    for anchor, nearest in ((2.6, "2.25"), (0.1, "1.75"), (99, "3.25")):
        told = f"--anchor {anchor:g}: has no training sample in its bin; the nearest with one is {nearest}"
        with pytest.raises(UserError, match=told):
            statistics.similarity(anchor, training)


# --- on runs


def test_before_and_after_are_the_buffers_of_the_checkpoint(smoothed):
    before, after = from_buffers(*read(smoothed))
    buffers = buffers_of(smoothed)
    assert np.array_equal(before.mean, buffers["running_mean_last_epoch"])
    assert np.array_equal(after.mean, buffers["smoothed_mean_last_epoch"])
    assert np.array_equal(before.variance, buffers["running_var_last_epoch"])
    assert np.array_equal(after.variance, buffers["smoothed_var_last_epoch"])
    assert (before.first, len(before.mean)) == (BUCKETS[0], len(BUCKETS))
    assert not np.array_equal(before.mean, after.mean)


def test_published_buckets_begin_where_the_data_set_says(faces, root):
    """AgeDB-DIR's buckets begin with age 3, where no flag says it."""
    argv = command(faces, "--fds --start_smooth 0 --epoch 3 --store_name published")
    run = last_is_best(trained_in(root, argv))
    before, _ = from_buffers(*read(run))
    assert (before.first, len(before.mean)) == (3, 97)


def test_before_fds_has_smoothed(faces, root):
    run = trained_in(root, command(faces, "--fds --epoch 1"))
    with pytest.raises(UserError, match="is from before FDS smoothed anything"):
        from_buffers(*read(run))


def test_the_pass_is_over_the_training_set_of_the_tested_model(vanilla, faces):
    """Against the features of one image after the other, from the checkpoint that was tested."""
    run, training = read(vanilla)
    found = from_training_set(run, "Vanilla", faces)
    task, settings = load_task("agedb"), run_again(run.settings, faces)
    data = task.load(settings.with_(evaluate=False))
    model = build_regressor(task, settings, data, choose_methods(task, settings)).eval()
    load_model(model, checkpoint.load(vanilla / "ckpt.best.pth.tar"), task, vanilla)
    split, draws = data.train, [Draw(np.array([i]), 0) for i in range(len(data.train))]
    with torch.no_grad():
        features = [
            model.encoder(b.inputs)[0].numpy()
            for b in split.batches(draws, augment=False, device=torch.device("cpu"))
        ]
    assert np.array_equal(found.samples, training.bins.counts(split.labels))
    for age in np.unique(split.labels).astype(int):
        mine = np.array(features)[split.labels == age]
        variance = mine.var(0, ddof=1) if len(mine) > 1 else np.zeros(mine.shape[1])
        assert found.mean[age].numpy() == pytest.approx(mine.mean(0), abs=1e-4)
        assert found.variance[age].numpy() == pytest.approx(variance, abs=1e-4)


def test_one_run_with_fds_is_drawn_before_and_after(smoothed, tmp_path, figures):
    anchor = 10  # most of the tiny faces are young
    assert call("features", smoothed, "--anchor", anchor, "--out", tmp_path / "f.png") == 0
    mean, variance, counts = figures[0].axes
    assert [line.get_label() for line in mean.lines[:2]] == ["before FDS", "after FDS"]
    assert legend(mean) == ["before FDS", "after FDS", "anchor: age 10", "few or no training samples"]
    before = buffers_of(smoothed)["running_mean_last_epoch"]
    x, y = mean.lines[0].get_data()
    assert list(x) == list(BUCKETS)
    here = anchor - BUCKETS[0]
    full = buffers_of(smoothed)["num_samples_tracked"] > 0
    cosines = (
        before[full] @ before[here] / np.linalg.norm(before[full], axis=1) / np.linalg.norm(before[here])
    )
    assert y[full] == pytest.approx(cosines, abs=1e-5)
    assert np.isnan(y[~full]).all()
    assert y[here] == pytest.approx(1)
    assert mean.get_ylabel() == "cosine similarity of\nfeature mean"
    assert variance.get_ylabel() == "cosine similarity of\nfeature variance"
    assert (counts.get_xlabel(), counts.get_ylabel()) == ("age (years)", "training images")
    assert figures[0].get_suptitle() == "AgeDB-DIR: features before and after FDS, FDS"


def test_several_runs_are_drawn_on_the_training_set(smoothed, vanilla, tmp_path, figures, capsys):
    out = tmp_path / "f.svg"
    assert call("features", smoothed, vanilla, "--anchor", 10, "--tensorboard", "--out", out) == 0
    mean = figures[0].axes[0]
    names = [line.get_label() for line in mean.lines[:2]]
    assert [name.split(",")[0] for name in names] == ["Vanilla", "FDS"]
    assert all(np.nanmax(line.get_ydata()) == pytest.approx(1) for line in mean.lines[:2])
    assert out.exists()


def test_bins_with_few_samples_are_shaded(smoothed, tmp_path, figures):
    call("features", smoothed, "--anchor", 10, "--out", tmp_path / "f.png")
    _, training = read(smoothed)
    few = training.shots.counts < training.shots.few_below
    for axes in figures[0].axes:
        spans = [p for p in axes.patches if p.get_alpha()]
        inside = [any(p.get_x() < age < p.get_x() + p.get_width() for p in spans) for age in range(len(few))]
        assert inside == few.tolist()


def test_without_an_anchor_it_is_age_30(smoothed, tmp_path, capsys):
    assert not read(smoothed)[1].shots.counts[30]
    assert call("features", smoothed, "--out", tmp_path / "f.png") == 2
    assert "--anchor 30: has no training sample in its bin" in capsys.readouterr().err


def test_an_anchor_without_a_sample(smoothed, tmp_path, capsys):
    _, training = read(smoothed)
    empty = next(age for age in BUCKETS if not training.shots.counts[age])
    assert call("features", smoothed, "--anchor", empty, "--out", tmp_path / "f.png") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"--anchor {empty}: has no training sample in its bin; the nearest with one is" in error
    assert not (tmp_path / "f.png").exists()


def test_sentence_pairs_too(tmp_path, monkeypatch, figures):
    """Bins of fractions, the middle one for an anchor; flags that are newer than the run have defaults."""
    monkeypatch.chdir(tmp_path)
    argv = sts_corpus.command(sts_corpus.write_corpus(tmp_path / "corpus"), "--bucket_num 10")
    assert sts_corpus.call(argv) == 0
    run = sts_corpus.run_dir(argv)
    args = json.loads((run / "args.json").read_text())
    del args["n_layers_highway"]
    (run / "args.json").write_text(json.dumps(args))
    assert call("features", run, "--out", "f.png") == 0
    mean = figures[0].axes[0]
    assert mean.lines[0].get_xdata() == pytest.approx(np.arange(10) / 2 + 0.25)
    assert mean.lines[0].get_ydata()[5] == pytest.approx(1)
    assert legend(mean)[:2] == ["Vanilla", "anchor: similarity score 2.75"]
    assert "STAND-IN" in figures[0].get_suptitle()
