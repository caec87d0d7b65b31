"""The optimiser, and the learning rate of each of its parameter groups over the epochs."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from common.method import Method
from common.settings import Training
from common.task import Task
from common.training.regressor import Regressor


def make_optimizer(task: Task, training: Training, regressor: Regressor) -> torch.optim.Optimizer:
    """Return Adam or SGD over whatever trains: the model, then each method's own parameters.

    Where the data set says so, Adam has a weight decay of its own. The fused kernels round otherwise.
    """
    groups: list[dict[str, Any]] = [{"params": trained(regressor.encoder, regressor.head)}]
    groups += [
        {"params": trained(method), "lr": rate_of(method, training)} for method in with_parameters(regressor)
    ]
    groups = [group for group in groups if group["params"]]
    fused = training.reordered or None
    if training.optimizer == "adam":
        decay = training.weight_decay if task.adam_weight_decay is None else task.adam_weight_decay
        return torch.optim.Adam(groups, lr=training.lr, weight_decay=decay, fused=fused)
    return torch.optim.SGD(
        groups, lr=training.lr, momentum=training.momentum, weight_decay=training.weight_decay, fused=fused
    )


def trained(*modules: nn.Module | None) -> list[nn.Parameter]:
    """Return the parameters that train, in order."""
    return [p for module in modules if module is not None for p in module.parameters() if p.requires_grad]


def with_parameters(regressor: Regressor) -> list[Method]:
    """Return the methods that bring parameters."""
    return [method for method in regressor if trained(method)]


def rate_of(method: Method, training: Training) -> float:
    """Return the learning rate at which a method's parameters begin."""
    return training.lr if method.rate is None else method.rate


def learning_rates(training: Training, regressor: Regressor, epoch: int, epochs: int) -> list[float]:
    """Return the rate of each parameter group in an epoch of a run of `epochs`.

    By default a rate is ten times smaller for each epoch of `--schedule` that has come; "cosine" falls to 0
    at the end. A method may bring a schedule of its own. The rate of a method that is not `scheduled` stays.
    """
    schedule = regressor.needs.schedule
    if callable(schedule):
        factor = schedule(epoch, epochs)
    elif schedule == "cosine":
        factor = (1 + math.cos(math.pi * epoch / epochs)) / 2
    else:
        factor = 0.1 ** sum(epoch >= milestone for milestone in training.schedule or ())
    model = [training.lr * factor] if trained(regressor.encoder, regressor.head) else []
    methods = with_parameters(regressor)
    return model + [rate_of(m, training) * (factor if m.scheduled else 1.0) for m in methods]


def load_state(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Load a saved state into kernels and memory layouts that may be others than it was saved from."""
    for theirs, mine in zip(saved["param_groups"], optimizer.param_groups, strict=True):
        theirs["fused"] = mine["fused"]
    optimizer.load_state_dict(saved)
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if name != "step" and isinstance(
                value, torch.Tensor
            ):  # fused kernels want the parameter's layout
                state[name] = torch.empty_like(parameter).copy_(value)


def same_kind(saved: dict[str, Any], optimizer: torch.optim.Optimizer) -> bool:
    """Return whether a saved state is of this kind of optimiser, over as many parameters."""
    theirs, mine = saved["param_groups"], optimizer.param_groups
    sizes = [[len(group["params"]) for group in groups] for groups in (theirs, mine)]
    return sizes[0] == sizes[1] and ("betas" in theirs[0]) == ("betas" in mine[0])
