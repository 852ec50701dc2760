"""The manifest: the file that lists everything a collection consists of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from xsearch.errors import Damaged, NoCollection, StoreError
from xsearch.store.nearest import NAME, default_collection, user_collection
from xsearch.system.durable import publish
from xsearch.types import DEFAULT_COLLECTION, Fingerprint

__all__ = [
    "COPY",
    "FOLDERS",
    "FORMAT",
    "QUARANTINE",
    "Manifest",
    "SegmentEntry",
    "read_manifest",
    "write_manifest",
]

FORMAT = 3  # specified in indexes/README.md, with the differences of formats 1 and 2
COPY = "manifest.copy.json"  # backup for `verify --repair`
QUARANTINE = "quarantine"  # where a repair moves damaged files
SEAL = b',\n "sha256": '  # starts the trailer of a manifest since format 2
FOLDERS = ("segments", "tombstones", "skipped", "index", "words")


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


def read_manifest(folder: Path, name: str = NAME) -> Manifest:
    """Read `folder/manifest.json`, or its copy.

    Raises NoCollection if it does not exist, StoreError if it is damaged or from a newer xsearch.
    """
    try:
        written = (folder / name).read_bytes()
        content = json.loads(written)
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
        raise StoreError(f"cannot read {folder / name}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise Damaged(folder, name, error) from error
    version = content.get("format") if isinstance(content, dict) else None
    if version != 1 and written != _sealed(written.rpartition(SEAL)[0]):
        raise Damaged(folder, name, "a wrong checksum")
    if version not in (1, 2, FORMAT):
        raise StoreError(
            f"{folder} has format {version}, this xsearch supports up to {FORMAT}; install a newer xsearch"
        )
    try:
        if version != 1:
            del content["sha256"]
        content["fingerprint"] = Fingerprint(**content.pop("model"))
        content["segments"] = tuple(SegmentEntry(**entry) for entry in content["segments"])
        for field_name in ("tombstones", "skipped", "previous"):
            content[field_name] = tuple(content[field_name])
        return Manifest(**content)
    except (TypeError, KeyError) as error:
        raise Damaged(folder, name, f"not a manifest: {error}") from error


def write_manifest(folder: Path, manifest: Manifest, step: Callable[[str], None] = lambda name: None) -> None:
    """Publish `manifest`. Every file it references must already be durable."""
    content = asdict(manifest)
    content["model"] = content.pop("fingerprint")
    written = _sealed(json.dumps(content, indent=1).removesuffix("\n}").encode())
    with publish(folder / NAME) as part:
        part.write_bytes(written)
        step("manifest")
    with suppress(OSError), publish(folder / COPY) as part:  # already committed: best effort
        step("copy")
        part.write_bytes(written)


def _sealed(body: bytes) -> bytes:
    """Close the JSON object `body`, still open, with the sha256 of its bytes as the last field."""
    return body + SEAL + f'"{hashlib.sha256(body).hexdigest()}"\n}}'.encode()
