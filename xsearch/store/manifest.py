"""The manifest: the one small file that says what a collection consists of."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xsearch.errors import NoCollection, StoreError
from xsearch.store.publish import publish
from xsearch.types import ModelStamp

__all__ = ["FOLDERS", "NAME", "Manifest", "SegmentEntry", "read_manifest", "write_manifest"]

FORMAT = 1  # of the folder; indexes/README.md describes it
NAME = "manifest.json"
FOLDERS = ("segments", "tombstones", "skipped", "index")


@dataclass(frozen=True, slots=True)
class SegmentEntry:
    """One live segment. Its ids ascend from `first_id` to `last_id`, above those of earlier segments."""

    uuid: str
    rows: int
    first_id: int
    last_id: int
    sha256: Mapping[str, str]  # file name -> digest


@dataclass(frozen=True, slots=True)
class Manifest:
    """What one generation of a collection consists of: the content of `manifest.json`."""

    stamp: ModelStamp  # `model` in the file
    format: int = FORMAT
    generation: int = 0  # counts commits
    next_id: int = 0  # ids are never used twice
    segments: tuple[SegmentEntry, ...] = ()
    tombstones: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    index: str | None = None
    calibration: Mapping[str, Any] | None = None
    source: str | None = None  # where the model came from: a `--model` value; the stamp says which it is
    previous: tuple[
        str, ...
    ] = ()  # what the generation before named and this one does not; kept for its readers

    def files(self) -> set[str]:
        """Paths inside the collection, of files and of whole folders, that this generation consists of."""
        return {
            *(f"segments/{entry.uuid}" for entry in self.segments),
            *(f"tombstones/{uuid}.parquet" for uuid in self.tombstones),
            *(f"skipped/{uuid}.parquet" for uuid in self.skipped),
            *([f"index/{self.index}"] if self.index else []),
        }


def read_manifest(folder: Path) -> Manifest:
    """Read `folder/manifest.json`.

    Raises NoCollection where there is none, StoreError where it is damaged or from a newer xsearch.
    """
    path = folder / NAME
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise NoCollection(
            f"no collection at {folder} (no {NAME}); make one with `xsearch ingest MEDIA --index {folder}`"
        ) from None
    except (OSError, ValueError) as error:
        raise StoreError(f"cannot read {path}: {error}; restore it from a backup") from error
    found = content.get("format") if isinstance(content, dict) else None
    if isinstance(found, int) and found > FORMAT:
        raise StoreError(
            f"{folder} has format {found}, this xsearch knows up to {FORMAT}; install a newer xsearch"
        )
    try:
        content["stamp"] = ModelStamp(**content.pop("model"))
        content["segments"] = tuple(SegmentEntry(**entry) for entry in content["segments"])
        for name in ("tombstones", "skipped", "previous"):
            content[name] = tuple(content[name])
        return Manifest(**content)
    except (TypeError, KeyError) as error:
        raise StoreError(
            f"{path} is not a manifest of format {FORMAT}: {error}; restore it from a backup"
        ) from error


def write_manifest(folder: Path, manifest: Manifest, step: Callable[[str], None] = lambda name: None) -> None:
    """Make `manifest` the current one. What it names must be on the disk already."""
    content = asdict(manifest)
    content["model"] = content.pop("stamp")
    with publish(folder / NAME) as part:
        part.write_text(json.dumps(content, indent=1), encoding="utf-8")
        step("manifest")
