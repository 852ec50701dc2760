"""Files whose vectors are there already: moved, touched, newly described, or with the bytes of another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xsearch.store import ITEM_COLUMNS
from xsearch.types import MediaFile, Modality

if TYPE_CHECKING:
    from xsearch.ingest.survey import Known
    from xsearch.store import Snapshot

__all__ = ["Contents", "Copy", "copied"]

TOGETHER = 1_000  # copies whose items are looked up at once


@dataclass(frozen=True, slots=True, eq=False)
class Copy:
    """A file whose vectors are those of the file called `source`."""

    file: MediaFile
    source: str
    moved: bool = False  # the source is gone
    fresh: bool = False  # the source is new itself: its items are made by this run

    @property
    def own(self) -> bool:
        """The file itself, with another time or other user columns."""
        return self.source == self.file.name


class Contents:
    """Where each content lies: in the files that the store knows, and in those of this run."""

    def __init__(self, known: Mapping[str, Known], is_gone: Callable[[str], bool]) -> None:
        self._is_gone = is_gone
        self._stored: dict[tuple[str, Modality], list[str]] = {}
        for name, file in known.items():
            self._stored.setdefault((file.sha256, file.kind), []).append(name)
        self._fresh: dict[tuple[str, Modality], str] = {}
        self._moved: set[str] = set()

    def copy_of(self, file: MediaFile, sha256: str) -> Copy | None:
        """How a file comes by its vectors; None if it has to be embedded."""
        content = (sha256, file.modality)
        stored = self._stored.get(content, [])
        if file.name in stored:
            return Copy(file, file.name)  # only its time has changed
        for old in stored:
            if old not in self._moved and self._is_gone(old):
                self._moved.add(old)
                return Copy(file, old, moved=True)
        if stored:
            return Copy(file, stored[0])
        first = self._fresh.setdefault(content, file.name)
        return None if first == file.name else Copy(file, first, fresh=True)


def copied(
    snapshot: Snapshot, known: Mapping[str, Known], copies: Sequence[Copy]
) -> Iterator[tuple[Copy, list[dict[str, Any]], list[np.ndarray]]]:
    """The items of each copy, without ids, and their vectors. User columns stay with the file they are of.

    Each source is known, and its items are in the snapshot.
    """
    for first in range(0, len(copies), TOGETHER):
        some = copies[first : first + TOGETHER]
        ids = [known[copy.source].ids for copy in some]
        together = np.concatenate(ids)
        items = snapshot.items(together).drop_columns("id").to_pylist()
        vectors = snapshot.vectors(together)
        ends = np.cumsum([len(own) for own in ids])
        for copy, own, end in zip(some, ids, ends.tolist(), strict=True):
            part = slice(end - len(own), end)
            file = copy.file
            rows = [
                row | {"path": file.name, "mtime_ns": file.mtime_ns, "mime": file.mime or row["mime"]}
                for row in items[part]
            ]
            if not (copy.own or copy.moved):
                rows = [{name: row[name] for name in row if name in ITEM_COLUMNS} for row in rows]
            yield copy, rows, list(vectors[part])
