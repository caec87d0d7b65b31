"""Make a data set ready to train on from its raw files, or check that it is.

    python scripts/prepare.py agedb            the balanced split from the images in data/agedb/AgeDB
    python scripts/prepare.py imdb-wiki        from imdb.mat and wiki.mat in data/imdb-wiki
    python scripts/prepare.py utkface          a balanced split from the images in data/utkface/UTKFace
    python scripts/prepare.py sts-b            the published split from GLUE's train.tsv and dev.tsv
    python scripts/prepare.py nyud2            depth counts, FDS subset and test mask; --labelled: the images too
    python scripts/prepare.py agedb --persons apart     no person in two splits; imdb-wiki too
    python scripts/prepare.py own FILE.csv     look at a CSV of your own, and make splits if it has none
    python scripts/prepare.py NAME --check     compare a data folder with the paper, and read every file

What is there already, such as the published split files, is used as it is; --overwrite writes it anew.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # prefer the `common` beside this file
import common.environment  # noqa: F401 - ends in one line under a wrong interpreter

# isort: split
from common import cli

PROG = "scripts/prepare.py"
# The function, of the data set's name, is in this module; it is imported only when the name is asked for.
DATASETS = {
    "agedb": "preparing.agedb",
    "imdb-wiki": "preparing.imdb_wiki",
    "utkface": "preparing.utkface",
    "sts-b": "preparing.sts_b",
    "nyud2": "preparing.nyud2",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command, a name and the flags of that data set; return its exit code."""
    words = sorted(sys.argv[1:] if argv is None else argv, key="--check".__eq__)  # it may stand anywhere
    parser = cli.Parser(prog=PROG, description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=(*DATASETS, "own"), help="the data set; its flags: NAME --help")
    parser.add_argument("--check", action="store_true", help="check the data folder; write nothing")
    name = parser.parse_args(words[:1]).name
    try:
        if "--check" in words and name != "own":
            return importlib.import_module("preparing.check").check(name, words[1:])
        return getattr(importlib.import_module(DATASETS.get(name, "preparing.own")), name.replace("-", "_"))(
            words[1:]
        )
    except KeyboardInterrupt:
        print(f"{PROG}: stopped; nothing was left half-written", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(cli.run_command(PROG, main))
