"""scripts/prepare.py imdb-wiki: made-up .mat files to a split and a training run, and every bad input."""

import datetime
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from preparing import imdb_wiki
from preparing.imdb_wiki import ages_of, rows_of_mat
from preparing.splits import balanced_split
from scipy.io import savemat
from tiny_faces import call, command, read_csv, run_dir

from common import cli
from common.errors import UserError

pytestmark = pytest.mark.slow

NAN, INF = float("nan"), float("inf")
JANUARY_1950 = 711_858 + 366  # MATLAB's day of 1950-01-01 (Python's ordinal is 366 less)


def cells(texts):
    column = np.empty((1, len(texts)), object)
    column[0] = texts
    return column


def write_mat(folder, name, people, /, **change):
    """`NAME_crop/NAME.mat` in the real structure; a person is (path, dob, photo_taken, score, second)."""
    paths, dob, taken, score, second = zip(*people, strict=True)
    number = len(people)
    fields = {
        "dob": np.array([dob], np.float64 if any(map(np.isnan, dob)) else np.int32),
        "photo_taken": np.array([taken], np.uint16),
        "full_path": cells(paths),
        "gender": np.ones((1, number)),
        "name": cells([f"Person {row}" for row in range(number)]),
        "face_location": cells([np.array([[1.0, 1.0, 9.0, 9.0]])] * number),
        "face_score": np.array([score], np.float64),
        "second_face_score": np.array([second], np.float64),
    }
    fields = {key: value for key, value in (fields | change).items() if value is not None}
    (folder / f"{name}_crop").mkdir(parents=True, exist_ok=True)
    savemat(folder / f"{name}_crop" / f"{name}.mat", {name: fields})


def write_image(file, age):
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(age).normal(age * 4, 9, (20, 18, 3))
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file)


def crowd(name, number, seed):
    """Good faces of ages 20 to 40, young ones more often."""
    ages = 20 + np.random.default_rng(seed).binomial(20, 0.3, number)
    return [
        (f"{row % 100:02d}/{name}{row}.jpg", JANUARY_1950, 1950 + age, 3.5, NAN)
        for row, age in enumerate(ages.tolist())
    ], ages.tolist()


@pytest.fixture
def raw(tmp_path):
    """A folder as the two archives unpack, and the rows that its faces should give."""
    rows = []
    for name, number in (("imdb", 170), ("wiki", 60)):
        people, ages = crowd(name, number, number)
        write_mat(tmp_path, name, people)
        for person, age in zip(people, ages, strict=True):
            rows.append((age, f"{name}_crop/{person[0]}"))
            write_image(tmp_path / rows[-1][1], age)
    return tmp_path, rows


def run(folder, *flags):
    return imdb_wiki.imdb_wiki(["--data_dir", str(folder), *map(str, flags)])


def as_rows(path):
    return [(int(row["age"]), row["path"], row["split"]) for row in read_csv(path)]


# --- the published age rule


def published_age(day, taken):
    birth = datetime.date.fromordinal(max(int(day) - 366, 1))
    return taken - birth.year - (birth.month >= 7)


DAYS = st.integers(0, 3_652_059 + 366)


@given(st.lists(st.tuples(DAYS, st.integers(0, 2100)), min_size=1, max_size=40))
def test_ages_are_those_of_python_dates(people):
    day, taken = np.array(people).T
    wanted = [published_age(*person) for person in people]
    assert ages_of(day, taken).tolist() == wanted


def test_ages_by_hand():
    """Born 1950: to the end of June a year older, in mid-year, than from July on; day 0 is of year 1."""
    days = np.array([JANUARY_1950, JANUARY_1950 + 180, JANUARY_1950 + 181, 0, 366, 367, -5])
    assert ages_of(days, np.full(7, 2000)).tolist() == [50, 50, 49, 1999, 1999, 1999, 1999]
    strange = np.array([NAN, INF, -INF, 1e12, JANUARY_1950 + 0.75])
    np.testing.assert_equal(ages_of(strange, np.full(5, 2000)), [NAN, NAN, NAN, NAN, 50])
    assert np.isnan(ages_of(np.array([JANUARY_1950]), np.array([NAN])))


# --- which faces are kept


