"""The stand-ins: formats, histograms, splits, determinism, and what the command refuses."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import make_standin
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, SHARED
from make_standin import main
from PIL import Image
from preparing.splits import balanced_split
from standin.faces import Face, contact_sheet, draw
from standin.looks import CUES, apparent_ages

from common.cli import run_command
from common.errors import RunFailed, UserError

pytestmark = pytest.mark.slow

HISTOGRAMS = json.loads((ROOT / "data" / "histograms.json").read_text(encoding="utf-8"))
STS_FILES = {"train": "train_new.tsv", "val": "dev_new.tsv", "test": "test_new.tsv"}
STS_HEADER = "index genre filename year old_index source1 source2 sentence1 sentence2 score"
STS_COLUMNS = STS_HEADER.split()
AGEDB_SCALE, IMDB_SCALE, STS_SCALE = 0.01, 0.001, 0.1


def ages_of(name):
    return [int(age) for age, count in HISTOGRAMS[name].items() for _ in range(count)]


def make(name, out, scale, *more):
    assert main([name, "--out", str(out), "--scale", str(scale), *more]) == 0
    return out


def contents(folder):
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


@pytest.fixture(scope="module")
def agedb(tmp_path_factory):
    return make("agedb", tmp_path_factory.mktemp("standin") / "agedb", AGEDB_SCALE, "--img_size", "32")


@pytest.fixture(scope="module")
def imdb_wiki(tmp_path_factory):
    out = tmp_path_factory.mktemp("standin") / "imdb-wiki"
    return make("imdb-wiki", out, IMDB_SCALE, "--img_size", "32")


@pytest.fixture(scope="module")
def sts_b(tmp_path_factory):
    return make("sts-b", tmp_path_factory.mktemp("standin") / "sts-b", STS_SCALE)


# ---- the facts ------------------------------------------------------------------------------------------


def test_the_sts_b_histogram_is_that_of_the_golden_weights(golden):
    assert HISTOGRAMS["sts-b"] == json.loads((golden / "sts_weights.json").read_text())["counts"]


def test_the_imdb_wiki_approximation_says_so_and_has_the_numbers_of_table_7():
    ages = ages_of("imdb-wiki")
    splits = np.array(balanced_split(ages, 150))
    train = Counter(np.array(ages)[splits == "train"].tolist())
    assert "APPROXIMATION" in HISTOGRAMS["about"]["imdb-wiki"]
    assert Counter(splits.tolist()) == {"train": 191_509, "val": 11_022, "test": 11_022}
    assert (min(ages), max(ages)) == (0, 186)
    assert max(train.values()) == 7_149
    assert min(train.values()) == 1


def test_the_agedb_histogram_has_the_published_sizes():
    splits = Counter(balanced_split(ages_of("agedb"), 30))
    assert splits == {"train": 12_208, "val": 2_140, "test": 2_140}


@pytest.mark.skipif(not (SHARED / "data/agedb/agedb.csv").exists(), reason="needs the published agedb.csv")
def test_the_agedb_histogram_and_split_are_the_published_ones():
    real = pd.read_csv(SHARED / "data/agedb/agedb.csv")
    assert Counter(real["age"].tolist()) == Counter(ages_of("agedb"))
    assert balanced_split(real["age"].tolist(), 30) == real["split"].tolist()


def test_the_split_rule_on_a_small_case():
    ages = [30] * 7 + [121] * 4 + [31] * 2 + [32] * 3
    shown = [split[0] + split[1] for split in balanced_split(ages, 1)]
    assert Counter(shown[:7]) == {"va": 1, "te": 1, "tr": 5}  # capped at 1, though 7 // 3 is 2
    assert set(shown[7:11]) == {"tr"}  # above 120: training only
    assert set(shown[11:13]) == {"tr"}  # two rows: none to spare
    assert sorted(shown[13:]) == ["te", "tr", "va"]
    # From the published steps, taken literally: random.seed(666), one shuffle of the paths of each age.
    assert " ".join(shown) == "te va tr tr tr tr tr tr tr tr tr tr tr tr va te"


# ---- faces ----------------------------------------------------------------------------------------------


def expected_counts(name, scale):
    return {int(age): max(1, round(count * scale)) for age, count in HISTOGRAMS[name].items()}


def test_agedb_has_the_published_layout_and_the_scaled_histogram(agedb):
    table = pd.read_csv(agedb / "agedb.csv")
    assert list(table.columns) == ["age", "path", "split"]
    assert Counter(table["age"].tolist()) == expected_counts("agedb", AGEDB_SCALE)
    found = [re.fullmatch(r"AgeDB/(\d+)_[A-Za-z]+_(\d+)_[mf]\.jpg", path) for path in table["path"]]
    assert all(found)
    assert [int(match[2]) for match in found] == table["age"].tolist()
    assert sorted(int(match[1]) for match in found) == list(range(len(table)))
    assert table["split"].tolist() == balanced_split(table["age"].tolist(), 1)


def test_imdb_wiki_has_the_published_layout_and_the_scaled_histogram(imdb_wiki):
    table = pd.read_csv(imdb_wiki / "imdb_wiki.csv")
    assert list(table.columns) == ["age", "path", "split"]
    assert Counter(table["age"].tolist()) == expected_counts("imdb-wiki", IMDB_SCALE)
    assert table["path"].is_unique
    assert table["path"].str.fullmatch(r"(imdb|wiki)_crop/\d\d/[^/]+\.jpg").all()
    assert table["path"].str.startswith("imdb_crop/").mean() == pytest.approx(0.88, abs=0.04)
    assert table["split"].tolist() == balanced_split(table["age"].tolist(), 1)


@pytest.mark.parametrize(("name", "csv"), [("agedb", "agedb.csv"), ("imdb_wiki", "imdb_wiki.csv")])
def test_each_row_has_its_image_and_there_are_no_others(name, csv, request):
    folder = request.getfixturevalue(name)
    paths = pd.read_csv(folder / csv)["path"].tolist()
    assert sorted(str(f.relative_to(folder)) for f in folder.rglob("*.jpg")) == sorted(paths)
    for path in paths:
        with Image.open(folder / path) as image:
            assert (image.format, image.size, image.mode) == ("JPEG", (32, 32), "RGB")


def test_what_a_face_stand_in_says_of_itself(agedb, imdb_wiki):
    told = json.loads((agedb / "standin.json").read_text())
    assert (told["dataset"], told["scale"], told["seed"], told["img_size"]) == ("agedb", 0.01, 0, 32)
    assert (told["many_above"], told["few_below"]) == pytest.approx((1.0, 0.2))
    assert "no photographs" in told["note"]
    assert "approximate" in json.loads((imdb_wiki / "standin.json").read_text())["note"]


@pytest.mark.parametrize("size", [32, 47, 224])
def test_a_face_can_be_drawn_at_any_size(size):
    for age in (0, 1, 35, 101, 186):
        image, quality = draw(Face("x.jpg", age, 3, True), 5, 0, size)
        assert image.size == (size, size)
        assert np.asarray(image).std() > 5
        assert 60 <= quality < 96


def test_a_face_changes_little_in_a_year_and_much_in_fifty():
    """The same people in the same light, so that nothing but age differs."""

    def pixels(age):
        faces = (Face("x.jpg", age, person, bool(person % 2)) for person in range(8))
        return np.stack([np.asarray(draw(face, 9, 0, 32)[0], float) for face in faces])

    start = pixels(30)
    apart = [np.abs(pixels(age) - start).mean() for age in (31, 40, 80)]
    assert apart[0] < apart[1] < apart[2]
    assert apart[0] < 0.35 * apart[2]


def test_each_group_of_cues_is_off_by_about_four_years_on_its_own():
    shown = [
        apparent_ages(50, np.random.default_rng([0, i]), np.random.default_rng([1, i])) for i in range(800)
    ]
    off = np.array([[ages[cue] - 50 for cue in CUES] for ages in shown])
    assert np.allclose(off.std(0), 4.0, atol=0.4)
    assert np.abs(off.mean(0)).max() < 0.5
    assert np.abs(np.corrcoef(off.T) - np.eye(len(CUES))).max() < 0.15


def test_the_contact_sheet_holds_every_face_in_order_of_age(agedb, tmp_path):
    table = pd.read_csv(agedb / "agedb.csv").drop_duplicates("age").head(14)
    pictures = [(agedb / row.path, row.age) for row in table.itertuples()]
    contact_sheet(pictures, tmp_path / "one.png", columns=7, side=40)
    contact_sheet(pictures[::-1], tmp_path / "two.png", columns=7, side=40)
    with Image.open(tmp_path / "one.png") as image:
        assert image.size == (7 * 44, 2 * 58)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


# ---- sentences ------------------------------------------------------------------------------------------


def read_sts(folder, split):
    lines = (folder / STS_FILES[split]).read_text(encoding="utf-8").splitlines()
    assert lines[0].split("\t") == STS_COLUMNS
    rows = [line.split("\t") for line in lines[1:]]
    assert {len(row) for row in rows} == {len(STS_COLUMNS)}
    return pd.DataFrame(rows, columns=STS_COLUMNS)


def test_sts_b_has_the_published_columns(sts_b):
    for split in STS_FILES:
        table = read_sts(sts_b, split)
        assert table["index"].tolist() == [str(i) for i in range(len(table))]
        assert table["score"].str.fullmatch(r"\d\.\d{3}").all()
        for column in ("sentence1", "sentence2"):
            assert table[column].str.len().min() > 10


def test_sts_b_training_scores_follow_the_real_histogram(sts_b):
    scores = read_sts(sts_b, "train")["score"].astype(np.float32).to_numpy()
    bins = np.minimum((scores * np.float32(10)).astype(int), 49)
    wanted = [max(1, round(count * STS_SCALE)) for count in HISTOGRAMS["sts-b"]]
    assert np.bincount(bins, minlength=50).tolist() == wanted


@pytest.mark.parametrize("split", ["val", "test"])
def test_sts_b_is_balanced_where_it_is_evaluated(sts_b, split):
    scores = read_sts(sts_b, split)["score"].astype(float)
    assert np.histogram(scores, 20, (0, 5))[0].tolist() == [round(50 * STS_SCALE)] * 20


def test_every_word_has_a_vector_and_the_vectors_tell_the_score(sts_b):
    lines = (sts_b / "glove.standin.50d.txt").read_text(encoding="utf-8").splitlines()
    vectors = {line.split(" ")[0]: np.array(line.split(" ")[1:], float) for line in lines}
    assert {len(vector) for vector in vectors.values()} == {50}
    table = read_sts(sts_b, "train")

    def mean(text):
        return np.mean([vectors[word] for word in re.findall(r"\w+|[.,]", text)], axis=0)

    pairs = [(mean(row.sentence1), mean(row.sentence2)) for row in table.itertuples()]
    likeness = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in pairs]
    correlation = np.corrcoef(likeness, table["score"].astype(float))[0, 1]
    assert 0.6 < correlation < 0.99


def test_what_the_sentence_stand_in_says_of_itself(sts_b):
    told = json.loads((sts_b / "standin.json").read_text())
    assert (told["dataset"], told["scale"], told["seed"]) == ("sts-b", STS_SCALE, 0)
    assert (told["many_above"], told["few_below"]) == pytest.approx((10, 3))
    assert "no real sentences" in told["note"]


# ---- the command ----------------------------------------------------------------------------------------


def test_the_same_arguments_give_the_same_bytes_and_another_seed_others(tmp_path, agedb, sts_b):
    again = make("agedb", tmp_path / "a", AGEDB_SCALE, "--img_size", "32")
    assert contents(again) == contents(agedb)
    assert contents(make("sts-b", tmp_path / "s", STS_SCALE)) == contents(sts_b)
    other = contents(make("sts-b", tmp_path / "t", STS_SCALE, "--seed", "1"))
    assert all(other[name] != content for name, content in contents(sts_b).items())


def test_scale_1_is_the_real_histogram():
    assert all(make_standin.scaled(count, 1.0) == count for count in [0, 1, 2, 353, 7449])


def test_a_stand_in_that_is_there_is_left_as_it_is(tmp_path, capsys):
    out = make("sts-b", tmp_path / "s", 0.02)
    before = {f: f.stat().st_mtime_ns for f in out.iterdir()}
    make("sts-b", out, 0.02)
    assert "already" in capsys.readouterr().out
    assert {f: f.stat().st_mtime_ns for f in out.iterdir()} == before


@pytest.mark.parametrize("flag", [("--scale", "0.03"), ("--seed", "1")])
def test_another_stand_in_is_not_replaced(tmp_path, flag):
    out = make("sts-b", tmp_path / "s", 0.02)
    before = contents(out)
    with pytest.raises(UserError, match="another stand-in"):
        main(["sts-b", "--out", str(out), "--scale", "0.02", *flag])
    assert contents(out) == before


@pytest.mark.parametrize("there", ["train_new.tsv", "standin.json"])
def test_real_data_are_not_mixed_with_made_up_ones(tmp_path, there):
    (tmp_path / there).write_text("{ not ours")
    with pytest.raises(UserError, match="holds other data"):
        main(["sts-b", "--out", str(tmp_path), "--scale", "0.02"])
    assert contents(tmp_path) == {there: b"{ not ours"}


def test_an_empty_folder_may_be_filled(tmp_path):
    (tmp_path / "empty").mkdir()
    assert (make("sts-b", tmp_path / "empty", 0.02) / "standin.json").is_file()


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt, 130), (RunFailed, 1)])
def test_a_stopped_run_leaves_nothing(tmp_path, monkeypatch, capsys, error, code):
    def write_half(folder: Path, *_):
        (folder / "train_new.tsv").write_text("half")
        raise error

    monkeypatch.setattr(make_standin, "write_corpus", write_half)
    arguments = ["sts-b", "--out", str(tmp_path / "s"), "--scale", "0.02"]
    assert run_command("make_standin.py", lambda: main(arguments)) == code
    assert capsys.readouterr().err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "wrong",
    ["--scale 0", "--scale -1", "--scale 1.1", "--scale nan", "--seed -1", "--img_size 8", "--sca 0.1"],
)
def test_wrong_flags_are_refused_in_one_line(tmp_path, capsys, wrong):
    with pytest.raises(SystemExit) as stop:
        main(["agedb", "--out", str(tmp_path / "a"), *wrong.split()])
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


RUN_ALL = """
import contextlib, io, json, runpy, sys
ended = []
for call in json.loads(sys.argv[2]):
    sys.argv[1:] = call
    with contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            runpy.run_path(SCRIPT, run_name="__main__")
        except SystemExit as stop:
            ended.append((stop.code, err.getvalue()))
print(json.dumps(ended))
"""


def test_exit_codes_of_the_command(tmp_path):
    """The script as a user calls it, four times in one process: importing it takes seconds."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "agedb.csv").write_text("age,path,split\n")
    out = ["--out", str(tmp_path / "x")]
    calls = {
        "--scale": ["sts-b", *out, "--scale", "2"],
        "nyud3": ["nyud3", *out],
        "--colour": ["agedb", *out, "--colour", "red"],
        "other data": ["agedb", "--out", str(tmp_path / "real")],
    }
    program = RUN_ALL.replace("SCRIPT", repr(str(ROOT / "scripts" / "make_standin.py")))
    path = os.pathsep.join([str(ROOT / "scripts"), str(ROOT)])  # this copy's code, whatever is installed
    run = subprocess.run(
        [sys.executable, "-c", program, "", json.dumps(list(calls.values()))],
        capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    for (word, _), (code, err) in zip(calls.items(), json.loads(run.stdout), strict=True):
        assert (code, err.count("\n")) == (2, 1), err
        assert "make_standin.py: error: " in err
        assert word in err
    assert not (tmp_path / "x").exists()
