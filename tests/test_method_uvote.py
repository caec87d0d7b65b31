"""UVOTE against numbers of its authors' code, with bad flags, and as a part of a run."""

import math

import numpy as np
import pytest
import torch
import toy
from golden_counts import agedb_train_counts
from proven import assert_gradient
from torch.distributions import Laplace
from wired import assert_wired, cases_of, prepared

from common.errors import UserError
from common.methods.label_density import bin_powers, exponents_of, kernel_density, kernel_weights
from common.methods.laplace import BranchesHead, branch_losses, combine, curriculum
from common.methods.uvote import laplace_nll

CASES = cases_of("uvote")
NLL = [name for name in CASES if name.startswith("nll_")]
BRANCHES = [name for name in CASES if name.startswith("branches_")]
COMBINE = ["combine_2", "combine_3"]
LEFT_OUT = {
    "oracle_*": "the oracle knows the label; it follows from the columns of predictions.csv",
}
ELSEWHERE = {"*_uce": "test_scores"}
CURRICULUM = {"age": "grow", "imdb": "hand_over", "sts": "hand_over"}


def test_every_case_is_tested_or_left_out_with_a_reason():
    assert {*NLL, *BRANCHES, *COMBINE, "agedb_weights_2", "agedb_weights_3", "stsb_weights"} == set(CASES)
    left = {f"{answer}_{field}" for answer in ("oracle",) for field in ("pred", "log_scale", "std", "uce")}
    left |= {f"{answer}_uce" for answer in ("avg", "avgvar", "minvar")}
    tested = {
        f"{answer}_{field}"
        for answer in ("avg", "avgvar", "minvar")
        for field in ("pred", "log_scale", "std")
    }
    for name in COMBINE:
        assert left | tested | {"mu", "log_scale", "target"} == set(CASES[name])


@pytest.mark.parametrize("name", NLL)
def test_the_nll_of_a_branch(name):
    case = {key: torch.as_tensor(value) for key, value in CASES[name].items()}
    mu, log_scale = case["mu"].requires_grad_(), case["log_scale"].requires_grad_()
    loss = laplace_nll(
        mu, log_scale, case["target"], weights=case.get("weights"), clamp_high=float(case["clamp_high"])
    )
    assert loss.item() == pytest.approx(float(case["loss"]), rel=1e-5)
    loss.backward()
    assert_gradient(mu.grad, CASES[name]["grad_mu"])
    assert_gradient(log_scale.grad, CASES[name]["grad_log_scale"])


@pytest.mark.parametrize("name", BRANCHES)
def test_the_sum_of_the_branches(name):
    raw = CASES[name]
    case = {key: torch.as_tensor(raw[key]) for key in ("mu", "log_scale", "target", "weights")}
    variant, epoch, epochs = str(raw["variant"]), int(raw["epoch"]), int(raw["epochs"])
    kind = CURRICULUM[variant] if bool(raw["dynamic"]) else "none"
    coefficients = curriculum(kind, epoch, epochs)
    if kind != "none":
        assert 1 - coefficients[1] == pytest.approx(float(raw["alpha"]))
    mu, log_scale = case["mu"].requires_grad_(), case["log_scale"].requires_grad_()
    high = 10.0 if variant == "imdb" else 5.0
    plain = branch_losses(mu, log_scale, case["target"], case["weights"], (1.0, 1.0), clamp_high=high)
    np.testing.assert_allclose([loss.item() for loss in plain], raw["branch_losses"], rtol=1e-5)
    loss = sum(branch_losses(mu, log_scale, case["target"], case["weights"], coefficients, clamp_high=high))
    assert loss.item() == pytest.approx(float(raw["loss"]), rel=1e-5)
    loss.backward()
    assert_gradient(mu.grad, raw["grad_mu"])
    assert_gradient(log_scale.grad, raw["grad_log_scale"])


def test_static_imdb_wiki_keeps_a_for_the_first_branch():
    assert curriculum("fade", 45, 90) == (0.75, 1.0)
    assert curriculum("hand_over", 250, 200) == (0.0, 1.0)


