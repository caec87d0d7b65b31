"""Write the recorded results as one self-contained folder, to be opened in a browser or put on a web server.

python scripts/report.py --out site        site/index.html: nothing else, no network, no build step
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # prefer the `common` beside this file
import common.environment  # noqa: F401 - ends in one line under a wrong interpreter

# isort: split
from common import cli
from common.errors import UserError
from common.files import check_writable, write_atomically


def check_folder(out: Path, generator: str) -> None:
    """Raise UserError if the folder holds anything but an earlier page."""
    if out.is_file():
        raise UserError(f"--out {out}: is a file; name a new or empty folder")
    for path in sorted(out.iterdir()) if out.is_dir() else ():
        own = (
            path.name == "index.html"
            and generator in path.read_text(encoding="utf-8", errors="replace")[:1000]
        )
        if not own:
            raise UserError(
                f"--out {out}: holds {path.name}, which is no page of ours; name a new or empty folder"
            )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = cli.Parser(prog="scripts/report.py", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out", type=Path, required=True, help="the folder to write; new, empty, or with an earlier page"
    )
    args = parser.parse_args(argv)
    from reporting.page import GENERATOR, page  # loads pandas

    check_folder(args.out, f'content="{GENERATOR}"')
    file = args.out / "index.html"
    check_writable(file, "--out")
    write_atomically(file, page())
    print(f"{file}: written")
    return 0


if __name__ == "__main__":
    sys.exit(cli.run_command("scripts/report.py", main))
