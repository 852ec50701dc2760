"""What an ingest has to do: the files on the disk compared with those in the store.

No file is opened here, and no remote one fetched, whose name, size and time the store knows.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from xsearch import media
from xsearch.errors import MissingPackage, TooLarge, UsageError
from xsearch.media import Remote, RemoteFile, Skipped, imu
from xsearch.metadata import Metadata
from xsearch.store import ITEM_COLUMNS
from xsearch.types import MediaFile, Modality

if TYPE_CHECKING:
    from xsearch.store import Snapshot

__all__ = ["Known", "Survey", "as_text", "changed_since", "known_files", "sidecar"]


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
    """What is found below `roots`, sorted into what is new, unchanged, described anew, skipped or no media.

    snapshot: None when there is no collection yet. roots: paths and URLs. kinds, metadata: as of `ingest`.
    own: the collection's folder, which is no media. scratch: where copies of remote files may be put.
    """

    def __init__(
        self,
        snapshot: Snapshot | None,
        roots: Sequence[str | Path],
        kinds: Sequence[tuple[Modality, str]],
        metadata: str | Path | None,
        own: Path | None,
        scratch: Path,
    ) -> None:
        folders = [Path(root) for root in roots if not media.is_url(root)]
        remotes = [Remote(str(root), scratch, kinds=kinds) for root in roots if media.is_url(root)]
        listed = [file for remote in remotes for file in remote.files()]
        self._roots = [*map(media.absolute, folders), *(remote.folder for remote in remotes)]
        self._urls = [remote.url for remote in remotes]
        self._kinds = kinds
        self.about = Metadata.beside([*folders, *(remote.folder for remote in remotes)], metadata)
        self.known = known_files(snapshot) if snapshot else {}
        self.skipped_before = {row["path"]: row for row in snapshot.skipped().to_pylist()} if snapshot else {}
        self.work: list[MediaFile | RemoteFile] = []
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
        for found in (*listed, *media.walk(folders, kinds=kinds, known=self._unchanged)):
            if inside and (found.path if isinstance(found, Skipped) else found.name).startswith(inside):
                continue
            if isinstance(found, Skipped):
                self._skip(found)
            else:
                self._sort(found, stored)
        self.healed |= set(self._missing(self.skipped_before.keys() - self._bad))

    def _unchanged(self, path: Path) -> MediaFile | None:
        """A file as it is in the store, if that is how it is on the disk: nobody has to open it."""
        if known := self.known.get(str(path)):
            file = MediaFile(path, known.kind, known.bytes, known.mtime_ns)
            return file if media.is_unchanged(file) else None
        for accel in imu.partners(path, "gyro"):
            pair = self._unchanged(accel) if str(accel) in self.known else None
            if pair and path in media.companions(pair):
                return pair
        return None

    def is_gone(self, name: str) -> bool:
        """Whether no file has this name; of URLs only those below a root are known to be gone."""
        if media.is_url(name):
            return name not in self._seen and self._is_below(name)
        return not os.path.lexists(name)

    def _is_below(self, name: str) -> bool:
        if media.is_url(name):
            return any(name == url or name.startswith(f"{url.rstrip('/')}/") for url in self._urls)
        return any(Path(name).is_relative_to(root) for root in self._roots)

    def _missing(self, names: Iterable[str]) -> list[str]:
        return [name for name in names if self.is_gone(name) and self._is_below(name)]

    def vanished(self) -> list[str]:
        """The files below the roots that the store knows and that are gone."""
        return self._missing(self.known)

    def _skip(self, found: Skipped) -> None:
        path = found.path
        known, before = self.known.get(path), self.skipped_before.get(path)
        if known and _differs(path, known):
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

    def _sort(self, file: MediaFile | RemoteFile, stored: _UserColumns) -> None:
        self._seen.add(file.name)
        self.files[file.modality] += 1
        known, before = self.known.get(file.name), self.skipped_before.get(file.name)
        now = file.known_as(known.kind) if isinstance(file, RemoteFile) and known else file
        if known and isinstance(now, MediaFile) and known.is_same(now):
            self.unchanged += 1
            self._compare(now, known, stored)
        elif before and not self._is_to_retry(file, before):
            self.skipped_still.append(Skipped(file.name, before["reason"], before["error"]))
        else:
            self.work.append(file)

    def _compare(self, file: MediaFile, known: Known, stored: _UserColumns) -> None:
        """Look at the user columns of an unchanged file."""
        fine = [file.name]
        try:
            if stored.differ(known, self.about.of(file.path)):
                self.described.append(file)
            if self.skipped_before:
                fine.append(sidecar(file.name))
        except UsageError:  # said when the file itself is embedded
            pass
        self.healed.update(name for name in fine if name in self.skipped_before)

    def _is_to_retry(self, file: MediaFile | RemoteFile, before: dict[str, str]) -> bool:
        """Whether a file that was skipped has changed, or its user has done what the reason asks for."""
        return (
            before["error"] in (MissingPackage.__name__, TooLarge.__name__, OSError.__name__)
            or any(media.asked(file.path, root, self._kinds) for root in self._roots)
            or changed_since(file.name, before["when"], file.mtime_ns)
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


def sidecar(name: str) -> str:
    """The name of the sidecar that belongs to a file."""
    return f"{os.path.splitext(name)[0]}.json"  # noqa: PTH122  a URL is no path


def _differs(path: str, known: Known) -> bool:
    """Whether a file that is there is not the one that is known."""
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return False
    return (status.st_size, status.st_mtime_ns) != (known.bytes, known.mtime_ns)


def known_files(snapshot: Snapshot) -> dict[str, Known]:
    """What a snapshot says about files, by path."""
    files = snapshot.files()
    lists = files["ids"].combine_chunks()
    ids, ends = lists.flatten().to_numpy(), lists.offsets.to_numpy().tolist()
    kinds = snapshot.modalities[np.searchsorted(snapshot.ids, ids)].tolist()
    known = {}
    for row, (start, end) in zip(files.drop_columns("ids").to_pylist(), pairwise(ends), strict=True):
        of_file = kinds[start:end]
        kind = Modality.VIDEO if Modality.VIDEO in of_file else Modality(min(of_file))
        own = np.sort(ids[start:end])
        known[row["path"]] = Known(row["sha256"], row["bytes"], row["mtime_ns"], own, kind)
    return known


def changed_since(name: str, when: str, mtime_ns: int = 0) -> bool:
    """Also when an old file has been put in place of the damaged one: that moves the ctime.

    mtime_ns: of a remote file, 0 where it is not known.
    """
    then_s = datetime.fromisoformat(when).timestamp()
    if media.is_url(name):
        return mtime_ns == 0 or mtime_ns / 1e9 >= then_s
    try:
        status = os.stat(name)  # noqa: PTH116
    except OSError:
        return True
    return max(status.st_mtime, status.st_ctime) >= then_s
