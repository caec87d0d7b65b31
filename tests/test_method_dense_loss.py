"""DenseLoss against the published package (Steininger et al., 2021), and as a part of a run."""

import numpy as np
import pytest
import torch
import toy
from proven import Golden, assert_gradient, assert_value, logged_steps, refusal, tensor, toy_run

from common.loss import weighted_l1_loss, weighted_mse_loss
from common.methods.dense_loss import DenseWeight

GOLDEN = Golden("denseweight")
LEFT_OUT = {
    "edge_refit": "a second fit of one object, which keeps the first bandwidth; here an object is fitted once",
}
LOSSES = ("denseloss_ages", "denseloss_scores")
CASES = [case for case in GOLDEN if case not in (*LEFT_OUT, *LOSSES, "edge")]


def fitted(case):
    """The weights of a case, its labels, and how often each is there."""
    given = GOLDEN[case]
    labels = given["labels"] if "labels" in given else given["label"]
    counts = given.get("count", np.ones(len(labels), int))
    # Of the bandwidth by name, only its value can be asked for.
    width = None if given["bandwidth_in"] == "rule" else given["bandwidth"]
    return DenseWeight(np.repeat(labels, counts), given["alpha"], given["eps"], width), labels, counts


def test_every_case_is_tested_or_left_out():
    assert len(CASES) == 14
    assert set(LEFT_OUT) < set(GOLDEN)


@pytest.mark.parametrize("case", CASES)
def test_it_is_the_published_one(case):
    given, (weight, labels, counts) = GOLDEN[case], fitted(case)
    expected = given["weights"] if "weights" in given else given["weight"]
    assert weight(labels) == pytest.approx(expected, rel=1e-9)
    assert weight.density(labels) == pytest.approx(given["density"], rel=1e-9, abs=1e-12)
    assert weight.bandwidth == pytest.approx(given["bandwidth"], rel=1e-12)
    assert (weight.grid[0], weight.grid[-1], len(weight.grid)) == pytest.approx(
        (given["grid_first"], given["grid_last"], given["grid_size"]), rel=1e-12
    )
    assert weight.mean == pytest.approx(given["mean_w_star"], rel=1e-9)
    assert np.average(weight(labels), weights=counts) == pytest.approx(1)
    if "query" in given:
        assert weight(given["query"]) == pytest.approx(given["query_weight"], rel=1e-9)


@pytest.mark.parametrize("case", ["agedb.alpha1.0", "stsb.alpha1.0"])
def test_labels_of_a_split_and_counts_give_the_same_weights(case):
    given = GOLDEN[case]
    labels = given["label"].astype(np.float32)  # as a split has them
    weight = DenseWeight(labels, given["alpha"], given["eps"], counts=given["count"])
    assert weight(labels) == pytest.approx(given["weight"], abs=1e-6)


@pytest.mark.parametrize("case", LOSSES)
@pytest.mark.parametrize(("name", "loss_of"), [("l1", weighted_l1_loss), ("mse", weighted_mse_loss)])
def test_the_loss_is_the_published_one(case, name, loss_of):
    given = GOLDEN[case]
    weights = DenseWeight(given["target"], given["alpha"])(given["target"])
    assert weights == pytest.approx(given["weight"], rel=1e-5)
    preds = tensor(given["pred"], grad=True)
    loss = loss_of(preds, tensor(given["target"]), weights=tensor(weights))
    loss.backward()
    assert_value(loss, given[f"{name}_loss"])
    assert_gradient(preds.grad, given[f"{name}_grad_pred"])


@pytest.mark.parametrize("labels", [[3.0, 3.0, 3.0], [3.0], []])
def test_labels_without_spread_are_refused(labels):
    assert set(GOLDEN["edge"].values()) == {"ValueError"}  # as published
    with pytest.raises(ValueError, match="training labels of two values at least"):
        DenseWeight(labels)


def test_labels_of_any_unit_have_the_weights_of_a_kernel_of_width_one():
    labels = np.random.default_rng(0).gamma(2, size=300)
    labels /= DenseWeight(labels).bandwidth
    for unit in (4e3, 1e6):
        assert DenseWeight(labels * unit)(labels * unit) == pytest.approx(
            DenseWeight(labels)(labels), rel=1e-6
        )


@pytest.mark.parametrize("shape", ["vectors", "pairs"])
@pytest.mark.parametrize("loss", ["l1", "mse"])
def test_wired_as_proven(tmp_path, shape, loss):
    run = toy_run(tmp_path, f"--dense_loss --dense_loss_alpha 0.7 --loss {loss}", shape)
    weight = DenseWeight(run.data.train.labels, 0.7)
    loss_of = {"l1": weighted_l1_loss, "mse": weighted_mse_loss}[loss]
    for seen, _, logged in logged_steps(run, "criterion"):
        targets = seen.batch.targets
        wanted = loss_of(seen.outputs, targets, weights=torch.tensor(weight(targets)).float())
        assert logged == {loss: pytest.approx(wanted.item(), rel=1e-5)}


def test_of_maps_each_bin_has_a_weight(tmp_path):
    run = toy_run(tmp_path, "--dense_loss", "maps")
    counts, weights = run.data.counts, run.data.train.weights
    assert weights.shape == (10,)
    assert np.average(weights, weights=counts) == pytest.approx(1, rel=1e-5)
    assert np.argmax(weights) == 9  # no pixel is there, nor near
    for seen, _, logged in logged_steps(run, "criterion", 1):
        outputs, targets, bins = *seen.known()[:2], toy.BINS
        wanted = weighted_l1_loss(outputs, targets, weights=torch.tensor(weights)[bins.index(targets)])
        assert logged["l1"] == pytest.approx(wanted.item(), rel=1e-5)


def test_bins_below_the_first_bucket_take_its_weight(tmp_path):
    task = toy.KINDS["maps"]
    load = task.load

    def with_buckets(settings):
        return toy.replace(load(settings), buckets=(3, 10))

    toy.KINDS["cut"] = toy.replace(task, load=with_buckets)
    try:
        weights = toy_run(tmp_path, "--dense_loss", "cut").data.train.weights
    finally:
        del toy.KINDS["cut"]
    assert len(set(weights[:4])) == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            "--reweight inverse",
            "--reweight and --dense_loss: cannot go together, each has a weighting of its own",
        ),
        ("--lds", "--lds and --dense_loss: cannot go together, each weights the loss"),
        ("--dense_loss_alpha -1", "--dense_loss_alpha: '-1' is no finite number"),
        ("--dense_loss_alpha nan", "--dense_loss_alpha: 'nan' is no finite number"),
        ("--dense_loss_bandwidth 0", "--dense_loss_bandwidth: '0' is no finite number"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, capsys, flags, message):
    assert message in refusal(lambda: toy_run(tmp_path, f"--dense_loss {flags}"), capsys)
