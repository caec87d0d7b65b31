"""A web server on loopback with files, and faults to order: what the tests of downloads download from."""

import re
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Fault:
    """What one reply does otherwise."""

    cut: int | None = None  # end the connection after so many bytes of the body
    status: int = 200
    headers: dict = field(default_factory=dict)
    body: bytes | None = None  # instead of the file
    after: Callable[[], None] = lambda: None  # called before the connection ends


@dataclass
class Site:
    """What the server has and does; `requests` are the paths asked for, with their Range and If-Range."""

    files: dict = field(default_factory=dict)
    faults: list = field(default_factory=list)  # of the next replies, one each
    etag: str = '"one"'
    modified: str = ""
    ranges: bool = True  # whether it serves parts of a file
    if_range: bool = True  # whether it looks at If-Range
    chunked: bool = False  # no Content-Length
    pause: float = 0  # seconds before every 10,000 bytes
    requests: list = field(default_factory=list)
    url: str = ""


@contextmanager
def serving():
    """A `Site` that is being served."""
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_GET(self):
            path = self.path.lstrip("/")
            asked, version = self.headers["Range"], self.headers["If-Range"]
            site.requests.append((path, asked, version))
            fault = site.faults.pop(0) if site.faults else Fault()
            if path not in site.files and fault.status == 200:
                fault = Fault(status=404, body=b"<html>no such file</html>")
            body, start, status = site.files.get(path, b""), 0, fault.status
            headers = {"Content-Type": "application/octet-stream"}
            headers |= {"ETag": site.etag} if site.etag else {}
            headers |= {"Last-Modified": site.modified} if site.modified else {}
            if fault.body is not None:
                body = fault.body
            elif asked and site.ranges and (not site.if_range or version in (None, site.etag, site.modified)):
                start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
                status = 206 if start < len(body) else 416
                headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            headers |= {"Transfer-Encoding": "chunked"} if site.chunked else {
                "Content-Length": str(len(body) - start)
            }  # fmt: skip
            self.send_response(status)
            for name, value in (headers | fault.headers).items():
                self.send_header(name, value)
            self.end_headers()
            body = body[start:]
            if fault.cut is not None:
                body = body[: fault.cut]
            for at in range(0, len(body), 10_000):
                time.sleep(site.pause)
                piece = body[at : at + 10_000]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if site.chunked else piece)
            if site.chunked and fault.cut is None:
                self.wfile.write(b"0\r\n\r\n")
            fault.after()
            self.close_connection = True

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_):  # a client that goes away is part of the tests
            pass

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        site.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield site
        finally:
            server.shutdown()
            thread.join()


def no_proxy(monkeypatch):
    """Whatever proxies the environment has, loopback is reached directly."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
