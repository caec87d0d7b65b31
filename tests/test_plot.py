"""scripts/plot.py: what a user types, what is drawn from made-up runs, and every mistake."""

import json
import shutil
import xml.etree.ElementTree as ElementTree

import numpy as np
import pandas as pd
import pytest
from drawn import TRAINING, call, drawn, legend, write_data, write_run
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image
from plotting import finished_runs, pictures
from plotting.figures import LINES
from plotting.figures_of_tables import BEST, WORST
from preparing.splits import COLOURS
from reproducing import predictions, recipes, results
from reproducing.recipes import Table
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_tabular import run as run_on_table
from test_tabular import written

from common import cli
from common.lds import get_lds_kernel_window

pytestmark = pytest.mark.slow

METHODS = {
    "Vanilla": {},
    "SQINV": {"reweight": "sqrt_inv"},
    "SQINV + LDS": {"reweight": "sqrt_inv", "lds": True},
    "SQINV + FDS": {"reweight": "sqrt_inv", "fds": True},
    "SQINV + LDS + FDS (released)": {
        "reweight": "sqrt_inv", "lds": True, "fds": True, "fds_variant": "released",
    },
    "RRT": {"retrain_fc": True, "reweight": "inverse", "pretrained": "a.pth"},
    "Focal-R": {"loss": "focal_l1"},
    "INV": {"reweight": "inverse"},
}  # fmt: skip
AGES = np.array([20.0, 21.0, 33.0, 47.0])
GROUPS = ("all", "many", "medium", "few")


def rows_with(errors):
    """A test sample of each age, predicted with these errors."""
    return {"label": AGES, "prediction": AGES + errors, "shot": "many"}


def shots(mae, gm=1.0, n=4):
    return {g: {"n": n, "mae": value, "gm": gm} for g, value in zip(GROUPS, mae, strict=True)}


@pytest.fixture
def data(tmp_path):
    return write_data(tmp_path / "data")


@pytest.fixture
def runs(tmp_path, data):
    """A run of each method under two seeds, the worse the later, and the second seed three times worse."""
    return [
        write_run(
            tmp_path / f"run{number}.{seed}", data,
            rows_with((number + 1) * np.array([1, -3, 1, 1]) * (1 + 2 * seed)),
            **flags, seed=seed, shots=shots([number + 1.0, 2.0, 1.0 / (number + 1), 5.0]),
        )
        for number, flags in enumerate(METHODS.values()) for seed in (0, 1)
    ]  # fmt: skip


@pytest.fixture
def figures(monkeypatch):
    return drawn(monkeypatch)


# --- error


def test_error_is_labelled_and_has_every_method_once(tmp_path, runs, figures):
    assert call("error", *runs[::-1], "--out", tmp_path / "error.png") == 0
    with Image.open(tmp_path / "error.png") as image:
        assert (image.format, image.size) == ("PNG", (1080, 900))
    above, below = figures[0].axes
    names = [text.split(":")[0] for text in legend(below)]
    assert names[0] == "Vanilla, 2 runs"
    assert set(names) == {f"{name}, 2 runs" for name in METHODS}
    assert figures[0].get_suptitle() == "AgeDB-DIR: error by label (STAND-IN, not the real data)"
    assert figures[0].get_supxlabel() == "Stand-in: agedb at scale 0.1, seed 0: made up"
    assert (below.get_xlabel(), above.get_ylabel()) == ("age (years)", "training images")
    assert below.get_ylabel() == "test MAE (years)\nover stretches of 5 years"
    assert above.get_shared_x_axes().joined(above, below)


def test_lines_are_the_mean_errors_of_all_seeds(tmp_path, runs, figures):
    call("error", *runs, "--out", tmp_path / "error.png")
    for number, line in enumerate(figures[0].axes[1].lines, start=1):
        x, y = line.get_data()
        assert list(x) == [22, 32, 47]  # the middles of the ages 20 to 24, 30 to 34, 45 to 49
        assert list(y) == pytest.approx([4 * number, 2 * number, 2 * number])


