"""The settings of a command, found by their groups; and the two groups that every data set shares."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from common.errors import UserError
from common.flags import (
    POSITIVE,
    Flag,
    as_json,
    default_of,
    field_flags,
    flag,
    option_strings,
    parser_of,
    part_of_name,
    type_of,
)
from common.metrics import METRICS

T = TypeVar("T")


@dataclass(frozen=True)
class Training:
    """Optimiser, schedule and stopping."""

    optimizer: str = flag("adam", "optimiser", choices=("adam", "sgd"))
    lr: float = flag(
        1e-3, "initial learning rate", "--lr", "--learning-rate", "--learning_rate", low=POSITIVE
    )
    batch_size: int = flag(256, "samples in a step", low=1)
    momentum: float = flag(0.9, "of SGD", low=0, high=1, when=lambda own: own.optimizer == "sgd")
    weight_decay: float = flag(1e-4, "of the optimiser", "--weight_decay", "--weight-decay", "--wd", low=0)
    schedule: tuple[int, ...] | None = flag((), "epochs at which lr drops tenfold", low=1, grows=True)
    max_grad_norm: float = flag(0.0, "clip the gradient's norm; 0: do not", low=0)
    patience: int = flag(0, "stop when a check is the worst of the last PATIENCE + 1; 0: never", low=0)
    print_freq: int = flag(10, "steps between looks at the loss", low=1, identity=False)
    pretrained: str = flag("", "checkpoint whose encoder to start from", metavar="CKPT")
    amp: str = flag(
        "off",
        "the encoder's precision; auto: bf16 where the device is fast in it",
        choices=("auto", "off", "bf16"),
    )
    tf32: bool = flag(False, "TF32 on a GPU, in place of full float32")
    fast: bool = flag(
        False,
        "channels-last images, fused optimiser: other last bits (so do --amp bf16, --tf32, --compile)",
        identity=False,
    )
    compile: bool = flag(False, "compile the encoder, which changes the last bits", identity=False)

    @property
    def reordered(self) -> bool:
        """Whether sums may be taken in another order than without these flags."""
        return self.fast or self.compile or self.tf32 or self.amp == "bf16"


@dataclass(frozen=True)
class Running:
    """The run: where it reads and writes, on which device, under which seed."""

    data_dir: Path | None = flag(None, "data folder (default: data/ of this repository)")
    store_root: Path = flag(Path("checkpoint"), "folder of all runs", identity=False)
    store_name: str = flag("", "put into the run's name", parse=part_of_name)
    seed: int = flag(0, "negative: a random one", "--seed", "--random_seed", low=-(2**63), high=2**63 - 1)
    device: str = flag("auto", "auto, cpu, cuda, cuda:N or mps", identity=False)
    gpu: int | None = flag(None, "published form of --device cuda:N", identity=False)
    cuda: int | None = flag(None, "published form of --device: a GPU, or -1 for the CPU", identity=False)
    evaluate: bool = flag(False, "evaluate a checkpoint on the test set, do not train", identity=False)
    resume: str | None = flag(
        None,
        "go on with this run (which the command does anyway); with CKPT: train on from that checkpoint, "
        "or with --evaluate test it",
        metavar="CKPT",
        identity=False,
        optional=True,
    )
    eval_model: str = flag("", "what --evaluate reads (default: this run's)", metavar="CKPT", identity=False)
    metrics_json: Path | None = flag(None, "write the test metrics here too", metavar="PATH", identity=False)
    metrics: tuple[str, ...] = flag(
        (),
        "further metrics for the printed table, such as sera, crps or bmae",
        choices=tuple(METRICS),
        metavar="NAME",
        identity=False,
    )
    predictions: Path | None = flag(
        None,
        "with --evaluate: write the predictions here, as predictions.csv has them",
        metavar="FILE",
        identity=False,
        when=lambda own: own.evaluate,
    )
    log_file: str = flag("training.log", "log file in the run directory", identity=False)
    overwrite: bool = flag(False, "start over where this run has been before", identity=False)
    config: Path | None = flag(
        None,
        "take the flags of a run from its args.json; the command line wins",
        metavar="FILE",
        identity=False,
    )

    @property
    def where(self) -> str:
        """The device that --device or one of its published forms names."""
        if self.gpu is not None:
            return f"cuda:{self.gpu}"
        if self.cuda is not None:
            return f"cuda:{self.cuda}" if self.cuda >= 0 else "cpu"
        return self.device


class Settings:
    """The settings of one command: a value for each group, found by its class.

    `settings[Training].lr` is typed as the field is. `given` holds the names of the fields that the command
    line itself named.
    """

    def __init__(
        self, groups: Iterable[Any], given: Iterable[str] = (), defaults: Mapping[str, Any] | None = None
    ) -> None:
        self._groups = {type(group): group for group in groups}
        self.given = frozenset(given)
        self.defaults = dict(defaults or {})  # of fields whose default is another on this data set

    def __getitem__(self, kind: type[T]) -> T:
        return self._groups[kind]

    def __contains__(self, kind: type) -> bool:
        return kind in self._groups

    def __iter__(self) -> Any:
        return iter(self._groups.values())

    def with_(self, **changes: Any) -> Settings:
        """Return these settings with other values of some fields."""
        groups = []
        for group in self:
            own = {name: changes[name] for name in field_flags(type(group)) if name in changes}
            groups.append(dataclasses.replace(group, **own) if own else group)
        return Settings(groups, self.given, self.defaults)

    def values(self) -> dict[str, Any]:
        """Return every field by name."""
        return {name: getattr(group, name) for group in self for name in field_flags(type(group))}

    def identity(self) -> dict[str, Any]:
        """Return the fields that make a run what it is, as JSON keeps them.

        A field without effect has its default, so that it does not make another run.
        """
        kept = {}
        for group in self:
            for name, how in field_flags(type(group)).items():
                if how.identity:
                    value = self.default(type(group), name) if how.is_idle(group) else getattr(group, name)
                    kept[name] = as_json(value)
        return dict(sorted(kept.items()))

    def default(self, kind: type, name: str) -> Any:
        """Return what a field is when nothing is said."""
        return self.defaults.get(name, default_of(kind, name))

    def saved(self, values: Mapping[str, Any], source: object) -> Settings:
        """Return the settings that an `args.json` holds; what it lacks has its default.

        Raises UserError, with the file and the flag, for a value that the flag would refuse.
        """
        kinds = list(self._groups)
        rest = {name: self.default(kind, name) for kind in kinds for name in field_flags(kind)}
        return collect(kinds, rest | checked(kinds, values, source), defaults=self.defaults)

    def option(self, name: str) -> str:
        """Return the main option string of a field."""
        how = next(field_flags(type(group))[name] for group in self if name in field_flags(type(group)))
        return option_strings(name, how)[0]

    def grown(self, name: str, since: Settings, done: float) -> bool:
        """Return whether a field only says more of a run's length than before.

        A list of milestones may gain some that come no sooner than `done`, the epochs of before.
        """
        how = next(field_flags(type(group))[name] for group in self if name in field_flags(type(group)))
        new, old = self.values()[name], since.values()[name]
        if isinstance(new, tuple) and isinstance(old, tuple):
            return how.grows and new[: len(old)] == old and all(value >= done for value in new[len(old) :])
        return how.grows and new > old

    def idle(self) -> list[str]:
        """Return the option strings that were given and have no effect."""
        return [
            option_strings(name, how)[0]
            for group in self
            for name, how in field_flags(type(group)).items()
            if name in self.given and how.is_idle(group)
        ]


def collect(
    kinds: Sequence[type],
    values: Mapping[str, Any],
    given: Iterable[str] = (),
    defaults: Mapping[str, Any] | None = None,
) -> Settings:
    """Return the settings of these groups from the values of all fields, by name."""
    groups = []
    for kind in kinds:
        own = {name: values[name] for name in field_flags(kind)}
        groups.append(kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in own.items()}))
    return Settings(groups, given, defaults)


def checked(kinds: Sequence[type], saved: Mapping[str, Any], source: object) -> dict[str, Any]:
    """Return the values that an `args.json` holds, as their fields have them; null stands for the default.

    Raises UserError, with the file and the flag, for an unknown name or a value that the flag would refuse.
    """
    known = {name: (kind, how) for kind in kinds for name, how in field_flags(kind).items()}
    told = {name: value for name, value in saved.items() if value is not None}
    unknown = [name for name in told if name not in known]
    if unknown:
        raise UserError(f"{source}: {', '.join(sorted(unknown))}: no flag of this script; correct the file")
    return {name: _checked(name, value, *known[name], source) for name, value in told.items()}


def _checked(name: str, value: Any, kind: type, how: Flag, source: object) -> Any:
    """Return one saved value, refused as the command line would refuse it."""
    wanted, _ = type_of(kind, name)
    if wanted is bool:
        if isinstance(value, bool):
            return value
        raise UserError(f"{source}: {name}: {value!r} is neither true nor false")
    try:
        if get_origin(wanted) is tuple:
            parse = parser_of(get_args(wanted)[0], how)
            return tuple(parse(str(item)) for item in value)
        found = parser_of(wanted, how)(str(value))
    except (argparse.ArgumentTypeError, ValueError, TypeError) as error:
        raise UserError(f"{source}: {option_strings(name, how)[0]}: {error}") from error
    if how.choices and found not in how.choices:
        raise UserError(f"{source}: {name}: {value!r} is none of {', '.join(how.choices)}")
    return found
