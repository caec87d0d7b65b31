"""Count the project's lines of code, without blanks, comments and docstrings, and its long functions.

    python scripts/count_lines.py

CONTRIBUTING.md quotes what it prints, and a test holds the limits.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # prefer the `common` beside this file
import common.environment  # noqa: F401 - ends in one line under a wrong interpreter

# isort: split
from common import cli

CORE = ("common", "agedb-dir", "imdb-wiki-dir", "sts-b-dir", "nyud2-dir")
SOURCE = (*CORE, "scripts", "benchmarks")
# Training and evaluation of the four data sets: neither the resampling baselines nor methods of later papers.
PAPER_METHODS = ("__init__", "criterion", "kernel", "reweight", "rrt", "smoothing")
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


def counts() -> dict[str, int]:
    """Return each count by what it counts."""
    texts = {path: path.read_text(encoding="utf-8") for path in files(*SOURCE)}
    core = [path for path in files(*CORE) if is_core(path)]
    lengths = [length for path in files(*CORE) for length, _ in functions(path)]
    return {
        "lines of code, training and evaluation of the four data sets": sum(
            code_lines(texts[p]) for p in core
        ),
        "lines of code, all source": sum(map(code_lines, texts.values())),
        "functions over 40 lines in common and the data sets' folders": sum(n > 40 for n in lengths),
        "longest function there, in lines": max(lengths),
        "modules over 250 lines, all source": sum(len(text.splitlines()) > 250 for text in texts.values()),
    }


def main() -> int:
    """Print the counts."""
    for what, number in counts().items():
        print(f"{number:>7,}  {what}")
    return 0


if __name__ == "__main__":
    sys.exit(cli.run_command("scripts/count_lines.py", main))
