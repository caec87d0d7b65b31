"""STS-B-DIR from GLUE's labelled pairs: the published split by row numbers, or another one by the same rule.

The published split was drawn without a seed: `data/sts_b_order.json` says which rows it drew. See
`scripts/prepare.py`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from preparing.splits import Writers, blob_id, histogram, shots_of, summary, write_together

from common import cli, flags
from common.bins import Bins
from common.datasets.standin import Standin, read_standin
from common.errors import UserError

ORDER = cli.ROOT / "data" / "sts_b_order.json"
GLUE = ("train.tsv", "dev.tsv")  # in this order; test.tsv has no scores
SPLIT_FILES = {"train": "train_new.tsv", "val": "dev_new.tsv", "test": "test_new.tsv"}
HISTOGRAM = "sts_b.png"
COLUMNS, SCORE = 10, 9
SCORE_BINS = Bins.uniform(0, 5, 50)  # of the shots
BALANCED, DRAWN = Bins.uniform(0, 5, 20), 50  # bins of the balanced splits, and pairs of each
FEW_BELOW = 30
GET_STS_B = "python scripts/download.py sts-b gets it"


class Order(NamedTuple):
    """What data/sts_b_order.json says of the published split."""

    val: list[int]  # rows of train.tsv and dev.tsv, counted from 0 through both
    test: list[int]
    ids: dict[str, str]  # git's id of each file, raw and split


def read_order(path: Path = ORDER) -> Order:
    """Return the published rows, which are part of this repository."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return Order(content["val"], content["test"], content["ids"])


class Glue(NamedTuple):
    """GLUE's labelled pairs, as bytes, so that what is written has the same."""

    header: bytes
    rows: list[bytes]  # N lines with their scores, without line ends
    scores: np.ndarray  # float32 (N,)
    ids: dict[str, str]  # git's id of each file


def read_glue(folder: Path) -> Glue:
    """Read train.tsv and dev.tsv; raises UserError, with the line, for defects.

    Lines may end as on Windows; the ids are of the file with lines that end as on Unix.
    """
    header, rows, scores, ids = b"", [], [], {}
    for name in GLUE:
        file = folder / name
        if not file.is_file():
            raise UserError(f"{file}: there is no such file; {GET_STS_B}, --data_dir says where it is")
        content = file.read_bytes().replace(b"\r\n", b"\n")
        ids[name] = blob_id(content)
        header, *lines = content.removesuffix(b"\n").split(b"\n")
        if b"sentence1" not in header:
            raise UserError(f"{file}, line 1: names no column sentence1, as GLUE's does; {GET_STS_B}")
        for number, line in enumerate(lines, start=2):
            rows.append(line)
            scores.append(_score(line, f"{file}, line {number}"))
    return Glue(header, rows, np.array(scores, np.float32), ids)


def _score(line: bytes, where: str) -> float:
    cells = line.split(b"\t")
    if len(cells) != COLUMNS:
        raise UserError(f"{where}: {len(cells)} columns where GLUE has {COLUMNS}; {GET_STS_B}")
    try:
        line.decode("utf-8")
        score = float(cells[SCORE])
        if not 0 <= score <= 5:
            raise ValueError("is outside 0 to 5")
    except ValueError as error:
        raise UserError(f"{where}: its score or text is broken ({error}); {GET_STS_B}") from error
    return score