def test_no_two_lines_look_alike(tmp_path, runs, figures):
    call("error", *runs, "--out", tmp_path / "error.png")
    lines = figures[0].axes[1].lines
    looks = {(line.get_color(), line.get_linestyle(), line.get_marker()) for line in lines}
    assert len(looks) == len(METHODS) > len(LINES)
    assert len({line.get_linestyle() for line in lines}) >= 4


def test_correlations_are_numpys(tmp_path, data, figures):
    errors = np.array([1.0, 4.0, 3.0, 9.0])
    run = write_run(tmp_path / "run", data, rows_with(errors))
    call("error", run, "--lds_ks", 3, "--lds_kernel", "triang", "--out", tmp_path / "error.png")
    counts = np.zeros(201)
    counts[list(TRAINING)] = list(TRAINING.values())
    smoothed = np.convolve(counts, [0.25, 0.5, 0.25], "same")
    expected = [np.corrcoef(errors, density[AGES.astype(int)])[0, 1] for density in (counts, smoothed)]
    told = " / ".join(f"{r:+.2f}".replace("-", "−") for r in expected)
    assert legend(figures[0].axes[1]) == [f"Vanilla: {told}"]
    line = figures[0].axes[0].lines[0]
    assert line.get_label() == "LDS-smoothed (triang 3)"
    assert line.get_ydata() == pytest.approx(smoothed)


def test_an_error_of_two_bins_has_no_correlation(tmp_path, data, figures):
    run = write_run(tmp_path / "run", data, {"label": [20, 33], "prediction": [21, 35], "shot": "many"})
    assert call("error", run, "--out", tmp_path / "error.png") == 0
    assert legend(figures[0].axes[1]) == ["Vanilla: – / –"]


def test_bars_are_training_counts_in_the_colour_of_their_shot(tmp_path, runs, figures):
    call("error", runs[0], "--out", tmp_path / "error.png")
    above = figures[0].axes[0]
    bars = {round(bar.get_x() + bar.get_width() / 2): bar for bar in above.patches}
    assert {age: bar.get_height() for age, bar in bars.items()} == TRAINING
    names = {20: "many", 21: "medium", 33: "medium", 47: "few"}
    assert {age: to_hex(bar.get_facecolor()).upper() for age, bar in bars.items()} == {
        age: COLOURS[shot] for age, shot in names.items()
    }
    told = ["many-shot (> 10): 1 bin", "medium-shot: 2 bins", "few-shot (< 2): 1 bin"]
    assert sorted(legend(above)) == sorted(["LDS-smoothed (gaussian 5/2)", *told])


def test_the_real_data_have_the_papers_thresholds_and_no_note(tmp_path, figures):
    data = write_data(tmp_path / "real", standin=False)
    run = write_run(tmp_path / "run", data, rows_with(1), standin=None)
    call("error", run, "--out", tmp_path / "error.png")
    assert {"many-shot (> 100): 0 bins", "few-shot (< 20): 4 bins"} <= set(legend(figures[0].axes[0]))
    assert figures[0].get_suptitle() == "AgeDB-DIR: error by label"
    assert figures[0].get_supxlabel() == ""


def test_runs_of_one_method_are_told_apart_by_their_flags(tmp_path, data, figures):
    runs = [
        write_run(tmp_path / f"{lr}.{seed}", data, rows_with(lr), lr=lr, seed=seed)
        for lr in (0.1, 0.2) for seed in (0, 1)
    ]  # fmt: skip
    call("error", *runs, "--out", tmp_path / "error.png")
    names = [line.get_label().split(":")[0] for line in figures[0].axes[1].lines]
    assert names == ["Vanilla, lr 0.1, 2 runs", "Vanilla, lr 0.2, 2 runs"]


def test_labels_beyond_those_of_training_are_in_the_picture(tmp_path, data, figures):
    run = write_run(tmp_path / "run", data, {"label": [33, 80], "prediction": [34, 90], "shot": "few"})
    call("error", run, "--out", tmp_path / "error.png")
    low, high = figures[0].axes[1].get_xlim()
    assert low <= 20
    assert high >= 82  # the middle of 80 to 84


