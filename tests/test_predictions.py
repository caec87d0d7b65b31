"""Predictions of a table's cells in one file: what is written is read, whatever writes beside it."""

import gzip
import json
import multiprocessing

import numpy as np
import pytest
from reproducing import recipes, results
from reproducing.predictions import digest_of, parse, read_cell, write_cells
from reproducing.recipes import Table
from reproducing.results import fold, read_predictions, state

from common.errors import UserError

TABLE = Table(
    name="t", title="T", script="x", flags="", seeds=(0, 1), metrics={"mae": "MAE"},
    rows={"A": {"flags": "--a"}, "B": {"flags": ""}},
)  # fmt: skip
CSV = 'label,prediction,shot,path,std\n1,1.5,many,"a, b.jpg",\n2.50,1e-7,few,c.jpg,0.1\n'
COLUMNS = parse(CSV)


@pytest.fixture
def root(tmp_path, monkeypatch):
    for module in (recipes, results):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    for cell in TABLE.cells():
        cell.result.parent.mkdir(parents=True, exist_ok=True)
        told = {"command": cell.identity, "checkpoint": "x", "shots": {"all": {"n": 2, "mae": 1.0}}}
        cell.result.write_text(json.dumps(told))
    return tmp_path


def other(**columns):
    return COLUMNS | columns


def test_texts_come_back_as_they_were_and_the_same_cells_give_the_same_bytes(root):
    a, b, *_ = TABLE.cells()
    write_cells(a.predictions, {"a.seed0": COLUMNS})
    write_cells(a.predictions, {"b.seed0": other(prediction=["0", "-0.0"])})
    first = a.predictions.read_bytes()
    assert read_cell(a.predictions, "a.seed0") == COLUMNS
    assert read_cell(b.predictions, "b.seed0")["prediction"] == ["0", "-0.0"]
    assert read_cell(a.predictions, "a.seed") is None
    assert gzip.decompress(first).decode().splitlines()[0] == (
        "path,label,shot,a.seed0/prediction,a.seed0/std,b.seed0/prediction,b.seed0/std"
    )
    a.predictions.unlink()
    write_cells(a.predictions, {"a.seed0": COLUMNS, "b.seed0": other(prediction=["0", "-0.0"])})
    assert a.predictions.read_bytes() == first


def test_numbers_are_numbers_and_an_empty_text_is_nan(root):
    a, *_ = TABLE.cells()
    write_cells(a.predictions, {"a.seed0": COLUMNS})
    frame = read_predictions(a)
    assert frame["prediction"].tolist() == [1.5, 1e-7]
    assert np.isnan(frame["std"][0]) and frame["path"][0] == "a, b.jpg"
    write_cells(a.predictions, {"a.seed0": other(prediction=["1", "x"])})
    with pytest.raises(UserError, match=r"predictions\.csv\.gz: is broken in a\.seed0 .*'x'"):
        read_predictions(a)


def test_a_cell_has_its_newest_columns_and_one_without_result_is_dropped(root):
    a, b, *_ = TABLE.cells()
    write_cells(a.predictions, {"a.seed0": COLUMNS, "b.seed0": COLUMNS})
    without_std = {name: values for name, values in COLUMNS.items() if name != "std"}
    b.result.unlink()
    write_cells(a.predictions, {"a.seed0": without_std})
    assert read_cell(a.predictions, "a.seed0") == without_std
    assert read_cell(a.predictions, "b.seed0") is None


@pytest.mark.parametrize(
    ("name", "values"), [("label", ["1", "2.51"]), ("shot", ["few", "few"]), ("path", ["x", "c.jpg"])]
)
def test_cells_of_other_test_samples_are_refused(root, name, values):
    a, *_ = TABLE.cells()
    write_cells(a.predictions, {"a.seed0": COLUMNS})
    before = a.predictions.read_bytes()
    with pytest.raises(
        UserError, match=f"has another {name} of the test samples than b.seed0; run every row"
    ):
        write_cells(a.predictions, {"b.seed0": other(**{name: values})})
    assert a.predictions.read_bytes() == before
    write_cells(a.predictions, {"a.seed0": other(**{name: values})})  # nothing else is left of the old data


def test_the_digest_counts_what_is_predicted_and_of_which_label():
    assert digest_of(COLUMNS) == digest_of(other(path=["x", "y"]))
    for changed in (
        other(prediction=["1.5", "1.0e-7"]),
        other(label=["1.0", "2.50"]),
        other(more=["1", "2"]),
    ):
        assert digest_of(changed) != digest_of(COLUMNS)


def test_files_of_an_earlier_version_are_read_and_folded_in(root):
    cells = list(TABLE.cells())
    write_cells(cells[0].predictions, {"a.seed0": COLUMNS})
    for cell in cells[:3]:
        cell.result.with_suffix(".csv.gz").write_bytes(gzip.compress(CSV.replace("1.5", "7").encode()))
    assert read_predictions(cells[0])["prediction"][0] == 7  # it is the newer one
    assert [state(cell) for cell in cells] == [*["recorded"] * 3, "without predictions"]
    fold(cells)
    assert not list(root.glob("results/t/*.seed*.csv.gz"))
    assert [state(cell) for cell in cells] == [*["recorded"] * 3, "without predictions"]
    for cell in cells[:3]:
        assert read_predictions(cell)["prediction"][0] == 7
        assert json.loads(cell.result.read_text())["predictions"] == digest_of(
            read_cell(cell.predictions, cell.result.stem)
        )
    fold(cells)  # nothing is left to do


@pytest.mark.parametrize("text", ["", "label,prediction\n1\n"])
def test_a_csv_that_is_cut_short_is_refused(text):
    with pytest.raises(ValueError, match="empty|differ in length"):
        parse(text)


def write(file, cell):
    write_cells(file, {cell: other(prediction=[cell, "0"])})


def test_processes_that_record_into_one_table_lose_nothing(root):
    file = next(TABLE.cells()).predictions
    names = [f"r.seed{i}" for i in range(8)]
    for name in names:
        (file.parent / f"{name}.json").touch()
    with multiprocessing.get_context("fork").Pool(4) as pool:
        pool.starmap(write, [(file, name) for name in names])
    assert [read_cell(file, name)["prediction"][0] for name in names] == names
