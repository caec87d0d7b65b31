"""The stand-ins as their readers see them, and how the command ends; test_standin.py has the formats."""

import csv
import json
import os
import signal
import time
from collections import Counter
from pathlib import Path

import make_standin
import numpy as np
import pytest
import sts_text
from PIL import Image
from standin import text as standin_text

from common import cli
from common.datasets.standin import read_standin
from common.errors import UserError
from common.report import stop_logging

pytestmark = pytest.mark.slow

PROG = "scripts/make_standin.py"
AGEDB = ["agedb", "--scale", "0.002", "--img_size", "16"]  # 119 faces: some of each age
STS = ["sts-b", "--scale", "0.05"]
STANDINS = {"agedb": AGEDB, "sts-b": STS}


def call(*argv):
    """The exit code of `make_standin.py argv`, run in this process."""
    try:
        return cli.run_command(PROG, lambda: make_standin.main([str(word) for word in argv]))
    except SystemExit as end:
        return end.code
    finally:
        stop_logging()


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """`drawn(name)`: the folder of a small stand-in, drawn once."""
    root, done = tmp_path_factory.mktemp("standins"), {}

    def get(name):
        if name not in done:
            done[name] = root / name
            assert call(*STANDINS[name], "--out", done[name], "--contact_sheet", root / f"{name}.png") == 0
        return done[name]

    return get


