"""What `make bench` measured, as a table for a README: a row for each ratio, a column for each precision."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from reproducing.table_text import DASH, markdown_table

from common import cli
from common.errors import UserError
from common.files import read_json

MARKED = re.compile(r"(<!-- bench ((?:\w )+)-->\n).*?(<!-- end -->)", re.DOTALL)
PRECISIONS = ("fp32", "bf16")
OF_PRECISION = re.compile(rf",? ({'|'.join(PRECISIONS)})\b")


def updated(text: str) -> str:
    """Return a README's text with what stands between `<!-- bench a b -->` and `<!-- end -->` written anew.

    Raises UserError if results/bench.json is missing, or of a short look.
    """
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
