"""The engine on a toy data set of random vectors: order of samples, steps, checks, FDS passes, failures."""

import itertools
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import toy
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from toy import TASK, Encoder, Vectors, history, load, run, settings_of

from common import cli
from common.fds import FDS
from common.methods import criterion as criteria
from common.methods.criterion import Criterion
from common.methods.smoothing import Smoothing
from common.settings import Running, Training
from common.task import Batch
from common.training import checkpoint, command, engine
from common.training.draws import EXTRA_PASS, TRAINING, epoch_draws, evaluation_draws, training_draws
from common.training.engine import out_of_patience
from common.training.evaluate import evaluate
from common.training.optimizer import learning_rates, make_optimizer
from common.training.regressor import Regressor


def predict(model, split, task, batch_size):
    return evaluate(model, split, task, load(), batch_size).rows()["prediction"].to_numpy()


def smoothing(tmp_path, *flags, **buffers):
    """The FDS method of a run, with some of its buffers filled."""
    method = Smoothing(settings_of(tmp_path, "--fds --start_smooth 0", *flags), TASK)
    method.build(4, load())
    for name, value in buffers.items():
        getattr(method.statistics, name).fill_(value)
    return method


@pytest.fixture
def trainings(monkeypatch):
    """Every `Run` that is made."""
    made, real = [], engine.Run.__init__

    def note(self, *args):
        real(self, *args)
        made.append(self)

    monkeypatch.setattr(engine.Run, "__init__", note)
    return made


# The published rule of stopping, and the schedule


def test_patience_stops_at_the_worst_of_the_last_eleven_from_the_twelfth_check_on():
    rising = [float(i) for i in range(30)]
    assert not any(out_of_patience(rising[:n], 10) for n in range(12))
    assert all(out_of_patience(rising[:n], 10) for n in range(12, 30))
    window = [5.0, 9.0, *[3.0] * 9, 4.0]  # 9.0 is the first of the last eleven
    assert len(window) == 12
    assert not out_of_patience(window, 10)
    assert not out_of_patience([9.0, 5.0, *[3.0] * 9, 4.0], 10)
    assert out_of_patience([9.0, 4.0, *[3.0] * 9, 4.0], 10)  # a tie is the worst, too
    assert not out_of_patience(list(reversed(rising)), 10)
    assert not out_of_patience(rising, 0)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, 5).map(float), min_size=1, max_size=20), st.integers(1, 12))
def test_patience_ends_at_a_check_as_bad_as_the_worst_of_those_before_it(history, patience):
    """sts-b-dir/trainer.py of the published code, lines 56 and 65 to 67; older checks do not matter."""
    older, recent = history[:-patience], history[-patience:]
    worst = max(recent)
    for shift in (-100, 0, 100):
        checks = [value + shift for value in older] + recent
        assert not out_of_patience([*checks, worst - 1], patience)
        for last in (worst, worst + 1):
            assert out_of_patience([*checks, last], patience) is (len(history) > patience)


def test_a_run_stops_when_it_is_out_of_patience(tmp_path, monkeypatch):
    script = [5.0, 3.0, 2.0, 1.0, 2.5, 2.0]  # 2.5 is the worst of 1 and 2.5, 2.0 is not
    checks = iter(script)

    def scripted(*_):
        row = {"n": 20, "mae": next(checks), "mse": 1.0}
        table = dict.fromkeys(("all", "many", "medium", "few"), row)
        return SimpleNamespace(table=lambda: table, rows=lambda: pd.DataFrame())

    monkeypatch.setattr(engine, "evaluate", scripted)
    path = run(tmp_path, "--patience 1", max_vals=6)
    assert [record["val"]["all"]["mae"] for record in history(path)] == script[:5]
    assert [record["best"] for record in history(path)] == [True, True, True, True, False]


def test_the_learning_rate_drops_tenfold_at_each_milestone(tmp_path):
    training = settings_of(tmp_path, "--lr 0.5 --schedule 2 4")[Training]
    model = Regressor(Encoder(), nn.Linear(4, 1))
    assert [learning_rates(training, model, epoch, 6) for epoch in range(6)] == pytest.approx(
        np.repeat([[0.5], [0.05], [0.005]], 2, axis=0)
    )
    path = run(tmp_path, "--lr 0.5 --schedule 2", val_interval=7, max_vals=3)
    assert [record["lr"] for record in history(path)] == pytest.approx([0.5, 0.5, 0.05])