def test_depth_is_drawn_from_its_bins(tmp_path, figures):
    """A row per bin, the mean weighted by pixels; a bin without pixels has no error."""
    counts = np.zeros(100, int)
    counts[7:] = np.arange(93, 0, -1) * 100
    data = tmp_path / "nyud2"
    data.mkdir()
    (data / "depth_counts.json").write_text(json.dumps({"counts": counts.tolist(), "images": 5}))
    bins = np.arange(100)
    rows = {"bin": bins, "label": (bins + 0.5) / 10, "shot": "many", "n": np.where(bins < 7, 0, bins % 2 + 1)}
    rows["mae"] = np.where(bins < 7, np.nan, bins / 100)
    run = write_run(tmp_path / "run", data, rows, dataset="nyud2", standin=None)
    assert call("error", run, "--out", tmp_path / "error.png") == 0
    above, below = figures[0].axes
    x, y = below.lines[0].get_data()
    assert x[:2] == pytest.approx([0.75, 1.25])
    inside = np.arange(10, 15)
    assert y[1] == pytest.approx(np.average(inside / 100, weights=inside % 2 + 1))
    assert (below.get_xlabel(), above.get_ylabel()) == ("depth (m)", "training pixels")
    assert below.get_ylabel() == "test MAE (m)\nover stretches of 0.5 m"
    x = above.lines[0].get_xdata()
    assert x[0] == pytest.approx(0.75)  # LDS begins with bin 7
    assert call("histogram", data, "--out", tmp_path / "histogram.svg") == 0
    assert figures[1].get_suptitle() == f"NYUD2-DIR: label histogram of {counts.sum():,} training pixels"


# --- histogram


def test_histogram_of_a_folder_a_csv_and_a_run_is_the_same(tmp_path, data, runs, figures):
    for where in (data, data / "agedb.csv", runs[0]):
        assert call("histogram", where, "--out", tmp_path / "h.svg") == 0
    written = [[bar.get_height() for bar in figure.axes[0].patches] for figure in figures]
    assert written[0] == written[1] == written[2] == list(TRAINING.values())
    assert figures[0].axes[0].get_xlabel() == "age (years)"
    assert "label histogram of 20 training images" in figures[0].get_suptitle()


def test_the_smoothed_density_holds_as_many_samples(tmp_path, data, figures):
    call("histogram", data, "--lds_kernel", "laplace", "--out", tmp_path / "h.png")
    assert sum(figures[0].axes[0].lines[0].get_ydata()) == pytest.approx(20)


# --- kernels


def test_kernels_are_the_windows_of_lds_and_fds(tmp_path, figures):
    names = ["gaussian", "triang", "laplace", "hann"]
    assert call("kernels", "--kernels", *names, "--ks", 5, 9, "--sigma", 1, "--out", tmp_path / "k.png") == 0
    panels = np.reshape(figures[0].axes, (2, 2))
    for column, ks in enumerate((5, 9)):
        for number, name in enumerate(names):
            window = get_lds_kernel_window(name, ks, 1)
            lds, fds = (axes.lines[number] for axes in panels[:, column])
            assert lds.get_label() == name
            assert lds.get_ydata() == pytest.approx(window)
            assert fds.get_ydata() == pytest.approx(window / window.sum())
    assert [text.get_text() for text in figures[0].legends[0].get_texts()] == names


# --- heat map


def cells_of(axes):
    """The text and the colour of each cell, row by row."""
    image = axes.images[0]
    colours = image.cmap(image.norm(image.get_array()))
    texts = {(round(t.get_position()[1]), round(t.get_position()[0])): t.get_text() for t in axes.texts}
    return {where: (text.split("\n"), colours[where]) for where, text in texts.items()}


