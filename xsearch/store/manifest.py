"""The manifest: the one small file that says what a collection consists of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from xsearch.errors import Damaged, NoCollection, StoreError
from xsearch.system.durable import publish
from xsearch.types import Fingerprint

__all__ = [
    "COPY",
    "FOLDERS",
    "FORMAT",
    "NAME",
    "QUARANTINE",
    "Manifest",
    "SegmentEntry",
    "read_manifest",
    "write_manifest",
]

FORMAT = 2  # of the folder; indexes/README.md describes it, and how format 1 differs
NAME = "manifest.json"
COPY = "manifest.copy.json"  # the same again, for a repair
QUARANTINE = "quarantine"  # where a repair puts what is broken
SEAL = b',\n "sha256": '  # the end of a manifest of any format above 1
FOLDERS = ("segments", "tombstones", "skipped", "index")


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
        """Inside the collection."""
        return f"segments/{self.uuid}"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What one generation of a collection consists of: the content of `manifest.json`."""

    fingerprint: Fingerprint  # `model` in the file
    format: int = FORMAT
    generation: int = 0  # counts commits
    next_id: int = 0  # ids are never used twice
    segments: tuple[SegmentEntry, ...] = ()
    tombstones: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    index: str | None = None
    calibration: Mapping[str, Any] | None = None
    source: str | None = (
        None  # where the model came from: a `--model` value; the fingerprint says which it is
    )
    previous: tuple[
        str, ...
    ] = ()  # what the generation before named and this one does not; kept for its readers
    digests: Mapping[str, str] = field(default_factory=dict)  # path -> sha256 of each file not in a segment

    def files(self) -> set[str]:
        """Paths inside the collection, of files and of whole folders, that this generation consists of."""
        segments = (entry.folder for entry in self.segments)
        return {*segments, *self.tables(), *([f"index/{self.index}"] if self.index else [])}

    @property
    def index_digests(self) -> dict[str, str]:
        """The sha256 of the index's files by their names; none where a release of format 1 made it."""
        folder = f"index/{self.index}/"
        digests = self.digests.items()
        return {path.removeprefix(folder): sha256 for path, sha256 in digests if path.startswith(folder)}

    def tables(self) -> list[str]:
        """The paths among them of tombstones and skipped files."""
        kinds = {"tombstones": self.tombstones, "skipped": self.skipped}
        return [f"{kind}/{uuid}.parquet" for kind, uuids in kinds.items() for uuid in uuids]


def read_manifest(folder: Path, name: str = NAME) -> Manifest:
    """Read `folder/manifest.json`, or its copy.

    Raises NoCollection where there is none, StoreError where it is damaged or from a newer xsearch.
    """
    try:
        written = (folder / name).read_bytes()
        content = json.loads(written)
    except (FileNotFoundError, NotADirectoryError):
        if name == NAME and (folder / COPY).exists():
            raise Damaged(folder, name, "missing") from None
        raise NoCollection(
            f"no collection at {folder} (no {name}); "
            f"make one with `xsearch ingest MEDIA --collection {folder}`"
        ) from None
    except OSError as error:
        raise StoreError(f"cannot read {folder / name}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise Damaged(folder, name, error) from error
    found = content.get("format") if isinstance(content, dict) else None
    if found != 1 and written != _sealed(written.rpartition(SEAL)[0]):
        raise Damaged(folder, name, "a wrong checksum")
    if found not in (1, FORMAT):
        raise StoreError(
            f"{folder} has format {found}, this xsearch knows up to {FORMAT}; install a newer xsearch"
        )
    try:
        if found != 1:
            del content["sha256"]
        content["fingerprint"] = Fingerprint(**content.pop("model"))
        content["segments"] = tuple(SegmentEntry(**entry) for entry in content["segments"])
        for field_name in ("tombstones", "skipped", "previous"):
            content[field_name] = tuple(content[field_name])
        return Manifest(**content)
    except (TypeError, KeyError) as error:
        raise Damaged(folder, name, f"not a manifest: {error}") from error


def write_manifest(folder: Path, manifest: Manifest, step: Callable[[str], None] = lambda name: None) -> None:
    """Make `manifest` the current one. What it names must be on the disk already."""
    content = asdict(manifest)
    content["model"] = content.pop("fingerprint")
    written = _sealed(json.dumps(content, indent=1).removesuffix("\n}").encode())
    with publish(folder / NAME) as part:
        part.write_bytes(written)
        step("manifest")
    with suppress(OSError), publish(folder / COPY) as part:  # the commit is done: nothing may undo it
        step("copy")
        part.write_bytes(written)


def _sealed(body: bytes) -> bytes:
    """A JSON object that ends with the sha256 of all that is before it. `body`: the object, still open."""
    return body + SEAL + f'"{hashlib.sha256(body).hexdigest()}"\n}}'.encode()
