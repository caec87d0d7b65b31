"""What is fast, for a README: the ratios that `make bench` measured, and what fast flags change in results."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from reproducing.recipes import Table
from reproducing.study import Group
from reproducing.table_numbers import numbers, rows_of
from reproducing.table_text import DASH, markdown_table, signed

from common import cli
from common.errors import UserError
from common.files import read_json
from common.metrics import METRICS

AGREEING = re.compile(r"(<!-- agreement ((?:\S+ )+)-->\n).*?(<!-- end -->)", re.DOTALL)
MARKED = re.compile(r"(<!-- bench ((?:\w )+)-->\n).*?(<!-- end -->)", re.DOTALL)
PRECISIONS = ("fp32", "bf16")
OF_PRECISION = re.compile(rf",? ({'|'.join(PRECISIONS)})\b")


def updated(text: str, find: Callable[[str, str], Table]) -> str:
    """Return a README's text with what stands from `<!-- bench a b -->` or `<!-- agreement TABLE -->` on written anew.

    `find` gives the table that a marker of some kind names. Raises UserError if results/bench.json is missing, or of
    a short look, or a table has no result.
    """
    text = AGREEING.sub(
        lambda mark: mark[1] + agreement(find("agreement", name) for name in mark[2].split()) + mark[3], text
    )
    return MARKED.sub(lambda mark: mark[1] + markdown(_measured(), mark[2].split()) + mark[3], text)


def _measured() -> Mapping[str, Any]:
    path = cli.ROOT / "results" / "bench.json"
    content = read_json(path)
    if content is None or content["quick"]:
        raise UserError(f"{path}: is no whole measurement; run make bench")
    return content


def markdown(measured: Mapping[str, Any], parts: list[str]) -> str:
    """Format the ratios of these parts; a ratio without a precision is of fp32, the reference."""
    lines: dict[str, dict[str, str]] = {}
    for row in measured["rows"]:
        if row["part"] in parts:
            found = OF_PRECISION.search(row["what"])
            what = OF_PRECISION.sub("", row["what"], count=1)
            lines.setdefault(what, {})[found[1] if found else "fp32"] = f"{row['ratio']:.2f}"
    minutes = f"{measured['minutes']:.0f} minutes"
    head = [f"{measured['machine']}; {measured['gpu']}; {minutes}", *PRECISIONS]
    table = [[what, *(ratios.get(kind, DASH) for kind in PRECISIONS)] for what, ratios in lines.items()]
    return markdown_table([head, *table]) + "\n"


def agreement(tables: Iterable[Table]) -> str:
    """Format how far each row `BASE (setting)` is from its base row, and the base's deviation over seeds.

    A column is a table's main metric over all labels; the verdict is that of the study, by its interval.
    """
    lines: dict[str, dict[str, str]] = {}
    heads = []
    for table in tables:
        group, metric = Group([table]), next(iter(table.metrics))
        found = {x.row: x for x in numbers(table, rows_of(table)) if (x.metric, x.shot) == (metric, "all")}
        heads.append(f"{group.name}, {METRICS[metric].heading}")
        for x in group.effects:
            if (x.metric, x.shot) == (metric, "all") and x.row.startswith(f"{x.base} ("):
                spread = found[x.base].sd or 0.0  # a row with fewer than two seeds has no effect
                lines.setdefault(x.row, {})[heads[-1]] = f"{signed(x.difference)} (± {spread:.3f}), {x.word}"
    body = [[row, *(cells.get(head, DASH) for head in heads)] for row, cells in lines.items()]
    return markdown_table([["less the same without the flag (± over seeds)", *heads], *body]) + "\n"
