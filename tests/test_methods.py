"""Every method on every toy data set; and all that a method may bring, by methods made up for it.

A method that is added tomorrow is tested here for nothing.
"""

import math
import os
import signal
from dataclasses import dataclass

import pytest
import torch
import toy
from runs import ended, in_child, same
from torch import nn
from torch.distributions import Normal

from common import cli, method
from common.errors import RunFailed, UserError
from common.flags import field_flags, flag, type_of
from common.method import Head, Method, Needs, all_methods, choose_methods, combined_needs, legend
from common.metrics import WHERE_KNOWN
from common.settings import Training
from common.task import Batch, Prediction
from common.training import checkpoint, command, engine
from common.training.regressor import Regressor, build_regressor, set_up


def ways_to_ask(kind):
    """The command lines that ask for a method: its first flag, with each of its choices, or 1."""
    name, how = next(iter(field_flags(kind.Flags).items()))
    if type_of(kind.Flags, name)[0] is bool:
        return [kind.option()]
    return [f"{kind.option()} {choice}" for choice in how.choices or ("1",) if choice != "none"]


CASES = [
    pytest.param(shape, flags, id=f"{shape}{flags}")
    for shape, task in toy.KINDS.items()
    for kind in all_methods()
    if kind.name() not in task.methods_without
    for flags in ways_to_ask(kind)
]
SUMS = {
    "vectors": "--lds --fds --ranksim --conr", "pairs": "--dense_loss --fds --ranksim --balanced_mse gai",
    "maps": "--lds --fds --ranksim --conr --balanced_mse bni",
}  # fmt: skip
CASES += [pytest.param(shape, flags, id=f"{shape}{flags}") for shape, flags in SUMS.items()]
CASES += [
    pytest.param(shape, f"--fds --fds_pass online{more}", id=f"{shape} online{more}")
    for shape, more in (("vectors", " --ranksim"), ("vectors", " --fds_variant released"), ("maps", ""))
]


@pytest.fixture(scope="module")
def first_stage(tmp_path_factory):
    """The best checkpoint of a first stage of each shape, where a method needs one."""
    made = {}

    def stage(shape):
        if shape not in made:
            path = toy.run(tmp_path_factory.mktemp(shape), task=toy.KINDS[shape], max_vals=1)
            made[shape] = path / "ckpt.best.pth.tar"
        return made[shape]

    return stage


def settings_of(root, shape, flags, first_stage):
    try:
        return toy.settings_of(root, flags, task=toy.KINDS[shape])
    except UserError as error:
        assert "--pretrained" in str(error)
        return toy.settings_of(root, flags, f"--pretrained {first_stage(shape)}", task=toy.KINDS[shape])


def toy_run_of(tmp_path, shape, flags, first_stage):
    """A run before its first step."""
    task = toy.KINDS[shape]
    settings = settings_of(tmp_path, shape, flags, first_stage)
    methods, data = choose_methods(task, settings), task.load(settings)
    for one in methods:
        data = one.prepare(data)
    regressor = build_regressor(task, settings, data, methods)
    set_up(regressor, task, settings, data)
    return engine.Run(task, settings, data, regressor, None)


@pytest.mark.parametrize(("shape", "flags"), CASES)
def test_three_steps_are_finite_and_reach_what_trains(tmp_path, shape, flags, first_stage):
    run = toy_run_of(tmp_path, shape, flags, first_stage)
    regressor = run.regressor
    batches = run.batches()
    for step in range(3):
        losses = run.step(next(batches), step)
        assert losses
        assert all(math.isfinite(loss) for loss in losses.values())
    trains = [p for p in regressor.encoder.parameters() if p.requires_grad] or list(
        regressor.head.parameters()
    )
    assert any(p.grad is not None and bool(p.grad.any()) for p in trains)
    run.end_epoch(0)


