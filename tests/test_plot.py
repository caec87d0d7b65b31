"""scripts/plot.py: the error by age of each row, labelled, from made-up predictions."""

import json

import numpy as np
import pandas as pd
import plot
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from common import cli, recipes
from common.errors import UserError
from common.recipes import Table

PROG = "scripts/plot.py"
ROWS = ["Vanilla", "SQINV", "SQINV + LDS", "SQINV + FDS", "SQINV + LDS + FDS"]
TABLE = Table(
    name="t", title="Drawn faces, not the real data", script="agedb-dir/train.py", seeds=(0, 1),
    flags="--data_dir data/standin/x --epoch 2", metrics={"mae": "MAE"},
    rows={row: {"flags": ""} for row in ROWS},
)  # fmt: skip
TRAINING = {20: 12, 21: 3, 33: 4, 47: 1}  # faces of each age


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A repository with data and no run yet."""
    monkeypatch.setattr(cli, "ROOT", tmp_path)
    monkeypatch.setattr(recipes, "ROOT", tmp_path)
    folder = tmp_path / "data" / "standin" / "x"
    folder.mkdir(parents=True)
    ages = np.repeat(list(TRAINING), list(TRAINING.values()))
    frame = pd.DataFrame(
        {"age": [*ages, 20, 60], "path": "p", "split": ["train"] * len(ages) + ["val", "test"]}
    )
    frame.to_csv(folder / "agedb.csv", index=False)
    told = {"dataset": "agedb", "scale": 0.1, "seed": 0, "many_above": 10, "few_below": 2, "note": "made up"}
    (folder / "standin.json").write_text(json.dumps(told))
    return tmp_path


def write_run(row, seed, labels, predictions):
    """`predictions.csv` of a run, and its result, which names the checkpoint beside it."""
    cell = next(cell for cell in TABLE.cells((seed,)) if cell.row == row)
    run = cli.ROOT / cell.store_root / f"run_seed_{seed}"
    run.mkdir(parents=True)
    pd.DataFrame({"label": labels, "prediction": predictions, "shot": "many"}).to_csv(
        run / "predictions.csv", index=False
    )
    cell.result.parent.mkdir(parents=True, exist_ok=True)
    cell.result.write_text(json.dumps({"checkpoint": str(run.relative_to(cli.ROOT) / "ckpt.best.pth.tar")}))
    return run


def write_all_runs():
    for number, row in enumerate(ROWS):
        for seed in (0, 1):
            labels = np.array([20.0, 21.0, 33.0, 47.0])
            write_run(row, seed, labels, labels + (number + 1) * np.array([1, -3, 1, 1]) * (1 + 2 * seed))


@pytest.fixture
def figures(monkeypatch):
    """Every figure that is made."""
    made = []

    def figure(**how):
        made.append(Figure(**how))
        return made[-1]

    monkeypatch.setattr(plot, "Figure", figure)
    return made


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_the_picture_is_labelled_and_has_every_row(root, figures):
    write_all_runs()
    plot.error_by_label(TABLE, root / "error.png")
    with Image.open(root / "error.png") as image:
        assert (image.format, image.size) == ("PNG", (1080, 840))
    (figure,) = figures
    above, below = figure.axes
    assert figure.get_suptitle() == TABLE.title
    assert legend(below) == ROWS
    assert [line.get_label() for line in below.lines] == ROWS
    assert below.get_xlabel() == "age in years"
    assert "MAE in years" in below.get_ylabel()
    assert above.get_ylabel() == "training samples"
    assert above.get_shared_x_axes().joined(above, below)


def test_lines_are_the_mean_errors_of_all_seeds(root, figures):
    write_all_runs()
    plot.error_by_label(TABLE, root / "error.png")
    for number, line in enumerate(figures[0].axes[1].lines, start=1):
        x, y = line.get_data()
        assert list(x) == [22.5, 32.5, 47.5]  # the middles of five years each
        assert list(y) == pytest.approx([4 * number, 2 * number, 2 * number])


def test_lines_differ_in_colour_and_in_style_or_marker(root, figures):
    write_all_runs()
    plot.error_by_label(TABLE, root / "error.png")
    lines = figures[0].axes[1].lines
    assert len({to_hex(line.get_color()) for line in lines}) == len(ROWS)
    assert len({line.get_linestyle() for line in lines}) >= 4


def test_bars_are_training_counts_in_the_colour_of_their_shot(root, figures):
    write_all_runs()
    plot.error_by_label(TABLE, root / "error.png")
    above = figures[0].axes[0]
    bars = {round(bar.get_x() + bar.get_width() / 2): bar for bar in above.patches}
    assert {age: bar.get_height() for age, bar in bars.items()} == TRAINING
    shots = {age: to_hex(bar.get_facecolor()).upper() for age, bar in bars.items()}
    names = {20: "many", 21: "medium", 33: "medium", 47: "few"}
    assert shots == {age: plot.COLOURS[shot] for age, shot in names.items()}
    assert legend(above) == ["many (> 10)", "medium", "few (< 2)"]


def test_on_the_real_data_the_thresholds_are_the_papers(root, figures):
    write_all_runs()
    (root / "data/standin/x/standin.json").unlink()
    plot.error_by_label(TABLE, root / "error.png")
    assert legend(figures[0].axes[0]) == ["many (> 100)", "medium", "few (< 20)"]


def test_a_row_that_has_not_been_run_is_left_out_and_the_others_keep_their_colours(root, figures):
    write_run("SQINV", 1, [30.0], [31.0])
    (write_run("Vanilla", 0, [30.0], [31.0]) / "predictions.csv").unlink()
    plot.error_by_label(TABLE, root / "error.png")
    below = figures[0].axes[1]
    assert legend(below) == ["SQINV"]
    assert to_hex(below.lines[0].get_color()).upper() == plot.LINES[1][0]


# What the user types


def call(*argv):
    """The exit code of `plot.py argv`, run in this process."""
    try:
        return cli.run_command(PROG, lambda: plot.main([str(word) for word in argv]))
    except SystemExit as end:
        return end.code


@pytest.mark.filterwarnings("error")
def test_nothing_has_been_run(root):
    with pytest.raises(
        UserError, match=r"--table t: has no run here; python scripts/reproduce\.py --table t"
    ):
        plot.error_by_label(TABLE, root / "error.png")
    assert not (root / "error.png").exists()


def test_no_data(root):
    for file in (root / "data/standin/x").iterdir():
        file.unlink()
    with pytest.raises(UserError, match="data/standin/x: has no data"):
        plot.error_by_label(TABLE, root / "error.png")


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["--table", "nosuch", "--out", "x.png"], ["--table nosuch", "agedb-standin"]),
        (["--table", "sts-b-small", "--out", "x.png"], ["--table sts-b-small", "no table of faces"]),
        (["--table", "agedb-standin"], ["--out"]),
        (["--out", "x.png"], ["--table"]),
    ],
)
def test_mistakes_are_named(argv, told, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call(*argv) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert all(part in error for part in told)
    assert list(tmp_path.iterdir()) == []


def test_as_a_command(root, monkeypatch, capsys):
    write_all_runs()
    monkeypatch.setattr(plot, "find_table", {"t": TABLE}.get)
    assert call("--table", "t", "--out", root / "error.svg") == 0
    assert (root / "error.svg").read_text().startswith("<?xml")
    for out in (root / "error.docx", root / "nowhere" / "error.png"):
        assert call("--table", "t", "--out", out) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert f"--out {out}: cannot be written" in error
