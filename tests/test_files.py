"""Files written whole or not at all, and what a full disk ends with."""

import errno
import os
import subprocess
import sys

import pytest

from common import cli
from common.errors import UserError
from common.files import check_writable, digest, read_json, write_atomically, write_json


def test_a_file_is_written_whole(tmp_path):
    write_atomically(tmp_path / "a", "text")
    write_atomically(tmp_path / "b", b"\x00")
    assert (tmp_path / "a").read_text() == "text"
    assert (tmp_path / "b").read_bytes() == b"\x00"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_what_fails_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "a"
    write_atomically(path, "old")
    monkeypatch.setattr(os, "fsync", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_11_17_what_a_killed_command_left_is_cleaned_by_the_next(tmp_path):
    child = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    gone, running = (tmp_path / f".a.{pid}.tmp" for pid in (int(child.stdout), os.getppid()))
    for leftover in (gone, running):
        leftover.write_text("half")
    write_atomically(tmp_path / "a", "text")
    assert not gone.exists()
    assert running.exists()  # another process is writing it


def test_11_17_a_full_disk_is_one_line(capsys):
    def command():
        raise OSError(errno.ENOSPC, "No space left on device", "data/standin/x.png")

    assert cli.run_command("scripts/make_standin.py", command) == 1
    error = capsys.readouterr().err
    assert error == (
        "scripts/make_standin.py: error: the disk is full (data/standin/x.png); free some, then give the same "
        "command again\n"
    )


def test_another_fault_of_the_system_is_not_taken_for_a_full_disk():
    def command():
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(OSError, match="Input/output error"):
        cli.run_command("x", command)


def test_json_is_read_back_or_none(tmp_path):
    write_json(tmp_path / "a.json", {"b": [1, None]})
    assert read_json(tmp_path / "a.json") == {"b": [1, None]}
    (tmp_path / "cut.json").write_text('{"b": [1')
    assert read_json(tmp_path / "cut.json") is read_json(tmp_path / "none.json") is None


def test_a_file_that_cannot_be_written_names_its_flag(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--out .*cannot be written"):
        check_writable(tmp_path / "file" / "x.json", "--out")
    with pytest.raises(UserError, match="it is a folder"):
        check_writable(tmp_path, "--out")
    check_writable(tmp_path / "new" / "x.json", "--out")
    assert list((tmp_path / "new").iterdir()) == []


def test_a_digest_knows_where_each_part_ends():
    assert digest([b"ab", b"c"]) != digest([b"a", b"bc"])
    assert digest([b"ab"]) == digest([b"ab"])
