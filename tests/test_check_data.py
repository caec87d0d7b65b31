"""scripts/prepare.py NAME --check: good folders pass, and every kind of damage is named."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import prepare
import pytest
from conftest import SHARED
from PIL import Image
from preparing.check import CHECKS
from preparing.report import PROTOCOL, Report, read_protocol
from preparing.splits import published_ids
from preparing.sts_b import read_order
from sts_corpus import write_corpus
from tiny_depth import tiny_nyud2

from common import cli
from common.datasets.depth import MASK, SUBSET_CSV, TEST_CSV, TRAIN_CSV, read_pairs
from common.errors import RunFailed, UserError

pytestmark = pytest.mark.slow

needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="needs the real files")


def mark(folder, dataset):
    told = {"dataset": dataset, "scale": 0.1, "seed": 0, "note": "made up", "many_above": 5, "few_below": 3}
    (folder / "standin.json").write_text(json.dumps(told))
    return folder


def check(name, folder):
    return prepare.main([name, "--check", "--data_dir", str(folder)])


def fails(name, folder, capsys):
    """The lines of a check that must fail, and its last line."""
    capsys.readouterr()
    with pytest.raises(RunFailed) as caught:
        check(name, folder)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  WRONG  ")]
    last = str(caught.value)
    assert "\n" not in last
    assert last.startswith(f"{folder}: {len(lines)} of ")
    return [line.removeprefix("  WRONG  ") for line in lines]


# --- faces


@pytest.fixture
def faces(tmp_path):
    """A stand-in of 60 faces of six ages, split as the rule would."""
    rows = []
    for row in range(60):
        path, split = f"AgeDB/{row}.png", ("train", "train", "train", "val", "test")[row // 6 % 5]
        (tmp_path / path).parent.mkdir(exist_ok=True)
        pixels = np.random.default_rng(row).integers(0, 255, (20, 20, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / path)
        rows.append((20 + row % 6, path, split))
    write(tmp_path, rows)
    return mark(tmp_path, "agedb")


def write(folder, rows):
    with (folder / "agedb.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("age", "path", "split"), *rows])


def read(folder):
    with (folder / "agedb.csv").open(newline="") as stream:
        return list(csv.reader(stream))[1:]


def test_good_faces(faces, capsys):
    before = sorted(faces.rglob("*"))
    assert check("agedb", faces) == 0
    told = capsys.readouterr().out
    assert "Stand-in, not the real data: agedb at scale 0.1" in told
    assert "against itself, not against the paper's Table 7" in told
    assert "train rows: 36" in told and "Many (> 5)" in told
    assert f"{faces}: all is well, 13 checks" in told
    assert "WRONG" not in told
    assert sorted(faces.rglob("*")) == before


def test_bad_images_are_named(faces, capsys):
    (faces / "AgeDB" / "3.png").unlink()
    whole = (faces / "AgeDB" / "4.png").read_bytes()
    (faces / "AgeDB" / "4.png").write_bytes(whole[: len(whole) // 2])
    (faces / "AgeDB" / "5.png").write_text("<html>no such page</html>")
    missing, damaged = fails("agedb", faces, capsys)
    assert missing == "1 of 60 images are missing: AgeDB/3.png"
    assert damaged.startswith("2 of 60 images are damaged: AgeDB/4.png cannot be read (")
    assert "AgeDB/5.png is not an image" in damaged


def test_images_in_two_splits_are_named(faces, capsys):
    rows = read(faces)
    val = next(row for row in rows if row[2] == "val")
    train = [row for row in rows if row[2] == "train"]
    write(faces, [*rows, (val[0], f"./{val[1]}", "train"), train[0]])
    both, twice = fails("agedb", faces, capsys)
    assert both == f"1 of 60 images stand in more than one split: {val[1]}"
    assert twice == f"1 of 60 images stand twice in a split: {train[0][1]}"


def test_a_split_that_is_not_balanced(faces, capsys):
    rows = read(faces)
    lost = next(row for row in rows if row[2] == "val")
    rows.remove(lost)
    write(faces, rows)
    assert fails("agedb", faces, capsys) == [
        f"1 of 201 bins of labels differ in number between val and test: {lost[0]}"
    ]


def test_broken_csv_and_no_csv(faces, capsys):
    (faces / "agedb.csv").write_text("age,path,split\nx,a.png,train\n")
    assert "age is not a number (line 2: 'x')" in fails("agedb", faces, capsys)[0]
    (faces / "agedb.csv").unlink()
    assert "agedb.csv: there is no such file" in fails("agedb", faces, capsys)[0]


def test_data_that_are_no_stand_in_are_held_to_the_paper(faces, capsys):
    (faces / "standin.json").unlink()
    wrong = fails("agedb", faces, capsys)
    assert "train rows: 36, where the paper's data have 12,208" in wrong
    assert (
        "test rows, many / medium / few: 0 / 0 / 12, where the paper's data have 1,530 / 448 / 162" in wrong
    )
    assert "agedb.csv: is not the published split" in wrong
    assert not any("images" in line for line in wrong)
    wrong = fails("imdb-wiki", faces, capsys)
    assert "imdb_wiki.csv: there is no such file" in wrong[0]


@needs_shared
def test_real_agedb_without_its_images(tmp_path, capsys):
    """All but the images is as published, to the last number of the paper's Table 7."""
    shutil.copy(SHARED / "data" / "agedb" / "agedb.csv", tmp_path)
    wrong = fails("agedb", tmp_path, capsys)
    assert len(wrong) == 1
    assert wrong[0].startswith("16,488 of 16,488 images are missing: AgeDB/")
    rows = read(tmp_path)
    rows[5][0] = str(int(rows[5][0]) + 1)
    write(tmp_path, rows)
    assert "agedb.csv: is not the published split" in fails("agedb", tmp_path, capsys)


