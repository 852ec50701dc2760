"""Files recorded in a collection: their contents, user columns, and earlier skips."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xsearch import media
from xsearch.errors import Reason
from xsearch.ingest.columns import as_text, is_stored
from xsearch.media import RemoteFile, Skipped
from xsearch.metadata import sidecar
from xsearch.store import ITEM_COLUMNS
from xsearch.types import MediaFile, Modality, kind_of_file

if TYPE_CHECKING:
    from xsearch.store import Snapshot

__all__ = ["Known", "KnownFile", "state"]


@dataclass(frozen=True, slots=True, eq=False)
class KnownFile:
    """A file recorded in the store."""

    sha256: str
    bytes: int
    mtime_ns: int
    ids: np.ndarray  # int64, ascending
    kind: Modality  # of the file, which may have items of others too
    is_imported: bool = False  # known from an import: not read on this machine

    def is_same(self, file: MediaFile | RemoteFile) -> bool:
        state = (self.bytes, self.mtime_ns, self.kind)
        return not self.is_imported and state == (file.bytes, file.mtime_ns, file.modality)

    def differs(self, path: str) -> bool:
        """Whether a file exists at `path` with another size or mtime."""
        try:
            status = os.stat(path)  # noqa: PTH116
        except OSError:
            return False
        return (status.st_size, media.mtime_ns(status)) != (self.bytes, self.mtime_ns)


def state(file: MediaFile | RemoteFile) -> str | None:
    """Return the size and mtime of a file, as recorded when it fails; None if a server does not report it.

    It is compared with nothing but itself: clocks may go backwards, and times may be in the future.
    """
    return f"{file.bytes} {file.mtime_ns}" if file.mtime_ns or isinstance(file, MediaFile) else None


class Known:
    """The files and skips of a snapshot, by name; empty without a snapshot.

    `skips` are failures, `removed` what the user has removed for good, `others` no media and excluded.
    """

    def __init__(self, snapshot: Snapshot | None) -> None:
        self._snapshot = snapshot
        self.files = dict(_files(snapshot)) if snapshot is not None else {}
        skips = {skip.path: skip for skip in _skips(snapshot)} if snapshot is not None else {}
        self.skips = {path: skip for path, skip in skips.items() if skip.error.is_failure}
        others = {path: skip for path, skip in skips.items() if path not in self.skips}
        self.removed = {path for path, skip in others.items() if skip.error is Reason.REMOVED}
        self.others = {path: skip for path, skip in others.items() if path not in self.removed}

    def resolved(self, name: str, sidecar_problem: str | None) -> list[str]:
        """Return which records of a file, now read, and of its sidecar are no longer true."""
        names = [name] if sidecar_problem else [name, sidecar(name)]
        return [each for each in map(as_text, names) if each in self.skips or each in self.removed]

    def unchanged(self, path: Path) -> MediaFile | None:
        """Return a stored file if it is unchanged on disk, without opening it."""
        if (known := self.files.get(str(path))) and not known.is_imported:
            file = MediaFile(path, known.kind, known.bytes, known.mtime_ns)
            return media.unchanged(file)
        for owner in media.owners(path):
            recording = self.unchanged(owner) if str(owner) in self.files else None
            if recording and recording.companion in (path, path.parent):
                return recording
        return None

    def describes(self, known: KnownFile, extra: dict[str, Any]) -> bool:
        """Whether the store has these user columns of a file. Columns not in `extra` are ignored."""
        if self._snapshot is None or not extra:
            return True
        row, schema = self.stated(known), self._snapshot.schema
        return all(
            name in row and is_stored(value, row[name], schema.field(name).type)
            for name, value in extra.items()
            if value is not None
        )

    def stated(self, known: KnownFile) -> dict[str, Any]:
        """Return the facts and user columns of a file that the store has."""
        return {
            name: value for name, value in self._user_columns[int(known.ids[0])].items() if value is not None
        }

    @cached_property
    def _user_columns(self) -> dict[int, dict[str, Any]]:
        """User columns by item id; loaded on first use."""
        assert self._snapshot is not None
        names = [name for name in self._snapshot.schema.names if name not in ITEM_COLUMNS]
        rows = self._snapshot.items(self._snapshot.ids, ["id", *names]).to_pylist()
        return {row["id"]: row for row in rows}


def _files(snapshot: Snapshot) -> Iterator[tuple[str, KnownFile]]:
    files = snapshot.files()
    lists = files["ids"].combine_chunks()
    ids, ends = lists.flatten().to_numpy(), lists.offsets.to_numpy().tolist()
    kinds = snapshot.modalities[np.searchsorted(snapshot.ids, ids)].tolist()
    origins = snapshot.table(["imported_from"])["imported_from"]
    imported = set(snapshot.ids[origins.is_valid().to_numpy()].tolist())
    for row, (start, end) in zip(files.drop_columns("ids").to_pylist(), pairwise(ends), strict=True):
        file_ids, kind = np.sort(ids[start:end]), kind_of_file(kinds[start:end])
        is_imported = bool(imported) and not imported.isdisjoint(file_ids.tolist())
        state = row["sha256"], row["bytes"], row["mtime_ns"]
        yield row["path"], KnownFile(*state, file_ids, kind, is_imported)


def _skips(snapshot: Snapshot) -> Iterator[Skipped]:
    for row in snapshot.skipped(everything=True).to_pylist():
        reason = Reason.recorded(row["error"], row["reason"])
        yield Skipped(row["path"], row["reason"], reason, row["state"])