def test_the_rate_of_the_schedule_reaches_the_step(tmp_path, monkeypatch):
    rates, real = [], torch.optim.SGD.step

    def spy(self, *args, **how):
        rates.append(self.param_groups[0]["lr"])
        return real(self, *args, **how)

    monkeypatch.setattr(torch.optim.SGD, "step", spy)
    run(tmp_path, "--lr 0.5 --schedule 1 2 --optimizer sgd", max_vals=3)
    assert rates == pytest.approx([0.5] * 7 + [0.05] * 7 + [0.005])


# One step


def one_step(tmp_path, trainings, *flags, scale=1.0, **more):
    """How far one SGD step with rate 1 moves all weights: the gradient that reached the optimiser."""
    run(tmp_path, "--optimizer sgd --lr 1", *flags, **more | {"val_interval": 1, "max_vals": 1})
    training = trainings.pop()
    method = training.regressor.methods["criterion"]
    method.criterion = lambda *args, real=method.criterion, **how: scale * real(*args, **how)
    before = [p.detach().clone() for p in training.regressor.parameters()]
    batch = next(
        training.data.train.batches(evaluation_draws(training.data.train, 50), augment=True, device=None)
    )
    training.step(batch, 0)
    moved = [(p.detach() - b).flatten() for p, b in zip(training.regressor.parameters(), before, strict=True)]
    return float(torch.cat(moved).norm())


def test_gradients_are_clipped(tmp_path, trainings):
    free = one_step(tmp_path / "a", trainings, scale=1000)
    assert free > 50
    assert one_step(tmp_path / "b", trainings, scale=1000, max_grad_norm=0.5) == pytest.approx(0.5, rel=1e-3)
    assert one_step(tmp_path / "c", trainings, scale=1000, max_grad_norm=1e6) == pytest.approx(free)


def test_weights_reach_the_loss(tmp_path, monkeypatch):
    seen = []

    def spy(*_):
        def criterion(outputs, targets, *, weights):
            seen.append((targets.clone(), None if weights is None else weights.clone()))
            return ((outputs - targets) ** 2 * (1 if weights is None else weights)).mean()

        return criterion

    monkeypatch.setattr(criteria, "make_criterion", spy)
    run(tmp_path / "none", max_vals=1)
    assert all(weights is None for _, weights in seen)
    seen.clear()
    run(tmp_path / "inverse", "--reweight inverse", val_interval=7, max_vals=1)
    labels = load().train.labels.astype(int)
    counts = np.bincount(labels, minlength=10)
    expected = torch.tensor(1 / counts[labels] / np.mean(1 / counts[labels]), dtype=torch.float32)
    targets, weights = (torch.cat(parts).squeeze(1) for parts in zip(*seen, strict=True))
    by_label = {float(label): float(weight) for label, weight in zip(labels, expected, strict=True)}
    assert weights.tolist() == pytest.approx([by_label[float(label)] for label in targets])
    assert float(weights.mean()) == pytest.approx(1)


def test_weights_change_what_is_learnt(tmp_path):
    ends = [
        checkpoint.load(run(tmp_path / name, flags) / "ckpt.pth.tar")["state_dict"]["net.linear.weight"]
        for name, flags in (("a", ""), ("b", "--reweight inverse"), ("c", "--lds"))
    ]
    assert all(not torch.equal(a, b) for a, b in itertools.combinations(ends, 2))


def test_targets_are_scaled_for_the_loss_and_predictions_back(tmp_path, monkeypatch):
    seen, task = [], toy.with_changes(target_scale=10.0)

    def spy(*_):
        return lambda outputs, targets, weights: seen.append(targets) or (outputs - targets).abs().mean()

    monkeypatch.setattr(criteria, "make_criterion", spy)
    run(tmp_path, task=task, val_interval=7, max_vals=1)
    assert torch.cat(seen).sort(0).values.squeeze(1).tolist() == pytest.approx(
        sorted(load().train.labels / 10)
    )
    encoder, head, split = Encoder(), nn.Linear(4, 1), Vectors(20, 2)
    plain, scaled = Regressor(encoder, head), Regressor(encoder, head, target_scale=10.0)
    np.testing.assert_allclose(
        predict(scaled, split, task, 8), 10 * predict(plain, split, TASK, 8), rtol=1e-6
    )


