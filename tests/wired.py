"""What the tests of one method share: its reference numbers, and a short run whose losses are checked at each step."""

import numpy as np
import pytest
import torch
import toy
from proven import FOLDER

from common.method import choose_methods
from common.training import engine
from common.training.regressor import build_regressor, set_up


def cases_of(name):
    """The recorded cases of a method: case -> field -> array."""
    cases = {}
    with np.load(FOLDER / f"{name}.npz") as recorded:
        for key in recorded.files:
            case, _, field = key.rpartition(".")
            cases.setdefault(case, {})[field] = recorded[key]
    return cases


def prepared(root, flags, shape="vectors", task=None):
    """A run on toy data before its first step, with its methods built and set up."""
    task = task or toy.KINDS[shape]
    settings = toy.settings_of(root, flags, task=task)
    methods, data = choose_methods(task, settings), task.load(settings)
    torch.manual_seed(0)
    for method in methods:
        data = method.prepare(data)
    regressor = build_regressor(task, settings, data, methods)
    set_up(regressor, task, settings, data)
    return engine.Run(task, settings, data, regressor, None)


def assert_wired(run, name, expect, steps=3):
    """Each step logs the losses that `expect(method, seen)` gives, and no other of this method.

    Random draws within are the same for both.
    """
    method, expected = run.regressor.methods[name], []
    real = method.losses

    def losses(seen):
        state = torch.get_rng_state()
        expected.append({key: loss.detach() for key, loss in expect(method, seen).items()})
        torch.set_rng_state(state)
        return real(seen)

    method.losses = losses
    batches = run.batches()
    for step in range(steps):
        logged = run.step(next(batches), step)
        own = {key: loss for key, loss in logged.items() if key.startswith(name)}
        assert set(own) == set(expected[-1])
        for key, loss in own.items():
            assert float(loss) == pytest.approx(float(expected[-1][key]), rel=1e-6, abs=1e-7), key
    assert len(expected) == steps
