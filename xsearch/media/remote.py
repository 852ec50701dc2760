"""Remote files on any fsspec file system: listed and fetched in parallel, with retries.

Files are copied into a scratch folder that mirrors their paths, so that names, folders and neighbouring files
mean the same as for local files. A server is a stranger: a file ends at its listed size, has a least rate and
a longest time (see `transfer`), and a listing has bounds.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from hashlib import sha256
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import unquote, urlsplit

from xsearch.errors import MediaError, NotFetched, Reason, TooLarge, Unreadable, UsageError
from xsearch.media import files
from xsearch.media.depth import CAMERA
from xsearch.media.exclusion import IGNORE_FILE, Exclusion, Skipped, is_hidden
from xsearch.media.files import HEAD, guess, identify, is_metadata, match_kind
from xsearch.media.imu import recordings
from xsearch.system import scratch
from xsearch.system.http import http_options
from xsearch.system.retries import reason_of, retried
from xsearch.system.settings import setting
from xsearch.system.transfer import OutOfTime, TooLong, TooSlow, Transfer, bounded, max_bytes, max_seconds
from xsearch.types import MediaFile, Modality

__all__ = ["CONNECTIONS", "Remote", "RemoteFile", "at_hand", "fetched", "is_url", "listed"]

CONNECTIONS = 16
SIDECARS = (".json", ".xmp")
MAX_LISTED, MAX_FOLDERS, MAX_DEPTH = 1_000_000, 100_000, 32  # files of a URL, its folders, and their nesting
MAX_NAME = 200  # bytes of a local name; file systems take 255
EAGER_BYTES = 256 << 20  # of a file that describes others: the most that a table may have
MTIME_FIELDS = ("mtime", "LastModified", "last_modified", "modified", "updated", "Last-Modified", "created")


def is_url(name: str | Path) -> bool:
    """Whether a name is a URL that fsspec supports, rather than a local path.

    >>> is_url("s3://bucket/a.jpg"), is_url("zip://*.jpg::https://host/a.zip"), is_url("what://a.jpg")
    (True, True, False)
    """
    scheme, separator, _ = str(name).partition("://")
    if not separator:
        return False
    from fsspec import available_protocols

    return scheme.lower() in available_protocols()


@dataclass(frozen=True, slots=True, eq=False)
class RemoteFile:
    """A listed remote file, not fetched yet."""

    url: str
    path: Path  # of the local copy
    bytes: int  # including the companion
    mtime_ns: int  # the later one; 0 if the server does not report it
    keys: tuple[str, ...]  # paths on the remote file system: the file's, its companion's
    source: Remote = field(repr=False)
    modality: Modality = Modality.IMAGE  # guessed from the name
    mime: str = ""  # unknown until fetched
    companion: Path | None = None  # local copy of an IMU recording's gyroscope file

    @property
    def name(self) -> str:
        return self.url

    def as_modality(self, modality: Modality) -> MediaFile:
        """Return this file as a MediaFile of `modality`, including a depth map's camera, fetched before."""
        size, mtime_ns = self.bytes, self.mtime_ns
        camera = self.path.with_name(CAMERA)
        if modality is Modality.DEPTH and camera.is_file():
            size, mtime_ns = size + camera.stat().st_size, max(mtime_ns, files.mtime_ns(camera.stat()))
        return MediaFile(self.path, modality, size, mtime_ns, url=self.url)

    def fetch(self) -> MediaFile:
        """Copy the file and identify it; the caller deletes the copy. Raises MediaError naming `path`."""
        try:
            self.source.copy(self)
            file = self.source.identify(self.path, root=self.source.folder, kinds=self.source.kinds)
            return replace(file, url=self.url)
        except Exception as problem:  # file systems raise exceptions of their own
            for path in filter(None, (self.path, self.companion)):
                path.unlink(missing_ok=True)
            if isinstance(problem, MediaError):
                raise
            reason = reason_of(problem)
            raise NotFetched(f"{self.path}: cannot be fetched: {reason}; ingest again") from problem


@contextmanager
def at_hand(name: str | Path, identify: Callable[..., MediaFile] = identify) -> Iterator[Path]:
    """Yield a local path of a file; a URL is copied for the duration of the block.

    identify: see `Remote`.
    Raises UsageError unless a URL is a single file, Unreadable if it is unsupported or cannot be fetched.
    """
    if not is_url(name):
        yield Path(name)
        return
    with listed(str(name), identify) as file:
        yield fetched(file).path