# Failures


def failing(monkeypatch, step, fail):
    """Make the loss of one step `fail(loss, outputs)`."""
    real, count = criteria.make_criterion, itertools.count(1)

    def make(*how):
        loss_of = real(*how)

        def criterion(outputs, *args, **how):
            loss = loss_of(outputs, *args, **how)
            return fail(loss, outputs) if next(count) == step else loss

        return criterion

    monkeypatch.setattr(criteria, "make_criterion", make)


def fail_in(tmp_path, capsys):
    code = cli.run_command("toy", lambda: command.run(TASK, settings_of(tmp_path)))
    told = capsys.readouterr().err
    assert code == 1
    assert told.count("\n") == 1
    return told


@pytest.mark.parametrize(("step", "epoch"), [(11, 1), (13, 1), (15, 2)])
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_loss_that_is_not_finite_names_its_step_and_spares_the_checkpoint(
    tmp_path, monkeypatch, capsys, value, step, epoch
):
    failing(monkeypatch, step, lambda loss, outputs: loss * float(value))
    told = fail_in(tmp_path, capsys)
    last = tmp_path / "run" / "ckpt.pth.tar"
    assert told == (
        f"toy: error: the loss l1 is {value} at step {step} (epoch {epoch}); "
        f"the last good checkpoint is {last}; try a smaller --lr\n"
    )
    content = checkpoint.load(last)
    assert content["state"]["step"] == 10
    assert all(value.isfinite().all() for value in content["state_dict"].values())
    assert [record["step"] for record in history(tmp_path / "run")] == [5, 10]
    assert not (tmp_path / "run" / "metrics.json").exists()
    monkeypatch.undo()
    assert run(tmp_path).joinpath("metrics.json").exists()  # and it goes on from there


def test_a_failure_before_the_first_checkpoint_promises_none(tmp_path, monkeypatch, capsys):
    failing(monkeypatch, 2, lambda loss, outputs: loss * float("nan"))
    told = fail_in(tmp_path, capsys)
    assert (
        told
        == "toy: error: the loss l1 is nan at step 2 (epoch 0); there is no checkpoint yet; try a smaller --lr\n"
    )


def test_a_gradient_that_is_not_finite_never_reaches_a_checkpoint(tmp_path, monkeypatch, capsys):
    def finite_loss_with_nan_gradient(loss, outputs):
        return loss + (outputs * 0).abs().sqrt().sum()

    failing(monkeypatch, 10, finite_loss_with_nan_gradient)  # at a check, before the next loss can tell
    told = fail_in(tmp_path, capsys)
    last = tmp_path / "run" / "ckpt.pth.tar"
    assert told == (
        "toy: error: the weights are not finite after step 10 (epoch 1); "
        f"the last good checkpoint is {last}; try a smaller --lr\n"
    )
    assert checkpoint.load(last)["state"]["step"] == 5
    assert [record["step"] for record in history(tmp_path / "run")] == [5]


# Draws


def indices(draws):
    return [draw.indices.tolist() for draw in draws]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 200), st.integers(1, 40), st.integers(0, 9), st.booleans())