@pytest.mark.parametrize("name", COMBINE)
@pytest.mark.parametrize("answer", ["minvar", "avg", "avgvar"])
def test_the_answer_of_all_branches(name, answer):
    case = {key: torch.as_tensor(value) for key, value in CASES[name].items()}
    mean, log_scale = combine(case["mu"], case["log_scale"], answer)
    close = {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(mean, case[f"{answer}_pred"], **close, check_dtype=False)
    torch.testing.assert_close(log_scale, case[f"{answer}_log_scale"], **close, check_dtype=False)
    std = Laplace(mean, log_scale.exp()).stddev
    torch.testing.assert_close(std, case[f"{answer}_std"], **close, check_dtype=False)


@pytest.mark.parametrize("branches", [2, 3])
def test_the_weights_of_ages(branches):
    case = CASES[f"agedb_weights_{branches}"]
    np.testing.assert_allclose(exponents_of((), branches), case["exponent"])
    for exponent, weight in zip(case["exponent"], case["weight"], strict=True):
        found = bin_powers(agedb_train_counts(), float(exponent), clip=(5, 1000))
        np.testing.assert_allclose(found[case["age"]], weight, rtol=1e-5)


def test_the_weights_of_scores():
    case, train = CASES["stsb_weights"], cases_of("denseweight")["stsb.alpha1.0"]
    labels, counts = train["label"], train["count"]
    np.testing.assert_allclose(labels, case["score"], atol=1e-6)
    density = kernel_density(labels, counts, float(case["bandwidth"]))
    np.testing.assert_allclose(density, case["density"], rtol=1e-5)
    inverse, root = kernel_weights(density, counts, (1.0, 0.5))
    np.testing.assert_allclose(inverse, case["inverse_weight"], rtol=1e-5)
    np.testing.assert_allclose(root, case["sqrt_inv_weight"], rtol=1e-5)


# As a part of a run


@pytest.mark.parametrize("shape", ["vectors", "pairs", "maps"])
@pytest.mark.parametrize(
    "flags",
    ["", "--lds", "--fds", "--uvote_branches 3 --uvote_curriculum hand_over --uvote_clamp_high 1",
     "--uvote_weights none --uvote_epochs 5"],
)  # fmt: skip
def test_wired_as_proven(tmp_path, shape, flags):
    task = toy.replace(toy.KINDS[shape], target_scale=5.0)
    run = prepared(tmp_path, f"--uvote {flags}", task=task)
    number = 3 if "3" in flags else 2
    counts = toy.BINS.counts(toy.load_as(toy.Vectors)().train.labels)
    counts = 6 * counts if shape == "maps" else counts
    smooth = None
    if flags == "--lds":
        smooth = lambda density: toy_smooth(density)  # noqa: E731
    table = np.stack([bin_powers(counts, m / (number - 1), smooth=smooth) for m in range(number)])

    def expect(method, seen):
        targets, valid = seen.batch.targets, seen.batch.valid
        valid = torch.ones_like(targets, dtype=torch.bool) if valid is None else valid
        outputs = seen.head(seen.features).split(1, dim=1)
        epochs = 5 if "epochs" in flags else 3  # 20 steps in epochs of 7
        a = 1 - (seen.epoch / epochs) ** 2
        losses = {}
        for m in range(number):
            weights = torch.tensor(table[m], dtype=torch.float32)[toy.BINS.index(targets[valid])]
            loss = laplace_nll(
                outputs[m][valid], outputs[number + m][valid], targets[valid] / 5,
                weights=None if "none" in flags else weights, clamp_high=1.0 if number == 3 else 5.0,
            )  # fmt: skip
            first = a if number == 3 else 1.0
            losses[f"uvote_{m}"] = (1 - a if m else first) * loss
        return losses

    assert_wired(run, "uvote", expect)


def toy_smooth(density):
    from common.lds import get_lds_kernel_window, smooth_counts

    return smooth_counts(density, get_lds_kernel_window("gaussian", 5, 2), "constant")


def test_weights_by_a_kernel_have_mean_one_and_belong_to_their_label(tmp_path):
    run = prepared(tmp_path, "--uvote --uvote_branches 3 --uvote_exponents 0 1 0.5 --uvote_weights kde")
    labels = torch.tensor(run.data.train.labels)[:, None]
    weights = run.regressor.methods["uvote"].weights(labels)
    assert weights.shape == (3, len(labels), 1)
    torch.testing.assert_close(weights.mean((1, 2)), torch.ones(3))
    torch.testing.assert_close(weights[0], torch.ones(len(labels), 1))
    ratio = weights[1] / weights[2] ** 2
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio))
    assert weights[1][labels == labels.max()].min() > weights[1][labels == 5].max()