def draw(scores: np.ndarray, seed: int) -> tuple[list[int], list[int]]:
    """Draw a balanced validation and test split: of each of 20 bins 50 and 50, at most a third each."""
    val: list[int] = []
    test: list[int] = []
    stream = random.Random(seed)
    index = BALANCED.index(scores)
    for place in range(BALANCED.num):
        rows = np.flatnonzero(index == place).tolist()
        n = min(len(rows) // 3, DRAWN)
        drawn = stream.sample(rows, 2 * n)
        val += sorted(drawn[:n])
        test += sorted(drawn[n:])
    return val, test


def split_rows(scores: np.ndarray, val: Sequence[int], test: Sequence[int]) -> dict[str, list[int]]:
    """Return the rows of each split in file order; training has the rest, by bin and then by row."""
    taken, index = {*val, *test}, BALANCED.index(scores)
    rest = [row for row in np.argsort(index, kind="stable").tolist() if row not in taken]
    return {"train": rest, "val": list(val), "test": list(test)}


def render(glue: Glue, rows: Sequence[int]) -> bytes:
    """Return the bytes of a split file: the header, then the rows, whose first column counts from 0."""
    lines = [b"%d\t%s" % (number, glue.rows[row].split(b"\t", 1)[1]) for number, row in enumerate(rows)]
    return b"\n".join([glue.header, *lines, b""])


def split_of(glue: Glue, order: Order, seed: int | None, folder: Path) -> dict[str, list[int]]:
    """Return the published split of GLUE's rows, or that of a seed; raises UserError for other rows."""
    if seed is not None:
        val, test = draw(glue.scores, seed)
        if not val:
            raise UserError(f"{folder}: no bin of 0.25 has three pairs, so that validation would be empty")
        return split_rows(glue.scores, val, test)
    for name in GLUE:
        if glue.ids[name] != order.ids[name]:
            raise UserError(
                f"{folder / name}: is not the file that the published split was made of (git's id of it is "
                f"{glue.ids[name][:12]}, not {order.ids[name][:12]}); {GET_STS_B}, or draw a split of your "
                "own with --seed 0"
            )
    return split_rows(glue.scores, order.val, order.test)


def report(
    folder: Path, contents: dict[str, bytes], order: Order, standin: Standin, seed: int | None = None
) -> None:
    """Print what the split is, and its summary; raises UserError if a file of it is broken."""
    scores, splits = split_scores(folder, contents)
    if standin.note:
        print(f"Stand-in, not the real data: {standin.note}")
    if published(contents, order):
        print(f"This is the published split: all {len(scores):,} rows agree with it, to the byte.")
    else:
        why = "its rows or their order are others" if seed is None else f"it was drawn with --seed {seed}"
        print(f"This is NOT the published split: {why}.")
    print(summary(scores, splits, shots_of(scores, splits, standin, SCORE_BINS, FEW_BELOW), "bins"))


def split_scores(folder: Path, contents: dict[str, bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Return the score, float32, and the split of each row of the three files."""
    scores, splits = [], []
    for split, name in SPLIT_FILES.items():
        lines = contents[name].replace(b"\r\n", b"\n").removesuffix(b"\n").split(b"\n")[1:]
        scores += [
            _score(line, f"{folder / name}, line {number}") for number, line in enumerate(lines, start=2)
        ]
        splits += [split] * len(lines)
    return np.array(scores, np.float32), np.array(splits)


def published(contents: dict[str, bytes], order: Order) -> bool:
    """Return whether all three files are the published ones, byte for byte."""
    return all(blob_id(contents[name]) == order.ids[name] for name in SPLIT_FILES.values())


def write(folder: Path, contents: dict[str, bytes], standin: Standin) -> None:
    """Write the three files and the histogram of the training scores: all of them, or none."""
    scores, splits = split_scores(folder, contents)
    shots = shots_of(scores, splits, standin, SCORE_BINS, FEW_BELOW)
    title = f"STS-B-DIR: {(splits == 'train').sum():,} training pairs"
    plot = partial(histogram, title=title, shots=shots, label="Similarity score", one="bin", item="pairs")
    files: Writers = {folder / HISTOGRAM: plot}
    for name, content in contents.items():
        files[folder / name] = partial(Path.write_bytes, data=content)
    write_together(files)


def sts_b(argv: Sequence[str], order_file: Path = ORDER) -> int:
    """Run `prepare.py sts-b` and return its exit code."""
    args = parser().parse_args(argv)
    folder, order, standin = args.out or args.data_dir, read_order(order_file), read_standin(args.data_dir)
    there = {name: folder / name for name in SPLIT_FILES.values() if (folder / name).is_file()}
    if len(there) == len(SPLIT_FILES) and not args.overwrite:
        report(folder, {name: file.read_bytes() for name, file in there.items()}, order, standin)
        print(
            f"{folder}: {', '.join(there)} are there already and are used as they are; "
            "--overwrite writes them anew"
        )
        return 0
    glue = read_glue(args.data_dir)
    rows = split_of(glue, order, args.seed, args.data_dir)
    contents = {SPLIT_FILES[split]: render(glue, chosen) for split, chosen in rows.items()}
    for name, file in there.items():
        if file.read_bytes() != contents[name] and not args.overwrite:
            raise UserError(f"{file}: is there already and is of another split; --overwrite writes all three")
    report(folder, contents, order, standin, args.seed)
    write(folder, contents, standin)
    print(f"{folder}: {', '.join(contents)} and {HISTOGRAM} written")
    return 0


def parser() -> cli.Parser:
    """Return the flags of `prepare.py sts-b`."""
    parser = cli.Parser(prog="scripts/prepare.py sts-b", description="Write the split files of STS-B-DIR.")
    folder = cli.ROOT / "data" / "sts-b"
    parser.add_argument("--data_dir", type=Path, default=folder, help="the folder with train.tsv and dev.tsv")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write, not DATA_DIR")
    parser.add_argument("--overwrite", action="store_true", help="write anew what is there already")
    parser.add_argument("--seed", type=flags.number(int, 0), help="draw another split than the published one")
    parser.add_argument("--check", action="store_true", help="check the data folder; write nothing")
    return parser
