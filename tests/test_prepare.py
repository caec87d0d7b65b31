"""scripts/prepare.py agedb: the published split from names in any order, the rule by hand, and bad input."""

import csv
import json
import os
import random
import sys
from collections import Counter

import numpy as np
import prepare
import pytest
from conftest import SHARED
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from preparing import agedb
from preparing.splits import balanced_split, blob_id, read_rows
from preparing.variants import PEAK_REACH, Variant, parse_ages, spans
from tiny_faces import call, command, run_dir

from common import cli
from common.errors import UserError

pytestmark = pytest.mark.slow

REAL = SHARED / "data" / "agedb" / "agedb.csv"
needs_real = pytest.mark.skipif(not REAL.exists(), reason="needs the real agedb.csv")
AGES = st.lists(st.integers(-2, 125) | st.integers(30, 32), max_size=300)


def read(path):
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def make_images(root, names):
    """Empty files, made in shuffled order."""
    (root / "AgeDB").mkdir(parents=True)
    for name in random.Random(1).sample(names, len(names)):
        (root / "AgeDB" / name).touch()
    return root


def run(root, *flags, order=agedb.ORDER):
    return agedb.agedb(["--data_dir", str(root), *map(str, flags)], order)


@pytest.fixture
def small(tmp_path):
    """A folder of 400 images, their published order, and the rows that should come out."""
    rng = random.Random(0)
    numbers = rng.sample(range(1000), 400)
    ages = [rng.choice([3, 30, 30, 30, 31, 31, 47, 120]) for _ in numbers]
    names = [f"{n}_Some Öne_{age}_{rng.choice('mf')}.jpg" for n, age in zip(numbers, ages, strict=True)]
    paths, splits = [f"AgeDB/{name}" for name in names], balanced_split(ages, 30)
    order = tmp_path / "order.json"
    sha256 = agedb.fingerprint(ages, paths, splits)
    order.write_text(json.dumps({"numbers": numbers, "sha256": sha256}), encoding="utf-8")
    rows = [{"age": str(a), "path": p, "split": s} for a, p, s in zip(ages, paths, splits, strict=True)]
    return make_images(tmp_path / "data", names), order, rows


# --- the rule


@needs_real
def test_rule_gives_the_published_split():
    rows = read(REAL)
    assert balanced_split([int(row["age"]) for row in rows], 30) == [row["split"] for row in rows]


def test_rule_by_hand():
    """The stream of seed 666 shuffles abcdefg to baecfgd, and then uvwx to vxuw."""
    #       u   a   b   v   c   d    w   e   x   f   g   (of age 31: uvwx; 30: abcdefg)
    ages = [31, 30, 30, 31, 30, 30, 121, 31, 30, 31, 30, 30, -1]
    names = "uabvcd-wexfg."
    for cap, val, test in ((30, "bav", "ecx"), (1, "bv", "ax"), (0, "", "")):
        wanted = ["val" if n in val else "test" if n in test else "train" for n in names]
        assert balanced_split(ages, cap) == wanted


