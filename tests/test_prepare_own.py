"""`scripts/prepare.py own` on images, volumes and tables: what it says, the splits it writes, the command it prints."""

import shlex

import numpy as np
import prepare
import pytest
from tiny_faces import call, load_train, read_csv, write_csv

from common import cli
from common.datasets.faces import label_bins, read_faces
from common.task import load_task
from common.training.command import settings_of

NUMBER = 60


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def rows_of(kind, seed=0):
    """Rows with labels that many share and few have."""
    rng = np.random.default_rng(seed)
    labels = rng.gamma(3, 100, NUMBER).round(1)
    names = [{"path": f"{kind}/{row}{'.npy' if kind == 'volumes' else '.png'}"} for row in range(NUMBER)]
    if kind == "table":
        names = [{"rooms": int(rng.integers(1, 99)), "town": "ab"[row % 2]} for row in range(NUMBER)]
    rows = zip(names, labels.tolist(), strict=True)
    return [name | {"score": label, "site": f"h{row // 3}"} for row, (name, label) in enumerate(rows)]


def write(folder, kind, change=None):
    rows = rows_of(kind)
    if kind != "table":
        (folder / kind).mkdir()
        for row, cells in enumerate(rows):
            if kind == "volumes":
                np.save(folder / cells["path"], np.full((16, 18, 20), row, np.uint8))
            else:
                (folder / cells["path"]).write_bytes(b"picture %d" % row)
    if change:
        change(rows)
    write_csv(folder / "mine.csv", rows)
    return folder / "mine.csv"


def own(capsys, *argv):
    """The exit code, and the text of standard output or error."""
    capsys.readouterr()
    try:
        code = cli.run_command(prepare.PROG, lambda: prepare.main(["own", *map(str, argv)]))
    except SystemExit as end:
        code = end.code
    out, error = capsys.readouterr()
    if code:
        assert error.count("\n") == 1
    return code, error if code else out


SCRIPTS = {"images": ("agedb", "agedb-dir/train.py"), "volumes": ("volume", "volume-dir/train.py"),
           "table": ("tabular", "tabular-dir/train.py")}  # fmt: skip


@pytest.mark.parametrize("kind", SCRIPTS)
def test_a_csv_without_splits_gets_some_and_a_command(tmp_path, capsys, kind):
    csv = write(tmp_path, kind)
    before = csv.read_bytes()
    code, out = own(capsys, csv, "--target", "score", "--group", "site")
    assert code == 0
    assert csv.read_bytes() == before
    rows = read_csv(tmp_path / "mine_split.csv")
    assert [{name: row[name] for name in row if name != "split"} for row in rows] == read_csv(csv)
    assert {row["split"] for row in rows} == {"train", "val", "test"}
    assert len({(row["site"], row["split"]) for row in rows}) == len({row["site"] for row in rows}), (
        "no site is parted"
    )
    assert f"{NUMBER} {'rows' if kind == 'table' else kind}; score from " in out
    assert "Exact copies: 0." in out
    assert "Groups: 20 values of site." in out
    assert "Few-shot will be " in out
    name, script = SCRIPTS[kind]
    python, found, *argv = shlex.split(out.splitlines()[-1])
    assert (python, found) == ("python", script)
    settings = settings_of(load_task(name), "", " ", argv)
    assert settings.values()["target"] == "score"
    counted = sum(int(line.split()[2]) for line in out.splitlines() if " … " in line)
    assert counted == sum(row["split"] == "train" for row in rows)


def test_the_command_on_images_has_the_bins_that_were_shown(tmp_path, capsys):
    csv = write(tmp_path, "images")
    out = own(capsys, csv, "--target", "score", "--bin_width", "25")[1]
    argv = shlex.split(out.splitlines()[-1])[2:]
    flags = settings_of(load_task("agedb"), "", " ", argv).values()
    table = read_faces(tmp_path / "mine_split.csv", "score", flags["label_min"], flags["label_max"])
    bins = label_bins(
        table.labels[table.rows("train")], flags["bin_width"], flags["label_min"], flags["label_max"]
    )
    assert f"in {bins.num} bins of 25:" in out