def test_heatmap_says_and_colours_how_much_better_than_vanilla(tmp_path, data, figures):
    values = {"SQINV": [3.0, 2.0, None, 5.0], "Vanilla": [4.0, 1.0, None, 5.0], "INV": [4.4, 1.0, None, 0.0]}
    runs = [
        write_run(tmp_path / name, data, rows_with(1), **METHODS[name], shots=shots(mae))
        for name, mae in values.items()
    ]
    assert call("heatmap", *runs, "--out", tmp_path / "heat.png") == 0
    axes, gm = figures[0].axes[:2]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["Vanilla", "SQINV", "INV"]
    assert axes.get_xticklabels()[3].get_text() == "Few\nn = 4"
    assert (axes.get_title(), gm.get_title()) == ("MAE (lower is better)", "GM (lower is better)")
    cells = cells_of(axes)
    assert cells[0, 0][0] == ["4.000"]
    assert cells[1, 0][0] == ["3.000", "+25.0 %"]
    assert cells[1, 1][0] == ["2.000", "−100.0 %"]
    assert cells[2, 0][0] == ["4.400", "−10.0 %"]
    assert cells[1, 2][0] == ["–"]
    worst, best = (np.array(colour) for colour in (cells[1, 1][1], cells[2, 3][1]))
    assert [to_hex(worst).upper(), to_hex(best).upper()] == [WORST, BEST]
    assert cells[1, 0][1][2] > cells[1, 0][1][0]  # better is bluish, worse is reddish
    assert cells[2, 0][1][0] > cells[2, 0][1][2]
    assert figures[0].axes[2].get_ylabel() == "% better (+) or\nworse (−) than Vanilla"


def test_heatmap_takes_higher_correlations_for_better_and_seeds_together(tmp_path, data, figures):
    def run(name, seed, mse, pearson):
        groups = {group: {"n": 9, "mse": mse, "pearson": pearson} for group in GROUPS}
        return write_run(
            tmp_path / f"{name}{seed}", data, rows_with(1), dataset="sts-b", seed=seed, shots=groups,
            **METHODS[name],
        )  # fmt: skip

    runs = [run("INV", 0, 2, 0.4), run("INV", 1, 1, 0.2), run("SQINV", 0, 1, -0.1), run("SQINV", 1, 1, -0.1)]
    assert call("heatmap", *runs, "--out", tmp_path / "heat.svg") == 0
    mse, pearson = (cells_of(axes) for axes in figures[0].axes[:2])
    assert mse[0, 0][0] == ["1.500"]
    assert mse[1, 0][0] == ["1.000", "+33.3 %"]
    assert pearson[1, 0][0] == ["-0.100", "−133.3 %"]
    assert "mean over 2 runs a row" in figures[0].get_suptitle()
    assert figures[0].axes[2].get_ylabel().endswith("than INV")  # no Vanilla: the first row


# --- tables