def content(folder):
    """Every file of a folder by its relative path, as bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rows_of(folder):
    with (folder / "agedb.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# Faces


def test_no_two_faces_are_the_same_none_is_blank_and_another_seed_draws_others(drawn, tmp_path):
    assert call(*AGEDB, "--seed", "1", "--out", tmp_path / "other") == 0
    pictures = [file for folder in (drawn("agedb"), tmp_path / "other") for file in folder.rglob("*.jpg")]
    assert len(pictures) == 2 * len(rows_of(drawn("agedb")))
    assert len({file.read_bytes() for file in pictures}) == len(pictures)
    for file in pictures:
        with Image.open(file) as image:
            assert np.asarray(image).std() > 5, file


def test_at_full_scale_the_csv_has_the_real_ages_and_the_published_split(tmp_path, monkeypatch):
    """As far as the CSV goes: nothing is drawn."""

    class Nobody:
        def __init__(self, *args, **how):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *how):
            return None

        def imap_unordered(self, work, jobs, chunksize):
            return iter(())

    monkeypatch.setattr(make_standin, "Pool", Nobody)
    assert call("agedb", "--scale", "1", "--out", tmp_path / "full") == 0
    rows = rows_of(tmp_path / "full")
    assert Counter(row["split"] for row in rows) == {"train": 12208, "val": 2140, "test": 2140}
    assert Counter(int(row["age"]) for row in rows) == make_standin.histogram("agedb")
    tested = Counter(row["age"] for row in rows if row["split"] == "test")
    assert max(tested.values()) == 30
    standin = read_standin(tmp_path / "full")
    assert (standin.many_above, standin.few_below) == (100, 20)


def test_a_contact_sheet_shows_ages_in_order(drawn, tmp_path):
    sheet = drawn("agedb").parent / "agedb.png"
    with Image.open(sheet) as image:
        assert image.format == "PNG"
        assert image.width == 12 * 92
        assert image.height == 5 * 106  # 60 faces
        assert np.asarray(image.convert("L")).std() > 20
    assert call(*AGEDB, "--out", tmp_path / "new", "--contact_sheet", tmp_path / "sub" / "sheet.png") == 0
    assert (tmp_path / "sub" / "sheet.png").read_bytes() == sheet.read_bytes()


# Sentences


def pairs(folder, split):
    return sts_text.read_pairs(folder / sts_text.SPLIT_FILES[split])


def test_at_full_scale_the_corpus_has_the_real_sizes(tmp_path):
    real = list(make_standin.histogram("sts-b").values())
    counts = [make_standin.scaled(count, 1.0) for count in real]
    assert counts == real
    standin_text.write_corpus(tmp_path, counts, 50, 0)
    assert [len(pairs(tmp_path, split).scores) for split in ("train", "val", "test")] == [5249, 1000, 1000]


def test_every_word_has_a_vector(drawn):
    words = sts_text.load_corpus(drawn("sts-b"), 40, 30000).vocabulary
    path = drawn("sts-b") / standin_text.VECTORS
    vectors, found = sts_text.load_word_vectors(path, words, 50, lowercase=False, seed=0)
    assert vectors.shape == (len(words), 50)
    assert found == len(words) - 2  # all but padding and unknown
    assert standin_text.SPLIT_FILES == sts_text.SPLIT_FILES


def meanings(sentence):
    """The meaning of each slot of a sentence: the longest way of saying it that the sentence has."""
    text, found = sentence.lower(), []
    for _, choices in standin_text.SLOTS.values():
        ways = {way: number for number, ways in enumerate(choices) for way in ways}
        found.append(ways[max((way for way in ways if way.lower() in text), key=len)])
    return np.array(found)


def test_the_score_is_how_much_of_the_meaning_is_shared(drawn):
    """No model: the share of slots that agree, and, in part, the words that both sentences have."""
    shares = np.array([share for share, _ in standin_text.SLOTS.values()])
    assert shares.sum() == pytest.approx(5)
    split = pairs(drawn("sts-b"), "train")
    agree = np.array([meanings(a) == meanings(b) for a, b in zip(split.first, split.second, strict=True)])
    assert np.corrcoef(agree @ shares, split.scores)[0, 1] > 0.95
    assert np.abs(agree @ shares - split.scores).mean() < 0.3
    bags = [[set(sts_text.tokenize(s.lower())) for s in side] for side in (split.first, split.second)]
    overlap = [len(a & b) / len(a | b) for a, b in zip(*bags, strict=True)]
    assert 0.5 < np.corrcoef(overlap, split.scores)[0, 1] < 0.95  # not all there is to it
    assert sum(a == b for a, b in zip(split.first, split.second, strict=True)) < 0.05 * len(split.scores)


# standin.json


@pytest.mark.parametrize(("name", "many", "few"), [("agedb", 0.2, 0.04), ("sts-b", 5.0, 1.5)])
def test_standin_json_has_the_scaled_thresholds(drawn, name, many, few):
    standin = read_standin(drawn(name))
    assert (standin.many_above, standin.few_below) == (pytest.approx(many), pytest.approx(few))
    told = json.loads((drawn(name) / "standin.json").read_text())
    assert told["scale"] == float(STANDINS[name][2])
    assert standin.note == f"{name} at scale {told['scale']:g}, seed 0: {told['note']}"
    assert "no photographs" in standin.note or "no real sentences" in standin.note


@pytest.mark.parametrize("change", ["", "{", "[]", "{}", '{"dataset": "agedb"}', "scale", "many_above"])
def test_a_broken_standin_json_is_an_error_and_no_real_data(drawn, tmp_path, change):
    told = json.loads((drawn("agedb") / "standin.json").read_text())
    path = tmp_path / "standin.json"
    path.write_text(json.dumps(told | {change: "x"}) if change in told else change)
    with pytest.raises(UserError, match=r"standin\.json: is broken"):
        read_standin(tmp_path)
    path.unlink()
    assert read_standin(tmp_path) == (None, None, None)


# All or nothing


def test_an_empty_folder_a_link_to_one_and_the_current_one_will_do(tmp_path, monkeypatch):
    for name in ("empty", "here"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    (tmp_path / "there").mkdir()
    assert call(*STS, "--out", tmp_path / "empty") == 0
    assert call(*STS, "--out", tmp_path / "link") == 0
    assert (tmp_path / "link").is_symlink()
    assert content(tmp_path / "empty") == content(tmp_path / "there")
    monkeypatch.chdir(tmp_path / "here")
    assert call(*STS, "--out", ".") == 0
    assert content(tmp_path / "empty") == content(tmp_path / "here")


def test_an_out_that_cannot_be_is_named(tmp_path, capsys):
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        assert call(*STS, "--out", out) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"{PROG}: error: --out {out}: ")
        assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_ctrl_c_leaves_nothing(tmp_path, monkeypatch, capsys):
    def stop(self, items):
        raise KeyboardInterrupt

    monkeypatch.setattr(make_standin.Progress, "advance", stop)
    assert call(*AGEDB, "--out", tmp_path / "sub" / "agedb") == 130
    assert list((tmp_path / "sub").iterdir()) == []


def test_a_kill_leaves_no_half_folder_and_no_process(tmp_path):
    """SIGKILL in the middle of the drawing: what is there has another name, and a second try is whole."""
    out = tmp_path / "agedb"
    pid = os.fork()
    if not pid:
        try:
            os.setsid()
            call("agedb", "--scale", "0.2", "--img_size", "32", "--out", out)
        finally:
            os._exit(0)
    end = time.monotonic() + 60
    while len(list(tmp_path.rglob("*.jpg"))) < 5:
        assert time.monotonic() < end
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert not out.exists()
    assert not list(tmp_path.rglob("standin.json"))
    try:
        while list(members(pid)) and time.monotonic() < end:  # the pool ends when nobody is there to tell
            time.sleep(0.05)
        assert list(members(pid)) == []
    finally:
        for orphan in members(pid):
            os.kill(orphan, signal.SIGKILL)
    assert call(*AGEDB, "--out", out) == 0
    assert len(rows_of(out)) == len(list(out.rglob("*.jpg")))


def members(session):
    """The processes of a session."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, its = path.read_text().rsplit(")", 1)[1].split()[:4]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(its) == session and state != "Z":
            yield int(path.parent.name)


# What the user types


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        ([], ["name"]),
        (["agedb2"], ["'agedb2'", *make_standin.STANDINS]),
        (["agedb", "--scale", "abc"], ["--scale", "'abc'"]),
        (["agedb", "--img-size", "32"], ["--img-size", "did you mean --img_size?"]),
    ],
)
def test_mistakes_are_named_before_anything_is_drawn(argv, told, tmp_path, capsys):
    assert call(*argv, "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert error.startswith(f"{PROG}: error: ")
    assert error.count("\n") == 1
    for part in told:
        assert part in error
    assert not (tmp_path / "out").exists()


def test_the_default_folder_is_where_train_py_looks():
    for name in make_standin.STANDINS:
        assert make_standin.parse([name]).out == cli.ROOT / "data" / name
