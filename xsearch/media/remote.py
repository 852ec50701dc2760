"""Files behind URLs, whatever fsspec knows: listed and fetched in parallel, and tried again.

A remote file is copied to its place below a scratch folder, so that everything that its name, its folder and
its neighbours tell is told there too; the copy is then read like any other file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import sleep
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from xsearch.errors import MediaError, NotFetched, Reason, Unreadable, UsageError
from xsearch.media import imu
from xsearch.media.files import HEAD, Skipped, asked, guess, identify
from xsearch.types import MediaFile, Modality

__all__ = ["CONNECTIONS", "Remote", "RemoteFile", "at_hand", "is_url"]

CONNECTIONS = 16
WAITS_S = (0.3, 1.0, 3.0, 10.0)  # before the second try, the third, ...
LASTING = (
    FileNotFoundError,
    PermissionError,
    IsADirectoryError,
    NotImplementedError,
    ValueError,
    ImportError,
)
PASSING = (408, 429)  # the statuses of HTTP below 500 that may be over a little later
TIMES = ("mtime", "LastModified", "last_modified", "modified", "updated", "Last-Modified", "created")

T = TypeVar("T")


def is_url(name: str | Path) -> bool:
    """Whether this is for fsspec, and no path of this machine.

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
    """One file of a listing, not fetched yet."""

    url: str
    path: Path  # where its copy will be
    bytes: int  # with its companion's
    mtime_ns: int  # the later one's; 0 where the server does not tell
    keys: tuple[str, ...]  # what its file system calls it, and its companion
    source: Remote = field(repr=False)
    modality: Modality = Modality.IMAGE  # by its name, which its content may prove wrong
    mime: str = ""  # not known before it is fetched
    companion: Path | None = None  # where the copy of an IMU recording's gyroscope file will be

    @property
    def name(self) -> str:
        return self.url

    def known_as(self, modality: Modality) -> MediaFile:
        """The file as it is if it is of this kind; a depth map's camera is there already."""
        size, mtime_ns = self.bytes, self.mtime_ns
        camera = self.path.with_name("camera.json")
        if modality is Modality.DEPTH and camera.is_file():
            size, mtime_ns = size + camera.stat().st_size, max(mtime_ns, camera.stat().st_mtime_ns)
        return MediaFile(self.path, modality, size, mtime_ns, url=self.url)

    def fetch(self) -> MediaFile:
        """The copy, identified. Whoever takes it removes it. Raises MediaError, which names `path`."""
        try:
            self.source.copy(self)
            file = identify(self.path, root=self.source.folder, kinds=self.source.kinds)
            return replace(file, url=self.url)
        except Exception as problem:  # what file systems raise
            self.path.unlink(missing_ok=True)
            if isinstance(problem, MediaError):
                raise
            reason = _reason(problem)
            raise NotFetched(f"{self.path}: cannot be fetched: {reason}; ingest again") from problem


@contextmanager
def at_hand(name: str | Path) -> Iterator[Path]:
    """Where the file of this name can be read while the block lasts: behind a URL, a copy.

    Raises UsageError for a URL that is not one file of a known kind, Unreadable if it cannot be fetched.
    """
    if not is_url(name):
        yield Path(name)
        return
    with TemporaryDirectory(prefix="xsearch-", ignore_cleanup_errors=True) as scratch:
        found = list(Remote(str(name), Path(scratch).resolve()).files())
        if len(found) != 1:
            raise UsageError(f"{name}: expected one file, and here are {len(found)}")
        file = found[0]
        if isinstance(file, Skipped):
            raise Unreadable(f"{name}: {file.reason}")
        try:
            copy = file.fetch()
        except MediaError as problem:
            raise Unreadable(str(problem).replace(f"{file.path}", f"{name}", 1)) from problem
        yield copy.path


