"""What an ingest has to do: the files on the disk compared with those in the store.

No file is opened here whose path, size and time the store knows, except by the walk to tell its kind.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from xsearch import media
from xsearch.errors import MissingPackage, TooLarge, UsageError
from xsearch.media import Skipped
from xsearch.store import ITEM_COLUMNS
from xsearch.types import MediaFile, Modality

if TYPE_CHECKING:
    from xsearch.metadata import Metadata
    from xsearch.store import Snapshot

__all__ = ["Known", "Survey", "as_text", "changed_since", "known_files"]


_IN_TWO_FILES = (Modality.IMU, Modality.DEPTH)  # the second one may have changed


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
        self.roots, self.about, self.kinds = [media.absolute(root) for root in roots], about, kinds
        self.known = known_files(snapshot) if snapshot else {}
        self.skipped_before = {row["path"]: row for row in snapshot.skipped().to_pylist()} if snapshot else {}
        self.work: list[MediaFile] = []
        self.described: list[MediaFile] = []  # unchanged, but with other user columns than stored
        self.files: Counter[Modality] = Counter()
        self.skipped: list[Skipped] = []
        self.skipped_still: list[Skipped] = []  # by an earlier run, and not changed since
        self.spoilt: list[str] = []  # known, changed, and no longer readable: their items are out of date
        self.healed: set[str] = set()  # skipped before, but no longer bad, or no longer there
        self.unchanged = self.not_media = 0
        self._seen: set[str] = set()
        self._bad: set[str] = set()
        stored = _UserColumns(snapshot)
        inside = f"{media.absolute(own)}{os.sep}" if own else None
        for found in media.walk(roots, kinds=kinds, known=self._as_known):
            if inside and str(found.path).startswith(inside):
                continue
            if isinstance(found, Skipped):
                self._skip(found)
            else:
                self._sort(found, stored)
        self.healed |= {
            path
            for path in self.skipped_before.keys() - self._bad
            if not os.path.lexists(path) and self._is_below(path)
        }

    def _as_known(self, path: Path, status: os.stat_result) -> MediaFile | None:
        """A file as it is in the store, if that is how it is on the disk: nobody has to open it."""
        known = self.known.get(str(path))
        if not known or known.kind in _IN_TWO_FILES:
            return None
        if (known.bytes, known.mtime_ns) != (status.st_size, status.st_mtime_ns):
            return None
        return MediaFile(path, known.kind, known.bytes, known.mtime_ns)

    def _is_below(self, path: str) -> bool:
        return any(Path(path).is_relative_to(root) for root in self.roots)

    def vanished(self) -> dict[str, np.ndarray]:
        """Ids of the files below the roots that the store knows and the disk does not, by path."""
        return {
            path: known.ids
            for path, known in self.known.items()
            if path not in self._seen and not os.path.lexists(path) and self._is_below(path)
        }

    def _skip(self, found: Skipped) -> None:
        path = str(found.path)
        known, before = self.known.get(path), self.skipped_before.get(path)
        if known and _differs(found.path, known):
            self.spoilt.append(path)
        if found.error == "NotMedia":
            self.not_media += 1
            if before and before["error"] != UsageError.__name__:  # that is a bad sidecar, not media either
                self.healed.add(path)
            return
        self._bad.add(path)
        if before and before["reason"] == found.reason:
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
            self._compare(file, known, stored)
        elif before and not self._is_to_retry(file, before):
            self.skipped_still.append(Skipped(file.path, before["reason"], before["error"]))
        else:
            self.work.append(file)

    def _compare(self, file: MediaFile, known: Known, stored: _UserColumns) -> None:
        """Look at the user columns of an unchanged file."""
        fine = [file.path]
        try:
            if stored.differ(known, self.about.of(file.path)):
                self.described.append(file)
            if self.skipped_before:
                fine.append(file.path.with_suffix(".json"))
        except UsageError:  # said when the file itself is embedded
            pass
        self.healed.update(str(path) for path in fine if str(path) in self.skipped_before)

    def _is_to_retry(self, file: MediaFile, before: dict[str, str]) -> bool:
        """Whether a file that was skipped has changed, or its user has done what the reason asks for."""
        return (
            before["error"] in (MissingPackage.__name__, TooLarge.__name__)
            or any(media.asked(file.path, root, self.kinds) for root in self.roots)
            or changed_since(file.path, before["when"])
        )


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
        schema = self._snapshot.schema
        return any(
            name not in row or not _is_stored(value, row[name], schema.field(name).type)
            for name, value in given.items()
            if value is not None
        )


def _is_stored(value: Any, stored: Any, kind: pa.DataType) -> bool:
    """Whether `stored` is what a column of type `kind` makes of `value`; NaN is NaN."""
    if stored is None:
        return False
    made = {as_text(value)}
    with suppress(pa.ArrowException, OverflowError, UnicodeEncodeError):  # what does not fit becomes text
        made.add(pa.scalar(value).cast(kind, safe=False).as_py())
    return stored in made or (stored != stored and value != value)


def as_text(value: object) -> str:
    """What a column of several types makes of a value."""
    return str(value).encode(errors="backslashreplace").decode()


def _differs(path: Path, known: Known) -> bool:
    """Whether a file that is there is not the one that is known."""
    try:
        status = path.stat()
    except OSError:
        return False
    return (status.st_size, status.st_mtime_ns) != (known.bytes, known.mtime_ns)


def known_files(snapshot: Snapshot) -> dict[str, Known]:
    """What a snapshot says about files, by path."""
    known = {}
    for row in snapshot.files().to_pylist():
        ids = np.sort(np.array(row["ids"], np.int64))
        kinds = set(snapshot.modalities[np.searchsorted(snapshot.ids, ids)].tolist())
        kind = Modality.VIDEO if Modality.VIDEO in kinds else Modality(min(kinds))
        known[row["path"]] = Known(row["sha256"], row["bytes"], row["mtime_ns"], ids, kind)
    return known


def changed_since(path: Path, when: str) -> bool:
    """Also when an old file has been put in place of the damaged one: that moves the ctime."""
    try:
        status = path.stat()
    except OSError:
        return True
    return max(status.st_mtime, status.st_ctime) >= datetime.fromisoformat(when).timestamp()
