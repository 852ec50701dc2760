"""Files whose vectors are there already: moved, touched, newly described, or with the bytes of another."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from xsearch import media
from xsearch.ingest.work import Embedded, Task
from xsearch.store import ITEM_COLUMNS
from xsearch.types import Modality

if TYPE_CHECKING:
    from xsearch.ingest.known import KnownFile
    from xsearch.store import Snapshot

__all__ = ["Copies", "Copy", "copied"]

TOGETHER = 1_000  # copies whose items are looked up at once


@dataclass(frozen=True, slots=True, eq=False)
class Copy:
    """A file whose vectors are those of the file called `source`."""

    task: Task
    source: str
    is_moved: bool = False  # the source is gone

    @property
    def is_same_file(self) -> bool:
        """The file itself, with another time or other user columns."""
        return self.source == self.task.file.name


class Copies:
    """Where each content lies, in the files that the store knows and in those of this run."""

    def __init__(self, files: Mapping[str, KnownFile], vanished: Collection[str]) -> None:
        self._vanished = vanished
        self._stored: dict[tuple[str, Modality], list[str]] = {}
        for name, file in files.items():
            self._stored.setdefault((file.sha256, file.kind), []).append(name)
        self._fresh: dict[tuple[str, Modality], str] = {}
        self.moved: set[str] = set()  # sources that are gone
        self.of_stored: list[Copy] = []
        self.of_fresh: list[Copy] = []  # of files that this run embeds

    def claim(self, task: Task) -> bool:
        """Whether a prepared file has to be embedded; if not, it is now among the copies."""
        name, content = task.file.name, (task.sha256, task.file.modality)
        if stored := self._stored.get(content):
            gone = None
            if name not in stored:  # else only its time has changed
                gone = next((old for old in stored if old not in self.moved and self._is_gone(old)), None)
                self.moved |= {gone} if gone else set()
            source = name if name in stored else gone or stored[0]
            self.of_stored.append(Copy(task, source, is_moved=gone is not None))
            return False
        first = self._fresh.setdefault(content, name)
        if first != name:
            self.of_fresh.append(Copy(task, first))
        return first == name

    def _is_gone(self, name: str) -> bool:
        return name in self._vanished or not (media.is_url(name) or os.path.lexists(name))


def copied(
    snapshot: Snapshot, files: Mapping[str, KnownFile], copies: Sequence[Copy]
) -> Iterator[tuple[Copy, Embedded]]:
    """The items and vectors of each copy. User columns stay with the file they are of.

    Each source is in `files`, and its items are in the snapshot.
    """
    for first in range(0, len(copies), TOGETHER):
        some = copies[first : first + TOGETHER]
        ids = [files[copy.source].ids for copy in some]
        items = snapshot.items(np.concatenate(ids)).drop_columns("id").to_pylist()
        vectors = snapshot.vectors(np.concatenate(ids))
        ends = np.cumsum([len(of_file) for of_file in ids])
        for copy, of_file, end in zip(some, ids, ends.tolist(), strict=True):
            part, file = slice(end - len(of_file), end), copy.task.file
            rows = items[part]
            if not (copy.is_same_file or copy.is_moved):
                rows = [{name: row[name] for name in row if name in ITEM_COLUMNS} for row in rows]
            facts = {"path": file.name, "mtime_ns": file.mtime_ns}
            for row in rows:
                row |= {**facts, "mime": file.mime or row["mime"], **copy.task.extra}
            yield copy, Embedded(copy.task, rows, list(vectors[part]))