@given(AGES, st.integers(0, 40), st.integers(0, 1000))
def test_rule_is_balanced(ages, cap, seed):
    split = balanced_split(ages, cap, seed)
    assert split == balanced_split(ages, cap, seed)
    assert len(split) == len(ages)
    assert set(split) <= {"train", "val", "test"}
    for age in set(ages):
        mine = [s for a, s in zip(ages, split, strict=True) if a == age]
        n = min(len(mine) // 3, cap) if 0 <= age <= 120 else 0
        assert (mine.count("val"), mine.count("test")) == (n, n)


def test_another_seed_is_another_split():
    assert balanced_split([30] * 90, 30, 1) != balanced_split([30] * 90, 30, 2)


# --- a folder of images


@needs_real
def test_committed_order_is_that_of_the_real_csv():
    numbers = [int(row["path"].split("/")[1].split("_")[0]) for row in read(REAL)]
    assert agedb.read_order().numbers == numbers


def test_committed_order_names_every_image_once():
    assert sorted(agedb.read_order().numbers) == list(range(16_488))


@needs_real
def test_real_names_in_any_order_give_the_published_file(tmp_path, capsys):
    make_images(tmp_path, [row["path"].removeprefix("AgeDB/") for row in read(REAL)])
    assert run(tmp_path) == 0
    assert (tmp_path / "agedb.csv").read_bytes() == REAL.read_bytes()
    out = capsys.readouterr().out
    assert "This is the published split: all 16,488 rows agree with it." in out
    told = [line.split() for line in out.splitlines()]
    assert ["train", "12,208", "11,154", "851", "203"] in told
    assert ["val", "2,140", "1,530", "448", "162"] in told
    assert ["test", "2,140", "1,530", "448", "162"] in told
    assert ["ages", "100", "51", "16", "33"] in told


def test_table_gives_the_order(small, capsys):
    root, order, rows = small
    assert run(root, order=order) == 0
    assert read(root / "agedb.csv") == rows
    assert "This is the published split: all 400 rows" in capsys.readouterr().out
    assert (root / "agedb.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in root.iterdir()) == ["AgeDB", "agedb.csv", "agedb.png"]


def test_missing_images_are_told(small, capsys):
    root, order, rows = small
    gone = rows[7:12]
    for row in gone:
        (root / row["path"]).unlink()
    assert run(root, order=order) == 0
    kept = [row for row in rows if row not in gone]
    splits = balanced_split([int(row["age"]) for row in kept], 30)
    assert [(r["path"], r["split"]) for r in read(root / "agedb.csv")] == [
        (row["path"], split) for row, split in zip(kept, splits, strict=True)
    ]
    told = capsys.readouterr().out
    assert "NOT the published split: 5 of the 400 images are missing (number " in told
    assert "and 2 more" in told


def test_unknown_numbers_are_sorted_and_told(small, capsys):
    root, order, rows = small
    (root / "AgeDB" / "5000_New_30_f.jpg").touch()
    assert run(root, order=order) == 0
    numbers = [int(row["path"].split("/")[1].split("_")[0]) for row in read(root / "agedb.csv")]
    assert numbers == sorted(numbers)
    assert len(numbers) == 401
    assert "NOT the published split: 1 of the 401 images have a number that is not AgeDB's (5000)" in (
        capsys.readouterr().out
    )


def test_other_ages_under_the_same_numbers_are_not_the_published_split(small, capsys):
    root, order, rows = small
    path = root / rows[0]["path"]
    path.rename(path.with_name(path.name.replace(f"_{rows[0]['age']}_", "_77_")))
    assert run(root, order=order) == 0
    assert "NOT the published split" in capsys.readouterr().out


def test_other_seed_is_told(small, capsys):
    root, order, rows = small
    assert run(root, "--seed", 5, order=order) == 0
    assert "NOT the published split: its seed is 666, not 5." in capsys.readouterr().out
    assert [r["split"] for r in read(root / "agedb.csv")] == balanced_split(
        [int(row["age"]) for row in rows], 30, 5
    )


def test_standin_says_so_and_has_its_own_thresholds(small, capsys):
    root, order, _ = small
    told = {"dataset": "agedb", "scale": 0.5, "seed": 0, "note": "drawn", "many_above": 50, "few_below": 10}
    (root / "standin.json").write_text(json.dumps(told))
    assert run(root, order=order) == 0
    out = capsys.readouterr().out
    assert "Stand-in, not the real data: agedb at scale 0.5" in out
    assert "Many (> 50)" in out and "Few (< 10)" in out


def test_other_files_are_left_aside(small):
    root, order, rows = small
    for name in ("Thumbs.db", ".DS_Store", "._1_A_30_m.jpg", "readme.txt"):
        (root / "AgeDB" / name).touch()
    assert run(root, order=order) == 0
    assert read(root / "agedb.csv") == rows


# --- what is there already


def test_existing_csv_is_left_alone(small, capsys):
    root, order, rows = small
    out = root / "agedb.csv"
    mine = b"path,age,split\nw.jpg,30,train\nx.jpg,30,train\ny.jpg,30,val\nz.jpg,30,test\n"
    out.write_bytes(mine)
    before = out.stat().st_mtime_ns
    assert run(root, order=order) == 0
    assert out.read_bytes() == mine
    assert out.stat().st_mtime_ns == before
    assert not (root / "agedb.png").exists()
    told = capsys.readouterr().out
    assert "is there already and is used as it is; --overwrite" in told
    assert "NOT the published split" in told
    assert run(root, "--overwrite", order=order) == 0
    assert read(out) == rows
    assert run(root, order=order) == 0
    assert "This is the published split" in capsys.readouterr().out


def test_existing_csv_that_is_broken(small):
    root, order, _ = small
    (root / "agedb.csv").write_text("age,path,split\nold,x.jpg,train\n")
    with pytest.raises(UserError, match="age is not a number .*--overwrite"):
        run(root, order=order)


def test_failed_write_leaves_the_old_file(small, monkeypatch):
    root, order, _ = small
    out = root / "agedb.csv"
    out.write_text("old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("preparing.splits.write_rows", fail)
    with pytest.raises(UserError, match=r"agedb\.csv: cannot be written \(No space"):
        run(root, "--overwrite", order=order)
    assert out.read_text() == "old"
    assert sorted(path.name for path in root.iterdir()) == ["AgeDB", "agedb.csv"]


# --- the rows of a CSV


@needs_real
def test_rows_of_the_real_csv(tmp_path, capsys):
    assert run(tmp_path, "--csv", REAL, "--out", tmp_path / "new" / "x.csv") == 0
    assert (tmp_path / "new" / "x.csv").read_bytes() == REAL.read_bytes()
    assert (tmp_path / "new" / "x.png").exists()
    assert "This is the published split" in capsys.readouterr().out


def test_rows_of_a_csv(tmp_path, capsys):
    ages = [30] * 9 + [31] * 4 + [150]
    lines = [f'm,{age}.0,"a, b/{i}.jpg",val' for i, age in enumerate(ages)]
    (tmp_path / "in.csv").write_text("\n".join(["sex,age,path,split", *lines, ""]))
    assert run(tmp_path, "--csv", tmp_path / "in.csv") == 0
    wanted = [
        {"age": str(age), "path": f"a, b/{i}.jpg", "split": split}
        for i, (age, split) in enumerate(zip(ages, balanced_split(ages, 30), strict=True))
    ]
    assert read(tmp_path / "agedb.csv") == wanted
    told = capsys.readouterr().out
    assert "NOT the published split: the rows or their order are others" in told
    assert "above 120: 1" in told


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("age,file\n1,a\n", r"has no column path \(it has: age, file\)"),
        ("", r"has no column age and path \(it has: none\)"),
        ("age,path\n", "has no row"),
        ("age,path\n30,a\n3x,b\n", r"age is not a whole number \(line 3: '3x'\)"),
        ("age,path\n1.5,a\n,b\nnan,c\ninf,d\n", r"line 2: '1.5', line 3: '', line 4: 'nan' and 1 more"),
        ("age,path\n-1,a\n201,b\n", r"outside 0 to 200 \(line 2: '-1', line 3: '201'\)"),
        ("age,path\n30,\n", "path is empty"),
        ("age,path\n30,a\n31,b\n30,a\n", r"path was there before \(line 4: 'a'\)"),
        ("age,path\n30,a,b\n", "line 2 has not the 2 cells"),
        ('age,path\n30,"a\n', "not a CSV in UTF-8"),
        ("age,path\n30,a\n31,b\n", "no age from 0 to 120 has three images"),
    ],
)
def test_bad_csv(tmp_path, text, message):
    file = tmp_path / "in.csv"
    file.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        run(tmp_path, "--csv", file)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == [file]


def test_csv_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match=r"no\.csv: there is no such file"):
        read_rows(tmp_path / "no.csv")
    (tmp_path / "latin.csv").write_bytes(b"age,path\n30,\xe9.jpg\n")
    with pytest.raises(UserError, match="not a CSV in UTF-8"):
        read_rows(tmp_path / "latin.csv")


