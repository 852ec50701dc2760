"""Downloads: a server that cuts, lies, drips and never ends; a download is right, or ends with an error."""

from __future__ import annotations

import hashlib
import os
import random
import socket
import socketserver
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.parse import quote, unquote

from benchmarks.attacks.program import Hand, run
from benchmarks.attacks.world import State, Wrong, make_media, state
from xsearch.errors import Reason, XsearchError
from xsearch.models.download import Source, fetch

__all__ = ["MISDEEDS", "Downloads", "Server"]

SECONDS = 120.0  # the most that a download of a few kilobytes may take
LARGEST = 1_000_000  # bytes of a file whose size is not known beforehand
CUT = ("closed", "reset", "cut", "cut at once", "cut, no length", "empty")  # less than the file arrives
INGEST = {"XSEARCH_FETCH_MINUTES": "0.1"}


class Downloads:
    """A file is the right one, or there is none; with a server that has come to itself it is fetched."""

    def __init__(self, folder: Path, hand: Hand, scale: int = 4) -> None:
        self._hand, self._scratch, self._media = hand, folder / "scratch", folder / "media"
        make_media(self._media, 1)
        self._content = random.Random(0).randbytes(200_000)

    def round(self, folder: Path, rng: random.Random) -> Counter[str]:
        return (self._fetch if rng.random() < 0.7 else self._ingest)(folder, rng)

    def _fetch(self, folder: Path, rng: random.Random) -> Counter[str]:
        """Download a file with a checksum."""
        misdeeds = [rng.choice([*MISDEEDS]) for _ in range(rng.randint(1, 4))]
        what, content = f"download: {misdeeds[0]}", self._content
        with Server({"/model.pth": content}) as server:
            server.misdeeds["/model.pth"] = [*misdeeds]
            source = Source(
                f"{server.url}/model.pth",
                hashlib.sha256(content).hexdigest(),
                rng.choice([None, len(content)]),
            )
            path = folder / "model.pth"
            for turn in range(3):
                if turn == 2:
                    server.misdeeds.clear()
                got = self._hand(_download, source, path, limit_s=SECONDS)
                if (size := sum(each.stat().st_size for each in folder.iterdir())) >= 2 * LARGEST:
                    raise Wrong(f"{misdeeds}: {size:,} bytes on the disk, of {len(content):,}")
                if path.exists() and path.read_bytes() != content:
                    raise Wrong(f"{misdeeds}: another file was accepted")
                if got.startswith("another"):
                    raise Wrong(f"{misdeeds}: {got}")
            if got:
                raise Wrong(f"{misdeeds}, then a good server: {got}")
        return Counter({what: 1})

    def _ingest(self, folder: Path, rng: random.Random) -> Counter[str]:
        """Ingest a folder of a web server: what is sent badly is fetched at the next ingest."""
        files = {f"/m/{each.name}": each.read_bytes() for each in self._media.iterdir() if each.is_file()}
        names = [name for name in files if name.endswith((".png", ".txt", ".wav", ".jpg", ".csv"))]
        files = {name: files[name] for name in names}
        links = "".join(f'<a href="{quote(name)}">{name}</a>' for name in files)
        chosen = {name: rng.choice([*MISDEEDS]) for name in rng.sample(names, 2)}
        path, what = folder / "c", f"ingest, {chosen}"
        with Server({**files, "/m/": f"<html>{links}</html>".encode()}) as server:
            good = {f"{server.url}{name}" for name in names if name not in chosen}
            good -= {f"{server.url}/m/{name}" for name in ("broken.png", "metadata.csv")}
            server.misdeeds |= {name: [misdeed] * 99 for name, misdeed in chosen.items()}
            output = run("ingest", f"{server.url}/m/", "-c", path, scratch=self._scratch, **INGEST)
            now: State = self._hand(state, path)
            if missing := good - {unquote(key[0]) for key in now.rows}:
                raise Wrong(f"{what}: {missing} are missing; {output[-1500:]}")
            damaged = {unquote(url) for url, error in now.skipped.items() if not Reason(error).is_passing}
            for name, misdeed in chosen.items():
                if misdeed in CUT and f"{server.url}{name}" in damaged and "broken" not in name:
                    raise Wrong(f"{what}: what was cut counts as damaged: {output[-1500:]}")
            server.misdeeds.clear()
            output = run("ingest", f"{server.url}/m/", "-c", path, scratch=self._scratch, **INGEST)
            now = self._hand(state, path)
            if left := [name for name in now.skipped if Reason(now.skipped[name]).is_passing]:
                raise Wrong(f"{what}, then a good server: {left}")
        return Counter({f"ingest: {misdeed}": 1 for misdeed in chosen.values()})