@pytest.mark.parametrize(("shape", "flags"), CASES)
def test_losses_are_in_full_precision_under_autocast(tmp_path, shape, flags, first_stage):
    run = toy_run_of(tmp_path, shape, flags, first_stage)
    with torch.autocast("cpu", torch.bfloat16):
        losses = run.regressor.train()(next(run.batches()), 0)
    assert {loss.dtype for loss in losses.values()} <= {torch.float32, torch.float64}
    sum(losses.values()).backward()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in run.regressor.parameters())


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "flags"), CASES)
def test_a_killed_run_ends_the_same(tmp_path, shape, flags, first_stage):
    task = toy.KINDS[shape]

    def go(root):
        return command.run(task, settings_of(root, shape, flags, first_stage))

    first_stage(shape)
    assert go(tmp_path / "whole") == 0

    def dies_at_step_nine():
        real, steps = engine.Run.step, []

        def step(self, *args):
            steps.append(None)
            if len(steps) == 9:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(self, *args)

        engine.Run.step = step

    assert ended(in_child(lambda: go(tmp_path / "killed"), dies_at_step_nine)) == -signal.SIGKILL
    assert go(tmp_path / "killed") == 0
    ends = [checkpoint.load(tmp_path / name / "run" / "ckpt.pth.tar") for name in ("whole", "killed")]
    assert same(ends[0]["state_dict"], ends[1]["state_dict"])
    assert same(ends[0]["optimizer"], ends[1]["optimizer"])
    results = [toy.history(tmp_path / name / "run")[-1]["val"] for name in ("whole", "killed")]
    assert results[0] == results[1]


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "flags"), CASES)
def test_an_empty_shot_does_not_crash(tmp_path, shape, flags, first_stage):
    def load_without_many(settings):
        data = toy.KINDS[shape].load(settings)
        shots = type(data.shots)(data.shots.bins, data.shots.counts, 10**6, 2)
        return type(data)(**{**vars(data), "shots": shots})

    task = toy.replace(toy.KINDS[shape], load=load_without_many)
    settings = settings_of(tmp_path, shape, flags, first_stage)
    assert command.run(task, settings) == 0
    table = toy.history(tmp_path / "run")[-1]["val"]
    if any(m.owns_head and m.head(4) is None for m in choose_methods(task, settings)):
        assert table == {}  # without a head there is nothing to validate
    else:
        known = (
            set(WHERE_KNOWN) & table["many"].keys()
        )  # of labels, or of a head that predicts a distribution
        assert table["many"] == {"n": 0, "mae": None, "mse": None} | dict.fromkeys(known)


@pytest.mark.parametrize(
    "kind", [kind for kind in all_methods() if not kind.maps], ids=lambda kind: kind.name()
)
def test_a_method_without_maps_refuses_them(tmp_path, kind):
    task = toy.replace(toy.KINDS["maps"], methods_without=())
    settings = toy.settings_of(tmp_path, kind.option(), task=task)
    data = task.load(settings)
    with pytest.raises(UserError, match=f"{kind.option()}.*maps"):
        for one in choose_methods(task, settings):
            data = one.prepare(data)


# What a method may bring


@dataclass(frozen=True)
class ScratchFlags:
    """Scratch."""

    scratch: bool = flag(False, "a method made up for a test")


class Scratch(Method):
    """A method that only its subclasses give something to do."""

    label = "Scratch"
    Flags = ScratchFlags


@pytest.fixture
def brings(monkeypatch, tmp_path):
    """Run the toy task with one more method, made of these attributes; returns the run directory."""

    def run(flags="--scratch", *, task=toy.TASK, folder="a", **attributes):
        kind = type("Scratch", (Scratch,), attributes)
        others = method.all_methods.__wrapped__()
        monkeypatch.setattr(method, "all_methods", lambda: (*others, kind))
        monkeypatch.setattr("common.training.regressor.all_methods", method.all_methods)
        return toy.run(tmp_path / folder, flags, task=task)

    return run


def test_a_method_brings_parameters_with_a_rate_of_their_own(brings):
    def build(self, dim, data):
        self.noise = nn.Parameter(torch.ones(()))

    def losses(self, seen):
        return {"noise": (self.noise - 3) ** 2}

    path = brings(build=build, losses=losses, rate=0.5)
    content = checkpoint.load(path / "ckpt.pth.tar")
    assert content["state_dict"]["methods.test_methods.noise"] == pytest.approx(3, abs=0.6)
    assert [group["lr"] for group in content["optimizer"]["param_groups"]] == [0.05, 0.5]
    record = toy.history(path)[0]
    assert set(record["losses"]) == {"l1", "noise"}
    assert record["train_loss"] == pytest.approx(sum(record["losses"].values()))
    assert "(l1 " in (path / "training.log").read_text()