# --- from raw images to a model


def test_from_a_folder_of_images_to_training_runs(tmp_path, monkeypatch):
    """On the whole split, and on a subset whose missing ages are then tested apart."""
    rng = np.random.default_rng(0)
    (tmp_path / "AgeDB").mkdir()
    for number in range(150):
        age = 20 + int(rng.binomial(15, 0.3))
        pixels = rng.normal(age * 5, 9, (20, 18, 3)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "AgeDB" / f"{number}_SomeName_{age}_f.jpg")
    monkeypatch.chdir(tmp_path)
    for flags, dataset in (([], "agedb"), (["--drop-ages", "22-24"], "agedb_drop_22-24")):
        assert prepare.main(["agedb", "--data_dir", str(tmp_path), *flags]) == 0
        argv = command(tmp_path, f"--dataset {dataset} --epoch 1 --lds --fds")
        assert call(argv) == 0
        shots = json.loads((run_dir(argv) / "metrics.json").read_text())["shots"]
        test = counts(read(tmp_path / f"{dataset}.csv"), "test")
        assert shots["all"]["n"] == sum(test.values()) > 20
    assert shots["zero"]["n"] == sum(test[age] for age in (22, 23, 24)) > 0
    assert shots["interpolation"] == shots["zero"] and shots["extrapolation"]["n"] == 0


