"""What the tests of pictures share: made-up runs, and a look at the figure that a command drew."""

import json

import numpy as np
import pandas as pd
import plot
from matplotlib.figure import Figure

from common import cli

ARGS = {
    "retrain_fc": False, "reweight": "none", "loss": "l1", "lds": False, "fds": False, "fds_variant": "paper",
    "seed": 0, "lr": 0.001,
}  # fmt: skip
OF_IMAGES = {"dataset": "agedb", "target": "age", "bucket_start": 0, "bucket_num": 100}
TRAINING = {20: 12, 21: 3, 33: 4, 47: 1}  # faces of each age
STANDIN = {"dataset": "agedb", "scale": 0.1, "seed": 0, "many_above": 10, "few_below": 2, "note": "made up"}


def write_data(folder, *, standin=True):
    """A CSV of faces without an image: pictures need none."""
    folder.mkdir(parents=True, exist_ok=True)
    ages = np.repeat(list(TRAINING), list(TRAINING.values()))
    splits = ["train"] * len(ages) + ["val", "test"]
    rows = {"age": [*ages, 20, 60], "path": [f"{i}.png" for i in range(len(splits))], "split": splits}
    pd.DataFrame(rows).to_csv(folder / "agedb.csv", index=False)
    if standin:
        (folder / "standin.json").write_text(json.dumps(STANDIN))
    return folder


def write_run(folder, data, rows, *, dataset="agedb", standin="made up", shots=None, **flags):
    """A finished run without a checkpoint; `rows` are the columns of `predictions.csv`."""
    folder.mkdir(parents=True)
    args = ARGS | {"data_dir": str(data)} | flags
    if dataset in ("agedb", "imdb-wiki"):
        args = OF_IMAGES | args
    (folder / "args.json").write_text(json.dumps(args))
    result = {"dataset": dataset, "checkpoint": str(folder / "ckpt.best.pth.tar"), "shots": shots or {}}
    result |= {"standin": standin} if standin else {}
    (folder / "metrics.json").write_text(json.dumps(result))
    pd.DataFrame(rows).to_csv(folder / "predictions.csv", index=False)
    return folder


def call(*argv):
    """The exit code of `plot.py argv`, run in this process."""
    try:
        return cli.run_command("scripts/plot.py", lambda: plot.main([str(word) for word in argv]))
    except SystemExit as end:
        return end.code


def drawn(monkeypatch):
    """A list that every figure that is written is put into."""
    figures, save = [], Figure.savefig

    def note(figure, *args, **how):
        figures.append(figure)
        save(figure, *args, **how)

    monkeypatch.setattr(Figure, "savefig", note)
    return figures


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]
