"""Recompute every number, verdict and plotted value of results/ from stored predictions, without torch.

python scripts/verify.py      exits with 1 and names table, row, seed and number wherever one differs
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # prefer the `common` beside this file
import common.environment  # noqa: F401 - ends in one line under a wrong interpreter

# isort: split
import numpy as np
from reproducing.predictions import OF_TEXT, digest_of, of_shot, parse_file
from reproducing.recipes import Cell, Table, read_tables
from reproducing.results import prediction_texts, read_predictions, read_result, recorded_cells

from common import cli
from common.bins import Bins
from common.errors import RunFailed, UserError
from common.metrics import METRICS
from common.relevance import Relevance

if TYPE_CHECKING:
    import pandas as pd

TOLERANCE = 1e-6  # relative: earlier results were summed in float32


def recorded() -> list[tuple[Table, Cell]]:
    """Return every cell that has a result, with its table."""
    tables = [table for table in read_tables().values() if table.folder == "results"]
    return [(table, cell) for table in tables for cell in recorded_cells(table)]


def problems(cells: Iterable[tuple[Table, Cell]]) -> Iterator[str]:
    """Yield what differs, and which result has no predictions to recompute it from."""
    for table, cell in cells:
        yield from _cell(table, cell)
    for file in sorted((cli.ROOT / "results").glob("*/predictions.csv.gz")):
        yield from _left_over(file)
    yield from _files()


def _cell(table: Table, cell: Cell) -> Iterator[str]:
    """Yield what is wrong with one result and its predictions."""
    name = f"{table.name}, {cell.name}"
    try:
        result, texts, frame = read_result(cell) or {}, prediction_texts(cell), read_predictions(cell)
    except UserError as error:
        yield f"{name}: {error}"
        return
    if not result["shots"]:
        return  # a stage that trains no head
    if texts is None or frame is None:
        yield f"{name}: has no predictions; run it again or remove it"
        return
    if result.get("predictions") != digest_of(texts):
        yield f"{name}: its predictions are not those of the run (digest {digest_of(texts)}); restore them"
    yield from (f"{name}: {text}" for text in differences(result, frame))


def differences(result: Mapping[str, Any], frame: pd.DataFrame) -> Iterator[str]:
    """Yield the metrics of a result that its predictions, a row per sample or depth bin, do not give."""
    try:
        columns = of_training(result, frame)
    except (TypeError, ValueError) as error:
        yield f"its bins or relevance are broken ({error}); restore them"
        return
    yield from _numbers(result["shots"], frame.assign(**columns))


def of_training(result: Mapping[str, Any], frame: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return the bin and relevance of each label, as far as the result says how they follow from it.

    Raises TypeError or ValueError where what it says is none.
    """
    columns: dict[str, np.ndarray] = {}
    if "bins" in result:
        columns["bin"] = Bins(**result["bins"]).index(frame["label"].to_numpy(np.float32))
    if "relevance" in result:
        columns["relevance"] = Relevance(**result["relevance"])(frame["label"].to_numpy(np.float32))
    return columns


def _numbers(shots: Mapping[str, Mapping[str, Any]], frame: pd.DataFrame) -> Iterator[str]:
    """Yield the metrics of a result that its predictions do not give."""
    lacking: dict[str, None] = {}
    for shot, group in shots.items():
        chosen = of_shot(frame, shot)
        if chosen is None:
            continue
        n = int(chosen["n"].sum()) if "n" in chosen else len(chosen)
        if n != group["n"]:
            yield f"n, {shot}: {group['n']} is recorded, predictions have {n}"
        for metric, value in group.items():
            if metric == "n" or value is None:
                continue
            if {"bin", "relevance"} & set(METRICS[metric].needs) - set(chosen):
                lacking[metric] = None
                continue
            found = _recomputed(metric, chosen)
            if not any(abs(x - value) <= TOLERANCE * max(abs(value), 1e-6) for x in found):
                yield f"{metric}, {shot}: {value} is recorded, predictions give {', '.join(map(str, found))}"
    if lacking:
        yield f"{', '.join(lacking)}: the result does not say which bins or relevance; run it again"


def _recomputed(metric: str, frame: pd.DataFrame) -> list[float]:
    """Return the metric of these samples or bins; GM both ways that exact hits may be taken."""
    if "n" in frame:
        kept = frame[frame["n"] > 0]
        mean = float(np.average(kept["mse" if metric == "rmse" else metric], weights=kept["n"]))
        return [mean**0.5 if metric == "rmse" else mean]
    numbers = {str(name): frame[name].to_numpy(float) for name in frame if name not in OF_TEXT}
    for name in ("label", "prediction"):  # texts are the shortest that give the same float32
        numbers[name] = numbers[name].astype(np.float32).astype(float)
    names = ("gm", "gm_nonzero") if metric == "gm" else (metric,)
    found = [compute(numbers) for name in names if (compute := METRICS[name].compute)]
    return [value for value in found if value is not None]


def _left_over(file: Path) -> Iterator[str]:
    """Yield the cells of a file of predictions that have no result."""
    try:
        names = {name.partition("/")[0] for name in parse_file(file) if "/" in name}
    except UserError as error:
        yield str(error)
        return
    for name in sorted(names):
        if not (file.parent / f"{name}.json").exists():
            yield f"{file.parent.name}, {name}: has predictions and no result; restore its JSON"


def _files() -> Iterator[str]:
    """Yield the files of tables and study that the results do not give, with the first line that differs."""
    from reproducing import study_text
    from tables import contents

    try:
        for command, files in (("tables", dict(contents())), ("study", study_text.contents())):
            for path, text in files.items():
                recorded = path.read_text(encoding="utf-8") if path.exists() else ""
                if recorded != text:
                    line = _first_difference(recorded, text)
                    yield f"{path.relative_to(cli.ROOT)}: {line}; python scripts/{command}.py writes it anew"
    except UserError as error:
        yield str(error)


def _first_difference(recorded: str, computed: str) -> str:
    """Return the first line that differs, as it is recorded and as it is recomputed."""
    lines = difflib.unified_diff(recorded.splitlines(), computed.splitlines(), n=0, lineterm="")
    changed = [line for line in list(lines)[2:] if not line.startswith("@@")]
    there = next((line[1:] for line in changed if line[0] == "-"), "nothing")
    here = next((line[1:] for line in changed if line[0] == "+"), "nothing")
    return f"{there!r} is recorded, {here!r} recomputed" if changed else "another end of line"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    cli.Parser(prog="scripts/verify.py", description=__doc__.splitlines()[0]).parse_args(argv)
    cells = recorded()
    print(f"{len(cells)} results are recorded")
    found = list(problems(cells))
    for line in found:
        print(line)
    if found:
        raise RunFailed(f"{len(found)} differences between results and predictions")
    print("every table, verdict and plotted value follows from the predictions")
    return 0


if __name__ == "__main__":
    sys.exit(cli.run_command("scripts/verify.py", main))