def _download(source: Source, path: Path) -> str:
    """Return "", or why there is no file."""
    os.environ["XSEARCH_MAX_DOWNLOAD_GB"] = f"{LARGEST / 1e9}"
    try:
        fetch(source, path, tries=3, most_tries=12, pause_s=0.01, timeout_s=1.0, window_s=2.0)
    except XsearchError as error:
        return str(error) or "an error without a message"
    except Exception as error:
        return f"another exception: {type(error).__name__}: {error}"
    return ""


# ---------------------------------------------------------------- the server


class Server:
    """`with Server({"/a": b"..."}) as server:` serves files, or answers with the next of its misdeeds."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.misdeeds: dict[str, list[str]] = {}
        self.ended = Event()

    def __enter__(self) -> Server:
        self._server = _Listener(("127.0.0.1", 0), _Handler)
        self._server.of = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Listener(socketserver.ThreadingTCPServer):
    of: Server
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: Any, client_address: Any) -> None: ...  # a client that has gone


class _Handler(socketserver.StreamRequestHandler):
    server: _Listener

    def handle(self) -> None:
        line = self.rfile.readline(9_000).decode("latin-1").split()
        headers = {"method": line[0]} if line else {}
        while header := self.rfile.readline(9_000).decode("latin-1").strip():
            name, _, value = header.partition(":")
            headers[name.lower()] = value.strip()
        if len(line) < 2:
            return
        path, of = unquote(line[1].partition("?")[0]), self.server.of
        content = of.files.get(path)
        queue = of.misdeeds.get(path)
        reply = _Reply(self.wfile, self.connection, content or b"", headers, of.ended)
        with suppress(OSError):
            if content is None:
                reply.status("404 Not Found")
            elif queue and line[0] != "HEAD":
                MISDEEDS[queue.pop(0) if len(queue) < 50 else queue[0]](reply)
            else:
                reply.well()


class _Reply:
    def __init__(
        self, out: Any, connection: socket.socket, content: bytes, asked: dict[str, str], ended: Event
    ) -> None:
        self.out, self.connection, self.content, self.asked = out, connection, content, asked
        self.ended = ended
        self.version = f'"{hashlib.sha256(content).hexdigest()[:16]}"'

    def status(self, status: str, *headers: str) -> None:
        self.out.write(
            "\r\n".join([f"HTTP/1.1 {status}", "Connection: close", *headers, "", ""]).encode("latin-1")
        )

    def well(self) -> None:
        """A good answer."""
        start, kind = 0, "text/html" if self.content.startswith(b"<html") else "application/octet-stream"
        asked = self.asked.get("range", "")
        if asked.startswith("bytes=") and self.asked.get("if-range") in (None, self.version):
            start = min(int(asked[6:].partition("-")[0] or 0), len(self.content) - 1)
        headers = [
            f"ETag: {self.version}",
            f"Content-Type: {kind}",
            f"Content-Length: {len(self.content) - start}",
        ]
        if start:
            headers.append(f"Content-Range: bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        self.status("206 Partial Content" if start else "200 OK", *headers)
        if self.asked["method"] != "HEAD":
            self.out.write(self.content[start:])

    def body(self, content: bytes, length: object = None, *headers: str) -> None:
        lengths = [] if length is None else [f"Content-Length: {length}"]
        self.status("200 OK", f"ETag: {self.version}", *lengths, *headers)
        self.out.write(content)

    def forever(self, piece: bytes, pause_s: float = 0.0) -> None:
        while not self.ended.wait(pause_s) if pause_s else not self.ended.is_set():
            self.out.write(piece)
            self.out.flush()

    def hold(self) -> None:
        self.ended.wait(SECONDS)


def _reset(reply: _Reply) -> None:
    reply.body(reply.content[: len(reply.content) // 3], len(reply.content))
    reply.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def _silent_inside(reply: _Reply) -> None:
    reply.body(reply.content[: len(reply.content) // 2], len(reply.content))
    reply.out.flush()
    reply.hold()


def _drip(reply: _Reply) -> None:
    reply.body(b"", len(reply.content))
    reply.forever(b"x", 0.2)


def _drip_headers(reply: _Reply) -> None:
    reply.out.write(b"HTTP/1.1 200 OK\r\n")
    reply.forever(b"X-A: b\r\n", 0.2)


def _endless(reply: _Reply) -> None:
    reply.body(reply.content)
    reply.forever(bytes(1 << 16))


def _endless_headers(reply: _Reply) -> None:
    reply.out.write(b"HTTP/1.1 200 OK\r\n")
    reply.forever(b"X-A: " + b"b" * 60_000 + b"\r\n")


def _endless_chunks(reply: _Reply) -> None:
    reply.status("200 OK", "Transfer-Encoding: chunked")
    reply.forever(b"1\r\nx\r\n")


def _endless_continue(reply: _Reply) -> None:
    reply.forever(b"HTTP/1.1 100 Continue\r\n\r\n")


MISDEEDS: dict[str, Callable[[_Reply], None]] = {
    "closed": lambda reply: None,
    "reset": _reset,
    "silence": lambda reply: reply.hold(),
    "silence inside": _silent_inside,
    "drip": _drip,
    "drip of headers": _drip_headers,
    "cut": lambda reply: reply.body(reply.content[:-9], len(reply.content)),
    "cut at once": lambda reply: reply.body(b"", len(reply.content)),
    "cut, no length": lambda reply: reply.body(reply.content[:-9]),
    "empty": lambda reply: reply.body(b"", 0),
    "longer": lambda reply: reply.body(reply.content * 2, 2 * len(reply.content)),
    "longer than said": lambda reply: reply.body(reply.content * 2, len(reply.content)),
    "endless": _endless,
    "endless headers": _endless_headers,
    "endless chunks": _endless_chunks,
    "endless 100": _endless_continue,
    "huge claim": lambda reply: reply.body(reply.content, 10**15),
    "negative length": lambda reply: reply.body(reply.content, -1),
    "length of letters": lambda reply: reply.body(reply.content, "many"),
    "two lengths": lambda reply: reply.body(reply.content, 5, f"Content-Length: {len(reply.content)}"),
    "other bytes": lambda reply: reply.body(reply.content[::-1], len(reply.content)),
    "a page": lambda reply: reply.body(b"<html>log in", 12, "Content-Type: text/html"),
    "gzip": lambda reply: reply.body(reply.content, len(reply.content), "Content-Encoding: gzip"),
    "bad chunks": lambda reply: reply.body(b"zz\r\nx", None, "Transfer-Encoding: chunked"),
    "garbage": lambda reply: reply.out.write(random.Random(0).randbytes(5_000)),
    "another protocol": lambda reply: reply.out.write(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "another version": lambda reply: reply.out.write(b"HTTP/9.9 200 OK\r\n\r\nx"),
    "204": lambda reply: reply.status("204 No Content"),
    "206 unasked": lambda reply: reply.status(
        "206 Partial Content", "Content-Range: bytes 5-9/10", "Content-Length: 5"
    ),
    "206 of another": lambda reply: reply.status(
        "206 Partial Content", "Content-Range: bytes 0-0/1", "Content-Length: 1"
    ),
    "301 to itself": lambda reply: reply.status("301 Moved Permanently", "Location: /model.pth"),
    "302 to a file": lambda reply: reply.status("302 Found", "Location: file:///etc/passwd"),
    "302 to FTP": lambda reply: reply.status("302 Found", "Location: ftp://127.0.0.1/x"),
    "302 to nowhere": lambda reply: reply.status("302 Found", "Location: http://127.0.0.1:1/x"),
    "302 without": lambda reply: reply.status("302 Found"),
    "401": lambda reply: reply.status("401 Unauthorized", 'WWW-Authenticate: Basic realm="x"'),
    "403": lambda reply: reply.status("403 Forbidden"),
    "404": lambda reply: reply.status("404 Not Found"),
    "416": lambda reply: reply.status("416 Range Not Satisfiable"),
    "429": lambda reply: reply.status("429 Too Many Requests", "Retry-After: 99999999"),
    "500": lambda reply: reply.status("500 Internal Server Error"),
    "503": lambda reply: reply.status("503 Service Unavailable", "Retry-After: never"),
    "999": lambda reply: reply.status("999 "),
}
