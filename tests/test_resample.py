"""SMOTER and SMOGN: what a plan may hold, what the mixed inputs are, and runs that are killed and go on."""

import dataclasses
import os
import signal

import numpy as np
import pytest
import sts_corpus
import tiny_faces
import torch
import toy
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from runs import assert_same_end, in_child, killed_at, outcome, read
from sts_corpus import train as sts
from sts_model import Mix, PairEncoder
from sts_resample import resample_pairs
from sts_text import PairSplit

from common.bins import Bins
from common.datasets.faces import read_faces
from common.images.resample import SMALL, resample_faces
from common.images.split import load_faces
from common.method import choose_methods
from common.methods import resample
from common.methods.resample import NOISE_RATIO, few_rows, make_plan
from common.metrics import Shots
from common.task import Draw, load_task
from common.training import engine
from common.training.command import run_name, settings_of

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
BINS = Bins.integers(0, 60)


def shots_of(labels, many=8, few=4):
    return Shots(BINS, BINS.counts(labels), many, few)


def planner(name, labels, shots, seed=0):
    """What `--resample NAME` plans for a training set of these labels, from the features of few-shot rows."""
    plans = []

    class Training:
        def __init__(self):
            self.labels = labels

        def resampled(self, rows, plan):
            assert rows.tolist() == few_rows(labels, shots).tolist()
            plans.append(plan)

    settings = toy.settings_of("runs", f"--resample {name} --neighbours 3 --seed {seed}")
    [method] = [m for m in choose_methods(toy.TASK, settings) if m.name() == "resample"]
    method.prepare(dataclasses.replace(toy.load(), train=Training(), shots=shots))
    return plans[0]


@st.composite
def training_sets(draw):
    """Labels whose counts differ widely, some not whole, and features that may coincide."""
    bins = draw(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), min_size=1, max_size=12))
    labels = np.concatenate([np.full(times, label) for label, times in bins]).astype(np.float32)
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    labels += np.float32(draw(st.sampled_from([0, 0.5]))) * rng.random(len(labels), np.float32)
    labels, shots = rng.permutation(labels), shots_of(labels)
    width = draw(st.sampled_from([1, 5]))
    features = rng.integers(0, draw(st.sampled_from([1, 3, 1000])), (len(few_rows(labels, shots)), width))
    return labels, shots, features.astype(np.float32)


# The plan


@settings(max_examples=150)
@given(training_sets(), st.booleans(), st.integers(1, 7), st.integers(0, 2**63 - 1))
def test_a_plan_keeps_to_the_rules(data, noise, neighbours, seed):
    labels, shots, features = data
    made = make_plan(labels, shots, features, neighbours=neighbours, noise=noise, seed=seed)
    new, kept = slice(made.kept, None), slice(made.kept)
    assert len(made.first) == len(made.second) == len(made.share) == len(made.noise) == len(made.labels)

    # Kept samples are themselves; all but some of the many-shot ones are kept, in their order.
    assert np.array_equal(made.labels[kept], labels[made.first[kept]])
    assert np.array_equal(made.first[kept], made.second[kept])
    assert (np.diff(made.first[kept]) > 0).all()
    assert not made.share[kept].any() and not made.noise[kept].any()
    lost = np.setdiff1d(np.arange(len(labels)), made.first[kept])
    assert (shots.of(labels[lost]) == "many").all()
    limit = max(shots.counts[shots.counts > 0].mean(), shots.many_above)
    left = shots.bins.counts(made.labels[kept])
    assert np.array_equal(left, np.minimum(shots.counts, np.ceil(limit)))

    # Synthetic samples fill every few-shot bin, from cases of the bin and neighbours of the region.
    cases, others = labels[made.first[new]], labels[made.second[new]]
    few = (shots.counts > 0) & (shots.counts < shots.few_below)
    assert np.array_equal(shots.bins.counts(cases) if len(cases) else 0 * few, (few * (4 - shots.counts)))
    assert (shots.of(made.labels[new]) == "few").all()
    for low, high in np.sort(np.c_[cases, others], axis=1):
        between = labels[(labels >= low) & (labels <= high)]
        assert (shots.of(between) == "few").all()

    # Labels lie between those of the parents, by the share; noise and mixing exclude each other.
    share, noisy = made.share[new], made.noise[new] > 0
    assert ((share >= 0) & (share <= 1)).all()
    assert not share[noisy].any() and np.array_equal(made.first[new][noisy], made.second[new][noisy])
    np.testing.assert_allclose(made.labels[new][~noisy], ((1 - share) * cases + share * others)[~noisy], 1e-5)
    assert noise or not noisy.any()
    assert not len(cases) or labels.min() <= made.labels.min() <= made.labels.max() <= labels.max()


