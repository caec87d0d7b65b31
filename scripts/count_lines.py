"""Count the project's lines of code, without blanks, comments and docstrings, and what is too long.

    python scripts/count_lines.py             # the counts
    python scripts/count_lines.py --long      # which functions and modules are too long
    python scripts/count_lines.py --update    # write the counts into CONTRIBUTING.md

A test holds CONTRIBUTING.md to these counts, and the counts to their limits.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # prefer the `common` beside this file
import common.environment  # noqa: F401 - ends in one line under a wrong interpreter

# isort: split
from common import cli
from common.errors import UserError
from common.files import write_atomically

CORE = ("common", "agedb-dir", "imdb-wiki-dir", "sts-b-dir", "nyud2-dir")
DATA_SETS = tuple(sorted(path.name for path in cli.ROOT.glob("*-dir")))
SOURCE = ("common", *DATA_SETS, "scripts", "benchmarks")
# Training and evaluation of the four data sets: neither the resampling baselines nor methods of later papers.
PAPER_METHODS = ("__init__", "criterion", "kernel", "reweight", "rrt", "smoothing")
LONGEST_FUNCTION, LONGEST_MODULE = 40, 250  # lines, with blanks and comments
GUIDE = cli.ROOT / "CONTRIBUTING.md"
QUOTED = re.compile(r"(<!-- counts -->\n```\n).*?(```\n<!-- end -->)", re.DOTALL)
SKIPPED = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


def files(*folders: str) -> list[Path]:
    """Return the Python files below these folders."""
    return sorted(path for folder in folders for path in (cli.ROOT / folder).rglob("*.py"))


def is_core(path: Path) -> bool:
    """Return whether a file is part of training and evaluating the four data sets."""
    if "resample" in path.stem:
        return False
    return path.parent.name != "methods" or path.stem in PAPER_METHODS


def docstring_lines(tree: ast.Module) -> set[int]:
    """Return the lines of all docstrings."""
    lines: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and ast.get_docstring(node)
            ):
                lines |= set(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    return lines


def code_lines(text: str) -> int:
    """Return the number of lines that hold code."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in SKIPPED:
            lines |= set(range(token.start[0], token.end[0] + 1))
    return len(lines - docstring_lines(ast.parse(text)))


def functions(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the length and the name of each function, from `def` to its last line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            yield length, f"{path.relative_to(cli.ROOT)}:{node.name}"


def long_functions() -> list[str]:
    """Return the functions of `common` and the data sets' folders that are too long, as FILE:NAME."""
    found = (pair for path in files("common", *DATA_SETS) for pair in functions(path))
    return [name for length, name in found if length > LONGEST_FUNCTION]


def long_modules() -> list[str]:
    """Return the modules that are too long."""
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in files(*SOURCE)}
    return [str(p.relative_to(cli.ROOT)) for p, length in lengths.items() if length > LONGEST_MODULE]


def counts() -> dict[str, int]:
    """Return each count by what it counts."""
    lines = {path: code_lines(path.read_text(encoding="utf-8")) for path in files(*SOURCE)}
    lengths = [length for path in files("common", *DATA_SETS) for length, _ in functions(path)]
    return {
        "lines of code, training and evaluation of the four data sets": sum(
            lines[path] for path in files(*CORE) if is_core(path)
        ),
        "lines of code, all source": sum(lines.values()),
        "functions over 40 lines in common and the data sets' folders": len(long_functions()),
        "longest function there, in lines": max(lengths),
        "modules over 250 lines, all source": len(long_modules()),
    }


def counts_text() -> str:
    """Return the counts as text, a line for each."""
    return "".join(f"{number:>7,}  {label}\n" for label, number in counts().items())


def quoting(guide: str, text: str) -> str:
    """Return the text of CONTRIBUTING.md with these counts; raises UserError if it has no place for them."""
    new, places = QUOTED.subn(lambda found: found[1] + text + found[2], guide)
    if places != 1:
        raise UserError(
            f"{GUIDE}: has {places} places for the counts, not one between <!-- counts --> and <!-- end -->"
        )
    return new


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = cli.Parser(prog="scripts/count_lines.py", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--long", action="store_true", help="list the functions and modules that are too long"
    )
    parser.add_argument("--update", action="store_true", help="write the counts into CONTRIBUTING.md")
    args = parser.parse_args(argv)
    text = counts_text()
    print(text, end="")
    if args.long:
        print("\n".join([*long_functions(), *long_modules()]))
    if args.update:
        write_atomically(GUIDE, quoting(GUIDE.read_text(encoding="utf-8"), text))
    return 0


if __name__ == "__main__":
    sys.exit(cli.run_command("scripts/count_lines.py", main))
