"""Files whose content is already embedded: moved, touched, redescribed or duplicate."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from xsearch import media
from xsearch.errors import MediaError
from xsearch.ingest.work import Embedded, Task, replaced
from xsearch.media import RemoteFile, facts
from xsearch.store import ITEM_COLUMNS
from xsearch.types import MediaFile, Modality

if TYPE_CHECKING:
    from xsearch.ingest.known import KnownFile
    from xsearch.store import Snapshot

__all__ = ["Copies", "Copy", "copied", "moves"]

BATCH = 1_000  # copies per lookup
MOST_ALIKE = 1 << 14  # stored files of one size, for each of which a file may be a copy


@dataclass(frozen=True, slots=True, eq=False)
class Copy:
    """A file that takes the vectors of the file named `source`."""

    task: Task
    source: str
    is_moved: bool = False  # the source is gone

    @property
    def is_same_file(self) -> bool:
        """Whether only the mtime or the user columns have changed."""
        return self.source == self.task.file.name


class Copies:
    """An index of content, over the files of the store and of this run."""

    def __init__(
        self,
        files: Mapping[str, KnownFile],
        vanished: Collection[str],
        recaptioned: Collection[str],
        facts: Callable[[MediaFile], dict[str, Any]],
    ) -> None:
        """recaptioned: files to embed again although their content is stored. facts: see `media.facts`."""
        self._files, self._vanished, self._recaptioned, self._facts = files, vanished, recaptioned, facts
        self._stored: dict[tuple[str, Modality], list[str]] = {}
        for name, file in files.items():
            self._stored.setdefault((file.sha256, file.kind), []).append(name)
        self._first: dict[tuple[str, Modality], str] = {}
        self.moved: set[str] = set()  # sources that are gone
        self.of_stored: list[Copy] = []
        self.of_new: list[Copy] = []  # of files that this run embeds

    def claim(self, task: Task) -> bool:
        """Return whether a prepared file must be embedded; otherwise record a copy. Raises Transient."""
        name, content = task.file.name, (task.sha256, task.file.modality)
        if name in self._recaptioned:
            return True
        if stored := self._stored.get(content):
            gone = (old for old in stored if old not in self.moved and self._is_gone(old))
            if name in stored:  # only its mtime has changed
                copy = Copy(task, name)
            elif old := next(gone, None):
                self.moved.add(old)
                copy = Copy(task, old, is_moved=True)
            else:
                copy = Copy(self._with_facts(task), stored[0])
            self.of_stored.append(copy)
            return False
        first = self._first.setdefault(content, name)
        if first != name:
            self.of_new.append(Copy(self._with_facts(task), first))
        return first == name

    def candidates(self, file: MediaFile | RemoteFile) -> set[str]:
        """Return the sha256 that `file` may have for `claim` to recognise it as a copy of a stored file.

        Of files that share their size with many others only that of the same name.
        """
        if file.name in self._recaptioned:
            return set()
        alike = self._alike.get((file.bytes, file.modality), set())
        known = self._files.get(file.name)
        same = {known.sha256} if known and known.kind == file.modality else set()
        return alike if len(alike) <= MOST_ALIKE else same

    @cached_property
    def _alike(self) -> dict[tuple[int, Modality], set[str]]:
        """The sha256 of the stored files, by size and kind."""
        alike: dict[tuple[int, Modality], set[str]] = defaultdict(set)
        for file in self._files.values():
            alike[file.bytes, file.kind].add(file.sha256)
        return dict(alike)

    def _with_facts(self, task: Task) -> Task:
        file = cast(MediaFile, task.file)
        if file.url and not file.path.exists():  # fetched by a worker elsewhere: its source states the same
            return task
        return replace(task, about=self._facts(file))

    def _is_gone(self, name: str) -> bool:
        return name in self._vanished or (not media.is_url(name) and media.is_gone(name))


def moves(tasks: Iterable[Task], vanished: Mapping[str, KnownFile]) -> dict[str, Task]:
    """Return which vanished files the files of `tasks` are, by the names of the former.

    Opens files that have the size of a vanished one, but not its mtime.
    """
    sizes = {(file.bytes, file.kind) for file in vanished.values()}
    names: dict[tuple[int | str, ...], list[str]] = defaultdict(list)
    for path, old in vanished.items():
        names[old.bytes, old.kind, old.mtime_ns].append(path)
        names[old.bytes, old.kind, old.sha256].append(path)
    moved: dict[str, Task] = {}

    def take(*key: int | str) -> str | None:
        candidates = names.get(key, [])
        while candidates and candidates[-1] in moved:
            candidates.pop()
        return candidates.pop() if candidates else None

    for task in tasks:
        size = task.file.bytes, task.file.modality
        if size in sizes and (name := take(*size, task.file.mtime_ns) or take(*size, _content(task.file))):
            moved[name] = task
    return moved


def _content(file: MediaFile | media.RemoteFile) -> str:
    """Return the sha256 of a local file, "" if it is unknown."""
    with suppress(MediaError):
        return media.sha256(file.path, file.companion) if isinstance(file, MediaFile) else ""
    return ""


def copied(
    snapshot: Snapshot, files: Mapping[str, KnownFile], copies: Sequence[Copy]
) -> Iterator[tuple[Copy, Embedded]]:
    """Yield the items and vectors of each copy. A duplicate does not inherit user columns.

    Each source must be in `files`, and its items in the snapshot.
    """
    for first in range(0, len(copies), BATCH):
        batch = copies[first : first + BATCH]
        ids = [files[copy.source].ids for copy in batch]
        items = snapshot.items(np.concatenate(ids)).drop_columns("id").to_pylist()
        vectors = snapshot.vectors(np.concatenate(ids))
        ends = np.cumsum([len(of_file) for of_file in ids])
        for copy, of_file, end in zip(batch, ids, ends.tolist(), strict=True):
            span, file = slice(end - len(of_file), end), copy.task.file
            rows = items[span]
            if not (copy.is_same_file or copy.is_moved):
                rows = [{name: row[name] for name in ITEM_COLUMNS[1:]} for row in rows]
            columns = {"path": file.name, "bytes": file.bytes, "mtime_ns": file.mtime_ns}
            columns |= {"imported_from": None}  # this ingest has read it
            for row in rows:
                about = {name: row[name] for name in facts.COLUMNS if row.get(name) is not None}
                row |= {**columns, "mime": file.mime or row["mime"]}
                row |= replaced({**about, **copy.task.about}, copy.task.extra)
            yield copy, Embedded(copy.task, rows, list(vectors[span]))