def test_every_sample_comes_once_an_epoch(n, batch_size, seed, by_length):
    lengths = np.random.default_rng(seed).integers(1, 50, n) if by_length else None
    split = Vectors(n, 0, lengths)
    for epoch, purpose in itertools.product((0, 3), (TRAINING, EXTRA_PASS)):
        draws = epoch_draws(split, batch_size, seed, epoch, purpose)
        assert sorted(itertools.chain(*indices(draws))) == list(range(n))
        sizes = sorted((len(draw.indices) for draw in draws), reverse=True)
        assert len(draws) == -(-n // batch_size)
        assert set(sizes[:-1]) <= {batch_size}
        assert all(0 <= draw.seed < 2**31 for draw in draws)
    assert sorted(itertools.chain(*indices(evaluation_draws(split, batch_size)))) == list(range(n))


@pytest.mark.parametrize("lengths", [None, np.arange(100) % 17 + 1])
def test_draws_follow_from_seed_epoch_and_purpose(lengths):
    split = Vectors(100, 0, lengths)

    def drawn(*how):
        draws = epoch_draws(split, 8, *how)
        return indices(draws), [draw.seed for draw in draws]

    told = [drawn(*how) for how in itertools.product((1, 2), (0, 1, 2), (TRAINING, EXTRA_PASS))]
    for part in (0, 1):
        assert len({str(draw[part]) for draw in told}) == len(told) == 12


def test_draws_are_those_of_the_runs_before():
    """Recorded: with other draws no run could be repeated, and a resumed one would change its order."""
    plain, by_length = Vectors(100, 0), Vectors(100, 0, np.arange(100) % 17 + 1)
    recorded = [
        (plain, TRAINING, [47, 77, 8, 46, 71, 41, 91, 18], [214903566, 740515308]),
        (plain, EXTRA_PASS, [31, 86, 84, 20, 75, 96, 82, 24], [498560374, 246480021]),
        (by_length, TRAINING, [89, 38, 4, 55, 21, 72, 22, 5], [1268190169, 84205862]),
        (by_length, EXTRA_PASS, [26, 60, 94, 43, 10, 78, 44, 61], [1804218853, 1749142179]),
    ]
    for split, purpose, first, seeds in recorded:
        draws = epoch_draws(split, 8, 1, 2, purpose)
        assert draws[0].indices.tolist() == first
        assert [draw.seed for draw in draws[:2]] == seeds


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 40), st.integers(1, 13), st.booleans())
def test_draws_from_a_step_on_are_the_rest_of_all_draws(step, batch_size, by_length):
    split = Vectors(30, 0, np.arange(30) if by_length else None)

    def first(count, start):
        draws = itertools.islice(training_draws(split, batch_size, 7, start), count)
        return [(draw.indices.tolist(), draw.seed) for draw in draws]

    assert first(10, step) == first(step + 10, 0)[step:]


def test_batches_of_like_length_pad_far_less_than_random_ones():
    lengths = np.random.default_rng(0).integers(4, 60, 5000)
    split, plain = Vectors(5000, 0, lengths), Vectors(5000, 0)

    def padding(draws):
        return sum(len(d.indices) * lengths[d.indices].max() - lengths[d.indices].sum() for d in draws)

    by_length, by_chance = (padding(epoch_draws(s, 32, 0, 0)) for s in (split, plain))
    assert by_length < 0.1 * by_chance
    assert padding(evaluation_draws(split, 32)) < 0.02 * by_chance
    means = [lengths[draw.indices].mean() for draw in epoch_draws(split, 32, 0, 0)]
    assert (
        abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.25
    )  # short and long ones are mixed in time


def test_predictions_are_in_the_order_of_the_split():
    model, plain = Regressor(Encoder(), nn.Linear(4, 1)), Vectors(50, 0)
    sorted_by_length = Vectors(50, 0, np.random.default_rng(0).integers(1, 9, 50))
    expected = model.eval().predict(plain.x).mean.detach().squeeze(1).numpy()
    for split, size in ((plain, 7), (sorted_by_length, 7), (sorted_by_length, 50)):
        np.testing.assert_allclose(predict(model, split, TASK, size), expected, rtol=1e-5)
        assert all(augment is False for *_, augment in split.asked)


# FDS


@pytest.mark.parametrize(("start_update", "epochs"), [(0, [0, 1, 2]), (2, [2])])
def test_statistics_are_taken_once_an_epoch_from_start_update(
    tmp_path, monkeypatch, trainings, start_update, epochs
):
    calls = []
    for name in ("update_last_epoch_stats", "update", "collect", "smooth"):
        real = getattr(FDS, name)

        def spy(self, *args, name=name, real=real):
            calls.append((name, args[-1] if name != "collect" else len(args[0])))
            return real(self, *args)

        monkeypatch.setattr(FDS, name, spy)
    run(tmp_path, f"--fds --start_smooth 1 --start_update {start_update}", val_interval=7, max_vals=3)
    assert [epoch for name, epoch in calls if name == "update"] == epochs
    assert [epoch for name, epoch in calls if name == "update_last_epoch_stats"] == epochs
    passes = len(epochs)
    assert sum(n for name, n in calls if name == "collect") == 50 * passes
    order = [name for name, _ in calls if name.startswith("update")]
    assert order == ["update_last_epoch_stats", "update"] * passes
    smooths = [epoch for name, epoch in calls if name == "smooth"]  # in training mode in both passes
    assert smooths == sorted(smooths)
    assert [smooths.count(epoch) for epoch in range(3)] == [7 + 7 * (epoch in epochs) for epoch in range(3)]
    (training,) = trainings
    asked = training.data.train.asked
    assert all(augment for *_, augment in asked)
    assert len(asked) == 7 * (3 + passes)


