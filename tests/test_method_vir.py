"""VIR against numbers of its authors' code, with bad flags, and as a part of a run."""

import numpy as np
import pytest
import torch
import torchvision
import toy
from proven import assert_gradient
from torch import nn
from torchvision.models.resnet import Bottleneck
from wired import assert_wired, cases_of, prepared

from common.errors import UserError
from common.method import Seen
from common.methods.gaussian_features import GaussianBlock, GaussianFDS, sampled, with_gaussian_block
from common.methods.nig import PosteriorHead, nig_parameters, nig_terms
from common.methods.vir import nig_loss

CASES = cases_of("vir")
HEADS = [name for name in CASES if name.startswith("head_")]
TRAJECTORIES = ["prm_released_b3", "prm_raw_b3", "prm_released_b0"]
BLOCKS = ["last_block_train", "last_block_eval"]
ELSEWHERE = {"nig": "test_method_evidential", "uncertainty": "test_scores"}
BUFFERS = (
    "running_mean", "running_var", "running_mean_last_epoch", "running_var_last_epoch",
    "smoothed_mean_last_epoch", "smoothed_var_last_epoch", "num_samples_tracked",
)  # fmt: skip
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def test_every_case_is_tested_or_left_out_with_a_reason():
    names = {name.split(".")[0] for name in CASES}
    assert names == {*HEADS, *TRAJECTORIES, *BLOCKS, *ELSEWHERE}


def head_of(case):
    head = PosteriorHead(8, lambda features: features[:, :8])
    state = {"linear.weight": case["head_weight"], "linear.bias": case["head_bias"]}
    head.load_state_dict({key: torch.as_tensor(value) for key, value in state.items()})
    return head


@pytest.mark.parametrize("name", HEADS)
def test_the_loss_of_the_head(name):
    case = {key: torch.as_tensor(value) for key, value in CASES[name].items()}
    head, encoding = head_of(CASES[name]), case["encoding"].requires_grad_()
    z = sampled(encoding, case["noise"])
    torch.testing.assert_close(z, case["z"], **CLOSE)
    outputs = head(z).split(1, dim=1)
    for output, field in zip(outputs, ("mean", "pseudo_count", "beta"), strict=True):
        torch.testing.assert_close(output, case[f"head_out_{field}"], **CLOSE)
    parameters = nig_parameters(outputs, case["weights"])
    for value, field in zip(parameters, ("gamma", "nu", "alpha", "beta"), strict=True):
        torch.testing.assert_close(value, case[field], **CLOSE)
    for value, field in zip(nig_terms(case["labels"], *parameters), ("nll", "reg"), strict=True):
        torch.testing.assert_close(value, case[field], **CLOSE)
    loss = nig_loss(case["labels"], *parameters, float(case["coefficient"]))
    assert loss.item() == pytest.approx(float(case["loss"]), rel=1e-5)
    loss.backward()
    assert_gradient(encoding.grad, CASES[name]["grad_encoding"])
    assert_gradient(head.linear.weight.grad, CASES[name]["grad_head_weight"])
    assert_gradient(head.linear.bias.grad, CASES[name]["grad_head_bias"])


@pytest.mark.parametrize("name", HEADS)
def test_weight_one_in_a_test(name):
    case = {key: torch.as_tensor(value) for key, value in CASES[name].items()}
    head = head_of(CASES[name])
    parameters = nig_parameters(head(case["z"]).split(1, dim=1))
    for value, field in zip(parameters[1:], ("nu", "alpha", "beta"), strict=True):
        torch.testing.assert_close(value, case[f"eval_{field}"], **CLOSE)
    nll, reg = nig_terms(case["labels"], *parameters)
    assert nll.mean().item() == pytest.approx(float(case["eval_nll"]), rel=1e-5)
    assert reg.mean().item() == pytest.approx(float(case["eval_reg"]), rel=1e-5)
    assert nig_loss(case["labels"], *parameters).item() == pytest.approx(float(case["eval_loss"]), rel=1e-5)
    on_z = PosteriorHead(8, lambda features: case["z"])
    on_z.load_state_dict(head.state_dict())
    torch.testing.assert_close(
        on_z.predict(case["encoding"]).distribution.variance, case["eval_variance"], **CLOSE
    )
    torch.testing.assert_close(head(case["encoding"][:, :8]), case["eval_head_out_on_mean"], **CLOSE)
    torch.testing.assert_close(
        head.predict(case["encoding"]).mean, case["eval_head_out_on_mean"][:, :1], **CLOSE
    )