def test_log_scales_train_at_a_tenth_of_the_rate(tmp_path):
    run = prepared(tmp_path, "--uvote")
    groups = run.optimizer.param_groups
    assert [group["lr"] for group in groups] == pytest.approx([0.05, 0.005])
    assert len(groups[1]["params"]) == 4
    before = [p.clone() for p in groups[1]["params"]]
    run.step(next(run.batches()), 1)
    assert not all(torch.equal(old, new) for old, new in zip(before, groups[1]["params"], strict=True))


def test_a_run_reports_each_branch(tmp_path):
    path = toy.run(tmp_path, "--uvote")
    lines = (path / "predictions.csv").read_text().splitlines()
    header = lines[0].split(",")
    assert header[4:] == [
        "branch",
        "mean_0",
        "log_scale_0",
        "mean_1",
        "log_scale_1",
        "std",
        "nll",
        "crps",
        "pit",
    ]
    for line in lines[1:]:
        row = dict(zip(header, line.split(","), strict=True))
        certain = min((0, 1), key=lambda m: float(row[f"log_scale_{m}"]))
        assert float(row["branch"]) == certain
        assert float(row["prediction"]) == pytest.approx(float(row[f"mean_{certain}"]), rel=1e-6)
        scale = math.exp(float(row[f"log_scale_{certain}"]))
        assert float(row["std"]) == pytest.approx(math.sqrt(2) * scale, rel=1e-4)
    assert toy.json.loads((path / "metrics.json").read_text())["shots"]["all"]["ause"] is not None


def test_predictions_are_in_label_units():
    def constant(values):
        return lambda features: torch.tensor(values).expand(len(features), len(values))

    prediction = BranchesHead(constant([1.0, 2.0]), constant([0.5, -200.0]), "minvar", 5.0).predict(
        torch.ones(3, 4)
    )
    assert prediction.mean.tolist() == [[10.0]] * 3
    assert prediction.columns["branch"].tolist() == [[1]] * 3
    assert prediction.distribution.stddev.isfinite().all()
    one = BranchesHead(constant([1.0, 2.0]), constant([0.5, 1.0]), "minvar", 5.0).predict(torch.ones(3, 4))
    torch.testing.assert_close(one.distribution.scale, torch.full((3, 1), 5 * math.exp(0.5)))


# Bad input


def test_one_branch_is_refused(tmp_path, capsys):
    with pytest.raises((UserError, SystemExit)):
        prepared(tmp_path, "--uvote --uvote_branches 1")
    assert "--uvote_branches: '1' is no whole number of at least 2" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["bandwidth", "exponents", "clamp_high", "epochs"])
@pytest.mark.parametrize("value", ["-9", "nan", "inf"])
def test_a_bad_number_is_refused(tmp_path, name, value, capsys):
    with pytest.raises((UserError, SystemExit)):
        prepared(tmp_path, f"--uvote --uvote_{name}={value}")
    assert f"--uvote_{name}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--uvote_exponents 0 0.5 1", "--uvote_exponents: 3 for --uvote_branches 2; give one for each"),
        ("--reweight inverse", "--reweight and --uvote: UVOTE weights each branch itself; drop --reweight"),
        ("--lds --uvote_weights kde", "--lds smooths counts, not --uvote_weights kde"),
        ("--lds --uvote_weights none", "--lds smooths counts, not --uvote_weights none"),
        ("--loss mse", "--loss and --uvote: cannot go together"),
        ("--evidential", "--evidential and --uvote: cannot go together"),
    ],
)
def test_contradictions_are_refused(tmp_path, flags, message):
    with pytest.raises(UserError, match=message):
        prepared(tmp_path, f"--uvote {flags}")


def test_a_kernel_density_of_maps_is_refused(tmp_path):
    with pytest.raises(UserError, match="--uvote_weights kde: needs a label for each sample"):
        prepared(tmp_path, "--uvote --uvote_weights kde", "maps")


def test_other_weights_are_refused(tmp_path):
    task = toy.KINDS["vectors"]

    def load(settings):
        data = task.load(settings)
        data.train.weighted(np.ones(len(data.train), np.float32))
        return data

    with pytest.raises(UserError, match="--uvote: weights each branch itself"):
        prepared(tmp_path, "--uvote", task=toy.replace(task, load=load))


@pytest.mark.parametrize("which", range(4))
def test_predictions_of_another_shape_are_refused(which):
    shapes = [(4, 1)] * 4
    shapes[which] = (4,)
    *three, weights = (torch.ones(shape) for shape in shapes)
    with pytest.raises(ValueError, match="differ in shape"):
        laplace_nll(*three, weights=weights)