# --- sentence pairs


@pytest.fixture
def pairs(tmp_path):
    """A stand-in whose validation and test splits are balanced, and share no pair with another."""
    write_corpus(tmp_path)
    text = (tmp_path / "dev_new.tsv").read_text(encoding="utf-8")
    (tmp_path / "test_new.tsv").write_text(text.replace("word", "Word"), encoding="utf-8")
    return tmp_path


def test_good_pairs(pairs, capsys):
    assert check("sts-b", pairs) == 0
    told = capsys.readouterr().out
    assert "val rows: 40" in told and "sentence pairs in more than one split: 0" in told
    assert "against itself" in told and "all is well" in told


def test_damaged_pairs(pairs, capsys):
    file = pairs / "train_new.tsv"
    whole = file.read_bytes()
    file.write_bytes(whole[:-20])
    wrong = fails("sts-b", pairs, capsys)
    assert len(wrong) == 1 and wrong[0].startswith(f"{file}, line 121: ")
    file.unlink()
    assert fails("sts-b", pairs, capsys) == [
        "train_new.tsv: not there; python scripts/prepare.py sts-b writes them"
    ]
    file.write_bytes(whole)
    lines = (pairs / "dev_new.tsv").read_bytes().split(b"\n")
    (pairs / "dev_new.tsv").write_bytes(b"\n".join([*lines[:-2], b""]))
    assert "differ in number between val and test" in fails("sts-b", pairs, capsys)[0]