# --- subsets


def counts(rows, split):
    return Counter(int(row["age"]) for row in rows if row["split"] == split)


def test_ages_without_training_data(small, capsys):
    root, order, rows = small
    assert run(root, "--drop-ages", "31,40-120", order=order) == 0
    out = root / "agedb_drop_31_40-120.csv"
    assert not (root / "agedb.csv").exists()
    assert out.with_suffix(".png").exists()
    gone = {31, 47, 120}
    assert read(out) == [r for r in rows if r["split"] != "train" or int(r["age"]) not in gone]
    told = capsys.readouterr().out
    assert "NOT the published split: it is a subset of ours, as the authors' own were never released." in told
    test = counts(rows, "test")
    assert (
        f"{sum(test[age] for age in gone)} are of ages without training data: 0 between training ages "
        f"(interpolation), {sum(test[age] for age in gone)} outside them (extrapolation)."
    ) in told
    assert run(root, "--drop-ages", "31", order=order) == 0
    assert f"{test[31]} between training ages (interpolation), 0 outside" in capsys.readouterr().out


def test_a_subset_is_cut_from_the_split_that_is_there(small, capsys):
    root, order, _ = small
    mine = [("train", 30), ("train", 30), ("train", 31), ("val", 31), ("test", 30)]
    lines = [f"{age},x{row}.jpg,{split}" for row, (split, age) in enumerate(mine)]
    (root / "agedb.csv").write_text("\n".join(["age,path,split", *lines, ""]))
    before = (root / "agedb.csv").read_bytes()
    assert run(root, "--drop-ages", "31", "--out", root / "cut.csv", order=order) == 0
    assert [row["path"] for row in read(root / "cut.csv")] == ["x0.jpg", "x1.jpg", "x3.jpg", "x4.jpg"]
    assert (root / "agedb.csv").read_bytes() == before
    assert "agedb.csv: the subset is cut from it" in capsys.readouterr().out


def test_a_subset_has_no_image_twice(small, capsys):
    root, order, _ = small
    rows = ["30,x0.jpg,train", "30,x1.jpg,train", "32,./x0.jpg,train", "30,x1.jpg,test", "31,x2.jpg,train",
            "31,x3.jpg,val", "32,x4.jpg,test", "32,x4.jpg,test", "30,x5.jpg,train"]  # fmt: skip
    (root / "agedb.csv").write_text("\n".join(["age,path,split", *rows, ""]))
    assert run(root, "--drop-ages", "31", order=order) == 0
    assert [row["path"] for row in read(root / "agedb_drop_31.csv")] == [f"x{i}.jpg" for i in (0, 1, 3, 4, 5)]
    assert "Left out, as an earlier row has the same image: 3 rows." in capsys.readouterr().out


