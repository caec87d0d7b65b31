"""scripts/prepare.py sts-b: the published files byte for byte, the rule, and every bad input."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import prepare
import pytest
from conftest import SHARED
from hypothesis import given
from hypothesis import strategies as st
from preparing import sts_b
from preparing.sts_b import BALANCED, GLUE, SPLIT_FILES, draw, read_glue, read_order, split_rows
from sts_corpus import call, command, run_dir, write_corpus
from sts_text import read_pairs

from common import cli
from common.errors import UserError

pytestmark = pytest.mark.slow

REAL = SHARED / "data" / "sts-b"
needs_real = pytest.mark.skipif(not REAL.exists(), reason="needs the real STS-B")
NEW = list(SPLIT_FILES.values())


def run(folder, *flags, order=sts_b.ORDER):
    return sts_b.sts_b(["--data_dir", str(folder), *map(str, flags)], order)


def git_id(file):
    told = subprocess.run(["git", "hash-object", file], capture_output=True, text=True, check=True)
    return told.stdout.strip()


def write_glue(folder):
    """train.tsv and dev.tsv of made-up pairs with bytes that a careless copy would change."""
    corpus = write_corpus(folder / "made-up", standin=False)
    lines = [
        line
        for name in NEW
        for line in (corpus / name).read_bytes().rstrip(b"\n").split(b"\n")[1:]
    ]  # fmt: skip
    header = (corpus / NEW[0]).read_bytes().split(b"\n")[0]
    for row, text in ((3, '"unbalanced'), (8, "a\u2028b"), (12, "caf\u00e9 \u0085 x"), (15, "it's ''")):
        cells = lines[row].split(b"\t")
        cells[7] = text.encode()
        lines[row] = b"\t".join(cells)
    for name, part in zip(GLUE, (lines[:150], lines[150:]), strict=True):
        numbered = [b"%d\t" % number + line.split(b"\t", 1)[1] for number, line in enumerate(part)]
        (folder / name).write_bytes(b"\n".join([header, *numbered, b""]))
    return folder


@pytest.fixture
def small(tmp_path):
    """A GLUE folder, and the order file of one split of it, whose files were written by plain means."""
    folder = write_glue(tmp_path / "glue")
    lines = [line for name in GLUE for line in (folder / name).read_bytes().split(b"\n")[1:-1]]
    scores = [float(line.split(b"\t")[9]) for line in lines]
    bins = [min(int(score * 4), 19) for score in scores]
    val, test = [7, 151, 3, 60], [5, 9, 152]
    rest = [row for row in range(len(lines)) if row not in (*val, *test)]
    rows = {"train": sorted(rest, key=lambda row: (bins[row], row)), "val": val, "test": test}
    wanted = tmp_path / "wanted"
    wanted.mkdir()
    for split, name in SPLIT_FILES.items():
        text = (folder / "train.tsv").read_bytes().split(b"\n")[0] + b"\n"
        for number, row in enumerate(rows[split]):
            text += str(number).encode() + b"\t" + b"\t".join(lines[row].split(b"\t")[1:]) + b"\n"
        (wanted / name).write_bytes(text)
    ids = {file.name: git_id(file) for file in [folder / name for name in GLUE] + [wanted / n for n in NEW]}
    order = tmp_path / "order.json"
    order.write_text(json.dumps({"val": val, "test": test, "ids": ids}))
    return folder, order, wanted


# --- the published split


@needs_real
def test_published_files_byte_for_byte(tmp_path, capsys):
    """From the two GLUE files alone, as the command that a user gives."""
    for name in GLUE:
        (tmp_path / name).write_bytes((REAL / name).read_bytes())
    assert run(tmp_path) == 0
    for name in NEW:
        assert (tmp_path / name).read_bytes() == (REAL / name).read_bytes()
    told = capsys.readouterr().out
    assert "This is the published split: all 7,249 rows agree with it, to the byte." in told
    lines = [line.split() for line in told.splitlines()]
    assert ["bins", "50", "22", "7", "21"] in lines
    assert ["train", "5,249", "4,510", "538", "201"] in lines
    assert ["test", "1,000", "756", "170", "74"] in lines


def test_committed_rows_are_a_balanced_draw():
    """1,000 and 1,000 of the 7,249 rows, no row twice, those of testing in file order within each bin."""
    val, test, ids = read_order()
    assert len(val) == len(test) == 1000
    assert len({*val, *test}) == 2000
    assert 0 <= min(val + test) <= max(val + test) < 7249
    blocks = np.reshape(test, (20, 50))
    assert (np.diff(blocks) > 0).all()
    assert set(ids) == {*GLUE, *NEW}


@needs_real
def test_published_draw_follows_the_rule():
    scores = read_glue(REAL).scores
    for rows in read_order()[:2]:
        assert BALANCED.counts(scores[rows]).tolist() == [50] * 20


def test_table_gives_the_bytes(small, capsys):
    folder, order, wanted = small
    assert run(folder, order=order) == 0
    for name in NEW:
        assert (folder / name).read_bytes() == (wanted / name).read_bytes()
    assert "This is the published split: all 200 rows" in capsys.readouterr().out
    assert (folder / "sts_b.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in folder.iterdir()) == sorted([*GLUE, *NEW, "sts_b.png", "made-up"])


def test_files_with_windows_line_ends_give_the_same(small):
    folder, order, wanted = small
    for name in GLUE:
        file = folder / name
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert run(folder, order=order) == 0
    assert all((folder / name).read_bytes() == (wanted / name).read_bytes() for name in NEW)


def test_other_rows_are_refused_without_a_seed(small):
    folder, order, _ = small
    file = folder / "dev.tsv"
    file.write_bytes(file.read_bytes().replace(b"word3", b"word4", 1))
    with pytest.raises(UserError, match=r"dev\.tsv: is not the file that .*download\.py sts-b.*--seed 0"):
        run(folder, order=order)
    assert not (folder / NEW[0]).exists()
    assert run(folder, "--seed", 0, order=order) == 0


# --- another split


def test_another_split_by_seed(small, tmp_path, capsys):
    folder, order, wanted = small
    outs = [tmp_path / str(number) for number in range(3)]
    for out, seed in zip(outs, (1, 1, 2), strict=True):
        assert run(folder, "--seed", seed, "--out", out, order=order) == 0
    first, again, other = ([(out / name).read_bytes() for name in NEW] for out in outs)
    assert first == again != other
    assert "This is NOT the published split: it was drawn with --seed 1." in capsys.readouterr().out

    def rows(contents):
        return sorted(line.split(b"\t", 1)[1] for text in contents for line in text.split(b"\n")[1:-1])

    assert rows(first) == rows(other) == rows([(wanted / name).read_bytes() for name in NEW])
    val, test = (BALANCED.counts(read_pairs(outs[0] / name).scores) for name in NEW[1:])
    every = BALANCED.counts(read_glue(folder).scores)
    assert val.tolist() == test.tolist() == np.minimum(every // 3, 50).tolist()


@given(st.lists(st.sampled_from([0, 0.2, 0.25, 1, 2.5, 4.8, 5]), max_size=400), st.integers(0, 99))
def test_draw_is_balanced(scores, seed):
    scores = np.array(scores, np.float32)
    val, test = draw(scores, seed)
    rows = split_rows(scores, val, test)
    assert sorted(sum(rows.values(), [])) == list(range(len(scores)))
    wanted = np.minimum(BALANCED.counts(scores) // 3, 50)
    for part in (val, test):
        assert (BALANCED.counts(scores[part]) == wanted).all()


@needs_real
def test_real_rows_give_fifty_and_fifty_of_each_bin():
    scores = read_glue(REAL).scores
    val, test = draw(scores, 0)
    assert BALANCED.counts(scores[val]).tolist() == BALANCED.counts(scores[test]).tolist() == [50] * 20
    assert len(split_rows(scores, val, test)["train"]) == 5249


# --- what is there already


def test_what_is_there_is_used(small, capsys):
    folder, order, wanted = small
    run(folder, order=order)
    before = {name: (folder / name).stat().st_mtime_ns for name in NEW}
    for name in GLUE:
        (folder / name).unlink()  # nobody needs them any more
    capsys.readouterr()
    assert run(folder, order=order) == 0
    told = capsys.readouterr().out
    assert "This is the published split" in told and "are used as they are; --overwrite" in told
    assert {name: (folder / name).stat().st_mtime_ns for name in NEW} == before
    lines = (folder / "test_new.tsv").read_bytes().split(b"\n")
    (folder / "test_new.tsv").write_bytes(b"\n".join(lines[:-2] + [b""]))
    assert run(folder, order=order) == 0
    assert "NOT the published split: its rows or their order are others" in capsys.readouterr().out


def test_a_lost_file_comes_back_but_splits_are_not_mixed(small):
    folder, order, wanted = small
    run(folder, order=order)
    (folder / "dev_new.tsv").unlink()
    with pytest.raises(UserError, match=r"train_new\.tsv: is there already and is of another split"):
        run(folder, "--seed", 1, order=order)
    assert not (folder / "dev_new.tsv").exists()
    assert run(folder, order=order) == 0
    assert all((folder / name).read_bytes() == (wanted / name).read_bytes() for name in NEW)
    assert run(folder, "--seed", 1, "--overwrite", order=order) == 0
    assert (folder / "dev_new.tsv").read_bytes() != (wanted / "dev_new.tsv").read_bytes()


def test_failed_write_leaves_nothing(small, monkeypatch):
    folder, order, _ = small

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    before = sorted(folder.iterdir())
    monkeypatch.setattr(pathlib.Path, "write_bytes", fail)
    with pytest.raises(UserError, match=r"train_new\.tsv: cannot be written \(No space"):
        run(folder, order=order)
    assert sorted(folder.iterdir()) == before


# --- from raw files to a model


def test_from_glue_to_a_training_run(tmp_path, monkeypatch):
    """The command as a user gives it, then `sts-b-dir/train.py` on what it wrote."""
    folder = write_glue(tmp_path)
    argv = [sys.executable, "scripts/prepare.py", "sts-b", "--data_dir", str(folder), "--seed", "0"]
    done = subprocess.run(argv, cwd=cli.ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    (folder / "glove.txt").write_bytes((folder / "made-up" / "glove.txt").read_bytes())
    monkeypatch.chdir(tmp_path)
    argv = command(folder, "--lds --fds")
    assert call(argv) == 0
    metrics = json.loads((run_dir(argv) / "metrics.json").read_text())
    assert metrics["shots"]["all"]["n"] == len(read_pairs(folder / "test_new.tsv").scores) > 20


# --- bad input


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text.replace(b"sentence1", b"first", 1), "line 1: names no column sentence1"),
        (lambda text: b"", "line 1: names no column sentence1"),
        (lambda text: text[:-30], r"line 151: \d+ columns where GLUE has 10|line 151: its score"),
        (lambda text: text.replace(b"\tg\t", b"\t", 1), "line 2: 9 columns where GLUE has 10"),
        (lambda text: text.replace(b"\n1\t", b"\n1\xff\t", 1), "line 3: its score or text is broken"),
        (lambda text: text.rsplit(b"\t", 1)[0] + b"\t5.1\n", r"line 151: .* \(is outside 0 to 5\)"),
        (lambda text: text.rsplit(b"\t", 1)[0] + b"\tnan\n", r"line 151: .* \(is outside 0 to 5\)"),
        (lambda text: text.rsplit(b"\t", 1)[0] + b"\tx\n", r"line 151: its score or text is broken"),
    ],
)
def test_bad_glue(small, damage, message):
    folder, order, _ = small
    file = folder / "train.tsv"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(UserError, match=message) as caught:
        run(folder, "--seed", 0, order=order)
    assert str(caught.value).startswith(f"{file}, line ")
    assert "\n" not in str(caught.value)
    assert not (folder / NEW[0]).exists()


def test_absent_glue(small):
    folder, order, _ = small
    (folder / "dev.tsv").unlink()
    with pytest.raises(UserError, match=r"dev\.tsv: there is no such file; .*download\.py sts-b"):
        run(folder, order=order)
    with pytest.raises(UserError, match=r"train\.tsv: there is no such file"):
        run(folder / "nowhere", order=order)


def test_too_few_pairs(tmp_path):
    folder = write_glue(tmp_path)
    for name in GLUE:
        lines = (folder / name).read_bytes().split(b"\n")
        (folder / name).write_bytes(b"\n".join([*lines[:2], b""]))
    with pytest.raises(UserError, match="no bin of 0.25 has three pairs"):
        run(folder, "--seed", 0)


def test_out_is_a_file(small, tmp_path):
    folder, order, _ = small
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written .*choose another place"):
        run(folder, "--out", tmp_path / "file", order=order)


def test_help_names_the_flags(capsys):
    with pytest.raises(SystemExit) as caught:
        prepare.main(["sts-b", "--help"])
    assert caught.value.code == 0
    told = capsys.readouterr().out
    assert all(flag in told for flag in ("--data_dir", "--out", "--overwrite", "--seed", "--check"))
