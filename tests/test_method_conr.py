"""ConR against its authors' code (Keramati et al., ICLR 2024), and as a part of a run."""

import numpy as np
import pytest
import tiny_faces
import torch
import toy
from proven import Golden, assert_gradient, assert_value, logged_steps, refusal, tensor, toy_run

from common.datasets.faces import read_faces
from common.images.augment import jitter_colours
from common.images.split import load_faces
from common.methods import conr
from common.methods.conr import conr_loss
from common.task import Draw

GOLDEN = Golden("conr")
AGE = [case for case in GOLDEN if not case.startswith("nyu")]
DEPTH = [case for case in GOLDEN if case.startswith("nyu")]


def loss_of(case, variant="published"):
    """The loss of a case, and its gradient to the features."""
    given = GOLDEN[case]
    names = (
        ("feature", "depth", "output", "weight")
        if case in DEPTH
        else ("features", "targets", "preds", "weights")
    )
    features, labels, preds, weights = (given[name] for name in names)
    features = tensor(features, grad=True)
    loss = conr_loss(
        features, torch.tensor(labels), torch.tensor(preds), weights=torch.tensor(weights),
        window=float(given["w"]), temperature=float(given["t"]), push=float(given["e"]), variant=variant,
    )  # fmt: skip
    loss.backward()
    return loss, features.grad


def test_every_case_is_tested():
    assert (len(AGE), len(DEPTH)) == (13, 5)


@pytest.mark.parametrize("case", AGE)
def test_it_is_the_published_one(case):
    given = GOLDEN[case]
    loss, gradient = loss_of(case)
    # Published, an anchor without positives makes all NaN: `one_view8_nan`.
    guarded = case == "one_view8_nan"
    assert np.isnan(given["loss"]) == guarded
    assert_value(loss, given["guarded_loss" if guarded else "loss"])
    assert_gradient(gradient, given["guarded_grad_features" if guarded else "grad_features"])


@pytest.mark.parametrize("case", [case for case in AGE if "paper_loss" in GOLDEN[case]])
def test_the_paper_has_no_ones_and_no_outer_weight(case):
    loss, gradient = loss_of(case, "paper")
    assert_value(loss, GOLDEN[case]["paper_loss"])
    assert_gradient(gradient, GOLDEN[case]["paper_grad_features"])


@pytest.mark.parametrize("case", DEPTH)
def test_on_depth_it_is_the_published_one(case):
    loss, gradient = loss_of(case, "depth")
    assert_value(loss, GOLDEN[case]["loss"])
    assert_gradient(gradient, GOLDEN[case]["grad_feature"])


@pytest.mark.parametrize("variant", ["published", "paper", "depth"])
@pytest.mark.parametrize(
    ("labels", "preds"),
    [
        ([], []), ([30], [30]), ([30, 30], [30, 30]),  # one label
        ([30, 40, 50], [60, 60, 60]),  # no positive
        ([30, 30, 50], [10, 10, 90]),  # no negative
        ([30, 50], [10, 90]),  # neither
    ],
)  # fmt: skip
def test_what_has_no_pair_gives_nothing(variant, labels, preds):
    features = torch.randn(len(labels), 4, requires_grad=True)
    columns = (torch.tensor(values, dtype=torch.float32)[:, None] for values in (labels, preds))
    loss = conr_loss(features, *columns, variant=variant)
    loss.backward()
    assert loss == 0
    assert not features.grad.any()


def test_weights_of_zero_and_rows_of_zeros_are_finite():
    features = torch.randn(6, 4)
    features[0] = 0
    features.requires_grad_()
    labels = torch.tensor([30.0, 30, 50, 50, 70, 70])[:, None]
    for variant in ("published", "paper", "depth"):
        weights = torch.tensor([0.0, 1, 1, 1, 0, 1])[:, None]
        loss = conr_loss(features, labels, torch.ones(6, 1), weights=weights, variant=variant)
        loss.backward()
        assert loss.isfinite()
        assert features.grad.isfinite().all()
        assert not features.grad[0].any()


