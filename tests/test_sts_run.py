"""STS-B-DIR end to end on a tiny corpus: what a run writes, what it reads back, and exact resumption."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from runs import FILES, assert_same_end, history, in_child, logged, outcome, read, snapshot
from scipy import stats
from sts_corpus import PROG, ROOT, call, command, run_dir, write_corpus
from sts_model import Highway, PairEncoder
from torch import nn

from common.bins import Bins
from common.fds import FDS
from common.metrics import UNSEEN
from common.training import checkpoint, engine
from common.training import command as commands
from common.training.rundir import RunDir

pytestmark = pytest.mark.slow

METRICS = ("mse", "mae", "gm", "pearson", "spearman", "bmse", "sera")
SHOTS = ("all", "many", "medium", "few")
COMBINATIONS = {
    "vanilla": "",
    "inverse": "--reweight inverse",
    "sqrt_inv": "--reweight sqrt_inv",
    "l1": "--loss l1",
    "huber": "--loss huber",
    "focal_mse": "--loss focal_mse",
    "focal_l1": "--loss focal_l1",
    "lds": "--lds",
    "lds_triang": "--lds --lds_kernel triang --reweight sqrt_inv",
    "fds": "--fds --start_smooth 0",
    "fds_released": "--fds --start_smooth 0 --fds_variant released",
    "lds_fds": "--lds --fds",
    "highway": "--n_layers_highway 1",
    "no_glove": "--glove 0",
    "train_words": "--train_words 1",
    "sgd_two_layers": "--optimizer sgd --n_layers_enc 2",
    "seed": "--seed 5",
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def trained(corpus, tmp_path_factory):
    """The run directory of a combination, trained when it is first asked for."""
    root, done = tmp_path_factory.mktemp("runs"), {}

    def get(name):
        if name not in done:
            argv = command(corpus, COMBINATIONS[name], f"--store_root {root} --store_name {name}")
            assert call(argv) == 0
            done[name] = run_dir(argv)
        return done[name]

    return get


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


# What a run writes


@pytest.mark.parametrize("name", COMBINATIONS)
def test_every_combination_trains(trained, name):
    path = trained(name)
    found = {file.name for file in path.iterdir()}
    assert {file for file in found if not file.startswith("events.out.tfevents.")} == FILES
    assert len(found) == len(FILES) + 1
    records = history(path)
    assert [record["step"] for record in records] == [5, 10, 15, 20]
    assert records[-1]["train_loss"] < records[0]["train_loss"]
    assert all(np.isfinite(record["val"]["all"][metric]) for record in records for metric in METRICS)
    best = min(records, key=lambda record: record["val"]["all"]["mse"])
    assert [record["best"] for record in records if record["step"] >= best["step"]][0]
    assert torch.load(path / "ckpt.best.pth.tar")["state"]["step"] == best["step"]
    assert torch.load(path / "ckpt.pth.tar")["state"]["step"] == 20


def test_every_flag_of_a_combination_acts(trained):
    tables = [(trained(name) / "metrics.jsonl").read_text() for name in COMBINATIONS]
    scores = [[json.loads(line)["val"]["all"]["mae"] for line in table.splitlines()] for table in tables]
    assert len({tuple(row) for row in scores}) == len(COMBINATIONS)


def test_args_json_says_what_was_run(trained):
    args = read(trained("lds_fds") / "args.json")
    assert (args["lds"], args["fds"], args["reweight"], args["seed"]) == (True, True, "inverse", 111)
    assert (args["d_hid"], args["lr"], args["fds_variant"]) == (6, 0.01, "paper")


def test_metrics_json_is_the_contract(trained):
    path = trained("vanilla")
    result = read(path / "metrics.json")
    assert set(result) == {"dataset", "split", "checkpoint", "epoch", "standin", "bins", "relevance", "shots"}
    assert (result["dataset"], result["split"]) == ("sts-b", "test")
    assert result["checkpoint"] == str(path / "ckpt.best.pth.tar")
    assert result["epoch"] == torch.load(path / "ckpt.best.pth.tar")["epoch"]
    assert "made up for a test" in result["standin"]
    assert set(result["shots"]) - {"zero", *UNSEEN} == set(SHOTS)
    assert all(set(row) == {"n", *METRICS} for row in result["shots"].values())
    assert sum(result["shots"][shot]["n"] for shot in SHOTS[1:]) == result["shots"]["all"]["n"] == 40


def test_an_empty_shot_has_null_metrics_and_prints_a_dash(corpus, tmp_path, capsys):
    real = write_corpus(tmp_path / "real", standin=False)  # 120 pairs: no bin has more than 100
    argv = command(real, "--max_vals 1")
    assert call(argv) == 0
    result = read(run_dir(argv) / "metrics.json")
    assert set(result) == {"dataset", "split", "checkpoint", "epoch", "bins", "relevance", "shots"}
    assert result["shots"]["many"] == {"n": 0} | dict.fromkeys(METRICS)
    assert result["shots"]["few"]["n"] == 40
    told = capsys.readouterr().out
    assert "Shots: many above 100 training samples in a bin, few below 30" in told
    assert next(line for line in told.splitlines() if "MSE ↓" in line).split()[3] == "–"
    assert "STAND-IN" not in told


def test_predictions_reproduce_the_metrics(trained):
    path = trained("lds_fds")
    rows, shots = pd.read_csv(path / "predictions.csv"), read(path / "metrics.json")["shots"]
    assert list(rows.columns) == ["label", "prediction", "shot", "unseen", "row"]
    assert len(rows) == 40
    for shot in SHOTS:
        mine = rows if shot == "all" else rows[rows["shot"] == shot]
        label, pred = (mine[name].to_numpy(np.float32).astype(float) for name in ("label", "prediction"))
        error = np.abs(pred - label)
        expected = {
            "n": len(mine), "mse": np.mean(error**2), "mae": np.mean(error),
            "gm": np.exp(np.mean(np.log(error))), "pearson": stats.pearsonr(pred, label)[0],
            "spearman": stats.spearmanr(pred, label)[0],
            "bmse": pd.Series(error**2).groupby(Bins.uniform(0, 5, 50).index(label)).mean().mean(),
        }  # fmt: skip
        told = dict(shots[shot])
        del told["sera"]  # of training labels: tests/test_relevance.py
        assert told == pytest.approx(expected, rel=1e-6)


def test_predictions_are_in_the_order_of_the_test_file(trained, corpus):
    lines = (corpus / "test_new.tsv").read_text().splitlines()[1:]
    rows = pd.read_csv(trained("vanilla") / "predictions.csv")
    np.testing.assert_allclose(rows["label"], [float(line.split("\t")[9]) for line in lines], atol=1e-6)


def test_tensorboard_holds_every_metric_of_every_check(trained):
    path = trained("vanilla")
    events, records, result = logged(path), history(path), read(path / "metrics.json")
    assert list(events["train/loss"]) == [5, 10, 15, 20]
    for metric in (*METRICS, "n"):
        for shot in SHOTS:
            checks = {record["step"]: record["val"][shot][metric] for record in records}
            assert events[f"val/{metric}/{shot}"] == pytest.approx(checks, rel=1e-5)
            step = torch.load(path / "ckpt.best.pth.tar")["state"]["step"]
            expected = {step: result["shots"][shot][metric]}
            assert events[f"test/{metric}/{shot}"] == pytest.approx(expected, rel=1e-5)


def test_the_log_file_has_what_the_screen_has(corpus, capsys):
    argv = command(corpus, "--log_file mine.log")
    assert call(argv) == 0
    screen, log = capsys.readouterr().out, (run_dir(argv) / "mine.log").read_text()
    for told in ("seed 111, device cpu", "120 training, 40 validation, 40 test", "36 of 40 words found",
                 "STAND-IN, not the real data: sts-b at scale 0.02, seed 0: made up for a test",
                 "Step 20 (epoch 2.5): training loss", "Test of ", "Pearson ↑"):  # fmt: skip
        assert told in screen
        assert told in log
    assert "\r" not in screen


# What is read back


def test_a_finished_run_says_so_and_changes_nothing(trained, corpus, capsys, tmp_path):
    path = trained("vanilla")
    argv = command(corpus, f"--store_root {path.parent} --store_name vanilla")
    before = snapshot(path)
    assert call([*argv, "--metrics_json", str(tmp_path / "new" / "m.json")]) == 0
    out = capsys.readouterr().out
    assert f"{path} is finished (--overwrite starts over)" in out
    assert f"{read(path / 'metrics.json')['shots']['all']['mse']:.3f}" in out
    assert snapshot(path) == before
    assert read(tmp_path / "new" / "m.json") == read(path / "metrics.json")


@pytest.mark.parametrize("name", ["lds_fds", "highway", "no_glove"])
def test_evaluation_of_the_best_checkpoint_is_the_result_of_the_run(trained, corpus, tmp_path, name):
    path = trained(name)
    before = snapshot(path)
    argv = command(corpus, COMBINATIONS[name], f"--store_root {path.parent} --store_name {name}")
    assert call([*argv, "--evaluate", "--metrics_json", str(tmp_path / "own.json")]) == 0
    assert read(tmp_path / "own.json") == read(path / "metrics.json")
    named = [*argv, "--evaluate", "--eval_model", str(path / "ckpt.best.pth.tar"), "--metrics_json"]
    assert call([*named, str(tmp_path / "named.json")]) == 0
    assert read(tmp_path / "named.json") == read(path / "metrics.json")
    assert snapshot(path) == before


def test_metrics_json_is_written_when_a_run_ends(corpus, tmp_path):
    argv = command(corpus, "--max_vals 1", f"--metrics_json {tmp_path / 'a' / 'm.json'}")
    assert call(argv) == 0
    assert read(tmp_path / "a" / "m.json") == read(run_dir(argv) / "metrics.json")


def test_a_metrics_json_that_cannot_be_written_is_named(trained, corpus, tmp_path, capsys):
    (tmp_path / "file").touch()
    flags = f"--store_root {trained('vanilla').parent} --store_name vanilla"
    assert call(command(corpus, flags, f"--metrics_json {tmp_path / 'file' / 'm.json'}")) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "--metrics_json" in error and str(tmp_path / "file" / "m.json") in error


def test_evaluation_without_a_run_names_the_file(corpus, capsys):
    argv = command(corpus, "--evaluate")
    assert call(argv) == 2
    assert capsys.readouterr().err == (
        f"{PROG}: error: {run_dir(argv) / 'ckpt.best.pth.tar'}: there is no such checkpoint; "
        "name a ckpt.best.pth.tar of a run\n"
    )
    assert not run_dir(argv).exists()


def published_state(path, layers=1):
    """The state of a run as the published code saved it: these keys, in this order, and FDS's buffers."""
    state = torch.load(path / "ckpt.best.pth.tar")["state_dict"]
    lstm = [
        f"pair_encoder._phrase_layer._module.{kind}_{gate}_l{layer}{way}"
        for layer in range(layers)
        for way in ("", "_reverse")
        for kind, gate in (("weight", "ih"), ("weight", "hh"), ("bias", "ih"), ("bias", "hh"))
    ]
    keys = [
        "pair_encoder._text_field_embedder.token_embedder_words.weight", *lstm,
        "sts-b_pred_layer.weight", "sts-b_pred_layer.bias",
    ]  # fmt: skip
    return {key: state[key] for key in keys}, set(state) - set(keys)


