"""Settings as values: a frozen dataclass for each group of flags.

A field of such a dataclass is a flag: its name, default, limits and help stand in one place, and the command
line, the identity of a run, `args.json` and `--config` all follow from it. Importing this module loads
neither torch nor pandas.
"""

from __future__ import annotations

import argparse
import math
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

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
    switch: bool = False  # the other flags of its group have an effect only where this one is set
    when: Callable[[Any], bool] | None = None  # the flag has an effect only where this holds for its group
    optional: bool = False  # the value may be left out, as in `--resume`

    def is_idle(self, group: Any) -> bool:
        """Return whether the flag has no effect beside the values of its group."""
        off = any(how.switch and not getattr(group, name) for name, how in field_flags(type(group)).items())
        return (off and not self.switch) or (self.when is not None and not self.when(group))


def flag(default: Any, help: str, *names: str, **facts: Any) -> Any:
    """Declare a dataclass field that is a flag; `facts` are the fields of `Flag`."""
    return field(default=default, metadata={"flag": Flag(help, names, **facts)})


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