def test_a_tiny_temperature_is_finite():
    loss = conr_loss(torch.randn(8, 4), torch.arange(8.0)[:, None], torch.ones(8, 1), temperature=1e-3)
    assert loss.isfinite()


# Wired


@pytest.fixture
def predicted(monkeypatch):
    """What the head says of the further views, before a step moves it."""
    real, notes = conr.predictions_of, []

    def noted(*args):
        notes.append(real(*args))
        return notes[-1]

    monkeypatch.setattr(conr, "predictions_of", noted)
    return notes


@pytest.mark.parametrize("more", ["", "--conr_variant paper", "--reweight inverse", "--fds --start_smooth 0"])
def test_wired_as_proven(tmp_path, more, predicted):
    run = toy_run(tmp_path, f"--conr --conr_weight 3 --conr_window 0.5 --conr_temperature 0.3 {more}")
    assert run.views == 3
    for seen, _, logged in logged_steps(run, "conr"):
        labels, weights = seen.batch.targets, seen.batch.weights
        assert (len(labels), len(seen.outputs), len(seen.extra)) == (8, 8, 16)
        with torch.no_grad():
            loss = conr_loss(
                seen.extra, torch.cat([labels, labels]), predicted[-1],
                weights=None if weights is None else torch.cat([weights, weights]),
                window=0.5, temperature=0.3, variant="paper" if "paper" in more else "published",
            )  # fmt: skip
        assert loss > 0
        assert logged["conr"] == pytest.approx(3 * loss.item(), rel=1e-5)
        assert logged["l1"] == pytest.approx(
            ((seen.outputs - labels).abs() * (1 if weights is None else weights)).mean().item(), rel=1e-5
        )


def test_predictions_of_further_views_are_in_label_units_and_not_smoothed(tmp_path, predicted):
    toy.KINDS["scaled"] = toy.replace(toy.KINDS["vectors"], target_scale=5.0)
    try:
        run = toy_run(tmp_path, "--conr --fds --start_smooth 0", "scaled")
    finally:
        del toy.KINDS["scaled"]
    head = run.regressor.head
    before = head.weight.detach().clone(), head.bias.detach().clone()
    for seen, _, _ in logged_steps(run, "conr", 1):
        assert torch.allclose(predicted[-1], 5 * torch.nn.functional.linear(seen.extra, *before))


def test_on_maps_a_row_is_an_image(tmp_path):
    run = toy_run(tmp_path, "--conr --conr_window 0.6 --conr_weight 2 --reweight inverse", "maps")
    assert run.views == 1
    for seen, _, logged in logged_steps(run, "conr"):
        valid, n = seen.batch.valid, len(seen.batch.targets)
        columns = [
            torch.stack([one[known].mean() for one, known in zip(part, valid, strict=True)])[:, None]
            for part in (seen.batch.targets, seen.outputs, seen.batch.weights)
        ]
        loss = conr_loss(seen.raw, *columns[:2], weights=columns[2], window=0.6, variant="depth")
        assert len(columns[0]) == n
        assert logged["conr"] == pytest.approx(2 * loss.item(), rel=1e-4)


def test_an_image_without_a_known_pixel_has_no_row(tmp_path):
    run = toy_run(tmp_path, "--conr --ranksim", "maps")
    batch = next(run.batches())
    targets = batch.targets.clone()
    targets[2] = torch.nan
    batch = batch._replace(targets=targets, valid=targets.isfinite())
    assert all(loss.isfinite() for loss in run.step(batch, 0).values())


def test_it_adds_up_with_the_others(tmp_path):
    run = toy_run(tmp_path, "--lds --fds --ranksim --conr")
    losses = run.step(next(run.batches()), 0)
    assert set(losses) == {"l1", "ranksim", "conr"}


# Augmentation