@pytest.mark.parametrize("flags", ["", "--fds"])
@pytest.mark.parametrize("with_fds", [False, True])
def test_a_published_state_dict_is_evaluated(trained, corpus, tmp_path, flags, with_fds):
    path = trained("vanilla")
    state, others = published_state(path)
    assert others == set()
    if with_fds:
        state |= {f"FDS.{key}": value for key, value in FDS(48, 50, 0).state_dict().items()}
    model = tmp_path / "released.pth"
    torch.save(state, model, _use_new_zipfile_serialization=False)  # as torch 0.4.1 did
    argv = command(corpus, flags, f"--evaluate --eval_model {model} --metrics_json {tmp_path / 'm.json'}")
    assert call([*argv, "--word_embs_file", str(tmp_path / "no such file")]) == 0
    result = read(tmp_path / "m.json")
    assert (result["checkpoint"], result["epoch"]) == (str(model), None)
    assert result["shots"] == read(path / "metrics.json")["shots"]


def test_keys_with_fds_and_highway_are_the_published_ones(trained):
    _, fds = published_state(trained("fds"))
    assert fds == {f"FDS.{key}" for key in FDS(48, 50, 0).state_dict()}
    _, highway = published_state(trained("highway"))
    # allennlp's Highway keeps its linear layers in a ModuleList `_layers`
    assert highway == {f"pair_encoder._highway_layer._module._layers.0.{part}" for part in ("weight", "bias")}


