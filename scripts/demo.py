"""See the benchmark work, from an empty data folder to a table and a picture, in minutes on two cores.

    make demo          AgeDB-DIR on a stand-in of drawn faces: five methods, one table, demo.png
    make demo-sts      STS-B-DIR on the real data if they are there, else on a stand-in corpus: two methods

Every run is an ordinary `train.py` command of data/recipes.toml. Called again, it goes on, or prints the
table.
"""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # prefer the `common` beside this file
import common.environment  # noqa: F401 - ends in one line under a wrong interpreter

# isort: split
import plot
from reproducing.launch import Local
from reproducing.recipes import Table, find_table
from reproducing.sweep import Sweep
from reproducing.table_numbers import rows_of

from common import cli
from common.files import read_json
from common.metrics import GROUPS, METRICS
from common.report import HEADINGS, number

DATA = cli.ROOT / "data"
SHARED = cli.ROOT.parent / "shared" / "data"  # the real data, where they lie beside the checkout


def draw_standin(name: str, folder: Path, scale: float, *more: str) -> None:
    """Draw a stand-in, unless it is there."""
    command = [
        "scripts/make_standin.py",
        name,
        "--out",
        str(folder.relative_to(cli.ROOT)),
        "--scale",
        str(scale),
    ]
    print("$ python", *command, *more, flush=True)
    code = subprocess.call([sys.executable, *command, *more], cwd=cli.ROOT)
    if code:
        raise SystemExit(code)


def agedb(quick: bool) -> Table:
    """Draw the stand-in of AgeDB-DIR and return its demo table."""
    table = find_table("agedb-demo")
    if not quick:
        draw_standin("agedb", DATA / "standin" / "agedb-demo", 0.2, "--img_size", "48")
        return table
    folder = DATA / "standin" / "agedb-quick"
    draw_standin("agedb", folder, 0.03, "--img_size", "48")
    flags = table.flags.replace("agedb-demo", "agedb-quick").replace("--epoch 6", "--epoch 2")
    return dataclasses.replace(table, name="agedb-quick", flags=flags)


def sts_b(quick: bool) -> Table:
    """Return the demo table of STS-B-DIR, on the best data at hand."""
    table = find_table("sts-b-demo")
    real = next((d for d in (DATA / "sts-b", SHARED / "sts-b") if (d / "train_new.tsv").exists()), None)
    glove = next(
        (
            f
            for f in (DATA / "glove/glove.6B.100d.txt", SHARED / "glove/glove.6B.100d.stsb.txt")
            if f.exists()
        ),
        None,
    )
    if real and glove and not quick:
        words = f"--word_embs_file '{glove}' --word_embs_lowercase --d_word 100"
        return dataclasses.replace(table, flags=f"--data_dir '{real}' {words} {table.flags}")
    print(f"{DATA / 'sts-b'}: no real data with word vectors here, so a stand-in corpus is written")
    folder = DATA / "standin" / ("sts-b-quick" if quick else "sts-b")
    draw_standin("sts-b", folder, 0.05 if quick else 0.3)
    words = f"--data_dir '{folder}' --word_embs_file '{folder / 'glove.standin.50d.txt'}' --d_word 50"
    flags = table.flags.replace("--val_interval 100", "--val_interval 20") if quick else table.flags
    return dataclasses.replace(table, name=folder.name, flags=f"{words} {flags}")


def table_text(table: Table) -> str:
    """Format the table: a line for each row, each metric for every shot."""
    rows = rows_of(table)
    first = next(iter(rows.values()))[0]
    head, n = f"{'':<18}", f"{'test samples':<18}"
    for metric in table.metrics:
        head += f"  {METRICS[metric].heading + ':':<9}" + "".join(f"{HEADINGS[group]:>8}" for group in GROUPS)
        n += " " * 11 + "".join(f"{first['shots'][group]['n']:>8,}" for group in GROUPS)
    lines = [head, n]
    for row, (result, *_) in rows.items():
        cells = [[number(result["shots"][group][metric]) for group in GROUPS] for metric in table.metrics]
        lines.append(
            f"{row:<18}" + "".join(" " * 11 + "".join(f"{cell:>8}" for cell in part) for part in cells)
        )
    standin = first.get("standin")  # of every result, as `rows_of` has checked
    told = [f"STAND-IN, not the real data: {standin}"] if standin else []
    return "\n".join([table.title, *told, "", *lines])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = cli.Parser(prog="scripts/demo.py", description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=("agedb", "sts-b"), help="which data set")
    parser.add_argument(
        "--quick", action="store_true", help="a minute's check that everything runs, no result"
    )
    args = parser.parse_args(argv)
    table = {"agedb": agedb, "sts-b": sts_b}[args.name](args.quick)
    Sweep(list(table.cells()), Local(2)).run()
    print(f"\n{table_text(table)}\n")
    if args.name == "agedb":
        results = [read_json(cell.result) for cell in table.cells()]
        runs = [str(cli.ROOT / Path(result["checkpoint"]).parent) for result in results if result]
        plot.main(["error", *runs, "--out", str(cli.ROOT / "demo.png")])
        print("Picture: demo.png")
    return 0


if __name__ == "__main__":
    sys.exit(cli.run_command("scripts/demo.py", main))
