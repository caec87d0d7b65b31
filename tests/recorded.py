"""A small repository of recorded results: one table, two rows, two seeds, for verify, study and the page."""

import json

import numpy as np
import pandas as pd
from reproducing import recipes, results
from reproducing.predictions import digest_of, parse, write_cells
from reproducing.recipes import read_tables

from common import cli
from common.metrics import METRICS

RECIPES = """
[t]
script = "t-dir/train.py"
seeds = [0, 1]
metrics = { mae = "MAE", gm = "GM" }
rows = "r"
claims = "c"
[t.scales.small]
title = "A <small> table"
flags = "--x 1"
[rows.r]
"Vanilla" = { flags = "" }
"INV" = { flags = "--reweight inverse" }
"INV + LDS" = { flags = "--reweight inverse --lds" }
[[claims.c]]
says = "LDS helps"
source = "A paper, Table 1"
on = ["Elsewhere"]
pairs = [["INV + LDS", "INV"], ["INV", "Vanilla"]]
shots = ["all"]
"""
FAST = """
[t-fast]
protocol = "apart"
like = "t"
about = "what is fast"
seeds = [0, 1]
rows = "s"
[rows.s]
"INV" = { of = "t", flags = "--reweight inverse" }
"INV (fast)" = { base = "INV", flags = "--reweight inverse --fast" }
"""  # of a table apart: a row with a setting, and its base
NAME = "t-small"
NOISE = {"Vanilla": 5, "INV": 5, "INV + LDS": 1}
SHOTS = np.repeat(["many", "medium", "few"], [30, 20, 10])
UNSEEN = np.repeat(["", "interpolation", "extrapolation"], [52, 4, 4])
WITH_UNSEEN = {
    'rows = "r"\n': 'rows = "r"\ngroups = ["all", "zero", "interpolation", "extrapolation"]\n',
    'shots = ["all"]': 'shots = ["all", "interpolation"]',
}


def write_recorded(folder, monkeypatch, more="", *, unseen=None):
    """Results of every cell, and the tables and study that follow; returns the table.

    With `unseen` there are zero-shot labels, and the table tells their kinds apart.
    """
    for module in (cli, recipes, results):
        monkeypatch.setattr(module, "ROOT", folder)
    (folder / "data").mkdir()
    text = RECIPES + more
    for old, new in WITH_UNSEEN.items() if unseen is not None else ():
        text = text.replace(old, new)
    (folder / "data" / "recipes.toml").write_text(text)
    monkeypatch.setattr(read_tables, "__defaults__", (folder / "data" / "recipes.toml",))
    (folder / "README.md").write_text("# Nothing marked\n")
    table = read_tables()[NAME]
    rng = np.random.default_rng(0)
    labels = drawn_labels(rng)
    for cell in table.cells():
        record(cell, labels, np.float32(labels + NOISE[cell.row] * rng.normal(size=len(labels))), unseen)
    return table


def drawn_labels(rng=None):
    """The labels of the test set; without a generator those that are recorded."""
    return (rng or np.random.default_rng(0)).integers(20, 60, len(SHOTS)).astype(np.float32)


def record(cell, labels, preds, unseen=None, **more):
    """What a sweep keeps of a cell."""
    frame = pd.DataFrame({"label": labels, "prediction": preds, "shot": SHOTS})
    if unseen is not None:
        frame["unseen"] = unseen
    columns = parse(frame.to_csv(index=False))
    exact = {"label": labels.astype(float), "prediction": preds.astype(float)}
    masks = {"all": SHOTS != ""} | {shot: shot == SHOTS for shot in ("many", "medium", "few")}
    if unseen is not None:
        masks |= {"zero": unseen != ""} | {kind: unseen == kind for kind in unseen if kind}
    shots = {
        shot: {"n": int(mask.sum())}
        | {
            m: METRICS[m].compute({name: values[mask] for name, values in exact.items()})
            for m in ("mae", "gm")
        }
        for shot, mask in masks.items()
    }
    told = {"command": cell.identity, "dataset": "t", "checkpoint": "x", "shots": shots, "minutes": 1.5}
    cell.result.parent.mkdir(parents=True, exist_ok=True)
    cell.result.write_text(json.dumps(told | {"predictions": digest_of(columns)} | more))
    write_cells(cell.predictions, {cell.result.stem: columns})


def change(cell, column, row, text):
    """Change one stored text."""
    from reproducing.predictions import read_cell

    columns = read_cell(cell.predictions, cell.result.stem)
    columns[column] = [text if i == row else old for i, old in enumerate(columns[column])]
    write_cells(cell.predictions, {cell.result.stem: columns})
