"""Files that clients bring, to be parts of queries: kept for a while, in a folder that ends with the server.

An upload is known by a digest of its content and kind: who brings it again gets the same id. Its name says
what kind it is and is shown; nothing is ever read by name. One that cannot be decoded is not kept.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import TYPE_CHECKING
from uuid import uuid4

from anyio import to_thread
from starlette.datastructures import UploadFile

from xsearch import decoders, query
from xsearch.errors import XsearchError
from xsearch.serve import contract
from xsearch.serve.problems import Refusal, without_paths
from xsearch.serve.settings import Settings
from xsearch.system.terminal import printable
from xsearch.types import Modality

if TYPE_CHECKING:
    from xsearch.types import MediaFile

__all__ = ["Stored", "Uploads", "chunks"]

NAME = 200  # letters
CHUNK = 256 << 10
TIDY_S = 60.0
# A folder of this name keeps the names of folders above it from stating a kind; see `media.conventions`
SHIELD = "mask"


@dataclass(slots=True)
class Stored:
    """An upload on disk."""

    id: str
    name: str  # as the client calls it, printable
    path: Path
    kind: Modality
    mime: str
    bytes: int
    sha256: str
    used: float = field(default_factory=time.monotonic)


class Uploads:
    """The uploads of a server, within its bounds: those used longest ago make room.

    folder: empty, for these alone. Its methods may be called by any thread; `receive` by the event loop.
    """

    def __init__(self, folder: Path, settings: Settings) -> None:
        self._folder, self._settings = folder / SHIELD, settings
        self._folder.mkdir()
        self._stored: dict[str, Stored] = {}
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._stored)

    @property
    def size(self) -> int:
        return sum(each.bytes for each in list(self._stored.values()))

    def get(self, id: str) -> Stored:
        """Return an upload, whose time starts anew. Raises Refusal."""
        self.sweep()
        with self._lock:
            if (stored := self._stored.get(id)) is None:
                raise Refusal(
                    404, "no-upload", "No such upload", "it has expired, or never was: upload it again"
                )
            stored.used = time.monotonic()
            return stored

    def remove(self, id: str) -> None:
        """Delete an upload. Raises Refusal."""
        self._drop(self.get(id))

    def sweep(self, room: int = 0) -> None:
        """Delete what has expired, and what stands in the way of `room` more bytes."""
        limits, now = self._settings, time.monotonic()
        oldest, size = sorted(self._stored.values(), key=lambda each: each.used), self.size
        for stored in oldest:
            is_full = len(self._stored) >= limits.uploads or size + room > limits.uploads_bytes
            if now - stored.used > limits.upload_age_s or (room and is_full):
                self._drop(stored)
                size -= stored.bytes

    async def tidy(self) -> None:
        """Delete what expires, until cancelled."""
        while True:
            await asyncio.sleep(min(self._settings.upload_age_s, TIDY_S))
            await to_thread.run_sync(self.sweep)

    def _drop(self, stored: Stored) -> None:
        with self._lock:
            self._stored.pop(stored.id, None)
        shutil.rmtree(stored.path.parent, ignore_errors=True)

    async def receive(self, content: AsyncIterator[bytes], name: str, kind: Modality | None) -> Stored:
        """Keep a file as it comes. Raises Refusal or MediaError; nothing is left of it then."""
        name = _name(name)
        folder = self._folder / uuid4().hex
        path = folder / _safe(name)
        folder.mkdir()
        try:
            digest, size = await self._write(content, path)
            return await to_thread.run_sync(partial(self._identified, path, name, kind, digest, size))
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    async def _write(self, content: AsyncIterator[bytes], path: Path) -> tuple[str, int]:
        digest, size = sha256(), 0
        with path.open("xb") as file:
            async for chunk in content:
                size += len(chunk)
                if size > self._settings.upload_bytes:
                    most = self._settings.upload_bytes
                    raise Refusal(413, "too-large", "Too large", f"more than {most:,} bytes in one file")
                digest.update(chunk)
                file.write(chunk)
        if not size:
            raise Refusal(422, "empty-query", "Nothing is left to search for", "the file is empty")
        return digest.hexdigest(), size

    def _identified(self, path: Path, name: str, kind: Modality | None, digest: str, size: int) -> Stored:
        rules = [(kind, "*")] if kind else ()
        try:
            file: MediaFile = decoders.identify(path, kinds=rules)
            id = sha256(f"{file.modality}\0{digest}".encode()).hexdigest()[:32]
            if id not in self._stored:
                query.check(query.Part(file.modality, path), file)
        except XsearchError as problem:
            raise without_paths(problem, {path: name}) from problem
        self.sweep(size)
        with self._lock:
            if (known := self._stored.get(id)) is not None:
                known.used, known.name = time.monotonic(), name
                shutil.rmtree(path.parent, ignore_errors=True)
                return known
            stored = Stored(id, name, path, file.modality, file.mime, size, digest)
            self._stored[id] = stored
        return stored

    def answer(self, stored: Stored) -> contract.Upload:
        """Return the description of an upload."""
        left_s = self._settings.upload_age_s - (time.monotonic() - stored.used)
        return contract.Upload(
            id=stored.id,
            name=stored.name,
            kind=stored.kind,
            mime=stored.mime,
            bytes=stored.bytes,
            expires_s=round(max(left_s, 0.0), 1),
            preview=f"/v1/uploads/{stored.id}/preview",
        )


async def chunks(file: UploadFile) -> AsyncIterator[bytes]:
    """Yield the content of a file of a form."""
    while chunk := await file.read(CHUNK):
        yield chunk


def _name(name: str) -> str:
    """Return the last part of a name that a client states, fit to be shown."""
    return printable(PurePosixPath(name.replace("\\", "/").replace("\0", "")).name)[:NAME] or "file"


def _safe(name: str) -> str:
    """Return a name of letters, digits and dashes for the file on disk: the words and suffix of `name`."""
    stem, dot, suffix = name.rpartition(".")
    parts = [re.sub(r"[^A-Za-z0-9]+", "-", part).strip("-")[-60:] for part in (stem if dot else name, suffix)]
    return ".".join(filter(None, [parts[0] or "file", parts[1] if dot else ""]))