def test_which_faces_are_kept(tmp_path, capsys):
    person = ("1.jpg", JANUARY_1950, 1990, 1.0, NAN)

    def but(**change):
        keys = ("path", "dob", "taken", "score", "second")
        return tuple({**dict(zip(keys, person, strict=True)), **change}.values())

    good = [
        person,
        but(path="2.jpg", score=INF, second=0.0),
        but(path="3.jpg", second=-INF),
        but(path="4.jpg", taken=1950),
        but(path="5.jpg", taken=2150),
        but(path="6.jpg", dob=5, taken=200),  # before year 1: of year 1
    ]
    bad = [
        but(path="a.jpg", score=0.99),
        but(path="b.jpg", score=-INF),
        but(path="c.jpg", score=NAN),
        but(path="d.jpg", second=0.1),
        but(path="e.jpg", second=INF),
        but(path="f.jpg", taken=1949),
        but(path="g.jpg", taken=2151),
        but(path="h.jpg", dob=5, taken=1990),
        but(path="i.jpg", dob=NAN),
        but(path=""),
        but(path="1.jpg"),
    ]
    write_mat(tmp_path, "imdb", [*good, *bad])
    rows = rows_of_mat(tmp_path, "imdb")
    assert rows.ages == [40, 40, 40, 0, 200, 199]
    assert rows.paths == [f"imdb_crop/{number}.jpg" for number in range(1, 7)]
    told = capsys.readouterr().out
    assert "6 of 17 faces; left out: 3 score below 1, 2 second face, 4 age outside 0 to 200, 1 path" in told
    assert "1 path missing, 1 path was there before" in told


# --- the split


def test_split_by_the_published_rule(raw, capsys):
    folder, rows = raw
    assert run(folder) == 0
    ages, paths = zip(*rows, strict=True)
    wanted = list(zip(ages, paths, balanced_split(ages, 150), strict=True))
    assert as_rows(folder / "imdb_wiki.csv") == wanted
    assert (folder / "imdb_wiki.csv").read_text().startswith("age,path,split\n")
    assert (folder / "imdb_wiki.png").read_bytes().startswith(b"\x89PNG")
    out = capsys.readouterr().out
    assert "imdb.mat: 170 of 170 faces" in out and "wiki.mat: 60 of 60 faces" in out
    assert "This is NOT the published split: the rows or their order are others." in out
    assert "missing" not in out


def test_at_most_150_of_an_age(tmp_path):
    people = [(f"{row}.jpg", JANUARY_1950, 1980, 2.0, NAN) for row in range(500)]
    write_mat(tmp_path, "imdb", people)
    write_mat(tmp_path, "wiki", people[:2])
    assert run(tmp_path) == 0
    splits = [split for *_, split in as_rows(tmp_path / "imdb_wiki.csv")]
    assert (splits.count("val"), splits.count("test"), splits.count("train")) == (150, 150, 202)


def test_the_published_file_is_known_when_it_comes_out(raw, monkeypatch, capsys):
    folder, _ = raw
    run(folder)
    git = subprocess.run(
        ["git", "hash-object", "--stdin"],
        input=(folder / "imdb_wiki.csv").read_bytes(),
        capture_output=True,
        check=True,
    )
    ids = {"imdb_wiki.csv": git.stdout.decode().strip()}
    monkeypatch.setattr(imdb_wiki, "published_ids", lambda: ids)
    capsys.readouterr()
    assert run(folder) == 0  # there already
    out = capsys.readouterr().out
    assert "This is the published split: all 230 rows agree with it." in out
    assert "is used as it is" in out and "imdb.mat" not in out
    assert run(folder, "--overwrite") == 0
    assert "This is the published split" in capsys.readouterr().out


def test_missing_images_are_told_and_kept_in_the_split(raw, capsys):
    folder, rows = raw
    for _, path in rows[3:7]:
        (folder / path).unlink()
    assert run(folder) == 0
    told = capsys.readouterr().out
    assert f"Of the 230 images, 4 are missing ({rows[3][1]}, " in told and "--bad_images skip" in told
    assert len(as_rows(folder / "imdb_wiki.csv")) == 230


