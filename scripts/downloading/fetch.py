"""Download a file: resume it, try again, check it, and only then give it its name.

The bytes so far are in NAME.part, and the server's description in NAME.part.json, so that the next call can
continue and never joins two versions of a file.
"""

from __future__ import annotations

import html
import http.client
import logging
import re
import ssl
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, BinaryIO

from downloading.whole_files import (
    CHUNK,
    MB,
    ByteProgress,
    Expected,
    Refused,
    Seen,
    check,
    require_room,
    set_aside,
)

from common.errors import UserError
from common.files import read_json, write_json

log = logging.getLogger("dir")

TRIES = 5  # in a row without a byte
WAIT, LONGEST_WAIT = 1.0, 60.0  # seconds before the second try, then twice as long each time
SILENCE = 60.0  # seconds without a byte after which a connection counts as broken
HEADERS = {"User-Agent": "dir-benchmark", "Accept-Encoding": "identity"}
WAY_OUT = "get it in another way and give it with --from, or name another source with --mirror"
TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
HTML = re.compile(rb"\s*<(!doctype html|html)", re.IGNORECASE)
RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


class Broken(Exception):
    """A transfer that ended early and can be tried again after `wait` seconds."""

    def __init__(self, reason: object, wait: float = 0) -> None:
        super().__init__(str(reason))
        self.wait = wait