@pytest.mark.parametrize("mode", ["--evaluate --eval_model", "--retrain_fc --pretrained"])
def test_another_vocabulary_is_named(trained, corpus, tmp_path, capsys, mode):
    state, _ = published_state(trained("vanilla"))
    words = "pair_encoder._text_field_embedder.token_embedder_words.weight"
    torch.save(state | {words: torch.zeros(99, 8)}, tmp_path / "m.pth")
    assert call(command(corpus, f"{mode} {tmp_path / 'm.pth'}")) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    for told in (str(tmp_path / "m.pth"), "(99, 8)", "(42, 8)", "vocabulary", "--data_dir", "--d_word"):
        assert told in error


# The encoder


def encoder(**how):
    torch.manual_seed(0)
    vectors = torch.randn(50, 8)
    vectors[0] = 0
    return PairEncoder(vectors, 6, how.pop("n_layers", 2), 0.2, **how).eval()


def stacked(first, second):
    """What `PairSplit` gives for these sentences: padded tokens, first above second, and lengths."""
    sentences = [torch.tensor(sentence) for sentence in (*first, *second)]
    return nn.utils.rnn.pad_sequence(sentences, True), torch.tensor([len(s) for s in sentences])


def pairs(n=9, seed=1):
    rng = np.random.default_rng(seed)
    return [[rng.integers(1, 50, rng.integers(1, 15)).tolist() for _ in range(n)] for _ in range(2)]


