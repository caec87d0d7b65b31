"""Unpack zip and tar archives that are not trusted into a folder, and nowhere else."""

from __future__ import annotations

import os
import shutil
import signal
import tarfile
import zipfile
import zlib
from functools import partial
from lzma import LZMAError
from multiprocessing import Pool
from pathlib import Path, PureWindowsPath
from typing import NamedTuple

from downloading.whole_files import CHUNK, ByteProgress, Refused, require_room

from common.errors import UserError

ZIP_START = (b"PK\x03\x04", b"PK\x05\x06")
READABLE = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
ENCRYPTED = 1  # a bit of a zip member's flags
FILE, FOLDER = 0o10, 0o04  # kinds of a Unix mode, above its 12 bits; 0 where a zip does not say
DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, LZMAError, EOFError, UnicodeError, RuntimeError)
MEMBERS = 256  # of a zip, for a process at a time
BY_HAND = "unpack it with 7-Zip and give the folder with --from"
PASSWORD = "give it with --password, or in the variable AGEDB_PASSWORD, which other users cannot see"


class Limits(NamedTuple):
    """The most that an archive may hold."""

    bytes: int
    files: int


def unpack(
    archive: Path, folder: Path, limits: Limits, *, password: str = "", names: str | None = None
) -> None:
    """Unpack the regular files and folders of a zip or tar into an existing `folder`.

    `names` is the code page of file names that a zip does not mark as UTF-8. Raises UserError for a member
    that would land outside or is no file, for more than `limits`, for damage and for a wrong password.
    """
    try:
        with archive.open("rb") as file:
            is_zip = file.read(4) in ZIP_START
        if is_zip:
            _unpack_zip(archive, folder, limits, password, names)
        else:
            _unpack_tar(archive, folder, limits)
    except (*DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the disk, not of the archive
        reason = str(error).partition("\n")[0].rstrip(":")
        raise Refused(f"{archive}: is damaged, or no zip or tar ({reason}); download it again") from error


class Gate:
    """Decides where each member lands, and stops an archive that holds too much or anything but files."""

    def __init__(self, archive: Path, folder: Path, limits: Limits) -> None:
        self.archive, self.folder, self.limits = archive, folder, limits
        self.bytes, self.files = 0, 0

    def admit(self, name: str, size: int, *, regular: bool) -> Path:
        """Return the path to write; raises Refused for a link or device, a path outside, or too much."""
        inside = PureWindowsPath(name)  # knows both slashes, and drives
        if inside.anchor or ".." in inside.parts or "\0" in name:
            raise Refused(f"{self.archive}: {name!r} would land outside the folder; nothing of it is used")
        if not regular:
            raise Refused(f"{self.archive}: {name!r} is a link or a device; nothing of it is used")
        self.bytes, self.files = self.bytes + size, self.files + 1
        if self.bytes > self.limits.bytes or self.files > self.limits.files:
            raise Refused(
                f"{self.archive}: unpacks to more than {self.limits.bytes:,} bytes or {self.limits.files:,} "
                "files, so it is not what it should be; nothing of it is used"
            )
        return self.folder.joinpath(*inside.parts)


def _unpack_tar(archive: Path, folder: Path, limits: Limits) -> None:
    """Unpack member by member: tarfile's own filters take links inside, and keep every member in memory."""
    gate, size = Gate(archive, folder, limits), archive.stat().st_size
    require_room(folder, limits.bytes, archive.name)
    with (
        archive.open("rb") as file,
        tarfile.open(fileobj=file) as tar,
        ByteProgress(size, f"unpacking {archive.name}") as progress,
    ):
        while (member := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # typeshed leaves this attribute out
            regular = member.isdir() or (member.isfile() and not member.issparse())
            path = gate.admit(member.name, member.size, regular=regular)
            (path if member.isdir() else path.parent).mkdir(parents=True, exist_ok=True)
            if (source := tar.extractfile(member)) is not None:
                with source, path.open("wb") as target:
                    shutil.copyfileobj(source, target, CHUNK)
            progress.reach(file.tell())


def _unpack_zip(archive: Path, folder: Path, limits: Limits, password: str, names: str | None) -> None:
    """Unpack in parallel, as Python decrypts two megabytes a second."""
    gate = Gate(archive, folder, limits)
    with zipfile.ZipFile(archive, metadata_encoding=names) as file:
        members = file.infolist()
        for member in members:
            kind = member.external_attr >> 28
            gate.admit(member.filename, member.file_size, regular=kind in (0, FILE, FOLDER))
            if member.compress_type not in READABLE:
                raise UserError(
                    f"{archive}: is packed or encrypted in a way that Python cannot read; {BY_HAND}"
                )
        _try_password(archive, file, password)
    require_room(folder, gate.bytes, archive.name)
    write = partial(_write_members, archive, folder, password, names)
    size, written = sum(member.compress_size for member in members), 0
    with (
        Pool(min(os.cpu_count() or 1, len(members) // MEMBERS + 1), _leave_signals_to_the_parent) as pool,
        ByteProgress(size, f"unpacking {archive.name}") as progress,
    ):
        for part in pool.imap_unordered(write, range(0, len(members), MEMBERS)):
            written += part
            progress.reach(written)


def _try_password(archive: Path, file: zipfile.ZipFile, password: str) -> None:
    """Raise UserError unless the smallest encrypted member can be read."""
    encrypted = [member for member in file.infolist() if member.flag_bits & ENCRYPTED and member.file_size]
    if not encrypted:
        return
    if not password:
        raise UserError(f"{archive}: needs a password; {PASSWORD}")
    try:
        file.setpassword(password.encode())
        file.read(min(encrypted, key=lambda member: member.file_size))
    except DAMAGE as error:  # a wrong password passes zip's own test once in 256
        raise UserError(f"{archive}: the password is wrong; {PASSWORD}") from error


def _leave_signals_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _write_members(archive: Path, folder: Path, password: str, names: str | None, first: int) -> int:
    """Write some admitted members in a worker; return their packed size."""
    with zipfile.ZipFile(archive, metadata_encoding=names) as file:
        file.setpassword(password.encode())
        members = file.infolist()[first : first + MEMBERS]
        for member in members:
            path = folder.joinpath(*PureWindowsPath(member.filename).parts)  # admitted before
            (path if member.is_dir() else path.parent).mkdir(parents=True, exist_ok=True)
            if not member.is_dir():
                with file.open(member) as source, path.open("wb") as target:
                    shutil.copyfileobj(source, target, CHUNK)
    return sum(member.compress_size for member in members)
