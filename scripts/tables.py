"""Write the tables from the runs' recorded results: into results/ and, between markers, into pages.

    python scripts/tables.py            results/NAME.md, .csv and .tex, and each README that has markers
    python scripts/tables.py --check    exit with 1 if one differs from the results (the tests run this)

A marker is `<!-- table NAME -->` … `<!-- end -->`, with NAME from data/recipes.toml and perhaps one of its metrics;
`<!-- bench a b -->` with parts of `make bench`; `<!-- agreement NAME NAME -->`: what settings change in results; or
`<!-- probe KIND NAME NAME -->`: readers, data or settings, from docs/fds/NAME.csv of scripts/probe_fds.py.
Nothing here knows a number: ours come from results/NAME/ and results/bench.json, the paper's from data/published.csv.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # prefer the `common` beside this file
import common.environment  # noqa: F401 - ends in one line under a wrong interpreter

# isort: split
from reproducing import probed, speed
from reproducing.recipes import Table, read_tables
from reproducing.results import fold, recorded_cells
from reproducing.table_text import as_csv, latex, markdown

from common import cli
from common.errors import RunFailed, UserError
from common.files import write_atomically

MARKED = re.compile(r"(<!-- table (\S+)(?: (\w+))? -->\n).*?(<!-- end -->)", re.DOTALL)
FORMATS = {".md": markdown, ".csv": as_csv, ".tex": latex}


def updated(text: str) -> str:
    """Return a README's text with every marked table, and every marked part of `make bench`, updated."""
    tables = read_tables()

    def find(kind: str, name: str) -> Table:
        if name not in tables:
            raise UserError(f"marker `{kind} {name}`: there is no such table in data/recipes.toml")
        return tables[name]

    def replace(found: re.Match) -> str:
        start, name, metric, end = found.groups()
        table = find("table", name)
        if metric not in (None, *table.metrics):
            raise UserError(f"marker `table {name} {metric}`: its metrics are {', '.join(table.metrics)}")
        return start + markdown(table, metric) + end

    return probed.updated(speed.updated(MARKED.sub(replace, text), find), find)


def readmes() -> list[Path]:
    """Return the READMEs, and the page, that may have tables."""
    pages = (cli.ROOT.glob(pattern) for pattern in ("README.md", "*-dir/README.md", "docs/fds.md"))
    return [path for found in pages for path in sorted(found)]


def contents() -> Iterator[tuple[Path, str]]:
    """Yield every file that shows a table, with its new content."""
    for table in read_tables().values():
        own = [cell for cell in table.cells() if cell.table == table.name]
        if table.folder == "results" and any(cell.result.exists() for cell in own):
            for ending, form in FORMATS.items():
                yield cli.ROOT / table.folder / f"{table.name}{ending}", form(table)
    for path in readmes():
        yield path, updated(path.read_text(encoding="utf-8"))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = cli.Parser(prog="scripts/tables.py", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is out of date")
    args = parser.parse_args(argv)
    if not args.check:
        fold(cell for table in read_tables().values() for cell in recorded_cells(table))
    for path, new in contents():
        old = path.read_text(encoding="utf-8") if path.exists() else None
        if old != new and args.check:
            raise RunFailed(f"{path}: differs from the results; run python scripts/tables.py")
        if old != new:
            write_atomically(path, new)
            print(f"{path.relative_to(cli.ROOT)}: written")
    return 0


if __name__ == "__main__":
    sys.exit(cli.run_command("scripts/tables.py", main))