def test_features_of_a_pair_do_not_depend_on_the_batch():
    model, (first, second) = encoder(), pairs()
    together = model(stacked(first, second))
    assert together.shape == (9, 8 * 6)
    for i in range(9):
        alone = model(stacked(first[i : i + 1], second[i : i + 1]))
        torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=1e-6)
    order = [4, 0, 7]
    some = model(stacked([first[i] for i in order], [second[i] for i in order]))
    torch.testing.assert_close(together[order], some, rtol=0, atol=1e-6)


def test_features_are_those_of_a_plain_lstm_on_each_sentence():
    model, (first, second) = encoder(), pairs()
    lstm = nn.LSTM(8, 6, 2, bidirectional=True)
    lstm.load_state_dict(model.lstm.state_dict())

    def pooled(sentence):
        states, _ = lstm(model.embedding.weight[torch.tensor(sentence)].unsqueeze(1))
        return states.squeeze(1).max(0).values

    rows = []
    for a, b in zip(first, second, strict=True):
        u, v = pooled(a), pooled(b)
        rows.append(torch.cat([u, v, (u - v).abs(), u * v]))
    torch.testing.assert_close(model(stacked(first, second)), torch.stack(rows), rtol=0, atol=1e-6)


def test_pooling_takes_real_tokens_only():
    model = encoder(n_layers=1)
    with torch.no_grad():  # every state is negative, so a pooled padding of 0 would win
        for name, weight in model.lstm.named_parameters():
            weight.zero_()
            if name.startswith("bias_ih"):
                weight[12:18] = -3.0  # the cell's candidate; input and output gates are half open
    features = model(stacked([[3]], [[3, 4, 5, 6, 7, 8]]))
    assert (features[:, :12] < 0).all()
    np.testing.assert_allclose(features[0, :12].detach(), 0.5 * np.tanh(0.5 * np.tanh(-3.0)), rtol=1e-5)