class Gaussian(Head):
    """Mean and deviation by a linear layer."""

    def __init__(self, dim):
        super().__init__()
        self.linear = nn.Linear(dim, 2)

    def forward(self, features):
        return self.linear(features)

    def predict(self, features):
        mean, log_scale = self(features).split(1, 1)
        return Prediction(mean, Normal(mean, log_scale.exp()), {"log_scale": log_scale})


def gaussian_nll(self, seen):
    mean, log_scale = seen.outputs.split(1, 1)
    return {"nll": -Normal(mean, log_scale.exp()).log_prob(seen.batch.targets).mean()}


GAUSSIAN = {
    "roles": frozenset({"head", "criterion"}), "owns_head": True, "head": lambda self, dim: Gaussian(dim),
    "losses": gaussian_nll,
}  # fmt: skip


def test_a_method_brings_a_head_and_its_predictions_are_columns(brings):
    path = brings(**GAUSSIAN)
    lines = (path / "predictions.csv").read_text().splitlines()
    assert lines[0] == "label,prediction,shot,unseen,log_scale,std,nll,crps,pit"
    assert len(lines) == 21
    table = toy.json.loads((path / "metrics.json").read_text())["shots"]["all"]
    assert {"mae", "mse", *WHERE_KNOWN} <= table.keys()
    assert math.isfinite(table["nll"])
    assert "AUSE" in (path / "training.log").read_text()
    assert set(toy.history(path)[0]["losses"]) == {"nll"}  # in place of the criterion


def test_a_first_stage_trains_no_head(brings):
    path = brings(
        roles=frozenset({"head", "criterion"}), owns_head=True, head=lambda self, dim: None,
        needs=Needs(keep="last"), losses=lambda self, seen: {"norm": seen.features.square().mean()},
    )  # fmt: skip
    assert toy.json.loads((path / "metrics.json").read_text())["shots"] == {}
    assert not any(
        key.startswith("net.linear") for key in checkpoint.load(path / "ckpt.pth.tar")["state_dict"]
    )
    assert [record["best"] for record in toy.history(path)] == [True] * 4


def test_a_method_brings_views_in_whole_batches(brings):
    seen_labels = []

    def losses(self, seen):
        first, second = seen.batch.targets.chunk(2)
        seen_labels.append(torch.equal(first, second) and len(first) == 8)
        return {}

    brings(losses=losses, needs=Needs(views=2, drop_last=True))
    assert len(seen_labels) == 20
    assert all(seen_labels)


def test_extra_views_are_seen_as_features_and_by_nothing_else(brings):
    shapes, means = [], []

    def losses(self, seen):
        shapes.append((len(seen.batch.targets), len(seen.outputs), len(seen.features), len(seen.extra)))
        means.append(seen.extra.detach().mean().item())
        return {"pull": seen.extra.square().mean()}

    brings(losses=losses, needs=Needs(extra_views=2))
    assert set(shapes) == {(8, 8, 8, 16), (2, 2, 2, 4)}  # 50 samples in batches of 8
    assert len(shapes) == len(set(means)) == 20


def test_batch_norm_of_the_others_does_not_see_extra_views():
    class Normed(nn.Module):
        feature_dim = 3

        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(3)

        def forward(self, x):
            return self.norm(x)

    kind = type("Scratch", (Scratch,), {"needs": Needs(extra_views=1)})
    with_extra = kind.__new__(kind)
    nn.Module.__init__(with_extra)
    seen = []
    with_extra.losses = lambda one: seen.append(one) or {"none": one.raw.sum()}
    inputs = torch.randn(8, 3)
    batch = Batch(inputs, torch.zeros(8, 1), None)
    Regressor(Normed(), nn.Linear(3, 1), [with_extra]).train()(batch, 0)
    assert torch.equal(seen[0].raw, Normed().train()(inputs[:4]))
    assert torch.equal(seen[0].extra, Normed().train()(inputs[4:]))


