"""What an ingest has to do: the files on the disk compared with those in the store.

No file is opened here whose path, size and time the store knows, except by the walk to tell its kind.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xsearch import media
from xsearch.errors import UsageError
from xsearch.media import Skipped
from xsearch.store import ITEM_COLUMNS
from xsearch.types import MediaFile, Modality

if TYPE_CHECKING:
    from xsearch.metadata import Metadata
    from xsearch.store import Snapshot

__all__ = ["Known", "Survey", "known_files"]


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """A file as the store has it."""

    sha256: str
    bytes: int
    mtime_ns: int
    ids: np.ndarray  # int64
    kind: Modality  # of the file; a video also has items of its sound

    def is_same(self, file: MediaFile) -> bool:
        return (self.bytes, self.mtime_ns, self.kind) == (file.bytes, file.mtime_ns, file.modality)


class Survey:
    """The walk below `roots`, sorted into what is new, unchanged, described anew, skipped or no media.

    snapshot: None when there is no collection yet. own: the collection's folder, which is no media.
    """

    def __init__(
        self,
        snapshot: Snapshot | None,
        roots: Sequence[Path],
        kinds: Sequence[tuple[Modality, str]],
        about: Metadata,
        own: Path | None,
    ) -> None:
        self.roots, self.about = [root.absolute() for root in roots], about
        self.known = known_files(snapshot) if snapshot else {}
        self.skipped_before = {row["path"]: row for row in snapshot.skipped().to_pylist()} if snapshot else {}
        self.work: list[MediaFile] = []
        self.described: list[MediaFile] = []  # unchanged, but with other user columns than stored
        self.files: Counter[Modality] = Counter()
        self.skipped: list[Skipped] = []
        self.skipped_still: list[Skipped] = []  # by an earlier run, and not changed since
        self.unchanged = self.not_media = 0
        self._seen: set[str] = set()
        stored = _UserColumns(snapshot)
        for found in media.walk(roots, kinds=kinds):
            if own and found.path.is_relative_to(own.absolute()):
                continue
            if isinstance(found, Skipped):
                self._skip(found)
            else:
                self._sort(found, stored)

    def vanished(self) -> dict[str, np.ndarray]:
        """Ids of the files below the roots that the store knows and the disk does not, by path."""
        return {
            path: known.ids
            for path, known in self.known.items()
            if path not in self._seen
            and not os.path.lexists(path)
            and any(Path(path).is_relative_to(root) for root in self.roots)
        }

    def _skip(self, found: Skipped) -> None:
        before = self.skipped_before.get(str(found.path))
        if found.error == "NotMedia":
            self.not_media += 1
        elif before and before["reason"] == found.reason:
            self.skipped_still.append(found)
        else:
            self.skipped.append(found)

    def _sort(self, file: MediaFile, stored: _UserColumns) -> None:
        path = str(file.path)
        self._seen.add(path)
        self.files[file.modality] += 1
        known, before = self.known.get(path), self.skipped_before.get(path)
        if known and known.is_same(file):
            self.unchanged += 1
            if stored.differ(known, _describe(self.about, file.path)):
                self.described.append(file)
        elif before and not _changed_since(file.path, before["when"]):
            self.skipped_still.append(Skipped(file.path, before["reason"], before["error"]))
        else:
            self.work.append(file)


class _UserColumns:
    """The user columns of stored files; read once, when the first file with metadata comes along."""

    def __init__(self, snapshot: Snapshot | None) -> None:
        self._snapshot = snapshot
        self._rows: dict[int, dict[str, Any]] | None = None  # by the id of an item

    def differ(self, known: Known, given: dict[str, Any]) -> bool:
        """Whether a given column is not what is stored. Columns that are not given stay as they are."""
        if not given or self._snapshot is None:
            return False
        if self._rows is None:
            names = [name for name in self._snapshot.schema.names if name not in ITEM_COLUMNS]
            rows = self._snapshot.items(self._snapshot.ids, ["id", *names]).to_pylist()
            self._rows = {row["id"]: row for row in rows}
        row = self._rows[int(known.ids[0])]
        return any(value is not None and row.get(name) != value for name, value in given.items())


def _describe(about: Metadata, path: Path) -> dict[str, Any]:
    try:
        return about.of(path)
    except UsageError:  # said when the file itself is embedded
        return {}


def known_files(snapshot: Snapshot) -> dict[str, Known]:
    """What a snapshot says about files, by path."""
    known = {}
    for row in snapshot.files().to_pylist():
        ids = np.sort(np.array(row["ids"], np.int64))
        kinds = set(snapshot.modalities[np.searchsorted(snapshot.ids, ids)].tolist())
        kind = Modality.VIDEO if Modality.VIDEO in kinds else Modality(min(kinds))
        known[row["path"]] = Known(row["sha256"], row["bytes"], row["mtime_ns"], ids, kind)
    return known


def _changed_since(path: Path, when: str) -> bool:
    """Also when an old file has been put in place of the damaged one: that moves the ctime."""
    try:
        status = path.stat()
    except OSError:
        return True
    return max(status.st_mtime, status.st_ctime) >= datetime.fromisoformat(when).timestamp()