def test_dropout_acts_in_training_only():
    model, inputs = encoder(), stacked(*pairs())
    assert torch.equal(model(inputs), model(inputs))
    model.train()
    assert not torch.equal(model(inputs), model(inputs))


@pytest.mark.parametrize("train_words", [False, True])
def test_word_vectors_are_frozen_unless_trained(trained, train_words):
    first = torch.load(trained("train_words" if train_words else "vanilla") / "ckpt.pth.tar")["state_dict"]
    other = torch.load(trained("l1") / "ckpt.pth.tar")["state_dict"]
    words = "pair_encoder._text_field_embedder.token_embedder_words.weight"
    assert torch.equal(first[words], other[words]) is not train_words
    assert not first[words][0].any()  # padding


def test_highway_is_the_gated_mix():
    torch.manual_seed(0)
    layer, x = Highway(4), torch.randn(7, 4)
    assert (layer.bias[4:] == 1).all()
    new, gate = nn.functional.linear(x, layer.weight, layer.bias).split(4, 1)
    gate = gate.sigmoid()
    torch.testing.assert_close(layer(x), gate * x + (1 - gate) * new.relu())


# RRT


def test_rrt_trains_a_fresh_head_on_a_frozen_encoder(trained, corpus, monkeypatch, capsys):
    pretrained = trained("vanilla") / "ckpt.best.pth.tar"
    starts, real = [], engine.Run.train

    def spy(self):
        starts.append({key: value.clone() for key, value in self.regressor.state_dict().items()})
        return real(self)

    monkeypatch.setattr(engine.Run, "train", spy)
    ends = []
    for seed in (1, 2):
        argv = command(corpus, f"--retrain_fc --pretrained {pretrained} --reweight inverse --seed {seed}")
        assert "_inverse_retrain_fc_mse_" in run_dir(argv).name
        assert call(argv) == 0
        ends.append(torch.load(run_dir(argv) / "ckpt.pth.tar")["state_dict"])
    told = capsys.readouterr().out
    assert f"Encoder loaded from {pretrained}" in told
    assert "RRT: the encoder is frozen, a fresh head is trained" in told
    before = torch.load(pretrained)["state_dict"]
    encoder_keys = [key for key in before if key.startswith("pair_encoder.")]
    assert len(encoder_keys) == 9
    for key in encoder_keys:
        assert torch.equal(ends[0][key], before[key])
    for part in ("weight", "bias"):
        key = f"sts-b_pred_layer.{part}"
        heads = [before[key], *(start[f"head.{part}"] for start in starts), *(end[key] for end in ends)]
        assert all(not torch.equal(a, b) for i, a in enumerate(heads) for b in heads[:i])
        assert all(start[f"head.{part}"].abs().max() <= 48**-0.5 for start in starts)


def test_rrt_without_weights_warns(trained, corpus, capsys):
    pretrained = trained("vanilla") / "ckpt.best.pth.tar"
    assert call(command(corpus, f"--retrain_fc --pretrained {pretrained} --max_vals 1")) == 0
    assert "RRT without --reweight" in capsys.readouterr().out


def test_pretrained_alone_trains_the_encoder_on(trained, corpus):
    pretrained = trained("vanilla") / "ckpt.best.pth.tar"
    argv = command(corpus, f"--pretrained {pretrained} --max_vals 1 --store_name tuned")
    assert call(argv) == 0
    key = "pair_encoder._phrase_layer._module.weight_hh_l0"
    before, after = (torch.load(p)["state_dict"][key] for p in (pretrained, run_dir(argv) / "ckpt.pth.tar"))
    assert not torch.equal(before, after)
    assert (before - after).abs().max() < 0.2  # five steps of 0.01 from there, not from elsewhere


# Exact resumption: FDS and dropout are on, 2.5 epochs of 8 steps, a check every 5

EXACT = "--lds --fds --start_smooth 0 --dropout 0.2 --max_vals 4"