@pytest.mark.parametrize(("scheduled", "rate"), [(True, 0.005), (False, 0.5)])
def test_the_rate_of_a_method_may_stay(brings, scheduled, rate):
    def build(self, dim, data):
        self.noise = nn.Parameter(torch.ones(()))

    def losses(self, seen):
        return {"noise": self.noise**2}

    path = brings("--scratch --schedule 1 2", build=build, losses=losses, rate=0.5, scheduled=scheduled)
    groups = checkpoint.load(path / "ckpt.pth.tar")["optimizer"]["param_groups"]
    assert [group["lr"] for group in groups] == pytest.approx([0.0005, rate])


def test_the_last_epoch_may_be_kept_and_the_schedule_be_a_cosine(brings):
    path = brings(needs=Needs(keep="last", schedule="cosine"))
    content = checkpoint.load(path / "ckpt.best.pth.tar")
    assert content["state"]["step"] == 20
    rates = [record["lr"] for record in toy.history(path)]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == 0.05
    assert rates[-1] == pytest.approx(0.05 * (1 + math.cos(math.pi * 2 / 3)) / 2)


def test_the_encoder_may_stay_in_eval_mode_and_be_changed(brings):
    modes = []

    def losses(self, seen):
        modes.append((self.encoder_.training, self.training, bool(seen.raw.any())))
        return {}

    def setup(self, regressor):
        regressor.encoder.body[1] = nn.ReLU()
        self.__dict__["encoder_"] = regressor.encoder

    brings(losses=losses, setup=setup, needs=Needs(eval_encoder=True))
    assert set(modes) == {(False, True, True)}


def test_stronger_augmentation_is_a_split_of_its_own(brings):
    asked = []

    class Stronger(toy.Vectors):
        def batches(self, draws, *, augment, device):
            asked.append(augment)
            return super().batches(draws, augment=augment, device=device)

    def prepare(self, data):
        return toy.replace(data, train=Stronger(50, 0))

    brings(prepare=prepare)
    assert asked == [True]


def test_a_loss_that_is_not_finite_is_named_with_its_step(brings):
    def losses(self, seen):
        return {"rank": seen.features.mean() * (float("nan") if seen.epoch == 1 else 1)}

    with pytest.raises(RunFailed, match=r"the loss rank is nan at step 8 \(epoch 1\)"):
        brings(losses=losses)


# What cannot go together


def test_two_criteria_name_both_flags(brings):
    with pytest.raises(UserError, match=r"--loss and --scratch: cannot go together, each has a criterion"):
        brings("--scratch --loss mse", roles=frozenset({"criterion"}))


def test_rrt_and_a_head_of_its_own_name_both_flags(brings):
    with pytest.raises(UserError, match=r"--retrain_fc and --scratch: cannot go together, each has a head"):
        brings("--scratch --retrain_fc --pretrained x.pth", **GAUSSIAN)


def test_opposite_needs_name_both_flags(tmp_path):
    made = [
        type(
            "Scratch",
            (Scratch,),
            {"needs": Needs(schedule=kind), "option": classmethod(lambda cls, k=kind: k)},
        )
        for kind in ("cosine", "step")
    ]
    with pytest.raises(UserError, match=r"cosine and step: cannot go together \(schedule\)"):
        combined_needs([kind.__new__(kind) for kind in made])


# Names


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        ("", "Vanilla"), ("--loss mse", "Vanilla"), ("--loss focal_l1", "Focal-R"), ("--lds", "SQINV + LDS"),
        ("--reweight inverse", "INV"), ("--lds --fds", "SQINV + LDS + FDS"),
        ("--fds --fds_variant released", "FDS (released)"), ("--resample smogn", "SMOGN"),
        ("--retrain_fc --pretrained x --reweight inverse", "RRT"),
        ("--retrain_fc --pretrained x --lds --fds", "RRT + LDS + FDS"),
    ],
)  # fmt: skip
def test_rows_are_sums_of_methods(tmp_path, flags, name):
    task = toy.KINDS["vectors"]
    assert legend(choose_methods(task, toy.settings_of(tmp_path, flags, task=task))) == name


def test_every_method_says_what_it_is():
    for kind in all_methods():
        assert kind.label
        assert kind.paper
        assert kind.__doc__
        assert all(how.help for how in field_flags(kind.Flags).values())
    assert Training.__doc__
    assert cli.ROOT.is_dir()