@pytest.mark.slow
def test_from_mat_files_to_a_training_run(raw, monkeypatch):
    """The command as a user gives it, then `imdb-wiki-dir/train.py` on what it wrote."""
    folder, rows = raw
    argv = [sys.executable, "scripts/prepare.py", "imdb-wiki", "--data_dir", str(folder)]
    done = subprocess.run(argv, cwd=cli.ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    monkeypatch.chdir(folder)
    train = command(folder, "--epoch 1 --lds --fds")
    assert call(train, "imdb-wiki-dir") == 0
    metrics = json.loads((run_dir(train, "imdb-wiki") / "metrics.json").read_text())
    tested = [split for *_, split in as_rows(folder / "imdb_wiki.csv")].count("test")
    assert metrics["shots"]["all"]["n"] == tested > 20
    assert metrics["shots"]["all"]["mae"] > 0


# --- bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"face_score": None}, r"holds no struct 'imdb' with the field face_score; .*download\.py imdb-wiki"),
        ({"dob": np.ones((1, 3))}, r"columns differ in length \(full_path 2, dob 3, "),
        ({"full_path": np.ones((1, 2))}, "no age from 0 to 120 has three images"),
    ],
)
def test_bad_struct(tmp_path, change, message):
    people = [(f"{row}.jpg", JANUARY_1950, 1980, 2.0, NAN) for row in range(2)]
    write_mat(tmp_path, "imdb", people, **change)
    write_mat(tmp_path, "wiki", people)
    with pytest.raises(UserError, match=message):
        run(tmp_path)


@pytest.mark.parametrize("content", [b"", b"MATLAB", b"x" * 4000, "cut", "other", "hdf5"])
def test_bad_file(raw, content):
    folder, _ = raw
    file = folder / "wiki_crop" / "wiki.mat"
    if content == "cut":
        content = file.read_bytes()[: file.stat().st_size // 2]
    elif content == "other":
        content = (folder / "imdb_crop" / "imdb.mat").read_bytes()
    elif content == "hdf5":
        content = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + b"\x89HDF" * 200
    file.write_bytes(content)
    with pytest.raises(UserError) as caught:
        run(folder)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)
    assert not (folder / "imdb_wiki.csv").exists()


def test_no_file_and_no_folder(raw):
    folder, _ = raw
    (folder / "wiki_crop" / "wiki.mat").unlink()
    with pytest.raises(UserError, match=r"wiki\.mat: there is no such file; .*download\.py imdb-wiki"):
        run(folder)
    with pytest.raises(UserError, match="there is no such folder"):
        run(folder / "nowhere")


@pytest.mark.slow
def test_ctrl_c_leaves_nothing_behind(raw):
    """The signal comes while the histogram is drawn, between the two files."""
    folder, _ = raw
    code = (
        "import preparing.splits, prepare, time, sys\n"
        "def slow(*_, **__): print('drawing', flush=True); time.sleep(60)\n"
        "preparing.splits.write_rows = slow\n"
        f"sys.exit(prepare.main(['imdb-wiki', '--data_dir', {str(folder)!r}]))"
    )
    before = sorted(folder.iterdir())
    path = os.pathsep.join([str(cli.ROOT / "scripts"), str(cli.ROOT)])
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    while "drawing" not in child.stdout.readline():
        assert child.poll() is None
    time.sleep(0.1)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=30)
    assert child.returncode == 130
    assert err == "scripts/prepare.py: stopped; nothing was left half-written\n"
    assert sorted(folder.iterdir()) == before


# --- subsets


@pytest.mark.parametrize(
    ("flags", "gone"), [(["--peaks", "34"], range(20, 26)), (["--drop-ages", "24-25"], (24, 25))]
)
def test_a_subset_has_empty_gaps_and_no_row_twice(raw, flags, gone):
    folder, _ = raw
    assert run(folder) == 0
    assert run(folder, *flags, "--out", folder / "subset.csv") == 0
    whole, kept = as_rows(folder / "imdb_wiki.csv"), as_rows(folder / "subset.csv")
    assert len({path for _, path, _ in kept}) == len(kept) < len(whole)
    assert set(kept) <= set(whole)
    assert set(gone).isdisjoint({age for age, _, split in kept if split == "train"})
    assert [row for row in kept if row[2] != "train"] == [row for row in whole if row[2] != "train"]