@given(training_sets(), st.booleans())
def test_a_plan_follows_from_the_seed(data, noise):
    labels, shots, features = data
    assume(len(features))
    first, again, other = (
        make_plan(labels, shots, features, neighbours=3, noise=noise, seed=seed) for seed in (1, 1, 2)
    )
    assert all(np.array_equal(mine, vars(again)[name]) for name, mine in vars(first).items())
    assert not np.array_equal(first.share, other.share) or not np.array_equal(first.noise, other.noise)


def line(positions, labels=None, **how):
    """A plan over one region of few-shot labels, of these positions in feature space."""
    labels = np.arange(len(positions), dtype=np.float32) if labels is None else np.float32(labels)
    shots = shots_of(labels, few=how.pop("few", 40))
    return make_plan(labels, shots, np.float32(positions).reshape(len(positions), -1), seed=0, **how)


def test_neighbours_are_the_nearest_in_feature_space():
    made = line([0, 100, 1, 101, 2, 102], neighbours=2, noise=False)
    pairs = {tuple(pair) for pair in np.c_[made.first, made.second][made.kept :].tolist()}
    assert pairs == {(a, b) for a in range(6) for b in range(6) if a != b and a % 2 == b % 2}
    nearest = line([0, 1, 3, 6], neighbours=1, noise=False)
    pairs = {tuple(pair) for pair in np.c_[nearest.first, nearest.second][nearest.kept :].tolist()}
    assert pairs == {(0, 1), (1, 0), (2, 1), (3, 2)}


def test_more_neighbours_than_there_are_is_all_there_are():
    made = line([0, 1, 3], neighbours=99, noise=False)
    assert len({tuple(pair) for pair in np.c_[made.first, made.second][made.kept :].tolist()}) == 6


@pytest.mark.parametrize("noise", [True, False])
def test_a_distance_matrix_in_blocks_is_the_same(noise, monkeypatch):
    positions = np.random.default_rng(0).random(20)
    whole = line(positions, neighbours=4, noise=noise)
    monkeypatch.setattr(resample, "BLOCK", 3)
    assert all(
        np.array_equal(v, vars(whole)[n]) for n, v in vars(line(positions, neighbours=4, noise=noise)).items()
    )


def test_smogn_mixes_only_within_half_the_median_distance():
    positions = [0, 1, 10, 11, 20]  # from 0: 1, 10, 11, 20, so up to 5.25; from 20: 9, 10, 19, 20, up to 7.25
    made = line(positions, neighbours=2, noise=True)
    cases, others, noisy = (v[made.kept :] for v in (made.first, made.second, made.noise > 0))
    mixed = {tuple(pair) for pair in np.c_[cases, others][~noisy].tolist()}
    assert mixed == {(0, 1), (1, 0), (2, 3), (3, 2)}
    assert set(cases[noisy]) == set(range(5))  # the second neighbour is too far from each
    assert noisy[cases == 4].all()


