"""Rank-N-Contrast against numbers of its authors' code, where that is undefined, and its two stages as runs."""

import json
import math

import pytest
import torch
import toy
from proven import assert_gradient
from wired import assert_wired, cases_of, prepared

from common.errors import UserError
from common.methods.rnc import rank_n_contrast, rnc_loss
from common.training import checkpoint, command

CASES = cases_of("rank_n_contrast")
STAGE_ONE = "--rnc --optimizer sgd --lr 0.1"


@pytest.mark.parametrize("name", sorted(CASES))  # none is left out
def test_reference_numbers(name):
    case = CASES[name]
    features, labels = (torch.as_tensor(case[key]) for key in ("features", "labels"))
    loss = rnc_loss(features.requires_grad_(), labels, float(case["temperature"]))
    loss.backward()
    assert loss.item() == pytest.approx(float(case["loss"]), rel=1e-5, abs=1e-7)
    assert_gradient(features.grad, case["grad_features"])


def test_features_far_apart_do_not_underflow():
    assert CASES["far6"]["float32_published_loss"] == -math.inf  # where the published code stops making sense
    features = torch.zeros(3, 2, 2)
    features[1] = 1e6
    loss = rnc_loss(features.requires_grad_(), torch.tensor([1.0, 2.0, 3.0]))
    loss.backward()
    assert loss.isfinite()
    assert features.grad.isfinite().all()


def test_it_is_the_formula():
    features, labels = torch.randn(6, 2, 3, dtype=torch.float64), torch.tensor([3.0, 3.0, 7.0, 1.0, 5.0, 5.0])
    rows, doubled = torch.cat((features[:, 0], features[:, 1])), labels.repeat(2)
    total = 0.0
    for i in range(12):
        for j in set(range(12)) - {i}:
            inner = sum(
                math.exp(-(rows[i] - rows[k]).norm() / 2)
                for k in set(range(12)) - {i}
                if abs(doubled[i] - doubled[k]) >= abs(doubled[i] - doubled[j])
            )
            total += math.log(inner) + (rows[i] - rows[j]).norm().item() / 2
    assert rnc_loss(features, labels).item() == pytest.approx(total / 12 / 11, rel=1e-12)


@pytest.mark.parametrize("rows", [0, 1])
def test_fewer_than_two_rows_give_zero(rows):
    assert rank_n_contrast(torch.ones(rows, 3), torch.ones(rows, 1), 2.0) == 0


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="not two views"):
        rnc_loss(torch.zeros(4, 3), torch.zeros(4))
    with pytest.raises(ValueError, match="not one for each of 4 samples"):
        rnc_loss(torch.zeros(4, 2, 3), torch.zeros(8))


@pytest.mark.parametrize("shape", ["vectors", "pairs"])
def test_wired_as_proven(tmp_path, shape):
    run = prepared(tmp_path, f"{STAGE_ONE} --rnc_temperature 0.5 --lds --fds", shape)
    assert run.regressor.head is None

    def expect(method, seen):
        first, second = seen.batch.targets.chunk(2)
        assert torch.equal(first, second)
        return {"rnc": rnc_loss(torch.stack(seen.features.chunk(2), 1), first, 0.5)}

    assert_wired(run, "rnc", expect)


def test_wired_on_maps_by_their_means(tmp_path):
    def expect(method, seen):
        means = seen.batch.targets.flatten(1).nanmean(1, keepdim=True)
        return {"rnc": rank_n_contrast(seen.features.mean((2, 3)), means, 2.0)}

    assert_wired(prepared(tmp_path, STAGE_ONE, "maps"), "rnc", expect)


def test_the_rates_are_the_published_ones(tmp_path):
    stage = prepared(
        tmp_path, f"{STAGE_ONE} --max_vals 6"
    )  # 30 steps of 6 an epoch, as the last batch is dropped
    epochs = [5e-4 * 0.2 + (0.1 - 1e-4) * (1 + math.cos(math.pi * e / 5)) / 2 for e in (1, 2, 3, 4, 5)]
    assert [stage.rates(epoch)[0] for epoch in range(5)] == pytest.approx(epochs)
    assert stage.rates(4)[0] == pytest.approx(1e-4)


@pytest.fixture(scope="module")
def first_stage(tmp_path_factory):
    return toy.run(tmp_path_factory.mktemp("stage"), STAGE_ONE, task=toy.KINDS["vectors"])


def test_the_first_stage_has_no_head_and_keeps_the_last_epoch(first_stage):
    assert json.loads((first_stage / "metrics.json").read_text())["shots"] == {}
    content = checkpoint.load(first_stage / "ckpt.best.pth.tar")
    assert content["state"]["step"] == 20
    assert not any("linear" in key for key in content["state_dict"])


def test_the_second_stage_trains_a_head_on_the_frozen_encoder_of_the_first(first_stage, tmp_path):
    best = first_stage / "ckpt.best.pth.tar"
    path = toy.run(tmp_path, f"--rnc_probe --pretrained {best}", task=toy.KINDS["vectors"])
    before, after = (checkpoint.load(file)["state_dict"] for file in (best, path / "ckpt.pth.tar"))
    frozen = [key for key in before if key.startswith("net.body")]
    assert frozen
    assert all(torch.equal(before[key], after[key]) for key in frozen)
    assert json.loads((path / "metrics.json").read_text())["shots"]["all"]["n"] == 20


def test_the_encoder_of_the_second_stage_is_in_eval_mode(first_stage, tmp_path):
    flags = f"--rnc_probe --pretrained {first_stage / 'ckpt.best.pth.tar'}"
    run = prepared(tmp_path, flags)
    run.step(next(run.batches()), 0)
    assert not any(module.training for module in run.regressor.encoder.modules())
    assert run.regressor.head.training
    assert run.rates(2)[0] == pytest.approx(0.05 * 0.2**3)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--rnc_probe", "--rnc_probe needs --pretrained CKPT"),
        ("--rnc --evaluate", "trains no head"),
        ("--rnc --loss mse", "--loss and --rnc: cannot go together"),
        ("--rnc --rnc_probe --pretrained x", "--rnc_probe and --rnc|--rnc and --rnc_probe"),
        ("--rnc --retrain_fc --pretrained x", "cannot go together, each has a head"),
        ("--rnc_probe --pretrained missing.pth.tar", "there is no such checkpoint"),
    ],
)
def test_bad_input_is_refused_in_one_line(tmp_path, flags, message):
    with pytest.raises(UserError, match=message):
        command.run(toy.KINDS["vectors"], toy.settings_of(tmp_path, flags, task=toy.KINDS["vectors"]))


@pytest.mark.parametrize("value", ["0", "-1", "nan"])
def test_a_bad_temperature_is_refused(tmp_path, value, capsys):
    with pytest.raises((UserError, SystemExit)):
        prepared(tmp_path, f"--rnc --rnc_temperature={value}")
    assert "--rnc_temperature" in capsys.readouterr().err