@pytest.mark.slow
def test_the_command_on_volumes_trains(tmp_path, capsys):
    csv = write(tmp_path, "volumes")
    argv = shlex.split(own(capsys, csv, "--target", "score")[1].splitlines()[-1])[2:]
    assert " ".join(argv).endswith("--shape 16 18 20 --channels 32 64 128 256 64")
    load_train("volume-dir")
    small = "--channels 4 8 --epoch 1 --device cpu --batch_size 32"
    assert call([*argv, *small.split()], "volume-dir") == 0


def test_splits_are_made_once_and_nothing_is_overwritten(tmp_path, capsys):
    csv = write(tmp_path, "table")
    made = tmp_path / "mine_split.csv"
    assert own(capsys, csv, "--target", "score")[0] == 0
    first = made.read_bytes()
    assert own(capsys, csv, "--target", "score")[0] == 0
    code, error = own(capsys, csv, "--target", "score", "--seed", "1")
    assert code == 2
    assert "mine_split.csv: is there with other content, and is not overwritten" in error
    assert made.read_bytes() == first
    assert own(capsys, made, "--target", "score")[0] == 0
    assert not (tmp_path / "mine_split_split.csv").exists()


def test_copies_and_parted_groups_are_named_with_their_lines(tmp_path, capsys):
    def change(rows):
        for row, cells in enumerate(rows):
            cells["split"] = ("train", "val", "test")[row % 3]
        (tmp_path / rows[4]["path"]).write_bytes((tmp_path / rows[1]["path"]).read_bytes())
        (tmp_path / rows[5]["path"]).write_bytes((tmp_path / rows[1]["path"]).read_bytes())

    out = own(capsys, write(tmp_path, "images", change), "--target", "score", "--group", "site")[1]
    assert "Exact copies: 2 (line 6 of line 3, line 7 of line 3)." in out
    assert "  Under another label: 2." in out
    assert "  In two splits: 1, which" in out
    assert "  In two splits: 20 ('h0' in lines 2 and 3, " in out
    assert "--dataset mine " in out


def test_copies_stay_in_one_split_where_no_group_is_named(tmp_path, capsys):
    def change(rows):
        for cells in rows:
            row = int(cells["path"].partition("/")[2].partition(".")[0])
            (tmp_path / cells["path"]).write_bytes(b"%d" % (row // 2))

    assert own(capsys, write(tmp_path, "images", change), "--target", "score")[0] == 0
    splits = [row["split"] for row in read_csv(tmp_path / "mine_split.csv")]
    assert splits[::2] == splits[1::2]


def spoilt(row, **cells):
    return lambda rows: rows[row].update(cells)


@pytest.mark.parametrize(
    ("change", "flags", "told"),
    [
        (spoilt(3, score="tall"), "--target score", "mine.csv: score is not a number (line 5: 'tall')"),
        (spoilt(3, score="inf"), "--target score", "mine.csv: score is not a number (line 5: 'inf')"),
        (spoilt(3, path="images/none.png"), "--target score", "no such file (line 5: 'images/none.png')"),
        (spoilt(3, path="../0.png"), "--target score", "path leaves the data folder or is empty (line 5: "),
        (lambda rows: [row.update(split="trian") for row in rows], "--target score", "unknown split (line 2: 'trian'"),
        (lambda rows: [row.update(split="test") for row in rows], "--target score", "no row has split train or val"),
        (lambda rows: [row.update(score=3) for row in rows], "--target score", "every row has the score 3"),
        (lambda rows: rows.__delitem__(slice(4, None)), "--target score", "too few rows of a bin for splits; --bins"),
        (None, "", "name the column of labels with --target; its columns are path, score, site"),
        (None, "--target weight", "mine.csv: has no column weight; its columns are path, score, site"),
        (None, "--target score --group herd", "--group herd: "),
        (None, "--target score --bins 0", "--bins: '0' is no whole number"),
        (None, "--target score --check", "unknown argument --check"),
    ],
)  # fmt: skip
def test_bad_input_is_named_with_file_and_line(tmp_path, capsys, change, flags, told):
    code, error = own(capsys, write(tmp_path, "images", change), *flags.split())
    assert code == 2
    assert told in error


def test_a_missing_file_is_named(tmp_path, capsys):
    assert "none.csv: there is no such file" in own(capsys, tmp_path / "none.csv")[1]