def test_noise_on_a_label_has_a_tenth_of_the_deviation_of_its_region():
    labels = np.linspace(0, 50, 51)
    made = line(np.eye(51), labels, neighbours=3, noise=True, few=400)  # all are as far from each other
    noisy = made.noise > 0
    assert noisy.sum() == 51 * 399
    moved = (made.labels - labels[made.first])[noisy & (abs(labels[made.first] - 25) < 15)]
    assert moved.std() == pytest.approx(NOISE_RATIO * labels.std(), rel=0.05)
    assert abs(moved.mean()) < 0.1
    assert len(set(made.noise[noisy])) == noisy.sum()  # each its own


def test_regions_are_apart_where_another_label_lies_between():
    labels = np.repeat([3, 4, 20, 40, 41], [2, 1, 30, 2, 2]).astype(np.float32)
    shots = shots_of(labels)
    features = np.float32([0, 9, 5, 1, 8, 2, 7])[:, None]  # nearer to the other region than to their own
    made = make_plan(labels, shots, features, neighbours=5, noise=False, seed=0)
    sides = labels[np.c_[made.first, made.second][made.kept :]] < 20
    assert (sides[:, 0] == sides[:, 1]).all() and set(sides[:, 0]) == {True, False}


def test_a_case_that_is_alone_is_repeated_or_gets_noise():
    labels = np.repeat([3, 20], [1, 30]).astype(np.float32)
    shots, features = shots_of(labels), np.ones((1, 2), np.float32)
    repeated = make_plan(labels, shots, features, neighbours=5, noise=False, seed=0)
    assert np.array_equal(repeated.labels[repeated.kept :], [3, 3, 3]) and not repeated.noise.any()
    noisy = make_plan(labels, shots, features, neighbours=5, noise=True, seed=0)
    assert np.array_equal(noisy.labels[noisy.kept :], [3, 3, 3]) and noisy.noise[noisy.kept :].all()


def test_nothing_few_and_nothing_many_changes_nothing(capsys):
    labels = np.repeat([3, 4], 6).astype(np.float32)
    made = planner("smoter", labels, shots_of(labels))(np.zeros((0, 2)))
    assert np.array_equal(made.labels, labels) and made.kept == 12


def test_the_log_counts(caplog):
    labels = np.repeat([3, 4, 20], [1, 2, 60]).astype(np.float32)
    features = np.zeros((3, 2))
    with caplog.at_level("INFO", "dir"):
        planner("smoter", labels, shots_of(labels))(features)
        planner("smogn", labels, shots_of(labels))(features)
    told = "63 training samples became 29: 24 kept, 39 of many-shot labels left out, "
    told += "5 of few-shot labels synthetic"
    assert caplog.messages == [f"SMOTER: {told}", f"SMOGN: {told} (by noise: 5)"]


# Images


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    return tiny_faces.write_faces(tmp_path_factory.mktemp("faces"))


def resampled(faces, method, cache="off", **how):
    split = load_faces(read_faces(faces / "agedb.csv"), img_size=16, cache=cache)["train"]
    shots = Shots(BINS, BINS.counts(split.labels), 3, 2)
    rows, plan = few_rows(split.labels, shots), planner(method, split.labels, shots, **how)
    return split, resample_faces(split, rows, plan)


def one_batch(split, indices, augment=False):
    return next(split.batches([Draw(np.asarray(indices), 5)], augment=augment, device=CPU))


@pytest.mark.parametrize("method", ["smoter", "smogn"])
def test_images_are_those_of_the_plan(faces, method):
    split, mine = resampled(faces, method)
    made, everything = mine.plan, np.arange(len(mine))
    images = one_batch(mine, everything).inputs * 127.5 + 127.5
    first, second = (one_batch(split, rows).inputs * 127.5 + 127.5 for rows in (made.first, made.second))
    share = torch.from_numpy(made.share)[:, None, None, None]
    straight = made.noise == 0
    assert torch.equal(images[: made.kept], first[: made.kept])
    assert abs(images - torch.lerp(first, second, share))[straight].max() <= 0.501  # rounded to 8 bits
    assert (images[made.kept :] != first[made.kept :]).any() and (made.share[made.kept :] > 0).any()
    if method == "smogn":
        added = ((images - first) / torch.from_numpy(mine.spread)[:, None, None])[~straight]
        unclipped = (first[~straight] > 50) & (first[~straight] < 205)
        assert added[unclipped].std() == pytest.approx(NOISE_RATIO, rel=0.1)
    assert np.array_equal(one_batch(mine, everything).targets[:, 0], made.labels)


