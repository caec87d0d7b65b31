"""The rows of the later methods take steps on toy data of the shape that their data set has."""

import math
import shlex

import pytest
import toy
from reproducing.recipes import read_tables
from wired import prepared

pytestmark = pytest.mark.slow

FACES = {"agedb-dir": "vectors", "imdb-wiki-dir": "vectors", "utkface-dir": "vectors"}
SHAPES = {**FACES, "tabular-dir": "vectors", "sts-b-dir": "pairs", "nyud2-dir": "maps"}
TRAINING = {
    "--epoch",
    "--epochs",
    "--lr",
    "--schedule",
    "--max_vals",
}  # of longer or second stages, no use on toys


def flags_of(cell):
    """The flags that the row adds, without training's, and the word for its first stage."""
    kept, of_training = [], False
    for word in shlex.split(cell.flags.removeprefix(read_tables()[cell.table].flags)):
        of_training = word in TRAINING if word.startswith("--") else of_training
        kept += [] if of_training else [word]
    return " ".join(kept)


ROWS = {
    (SHAPES[table.script.split("/")[0]], flags_of(cell)): f"{table.key}: {cell.row}"
    for table in read_tables().values()
    if table.scale == "small" and (table.protocol == "one" or table.key in ("study-abalone", "study-concrete"))
    for cell in table.cells((0,))
}  # fmt: skip


@pytest.fixture(scope="module")
def first_stage(tmp_path_factory):
    """The checkpoint of a run of each shape."""
    return {
        shape: toy.run(tmp_path_factory.mktemp(shape), task=toy.KINDS[shape], max_vals=1)
        / "ckpt.best.pth.tar"
        for shape in set(SHAPES.values())
    }


@pytest.mark.parametrize(("shape", "flags"), ROWS, ids=ROWS.values())
def test_a_row_takes_steps(tmp_path, shape, flags, first_stage):
    flags, named, _ = flags.replace("components 16", "components 4").partition("--pretrained")
    run = prepared(tmp_path, flags + (f"--pretrained {first_stage[shape]}" if named else ""), shape)
    batches = run.batches()
    for step in range(2):
        assert all(math.isfinite(loss) for loss in run.step(next(batches), step).values())
    run.end_epoch(0)
