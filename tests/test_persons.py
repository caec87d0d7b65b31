"""Who is in two splits: the leak of the published split, and `prepare.py --persons apart`."""

import json
from collections import Counter

import numpy as np
import prepare
import pytest
from conftest import SHARED
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from preparing import agedb
from preparing.persons import draw_apart, in_two_splits, leak
from preparing.splits import AGES, balanced_split
from test_prepare_imdb_wiki import JANUARY_1950, NAN, cells, write_image, write_mat
from tiny_faces import read_csv, write_csv

from common.errors import RunFailed, UserError

pytestmark = pytest.mark.slow

REAL = SHARED / "data" / "agedb" / "agedb.csv"
needs_real = pytest.mark.skipif(not REAL.exists(), reason="needs the real agedb.csv")


def split_rows(path):
    rows = read_csv(path)
    return np.array([int(row["age"]) for row in rows]), np.array([row["split"] for row in rows]), [
        row["path"] for row in rows
    ]  # fmt: skip


def crowd(number=400, people=60, seed=0):
    """Names of images of some people, each of them over a span of ages."""
    rng = np.random.default_rng(seed)
    who = rng.integers(0, people, number)
    ages = 20 + who % 9 + rng.integers(0, 6, number)
    return [f"{row}_Person{p}_{age}_f.jpg" for row, (p, age) in enumerate(zip(who, ages, strict=True))]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "AgeDB").mkdir()
    for name in crowd():
        Image.fromarray(np.full((9, 9, 3), int(name.split("_")[0]) % 256, np.uint8)).save(
            tmp_path / "AgeDB" / name
        )
    return tmp_path


# The leak


def test_the_leak_by_hand():
    who = np.array(["a", "a", "b", "c", "a", "b", "d", "c"])
    labels = np.array([30, 40, 20, 50, 31, 25, 60, 51.5])
    splits = np.array(["train", "train", "train", "val", "test", "test", "test", "test"])
    assert leak(labels, splits, who).startswith(
        "2 of 4 test rows show a person who is in training, 1 within a year"
    )
    assert in_two_splits(splits, who) == ["a", "b", "c"]


@needs_real
def test_every_test_image_of_the_published_split_shows_somebody_in_training():
    ages, splits, paths = split_rows(REAL)
    who = agedb.persons(REAL.parent, paths)
    assert len(set(who)) == 567
    told = leak(ages, splits, np.array(who))
    assert told == "2,140 of 2,140 test rows show a person who is in training, 1,360 within a year of age"


# Splits without it


@needs_real
def test_the_committed_split_is_what_the_choice_gives(tmp_path, capsys):
    (tmp_path / "agedb.csv").write_bytes(REAL.read_bytes())
    assert prepare.main(["agedb", "--data_dir", str(tmp_path), "--persons", "apart"]) == 0
    told = capsys.readouterr().out
    assert "Before: 2,140 of 2,140 test rows show" in told and "Now: 0 of 2,140 test rows" in told
    assert "are in validation or test: 873 rows." in told and "Ages without" not in told
    assert "NOT the published split: no person stands in two of these splits." in told
    ages, splits, paths = split_rows(tmp_path / "agedb_apart.csv")
    assert in_two_splits(splits, agedb.persons(tmp_path, paths)) == []
    assert Counter(splits.tolist()) == {"train": 11_335, "val": 2_140, "test": 2_140}
    old_ages, old_splits, old_paths = split_rows(REAL)
    for name in ("val", "test"):
        assert Counter(ages[splits == name].tolist()) == Counter(old_ages[old_splits == name].tolist())
    wanted = AGES.counts(old_ages[old_splits == "test"].astype(np.float32))
    drawn = draw_apart(old_ages.tolist(), agedb.persons(tmp_path, old_paths), wanted, 666)
    assert drawn.tolist() == agedb.committed_apart(old_paths)


def test_the_committed_split_names_each_image_once():
    content = json.loads(agedb.APART.read_text(encoding="utf-8"))
    numbers = content["val"] + content["test"] + content["left_out"]
    assert len(set(numbers)) == len(numbers) == 2 * 2_140 + 873
    assert set(numbers) < set(range(16_488))


