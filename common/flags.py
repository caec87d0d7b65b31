"""Settings as values: a frozen dataclass for each group of flags.

A field of such a dataclass is a flag: its name, default, limits and help stand in one place, and the command
line, the identity of a run, `args.json` and `--config` all follow from it. Importing this module loads
neither torch nor pandas.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from common.errors import UserError

T = TypeVar("T")
POSITIVE = 1e-12  # the smallest value of a flag that must be positive


@dataclass(frozen=True)
class Flag:
    """How one field appears on the command line, and whether it makes a run another run."""

    help: str
    names: tuple[str, ...] = ()  # option strings; empty: `--FIELD`
    choices: tuple[str, ...] = ()
    low: float = -math.inf
    high: float = math.inf
    odd: bool = False
    parse: Callable[[str], Any] | None = None  # replaces the parser of the field's type
    metavar: str | None = None
    identity: bool = True  # False: may differ between two starts of the same run
    grows: bool = False  # a run goes on under a greater value
    when: Callable[[Any], bool] | None = None  # the flag has an effect only where this holds for its group
    optional: bool = False  # the value may be left out, as in `--resume`


def flag(default: Any, help: str, *names: str, **facts: Any) -> Any:
    """Declare a dataclass field that is a flag; `facts` are the fields of `Flag`."""
    return field(default=default, metadata={"flag": Flag(help, names, **facts)})


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
                    idle = how.when is not None and not how.when(group)
                    kept[name] = as_json(self.default(type(group), name) if idle else getattr(group, name))
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
            if name in self.given and how.when is not None and not how.when(group)
        ]


def field_flags(kind: type) -> dict[str, Flag]:
    """Return the flag of each field of a group, in order."""
    return {f.name: f.metadata["flag"] for f in fields(kind) if "flag" in f.metadata}


def default_of(kind: type, name: str) -> Any:
    """Return the default of a field."""
    return next(f.default for f in fields(kind) if f.name == name)


def option_strings(name: str, how: Flag) -> tuple[str, ...]:
    """Return what a field is called on the command line, the main name first."""
    return how.names or (f"--{name}",)


def as_json(value: Any) -> Any:
    """Return a value as JSON keeps it: paths are absolute text, tuples are lists."""
    if isinstance(value, Path):
        return str(value.resolve())
    return list(value) if isinstance(value, tuple) else value


@cache
def _types(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def type_of(kind: type, name: str) -> tuple[Any, bool]:
    """Return the type of a field's value, and whether it may be None."""
    hint = _types(kind)[name]
    if get_origin(hint) in (Union, types.UnionType):
        return next(part for part in get_args(hint) if part is not type(None)), True
    return hint, False


def number(kind: type, low: float, high: float = math.inf, *, odd: bool = False) -> Callable[[str], Any]:
    """Return an argparse type: an `int` or `float` from `low` to `high`, odd where a kernel size is asked for."""

    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except (ValueError, TypeError):
            value = None
        if value is None or not low <= value <= high or abs(value) == math.inf or (odd and value % 2 == 0):
            wanted = "odd whole" if odd else "whole" if kind is int else "finite"
            raise argparse.ArgumentTypeError(f"{text!r} is no {wanted} number{_limits(low, high)}")
        return value

    return parse


def part_of_name(text: str) -> str:
    """Return what becomes part of a directory's name, as an argparse type."""
    if "/" in text or "\0" in text:
        raise argparse.ArgumentTypeError(f"{text!r} holds a slash, and is part of a directory's name")
    return text


def _limits(low: float, high: float) -> str:
    if high != math.inf:
        return f" from {low:g} to {high:g}"
    return f" of at least {low:g}" if low != -math.inf else ""


def parser_of(kind: Any, how: Flag) -> Callable[[str], Any]:
    """Return what turns the text of a flag into its value, and refuses what is outside its limits."""
    if how.parse is not None:
        return how.parse
    if kind in (int, float):
        return number(kind, how.low, how.high, odd=how.odd)
    return kind


def add_flags(parser: argparse.ArgumentParser, kind: type, defaults: Mapping[str, Any]) -> None:
    """Add a group's flags to a parser; `defaults` replace those of the fields."""
    title = (kind.__doc__ or kind.__name__).strip().splitlines()[0].rstrip(".")
    group = parser.add_argument_group(title)
    for name, how in field_flags(kind).items():
        value, _ = type_of(kind, name)
        kwargs: dict[str, Any] = {"dest": name, "help": how.help}
        kwargs["default"] = defaults.get(name, default_of(kind, name))
        if value is bool:
            group.add_argument(*option_strings(name, how), action="store_true", **kwargs)
            continue
        many = get_origin(value) is tuple
        kwargs["type"] = parser_of(get_args(value)[0] if many else value, how)
        if many or how.optional:
            kwargs |= {"nargs": "*"} if many else {"nargs": "?", "const": ""}
        if how.choices:
            kwargs["choices"] = how.choices
        if how.metavar:
            kwargs["metavar"] = how.metavar
        group.add_argument(*option_strings(name, how), **kwargs)


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
