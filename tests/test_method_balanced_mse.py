"""Balanced MSE against its authors' code (Ren et al., CVPR 2022), and as a part of a run."""

import numpy as np
import pytest
import torch
import toy
from golden_counts import agedb_train_counts, nyud2_train_counts
from proven import Golden, assert_gradient, assert_value, logged_steps, refusal, tensor, toy_run

from common.bins import Bins
from common.datasets.depth import DEPTH_BINS
from common.methods import label_prior
from common.methods.balanced_mse import bmc_loss, bni_loss, gai_loss
from common.methods.reweight import ReweightFlags
from common.metrics import Shots, shot_table
from common.task import Data
from common.training import checkpoint

GOLDEN = Golden("balanced_mse")
LEFT_OUT = {
    "bmc_md12": "labels of two dimensions, of a synthetic benchmark; no data set here has them",
    "gai_md12": "labels of two dimensions, of a synthetic benchmark; no data set here has them",
    "nyu": "the maps behind gai_nyu and bni_nyu",
}
OTHERS = ("prior_", "fit_", "metric")  # tested below
CASES = [case for case in GOLDEN if case not in LEFT_OUT and not case.startswith(OTHERS)]
LOSSES = {
    "bmc": (bmc_loss, ()),
    "gai": (gai_loss, ("gmm_weights", "gmm_means", "gmm_variances")),
    "bni": (bni_loss, ("bucket_centers", "bucket_weights")),
}


def test_every_case_is_tested_or_left_out():
    assert set(LEFT_OUT) < set(GOLDEN)
    assert len(CASES) == 23
    assert {case[:3] for case in CASES} == set(LOSSES)


@pytest.mark.parametrize("case", CASES)
def test_it_is_the_published_one(case):
    given = GOLDEN[case]
    loss_of, prior = LOSSES[case[:3]]
    preds, sigma = tensor(given["pred"], grad=True), tensor(given["sigma"], grad=True)
    loss = loss_of(preds, tensor(given["target"]), sigma, *(tensor(given[name]) for name in prior))
    loss.backward()
    assert_value(loss, given["loss"])
    assert_value(loss / (2 * sigma**2), given["paper_loss"])
    assert_gradient(preds.grad, given["grad_pred"])
    assert_gradient(sigma.grad, given["grad_sigma"])


def test_the_depth_cases_are_the_pixels_of_maps_from_the_first_bucket_on():
    maps, given = GOLDEN["nyu"], GOLDEN["bni_nyu"]
    counted = DEPTH_BINS.index(torch.tensor(maps["depth"])) >= 7
    counted &= torch.tensor(maps["depth"] != np.float32(0.7))  # below 0.7 in the recording's float64 alone
    assert np.array_equal(maps["depth"][counted.numpy()], given["target"].ravel())
    assert np.array_equal(maps["output"][counted.numpy()], given["pred"].ravel())


# Priors


def data_with(labels, bins, counts=None, first=0):
    split = type("Split", (), {"labels": labels, "weights": None})()
    shots = Shots(bins, counts if counts is not None else bins.counts(labels), 100, 20)
    buckets = (first, bins.num) if counts is not None else (3, 100)
    return Data(split, split, split, bins, shots, buckets=buckets, counts=counts)


def agedb():
    labels = np.repeat(np.arange(121), agedb_train_counts()).astype(np.float32)
    data = data_with(labels, Bins.integers(0, 200))
    return toy.replace(data, bins=Bins.integers(0, 120))


def nyud2():
    return data_with(None, DEPTH_BINS, nyud2_train_counts(), first=7)


@pytest.mark.parametrize(
    ("case", "data", "flags", "border"),
    [
        ("age_raw", agedb, {"reweight": "sqrt_inv"}, "constant"),
        ("age_lds", agedb, {"reweight": "sqrt_inv", "lds": True}, "constant"),
        ("nyu_none", nyud2, {"reweight": "inverse"}, "reflect"),
        ("nyu_lds", nyud2, {"reweight": "inverse", "lds": True}, "reflect"),
        ("nyu_sqrt_inv", nyud2, {"reweight": "sqrt_inv"}, "reflect"),
        ("nyu_lds_sqrt_inv", nyud2, {"reweight": "sqrt_inv", "lds": True}, "reflect"),
    ],
)
def test_bins_are_the_published_ones(case, data, flags, border):
    centers, shares = label_prior.bins_of(data(), ReweightFlags(**flags), border)
    expected = GOLDEN[f"prior_{case}"]
    assert centers == pytest.approx(expected["bucket_centers"], rel=1e-6)
    assert shares == pytest.approx(expected["bucket_weights"], rel=1e-5, abs=1e-9)