def fetch(url: str, target: Path, expected: Expected, unpacked: int = 0) -> Seen:
    """Download `url` to `target`, and continue where an earlier call stopped.

    `unpacked` is the room in bytes that the file needs besides its own. Raises Refused if this source has
    nothing, or a wrong file, which is set aside as NAME.bad; UserError if the network or the disk fails.
    """
    part = target.with_name(f"{target.name}.part")
    notes = target.with_name(f"{target.name}.part.json")
    failures, most = 0, 0
    while True:
        try:
            _transfer(url, part, notes, expected, unpacked)
            break
        except Broken as broken:
            arrived = _size(part)
            failures, most = (1, arrived) if arrived > most else (failures + 1, most)
            if failures >= TRIES:
                raise UserError(
                    f"{url}: {broken}, {TRIES} times in a row; what has arrived is kept: give the same "
                    f"command again later, or {WAY_OUT}"
                ) from broken
            wait = max(WAIT * 2 ** (failures - 1), min(broken.wait, LONGEST_WAIT))
            log.info("%s: %s after %d MB; going on in %.0f s", target.name, broken, arrived // MB, wait)
            time.sleep(wait)
    size = (read_json(notes) or {}).get("size")  # the server's word, where nothing else is known
    seen = check(part, Expected(size, expected.digest))
    notes.unlink(missing_ok=True)
    if seen.problem:
        bad = set_aside(part, target.name)
        raise Refused(
            f"{url}: {seen.problem}; it is set aside as {bad} and not used: try again, or {WAY_OUT}"
        )
    part.replace(target)
    return seen


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _transfer(url: str, part: Path, notes: Path, expected: Expected, unpacked: int) -> None:
    """Download over one connection; return once `part` is complete."""
    known = read_json(notes) or {}
    if known.get("url") != url:
        known = {"size": known.get("size")}  # the rest is true of the other source alone
    start, etag = _size(part), known.get("etag")
    if not (etag or known.get("modified") or expected.digest) or start > (known["size"] or start):
        start = 0  # nothing would tell of a changed file, or it is too long
    if start and start == known["size"]:
        return
    headers = HEADERS | ({"Range": f"bytes={start}-"} if start else {})
    version = etag if etag and not etag.startswith("W/") else known.get("modified")  # no weak tag, by HTTP
    if start and version:
        headers["If-Range"] = version
    with _open(url, headers, part) as response:
        start, now = _reply(response, start, known, part)
        size = now["size"] = expected.size if now["size"] is None else now["size"]
        _approve(url, response, size, expected)
        part.parent.mkdir(parents=True, exist_ok=True)
        require_room(part.parent, (size or 0) - start + unpacked, part.stem)
        if not start and part.exists():
            part.write_bytes(b"")  # before the notes describe another version
        write_json(notes, now | {"url": url})
        with part.open("ab", buffering=0) as file:
            _copy(response, file, start, size, part.stem)
            if size is not None and file.tell() < size:
                raise Broken("the connection ended")


def _reply(
    response: http.client.HTTPResponse, start: int, known: dict[str, Any], part: Path
) -> tuple[int, dict[str, Any]]:
    """Return the position of the first byte that follows, and the server's description of the file.

    Raises Broken, and removes the part, for a range of another file than `known`.
    """
    now = {"etag": response.headers["ETag"], "modified": response.headers["Last-Modified"]}
    if response.status != 206:
        if start:
            log.info("%s: the server starts the file over", part.stem)
        return 0, now | {"size": response.length}  # None for a reply in chunks
    span = RANGE.fullmatch(response.headers.get("Content-Range", ""))
    now["size"] = int(span[2]) if span and span[2] != "*" else known["size"]
    # A later reply may leave out part of the description.
    same = all(now[key] == known[key] for key in now if now[key] and known.get(key))
    if span is None or int(span[1]) != start or not same:
        part.unlink()
        raise Broken("the file has changed on the server, so that it starts over")
    return start, {key: known.get(key) or now[key] for key in now}


def _open(url: str, headers: dict[str, str], part: Path) -> http.client.HTTPResponse:
    """Return the reply of the server; raises Broken or Refused if it has no file."""
    try:
        opener = urllib.request.build_opener()  # a new one reads the proxies of the environment
        return opener.open(urllib.request.Request(url, headers=headers), timeout=SILENCE)
    except urllib.error.HTTPError as error:
        status = f"{error.code} {error.reason}"
        if error.code == 416:
            part.unlink(missing_ok=True)
            raise Broken("the server has no more of it, so that it starts over") from error
        if error.code in TRY_AGAIN:
            wait = error.headers.get("Retry-After", "")
            raise Broken(f"the server says {status}", float(wait) if wait.isdecimal() else 0) from error
        raise Refused(f"{url}: the server says {status}; {WAY_OUT}") from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise UserError(
                f"{url}: its certificate is not valid ({error.reason.verify_message}); {WAY_OUT}"
            ) from error
        raise Broken(getattr(error.reason, "strerror", None) or error.reason) from error
    except (OSError, http.client.HTTPException) as error:
        raise Broken(error or type(error).__name__) from error


def _approve(url: str, response: http.client.HTTPResponse, size: int | None, expected: Expected) -> None:
    """Raise Refused for a web page, or a file of another length, before it is downloaded."""
    first = response.peek(512) if response.status == 200 else b""
    if response.headers.get_content_type() == "text/html" or HTML.match(first):
        page = response.read(CHUNK).decode("utf-8", "replace")
        if "uota exceeded" in page or "Too many users" in page:
            raise Refused(
                f"{url}: Google Drive has given it to too many users today; wait a day, or {WAY_OUT}"
            )
        title = re.search(r"<title>(.*?)</title>", page, re.IGNORECASE | re.DOTALL)
        named = f" ({html.unescape(title[1]).strip()[:80]!r})" if title else ""
        raise Refused(f"{url}: is a web page{named} in place of the file; {WAY_OUT}")
    if size is not None and expected.size not in (None, size):
        raise Refused(
            f"{url}: has {size:,} bytes where {expected.size:,} are right, so it is another file; {WAY_OUT}"
        )
    if size is None and not expected.digest:
        raise Refused(
            f"{url}: the server does not say how long it is, so that a cut would go unseen; {WAY_OUT}"
        )


def _copy(
    response: http.client.HTTPResponse, file: BinaryIO, start: int, size: int | None, name: str
) -> None:
    """Append the bytes that arrive; raises Broken if the connection breaks, OSError if the disk does."""
    with ByteProgress(size or 0, name, start) as progress:
        while True:
            try:
                data = memoryview(response.read1(CHUNK))
            except (OSError, http.client.HTTPException) as error:
                raise Broken(f"the connection broke ({error or type(error).__name__})") from error
            if not data:
                return
            while data:  # an unbuffered write may take less than it is given
                data = data[file.write(data) :]
            progress.reach(file.tell())
