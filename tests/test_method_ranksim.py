"""RankSim against its authors' code (Gong et al., ICML 2022), and as a part of a run."""

import pytest
import torch
from proven import Golden, assert_close, assert_gradient, assert_value, logged_steps, refusal, tensor, toy_run

from common.methods.ranksim import one_per_label, ranks, ranksim_loss

GOLDEN = Golden("ranksim")


def loss_of(case, **kwargs):
    """The loss of a case, and its gradient to the features."""
    given = GOLDEN[case]
    features = tensor(given["features"], grad=True)
    loss = ranksim_loss(
        features, torch.tensor(given["targets"]), weight=given["gamma"], interpolation=given["lambda"],
        kept=torch.tensor(given["picked"]), **kwargs,
    )  # fmt: skip
    loss.backward()
    return loss, features.grad


@pytest.mark.parametrize("case", list(GOLDEN))
def test_it_is_the_published_one(case):
    given = GOLDEN[case]
    loss, gradient = loss_of(case)
    assert_value(loss / given["gamma"], given["loss"])
    assert_gradient(gradient, given["grad_features"])


@pytest.mark.parametrize("case", list(GOLDEN))
def test_ranks_are_the_published_ones(case):
    given = GOLDEN[case]
    kept = given["picked"]
    labels = torch.tensor(given["targets"])[kept].flatten()
    assert_close(ranks(-(labels[:, None] - labels).abs()), given["label_ranks"], 1e-7)
    unit = torch.nn.functional.normalize(tensor(given["features"])[kept])
    assert_close(ranks(unit @ unit.T), given["feature_ranks"], 1e-7)


def test_the_paper_draws_ranks_as_whole_numbers():
    loss, gradient = loss_of("distinct16", variant="paper")
    assert_value(loss / 100, GOLDEN["distinct16"]["paper_loss"])
    assert_gradient(gradient, GOLDEN["distinct16"]["paper_grad_features"])


def test_of_each_label_one_row_is_drawn_uniformly():
    torch.manual_seed(0)
    labels = torch.tensor([5.0, 3.0, 5.0, 9.0, 5.0])
    drawn = torch.stack([one_per_label(labels) for _ in range(3000)])
    assert torch.equal(labels[drawn], torch.tensor([3.0, 5.0, 9.0]).expand(3000, 3))
    share = [(drawn[:, 1] == row).float().mean().item() for row in (0, 2, 4)]
    assert share == pytest.approx([1 / 3] * 3, abs=0.03)
    assert one_per_label(torch.tensor([5.0, 3.0, 9.0])).tolist() == [0, 1, 2]  # none repeats: as they are


def test_what_scales_the_loss_scales_its_gradient():
    given = GOLDEN["distinct16"]
    features = tensor(given["features"], grad=True)
    (1024 * ranksim_loss(features, torch.tensor(given["targets"]), weight=100.0)).backward()
    assert_gradient(features.grad / 1024, given["grad_features"])


def test_a_row_of_zeros_has_no_gradient():
    features = torch.randn(6, 4)
    features[2] = 0
    features.requires_grad_()
    ranksim_loss(features, torch.arange(6.0), weight=100.0).backward()
    assert not features.grad[2].any()
    assert features.grad.isfinite().all()
    assert features.grad.abs().max() < 100


@pytest.mark.parametrize("n", [0, 1, 2])
def test_fewer_than_three_labels_have_nothing_out_of_order(n):
    features = torch.randn(n, 4, requires_grad=True)
    loss = ranksim_loss(features, torch.arange(float(n))[:, None])
    loss.backward()
    assert loss == 0
    assert not features.grad.any()


@pytest.mark.parametrize("shape", ["vectors", "pairs", "maps"])
def test_wired_as_proven(tmp_path, shape):
    run = toy_run(
        tmp_path, "--ranksim --fds --start_smooth 0 --ranksim_weight 7 --ranksim_interpolation 3", shape
    )
    for seen, random, logged in logged_steps(run, "ranksim"):
        labels = seen.batch.targets
        if shape == "maps":
            labels = torch.stack([one[one.isfinite()].mean() for one in labels])
        torch.set_rng_state(random)
        loss = ranksim_loss(seen.features.flatten(1), labels, weight=7.0, interpolation=3.0)
        assert loss > 0
        assert logged["ranksim"] == pytest.approx(loss.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--batch_size 1", "--ranksim ranks the samples of a batch: --batch_size 1 must be 3 or more"),
        ("--ranksim_weight -1", "--ranksim_weight: '-1' is no finite number"),
        ("--ranksim_weight nan", "--ranksim_weight: 'nan' is no finite number"),
        ("--ranksim_interpolation 0", "--ranksim_interpolation: '0' is no finite number"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, capsys, flags, message):
    assert message in refusal(lambda: toy_run(tmp_path, f"--ranksim {flags}"), capsys)