@pytest.fixture(scope="module")
def undisturbed(corpus, tmp_path_factory):
    argv = command(corpus, EXACT)
    with contextlib.chdir(tmp_path_factory.mktemp("undisturbed")):
        assert call(argv) == 0
        return outcome(run_dir(argv))


def wait_until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def kill(pid):
    os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_run_that_is_killed_again_and_again_ends_bit_for_bit_the_same(corpus, undisturbed):
    argv = command(corpus, EXACT)
    path, moment = run_dir(argv), random.Random()  # any moment must do, so no seed
    codes = []
    for lines in (0, 0, 1, 1, 2, 3):
        pid = in_child(lambda: call(argv))
        try:
            wait_until(lambda n=lines: path.exists() and len(history_lines(path)) >= n)
            time.sleep(moment.uniform(0, 0.03))
        finally:
            codes.append(kill(pid))
    assert codes.count(-signal.SIGKILL) >= 3
    assert call(argv) == 0
    assert_same_end(path, undisturbed)


def history_lines(path):
    file = path / "metrics.jsonl"
    return file.read_bytes().splitlines() if file.exists() else []


class Killed(BaseException):
    """Stands in for a kill at a chosen line; nothing of ours catches it."""


def die(monkeypatch, target, name, call_number, *, after=False):
    """Die at the nth call of `target.name`, before it does anything or after."""
    real, calls = getattr(target, name), []

    def dies(*args, **how):
        calls.append(None)
        if len(calls) == call_number and not after:
            raise Killed
        result = real(*args, **how)
        if len(calls) == call_number:
            raise Killed
        return result

    monkeypatch.setattr(target, name, dies)