@given(st.integers(0, 1000), st.integers(3, 60))
def test_no_person_is_in_two_splits_and_ages_stay_balanced(seed, people):
    names = [name.split("_") for name in crowd(200, people, seed)]
    ages, who = [int(name[2]) for name in names], [name[1] for name in names]
    whole = np.array(balanced_split(ages, 5, seed))
    wanted = AGES.counts(np.array(ages, np.float32)[whole == "test"])
    splits = draw_apart(ages, who, wanted, seed)
    kept = splits != ""
    assert in_two_splits(splits[kept], np.array(who)[kept]) == []
    val, test = (AGES.counts(np.array(ages, np.float32)[splits == name]) for name in ("val", "test"))
    assert (val == test).all() and (test <= wanted).all()
    assert (splits == draw_apart(ages, who, wanted, seed)).all()


def test_a_folder_of_ones_own_is_drawn_and_then_checked(folder, capsys):
    assert prepare.main(["agedb", "--data_dir", str(folder)]) == 0
    assert prepare.main(["agedb", "--data_dir", str(folder), "--persons", "apart"]) == 0
    assert "agedb.csv: the subset is cut from it" in capsys.readouterr().out
    _, splits, paths = split_rows(folder / "agedb_apart.csv")
    assert in_two_splits(splits, agedb.persons(folder, paths)) == []
    assert {"train", "val", "test"} == set(splits)
    with pytest.raises(RunFailed):  # it is not the published data
        prepare.main(["agedb", "--data_dir", str(folder), "--check"])
    told = capsys.readouterr().out
    assert "  note   " in told and "test rows show a person who is in training" in told
    assert "none of 60 persons stand in more than one split of agedb_apart.csv" in told


def test_imdb_wikis_persons_come_from_its_mat_files(tmp_path, capsys):
    """One name in both files is one person; a face without a name is a person of its own."""
    rng = np.random.default_rng(0)
    for name, number in (("imdb", 150), ("wiki", 60)):
        ages = 20 + rng.integers(0, 6, number)
        people = [
            (f"{row:02d}/{name}{row}.jpg", JANUARY_1950, 1950 + age, 3.5, NAN) for row, age in enumerate(ages)
        ]
        named = [f"Person {row % 30}" if row % 10 else "" for row in range(number)]
        write_mat(tmp_path, name, people, name=cells(named))
        for person, age in zip(people, ages.tolist(), strict=True):
            write_image(tmp_path / f"{name}_crop" / person[0], age)
    assert prepare.main(["imdb-wiki", "--data_dir", str(tmp_path), "--persons", "apart"]) == 0
    _, splits, paths = split_rows(tmp_path / "imdb_wiki_apart.csv")
    rows = [int(path.split(path[:4])[-1].removesuffix(".jpg")) for path in paths]
    who = [f"Person {row % 30}" if row % 10 else path for row, path in zip(rows, paths, strict=True)]
    assert in_two_splits(splits, who) == []
    assert min(Counter(splits.tolist()).values()) > 5
    assert "Now: 0 of " in capsys.readouterr().out


# A column of persons


@pytest.mark.parametrize("flags", [[], ["--group", "subject"]])
def test_a_group_in_two_splits_is_reported(folder, capsys, flags):
    assert prepare.main(["agedb", "--data_dir", str(folder)]) == 0
    rows = [
        row | {"subject": f"s{number % 150}"} for number, row in enumerate(read_csv(folder / "agedb.csv"))
    ]
    write_csv(folder / "agedb.csv", rows)
    with pytest.raises(RunFailed):
        prepare.main(["agedb", "--data_dir", str(folder), "--check", *flags])
    assert "of 150 persons stand in more than one split: s" in capsys.readouterr().out


def test_a_column_that_is_not_there(folder):
    assert prepare.main(["agedb", "--data_dir", str(folder)]) == 0
    with pytest.raises(UserError, match=r"--group who: .*agedb\.csv has no such column; name one of its own"):
        prepare.main(["agedb", "--data_dir", str(folder), "--check", "--group", "who"])


def test_flags_that_do_not_fit(folder, tmp_path):
    with pytest.raises(
        UserError, match="--persons apart: is of the whole data set; leave the flags of a subset"
    ):
        prepare.main(["agedb", "--data_dir", str(folder), "--persons", "apart", "--peaks", "25"])
    write_csv(folder / "agedb.csv", [{"age": 30, "path": f"{row}.png", "split": split} for row, split in
                                     enumerate(["train", "train", "val", "test"])])  # fmt: skip
    with pytest.raises(UserError, match="--persons apart: who is on an image of AgeDB-DIR here is not known"):
        prepare.main(["agedb", "--data_dir", str(folder), "--persons", "apart"])