def test_subset_of_other_faces(tmp_path):
    lines = ["age,path", *(f"{30 + i % 3},{i}.png" for i in range(90))]
    (tmp_path / "in.csv").write_text("\n".join(lines))
    assert run(tmp_path, "--csv", tmp_path / "in.csv", "--drop-ages", "31") == 0
    rows = read(tmp_path / "agedb_drop_31.csv")
    assert counts(rows, "train") == {30: 10, 32: 10}
    assert counts(rows, "test") == counts(rows, "val") == {30: 10, 31: 10, 32: 10}


def test_peaks(tmp_path):
    ages = np.repeat(np.arange(20, 81), 100)
    splits = np.tile(np.repeat(["train", "test"], [80, 20]), 61)
    keep = Variant(peaks=(30, 60)).kept(ages, splits, seed=0)
    assert keep[splits == "test"].all()
    left = Counter(ages[keep & (splits == "train")].tolist())
    assert left[30] == left[60] == 80
    assert left[34] == left[26] == left[64] == round(80 * np.exp(-0.5))
    assert sorted(left) == [a for a in range(20, 81) if min(abs(a - 30), abs(a - 60)) <= PEAK_REACH]
    again = Variant(peaks=(30, 60)).kept(ages, splits, seed=0)
    other = Variant(peaks=(30, 60)).kept(ages, splits, seed=1)
    assert (keep == again).all()
    assert (keep != other).any() and keep.sum() == other.sum()


def test_test_rows_like_training(small):
    root, order, rows = small
    assert run(root, "--test-like-train", order=order) == 0
    kept = read(root / "agedb_test_like_train.csv")
    assert [r for r in kept if r["split"] != "test"] == [r for r in rows if r["split"] != "test"]
    train, test, before = counts(kept, "train"), counts(kept, "test"), counts(rows, "test")
    scale = min(before[age] / train[age] for age in before)
    assert test == {age: max(1, round(scale * train[age])) for age in before}
    assert len(set(test.values())) > 2  # the ages of `small` differ in number, and the balanced rows do less


@needs_real
def test_subsets_of_the_real_split(tmp_path):
    for flags in (["--peaks", "30,60"], ["--test-like-train"], ["--drop-ages", "40-49"]):
        assert run(tmp_path, "--csv", REAL, *flags) == 0
    real = read(REAL)
    liked = read(tmp_path / "agedb_test_like_train.csv")
    train, test = (np.array([counts(liked, s)[age] for age in range(102)]) for s in ("train", "test"))
    assert 1000 < test.sum() < 1100
    assert np.corrcoef(train, test)[0, 1] > 0.99
    assert np.corrcoef(train, [counts(real, "test")[age] for age in range(102)])[0, 1] < 0.85
    dropped = read(tmp_path / "agedb_drop_40-49.csv")
    assert len(real) - len(dropped) == sum(counts(real, "train")[age] for age in range(40, 50))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--drop-ages", "5"], "--drop-ages 5: no training row is of these ages"),
        (["--drop-ages", "0-200"], "--drop-ages 0-200: leaves fewer than two training rows"),
        (["--peaks", "180"], "--peaks 180: leaves fewer than two training rows"),
        (["--peaks", "30", "--test-like-train"], "--test-like-train: leaves no test data where"),
        (["--drop-ages", "31", "--out", "agedb.csv"], "is the whole data set, which a subset must not"),
    ],
)
def test_bad_subset(small, flags, message):
    root, order, _ = small
    flags = [root / flag if flag == "agedb.csv" else flag for flag in flags]
    with pytest.raises(UserError, match=message) as caught:
        run(root, *flags, order=order)
    assert "\n" not in str(caught.value)
    assert [path.name for path in root.iterdir()] == ["AgeDB"]


def test_no_subset_of_ages_that_are_not_whole(small):
    root, order, _ = small
    text = "age,path,split\n30.5,a,train\n30,b,train\n30,c,val\n30,d,test\n"
    (root / "agedb.csv").write_text(text)
    with pytest.raises(UserError, match=r"agedb\.csv: has ages that are not whole numbers"):
        run(root, "--drop-ages", "30", order=order)


@given(st.sets(st.integers(0, 200), min_size=1, max_size=60))
def test_ages_as_text_and_back(ages):
    assert parse_ages(spans(ages)) == tuple(sorted(ages))