def test_a_synthetic_image_is_the_same_in_every_batch_and_is_cropped_whole(faces):
    _, mine = resampled(faces, "smogn")
    rows = np.flatnonzero(mine.plan.noise)[:3]
    alone, among = one_batch(mine, rows), one_batch(mine, [0, *rows, 1])
    assert torch.equal(alone.inputs, among.inputs[1:4])
    assert torch.equal(one_batch(mine, rows, True).inputs, one_batch(mine, rows, True).inputs)


def test_the_plan_does_not_depend_on_the_cache(faces, tmp_path):
    (_, off), (_, on) = resampled(faces, "smogn"), resampled(faces, "smogn", cache=str(tmp_path))
    assert off.images is None and on.images is not None
    assert all(np.array_equal(value, vars(on.plan)[name]) for name, value in vars(off.plan).items())
    rows = np.arange(len(on))
    assert torch.equal(one_batch(on, rows).inputs, one_batch(off, rows).inputs)


def test_small_images_have_the_spread_of_large_ones(faces):
    split, mine = resampled(faces, "smogn")
    rows = few_rows(split.labels, Shots(BINS, BINS.counts(split.labels), 3, 2))
    pixels = one_batch(split, rows).inputs * 127.5 + 127.5
    assert split.size == SMALL  # so they are the same here
    np.testing.assert_allclose(mine.spread, pixels.transpose(0, 1).flatten(1).std(1, correction=0), 1e-4)


# Sentences

VECTORS = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
VECTORS[0] = 9  # of padding: from scratch it is not zero, and must not matter


@pytest.fixture(scope="module")
def pairs():
    rng = np.random.default_rng(0)
    labels = np.repeat([5, 6, 7, 30, 50], [2, 3, 1, 40, 1]).astype(np.float32)
    sides = [[rng.integers(1, 30, rng.integers(1, 9)).tolist() for _ in labels] for _ in range(2)]
    return PairSplit(*sides, labels)


def encoder():
    torch.manual_seed(0)
    return PairEncoder(VECTORS, 3, 1, 0.0).eval()


def resampled_pairs(pairs, method):
    shots = shots_of(pairs.labels)
    rows, plan = few_rows(pairs.labels, shots), planner(method, pairs.labels, shots)
    return resample_pairs(pairs, VECTORS, rows, plan)


def sentence(encoder, vectors):
    """The feature of one sentence from its word vectors, without packing or padding."""
    return torch.nn.LSTM.forward(encoder.lstm, vectors[:, None])[0].max(0).values[0]


def padded(words, length):
    return torch.cat([VECTORS[words], torch.zeros(length - len(words), 4)])


@pytest.mark.parametrize("method", ["smoter", "smogn"])
def test_mixed_pairs_are_those_of_the_plan(pairs, method):
    mine, model = resampled_pairs(pairs, method), encoder()
    made, inputs = mine.plan, one_batch(mine, np.arange(len(mine))).inputs
    features, noise = model(inputs), inputs[2].noise.reshape(2, len(mine), -1, 4)
    assert (made.share > 0).sum() > 5 if method == "smoter" else (made.noise > 0).sum() > 5
    for row in range(len(mine)):
        sides = []
        for number, side in enumerate((pairs.first, pairs.second)):
            a, b = side[made.first[row]], side[made.second[row]]
            length = max(len(a), len(b))
            words = torch.lerp(padded(a, length), padded(b, length), float(made.share[row]))
            sides.append(sentence(model, words + noise[number, row, :length]))
        u, v = sides
        torch.testing.assert_close(features[row], torch.cat([u, v, (u - v).abs(), u * v]))


