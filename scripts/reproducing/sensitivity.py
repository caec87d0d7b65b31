"""Whether the order of rows stays where a setting of the study changes, such as the learning rate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reproducing.study import ENSEMBLE, Group
from reproducing.table_text import markdown_table
from scipy.stats import spearmanr

from common.report import HEADINGS

PROTOCOL = "sensitivity"
SHOTS = ("all", "few")


def markdown(studied: Sequence[Group], changed: Sequence[Group]) -> str:
    """Format each table of a changed setting beside the study's of the same data; empty without any.

    It shows Spearman's rank correlation of the rows' means, and the rows whose verdict against their base row turned.
    """
    lines = [
        ["table", "on", "rows", "rank correlation", "better or worse here, there", "from one to the other"]
    ]
    for group in changed:
        study = next((x for x in studied if x.data == group.data), None)
        if group.tables[0].protocol == PROTOCOL and study is not None:
            lines += _lines(study, group)
    if len(lines) == 1:
        return ""
    told = (
        "The main metric of rows that both tables have, against the table of the study on the same data. "
        "*Here, there*: rows better or worse than their base row in this table, and in the study."
    )
    return f"{told}\n\n{markdown_table(lines, left=2)}"


def _lines(study: Group, group: Group) -> Iterator[list[str]]:
    """Yield a line for each shot."""
    metric = group.metrics[0]
    words = [{(x.row, x.shot): x.word for x in y.effects if x.metric == metric} for y in (group, study)]
    for shot in SHOTS:
        rows = [row for row in group.frames if row in study.frames and row != ENSEMBLE]
        here, there = ([y.drawn[row, metric, shot][0] for row in rows] for y in (group, study))
        pairs = {row: tuple(word.get((row, shot), "undecided") for word in words) for row in rows}
        counts = [sum(pair[i] != "undecided" for pair in pairs.values()) for i in (0, 1)]
        turned = [row for row, pair in pairs.items() if set(pair) == {"better", "worse"}]
        correlation = f"{spearmanr(here, there).statistic:.2f}"
        decided = ", ".join(map(str, counts))
        yield [group.name, HEADINGS[shot], str(len(rows)), correlation, decided, ", ".join(turned) or "none"]