def test_ages_as_text():
    assert spans([50, 20, 21, 22]) == "20-22,50"
    assert parse_ages(" 22-24 ,50,23") == (22, 23, 24, 50)


# --- git's id of a file


def test_blob_id():
    """As `git hash-object` says it."""
    assert blob_id(b"") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    assert blob_id(b"hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a"


# --- bad input


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], r"holds no image.*download.py agedb says how.*make_standin\.py agedb"),
        (["readme.txt"], "holds no image"),
        (
            ["1_A_30_m.jpg", "b.jpg", "2_C_30_x.jpg", "d_D_30_m.jpg", "3_E_30.jpg", "4_F_30_f.png"],
            r"5 of 6 images are not named .* \('2_C_30_x.jpg', '3_E_30.jpg', '4_F_30_f.png' and 2 more\)",
        ),
        (["1_A_121_m.jpg", "2_A_9_m.jpg"], r"1 of 2 images have an age outside 0 to 120 \('1_A_121_m.jpg'"),
        (["1_A_-1_m.jpg"], "outside 0 to 120"),
        (["7_A_30_m.jpg", "8_A_30_m.jpg", "7_B_31_f.jpg"], "have the number 7 .*'7_A_30_m.jpg' and '7_B_31"),
        (["1_A_30_m.jpg", "01_A_30_m.jpg"], "have the number 1 "),
        (["1_A_30_m.jpg", "2_A_30_m.jpg", "3_A_31_m.jpg"], "no age from 0 to 120 has three images"),
    ],
)
def test_bad_folder(tmp_path, names, message):
    make_images(tmp_path, names)
    with pytest.raises(UserError, match=message) as caught:
        run(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'AgeDB'}: ")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["AgeDB"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has names that are not text")
def test_name_that_is_not_utf8(tmp_path):
    make_images(tmp_path, ["1_A_30_m.jpg"])
    try:
        (tmp_path / "AgeDB" / os.fsdecode(b"2_St\x82phane_30_f.jpg")).touch()
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    with pytest.raises(UserError, match=r"1 of 2 images have names that are not UTF-8 .*convmv"):
        run(tmp_path)


def test_no_folder(tmp_path):
    with pytest.raises(UserError, match=r"AgeDB: there is no such folder.*download.py agedb.*make_standin"):
        run(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_bad_out(small):
    root, order, _ = small
    with pytest.raises(UserError, match=r"--out .*x\.png: does not end in \.csv"):
        run(root, "--out", root / "x.png", order=order)
    (root / "folder.csv").mkdir()
    with pytest.raises(UserError, match=r"folder\.csv: cannot be written"):
        run(root, "--out", root / "folder.csv", order=order)
    (root / "in.csv").write_text("age,path\n30,a\n30,b\n30,c\n")
    with pytest.raises(UserError, match="would be overwritten with its own rows"):
        run(root, "--csv", root / "in.csv", "--out", root / "in.csv", "--overwrite")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "required: name"),
        (["agebd"], "invalid choice: 'agebd'"),
        (["agedb", "--overwite"], "did you mean --overwrite?"),
        (["agedb", "--seed", "x"], "'x' is no whole number of at least 0"),
        (["agedb", "--drop-ages", "30-20"], "'30-20' is no age and no span of ages from 0 to 200, as in"),
        (["agedb", "--drop-ages", "20,"], "'' is no age"),
        (["agedb", "--peaks", "201"], "'201' is no age"),
        (["--check"], "required: name"),
        (["agedb", "--check", "--out", "x"], "unknown argument --out"),
    ],
)
def test_bad_flags(argv, message, capsys):
    with pytest.raises(SystemExit) as caught:
        prepare.main(argv)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_exit_code_and_one_line(tmp_path, capsys):
    argv = ["agedb", "--data_dir", str(tmp_path)]
    assert cli.run_command("scripts/prepare.py", lambda: prepare.main(argv)) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    assert told.err.startswith(f"scripts/prepare.py: error: {tmp_path / 'AgeDB'}: there is no such folder")