def test_a_pair_is_the_same_in_every_batch(pairs):
    mine, model = resampled_pairs(pairs, "smogn"), encoder()
    synthetic = np.arange(mine.plan.kept, len(mine))
    alone = torch.cat([model(one_batch(mine, [row]).inputs) for row in synthetic])
    torch.testing.assert_close(model(one_batch(mine, [0, 1, 2, *synthetic]).inputs)[3:], alone)


def test_noise_on_words_has_a_tenth_of_their_deviation(pairs):
    mine = resampled_pairs(pairs, "smogn")
    noisy = np.flatnonzero(mine.plan.noise)
    _, lengths, mix = one_batch(mine, noisy).inputs
    few = few_rows(pairs.labels, shots_of(pairs.labels))
    words = torch.cat([VECTORS[side[row]] for row in few for side in (pairs.first, pairs.second)])
    torch.testing.assert_close(mine.spread, words.std(0, correction=0))
    for noise, length in zip(mix.noise, lengths, strict=True):
        assert (noise[:length] != 0).all() and not noise[length:].any()
    real = torch.cat([noise[:length] for noise, length in zip(mix.noise, lengths, strict=True)])
    assert (real / mine.spread).std() == pytest.approx(NOISE_RATIO, rel=0.15)


def test_what_is_not_mixed_is_read_bit_for_bit_as_without_resampling(pairs):
    mine, model = resampled_pairs(pairs, "smogn"), encoder()
    rows = np.arange(mine.plan.kept)
    batch, plain = one_batch(mine, rows), one_batch(pairs, mine.plan.first[rows])
    assert len(batch.inputs) == 2 and all(map(torch.equal, batch.inputs, plain.inputs))
    among = model(one_batch(mine, np.arange(len(mine))).inputs)[: len(rows)]
    torch.testing.assert_close(among, model(plain.inputs))


def test_word_vectors_learn_from_mixed_pairs():
    model = PairEncoder(VECTORS, 3, 1, 0.0, train_words=True)
    mix = Mix(torch.tensor([[3, 4], [5, 0]]), torch.full((2, 1, 1), 0.5), torch.zeros(2, 2, 4))
    model((torch.tensor([[1, 0], [2, 6]]), torch.tensor([2, 2]), mix)).sum().backward()
    moved = model.embedding.weight.grad.abs().sum(1).nonzero()[:, 0].tolist()
    assert set(moved) <= {1, 2, 3, 4, 5, 6} and len(moved) >= 4


# The command line


def test_a_run_is_named_after_its_resampling():
    for flag, name in (
        ("", "sts_lds_gau_5_2_"),
        ("--resample none", "sts_lds_"),
        ("--resample smogn", "sts_smogn_lds_"),
    ):
        settings = settings_of(sts.TASK, "p", "x", ["--lds", *flag.split()])
        assert run_name(sts.TASK, settings).startswith(name)


def test_each_data_set_has_the_neighbours_of_the_paper():
    for name, neighbours in (("sts-b", 7), ("agedb", 5), ("imdb-wiki", 5)):
        assert settings_of(load_task(name), "p", "x", []).values()["neighbours"] == neighbours


def test_a_data_set_without_these_baselines_does_not_offer_them(capsys):
    task = load_task("nyud2")
    with pytest.raises(SystemExit):
        settings_of(task, "p", "x", ["--resample", "smoter"])
    assert "unknown argument --resample" in capsys.readouterr().err
    assert run_name(task, settings_of(task, "p", "x", ["--lds"])).startswith("nyud2_lds_gau_5_2_lr_")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("--resample smote", "invalid choice: 'smote'"),
        ("--neighbours 0", "'0' is no whole number of at least 1"),
    ],
)
def test_a_wrong_value_is_named(given, told, capsys):
    assert sts_corpus.call(given.split()) == 2
    assert told in capsys.readouterr().err


