"""Several data sets at a glance: mean ranks of their rows, how often a row beats its base row, and the numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
from reproducing.study import Group
from reproducing.table_text import DASH, markdown_table

MARKED = re.compile(r"(<!-- overview (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
SHOTS = ("all", "few")
Value = Callable[[Group, str], float | None]


def updated(text: str, found: Sequence[Group]) -> str:
    """Return a README's text with what stands between `<!-- overview KEY -->` and `<!-- end -->` written anew."""
    return MARKED.sub(lambda mark: mark[1] + overview(mark[2], found) + mark[3], text)


def overview(key: str, found: Sequence[Group]) -> str:
    """Format the tables that a recipe has for `each` name; empty without results."""
    data = {
        group.tables[0].key.removeprefix(f"{key}-"): group
        for group in found
        if group.tables[0].key.startswith(f"{key}-")
    }
    rows = list(dict.fromkeys(row for group in data.values() for row in group.frames))
    if not data:
        return ""
    seeds = ", ".join(map(str, next(iter(data.values())).seeds))
    few, sera = partial(_drawn, shot="few"), _sera
    parts = [
        f"Over {len(data)} data sets, seeds {seeds}. Better and worse than the base row, each by a 95 % interval of a "
        "bootstrap over test samples and seeds; the others are undecided.",
        markdown_table(list(_rank_lines(data, rows)), left=2),
        "Few-shot MAE, in the units of each label, and SERA (both lower is better), mean over seeds:",
        markdown_table(list(_value_lines("MAE, Few", data, rows, few))),
        markdown_table(list(_value_lines("SERA", data, rows, sera))),
    ]
    return "\n\n".join(parts) + "\n"


def _drawn(group: Group, row: str, shot: str) -> float | None:
    value = group.drawn.get((row, group.metrics[0], shot))
    return None if value is None else value[0]


def _sera(group: Group, row: str) -> float | None:
    return group.recorded(row, "sera", "all")


def _rank_lines(data: dict[str, Group], rows: Sequence[str]) -> Iterator[list[str]]:
    """Yield a line for each row: its base, mean ranks, and on how many data sets it is better and worse."""
    values: list[Value] = [*(partial(_drawn, shot=shot) for shot in SHOTS), _sera]
    ranks = [_mean_ranks(data, rows, value) for value in values]
    words = Counter(
        (effect.row, effect.shot, effect.word)
        for group in data.values()
        for effect in group.effects
        if effect.metric == group.metrics[0]
    )
    heads = ["MAE, All", "MAE, Few", "SERA"]
    yield [
        "row",
        "base",
        *(f"rank {head}" for head in heads),
        *(f"{head}: better, worse" for head in heads[:2]),
    ]
    first = next(iter(data.values()))
    for row in rows:
        base = first.base(row)
        counts = [f"{words[row, shot, 'better']}, {words[row, shot, 'worse']}" for shot in SHOTS]
        own = DASH if base == row else base
        yield [row, own, *(rank[row] for rank in ranks), *(counts if base != row else [DASH, DASH])]


def _mean_ranks(data: dict[str, Group], rows: Sequence[str], value: Value) -> dict[str, str]:
    """Return each row's mean rank over the data sets, 1 the least value; a dash where one lacks it."""
    found: dict[str, list[int]] = {row: [] for row in rows}
    for group in data.values():
        values = {row: x for row in rows if (x := value(group, row)) is not None}
        for rank, row in enumerate(sorted(values, key=values.__getitem__), start=1):
            found[row].append(rank)
    return {row: f"{np.mean(x):.1f}" if len(x) == len(data) else DASH for row, x in found.items()}


def _value_lines(head: str, data: dict[str, Group], rows: Sequence[str], value: Value) -> Iterator[list[str]]:
    """Yield a line for each row with its value on every data set."""
    yield [head, *data]
    for row in rows:
        values = [value(group, row) for group in data.values()]
        if any(x is not None for x in values):
            yield [row, *(DASH if x is None else short(x) for x in values)]


def short(value: float) -> str:
    """Format four digits, without an exponent up to a million."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.4g}"