MOMENTS = {
    "before the first step": (engine.Run, "step", 1, False, None),
    "in the middle of a step": (nn.utils, "clip_grad_norm_", 13, False, 10),
    "in the middle of the statistics of FDS": (FDS, "collect", 12, False, 15),
    "between the last step of an epoch and its check": (FDS, "update", 1, True, 5),
    "between the first line and the first checkpoint": (checkpoint, "save", 1, False, None),
    "between a later line and its checkpoint": (checkpoint, "save", 3, False, 10),
    "between the best checkpoint and the last": (os, "link", 3, True, None),
    "while it writes the checkpoint": (os, "fsync", 3, False, 5),
    "after the last check": (engine.Run, "save", 4, True, 20),
    "while it tests": (commands, "evaluate", 1, True, 20),
    "before it says that it is finished": (RunDir, "finish", 1, False, 20),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_death_at_any_moment_resumes_exactly(corpus, undisturbed, monkeypatch, moment, capsys):
    argv = command(corpus, EXACT)
    target, name, number, after, step = MOMENTS[moment]
    with monkeypatch.context() as patch, contextlib.suppress(Killed):
        die(patch, target, name, number, after=after)
        call(argv)
        assert name == "link", "it lived"  # how often a check is the best one is not ours to know
    path = run_dir(argv)
    assert not (path / "metrics.json").exists() or name == "link"
    capsys.readouterr()
    assert call(argv) == 0
    if step is not None:
        assert f"Resuming {path / 'ckpt.pth.tar'} at step {step} of at most 20" in capsys.readouterr().out
    assert_same_end(path, undisturbed)


def signal_at(monkeypatch, step, *numbers):
    real, calls = engine.Run.step, []

    def steps(self, *args):
        calls.append(None)
        if len(calls) == step:
            for number in numbers:
                os.kill(os.getpid(), number)
        return real(self, *args)

    monkeypatch.setattr(engine.Run, "step", steps)


@pytest.mark.parametrize(("number", "step"), [("SIGINT", 3), ("SIGTERM", 8), ("SIGINT", 10), ("SIGTERM", 19)])
def test_a_signal_stops_between_two_steps(corpus, undisturbed, monkeypatch, capsys, number, step):
    argv = command(corpus, EXACT)
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with monkeypatch.context() as patch:
        signal_at(patch, step, getattr(signal, number))
        assert call(argv) == 130
    assert handlers == [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    told = capsys.readouterr()
    assert told.err == f"{PROG}: stopped; nothing is lost, the same command goes on\n"
    assert "Stopping after this step; once more to stop at once" in told.out
    path = run_dir(argv)
    assert torch.load(path / "ckpt.pth.tar")["state"]["step"] == step
    assert (path / "ckpt.best.pth.tar").exists() is (step >= 5)
    assert call([*argv, "--resume"]) == 0
    assert f"Resuming {path / 'ckpt.pth.tar'} at step {step} of at most 20" in capsys.readouterr().out
    assert_same_end(path, undisturbed)


def test_a_second_signal_stops_at_once(corpus, undisturbed, monkeypatch):
    argv = command(corpus, EXACT)
    with monkeypatch.context() as patch:
        signal_at(patch, 7, signal.SIGINT, signal.SIGINT)
        assert call(argv) == 130
    assert torch.load(run_dir(argv) / "ckpt.pth.tar")["state"]["step"] == 5
    assert call(argv) == 0
    assert_same_end(run_dir(argv), undisturbed)


@pytest.mark.parametrize("stop_at", [12, 25])
def test_patience_survives_a_resume(corpus, monkeypatch, stop_at):
    """With patience 3, the fifth check is the first that can be the last, and 4 is the worst of 3 1 2 4."""
    script, real = [5, 3, 1, 2, 4, 2, 3, 3.5, 0.1, 0.1], engine.evaluate
    argv = command(corpus, "--patience 3 --max_vals 10")

    def scripted(regressor, split, *how):
        found = real(regressor, split, *how)
        table = found.table()
        table["all"]["mse"] = script[len(history_lines(path))]
        return SimpleNamespace(table=lambda: table, rows=found.rows)

    path = run_dir(argv)
    monkeypatch.setattr(engine, "evaluate", scripted)
    with monkeypatch.context() as patch:
        signal_at(patch, stop_at, signal.SIGINT)
        assert call(argv) == 130
    assert call(argv) == 0
    assert [record["val"]["all"]["mse"] for record in history(path)] == script[:5]
    assert [record["best"] for record in history(path)] == [True, True, True, False, False]
    assert torch.load(path / "ckpt.best.pth.tar")["state"]["step"] == 15


def test_batches_after_a_resume_in_mid_epoch_are_the_same(corpus, monkeypatch):
    argv, real = command(corpus, EXACT), engine.Run.step

    def batches(stop_at, *flags):
        seen = []

        def spy(self, batch, epoch):
            seen.append((epoch, batch.inputs[0].tolist(), batch.targets.tolist(), batch.weights.tolist()))
            if len(seen) == stop_at:
                os.kill(os.getpid(), signal.SIGINT)
            return real(self, batch, epoch)

        monkeypatch.setattr(engine.Run, "step", spy)
        assert call([*argv, *flags]) == (130 if stop_at else 0)
        return seen

    first, rest = batches(11), batches(None)
    whole = batches(None, "--overwrite")
    assert first + rest == whole
    assert [epoch for epoch, *_ in whole] == [0] * 8 + [1] * 8 + [2] * 4


def test_as_a_user_runs_it(corpus, tmp_path):
    """One real process: started elsewhere than in the repository, on a pipe, stopped with SIGTERM."""
    argv = command(corpus, "--max_vals 4000 --patience 0")
    path = tmp_path / run_dir(argv)
    process = subprocess.Popen(
        [sys.executable, str(ROOT / PROG), *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"}, cwd=tmp_path,
    )  # fmt: skip
    wait_until(lambda: len(history_lines(path)) >= 2, 120)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == f"{PROG}: stopped; nothing is lost, the same command goes on\n"
    assert "Step 5 (epoch 0.6): training loss" in out
    assert "\r" not in out
    assert torch.load(path / "ckpt.pth.tar")["state"]["step"] >= 10
    # The same seed in another process gives the same bits as in this one.
    assert call(command(corpus, "--max_vals 2", "--patience 0", "--store_name again")) == 0
    again = run_dir(command(corpus, "--max_vals 2", "--patience 0", "--store_name again"))
    for mine, theirs in zip(history(again), history(path), strict=False):
        assert mine | {"seconds": 0} == theirs | {"seconds": 0}
