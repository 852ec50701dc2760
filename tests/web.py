"""A real file server on this machine, which fails where a test wants it to."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Web:
    """`with Web({"/a": b"..."}) as web:` serves the files below `web.url`."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.asked: list[tuple[str, str | None]] = []  # path and Range of every request
        self.statuses: list[int | None] = []  # the next answers are these errors, None is a good one
        self.cuts: list[int] = []  # the next answers end after so many bytes
        self.redirects: dict[str, str] = {}
        # What is sent for a path, headers included
        self.scripts: dict[str, Callable[[], Iterable[bytes]]] = {}
        self.ranges = True
        self.versions = True  # send an ETag
        self.lengths = True
        self.open = threading.Event()  # answers wait for it
        self.open.set()

    def __enter__(self) -> Web:
        self.server = _Server(("127.0.0.1", 0), _Handler)
        self.server.web = self
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.open.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


class _Server(ThreadingHTTPServer):
    web: Web

    def handle_error(self, request: Any, client_address: Any) -> None: ...  # a client that has gone


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        web, asked = self.server.web, self.headers["Range"]
        web.asked.append((self.path, asked))
        web.open.wait()
        if self.path in web.scripts:
            for piece in web.scripts[self.path]():
                self.wfile.write(piece)
            return
        if self.path in web.redirects:
            self.send_response(302)
            self.send_header("Location", web.redirects[self.path])
            self.end_headers()
            return
        content = web.files.get(self.path)
        if status := (web.statuses.pop(0) if web.statuses else None) or (404 if content is None else None):
            self.send_error(status)
            return
        version = f'"{hashlib.sha256(content).hexdigest()}"'
        start = 0
        if asked and web.ranges and self.headers["If-Range"] in (None, version):
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                self.send_error(416)
                return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if web.versions:
            self.send_header("ETag", version)
        if web.lengths:
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:][: web.cuts.pop(0) if web.cuts else None])

    def log_message(self, format: str, *args: object) -> None: ...
