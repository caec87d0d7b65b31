"""The study as one HTML page: tables that are there without a script, and one that sorts and filters them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from reporting.charts import error_chart, interval_bar
from reproducing.effects import Effect
from reproducing.study import Group, groups

from common.metrics import GROUPS, METRICS, UNSEEN
from common.report import HEADINGS

HERE = Path(__file__).parent
GENERATOR = "scripts/report.py"  # tells the page from a file of someone's own
PROTOCOLS = {
    "": "as the paper of 2021",
    "one": "one for all rows",
    "own": "each row its authors' own: rows do not compare",
    "apart": "outside of the study: settings and speed",
    "sensitivity": "the study with one setting changed",
}
SHOTS = (*GROUPS, *UNSEEN)


def page() -> str:
    """Return the page of everything that is recorded."""
    found = sorted([*groups(), *groups(apart=True)], key=lambda group: bool(group.standin))  # real data first
    runs = {cell.result for group in found for cells in group.cells.values() for cell in cells}
    links = "".join(f'<li><a href="#{g.name}">{escape(g.name)}</a></li>' for g in found)
    body = "".join(map(_section, found))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="{GENERATOR}">
<link rel="icon" href="data:,">
<title>Deep imbalanced regression: what is each method worth?</title>
<style>
{_file("page.css")}</style>
</head>
<body>
<header>
<h1>Deep imbalanced regression: what is each method worth?</h1>
<p>{len(runs)} recorded runs in {len(found)} tables. A difference is a row less its base row; the interval is a 95 %
bootstrap over test samples (on depth, its bins) and seeds together. Where it includes 0, the data do not decide.
Numbers of a <span class="badge">stand-in</span> are of drawn data and say nothing about the real ones.</p>
</header>
<nav aria-label="tables"><ul>{links}</ul></nav>
{_controls(found)}
<main>
{body}</main>
<script>
{_file("page.js")}</script>
</body>
</html>
"""


def _file(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def _controls(found: Sequence[Group]) -> str:
    metrics = dict.fromkeys(metric for group in found for metric in group.metrics)
    options = {
        "metric": {"main": "main", "": "every", **{name: METRICS[name].heading for name in metrics}},
        "shot": {"": "every", **{shot: HEADINGS[shot] for shot in SHOTS}},
        "protocol": {"": "every", **{f"p-{x}": PROTOCOLS[x] for g in found for x in _protocols(g)}},
    }
    selects = "".join(
        f'<label>{name}<select name="{name}">'
        + "".join(f'<option value="{value}">{escape(text)}</option>' for value, text in values.items())
        + "</select></label>"
        for name, values in options.items()
    )
    search = '<label>method<input name="method" type="search" placeholder="a part of its name"></label>'
    return f'<form class="controls" hidden>{search}{selects}</form>'


def _protocols(group: Group) -> list[str]:
    """Return the protocols of its rows, which compare under several where one has the flags of another."""
    return list(dict.fromkeys(table.protocol for table in group.of.values()))


def _section(group: Group) -> str:
    """Return what is known of one group of tables."""
    protocols = _protocols(group)
    badge = f'<p><span class="badge">stand-in</span> {escape(group.standin)}</p>' if group.standin else ""
    missing = "".join(
        f"<li>{escape(row)} {escape(reason)}, so it is not compared</li>"
        for row, reason in group.missing.items()
    )
    comparable = "own" not in protocols
    told = "; ".join(PROTOCOLS[x] for x in protocols)
    parts = [
        f"<h2>{escape(group.tables[0].title)}</h2>{badge}",
        f"<p>Protocol: {escape(told)}. Seeds: {', '.join(map(str, group.seeds))}.</p>",
        f"<ul>{missing}</ul>" if missing else "",
        _rows(group, group.effects if comparable else []),
        _claims(group) if comparable else "",
        error_chart(group),
        _commands(group),
    ]
    inner = "\n".join(part for part in parts if part)
    names = " ".join(f"p-{x}" for x in protocols)
    return f'<section id="{group.name}" data-protocol="{names}">\n{inner}\n</section>\n'


def _table(caption: str, heads: Sequence[str], rows: Iterator[str]) -> str:
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(caption)}"><table class="sortable">'
        f"<caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>\n<tbody>\n{''.join(rows)}</tbody></table></div>"
    )


