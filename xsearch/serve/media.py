"""The files of items, which are sent as they are: only those that an ingest on this machine has read.

A collection names any file, so one must be what the item states: of its size, and of its mtime or content; of
its content if a link of another user leads to it, who may choose files by their size and mtime.
What a browser would run is not shown by it: types that are not listed here are downloads.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from collections.abc import AsyncIterator, Mapping
from email.utils import formatdate
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from xsearch import media, preview
from xsearch.errors import Unreadable
from xsearch.serve.problems import Refusal
from xsearch.serve.recent import Recent
from xsearch.serve.security import SANDBOX
from xsearch.system.durable import open_file
from xsearch.types import Hit

__all__ = ["DOWNLOAD", "SHOWN", "Checked", "media_type", "opened", "send"]

DOWNLOAD = "application/octet-stream"
CHUNK = 256 << 10
# Content types under which browsers show or play media, by the types that an ingest states
SHOWN = {
    "image/jpeg": "image/jpeg",
    "image/png": "image/png",
    "image/gif": "image/gif",
    "image/webp": "image/webp",
    "image/avif": "image/avif",
    "image/bmp": "image/bmp",
    "audio/aac": "audio/aac",
    "audio/flac": "audio/flac",
    "audio/mp4": "audio/mp4",
    "audio/mpeg": "audio/mpeg",
    "audio/ogg": "audio/ogg",
    "audio/wav": "audio/wav",
    "audio/webm": "audio/webm",
    "video/mp4": "video/mp4",
    "video/ogg": "video/ogg",
    "video/quicktime": "video/mp4",  # as which browsers play it
    "video/webm": "video/webm",
    "video/x-matroska": "video/x-matroska",
    "text/markdown": "text/plain; charset=utf-8",
    "text/plain": "text/plain; charset=utf-8",
}
Checked = Recent[tuple[Any, ...], bool]


def media_type(mime: str) -> str:
    """Return the content type under which a file of this type is sent."""
    return SHOWN.get(mime, DOWNLOAD)


def opened(hit: Hit, checked: Checked) -> BinaryIO:
    """Open the file of an item. Raises Refusal if that is not the one that was ingested.

    checked: files in a state that has been compared with their item, which may take reading them.
    """
    if hit.is_imported or media.is_url(hit.path):
        what = "only an import names its file" if hit.is_imported else "its file is at a URL"
        hint = "ingest it" if hit.is_imported else "it is not fetched for a client"
        raise Refusal(
            403, "not-opened", "Not opened", f"{what}: {hint}, or start the server with --trust-paths"
        )
    try:
        file = open_file(Path(hit.path))
    except (FileNotFoundError, NotADirectoryError):
        raise Refusal(410, "file-gone", "The file is gone", "it no longer exists; ingest --prune") from None
    except (OSError, ValueError) as problem:
        if getattr(problem, "errno", None) in (errno.EINVAL, errno.ENXIO, None):
            raise _changed("is no file") from None
        why = os.strerror(problem.errno) if isinstance(problem, OSError) and problem.errno else "no access"
        raise Refusal(403, "not-opened", "Not opened", f"the file cannot be opened: {why}") from None
    try:
        stated = (hit.extra.get(name) for name in ("bytes", "mtime_ns", "sha256"))
        key = hit.path, hit.modality, *stated, *_state(os.fstat(file.fileno()))
        if checked.get(key) is None:
            if not _is_ingested(file, hit):
                raise _changed("has changed")
            checked.put(key, True)
    except BaseException:
        file.close()
        raise
    return file


def _changed(what: str) -> Refusal:
    detail = f"the file {what} since it was ingested; ingest it again"
    return Refusal(409, "file-changed", "The file has changed", detail)


def _state(status: os.stat_result) -> tuple[int, ...]:
    """The state of a file, as far as the system tells; its ctime cannot be set, as its mtime can."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _is_ingested(file: BinaryIO, hit: Hit) -> bool:
    """Whether an open file is the one that was ingested."""
    try:
        preview.check(hit)
        if _state(Path(hit.path).stat()) != _state(os.fstat(file.fileno())):  # it is being replaced
            return False
        is_trusted = "bytes" not in hit.extra
        return is_trusted or _is_direct(Path(hit.path), file) or _sha256(file) == hit.extra.get("sha256")
    except (Unreadable, OSError):
        return False


def _is_direct(path: Path, file: BinaryIO) -> bool:
    """Whether an open file is the one at `path`, or links of this user and of root lead to it."""
    try:
        opened = Path(f"/proc/self/fd/{file.fileno()}").readlink()  # also by a link that is gone already
    except OSError:
        opened = path.resolve()
    if opened == path:
        return True
    links = [status for each in (path, *path.parents) if stat.S_ISLNK((status := each.lstat()).st_mode)]
    return bool(links) and {status.st_uid for status in links} <= {0, os.geteuid()}


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    file.seek(0)
    return digest


def send(file: BinaryIO, name: str, type: str, request: Request) -> Response:
    """Return a file, or the range of it that is requested, as a response that closes it."""
    status = os.fstat(file.fileno())
    size, etag = status.st_size, '"' + "-".join(f"{part:x}" for part in _state(status)) + '"'
    headers = {
        "content-type": type,
        "content-disposition": f"{'attachment' if type == DOWNLOAD else 'inline'}; {_named(name)}",
        "content-security-policy": SANDBOX,
        "cache-control": "private, no-cache",
        "accept-ranges": "bytes",
        "etag": etag,
        "last-modified": formatdate(status.st_mtime, usegmt=True),
    }
    if etag in request.headers.get("if-none-match", ""):
        file.close()
        return Response(status_code=304, headers=headers)
    first, last = _range(request.headers.get("range", ""), size)
    if first is None or request.headers.get("if-range", etag) != etag:
        first, last = 0, size - 1
        if request.method == "HEAD" or not size:
            file.close()
            return Response(headers={**headers, "content-length": str(size)})
        return _File(file, 0, size, headers)
    if first >= size or first > last:
        file.close()
        raise Refusal(
            416,
            "range",
            "No such range",
            f"the file has {size:,} bytes",
            headers={"Content-Range": f"bytes */{size}"},
        )
    headers["content-range"] = f"bytes {first}-{last}/{size}"
    return _File(file, first, last + 1 - first, headers, status=206)


def _range(header: str, size: int) -> tuple[int | None, int]:
    """Return the first and last byte of a range; None for what is to be answered as a whole."""
    match = re.fullmatch(r"\s*bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", header, re.ASCII | re.I)
    if match is None or not (match[1] or match[2]):
        return None, 0
    if not match[1]:
        return max(size - int(match[2]), 0) if int(match[2]) else size, size - 1
    return int(match[1]), min(int(match[2]), size - 1) if match[2] else size - 1


def _named(name: str) -> str:
    """Return the part of Content-Disposition with a name (RFC 6266)."""
    return f"filename*=UTF-8''{quote(name, safe='', errors='replace')}"


class _File(StreamingResponse):
    """Bytes of an open file, which is closed whatever becomes of the client."""

    def __init__(
        self, file: BinaryIO, first: int, count: int, headers: Mapping[str, str], *, status: int = 200
    ) -> None:
        super().__init__(self._chunks(first, count), status, {**headers, "content-length": str(count)})
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._file.close()

    async def _chunks(self, first: int, count: int) -> AsyncIterator[bytes]:
        self._file.seek(first)
        while count > 0:
            chunk = await to_thread.run_sync(self._file.read, min(CHUNK, count))
            if not chunk:  # it has been cut meanwhile: the client notices by the length
                return
            count -= len(chunk)
            yield chunk