@pytest.mark.parametrize(("case", "data", "components"), [("fit_agedb", agedb, 8), ("fit_nyu", nyud2, 16)])
def test_the_mixture_is_as_likely_as_the_published_one(case, data, components):
    weights, means, variances = label_prior.mixture_of(data(), components)
    labels = label_prior.labels_of(data())[:, None]
    density = weights * np.exp(-((labels - means) ** 2) / (2 * variances)) / np.sqrt(2 * np.pi * variances)
    assert np.log(density.sum(1)).mean() == pytest.approx(GOLDEN[case]["mean_log_likelihood"], abs=0.005)
    assert (np.diff(means) > 0).all()
    again = label_prior.mixture_of(data(), components)
    assert all(map(np.array_equal, (weights, means, variances), again))


def test_depth_is_fitted_as_published():
    assert len(label_prior.labels_of(nyud2())) == GOLDEN["fit_nyu"]["n_values"]


def test_an_empty_bin_has_no_share():
    labels = np.array([1, 1, 4], np.float32)
    centers, shares = label_prior.bins_of(data_with(labels, Bins.integers(0, 9)), ReweightFlags(), "constant")
    assert centers.tolist() == [1, 4]
    assert shares == pytest.approx([2 / 3, 1 / 3])
    loss = bni_loss(torch.zeros(2), torch.ones(2), 1.0, torch.tensor([0.0, 1.0]), torch.tensor([0.0, 1.0]))
    assert loss.isfinite()


# The balanced metric


def test_the_balanced_error_is_the_published_one():
    given = GOLDEN["metric"]
    bins = Bins.integers(0, 200)
    shots = Shots(bins, bins.counts(given["train_labels"]), 100, 20)
    columns = {
        "label": given["labels"].astype(np.float64), "prediction": given["preds"], "bin": bins.index(given["labels"]),
    }  # fmt: skip
    table = shot_table(columns, shots, ("bmae", "bmse", "gm"))
    for key, value in given.items():
        metric, _, group = key.partition("_")
        if group in table:
            assert table[group][metric.replace("gmean", "gm")] == pytest.approx(value, rel=1e-5), key


# Wired


@pytest.mark.parametrize("shape", ["vectors", "pairs", "maps"])
@pytest.mark.parametrize("kind", list(LOSSES))
@pytest.mark.parametrize("variant", ["published", "paper"])
def test_wired_as_proven(tmp_path, shape, kind, variant):
    flags = f"--balanced_mse {kind} --balanced_mse_sigma 2 --balanced_mse_variant {variant} --lds"
    run = toy_run(tmp_path, flags + (" --balanced_mse_pixels 20" if kind == "bmc" else ""), shape)
    method = run.regressor.methods["balanced_mse"]
    names = {"bmc": (), "gai": ("weights", "means", "variances"), "bni": ("centers", "shares")}[kind]
    sigmas = []
    before = method.sigma.item()
    for seen, random, logged in logged_steps(run, "balanced_mse"):
        preds, labels, _ = seen.known()
        if kind == "bmc" and shape == "maps":
            torch.set_rng_state(random)
            rows = torch.randint(len(labels), (20,))
            preds, labels = preds[rows], labels[rows]
        loss = LOSSES[kind][0](preds, labels, before, *(getattr(method, name) for name in names))
        scale = 2 * before**2 if variant == "paper" else 1
        assert logged == {kind: pytest.approx(loss.item() / scale, rel=1e-4)}
        before = method.sigma.item()
        sigmas.append(before)
    assert len(set(sigmas)) == 3  # it is learned
    assert run.rates(0)[1] == 0.01