@pytest.mark.parametrize("name", TRAJECTORIES)
def test_statistics_and_calibration(name):
    facts = CASES[name]
    released = str(facts["statistics_of"]) == "smoothed"
    statistics = GaussianFDS(
        6, int(facts["bucket_num"]), int(facts["bucket_start"]), 0, 1, str(facts["kernel"]), int(facts["ks"]),
        float(facts["sigma"]), float(facts["momentum"]), variant="released" if released else "paper",
    )  # fmt: skip
    np.testing.assert_allclose(statistics.kernel_window, facts["kernel_window"], rtol=1e-5)
    epochs = sum(key.startswith(f"{name}.e") for key in CASES)
    assert epochs >= 4
    for epoch in range(epochs):
        case = {key: torch.as_tensor(value) for key, value in CASES[f"{name}.e{epoch}"].items()}
        smoothed = statistics.smooth(case["features"], case["labels"], epoch)
        torch.testing.assert_close(smoothed, case["smoothed"], **CLOSE)
        half = len(case["labels"]) // 2  # streamed, as in a run
        for part in (slice(None, half), slice(half, None)):
            fed = smoothed if released else case["features"]
            statistics.collect(fed[part], case["labels"][part])
        statistics.update_last_epoch_stats(epoch)
        statistics.update(epoch)
        for buffer in BUFFERS:
            torch.testing.assert_close(
                getattr(statistics, buffer), case[buffer], **CLOSE, msg=f"{epoch} {buffer}"
            )


@pytest.mark.parametrize("name", BLOCKS)
def test_the_last_block(name):
    case = {key: torch.as_tensor(value) for key, value in CASES[name].items()}
    block = GaussianBlock(Bottleneck(16, 4))
    state = {}
    for key, fields in CASES.items():
        if key.startswith(f"{name}.state."):
            ours = key.removeprefix(f"{name}.state.").replace("edl.conv", "conv3").replace("edl_bn3", "bn3")
            state |= {f"{ours}.{field}": torch.as_tensor(value) for field, value in fields.items()}
    block.load_state_dict(state)
    block.train(bool(case["training"]))
    out = block(case["input"])
    area = torch.cat([torch.ones(16), torch.full((16,), 49.0)])[:, None, None]
    torch.testing.assert_close(out * area, case["block_output"], **CLOSE)
    torch.testing.assert_close(out.mean((2, 3)), case["encoding"], **CLOSE)


def test_a_variance_of_zero_leaves_that_dimension_alone():
    statistics = GaussianFDS(4, 8, 0)
    statistics.running_var_last_epoch[2, 0] = 0
    features = torch.rand(3, 4)
    smoothed = statistics.smooth(features, torch.tensor([2.0, 2.0, 3.0]), 1)
    assert torch.equal(smoothed[:2, ::2], features[:2, ::2])
    assert not torch.equal(smoothed[:, 3], features[:, 3])
    statistics.running_var_last_epoch[:] = 1e-13  # a sum below 1e-10
    assert torch.equal(statistics.smooth(features, torch.tensor([2.0, 2.0, 3.0]), 1), features)


def test_epoch_one_adds_two_to_each_variance():
    statistics, features, labels = GaussianFDS(4, 8, 0), torch.rand(9, 4), torch.arange(9.0)
    statistics.update_last_epoch_stats(0)
    statistics.update_running_stats(features, labels, 0)
    assert torch.equal(statistics.smooth(features, labels, 0), features)
    added = GaussianFDS(4, 8, 0).smooth(features, labels, 1) - features
    torch.testing.assert_close(added, torch.tensor([0.0, 0.0, 2.0, 2.0]).expand(9, 4))


def test_a_beta_that_underflows_gives_a_finite_loss():
    head = PosteriorHead(2, lambda features: features)
    nn.init.constant_(head.linear.bias, -5000.0)
    z = torch.randn(3, 2, requires_grad=True)
    loss = nig_loss(torch.full((3, 1), -5000.0), *nig_parameters(head(z).split(1, dim=1)))
    loss.backward()
    assert loss.isfinite()
    assert z.grad.isfinite().all()
    assert head.predict(z).distribution.stddev.isfinite().all()


# As a part of a run


class Images(nn.Module):
    """A ResNet-18 of few channels on toy vectors laid out as images."""

    feature_dim = 512

    def __init__(self):
        super().__init__()
        resnet = torchvision.models.resnet18()
        for name, child in resnet.named_children():
            if name != "fc":
                self.add_module(name, child)

    def forward(self, x):
        x = x[:, :, None, None].expand(-1, -1, 40, 40)
        for child in self.children():
            x = child(x)
        return x.flatten(1)


IMAGES = toy.replace(toy.TASK, build=lambda settings, data: Images(), target_scale=5.0)


