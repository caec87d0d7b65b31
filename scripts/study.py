"""Print the study of what each method is worth, and write it to results/.

    python scripts/study.py    results/study.md, its numbers (study.csv, claims.csv, errors.csv), and READMEs with
                               <!-- overview KEY --> … <!-- end -->, KEY a recipe with a table for each of several names

It takes whatever results are recorded, and names the rows that lack a seed. Its rules are in docs/study.md.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # prefer the `common` beside this file
import common.environment  # noqa: F401 - ends in one line under a wrong interpreter

# isort: split
from common import cli
from common.files import write_atomically


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    cli.Parser(prog="scripts/study.py", description=__doc__.splitlines()[0]).parse_args(argv)
    from reproducing import study_text  # loads pandas

    for path, text in study_text.contents().items():
        write_atomically(path, text)
        if path.name == "study.md":
            print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(cli.run_command("scripts/study.py", main))