def test_statistics_need_the_end_of_an_epoch(tmp_path, monkeypatch):
    updates = []
    monkeypatch.setattr(FDS, "update", lambda self, epoch: updates.append(epoch))
    run(tmp_path, "--fds", max_vals=1)  # 5 of 7 steps
    assert updates == []


def test_online_statistics_are_of_the_steps_themselves_and_take_no_second_pass(tmp_path, monkeypatch):
    seen, real = [], Smoothing.features

    def note(self, z, batch, epoch):
        seen.append((z.detach().clone(), batch.targets))
        return real(self, z, batch, epoch)

    monkeypatch.setattr(Smoothing, "features", note)
    path = run(tmp_path, "--fds --fds_pass online", val_interval=7, max_vals=2)  # two epochs
    assert [len(z) for z, _ in seen] == 2 * [*6 * [8], 2]
    expected = FDS(4, 10, 0)
    for epoch, steps in enumerate((seen[:7], seen[7:])):
        features, labels = map(torch.cat, zip(*steps, strict=True))
        expected.update_last_epoch_stats(epoch)
        expected.update_running_stats(features, labels, epoch)
    state = checkpoint.load(path / "ckpt.pth.tar")["state_dict"]
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(state[f"FDS.{name}"], value, msg=name)
    assert not state["FDS.stream_count"].any()


def test_an_online_run_starts_from_a_checkpoint_without_its_sums(tmp_path):
    first = run(tmp_path / "a", "--fds", max_vals=1)
    assert not any("stream" in key for key in checkpoint.load(first / "ckpt.pth.tar")["state_dict"])
    flags = f"--fds --fds_pass online --pretrained {first / 'ckpt.pth.tar'}"
    run(tmp_path / "b", flags, max_vals=1)


def test_an_online_pass_without_fds_is_one_line(tmp_path, capsys):
    assert cli.run_command("toy", lambda: run(tmp_path, "--fds_pass online")) == 2
    told = capsys.readouterr().err
    assert told == "toy: error: --fds_pass online: says how FDS takes its statistics; add --fds, or drop it\n"


def test_evaluation_does_not_use_fds(tmp_path, monkeypatch):
    method = smoothing(tmp_path, running_mean_last_epoch=3, smoothed_mean_last_epoch=8)
    model = Regressor(Encoder(), nn.Linear(4, 1), [method]).train()
    split = Vectors(20, 2)
    batch = Batch(split.x, torch.tensor(split.labels)[:, None], None)
    calibrated = model.head(model.see(batch, 5).features)
    preds = predict(model, split, TASK, 8)
    plain = model.head(model.encoder(split.x)).detach().squeeze(1).numpy()
    np.testing.assert_allclose(preds, plain, rtol=1e-5)
    assert np.abs(calibrated.detach().squeeze(1).numpy() - plain).max() > 0.1
    monkeypatch.setattr(FDS, "smooth", lambda *_: pytest.fail("FDS at evaluation"))
    predict(model, split, TASK, 8)


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_features_for_the_statistics_are_raw_in_the_paper_s_variant_alone(tmp_path, monkeypatch, variant):
    method = smoothing(tmp_path, f"--fds_variant {variant}", smoothed_mean_last_epoch=8)
    x, labels, collected = torch.randn(6, 4), torch.arange(6.0)[:, None], []
    model = Regressor(nn.Identity(), nn.Linear(4, 1), [method]).train()
    seen = model.see(Batch(x, labels, None), 5)
    monkeypatch.setattr(FDS, "collect", lambda self, features, labels: collected.append(features))
    monkeypatch.setattr(FDS, "update", lambda *_: None)
    method.end_of_epoch(5, lambda what: iter([seen]))
    (features,) = collected
    assert torch.equal(features, x) is (variant == "paper")
    if variant == "released":
        torch.testing.assert_close(features, x + 8)


