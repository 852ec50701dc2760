"""Resumable downloads of files with a known checksum.

A download grows in `NAME.part`; `NAME.part.json` beside it identifies the file, so that the same command, run
again, resumes. It ends as soon as the server sends more than the file has, or too slowly.
"""

from __future__ import annotations

import errno
import json
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from http.client import HTTPException, HTTPResponse, InvalidURL
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import Any, cast
from urllib import request
from urllib.error import HTTPError

from xsearch.errors import ModelError, UsageError
from xsearch.system.durable import digest
from xsearch.system.transfer import WINDOW_S, TooLong, TooSlow, Transfer, max_bytes

__all__ = ["Part", "Progress", "Say", "Source", "disk_error", "fetch", "need_room", "size", "unfinished"]

Say = Callable[[str], object]  # called with a line of text
Progress = Callable[[int, int | None], object]  # bytes so far, total bytes if known

CHUNK = 1 << 20
FRAMING = 1 << 20  # bytes that headers, or the frames around one chunk, may take
TRANSIENT = (408, 429, 500, 502, 503, 504)  # HTTP statuses worth a retry


@dataclass(frozen=True)
class Source:
    """A file with a known checksum."""

    place: str  # an http(s) URL, or a local path
    sha256: str
    bytes: int | None = None  # if known beforehand
    most: int | None = None  # else an upper bound; None: XSEARCH_MAX_DOWNLOAD_GB
    option: str = ""  # the command line option that accepts another sha256

    @property
    def is_url(self) -> bool:
        return self.place.lower().startswith(("http://", "https://"))

    def check(self, path: Path) -> None:
        """Raise ModelError, with both checksums, if `path` is another file or cannot be read."""
        try:
            found = digest(path)
        except OSError as error:
            raise ModelError(f"{path}: cannot be read: {error.strerror}; check the path") from error
        if found != self.sha256:
            trust = f"; if you trust this file, give {self.option} {found}" if self.option else ""
            raise ModelError(f"{self.place}: expected sha256 {self.sha256}, found {found}{trust}")


@dataclass(frozen=True)
class Part:
    """The file that a partial download belongs to."""

    url: str
    bytes: int | None = None  # of the whole file
    version: str | None = None  # its ETag or Last-Modified

    def __post_init__(self) -> None:
        kinds = (self.url, str), (self.bytes, int | None), (self.version, str | None)
        if not all(isinstance(value, kind) for value, kind in kinds):
            raise TypeError("not the record of a download")


class _Cut(Exception):
    """The connection failed; a retry may succeed."""


class _Stale(_Cut):
    """The partial download does not belong to the remote file; a retry starts from the beginning."""


def fetch(
    source: Source,
    path: Path,
    *,
    spare: float = 0.0,
    say: Say = lambda line: None,
    progress: Progress = lambda done, total: None,
    tries: int = 4,
    most_tries: int = 100,
    pause_s: float = 0.5,
    timeout_s: float = 30.0,
    window_s: float = WINDOW_S,
) -> None:
    """Download `source` to `path`, unless the file is there already.

    spare: additional disk space to require, relative to the size of the file. tries: consecutive attempts
    without progress; the pause between them doubles. most_tries: attempts with and without progress.
    timeout_s: silence that ends an attempt. window_s: time over which the rate is measured, and the longest
    for headers. Raises ModelError: disk full, no connection, too slow, too long, wrong checksum. A partial
    download is kept for the next call, one that is too long or has the wrong checksum is not.
    """
    if path.exists():
        say(f"checking {path}")
        with suppress(ModelError):
            source.check(path)
            return
    file = _part(path)
    longest, failed, made = 0, 0, 0
    while True:
        try:
            _transfer(source, path, spare, progress, timeout_s, window_s)
            break
        except TooLong as problem:
            _discard(path)
            raise ModelError(f"{source.place}: the server sends {problem}; {_trust(source)}") from problem
        except TooSlow as problem:
            raise ModelError(f"{source.place}: {problem}; {_kept(file)}") from problem
        except _Cut as cut:
            if isinstance(cut, _Stale):
                _discard(path)
            here = file.stat().st_size if file.exists() else 0
            failed = 0 if here > longest else failed + 1
            longest, made = max(here, longest), made + 1
            if failed >= tries or made >= most_tries:
                raise ModelError(f"{source.place}: {cut}; {_kept(file)}") from cut
            say(f"{cut}; trying again")
            time.sleep(pause_s * 2**failed)
    say(f"checking {path.name}")
    try:
        source.check(file)
    except ModelError:
        _discard(path)
        raise
    file.replace(path)
    _discard(path)