def test_data_without_augmentation_are_refused(tmp_path, capsys):
    toy.KINDS["plain"] = toy.replace(toy.KINDS["pairs"], methods_without=())
    try:
        message = refusal(lambda: toy_run(tmp_path, "--conr", "plain"), capsys)
    finally:
        del toy.KINDS["plain"]
    assert message.startswith("--conr compares random views of a sample, and Toy has no augmentation")


def test_colours_change_by_the_seed_and_no_more_than_asked():
    images = torch.randint(60, 200, (16, 3, 8, 8), dtype=torch.uint8)
    made = jitter_colours(images, Draw(np.arange(16), 5), 0.2)
    assert torch.equal(made, jitter_colours(images, Draw(np.arange(16), 5), 0.2))
    assert not torch.equal(made, jitter_colours(images, Draw(np.arange(16), 6), 0.2))
    assert torch.equal(images, jitter_colours(images, Draw(np.arange(16), 5), 0.0))
    assert made.dtype == torch.uint8
    change = (made.float() - images.float()).abs()
    assert (change.flatten(1).mean(1) > 0.5).all()
    assert change.max() < 255 * 3 * 0.2


def test_a_face_split_gets_colours_in_training_only(tmp_path):
    table = read_faces(tiny_faces.write_faces(tmp_path) / "agedb.csv")
    split = load_faces(table, img_size=16, cache="off")["train"]
    draws = [Draw(np.tile(np.arange(8), 3), 7)]

    def images(one, augment):
        return next(one.batches(draws, augment=augment, device=torch.device("cpu"))).inputs

    coloured = split.jittered(0.2)
    assert torch.equal(images(coloured, False), images(split, False))
    assert torch.equal(images(coloured, True), images(coloured, True))
    assert not torch.equal(images(coloured, True), images(split, True))
    assert torch.equal(images(split.jittered(0.0), True), images(split, True))
    assert not torch.equal(*images(split, True)[8:].chunk(2))  # the two further views differ


@pytest.mark.slow
def test_faces_are_trained_with_further_views(tmp_path):
    data = tiny_faces.write_faces(tmp_path / "data")
    argv = tiny_faces.command(data, "--conr --conr_jitter 0.1 --ranksim --lds --fds")
    run = tiny_faces.trained_in(tmp_path, argv)
    assert "_ranksim_100_2_conr_4_1_0.07_0.01_jitter_0.1_" in run.name
    assert {"l1", "conr", "ranksim"} == set(toy.history(run)[0]["losses"])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--conr_weight -1", "--conr_weight: '-1' is no finite number"),
        ("--conr_weight inf", "--conr_weight: 'inf' is no finite number"),
        ("--conr_temperature 0", "--conr_temperature: '0' is no finite number"),
        ("--conr_push nan", "--conr_push: 'nan' is no finite number"),
        (
            "--evidential",
            "--conr and --evidential: cannot go together, as negatives are chosen by one prediction",
        ),
        ("--uvote", "--conr and --uvote: cannot go together"),
        ("--vir", "--conr and --vir: cannot go together"),
        ("--rnc", "--conr and --rnc: cannot go together"),
        ("--conr_jitter 0.1", "--conr_jitter: there are no colours to change in Toy"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, capsys, flags, message):
    assert message in refusal(lambda: toy_run(tmp_path, f"--conr {flags}"), capsys)


@pytest.mark.parametrize(("labels", "preds"), [((4,), (4, 1)), ((4, 1), (4,))])
def test_shapes_that_would_broadcast_are_refused(labels, preds):
    with pytest.raises(ValueError, match="differ in shape"):
        conr_loss(torch.zeros(4, 2), torch.zeros(labels), torch.zeros(preds))


def test_half_precision_around_it_changes_nothing():
    features, labels = torch.randn(8, 4), torch.tensor([30.0, 30, 31, 50, 50, 51, 70, 70])[:, None]
    with torch.autocast("cpu", torch.bfloat16):
        loss = conr_loss(features, labels, torch.ones(8, 1))
    assert loss == conr_loss(features, labels, torch.ones(8, 1)) > 0
