"""Archives that are not what they should be, and what is unpacked of those that are."""

import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from downloading import unpack as module
from downloading.unpack import Gate, Limits, unpack
from downloading.whole_files import Refused
from hypothesis import given
from hypothesis import strategies as st

from common.errors import UserError

AGEDB = Path(__file__).parent / "fixtures" / "agedb.zip"  # encrypted, and names in code page 850
PASSWORD = "open sesame"
LIMITS = Limits(1_000_000, 100)
FILES = {"a/b.txt": b"hello", "a/c/d.bin": os.urandom(50_000), "e": b""}
OUTSIDE = ["../x", "a/../../x", "/x", "//host/x", "C:/x", "C:x", r"..\x", r"\x", r"a\..\..\x"]


def make_zip(path, files=FILES, **how):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo("placeholder")
            info.filename, info.compress_type = name, zipfile.ZIP_DEFLATED
            for key, value in how.items():
                setattr(info, key, value)
            archive.writestr(info, content)
    return path


def make_tar(path, files=FILES, mode="w", **how):
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for key, value in how.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(content))
    return path


MAKERS = {"zip": make_zip, "tar": make_tar}


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "in" / "here"
    path.mkdir(parents=True)
    return path


def refused(archive, folder, match, limits=LIMITS, **how):
    """The one line that a bad archive is refused with; nothing of it is outside the folder."""
    before = {path for path in folder.parent.parent.rglob("*") if folder not in path.parents}
    with pytest.raises(UserError, match=match) as caught:
        unpack(archive, folder, limits, **how)
    assert str(caught.value).startswith(f"{archive}: ") and "\n" not in str(caught.value)
    assert {path for path in folder.parent.parent.rglob("*") if folder not in path.parents} == before
    return caught.value


# --- what is whole


@pytest.mark.parametrize("maker", MAKERS.values(), ids=MAKERS)
def test_files_and_folders(tmp_path, folder, maker):
    unpack(maker(tmp_path / "x"), folder, LIMITS)
    assert content(folder) == FILES


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_compressed_tar(tmp_path, folder, mode):
    unpack(make_tar(tmp_path / "x", mode=mode), folder, LIMITS)
    assert content(folder) == FILES


def test_many_members_in_parallel(tmp_path, folder):
    files = {f"d{i % 7}/{i}": os.urandom(i) for i in range(300)}
    unpack(make_zip(tmp_path / "x", files), folder, Limits(10**6, 300))
    assert content(folder) == files


def test_backslashes_are_folders(tmp_path, folder):
    unpack(make_zip(tmp_path / "x", {r"a\b\c": b"1"}), folder, LIMITS)
    assert content(folder) == {"a/b/c": b"1"}


def test_permissions_are_not_taken(tmp_path, folder):
    mode = (stat.S_IFREG | stat.S_ISUID | 0o777) << 16
    unpack(make_zip(tmp_path / "x", {"a": b"1"}, external_attr=mode), folder, LIMITS)
    unpack(make_tar(tmp_path / "y", {"b": b"1"}, mode="w"), folder, LIMITS)
    assert not any((folder / name).stat().st_mode & 0o7111 for name in "ab")


# --- where it must not land


