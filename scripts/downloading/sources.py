"""The data sets of data/sources.toml: their files, with origin and destination."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from downloading.unpack import Limits
from downloading.whole_files import Expected
from toml_files import reading_toml

from common import cli
from common.errors import UserError

DATA = cli.ROOT / "data"
SOURCES = DATA / "sources.toml"


@dataclass(frozen=True)
class File:
    """A file to download; data/sources.toml explains the fields."""

    at: str = ""
    name: str = ""
    bytes: int | None = None
    about: int = 0
    digest: str = ""
    to: str = ""
    unpack: Mapping[str, int] = field(default_factory=dict)
    holds: Mapping[str, str] = field(default_factory=dict)
    images: str = ""
    names: str | None = None
    vectors: str = ""
    source: str = ""

    @property
    def filename(self) -> str:
        """Its file name."""
        return self.name or Path(self.to).name or self.at.rpartition("/")[2]

    @property
    def path(self) -> str:
        """Its path below the address of a mirror, as in the published repository or the registry."""
        kind, _, path = self.at.partition(":")
        return path if kind in ("published", "npm") else self.filename

    @property
    def lands(self) -> dict[str, str]:
        """The paths of its content below the data set's folder, each with its digest ("" for unknown)."""
        made = self.images or self.vectors
        return {self.to: self.digest} if self.to else {made: ""} if made else dict(self.holds)

    @property
    def expected(self) -> Expected:
        """Its known length and digest."""
        return Expected(self.bytes, self.digest)

    @property
    def limits(self) -> Limits:
        """The limits of its content as an archive."""
        return Limits(**self.unpack)

    @property
    def size(self) -> int:
        """Its length in bytes, exact or about; 0 if unknown."""
        return self.bytes or self.about


@dataclass(frozen=True)
class DataSet:
    """A data set to download."""

    name: str
    terms: str
    next: str
    files: tuple[File, ...]
    ask: str = ""
    folder: str = ""

    @property
    def home(self) -> Path:
        """The folder in which train.py and prepare.py look for it."""
        return DATA / (self.folder or self.name)

    def chosen(self, source: str) -> tuple[File, ...]:
        """Return its files of this `--source`; raises UserError if there are none."""
        files = tuple(file for file in self.files if file.source == source)
        if not files:
            others = ", ".join(sorted({file.source for file in self.files} - {""}))
            hint = f"it has {others}" if others else "leave the flag out"
            raise UserError(f"--source {source}: {self.name} has no such source; {hint}")
        return files


class Sources:
    """The content of data/sources.toml."""

    def __init__(self, path: Path = SOURCES) -> None:
        with reading_toml(path) as content:
            self.addresses: dict[str, str] = content.pop("addresses")
            self.data_sets = {
                name: DataSet(name=name, **{**table, "files": tuple(File(**file) for file in table["files"])})
                for name, table in content.items()
            }

    def url(self, file: File, mirror: str) -> str:
        """Return the address of a file: below `mirror`, which may be the whole address, or its own."""
        if mirror:
            whole = mirror.rpartition("/")[2] == file.filename
            return mirror if whole else f"{mirror.rstrip('/')}/{file.path}"
        kind, _, rest = file.at.partition(":")
        if kind == "npm":
            return f"{npm_registry()}/{rest}"
        return self.addresses[kind].format(rest) if kind in self.addresses else file.at


def npm_registry() -> str:
    """Return the address of the registry that npm is set to; raises UserError without npm."""
    address = ""
    if shutil.which("npm"):
        command = ["npm", "config", "get", "registry"]
        address = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    if not address.startswith(("https://", "http://")):
        raise UserError(
            "--source npm: the address of the registry is the one that npm is set to, and there is no npm to "
            "tell it: install npm, or give the address with --mirror"
        )
    return address.rstrip("/")
