"""Print the tables in the READMEs from the runs' `metrics.json`, between markers.

    python scripts/tables.py            write each table into the README that has its markers
    python scripts/tables.py --check    exit with 1 if a README differs from the results (the tests run this)

A marker is `<!-- table NAME -->` … `<!-- end -->`, with NAME from data/recipes.toml. Nothing here knows a
number: ours come from results/NAME/, the paper's from data/published.csv.
"""

from __future__ import annotations

import re
import statistics
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pandas as pd

from common import cli
from common.errors import RunFailed, UserError
from common.metrics import GROUPS, HIGHER_IS_BETTER
from common.recipes import Table, read_tables
from common.report import HEADINGS, LABELS
from common.rundir import read_json

MARKED = re.compile(r"(<!-- table (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
PUBLISHED_SHOT = {"all": "all", "many": "many", "medium": "med", "few": "few"}


@cache
def published() -> dict[tuple, float]:
    """The paper's numbers by table, dataset, method, metric and shot; no differences, no ablations."""
    numbers = pd.read_csv(cli.ROOT / "data" / "published.csv")
    numbers = numbers[(numbers["kind"] == "value") & numbers["variant"].isna()]
    return numbers.set_index(["table", "dataset", "method", "metric", "shot"])["value"].to_dict()


def results_of(table: Table, row: str) -> list[dict]:
    """The recorded results of a row, a seed each; raises UserError if a file is there and broken."""
    results = []
    for cell in table.cells():
        if cell.row == row and cell.result.exists():
            result = read_json(cell.result)
            if result is None:
                raise UserError(f"{cell.result}: is cut short; delete it and run scripts/reproduce.py again")
            results.append(result)
    return results


def check_same_data(table: Table) -> None:
    """Raise UserError if some results are of another stand-in than the first, or of the real data."""
    found = [(cell, read_json(cell.result)) for cell in table.cells() if cell.result.exists()]
    notes = [(cell, result.get("standin", "the real data")) for cell, result in found]
    for cell, note in notes:
        if note != notes[0][1]:
            raise UserError(
                f"{cell.result}: is of other data ({note}) than {notes[0][0].result.name} ({notes[0][1]}); "
                "run the rows of one of the two again"
            )


def mean_and_deviation(values: Sequence[float | None]) -> tuple[float, str] | None:
    """The mean over seeds, and it with the standard deviation (n - 1) as text; None without a value."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    mean = statistics.mean(known)
    return mean, f"{mean:.3f}" + (f" ± {statistics.stdev(known):.3f}" if len(known) > 1 else "")


def paper_cell(table: Table, row: str, metric: str, group: str) -> str:
    """The paper's number of a cell, a dash where the paper has none; correlations are printed x 100 there."""
    method = table.rows[row].get("paper")
    key = (table.paper_table, table.dataset, method, table.metrics[metric], PUBLISHED_SHOT[group])
    value = published().get(key)
    if value is None:
        return "–"
    return f"{value / 100:.3f}" if table.metrics[metric].endswith("(%)") else f"{value:.3f}"


def metric_lines(table: Table, rows: dict[str, list[dict]], metric: str) -> list[str]:
    """The Markdown lines of one metric: a line per row, the best mean of each column in bold."""
    higher = metric in HIGHER_IS_BETTER
    cells = {
        (row, group): mean_and_deviation([r["shots"][group][metric] for r in results])
        for row, results in rows.items() for group in GROUPS
    }  # fmt: skip
    best = {
        group: (max if higher else min)(cells[row, group][0] for row in rows if cells[row, group])
        for group in GROUPS if any(cells[row, group] for row in rows)
    }  # fmt: skip

    def text(row: str, group: str) -> str:
        cell = cells[row, group]
        if cell is None:
            return "–"
        return f"**{cell[1]}**" if cell[0] == best[group] else cell[1]

    with_paper = table.paper_table is not None
    heads = [HEADINGS[group] for group in GROUPS]
    heads = [
        f"{LABELS[metric]} {'↑' if higher else '↓'}",
        *heads,
        *([f"paper {h}" for h in heads] if with_paper else []),
    ]
    lines = ["| " + " | ".join(heads) + " |", "| --- |" + " ---: |" * (len(heads) - 1)]
    for row in rows:
        paper = [paper_cell(table, row, metric, group) for group in GROUPS] if with_paper else []
        lines.append("| " + " | ".join([row, *(text(row, group) for group in GROUPS), *paper]) + " |")
    return lines


def rows_of(table: Table) -> dict[str, list[dict]]:
    """The results of each row that has been run; raises UserError if none has."""
    rows = {row: results for row in table.rows if (results := results_of(table, row))}
    if not rows:
        raise UserError(
            f"{table.folder}/{table.name}: has no result; run scripts/reproduce.py --table {table.name}"
        )
    check_same_data(table)
    return rows


def markdown(table: Table) -> str:
    """The whole table as Markdown."""
    rows = rows_of(table)
    first = next(iter(rows.values()))[0]
    seeds = {len(results) for results in rows.values()}
    n = ", ".join(f"{HEADINGS[group]} {first['shots'][group]['n']:,}" for group in GROUPS)
    count = f"{min(seeds)} to {max(seeds)}" if len(seeds) > 1 else str(*seeds)
    over = "one seed" if seeds == {1} else f"mean ± standard deviation over {count} seeds"
    lines = [f"{table.title}: {over}; best in bold. Test samples: {n}."]
    if "standin" in first:
        lines.append(f"\n**Stand-in, not the real data** ({first['standin']}).")
    for metric in table.metrics:
        lines += ["", *metric_lines(table, rows, metric)]
    lines += ["", f"`python scripts/reproduce.py --table {table.name}` runs, for each seed:", "", "```"]
    flags = " ".join(table.flags.split())
    lines += [
        f"{row + ':':<30}python {table.script} {flags} {table.rows[row]['flags']}".rstrip() for row in rows
    ]
    lines.append("```")
    if any("{" in table.rows[row]["flags"] for row in rows):
        lines.append("\n`{Row}` is the best checkpoint of that row under the same seed.")
    return "\n".join([*lines, ""])


def updated(text: str) -> str:
    """A README's text with every marked table printed anew."""
    tables = read_tables()

    def replace(found: re.Match) -> str:
        if found.group(2) not in tables:
            raise UserError(f"marker `table {found.group(2)}`: there is no such table in data/recipes.toml")
        return found.group(1) + markdown(tables[found.group(2)]) + found.group(3)

    return MARKED.sub(replace, text)


def readmes() -> list[Path]:
    """The READMEs that may have tables."""
    return [cli.ROOT / "README.md", *sorted(cli.ROOT.glob("*-dir/README.md"))]


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = cli.Parser(prog="scripts/tables.py", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a README is out of date")
    args = parser.parse_args(argv)
    for path in readmes():
        old = path.read_text(encoding="utf-8")
        new = updated(old)
        if old != new and args.check:
            raise RunFailed(f"{path}: a table differs from its results; run python scripts/tables.py")
        if old != new:
            path.write_text(new, encoding="utf-8")
            print(f"{path.relative_to(cli.ROOT)}: written")
    return 0


if __name__ == "__main__":
    sys.exit(cli.run_command("scripts/tables.py", main))
