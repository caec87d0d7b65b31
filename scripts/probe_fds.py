"""Measure whether FDS's calibration tells the head the label: docs/fds.md.

    python scripts/probe_fds.py RUN... --out FILE.png
    python scripts/probe_fds.py --table sts-b-fds-small --rows '* + FDS*' --out FILE.png

It trains nothing. RUN is a folder that train.py wrote with --fds; a table's runs want their folders too. The errors of
each run's head, and of a new linear reader, on features as they are and calibrated by some bin, are printed, drawn as
means over seeds, and written to FILE.csv.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # prefer the `common` beside this file
import common.environment  # noqa: F401 - ends in one line under a wrong interpreter

# isort: split
from plot import add_data, add_runs, picture

from common import cli
from common.files import write_atomically
from common.report import start_logging, stop_logging


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = cli.Parser(prog="scripts/probe_fds.py", description=__doc__.splitlines()[0])
    add_runs(parser)
    parser.add_argument(
        "--out", type=picture, required=True, metavar="FILE", help="the picture; FILE.csv beside it"
    )
    add_data(parser)
    args = parser.parse_args(argv)
    import pandas as pd  # this and the following load torch and matplotlib
    from plotting import fds_probe, pictures

    named, _ = pictures.chosen(args)
    frames = []
    start_logging(None)
    try:
        for name, run in ((name, run) for name, group in named.items() for run in group):
            frames.append(fds_probe.probe(run, name, pictures.data_folder(run, args)))
            print(fds_probe.text(frames[-1]), flush=True)
    finally:
        stop_logging()
    found = pd.concat(frames)
    pictures.save(fds_probe.figure(found), args.out)  # makes the folder
    write_atomically(args.out.with_suffix(".csv"), fds_probe.csv(found))
    return 0


if __name__ == "__main__":
    sys.exit(cli.run_command("scripts/probe_fds.py", main))