ROWS = ["Vanilla", "SQINV", "SQINV + LDS"]
TABLE = Table(
    name="t", title="Drawn faces, a stand-in", script="agedb-dir/train.py", seeds=(0, 1),
    flags="--data_dir data/x --epoch 2", metrics={"mae": "MAE"}, rows={row: {"flags": ""} for row in ROWS},
)  # fmt: skip


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A repository with data, recipes of one table, and no run yet."""
    for module in (cli, recipes, results, finished_runs):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(pictures, "find_table", lambda name, scale: {"t": TABLE}[name])
    write_data(tmp_path / "data/x")
    return tmp_path


def keep(root, row, seed, error, *, folder=False):
    """What is kept of a cell that ran, and its folder where it is still there."""
    cell = TABLE.cell(row, seed)
    cell.result.parent.mkdir(parents=True, exist_ok=True)
    path = f"checkpoint/t/{row}/{seed}"
    told = {
        "command": cell.identity,
        "dataset": "agedb",
        "checkpoint": f"{path}/ckpt.best.pth.tar",
        "standin": "made up",
    }
    cell.result.write_text(json.dumps(told | {"shots": shots([error] * 4)}))
    columns = predictions.parse(pd.DataFrame(rows_with(error)).to_csv(index=False))
    predictions.write_cells(cell.predictions, {cell.result.stem: columns})
    if folder:
        write_run(root / path, root / "data/x", rows_with(99), seed=seed)
    return cell


@pytest.mark.parametrize("folder", [False, True])
def test_a_table_is_drawn_from_what_is_kept_of_it(root, figures, folder):
    keep(root, "SQINV", 0, 1.0, folder=folder)
    keep(root, "SQINV", 1, 3.0, folder=folder)
    assert call("error", "--table", "t", "--out", root / "error.png") == 0
    (line,) = figures[0].axes[1].lines
    assert line.get_label().startswith("SQINV, 2 runs:")
    assert list(line.get_ydata()) == [2, 2, 2]
    assert line.get_color() == LINES[1][0]  # a row that has not been run keeps its colour
    assert call("heatmap", "--table", "t", "--rows", "SQ*", "--out", root / "heat.png") == 0
    assert cells_of(figures[1].axes[0])[0, 0][0] == ["2.000"]
    assert figures[1].get_suptitle() == "Drawn faces, a stand-in: mean over 2 runs a row"


def test_a_table_whose_predictions_are_not_kept(root, capsys):
    keep(root, "SQINV", 0, 1.0).predictions.unlink()
    assert call("error", "--table", "t", "--out", root / "error.png") == 2
    assert "--table t: its runs left no predictions here" in one_line(capsys)


def test_a_table_that_has_not_been_run(root, capsys):
    assert call("error", "--table", "t", "--out", root / "error.png") == 2
    assert "--table t: has no run here; python scripts/reproduce.py --table t" in one_line(capsys)


def test_rows_that_a_table_does_not_have(root, capsys):
    assert call("heatmap", "--table", "t", "--rows", "INV*", "--out", root / "heat.png") == 2
    assert "--rows 'INV*': fits no row of t (Vanilla, SQINV, SQINV + LDS)" in one_line(capsys)


# --- files, and TensorBoard


def test_the_same_picture_is_the_same_bytes(tmp_path, runs):
    for ending in ("png", "svg"):
        for name in ("a", "b"):
            assert call("error", *runs[:4], "--out", tmp_path / f"{name}.{ending}") == 0
        assert (tmp_path / f"a.{ending}").read_bytes() == (tmp_path / f"b.{ending}").read_bytes()


def test_an_svg_is_one(tmp_path, runs):
    assert call("error", runs[0], "--out", tmp_path / "new/error.svg") == 0
    assert ElementTree.parse(tmp_path / "new/error.svg").getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_tensorboard_shows_the_picture_in_every_run(tmp_path, runs, capsys):
    assert call("error", *runs[:2], "--tensorboard", "--out", tmp_path / "error.png") == 0
    assert call("heatmap", runs[0], "--tensorboard", "--out", tmp_path / "heat.png") == 0
    for run, tags in ((runs[0], ["pictures/error", "pictures/heatmap"]), (runs[1], ["pictures/error"])):
        events = EventAccumulator(str(run), size_guidance={"images": 0})
        events.Reload()
        assert sorted(events.Tags()["images"]) == tags
    assert (events.Images("pictures/error")[0].width, events.Images("pictures/error")[0].height) == (900, 750)


def test_tensorboard_without_a_run_here(root, capsys):
    keep(root, "SQINV", 0, 1.0)
    assert call("heatmap", "--table", "t", "--tensorboard", "--out", root / "heat.png") == 2
    assert "--tensorboard: these runs have no folder here" in one_line(capsys)


# --- what a user gets wrong


def one_line(capsys):
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["error", "RUN"], "--out"),
        (["error", "RUN", "--out", "x.docx"], "'x.docx' ends in none of .png, .svg, .pdf"),
        (["error", "RUN", "--out", "RUN/args.json/x.png"], "cannot be written"),
        (["error", "--out", "x.png"], "name the runs to draw, or a --table, and not both"),
        (["error", "RUN", "--table", "t", "--out", "x.png"], "and not both"),
        (["error", "nowhere", "--out", "x.png"], "nowhere: there is no such folder"),
        (["error", ".", "--out", "x.png"], ".: is no run (no args.json)"),
        (["error", "RUN", "--data_dir", "none", "--out", "x.png"], "none/agedb.csv: there is no such file"),
        (["histogram", ".", "--out", "x.png"], ".: is neither a run"),
        (["histogram", "data", "--tensorboard", "--out", "x.png"], "data: is no run"),
        (["histogram", "RUN", "--lds_kernel", "gausian", "--out", "x.png"], "did you mean gaussian?"),
        (["histogram", "RUN", "--lds_ks", "4", "--out", "x.png"], "--lds_ks"),
        (["kernels", "--kernels", "x", "--out", "x.png"], "--kernels"),
        (["features", "RUN", "--anchor", "30", "--out", "x.png"], "there is no such checkpoint"),
        (["heatmap", "--table", "nosuch", "--out", "x.png"], "--table nosuch: there is no such table"),
        (["pie", "--out", "x.png"], "'pie'"),
    ],
)  # fmt: skip
def test_mistakes_are_named(argv, told, tmp_path, data, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "RUN", data, rows_with(1), reweight="sqrt_inv", fds=True)
    before = sorted(tmp_path.rglob("*"))
    assert call(*argv) == 2
    assert told in one_line(capsys)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("args.json", "{", "is not finished (no whole args.json)"),
        ("args.json", "[]", "is not finished (no whole args.json)"),
        ("metrics.json", None, "is not finished (no whole metrics.json); give its train.py command again"),
        ("metrics.json", '{"dataset"', "is not finished (no whole metrics.json)"),
        ("predictions.csv", None, "predictions.csv: there is no such file; start the run over"),
        ("predictions.csv", "", "predictions.csv: is broken"),
        ("predictions.csv", "label,shot\n20,many\n", "predictions.csv: is broken"),
        ("predictions.csv", "label,prediction\n20,x\n", "predictions.csv: is broken"),
    ],
)
def test_a_run_that_is_not_whole(name, content, told, tmp_path, runs, capsys):
    (runs[0] / name).unlink()
    if content is not None:
        (runs[0] / name).write_text(content)
    assert call("error", runs[0], "--out", tmp_path / "x.png") == 2
    error = one_line(capsys)
    assert told in error
    assert str(runs[0]) in error
    assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize("other", [{"target": "height"}, {"standin": "another"}, {"dataset": "imdb-wiki"}])
def test_runs_of_different_data(other, tmp_path, data, runs, capsys):
    run = write_run(tmp_path / "other", data, rows_with(1), **other)
    for kind in ("error", "features", "heatmap"):
        assert call(kind, runs[0], run, "--out", tmp_path / "x.png") == 2
        assert f"{run}: is on other data" in one_line(capsys)


def test_runs_of_two_kinds_of_data_have_other_flags_too(tmp_path, runs, capsys):
    table = run_on_table(written(tmp_path / "table"), tmp_path / "other")
    for kind in ("error", "features", "heatmap"):
        assert call(kind, table, runs[0], "--out", tmp_path / "x.png") == 2
        assert "is on other data" in capsys.readouterr().err


def test_a_file_that_was_there_survives_a_mistake(tmp_path, runs):
    (tmp_path / "x.png").write_text("mine")
    shutil.rmtree(runs[1])
    assert call("error", *runs, "--out", tmp_path / "x.png") == 2
    assert (tmp_path / "x.png").read_text() == "mine"


def test_ctrl_c_as_a_picture_is_written_leaves_what_was_there(tmp_path, runs, monkeypatch, capsys):
    def stop(figure, file, **how):
        file.write_text("half")
        raise KeyboardInterrupt

    (tmp_path / "x.png").write_text("mine")
    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr(Figure, "savefig", stop)
    assert call("error", runs[0], "--out", tmp_path / "x.png") == 130
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "x.png").read_text() == "mine"
