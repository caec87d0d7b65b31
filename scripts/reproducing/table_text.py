"""A table as Markdown, CSV and LaTeX: ours with the deviation over seeds, the paper's and the difference."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterable, Sequence

from reproducing.claims import LEVEL, RESAMPLES, samples_of, verdicts
from reproducing.recipes import Table
from reproducing.table_numbers import Number, Results, later_number, numbers, rows_of

from common.metrics import METRICS
from common.report import HEADINGS

DASH = "–"
MINUS = "−"


def ours(number: Number) -> str:
    """Format the mean and, with more than one seed, the standard deviation."""
    if number.mean is None:
        return DASH
    return f"{number.mean:.3f}" + (f" ± {number.sd:.3f}" if number.sd is not None else "")


def papers(number: Number) -> str:
    """Format the paper's number, and in brackets the difference to ours."""
    if number.paper is None:
        return DASH
    difference = "" if number.difference is None else f" ({signed(number.difference)})"
    return f"{number.paper:.3f}{difference}"


def signed(value: float) -> str:
    """Format three decimals with a sign; a hyphen would break at the end of a line."""
    return f"{value:+.3f}".replace("-", MINUS)


def by_row(found: Iterable[Number], metric: str) -> dict[str, list[Number]]:
    """Return the numbers of a metric, a list over shots for each row."""
    mine = [number for number in found if number.metric == metric]
    return {row: list(group) for row, group in itertools.groupby(mine, key=lambda number: number.row)}


def heading(table: Table, metric: str, *, with_paper: bool) -> list[str]:
    """Return the head of a metric's columns."""
    shots = [HEADINGS[shot] for shot in table.groups]
    arrow = "↑" if METRICS[metric].higher_is_better else "↓"
    return [
        f"{METRICS[metric].heading} {arrow}",
        *shots,
        *([f"paper {shot}" for shot in shots] if with_paper else []),
    ]


def caption(table: Table, rows: Results) -> str:
    """Return the caption: the title, the number of seeds and of test samples."""
    first, seeds = next(iter(rows.values()))[0], {len(results) for results in rows.values()}
    groups = {shot: first["shots"][shot]["n"] for shot in table.groups if shot in first["shots"]}
    n = ", ".join(f"{HEADINGS[shot]} {count:,}" for shot, count in groups.items())
    count = f"{min(seeds)} to {max(seeds)}" if len(seeds) > 1 else str(*seeds)
    over = "one seed" if seeds == {1} else f"mean ± standard deviation over {count} seeds"
    bold = "" if table.protocol == "own" else "; best in bold"
    return f"{table.title}: {over}{bold}. Test samples: {n}."


PROTOCOLS = {
    "": (),
    "apart": (),
    "sensitivity": (),
    "one": ("Every row is trained alike, with the batch size, rate and length of 2021.",),
    "own": (
        "**Rows do not compare**: each has the batch size, rate and length of its own authors, so none is ranked.",
    ),
}


def notes(table: Table, found: Sequence[Number], rows: Results) -> list[str]:
    """Return the notes below the caption."""
    first, lines = next(iter(rows.values()))[0], list(PROTOCOLS[table.protocol])
    if "standin" in first:
        lines.append(f"**Stand-in, not the real data** ({first['standin']}).")
    if first.get("selected_on") == "test":
        lines.append("The best epoch is chosen on the test set, as in the paper.")
    if "shots_by" in first:
        lines.append(f"Shots: {first['shots_by']}.")
    if has_paper(found):
        lines.append("In brackets: ours less the paper's.")
        lines += sources(table, found)
    return lines


def sources(table: Table, found: Sequence[Number]) -> list[str]:
    """Return where the published numbers of later methods are from, with their protocols and rows."""
    if not table.published:
        return []
    rows: dict[tuple[str, str], dict[str, None]] = {}
    for x in found:
        if line := later_number(table, x.row, x.metric, x.shot):
            rows.setdefault((line["source"], line["protocol"]), {})[x.row] = None
    texts = [f"{', '.join(names)}: {source} ({protocol})" for (source, protocol), names in rows.items()]
    return [f'"Paper" is what others published: {". ".join(texts)}.']


def has_paper(found: Iterable[Number]) -> bool:
    """Return whether any number of the paper stands beside ours."""
    return any(number.paper is not None for number in found)


# Markdown


def markdown(table: Table, only: str | None = None) -> str:
    """Format the whole table as Markdown, with the verdicts on its claims and its commands; or one metric alone."""
    rows = rows_of(table)
    found = numbers(table, rows)
    parts = [caption(table, rows), *notes(table, found, rows)]
    parts += [metric_lines(table, found, metric) for metric in table.metrics if only in (None, metric)]
    parts += [verdict_lines(table), commands(table, rows)] if only is None else []
    return "\n\n".join(part for part in parts if part) + "\n"


