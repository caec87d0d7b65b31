"""Methods against the numbers of their authors' code, and against what a training step of theirs logs."""

import numpy as np
import pytest
import torch
import toy
from conftest import ROOT

from common.errors import UserError
from common.method import choose_methods
from common.training import engine
from common.training.regressor import build_regressor, set_up

FOLDER = ROOT / "tests" / "golden" / "methods"


class Golden:
    """The cases of one file: `golden["gai16"]["loss"]`."""

    def __init__(self, name):
        self.cases = {}
        with np.load(FOLDER / f"{name}.npz") as content:
            for key in content.files:
                case, field = key.rsplit(".", 1)
                value = content[key]
                self.cases.setdefault(case, {})[field] = value.item() if value.ndim == 0 else value

    def __getitem__(self, case):
        return self.cases[case]

    def __iter__(self):
        return iter(self.cases)


def assert_close(found, expected, tolerance):
    """Compare relative to the largest entry of what is expected."""
    found = found.detach().numpy() if isinstance(found, torch.Tensor) else np.asarray(found)
    expected = np.asarray(expected)
    assert found.shape == expected.shape
    bound = tolerance * max(np.abs(expected).max(initial=0), 1e-30)
    assert np.abs(found - expected).max(initial=0) <= bound


def assert_value(found, expected):
    assert_close(found.reshape(()), np.asarray(expected).reshape(()), 1e-5)


def assert_gradient(found, expected):
    """Compare to 1e-4; a gradient of 0 must be 0, and what is 0 but for rounding must be so too."""
    if np.abs(expected).max(initial=0) < 1e-12:
        assert found.abs().max() <= (1e-12 if np.any(expected) else 0)
        return
    assert_close(found, expected, 1e-4)


def tensor(values, *, grad=False):
    return torch.tensor(np.asarray(values), dtype=torch.float64, requires_grad=grad)


def toy_run(root, flags, shape="vectors"):
    """A run of the toy task, ready for its first step; its methods and data are prepared."""
    task = toy.KINDS[shape]
    settings = toy.settings_of(root, flags, task=task)
    torch.manual_seed(1)
    methods, data = choose_methods(task, settings), task.load(settings)
    for method in methods:
        data = method.prepare(data)
    regressor = build_regressor(task, settings, data, methods)
    set_up(regressor, task, settings, data)
    return engine.Run(task, settings, data, regressor, None)


def logged_steps(run, name, steps=3):
    """Yield for some steps what method `name` saw, the losses logged, and torch's random state before."""
    method, batches, seen = run.regressor.methods[name], run.batches(), []
    real = method.losses

    def losses(one):
        seen.append((one, torch.get_rng_state()))
        return real(one)

    method.losses = losses
    for step in range(steps):
        logged = run.step(next(batches), step)
        yield *seen[-1], logged


def refusal(act, capsys):
    """What a command is refused with: as a flag by itself, or for what goes with it."""
    with pytest.raises((UserError, SystemExit)) as error:
        act()
    return capsys.readouterr().err if error.type is SystemExit else str(error.value)