# Seeds and optimisers


def test_the_same_seed_gives_the_same_bits_and_another_does_not(tmp_path):
    def end(name, *flags):
        path = run(tmp_path / name, "--fds --lds", *flags)
        state = checkpoint.load(path / "ckpt.pth.tar")["state_dict"]
        return state, (path / "predictions.csv").read_bytes()

    first = end("a")
    torch.rand(7)  # whatever was drawn before does not matter
    second, other = end("b"), end("c", "--seed 2")
    assert all(torch.equal(first[0][key], second[0][key]) for key in first[0])
    assert first[1] == second[1] != other[1]
    assert not torch.equal(first[0]["net.body.0.weight"], other[0]["net.body.0.weight"])


def test_a_negative_seed_is_a_random_one_and_is_told(tmp_path, capsys):
    names = []
    for _ in range(2):
        drawn = settings_of(tmp_path, "--seed -1 --max_grad_norm 0", max_vals=1)
        names.append(f"s{drawn[Running].seed}")
        assert command.run(toy.with_changes(run_name=lambda *_: names[-1]), drawn) == 0
    assert names[0] != names[1]
    assert all(1 <= int(name[1:]) <= 10_000 for name in names)
    assert f"seed {names[0][1:]}, device cpu" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flag", "kind", "decay"), [("adam", torch.optim.Adam, 0.5), ("sgd", torch.optim.SGD, 0.25)]
)
def test_weight_decay_is_the_task_s_with_adam_and_the_flag_s_with_sgd(tmp_path, flag, kind, decay):
    training = settings_of(tmp_path, f"--optimizer {flag}", weight_decay=0.25, momentum=0.5)[Training]
    model = Regressor(Encoder(), nn.Linear(4, 1))
    model.encoder.requires_grad_(False)
    optimizer = make_optimizer(toy.with_changes(adam_weight_decay=0.5), training, model)
    assert type(optimizer) is kind
    (group,) = optimizer.param_groups
    assert group["weight_decay"] == decay
    assert [id(p) for p in group["params"]] == [id(p) for p in model.head.parameters()]


@pytest.mark.parametrize(("loss", "select"), [("l1", "mae"), ("huber", "mae"), ("mse", "mse")])
def test_the_best_checkpoint_is_that_of_the_selecting_metric(tmp_path, loss, select):
    path = run(tmp_path, f"--loss {loss}", "--lr 0.3")
    best = min(history(path), key=lambda record: record["val"]["all"][select])
    content = checkpoint.load(path / "ckpt.best.pth.tar")
    assert content["state"]["step"] == best["step"]
    assert content["best_loss"] == best["val"]["all"][select]


def test_betas_reach_the_losses(tmp_path):
    error = torch.tensor([[0.5], [2.0]])
    zero = torch.zeros(2, 1)
    huber = Criterion(settings_of(tmp_path, "--loss huber --huber_beta 4"), TASK).criterion
    torch.testing.assert_close(huber(error, zero), (error**2 / 8).mean())
    focal = Criterion(settings_of(tmp_path, "--loss focal_l1"), TASK).criterion
    expected = (error * (2 * torch.sigmoid(0.2 * error) - 1)).mean()
    torch.testing.assert_close(focal(error, zero), expected)


def test_11_10_the_training_loss_of_a_record_is_the_mean_over_samples_since_the_last_check(
    tmp_path, monkeypatch
):
    losses, sizes, real = [], [], engine.Run.step

    def spy(self, *args):
        sizes.append(len(args[0].targets))
        losses.append(float((loss := real(self, *args))["l1"]))
        return loss

    monkeypatch.setattr(engine.Run, "step", spy)
    records = history(run(tmp_path, print_freq=3))
    assert [record["train_loss"] for record in records] == pytest.approx(
        [np.average(losses[i : i + 5], weights=sizes[i : i + 5]) for i in range(0, 20, 5)]
    )
    assert [record["epoch"] for record in records] == pytest.approx([5 / 7, 10 / 7, 15 / 7, 20 / 7], abs=1e-4)