# Runs


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return sts_corpus.write_corpus(tmp_path_factory.mktemp("corpus"))


RUNS = {
    "faces": (tiny_faces, "--resample smogn --lds --fds --start_smooth 0", 9),
    "sts-b": (sts_corpus, "--resample smogn --lds --fds --start_smooth 0", 13),
    "sts-b smoter": (sts_corpus, "--resample smoter --reweight sqrt_inv", 7),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_that_is_killed_ends_bit_for_bit_the_same(name, faces, corpus, tmp_path, monkeypatch, capsys):
    module, given, step = RUNS[name]
    argv = module.command(faces if module is tiny_faces else corpus, given)
    (tmp_path / "whole").mkdir()
    monkeypatch.chdir(tmp_path / "whole")
    assert module.call(argv) == 0
    told, expected = capsys.readouterr().out, outcome(module.run_dir(argv))
    monkeypatch.chdir(tmp_path)
    pid = in_child(lambda: module.call(argv), lambda: killed_at(engine.Run, "step", step))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert not (module.run_dir(argv) / "metrics.json").exists()
    assert module.call(argv) == 0
    assert_same_end(module.run_dir(argv), expected)
    assert f"{given.split()[1].upper()}: " in told and "training samples became" in told


def test_weights_count_the_resampled_training_set(faces, monkeypatch, tmp_path):
    """SQINV over few- and many-shot labels: resampling narrows the range of weights."""
    seen = {}
    monkeypatch.setattr(engine.Run, "train", lambda run: seen.update(data=run.data) or 1 / 0)
    monkeypatch.chdir(tmp_path)
    ranges = []
    for flag in ("", "--resample smoter"):
        with pytest.raises(ZeroDivisionError):
            tiny_faces.call(tiny_faces.command(faces, "--reweight sqrt_inv", flag))
        split, bins = seen["data"].train, seen["data"].bins
        assert split.weights.mean() == pytest.approx(1, rel=1e-5)
        counts = bins.counts(split.labels)[bins.index(split.labels)]
        assert len(split.weights) == len(split)
        np.testing.assert_allclose(split.weights * np.sqrt(counts), split.weights[0] * counts[0] ** 0.5, 1e-5)
        ranges.append(split.weights.max() / split.weights.min())
    assert seen["data"].shots.counts.sum() == tiny_faces.SIZES["train"]  # shots stay those of the real labels
    assert ranges[1] < ranges[0]


@pytest.mark.parametrize("module", [sts_corpus, tiny_faces])
def test_evaluation_resamples_nothing(module, corpus, faces, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    short = "--max_vals 1" if module is sts_corpus else "--epoch 1"
    argv = module.command(faces if module is tiny_faces else corpus, "--resample smoter", short)
    assert module.call(argv) == 0
    result = read(module.run_dir(argv) / "metrics.json")
    assert "SMOTER" in capsys.readouterr().out
    assert module.call([*argv, "--evaluate", "--metrics_json", "again.json"]) == 0
    assert "SMOTER" not in capsys.readouterr().out
    assert read(tmp_path / "again.json")["shots"] == result["shots"]


@pytest.mark.parametrize("flag", ["--glove 0", "--train_words 1", "--n_layers_highway 1"])
def test_every_kind_of_words_trains(flag, corpus, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert sts_corpus.call(sts_corpus.command(corpus, "--resample smogn --max_vals 1", flag)) == 0


def test_rrt_trains_its_head_on_a_resampled_set(corpus, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    argv = sts_corpus.command(corpus, "--max_vals 1")
    assert sts_corpus.call(argv) == 0
    first = sts_corpus.run_dir(argv) / "ckpt.best.pth.tar"
    again = f"--max_vals 1 --resample smoter --retrain_fc --reweight inverse --pretrained {first}"
    assert sts_corpus.call(sts_corpus.command(corpus, again)) == 0