@contextmanager
def listed(url: str, identify: Callable[..., MediaFile] = identify) -> Iterator[RemoteFile]:
    """Yield the file at a URL, not fetched yet; a copy of it lasts as long as the block.

    identify: see `Remote`.
    Raises UsageError unless the URL is a single file, Unreadable if it is unsupported.
    """
    with scratch.folder() as folder:
        files = list(Remote(url, folder, identify=identify).files())
        if len(files) != 1:
            raise UsageError(f"{url}: expected one file, got {len(files)}")
        if isinstance(files[0], Skipped):
            raise Unreadable(f"{url}: {files[0].reason}")
        yield files[0]


def fetched(file: RemoteFile) -> MediaFile:
    """`RemoteFile.fetch`, which raises Unreadable, naming the URL."""
    try:
        return file.fetch()
    except MediaError as problem:
        raise Unreadable(str(problem).replace(f"{file.path}", file.url, 1)) from problem


class Remote:
    """A file or folder at a URL.

    scratch: folder for local copies, deleted by the caller. kinds: see `identify`, which may also be one that
    does the same in another process.
    Raises UsageError if the URL cannot be listed or fsspec needs another package.
    """

    def __init__(
        self,
        url: str,
        scratch: Path,
        *,
        kinds: Sequence[tuple[Modality, str]] = (),
        identify: Callable[..., MediaFile] = identify,
    ) -> None:
        from fsspec.core import url_to_fs

        self.url, self.kinds, self.identify, self._scratch = url, kinds, identify, scratch
        self.tables: list[Path] = []  # metadata tables, fetched by `files`
        try:
            self._fs, self._root = url_to_fs(url, **http_options(url))
            self._is_folder = retried(self._detect_folder)
        except Exception as problem:
            raise self._not_listed(problem) from problem

    @property
    def folder(self) -> Path:
        """The local folder that mirrors the URL."""
        path = self.place(self.url)
        return path if self._is_folder else path.parent

    def files(self, exclusion: Exclusion | None = None) -> Iterator[RemoteFile | Skipped]:
        """Yield everything below the URL, sorted by name; the two files of an IMU pair are yielded as one.

        What is left out: as by `walk`. Metadata tables, `camera.json`, sidecars and ignore files are fetched
        immediately.
        """
        excluded: list[Skipped] = []
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            try:
                entries = self._entries(pool, exclusion or Exclusion(), excluded)
                listed = {file.path: file for file in pool.map(self._file, entries)}
                described = [path for path in listed if path.suffix not in SIDECARS]
                stems = {*described, *(path.with_suffix("") for path in described)}
                self.tables = [path for path in listed if is_metadata(path)]
                eager = self.tables + [path for path in listed if path.name == CAMERA]
                sidecars = [path for path in listed if path.suffix in SIDECARS]
                eager += [path for path in sidecars if path.with_suffix("") in stems]
                fetched = pool.map(self._fetch, [listed.pop(path) for path in dict.fromkeys(eager)])
                skipped = [skip for skip in fetched if skip]
                self.tables = [path for path in self.tables if path.is_file()]
                kinds = list(pool.map(self._kind, listed.values()))
            except Exception as problem:
                raise self._not_listed(problem) from problem
        yield from excluded
        yield from skipped
        files: dict[Path, RemoteFile] = {}
        for file, kind in zip(listed.values(), kinds, strict=True):
            if isinstance(kind, Skipped):
                yield kind
            else:
                files[file.path] = replace(file, modality=kind)
        for path in list(files):
            accel = next((other for other in recordings.partners(path, "gyro") if other in files), None)
            if accel:
                gyro, other = files.pop(path), files[accel]
                size, mtime_ns = gyro.bytes + other.bytes, max(gyro.mtime_ns, other.mtime_ns)
                keys = other.keys + gyro.keys
                files[accel] = replace(other, bytes=size, mtime_ns=mtime_ns, keys=keys, companion=gyro.path)
        yield from (files[path] for path in sorted(files))

    def copy(self, file: RemoteFile) -> None:
        """Fetch a file and its companion.

        Raises TooLarge or NotFetched beyond the limits. Exceptions of the file system are passed on.
        """
        if file.bytes > max_bytes():
            raise _too_large(file, f"{file.bytes:,} bytes")
        file.path.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(file.path.parent).free
        if file.bytes > free:
            raise NotFetched(
                f"{file.path}: {file.bytes:,} bytes, the disk of {self._scratch} has {free:,} free; make "
                "room, or set TMPDIR to a folder on another disk"
            )
        end_s = monotonic() + max_seconds()
        for key, path in zip(file.keys, filter(None, (file.path, file.companion)), strict=True):
            try:
                retried(partial(self._get, key, path, file.bytes or min(max_bytes(), free // 2), end_s))
            except TooLong as problem:
                if not file.bytes:
                    raise _too_large(file, str(problem)) from problem
                raise NotFetched(f"{file.path}: {problem}, as listed; ingest again") from problem
            except OutOfTime as problem:
                minutes = f"{max_seconds() / 60:g} minutes (XSEARCH_FETCH_MINUTES)"
                raise NotFetched(f"{file.path}: not complete after {minutes}; ingest again") from problem
            except TooSlow as problem:
                raise NotFetched(f"{file.path}: {problem}; ingest again") from problem
            os.utime(path, ns=(file.mtime_ns, file.mtime_ns))
        size = sum(path.stat().st_size for path in filter(None, (file.path, file.companion)))
        if size < file.bytes:  # the server ended it without an error
            raise NotFetched(f"{file.path}: {size:,} of {file.bytes:,} bytes arrived; ingest again")

    def _get(self, key: str, path: Path, most: int, end_s: float) -> None:
        transfer = Transfer(most, seconds=end_s - monotonic())
        self._fs.get_file(key, str(path), callback=bounded(transfer))

    def _fetch(self, file: RemoteFile) -> Skipped | None:
        """Fetch a file that describes others; return why it is left out."""
        if file.bytes > EAGER_BYTES:
            return Skipped(file.url, f"over {EAGER_BYTES >> 20} MB; split it", Reason.TOO_LARGE)
        try:
            self.copy(file)
        except MediaError as problem:
            file.path.unlink(missing_ok=True)
            return Skipped(file.url, str(problem).removeprefix(f"{file.path}: "), problem.reason)
        except Exception as problem:  # file systems raise exceptions of their own
            file.path.unlink(missing_ok=True)
            reason = f"cannot be fetched: {reason_of(problem)}; ingest again"
            return Skipped(file.url, reason, Reason.NOT_FETCHED)
        return None

    def _detect_folder(self) -> bool:
        """Whether the URL is a folder; over HTTP, an HTML page with links."""
        info = self._fs.info(self._root)
        if urlsplit(self._root).scheme not in ("http", "https"):
            return bool(info["type"] == "directory")
        page = info.get("mimetype") == "text/html"
        return self._root.endswith("/") or (page and bool(self._fs.ls(self._root)))

    def _not_listed(self, problem: Exception) -> UsageError:
        return UsageError(f"{self.url}: cannot be listed: {reason_of(problem)}")

    def _entries(
        self, pool: ThreadPoolExecutor, exclusion: Exclusion, excluded: list[Skipped]
    ) -> Iterator[dict[str, Any]]:
        """Yield the fsspec entry of each file. Folders are listed concurrently."""
        if not self._is_folder:
            yield {"name": self._root}
            return
        visited: set[str] = set()
        folders, most = 0, setting("XSEARCH_MAX_LISTED", MAX_LISTED)
        top = self.folder
        pending = {pool.submit(self._list, self._root)}
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for entry in (entry for future in done for entry in future.result()):
                relative, is_folder = self._relative(entry["name"]), entry["type"] == "directory"
                names = relative.split("/")
                if relative in visited or any(name[:1] in ("", "?") or is_hidden(name) for name in names):
                    continue
                visited.add(relative)
                folders += is_folder
                if len(visited) > most or folders > MAX_FOLDERS:
                    raise TooLong(
                        f"more than {most:,.0f} files (XSEARCH_MAX_LISTED) or {MAX_FOLDERS:,} folders; name "
                        "folders below it"
                    )
                url = self._url(relative)
                if is_folder and len(names) > MAX_DEPTH:
                    excluded.append(Skipped(url, f"more than {MAX_DEPTH} folders deep", Reason.TOO_LARGE))
                    continue
                path = self.place(url)
                ignore_files = exclusion.ignore_files(path.parent, top, is_copy=True)
                if skip := exclusion.skip(path, top, ignore_files, is_folder=is_folder, name=url):
                    excluded.append(replace(skip, reason=skip.reason.replace(str(top), self.url)))
                elif is_folder:
                    pending.add(pool.submit(self._list, entry["name"]))
                else:
                    yield entry

    def _list(self, folder: str) -> list[dict[str, Any]]:
        """Return the entries of a folder, after fetching its ignore file."""
        entries = list(retried(lambda: self._fs.ls(folder, detail=True)))
        for entry in entries:
            if entry["name"].rpartition("/")[2] == IGNORE_FILE and entry["type"] == "file":
                self.copy(self._file(entry))
        return entries

    def _relative(self, key: str) -> str:
        return key.removeprefix(self._root).strip("/")

    def _url(self, relative: str) -> str:
        """Return the URL of an entry of this folder."""
        url, chain, rest = self.url.partition("::")
        return f"{url}{'/' * (not url.endswith('/'))}{relative}{chain}{rest}"

    def _file(self, entry: dict[str, Any]) -> RemoteFile:
        key = entry["name"]
        if entry.get("size") is None:
            with suppress(Exception):  # a dead link; reported when fetched
                entry = retried(lambda: self._fs.info(key))
        url = self._url(self._relative(key)) if self._is_folder else self.url
        return RemoteFile(url, self.place(url), int(entry.get("size") or 0), _mtime_ns(entry), (key,), self)

    def place(self, url: str) -> Path:
        """Return the local path of a URL: a folder for its archive, if any, then host and path as folders.

        Invalid names get a % prefix.
        """
        url, _, archive = url.partition("::")
        pieces = urlsplit(url)
        parts = f"{pieces.netloc}/{unquote(pieces.path).strip('/')}".rstrip("/").split("/")
        folder = self._scratch / f"%{sha256(archive.encode()).hexdigest()[:16]}" if archive else self._scratch
        if parts == [""]:
            return folder
        return folder.joinpath(*map(_file_name, parts))

    def _kind(self, file: RemoteFile) -> Modality | Skipped:
        """Guess the kind by rules, then by name, then, without an extension, by the first bytes."""
        if kind := match_kind(file.path, self.folder, self.kinds):
            return kind
        head = b""
        if not file.path.suffix:
            try:
                head = retried(lambda: self._fs.cat_file(file.keys[0], start=0, end=HEAD))
            except Exception as problem:  # file systems raise exceptions of their own
                reason = f"cannot be fetched: {reason_of(problem)}; ingest again"
                return Skipped(file.url, reason, Reason.NOT_FETCHED)
        unsupported = Skipped(file.url, "unsupported file type", Reason.NOT_MEDIA)
        return guess(file.path, head) or unsupported


def _file_name(part: str) -> str:
    r"""Return a local name for one part of a URL.

    >>> _file_name("a b.jpg"), _file_name(".."), _file_name("a\0b.jpg")
    ('a b.jpg', '%..', 'a%00b.jpg')
    """
    name = f"%{part}" if part in ("", ".", "..") else part.replace("\0", "%00")
    if len(name.encode(errors="replace")) > MAX_NAME:
        extension = re.search(r"\.\w{1,8}$", name, re.ASCII)
        name = f"%{sha256(name.encode(errors='replace')).hexdigest()}{extension[0] if extension else ''}"
    return name


def _too_large(file: RemoteFile, size: str) -> TooLarge:
    most = f"XSEARCH_MAX_DOWNLOAD_GB={max_bytes() / 1e9:g}"
    return TooLarge(f"{file.path}: {size}, the limit is {most}; raise it, or make room")


def _mtime_ns(entry: dict[str, Any]) -> int:
    """Return an entry's mtime, 0 if unknown; file systems use datetime, seconds, ISO 8601 or RFC 2822."""
    value = next((entry[name] for name in MTIME_FIELDS if entry.get(name)), 0)
    try:
        if isinstance(value, str):
            iso = value[:1].isdigit()
            value = datetime.fromisoformat(value) if iso else parsedate_to_datetime(value)
        if isinstance(value, datetime):
            value = value if value.tzinfo else value.replace(tzinfo=UTC)
            value = int(value.timestamp()) * 10**9 + value.microsecond * 1000
        else:
            value = int(value * 1e9)
        return value if abs(value) < 1 << 63 else 0
    except (ValueError, TypeError, OverflowError):
        return 0