def metric_lines(table: Table, found: Sequence[Number], metric: str) -> str:
    """Format one metric as Markdown, a line for each row."""
    with_paper = has_paper(found)
    lines = [
        [row, *(bold(ours(x), x.best) for x in line), *(papers(x) for x in line if with_paper)]
        for row, line in by_row(found, metric).items()
    ]
    return markdown_table([heading(table, metric, with_paper=with_paper), *lines])


def bold(text: str, best: bool) -> str:
    """Put the best in bold."""
    return f"**{text}**" if best else text


def markdown_table(lines: list[list[str]], left: int = 1) -> str:
    """Format a Markdown table with a head and aligned columns; the first `left` are texts."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = ["-" * w if i < left else "-" * (w - 1) + ":" for i, w in enumerate(widths)]

    def row(cells: list[str]) -> str:
        aligned = [
            text.ljust(w) if i < left else text.rjust(w)
            for i, (text, w) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(aligned)} |"

    return "\n".join([row(lines[0]), row(rule), *map(row, lines[1:])])


def verdict_lines(table: Table) -> str:
    """Format the paper's claims whose rows have been run, with their verdicts."""
    found = verdicts(table)
    if not found:
        return ""
    with_paper = any(verdict.paper is not None for verdict in found)
    head = ["The paper's claim", "difference of", "on", *(["paper"] if with_paper else []), "ours"]
    lines = [[*head, f"{LEVEL} % interval", "verdict"]]
    says = ""
    for verdict in found:
        claim = verdict.claim
        lines.append([
            claim.says if claim.says != says else "",
            f"{claim.better} and {claim.than}",
            f"{METRICS[claim.metric].heading}, {HEADINGS[claim.shot]}",
            *([DASH if verdict.paper is None else signed(verdict.paper)] if with_paper else []),
            signed(verdict.ours), " to ".join(map(signed, verdict.interval or ())) or DASH, verdict.word,
        ])  # fmt: skip
        says = claim.says
    seeds = " and seeds" if len(table.seeds) > 1 else " of one seed"
    fewer = [row for row, results in rows_of(table).items() if len(results) < len(table.seeds)]
    note = (
        f"Intervals: bootstrap over {samples_of(table)} (the same for both rows){seeds}; {RESAMPLES:,} resamples, "
        "each claim by itself, not corrected for their number. A claim holds, or does not, where the interval "
        "leaves 0 out."
    )
    short = f" Of fewer seeds: {', '.join(fewer)}." if fewer else ""
    return f"{markdown_table(lines, left=3)}\n\n{note}{short}"


def commands(table: Table, rows: Results) -> str:
    """Format the command of the table, and the flags that each row adds."""
    width = max(map(len, rows)) + 2
    lines = [f"{row + ':':<{width}}{table.rows[row]['flags']}".rstrip() for row in rows]
    base = " ".join(f"$ python {table.script} {table.flags}".split())
    text = [f"`python scripts/reproduce.py --table {table.name}` runs, for each seed, with the row's flags:"]
    text += ["", "```", base, *lines, "```"]
    if any("{" in table.rows[row]["flags"] for row in rows):
        text += ["", "`{Row}` is the best checkpoint of that row under the same seed."]
    return "\n".join(text)


# CSV


def as_csv(table: Table) -> str:
    """Format every number as CSV, to the last digit."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    names = ["row", "metric", "shot", "n", "seeds", "mean", "sd", "paper", "difference", "best"]
    writer.writerow(["table", *names])
    for number in numbers(table, rows_of(table)):
        writer.writerow([table.name, *(getattr(number, name) for name in names)])
    return file.getvalue()


# LaTeX


def latex(table: Table) -> str:
    """Format a `table*` for booktabs, a block of rows for each metric."""
    rows = rows_of(table)
    found = numbers(table, rows)
    with_paper = has_paper(found)
    columns = len(table.groups) * (1 + with_paper)
    lines = [r"\begin{table*}", rf"\caption{{{escaped(caption(table, rows))}"]
    lines += [escaped(note.replace("**", "")) for note in notes(table, found, rows)]
    lines += ["}", r"\centering\small", rf"\begin{{tabular}}{{l{'r' * columns}}}", r"\toprule"]
    for number, metric in enumerate(table.metrics):
        lines += [r"\midrule"] if number else []
        lines += [tex_row(map(escaped, heading(table, metric, with_paper=with_paper))), r"\midrule"]
        for row, line in by_row(found, metric).items():
            mine = [rf"\textbf{{{escaped(ours(x))}}}" if x.best else escaped(ours(x)) for x in line]
            lines.append(tex_row([escaped(row), *mine, *(escaped(papers(x)) for x in line if with_paper)]))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table*}", ""])


TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "$": r"\$", "{": r"\{",
    "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "↑": r"$\uparrow$",
    "↓": r"$\downarrow$", MINUS: "$-$", DASH: "--",
}  # fmt: skip


def escaped(text: str) -> str:
    """Escape text for LaTeX."""
    return "".join(TEX.get(character, character) for character in text)


def tex_row(cells: Iterable[str]) -> str:
    """Format a row of a `tabular`."""
    return " & ".join(cells) + r" \\"
