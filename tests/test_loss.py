"""Losses against the reference numbers, and what they refuse."""

import inspect
import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from common.loss import LOSSES


def test_reference_numbers(golden):
    data = {name: torch.from_numpy(array) for name, array in np.load(golden / "losses_in.npz").items()}
    for name, published in json.loads((golden / "losses.json").read_text()).items():
        loss = LOSSES[name]
        assert float(loss(data["x"], data["y"])) == pytest.approx(published["none"], rel=1e-5)
        assert float(loss(data["x"], data["y"], weights=data["w"])) == pytest.approx(published["w"], rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_weights_by_position_are_refused(name):
    kinds = [p.kind for p in inspect.signature(LOSSES[name]).parameters.values()]
    assert all(kind == inspect.Parameter.KEYWORD_ONLY for kind in kinds[2:])
    with pytest.raises(TypeError):
        LOSSES[name](torch.zeros(3, 1), torch.zeros(3, 1), torch.ones(3, 1))


@pytest.mark.parametrize("name", LOSSES)
def test_silent_broadcasting_is_refused(name):
    with pytest.raises(ValueError, match="differ in shape"):
        LOSSES[name](torch.zeros(3, 1), torch.zeros(3))
    with pytest.raises(ValueError, match="differ in shape"):
        LOSSES[name](torch.zeros(3, 1), torch.zeros(3, 1), weights=torch.ones(3))


@pytest.mark.parametrize("name", LOSSES)
@given(error=st.floats(-50, 50, allow_nan=False))
def test_losses_are_symmetric_and_zero_at_zero(name, error):
    zero, x = torch.zeros(1, 1), torch.tensor([[error]])
    assert LOSSES[name](zero, zero) == 0
    assert LOSSES[name](x, zero) == LOSSES[name](-x, zero) >= 0


def test_focal_activations():
    x, y = torch.tensor([[3.0]]), torch.tensor([[0.0]])
    sigmoid = LOSSES["focal_l1"](x, y, beta=0.4)
    torch.testing.assert_close(sigmoid, LOSSES["focal_l1"](x, y, activate="tanh", beta=0.2))
    with pytest.raises(ValueError, match="neither"):
        LOSSES["focal_l1"](x, y, activate="relu")