def unfinished(path: Path) -> tuple[Part, int] | None:
    """The partial download of `fetch(..., path)` and its size in bytes, if there is one."""
    try:
        part = Part(**json.loads(_record(path).read_text(encoding="utf-8")))
        return part, _part(path).stat().st_size
    except (OSError, TypeError, ValueError):
        return None


def need_room(folder: Path, bytes: int) -> None:
    """Raise ModelError if the disk of `folder` has fewer bytes free."""
    free = shutil.disk_usage(folder).free
    if free < bytes:
        raise ModelError(
            f"{folder}: the disk has {size(free)} free, {size(bytes)} are needed: free "
            f"{size(bytes - free)} more, or set XSEARCH_HOME to a folder on another disk"
        )


def disk_error(error: OSError, folder: Path, bytes: int) -> ModelError:
    """The error to raise when writing `bytes` to the disk of `folder` failed."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        need_room(folder, bytes)
    return ModelError(f"cannot write to {error.filename or folder}: {error.strerror or error}")


def size(bytes: int) -> str:
    """A size in readable units.

    >>> size(4_803_584_173), size(12_000), size(1)
    ('4.8 GB', '12.0 kB', '1 bytes')
    """
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if bytes >= scale:
            return f"{bytes / scale:.1f} {unit}"
    return f"{bytes} bytes"


def _kept(file: Path) -> str:
    here = size(file.stat().st_size if file.exists() else 0)
    return (
        f"{here} of it are kept: run the same command again to resume, or pass a local file with --from or "
        "--vocab"
    )


def _trust(source: Source) -> str:
    if source.bytes is not None and source.option:
        return f"if you trust it, give its sha256 with {source.option}"
    return "check the address" if source.most else "if you trust it, raise XSEARCH_MAX_DOWNLOAD_GB"


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _record(path: Path) -> Path:
    return path.with_name(f"{path.name}.part.json")


def _discard(path: Path) -> None:
    _part(path).unlink(missing_ok=True)
    _record(path).unlink(missing_ok=True)


def _transfer(
    source: Source, path: Path, spare: float, progress: Progress, timeout_s: float, window_s: float
) -> None:
    """Request the missing bytes. Raises _Cut if the connection ends before the last one."""
    part, here = unfinished(path) or (Part(source.place), 0)
    if part.url != source.place:
        part, here = Part(source.place), 0
    if here and here == part.bytes:
        return
    with _ask(part, here, timeout_s, window_s) as answer:
        here = here if answer.status == 206 else 0
        total = source.bytes if answer.length is None else here + answer.length
        if total != (source.bytes or total):
            raise ModelError(
                f"{source.place}: expected {source.bytes:,} bytes, it has {total:,}; {_trust(source)}"
            )
        most = total or source.most or max_bytes()
        if source.bytes is None and most > (source.most or max_bytes()):
            raise TooLong(f"{most:,} bytes")
        if here and total != part.bytes:
            raise _Stale("the remote file has changed")

        def room() -> int:
            return 0 if total is None else total - here + int(spare * total)

        need_room(path.parent, room())
        if total is None:  # leave others some of the disk
            most = min(most, here + shutil.disk_usage(path.parent).free // 2)
        transfer = Transfer(most, done=here, window_s=window_s)
        try:
            if not here:
                _discard(path)
                etag, date = answer.headers["ETag"], answer.headers["Last-Modified"]
                part = Part(source.place, total, date if etag is None or etag.startswith("W/") else etag)
                _record(path).write_text(json.dumps(asdict(part)), encoding="utf-8")
            with _part(path).open("ab") as file:
                progress(here, total)
                while chunk := _read(answer):
                    transfer.add(len(chunk))
                    file.write(chunk)
                    here += len(chunk)
                    progress(here, total)
        except OSError as error:
            raise disk_error(error, path.parent, room()) from error
    if total is not None and here < total:
        raise _Cut("the connection was cut")


def _ask(part: Part, here: int, timeout_s: float, window_s: float) -> _Response:
    """The response with the bytes after the first `here`, or with all if the server ignores ranges."""
    headers = {"User-Agent": "xsearch", "Accept-Encoding": "identity"}
    if here:
        headers["Range"] = f"bytes={here}-"
        if part.version:
            headers["If-Range"] = part.version  # another version is sent whole
    opener = request.OpenerDirector()  # urlopen would follow redirects to FTP
    for handler in (
        request.ProxyHandler(),
        _HTTPHandler(window_s),
        _HTTPSHandler(window_s),
        request.HTTPRedirectHandler(),
        request.HTTPDefaultErrorHandler(),
        request.HTTPErrorProcessor(),
        request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    try:
        answer = opener.open(request.Request(part.url, headers=headers), timeout=timeout_s)
    except HTTPError as error:
        error.close()
        status = f"HTTP {error.code} {error.reason}"
        if error.code == 416:
            raise _Stale(status) from error
        if error.code in TRANSIENT:
            raise _Cut(status) from error
        raise ModelError(f"{part.url}: {status}; check the address") from error
    except (InvalidURL, ValueError) as error:
        raise UsageError(f"{part.url} is not a URL: {error}") from error
    except (OSError, HTTPException, TooLong, TooSlow) as error:
        raise _Cut(_reason(error)) from error
    if answer.status == 206 and not (answer.headers["Content-Range"] or "").startswith(f"bytes {here}-"):
        answer.close()
        raise _Stale("the server sent another range than requested")
    return cast(_Response, answer)


class _Response(HTTPResponse):
    """A response whose headers, redirects and chunks each take a bounded number of bytes and seconds."""

    def __init__(self, sock: Any, *args: Any, window_s: float, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self._window_s = window_s
        self._wire = _Wire(self.fp.detach())
        self.fp = BufferedReader(self._wire)
        self.allow(FRAMING)

    def allow(self, count: int) -> None:
        """Accept `count` bytes from now on."""
        self._wire.transfer = Transfer(count, seconds=self._window_s)


class _Wire(RawIOBase):
    """The bytes of a socket, counted."""

    transfer: Transfer

    def __init__(self, raw: RawIOBase) -> None:
        self._raw = raw

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        count = cast(Any, self._raw).readinto(buffer)
        self.transfer.add(count or 0)
        return cast("int | None", count)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Bounded:
    """An opener of connections with `_Response`s."""

    def __init__(self, window_s: float) -> None:
        super().__init__()
        self._window_s = window_s

    def do_open(self, http_class: Any, req: Any, **options: Any) -> HTTPResponse:
        def connection(host: str, **more: Any) -> Any:
            made = http_class(host, **more)
            made.response_class = partial(_Response, window_s=self._window_s)
            return made

        return cast(HTTPResponse, cast(Any, super()).do_open(connection, req, **options))


class _HTTPHandler(_Bounded, request.HTTPHandler):
    pass


class _HTTPSHandler(_Bounded, request.HTTPSHandler):
    pass


def _read(answer: _Response) -> bytes:
    answer.allow(CHUNK + FRAMING)
    try:
        return answer.read1(CHUNK)
    except (OSError, HTTPException, TooLong, TooSlow) as error:
        raise _Cut(_reason(error)) from error


def _reason(error: Exception) -> str:
    """The message of the underlying error of a URLError."""
    inner = getattr(error, "reason", error)
    return getattr(inner, "strerror", None) or str(inner) or type(inner).__name__