@pytest.mark.parametrize("maker", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize("name", OUTSIDE)
def test_outside(tmp_path, folder, maker, name):
    archive = maker(tmp_path / "x.archive", {"good": b"1", name: b"2"})
    assert isinstance(refused(archive, folder, "would land outside the folder"), Refused)


@given(
    st.lists(st.sampled_from(["..", ".", "a", "", "C:", "\\", "/", "..\\", "é"]), min_size=1).map("/".join)
)
def test_admitted_is_inside(name):
    gate = Gate(Path("x"), Path("/data/here"), LIMITS)
    try:
        path = gate.admit(name, 0, regular=True)
    except Refused:
        return
    assert Path(os.path.normpath(path)).is_relative_to("/data/here")


@pytest.mark.parametrize("kind", ["SYMTYPE", "LNKTYPE", "CHRTYPE", "BLKTYPE", "FIFOTYPE", "GNUTYPE_SPARSE"])
def test_link_or_device_in_tar(tmp_path, folder, kind):
    archive = make_tar(tmp_path / "x", {"a": b""}, type=getattr(tarfile, kind), linkname="/etc/passwd")
    refused(archive, folder, "link or a device|is damaged")
    assert not content(folder)


def test_link_then_file_through_it(tmp_path, folder):
    with tarfile.open(tmp_path / "x", "w") as archive:
        link = tarfile.TarInfo("out")
        link.type, link.linkname = tarfile.SYMTYPE, ".."
        archive.addfile(link)
        archive.addfile(tarfile.TarInfo("out/x"))
    refused(tmp_path / "x", folder, "'out' is a link or a device")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
def test_link_or_device_in_zip(tmp_path, folder, kind):
    archive = make_zip(tmp_path / "x", {"a": b"/etc/passwd"}, external_attr=(kind | 0o777) << 16)
    refused(archive, folder, "link or a device")
    assert not content(folder)


# --- too much


@pytest.mark.parametrize("maker", [make_zip, lambda *a: make_tar(*a, mode="w:gz")], ids=["zip", "tar.gz"])
def test_bomb(tmp_path, folder, maker):
    bomb = maker(tmp_path / "x", {f"{i}": bytes(300_000) for i in range(5)})
    assert bomb.stat().st_size < 10_000
    refused(bomb, folder, r"unpacks to more than 1,000,000 bytes")
    assert sum(map(len, content(folder).values())) <= LIMITS.bytes
    refused(bomb, folder, "or 4 files", Limits(10**9, 4))


def test_zip_that_lies_about_its_size(tmp_path, folder):
    """A member of 900,000 bytes that says it has 10: no more than 10 are written."""
    archive = make_zip(tmp_path / "x", {"a": bytes(900_000)})
    data = archive.read_bytes()
    archive.write_bytes(data.replace((900_000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    refused(archive, folder, "is damaged")
    assert sum(map(len, content(folder).values())) <= 10


def test_disk_is_looked_at_first(tmp_path, folder, monkeypatch):
    monkeypatch.setattr("downloading.whole_files.shutil.disk_usage", lambda _: SimpleNamespace(free=100))
    with pytest.raises(UserError, match=r"needs 50\.0 kB and 0\.1 kB are free"):
        unpack(make_zip(tmp_path / "x"), folder, LIMITS)
    assert not content(folder)


# --- damage and passwords


@pytest.mark.parametrize("maker", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9])
def test_cut_short(tmp_path, folder, maker, keep):
    archive = maker(tmp_path / "x", {"a": os.urandom(90_000), "b": os.urandom(90_000)})
    archive.write_bytes(archive.read_bytes()[: int(archive.stat().st_size * keep)])
    refused(archive, folder, "is damaged")


@pytest.mark.parametrize("text", [b"", b"<html>sign in</html>", b"PK\x03\x04 no zip"])
def test_no_archive(tmp_path, folder, text):
    (tmp_path / "x").write_bytes(text)
    refused(tmp_path / "x", folder, "is damaged, or no zip or tar")


def test_flipped_byte(tmp_path, folder):
    archive = make_zip(tmp_path / "x", {"a": os.urandom(50_000)})
    data = bytearray(archive.read_bytes())
    data[25_000] ^= 1
    archive.write_bytes(data)
    refused(archive, folder, "is damaged")


def test_full_disk_is_no_damage(tmp_path, folder, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.shutil, "copyfileobj", full)
    for maker in MAKERS.values():
        with pytest.raises(OSError, match="No space"):
            unpack(maker(tmp_path / "x"), folder, LIMITS)


def test_right_password(folder):
    unpack(AGEDB, folder, LIMITS, password=PASSWORD, names="cp866")
    assert {path.name for path in (folder / "AgeDB").iterdir()} == {
        "0_AnnaAdler_30_f.jpg", "1_AnnaAdler_31_f.jpg", "2_BorisBaker_8_m.jpg", "4_BorisBaker _9_m.jpg",
        "3_St\u0412phaneCosta_44_f.jpg",  # as the published agedb.csv has an é
    }  # fmt: skip
    assert all(data.startswith(b"\xff\xd8") for data in content(folder).values())


@pytest.mark.parametrize("password", ["wrong", "Open sesame", "пароль"])
def test_wrong_password(folder, password):
    error = refused(AGEDB, folder, "the password is wrong; .*AGEDB_PASSWORD", password=password)
    assert not isinstance(error, Refused)  # the archive itself is good
    assert not content(folder)


def test_every_wrong_password_is_told():
    """Zip's own test of a password is one byte: among many wrong ones some pass it."""
    with zipfile.ZipFile(AGEDB) as file:
        for number in range(600):
            with pytest.raises(UserError, match="the password is wrong"):
                module._try_password(AGEDB, file, str(number))


def test_no_password(folder):
    refused(AGEDB, folder, "needs a password; .*AGEDB_PASSWORD")


def test_encryption_that_python_cannot_read(tmp_path, folder):
    archive = make_zip(tmp_path / "x")
    data = archive.read_bytes()  # AES, as WinZip marks it: method 99
    for mark, at in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        place = data.index(mark) + at
        data = data[:place] + (99).to_bytes(2, "little") + data[place + 2 :]
    archive.write_bytes(data)
    refused(archive, folder, "7-Zip and give the folder with --from")