@needs_shared
def test_real_pairs(tmp_path, capsys):
    for file in (SHARED / "data" / "sts-b").glob("*.tsv"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    assert check("sts-b", tmp_path) == 0
    told = capsys.readouterr().out
    assert "bins, many / medium / few: 22 / 7 / 21" in told
    assert "sentence pairs in more than one split: 23" in told
    test = (tmp_path / "test_new.tsv").read_bytes().split(b"\n")
    train = (tmp_path / "train_new.tsv").read_bytes().split(b"\n")
    copied = b"\t".join([*test[9].split(b"\t")[:7], *train[9].split(b"\t")[7:9], test[9].split(b"\t")[9]])
    (tmp_path / "test_new.tsv").write_bytes(b"\n".join([*test[:9], copied, *test[10:]]))
    (tmp_path / "train.tsv").write_bytes((tmp_path / "train.tsv").read_bytes()[:-1])
    wrong = fails("sts-b", tmp_path, capsys)
    assert [line.split(":")[0] for line in wrong] == [
        "train.tsv", "test_new.tsv", "sentence pairs in more than one split",
    ]  # fmt: skip
    assert wrong[2].endswith("24, where the paper's data have 23")


# --- depth


@pytest.fixture
def depth(tmp_path):
    """A tiny NYUD2 stand-in with a mask of the published rule."""
    folder = mark(tiny_nyud2(tmp_path), "nyud2")
    assert prepare.main(["nyud2", "--data_dir", str(folder), "--overwrite"]) == 0
    return folder


def test_good_depth(depth, capsys):
    capsys.readouterr()
    assert check("nyud2", depth) == 0
    told = capsys.readouterr().out
    assert "training images: 12" in told and "test images: 4" in told
    assert "masked test pixels of each depth bin: " in told
    assert "depth_counts.json: 0 of " in told
    assert "all is well" in told


def test_damaged_depth(depth, capsys):
    train, test = (read_pairs(depth, name) for name in (TRAIN_CSV, TEST_CSV))
    train[0].image.unlink()
    train[1].depth.write_bytes(train[1].depth.read_bytes()[:200])
    Image.new("L", (30, 20)).save(train[2].depth)
    shutil.copy(test[0].depth, train[3].depth)
    shutil.copy(train[4].depth, test[0].depth)
    lists = fails("nyud2", depth, capsys)
    assert [line.split(" cannot")[0] for line in lists] == [
        f"4 of 12 pairs of {TRAIN_CSV}", f"1 of 4 pairs of {TEST_CSV}",
    ]  # fmt: skip
    assert f"{train[0].image}: there is no such file" in lists[0]
    assert f"{train[1].depth}: cannot be read" in lists[0]
    assert "differ in size (160 x 120 and 30 x 20)" in lists[0]
    assert "8-bit grey (training depth" not in lists[0]  # only the first three are named
    assert "is a 'L' image, where 16-bit grey" in lists[1]


def test_depth_lists_that_do_not_fit(depth, capsys):
    train = (depth / TRAIN_CSV).read_text().splitlines()
    test = (depth / TEST_CSV).read_text().splitlines()
    (depth / SUBSET_CSV).write_text(f"{train[0]}\n{test[0]}\n")
    assert fails("nyud2", depth, capsys) == [
        f"1 of 2 rows of {SUBSET_CSV} are not in {TRAIN_CSV}: {read_pairs(depth, TEST_CSV)[0].image}"
    ]
    (depth / SUBSET_CSV).unlink()
    (depth / TRAIN_CSV).write_text("\n".join([*train, train[3], ""]))
    subset, twice, counts = fails("nyud2", depth, capsys)
    assert f"{SUBSET_CSV}: there is no such file" in subset
    assert twice.startswith(f"1 of 13 rows of {TRAIN_CSV} were there before")
    assert counts.startswith("depth_counts.json: ") and " training pixels differ" in counts


def test_mask_that_does_not_fit(depth, capsys):
    mask = np.load(depth / MASK)
    np.save(depth / MASK, mask[:3])
    assert "has shape (3, 228, 304) and type uint8, not (4, 228, 304)" in fails("nyud2", depth, capsys)[0]
    np.save(depth / MASK, mask[::-1])
    assert "where each should give as many" in fails("nyud2", depth, capsys)[0]
    (depth / MASK).write_bytes(b"\x93NUMPY")
    assert f"{MASK}: cannot be read" in fails("nyud2", depth, capsys)[0]
    (depth / MASK).unlink()
    assert f"{MASK}: there is no such file" in fails("nyud2", depth, capsys)[0]


def test_real_depth_would_be_held_to_the_paper(depth, capsys):
    (depth / "standin.json").unlink()
    wrong = fails("nyud2", depth, capsys)
    assert "training images: 12, where the paper's data have 50,688" in wrong
    assert any(line.startswith("nyud2_counts.json: ") for line in wrong)
    assert any(line.startswith(f"{SUBSET_CSV}: is not the published file") for line in wrong)
    assert any(line.startswith(f"{MASK}: is not the published file") for line in wrong)


# --- the command


def test_no_folder(tmp_path):
    with pytest.raises(
        UserError, match=r"nowhere: there is no such folder; python scripts/download\.py agedb"
    ):
        check("agedb", tmp_path / "nowhere")


def test_exit_code_and_one_line(faces):
    """As a user calls it; the flag may stand before the name."""
    (faces / "AgeDB" / "3.png").unlink()
    argv = [sys.executable, "scripts/prepare.py", "--check", "agedb", "--data_dir", str(faces)]
    done = subprocess.run(argv, cwd=cli.ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    told = f"{faces}: 1 of 13 checks failed: 1 of 60 images are missing: AgeDB/3.png"
    assert done.stderr == f"scripts/prepare.py: error: {told}\n"


def test_ctrl_c_stops_at_once(faces):
    """Threads have hundreds of images yet to read; none of them is waited for."""
    rows = read(faces)
    write(faces, [*rows, *((20, f"AgeDB/fifo{number}.png", "train") for number in range(300))])
    code = (
        "import common.images.decode, prepare, sys, time\n"
        "real = common.images.decode.decode\n"
        "def slow(*args):\n"
        "    print('reading', flush=True)\n"
        "    time.sleep(0.2)\n"
        "    return real(*args)\n"
        "common.images.decode.decode = slow\n"
        f"sys.exit(prepare.main(['agedb', '--check', '--data_dir', {str(faces)!r}]))"
    )
    path = os.pathsep.join([str(cli.ROOT / "scripts"), str(cli.ROOT)])
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    while "reading" not in child.stdout.readline():
        assert child.poll() is None
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert err == "scripts/prepare.py: stopped; nothing was left half-written\n"
    assert out.count("reading") < 40


# --- the facts


@needs_shared
def test_facts_are_those_of_the_paper():
    paper = json.loads((SHARED / "paper" / "protocol.json").read_text())["datasets"]
    for name, title in (("agedb", "AgeDB-DIR"), ("imdb-wiki", "IMDB-WIKI-DIR"), ("sts-b", "STS-B-DIR")):
        ours, theirs = read_protocol(name), paper[title]
        assert {split: ours[split] for split in ("train", "val", "test")} == theirs["n"]
        assert (ours["largest"], ours["smallest"]) == (theirs["max_bin"], theirs["min_bin"])
    depth = read_protocol("nyud2")
    assert (depth["train"], depth["test"]) == (50688, 654)
    assert f"{depth['mask_bins']} bins x {depth['mask']}" in paper["NYUD2-DIR"]["n"]["test_pixels"]


def test_every_data_set_has_a_check_and_facts():
    assert set(CHECKS) == set(prepare.DATASETS) == set(json.loads(PROTOCOL.read_text())) - {"about"}


def test_ids_agree_with_those_that_downloads_are_held_to():
    ids = published_ids()
    assert {name: wanted for name, wanted in read_order().ids.items() if name in ids} == {
        name: ids[name] for name in ("train_new.tsv", "dev_new.tsv", "test_new.tsv")
    }
    assert {"imdb_wiki.csv", "agedb.csv", SUBSET_CSV, MASK} <= set(ids)


def test_report_counts(capsys):
    report = Report({"rows": 5})
    report.expect("rows", 5, "rows")
    report.expect("bins", (1, 2000), "bins")
    report.none_of("files", 3, "are missing", [])
    report.expect("rows", 1234, "rows")
    assert (report.checks, report.faults) == (4, ["rows: 1,234, where the paper's data have 5"])
    assert capsys.readouterr().out.splitlines()[:3] == [
        "  ok     rows: 5", "  ok     bins: 1 / 2,000", "  ok     none of 3 files are missing",
    ]  # fmt: skip