def _rows(group: Group, effects: list[Effect]) -> str:
    """Return the table of rows, a line for each row, metric and shot."""
    of = {(x.row, x.metric, x.shot): x for x in effects}
    names = [*group.cells, *(row for row in group.frames if row not in group.cells)]
    largest: dict[tuple[str, str], float] = {}
    for x in effects:
        key = x.metric, x.shot
        largest[key] = max(largest.get(key, 0), abs(x.low), abs(x.high))
    heads = [
        "method",
        "metric",
        "labels",
        "value",
        "base",
        "difference",
        "95 % interval",
        "verdict",
        "minutes",
    ]

    drawn = {shot for _, _, shot in group.drawn}
    shots = [shot for shot in SHOTS if shot in GROUPS or shot in drawn]

    def lines() -> Iterator[str]:
        for metric in group.metrics:
            for shot in shots:
                for row in names:
                    yield _line(
                        group, row, metric, shot, of.get((row, metric, shot)), largest.get((metric, shot), 1)
                    )

    return _table(f"{group.name}: every row beside its base row", heads, lines())


def _line(group: Group, row: str, metric: str, shot: str, effect: Effect | None, largest: float) -> str:
    drawn = group.drawn.get((row, metric, shot))
    value = drawn[0] if drawn else group.recorded(row, metric, shot)
    link = f'<a href="#{_anchor(group, row)}">{escape(row)}</a>' if row in group.cells else escape(row)
    cells = [
        f"<td>{link}</td><td>{METRICS[metric].heading}</td><td>{HEADINGS[shot]}</td>", _number(value),
        f"<td>{escape(effect.base) if effect else ''}</td>", _number(effect.difference if effect else None, "+"),
        _interval(effect, largest), f'<td class="{effect.word}">{effect.word}</td>' if effect else "<td></td>",
        _number(group.minutes(row), digits=1),
    ]  # fmt: skip
    main = "yes" if metric == group.metrics[0] else "no"
    protocol = group.of.get(row, group.tables[0]).protocol
    data = (
        f'data-method="{escape(row)}" data-metric="{metric}" data-main="{main}" data-shot="{shot}" '
        f'data-protocol="p-{protocol}"'
    )
    return f"<tr {data}>{''.join(cells)}</tr>\n"


def _number(value: float | None, sign: str = "", digits: int = 3) -> str:
    if value is None:
        return '<td class="number" data-value=""></td>'
    text = f"{value:{sign}.{digits}f}".replace("-", "−")
    return f'<td class="number" data-value="{value:.6g}">{text}</td>'


def _interval(effect: Effect | None, largest: float) -> str:
    if effect is None:
        return '<td data-value=""></td>'
    bar = interval_bar(effect.difference, effect.low, effect.high, largest)
    return f'<td data-value="{effect.low:.6g}" class="{effect.word}">{bar}</td>'


def _claims(group: Group) -> str:
    """Return the table of claims; empty if none could be judged."""
    judged = group.judged()
    largest = {
        m: max(abs(b) for x in judged if x.claim.metric == m for b in (x.low, x.high))
        for m in {x.claim.metric for x in judged}
    }

    def lines() -> Iterator[str]:
        for x in judged:
            claim, kind = x.claim, x.word.replace(" ", "-")
            bar = interval_bar(x.ours, x.low, x.high, largest[claim.metric])
            source = escape(claim.source) + (' <span class="badge">carried over</span>' if x.carried else "")
            pair, on = (
                f"{claim.better} and {claim.than}",
                f"{METRICS[claim.metric].heading}, {HEADINGS[claim.shot]}",
            )
            yield (
                f"<tr><td>{escape(claim.says)}</td><td>{source}</td><td>{escape(pair)}</td><td>{on}</td>"
                f"{_number(x.paper, '+')}{_number(x.ours, '+')}"
                f'<td data-value="{x.low:.6g}" class="{kind}">{bar}</td><td class="{kind}">{x.word}</td></tr>\n'
            )

    heads = ["claim", "source", "difference of", "on", "paper", "ours", "interval at Holm's level", "verdict"]
    return _table(f"{group.name}: claims of papers", heads, lines()) if judged else ""


def _commands(group: Group) -> str:
    """Return the command of each row."""
    items = []
    for row, cells in group.cells.items():
        command = escape(shlex.join(["python", *cells[0].command()]))
        code = f'<code data-row="{escape(row)}">{command}</code>'
        items.append(f'<li id="{_anchor(group, row)}">{escape(row)}: {code}</li>')
    used = dict.fromkeys(cells[0].table for cells in group.cells.values())
    sweep = ", ".join(f"<code>python scripts/reproduce.py --table {name}</code>" for name in used)
    return (
        f"<h3>Commands</h3><p>Every row: {sweep}. One row, with its first seed:</p>"
        f'<ul class="commands">{"".join(items)}</ul>'
    )


def _anchor(group: Group, row: str) -> str:
    return f"{group.name}-{group.cells[row][0].result.stem.partition('.')[0]}"