def test_predictions_are_taken_in_label_units(tmp_path):
    task = toy.replace(toy.KINDS["vectors"], target_scale=5.0)
    plain, scaled = (toy.run(tmp_path / str(i), "--balanced_mse bni --balanced_mse_rate 0", task=one)
                     for i, one in enumerate((toy.KINDS["vectors"], task)))  # fmt: skip
    assert toy.history(scaled)[0]["train_loss"] < toy.history(plain)[0]["train_loss"]


def test_pixels_below_the_first_bucket_are_left_out(tmp_path):
    run = toy_run(tmp_path, "--balanced_mse bni", "maps")
    method = run.regressor.methods["balanced_mse"]
    method.first = 4
    for seen, _, logged in logged_steps(run, "balanced_mse", 1):
        preds, labels, _ = seen.known()
        kept = labels >= 4
        assert 0 < kept.sum() < len(kept)
        loss = bni_loss(preds[kept], labels[kept], 10.0, method.centers, method.shares)
        assert logged["bni"] == pytest.approx(loss.item(), rel=1e-5)
    method.first = 99
    assert run.step(next(run.batches()), 0)["bni"] == 0


def test_the_noise_scale_is_in_the_checkpoint_and_off_the_schedule(tmp_path):
    path = toy.run(tmp_path, "--balanced_mse gai --balanced_mse_rate 0.5 --schedule 1")
    content = checkpoint.load(path / "ckpt.pth.tar")
    assert content["state_dict"]["methods.balanced_mse.sigma"] != 10
    assert [group["lr"] for group in content["optimizer"]["param_groups"]] == pytest.approx([0.005, 0.5])
    assert "GAI: 8 Gaussians on 50 labels, mean log-likelihood" in (path / "training.log").read_text()
    assert toy.command.run(toy.TASK, toy.settings_of(tmp_path, "--balanced_mse gai --balanced_mse_rate 0.5 "
                           "--schedule 1 --evaluate")) == 0  # fmt: skip


def test_a_fixed_noise_scale_stays(tmp_path):
    path = toy.run(tmp_path, "--balanced_mse bmc --balanced_mse_rate 0 --balanced_mse_sigma 3")
    assert checkpoint.load(path / "ckpt.pth.tar")["state_dict"]["methods.balanced_mse.sigma"] == 3


# What cannot be


@pytest.mark.parametrize("kind", list(LOSSES))
@pytest.mark.parametrize("shapes", [((4, 1), (4,)), ((4,), (4, 1)), ((4, 2), (4, 2))])
def test_shapes_that_would_broadcast_are_refused(kind, shapes):
    preds, labels = map(torch.zeros, shapes)
    prior = [torch.ones(3) for _ in LOSSES[kind][1]]
    with pytest.raises(ValueError, match=r"must both be \(n, 1\) or \(n,\)"):
        LOSSES[kind][0](preds, labels, 1.0, *prior)


def test_a_batch_of_one_teaches_bmc_nothing():
    preds = torch.randn(1, 1, requires_grad=True)
    loss = bmc_loss(preds, torch.ones(1, 1), 1.0)
    loss.backward()
    assert loss == 0
    assert not preds.grad.any()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            "bmc --batch_size 1",
            "--balanced_mse bmc learns from the labels of a batch: --batch_size 1 must be 2",
        ),
        ("bmc --balanced_mse_sigma 0", "--balanced_mse_sigma: '0' is no finite number"),
        ("bmc --balanced_mse_sigma inf", "--balanced_mse_sigma: 'inf' is no finite number"),
        ("bmc --balanced_mse_rate -1", "--balanced_mse_rate: '-1' is no finite number"),
        ("bmc --loss mse", "--loss and --balanced_mse: cannot go together, each has a criterion"),
        ("gai --balanced_mse_components 11", "fits --balanced_mse_components 11 Gaussians"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, capsys, flags, message):
    assert message in refusal(lambda: toy_run(tmp_path, f"--balanced_mse {flags}"), capsys)


def test_a_mixture_needs_labels_with_spread(capsys):
    data = data_with(np.full(50, 30, np.float32), Bins.integers(0, 120))
    message = refusal(lambda: label_prior.mixture_of(data, 1), capsys)
    assert "have 1 distinct value; use fewer, or --balanced_mse bni" in message