class Remote:
    """What is at a URL: a file, or a folder and everything below it.

    scratch: a folder for the copies, which goes when its owner says so. kinds: as of `identify`.
    Raises UsageError where nothing is, or where fsspec needs another package.
    """

    def __init__(self, url: str, scratch: Path, *, kinds: Sequence[tuple[Modality, str]] = ()) -> None:
        from fsspec.core import url_to_fs

        self.url, self.kinds, self._scratch = url, kinds, scratch
        try:
            self._fs, self._root = url_to_fs(url)
            self._is_folder = _patiently(self._looks_like_folder)
        except Exception as problem:
            raise self._not_listed(problem) from problem

    @property
    def folder(self) -> Path:
        """Below which the copies are."""
        path = self.place(self.url)
        return path if self._is_folder else path.parent

    def files(self) -> Iterator[RemoteFile | Skipped]:
        """Everything below the URL, by name; the two files of an IMU pair come as one.

        Hidden entries are left out. `metadata.csv`, `camera.json` and sidecars are fetched at once.
        """
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            try:
                found = {file.path: file for file in pool.map(self._file, self._entries(pool))}
                stems = {path.with_suffix("") for path in found if path.suffix != ".json"}
                beside = [path for path in found if path.name in ("metadata.csv", "camera.json")]
                beside += [path for path in found if path.suffix == ".json" and path.with_suffix("") in stems]
                list(pool.map(self.copy, [found.pop(path) for path in dict.fromkeys(beside)]))
                kinds = list(pool.map(self._kind, found.values()))
            except Exception as problem:
                raise self._not_listed(problem) from problem
        files: dict[Path, RemoteFile] = {}
        for file, kind in zip(found.values(), kinds, strict=True):
            if kind:
                files[file.path] = replace(file, modality=kind)
            else:
                yield Skipped(file.url, "of no known kind", Reason.NOT_MEDIA)
        for path in list(files):
            accel = next((other for other in imu.partners(path, "gyro") if other in files), None)
            if accel:
                gyro, other = files.pop(path), files[accel]
                size, mtime_ns = gyro.bytes + other.bytes, max(gyro.mtime_ns, other.mtime_ns)
                keys = other.keys + gyro.keys
                files[accel] = replace(other, bytes=size, mtime_ns=mtime_ns, keys=keys, companion=gyro.path)
        yield from (files[path] for path in sorted(files))

    def copy(self, file: RemoteFile) -> None:
        """Fetch it to its place, with its companion. Raises what its file system raises."""
        file.path.parent.mkdir(parents=True, exist_ok=True)
        for key, path in zip(file.keys, filter(None, (file.path, file.companion)), strict=True):
            _patiently(partial(self._fs.get_file, key, str(path)))
            os.utime(path, ns=(file.mtime_ns, file.mtime_ns))

    def _looks_like_folder(self) -> bool:
        """Over HTTP a page of links is a folder; elsewhere the file system knows."""
        about = self._fs.info(self._root)
        if urlsplit(self._root).scheme not in ("http", "https"):
            return bool(about["type"] == "directory")
        page = about.get("mimetype") == "text/html"
        return self._root.endswith("/") or (page and bool(self._fs.ls(self._root)))

    def _not_listed(self, problem: Exception) -> UsageError:
        return UsageError(f"{self.url}: cannot be listed: {_reason(problem)}")

    def _entries(self, pool: ThreadPoolExecutor) -> Iterator[dict[str, Any]]:
        """What the file system tells of each file. Folders are listed side by side."""
        if not self._is_folder:
            yield {"name": self._root}
            return
        seen: set[str] = set()
        waiting = {pool.submit(self._list, self._root)}
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for entry in (entry for future in done for entry in future.result()):
                inside = self._inside(entry["name"])
                if inside in seen or any(part[:1] in ("", ".", "?") for part in inside.split("/")):
                    continue
                seen.add(inside)
                if entry["type"] == "directory":
                    waiting.add(pool.submit(self._list, entry["name"]))
                else:
                    yield entry

    def _list(self, folder: str) -> list[dict[str, Any]]:
        return list(_patiently(lambda: self._fs.ls(folder, detail=True)))

    def _inside(self, key: str) -> str:
        return key.removeprefix(self._root).strip("/")

    def _file(self, entry: dict[str, Any]) -> RemoteFile:
        key = entry["name"]
        if entry.get("size") is None:
            with suppress(Exception):  # a dead link; fetching it will say so
                entry = _patiently(lambda: self._fs.info(key))
        url, chain, rest = self.url.partition("::")
        if self._is_folder:
            url += "/" * (not url.endswith("/")) + self._inside(key)
        size = int(entry.get("size") or 0)
        return RemoteFile(f"{url}{chain}{rest}", self.place(url), size, _mtime_ns(entry), (key,), self)

    def place(self, url: str) -> Path:
        """Where a file is copied to: host and path as folders; what could be no name gets a sign in front."""
        pieces = urlsplit(url.partition("::")[0])
        parts = f"{pieces.netloc}/{unquote(pieces.path).strip('/')}".rstrip("/").split("/")
        return self._scratch.joinpath(*(f"%{part}" if part in ("", ".", "..") else part for part in parts))

    def _kind(self, file: RemoteFile) -> Modality | None:
        """By the rules, by the name, and where that has no extension, by the first bytes."""
        if kind := asked(file.path, self.folder, self.kinds):
            return kind
        if file.path.suffix:
            return guess(file.path)
        return guess(file.path, _patiently(lambda: self._fs.cat_file(file.keys[0], start=0, end=HEAD)))


def _patiently(act: Callable[[], T]) -> T:
    """What `act` returns; it is tried again where the problem may pass."""
    for wait_s in WAITS_S:
        try:
            return act()
        except Exception as problem:  # file systems have their own
            if not _may_pass(problem):
                raise
        sleep(wait_s)
    return act()


def _may_pass(problem: BaseException) -> bool:
    if status := getattr(problem, "status", None) or getattr(problem.__cause__, "status", None):  # of HTTP
        return bool(status >= 500 or status in PASSING)
    return not isinstance(problem, LASTING)


def _reason(problem: Exception) -> str:
    if isinstance(problem, FileNotFoundError):
        return "nothing is there"
    if isinstance(problem, ImportError):
        return f"{problem}; pip install 'xsearch[remote]'"
    return f"{type(problem).__name__}: {problem}".splitlines()[0].rstrip(": ")


def _mtime_ns(entry: dict[str, Any]) -> int:
    """When a file was changed, as far as its file system tells: a time, seconds, or a text of two kinds."""
    given = next((entry[name] for name in TIMES if entry.get(name)), 0)
    try:
        if isinstance(given, str):
            iso = given[:1].isdigit()
            given = datetime.fromisoformat(given) if iso else parsedate_to_datetime(given)
        if isinstance(given, datetime):
            given = given if given.tzinfo else given.replace(tzinfo=UTC)
            return int(given.timestamp()) * 10**9 + given.microsecond * 1000
        return int(given * 1e9)
    except (ValueError, TypeError, OverflowError):
        return 0
