"""The manifest: the file that lists everything a collection consists of."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import Any

from xsearch.errors import Damaged, NoCollection, StoreError
from xsearch.nearest import NAME, default_collection, user_collection
from xsearch.system.durable import open_file, read_file
from xsearch.system.folder import Folder
from xsearch.types import DEFAULT_COLLECTION, Fingerprint

__all__ = [
    "COPY",
    "FOLDERS",
    "FORMAT",
    "MARK",
    "PART",
    "QUARANTINE",
    "SEGMENT_FILES",
    "Manifest",
    "Mark",
    "SegmentEntry",
    "open_manifest",
    "parsed_manifest",
    "read_manifest",
    "read_mark",
    "serialized",
    "write_manifest",
]

FORMAT = 3  # specified in indexes/README.md, with the differences of formats 1 and 2
COPY = "manifest.copy.json"  # backup for `verify --repair`
MARK = "high-water.json"  # what has been committed, whichever manifest has been put back since
QUARANTINE = "quarantine"  # where a repair moves damaged files
SEAL = b',\n "sha256": '  # starts the trailer of a manifest since format 2
LARGEST = 256 << 20  # bytes of a manifest that is read
MAX_ID = 1 << 62
MAX_DIM = 1 << 16
_UUID, _SHA256 = "[0-9a-f]{32}", "[0-9a-f]{64}"
SEGMENT_FILES = ("items.parquet", "vectors.arrow", "checksums.bin", "items.arrow", "items.checksums.bin")
# Folder -> the names that a writer gives, and the files of those that are folders
FOLDERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "segments": (_UUID, SEGMENT_FILES),
    "tombstones": (rf"{_UUID}\.parquet", ()),
    "skipped": (rf"{_UUID}\.parquet", ()),
    "index": (_UUID, ("index.faiss", "plan.json", *(f"shard-{i}.faiss" for i in range(1_000)))),
    "words": (rf"{_UUID}\.sqlite", ()),
    "parts": (rf"(\.{_UUID}\.)?{_SHA256}\.part", ()),  # what workers have written, in no manifest
}
_PATH = "(" + "|".join(f"{folder}/{names}" for folder, (names, _) in FOLDERS.items()) + ")"
_PUBLISHED = "|".join(map(re.escape, (NAME, COPY, MARK)))
PART = re.compile(rf"\.({_PUBLISHED})\.{_UUID}\.part")  # of a writer that was killed


@dataclass(frozen=True, slots=True)
class SegmentEntry:
    """One live segment. Its ids ascend from `first_id` to `last_id`, above those of earlier segments."""

    uuid: str
    rows: int
    first_id: int
    last_id: int
    sha256: Mapping[str, str]  # file name -> digest

    @property
    def folder(self) -> str:
        """Path inside the collection."""
        return f"segments/{self.uuid}"


@dataclass(frozen=True, slots=True)
class Manifest:
    """The content of `manifest.json`: the files and state of one generation."""

    fingerprint: Fingerprint  # `model` in the file
    format: int = FORMAT
    generation: int = 0  # counts commits
    next_id: int = 0  # ids are never reused
    segments: tuple[SegmentEntry, ...] = ()
    tombstones: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    index: str | None = None
    words: str | None = None
    calibration: Mapping[str, Any] | None = None
    source: str | None = None  # `--model` value, a hint where to find the model of `fingerprint`
    previous: tuple[str, ...] = ()  # files only the previous generation references; kept for its readers
    digests: Mapping[str, str] = field(default_factory=dict)  # path -> sha256 of each file outside segments

    def files(self) -> set[str]:
        """Paths of the files and folders of this generation, relative to the collection."""
        segments = (entry.folder for entry in self.segments)
        index = f"index/{self.index}" if self.index else None
        return {*segments, *self.tables(), *filter(None, (index, self.words_file))}

    def contents(self) -> dict[str, str]:
        """Path -> sha256 of every file of this generation, except those that format 1 has no digests of."""
        segments = {
            f"{entry.folder}/{name}": digest
            for entry in self.segments
            for name, digest in entry.sha256.items()
        }
        return segments | dict(self.digests)

    @property
    def words_file(self) -> str | None:
        """Path of the full-text index."""
        return f"words/{self.words}.sqlite" if self.words else None

    @property
    def index_digests(self) -> dict[str, str]:
        """Index file name -> sha256; empty for an index written by format 1."""
        folder = f"index/{self.index}/"
        digests = self.digests.items()
        return {path.removeprefix(folder): sha256 for path, sha256 in digests if path.startswith(folder)}

    def tables(self) -> list[str]:
        """Paths of the tombstone and skipped-file tables."""
        kinds = {"tombstones": self.tombstones, "skipped": self.skipped}
        return [f"{kind}/{uuid}.parquet" for kind, uuids in kinds.items() for uuid in uuids]


@dataclass(frozen=True, slots=True)
class Mark:
    """The high-water mark of a collection: ids below `next_id` have been given to items at some time."""

    generation: int = 0  # of the last commit, which a crash may have prevented
    next_id: int = 0

    def is_beyond(self, manifest: Manifest) -> bool:
        """Whether `manifest` is not the last that was committed."""
        return self.generation > manifest.generation + 1


def read_mark(folder: Path) -> Mark:
    """Read the high-water mark, zero if there is none. Raises Damaged."""
    try:
        written = read_file(folder / MARK, LARGEST)
    except FileNotFoundError:
        return Mark()
    except OSError as error:
        raise Damaged(folder, MARK, error) from error
    try:
        content = _parsed(folder, MARK, written)
        return Mark(_count(content["generation"]), _count(content["next_id"]))
    except (TypeError, KeyError, ValueError) as error:
        raise Damaged(folder, MARK, f"not a high-water mark: {error}") from error


def read_manifest(folder: Path, name: str = NAME) -> Manifest:
    """Read `folder/manifest.json`, or its copy.

    Raises NoCollection if it does not exist, StoreError if it is damaged or from a newer xsearch.
    """
    manifest, file = open_manifest(folder, name)
    file.close()
    return manifest


def open_manifest(folder: Path, name: str = NAME) -> tuple[Manifest, BufferedReader]:
    """`read_manifest`, and the open file with a shared lock, which keeps the files of that generation."""
    file = _opened(folder, name)
    try:
        with suppress(OSError):  # not supported, or about to be deleted: a file that is missing then shows it
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return _read(folder, name, file), file
    except BaseException:
        file.close()
        raise


def _opened(folder: Path, name: str) -> BufferedReader:
    try:
        return open_file(folder / name)
    except (FileNotFoundError, NotADirectoryError):
        if name == NAME and (folder / COPY).exists():
            raise Damaged(folder, name, "missing") from None
        nearest = ""
        if folder == DEFAULT_COLLECTION == default_collection():
            nearest = f", nor in a folder above or at {user_collection()}"
        raise NoCollection(
            f"no collection at {folder} (no {name}){nearest}; "
            f"create one with `xsearch ingest MEDIA --collection {folder}`"
        ) from None
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise Damaged(folder, name, "not a regular file") from error
        raise StoreError(f"cannot read {folder / name}: {error}") from error


def _read(folder: Path, name: str, file: BufferedReader) -> Manifest:
    if os.fstat(file.fileno()).st_size > LARGEST:
        raise Damaged(folder, name, f"larger than {LARGEST:,} bytes")
    try:
        written = file.read()
    except OSError as error:
        raise StoreError(f"cannot read {folder / name}: {error}") from error
    return parsed_manifest(folder, name, written)


def parsed_manifest(folder: Path, name: str, written: bytes) -> Manifest:
    """Parse the content of the manifest `name` of a collection. Raises as `read_manifest`."""
    content = _parsed(folder, name, written)
    try:
        return _manifest(content)
    except (TypeError, KeyError, ValueError) as error:
        raise Damaged(folder, name, f"not a manifest: {error}") from error


def _parsed(folder: Path, name: str, written: bytes) -> dict[str, Any]:
    """The JSON object of a sealed file. Raises Damaged, StoreError for a newer format."""
    try:
        content = json.loads(written)
    except (ValueError, RecursionError) as error:
        raise Damaged(folder, name, error) from error
    if not isinstance(content, dict):
        raise Damaged(folder, name, "not a JSON object")
    version = content.get("format", FORMAT)
    if version != 1 and written != _sealed(written.rpartition(SEAL)[0]):
        raise Damaged(folder, name, "a wrong checksum")
    if type(version) is not int:
        raise Damaged(folder, name, "not a manifest: no format")
    if version not in (1, 2, FORMAT):
        raise StoreError(
            f"{folder} has format {version}, this xsearch supports up to {FORMAT}; install a newer xsearch"
        )
    if version != 1:
        del content["sha256"]
    return content


def _manifest(content: dict[str, Any]) -> Manifest:
    """Build a manifest, checking each value: collections come from strangers. Raises ValueError etc."""
    model = Fingerprint(**content.pop("model"))
    if not 0 < _count(model.dim) <= MAX_DIM:
        raise ValueError(f"{model.dim} dimensions")
    _names((model.name, model.digest, model.preprocessing), ".{0,400}")
    _count(content["format"])
    if not all(isinstance(content[name], list) for name in ("segments", "tombstones", "skipped", "previous")):
        raise TypeError("expected lists")
    segments = tuple(_segment(entry) for entry in content.pop("segments"))
    manifest = Manifest(
        model,
        **content
        | {
            "segments": segments,
            "tombstones": _names(content["tombstones"], _UUID),
            "skipped": _names(content["skipped"], _UUID),
            "previous": _names(content["previous"], _PATH),
            "digests": _digests(
                content.get("digests", {}), _PATH + r"(/(index\.faiss|plan\.json|shard-\d{1,3}\.faiss))?"
            ),
        },
    )
    _count(manifest.generation)
    _count(manifest.next_id)
    _names(filter(None, (manifest.index, manifest.words)), _UUID)
    _names(filter(None, (manifest.source,)), ".*")
    if not isinstance(manifest.calibration, dict | None):
        raise TypeError("calibration")
    for uuids in (manifest.tombstones, manifest.skipped, [entry.uuid for entry in segments]):
        if len(set(uuids)) < len(uuids):
            raise ValueError("a name occurs twice")
    return manifest


def _segment(content: dict[str, Any]) -> SegmentEntry:
    entry = SegmentEntry(
        **content | {"sha256": _digests(content["sha256"], "|".join(map(re.escape, SEGMENT_FILES)))}
    )
    _names([entry.uuid], _UUID)
    if not _count(entry.rows) or _count(entry.first_id) > _count(entry.last_id):
        raise ValueError(f"segment {entry.uuid}: {entry.rows} rows with ids {entry.first_id}-{entry.last_id}")
    return entry


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= MAX_ID:
        raise ValueError(f"expected a count, got {str(value)[:40]!r}")
    return value


def _names(values: Iterable[Any], pattern: str) -> tuple[str, ...]:
    values = tuple(values)
    for value in values:
        if not isinstance(value, str) or not re.fullmatch(pattern, value, re.DOTALL):
            raise ValueError(f"unexpected name {str(value)[:80]!r}")
    return values


def _digests(content: Any, pattern: str) -> dict[str, str]:
    if not isinstance(content, dict):
        raise TypeError("expected digests")
    _names(content.keys(), pattern)
    _names(content.values(), _SHA256)
    return content


def write_manifest(folder: Folder, manifest: Manifest) -> None:
    """Publish `manifest`. Every file it references must already be durable."""
    mark = {"generation": manifest.generation, "next_id": manifest.next_id}
    folder.publish(MARK, _sealed(json.dumps(mark).removesuffix("}").encode()))
    written = serialized(manifest)
    folder.publish(NAME, written)
    with suppress(OSError):  # already committed: best effort
        folder.publish(COPY, written)


def serialized(manifest: Manifest) -> bytes:
    """Return the content of `manifest.json`."""
    content = asdict(manifest)
    content["model"] = content.pop("fingerprint")
    return _sealed(json.dumps(content, indent=1).removesuffix("\n}").encode())


def _sealed(body: bytes) -> bytes:
    """Close the JSON object `body`, still open, with the sha256 of its bytes as the last field."""
    return body + SEAL + f'"{hashlib.sha256(body).hexdigest()}"\n}}'.encode()
