"""A method as a value: what it does to the data, the head, the features, the losses, and the end of an epoch.

Rows of a table are sums of methods, so a method is a part, not an algorithm. A new method is one file in
`common/methods/`; the engine, the regressor and the checkpoint know none by name.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from common.errors import UserError
from common.flags import field_flags, option_strings
from common.settings import Settings

if TYPE_CHECKING:
    from common.task import Batch, Data, Prediction, Task
    from common.training.regressor import Regressor


def at_least_float32(values: torch.Tensor) -> torch.Tensor:
    """Return half-precision values as float32; others stay as they are."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


@dataclass(frozen=True)
class Seen:
    """What a method may see of one training batch, in at least float32."""

    batch: Batch
    raw: torch.Tensor  # the encoder's features, (n, C) or maps (n, C, H, W)
    features: torch.Tensor  # after every `features` hook
    outputs: torch.Tensor | None  # of the head; None without a head
    head: nn.Module | None
    epoch: int
    extra: torch.Tensor | None = None  # the encoder's features of the `extra_views`, one view after the other

    def known(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Return outputs, targets in label units, and weights, of what is known of the batch.

        All are of one shape: `(n, 1)`, or `(p,)` where some pixels are unknown.
        """
        assert self.outputs is not None
        outputs, targets, weights = self.outputs, self.batch.targets, self.batch.weights
        valid = self.batch.valid
        if valid is None:
            return outputs, targets, weights
        return outputs[valid], targets[valid], None if weights is None else weights[valid]


@dataclass(frozen=True)
class Needs:
    """What a method needs of the engine beside its hooks; None leaves the choice to others."""

    views: int | None = None  # random views of each sample in a batch
    extra_views: int | None = None  # further views, in `Seen.extra` alone: no hook or other loss sees them
    drop_last: bool | None = None  # leave out an epoch's last batch if it is smaller
    # "step" (--schedule), "cosine", or what gives the factor of the rate in an epoch of a run of so many
    schedule: str | Callable[[int, int], float] | None = None
    keep: str | None = None  # "best" or "last": the checkpoint that is tested
    eval_encoder: bool | None = None  # the encoder stays in eval mode
    fresh: tuple[str, ...] | None = None  # parts of the encoder that are not taken from --pretrained


class Head(nn.Module):
    """A head of a method's own: features to outputs in training, and to a `Prediction`."""

    def predict(self, features: torch.Tensor) -> Prediction:
        """Return the prediction in label units."""
        raise NotImplementedError


Passes = Callable[[str], Iterator[Seen]]


class Method(nn.Module):
    """A method: its parameters train, its buffers are in the checkpoint, every hook is optional.

    Make no parameter before `build`: parameters are made in one fixed order (encoder, head, methods), so that
    adding a method changes no bit of a run without it. Draw from torch's generator only.
    """

    label: ClassVar[str] = ""  # as rows and legends call it
    paper: ClassVar[str] = ""  # where it is from
    Flags: ClassVar[type]  # a frozen dataclass (`common.flags`)
    roles: ClassVar[frozenset[str]] = frozenset()  # "criterion", "head": of each there is one at most
    owns_head: ClassVar[bool] = False  # the head is what its `head` hook returns
    maps: ClassVar[bool] = True  # works on maps of labels too; if not, its `prepare` refuses them
    gives_way: ClassVar[bool] = False  # leaves its role to another method, unless its flag was given
    order: ClassVar[int] = 100  # of its part in a run's name; hooks run in this order too
    rate: float | None = None  # the learning rate of its parameters; None: --lr
    scheduled: ClassVar[bool] = True  # that rate falls with --schedule
    key_map: ClassVar[tuple[tuple[str, str], ...]] = ()  # (prefix here, published prefix) of its state
    implies: ClassVar[frozenset[str]] = frozenset()  # legend parts that its own label stands for
    needs: Needs = Needs()

    def __init__(self, settings: Settings, task: Task) -> None:
        super().__init__()
        self.settings, self.task = settings, task
        self.flags: Any = settings[type(self).Flags]

    @classmethod
    def name(cls) -> str:
        """Return its name in keys, logs and directory names: that of its module."""
        return cls.__module__.rpartition(".")[2]

    @classmethod
    def wanted(cls, settings: Settings) -> bool:
        """Return whether these settings ask for it; by default, whether its first flag is set."""
        return bool(getattr(settings[cls.Flags], next(iter(field_flags(cls.Flags)))))

    @classmethod
    def complete(cls, settings: Settings, task: Task) -> Settings:
        """Return the settings with what its flags mean here; raises UserError for a contradiction."""
        return settings

    @classmethod
    def option(cls) -> str:
        """Return the flag that asks for it, for messages."""
        first, how = next(iter(field_flags(cls.Flags).items()))
        return option_strings(first, how)[0]

    def run_name(self) -> str:
        """Return its part of a run's directory name."""
        return f"_{self.name()}"

    def legend(self) -> tuple[str, ...]:
        """Return its parts of a row's name: ("SQINV", "LDS")."""
        return (self.label,)

    def describe(self) -> str:
        """Return a few words for the log."""
        return self.label

    def prepare(self, data: Data) -> Data:
        """Return the data as this method wants them; called once, before training."""
        return data

    def build(self, dim: int, data: Data) -> None:
        """Make parameters and buffers for features of `dim` channels."""

    def head(self, dim: int) -> Head | None:
        """Return the head, where it `owns_head`; None trains no head."""
        raise NotImplementedError

    def setup(self, regressor: Regressor) -> None:
        """Change the built model, after `--pretrained` is loaded: freeze or replace parts."""

    def features(self, z: torch.Tensor, batch: Batch, epoch: int) -> torch.Tensor:
        """Return the features that the head gets, in training."""
        return z

    def losses(self, seen: Seen) -> Mapping[str, torch.Tensor]:
        """Return its losses of one batch by name; their sum over all methods is minimised."""
        return {}

    def end_of_epoch(self, epoch: int, passes: Passes) -> None:
        """Act after an epoch's last step; `passes(what)` goes over the training data once more, without gradients."""


@cache
def all_methods() -> tuple[type[Method], ...]:
    """Return every method of `common/methods/`, in their order."""
    import common.methods as package

    found = []
    for module in pkgutil.iter_modules(package.__path__):
        members = vars(importlib.import_module(f"{package.__name__}.{module.name}")).values()
        found += [m for m in members if isinstance(m, type) and issubclass(m, Method) and hasattr(m, "Flags")]
    unique = dict.fromkeys(m for m in found if m.__module__.startswith(package.__name__))
    return tuple(sorted(unique, key=lambda m: (m.order, m.name())))


def methods_of(task: Task) -> tuple[type[Method], ...]:
    """Return the methods that a data set has."""
    return tuple(m for m in all_methods() if m.name() not in task.methods_without)


def choose_methods(task: Task, settings: Settings) -> list[Method]:
    """Return the methods that the settings ask for, without parameters yet.

    Raises UserError, naming both flags, where two cannot go together.
    """
    wanted = [method for method in methods_of(task) if method.wanted(settings)]
    chosen = [
        m for m in wanted if not (_implicit(m, settings) and any(m.roles & o.roles for o in wanted if o != m))
    ]
    for number, method in enumerate(chosen):
        for other in chosen[:number]:
            if method.roles & other.roles:
                role = " and ".join(sorted(method.roles & other.roles))
                raise UserError(
                    f"{other.option()} and {method.option()}: cannot go together, each has a {role} "
                    "of its own; drop one of them"
                )
    return [method(settings, task) for method in chosen]


def _implicit(method: type[Method], settings: Settings) -> bool:
    return method.gives_way and not settings.given & field_flags(method.Flags).keys()


def combined_needs(methods: Iterable[Method]) -> Needs:
    """Return what the methods need together; raises UserError, naming both flags, where two need opposites."""
    found: dict[str, tuple[Any, Method]] = {}
    for method in methods:
        for need, value in vars(method.needs).items():
            if value is None:
                continue
            if need in found and found[need][0] != value:
                other = found[need][1]
                raise UserError(
                    f"{other.option()} and {method.option()}: cannot go together ({need}); drop one"
                )
            found[need] = value, method
    return Needs(**{need: value for need, (value, _) in found.items()})


def legend(methods: Sequence[Method]) -> str:
    """Return the name of a row: "SQINV + LDS", or "Vanilla"."""
    implied = frozenset().union(*(method.implies for method in methods))
    ordered = sorted(methods, key=lambda m: ("criterion" not in m.roles, "head" not in m.roles))
    parts = [part for method in ordered for part in method.legend() if part and part not in implied]
    return " + ".join(parts) or "Vanilla"