@pytest.mark.parametrize(
    "task",
    [
        pytest.param(toy.replace(toy.KINDS["pairs"], target_scale=5.0), id="pairs"),
        pytest.param(IMAGES, id="resnet", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("flags", ["", "--lds --vir_variant paper"])
def test_wired_as_proven(tmp_path, task, flags):
    run = prepared(tmp_path, f"--vir --vir_coefficient 0.2 {flags}", task=task)
    dim = run.regressor.encoder.feature_dim
    for epoch in range(2):  # so that calibration is no identity
        run.end_epoch(epoch)

    def expect(method, seen):
        assert seen.features.shape[1] == dim
        assert (seen.batch.weights is not None) == bool(flags)
        parameters = nig_parameters(seen.head(seen.features).split(1, dim=1), seen.batch.weights)
        return {"vir": nig_loss(seen.batch.targets / 5, *parameters, 0.2)}

    assert_wired(run, "vir", expect)
    batch = next(run.batches())
    method, raw = run.regressor.methods["vir"], run.regressor.encoder(batch.inputs)
    state = torch.get_rng_state()
    features = method.features(raw, batch, 1)
    torch.set_rng_state(state)
    calibrated = method.statistics.smooth(method.gaussian(raw), batch.targets, 1)
    torch.testing.assert_close(features, sampled(calibrated))
    assert not torch.allclose(calibrated, method.gaussian(raw))
    run.regressor.eval()
    prediction = run.regressor.predict(batch.inputs)
    raw = run.regressor.encoder(batch.inputs)
    gamma = 5 * run.regressor.head.linear(method.gaussian(raw)[:, :dim])[:, :1]
    torch.testing.assert_close(prediction.mean, gamma)


def test_statistics_are_those_of_calibrated_features_only_as_published(tmp_path):
    for variant in ("published", "paper"):
        run = prepared(tmp_path, f"--vir --vir_start_smooth 0 --vir_variant {variant}")
        method, fed = run.regressor.methods["vir"], []
        method.statistics.collect = lambda features, labels, fed=fed: fed.append(features)
        method.statistics.update = lambda epoch: None
        raw, targets = torch.randn(4, 4), torch.tensor([[1.0], [2.0], [3.0], [4.0]])
        batch = next(run.batches())._replace(targets=targets)
        method.end_of_epoch(
            0, lambda what, raw=raw, batch=batch: iter([Seen(batch, raw, raw, None, None, 0)])
        )
        gaussian = method.gaussian(raw)
        calibrated = method.statistics.smooth(gaussian, targets, 0)
        assert not torch.equal(calibrated, gaussian)
        torch.testing.assert_close(fed[0], calibrated if variant == "published" else gaussian)


def test_the_last_convolution_keeps_its_weights_as_the_mean_half():
    encoder, batch = Images().eval(), torch.randn(2, 3)
    before = encoder(batch)
    assert with_gaussian_block(encoder)
    after = encoder.eval()(batch)
    assert after.shape == (2, 1024)
    torch.testing.assert_close(after[:, :512], before)
    assert (after[:, 512:] > 0).all()
    assert {"layer4.1.conv2.weight", "layer4.1.bn2.weight"} <= encoder.state_dict().keys()


@pytest.mark.slow
def test_a_run_on_a_resnet_reports_what_the_head_predicts(tmp_path):
    path = toy.run(tmp_path, "--vir --lds", task=IMAGES, max_vals=2)
    header = (path / "predictions.csv").read_text().splitlines()[0]
    assert header == "label,prediction,shot,unseen,nig_nu,nig_alpha,nig_beta,std,nll,crps,pit"
    assert toy.json.loads((path / "metrics.json").read_text())["shots"]["all"]["nll"] is not None
    assert toy.command.run(IMAGES, toy.settings_of(tmp_path, "--vir --lds --evaluate", task=IMAGES)) == 0


# Bad input


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--fds", "--fds and --vir: VIR calibrates the features itself"),
        ("--vir_ks 21", "--vir_ks 21: is too wide for 10 buckets"),
        ("--loss mse", "--loss and --vir: cannot go together"),
        ("--uvote", "--vir and --uvote: cannot go together"),
    ],
)
def test_contradictions_are_refused(tmp_path, flags, message):
    with pytest.raises(UserError, match=message):
        prepared(tmp_path, f"--vir {flags}")


@pytest.mark.parametrize("name", ["coefficient", "sigma", "mmt"])
@pytest.mark.parametrize("value", ["-1", "nan", "inf"])
def test_a_bad_number_is_refused(tmp_path, name, value, capsys):
    with pytest.raises((UserError, SystemExit)):
        prepared(tmp_path, f"--vir --vir_{name}={value}")
    assert f"--vir_{name}" in capsys.readouterr().err


def test_labels_of_another_shape_are_refused():
    outputs = PosteriorHead(2, lambda features: features)(torch.randn(4, 2)).split(1, dim=1)
    with pytest.raises(ValueError, match="differ in shape"):
        nig_loss(torch.zeros(4), *nig_parameters(outputs))
