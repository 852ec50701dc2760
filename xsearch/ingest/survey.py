"""Compare the files on disk with the store to determine the work of an ingest.

Files whose name, size and mtime match the store are neither opened nor fetched.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from xsearch import media
from xsearch.errors import Reason, UsageError
from xsearch.ingest.known import Known, KnownFile
from xsearch.ingest.report import Report
from xsearch.ingest.work import Action, Task, replaced, table_of, tasks_of
from xsearch.media import Remote, RemoteFile, Skipped, facts
from xsearch.metadata import Files, Metadata, sidecar
from xsearch.types import PICTURES, MediaFile, Modality

__all__ = ["Survey", "survey"]

CAPTION = {"title", "description", "keywords"}


@dataclass(frozen=True, slots=True, eq=False)
class Survey:
    """The work to do, and the decisions about all other files."""

    work: pa.Table  # schema WORK
    remotes: Mapping[str, Remote]  # by URL
    report: Report  # of a dry run with prune
    skipped: Sequence[Skipped]  # new skips, or skips with a new reason
    outdated: Set[str]  # stored, changed and now unreadable: their items are removed
    recovered: Set[str]  # skipped before, now readable or deleted
    vanished: Set[str]  # stored and below the roots, but deleted
    recaptioned: Set[str]  # unchanged pictures whose XMP sidecars have other words: embedded again

    def tasks(self, action: Action) -> Iterator[Task]:
        return tasks_of(self.work.filter(pc.field("action") == action), self.remotes)


def survey(
    known: Known,
    roots: Sequence[str | Path],
    *,
    kinds: Sequence[tuple[Modality, str]],
    metadata: str | Path | None,
    collection: Path | None,
    scratch: Path,
) -> Survey:
    """Compare the files below `roots` with the known ones.

    roots: paths and URLs. kinds, metadata: see `ingest`. collection: its folder, excluded.
    scratch: folder for copies of remote files.
    """
    folders = [media.absolute(root) for root in roots if not media.is_url(root)]
    remotes = {str(root): Remote(str(root), scratch, kinds=kinds) for root in roots if media.is_url(root)}
    listed = [file for remote in remotes.values() for file in remote.files()]
    local_roots = [*folders, *(remote.folder for remote in remotes.values())]
    inside = f"{media.absolute(collection)}{os.sep}" if collection else None
    files = deque(
        file
        for file in chain(listed, media.walk(folders, kinds=kinds, known=known.unchanged))
        if not (inside and (file.path if isinstance(file, Skipped) else file.name).startswith(inside))
    )
    described = _metadata(files, local_roots, remotes, kinds=kinds, requested=metadata)
    sorter = _Sorter(known, described, local_roots, kinds)
    drained = (files.popleft() for _ in range(len(files)))  # a million take 640 MB
    work = table_of(task for file in drained if (task := sorter.sort(file)))
    names = [*map(str, folders), *remotes]
    vanished = {*sorter.missing(known.files, names)}
    report = Report(
        files=sorter.files,
        new=sorter.new,
        items={},
        **sorter.counts,
        duplicates=0,
        moved=0,
        removed=sum(len(known.files[name].ids) for name in vanished),
        skipped=(*sorter.still_skipped, *sorter.skipped),
        notes=described.notes(),
        seconds=0.0,
        spent={},
    )
    deleted = sorter.missing(known.skips.keys() - {skip.path for skip in report.skipped}, names)
    recovered = sorter.recovered.union(deleted)
    return Survey(
        work, remotes, report, sorter.skipped, sorter.outdated, recovered, vanished, sorter.recaptioned
    )


def _metadata(
    files: Iterable[MediaFile | RemoteFile | Skipped],
    roots: Sequence[Path],
    remotes: Mapping[str, Remote],
    *,
    kinds: Sequence[tuple[Modality, str]],
    requested: str | Path | None,
) -> Metadata:
    """Return the user columns of the files: from the tables among them, and from the requested one."""
    skipped = (Path(file.path) for file in files if isinstance(file, Skipped))
    tables = [path for path in skipped if media.is_metadata(path)]
    tables = [path for path in tables if not any(media.match_kind(path, root, kinds) for root in roots)]
    tables += [path for remote in remotes.values() for path in remote.tables]
    place = next((remote.place for remote in remotes.values()), Path)

    def paths() -> Iterator[str]:
        for file in files:
            if isinstance(file, Skipped):
                yield str(place(file.path)) if media.is_url(file.path) else file.path
            else:
                yield from (str(path) for path in (file.path, file.companion) if path)

    def shown(path: Path) -> str:
        """Return the URL of a copy, any other path relative to the current folder if it is below it."""
        for url, remote in remotes.items():
            if path.is_relative_to(remote.folder):
                return f"{url.rstrip('/')}/{path.relative_to(remote.folder)}"
        return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)

    requested = media.absolute(requested) if requested else None
    described = Files(paths() if tables or requested else (), map(str, roots))
    return Metadata(described, tables, requested, shown=shown)


class _Sorter:
    """Classifies files one by one and keeps the tallies."""

    def __init__(
        self, known: Known, metadata: Metadata, roots: Sequence[Path], kinds: Sequence[tuple[Modality, str]]
    ) -> None:
        self._known, self._metadata, self._roots, self._kinds = known, metadata, roots, kinds
        self._visited: set[str] = set()  # media files
        self.files: Counter[Modality] = Counter()
        self.new: Counter[Modality] = Counter()
        self.counts = dict.fromkeys(("changed", "described", "unchanged", "not_media"), 0)
        self.skipped: list[Skipped] = []
        self.still_skipped: list[Skipped] = []  # by an earlier run, unchanged since
        self.outdated: set[str] = set()
        self.recovered: set[str] = set()
        self.recaptioned: set[str] = set()

    def sort(self, file: MediaFile | RemoteFile | Skipped) -> Task | None:
        """Return the task for a file, if there is anything to do."""
        if isinstance(file, Skipped):
            self._skip(file)
            return None
        self._visited.add(file.name)
        count = media.count(file)
        self.files[file.modality] += count
        known, skip = self._known.files.get(file.name), self._known.skips.get(file.name)
        now = file.as_modality(known.kind) if known and isinstance(file, RemoteFile) else file
        if known and known.is_same(now):
            task = self._described(now, known)
            self.counts["unchanged"] += count * (task is None or task.action is Action.DESCRIBE)
            return task
        if skip and not (
            skip.skipped.error.is_transient
            or any(media.match_kind(file.path, root, self._kinds) for root in self._roots)
            or skip.has_changed(file.mtime_ns)
        ):
            self.still_skipped.append(skip.skipped)
            return None
        self.new[file.modality] += count
        self.counts["changed"] += count * (known is not None)
        return Task(Action.EMBED, file, *self._user_columns(file.path))

    def _skip(self, skip: Skipped) -> None:
        known, before = self._known.files.get(skip.path), self._known.skips.get(skip.path)
        if known and known.differs(skip.path):
            self.outdated.add(skip.path)
        if skip.error is not Reason.NOT_MEDIA and skip.path not in self._metadata.tables:
            is_known = before is not None and before.skipped.reason == skip.reason
            (self.still_skipped if is_known else self.skipped).append(skip)
            return
        self.counts["not_media"] += skip.path not in self._metadata.used
        if before and before.skipped.error is not Reason.SIDECAR:  # sidecars are not media either
            self.recovered.add(skip.path)

    def _described(self, file: MediaFile | RemoteFile, known: KnownFile) -> Task | None:
        """Return a task if the columns from beside an unchanged file differ from the stored ones.

        A picture whose XMP sidecar has other words is embedded again: they are items.
        """
        extra, problem = self._user_columns(file.path)
        if skips := self._known.skips:
            resolved = [file.name] if problem else [file.name, sidecar(file.name)]
            self.recovered.update(name for name in resolved if name in skips)
        if self._known.describes(known, extra):
            return None
        words = CAPTION & facts.of_sidecar(file.path).keys() if file.modality in PICTURES else ()
        if words and not self._known.describes(known, {name: extra[name] for name in words}):
            self.recaptioned.add(file.name)
            self.new[file.modality] += 1
            self.counts["changed"] += 1
            return Task(Action.EMBED, file, extra, problem)
        self.counts["described"] += media.count(file)
        return Task(Action.DESCRIBE, file, extra)

    def _user_columns(self, path: Path) -> tuple[dict[str, Any], str | None]:
        """Return the columns from beside a file and what is wrong with its JSON sidecar, if anything."""
        stated = facts.of_sidecar(path)
        if "taken_at" in stated:
            stated["taken_at"] = str(stated["taken_at"])  # as in JSON
        try:
            return replaced(stated, self._metadata.of(path)), None
        except UsageError as problem:
            return stated, " ".join(str(problem).removeprefix(f"{sidecar(str(path))}: ").split())

    def missing(self, names: Iterable[str], roots: Sequence[str]) -> Iterator[str]:
        """Yield those of `names` that are below the roots but do not exist, or for URLs, are not listed."""
        below = tuple(f"{root.rstrip('/')}/" for root in roots)
        for name in names:
            is_below = name not in self._visited and (name.startswith(below) or name in roots)
            if is_below and (media.is_url(name) or not os.path.lexists(name)):
                yield name
