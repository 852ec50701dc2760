"""Compare the files on disk with the store to determine the work of an ingest.

Files whose name, size and mtime match the store are neither opened nor fetched.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from xsearch import media
from xsearch.errors import Reason, UsageError
from xsearch.ingest.copies import moves
from xsearch.ingest.known import Known, KnownFile
from xsearch.ingest.others import Others
from xsearch.ingest.report import Report
from xsearch.ingest.work import Action, Task, replaced, table_of, tasks_of
from xsearch.media import Exclusion, Remote, RemoteFile, Skipped, facts
from xsearch.metadata import Files, Metadata, sidecar
from xsearch.types import PICTURES, MediaFile, Modality

__all__ = ["Survey", "survey"]

CAPTION = {"title", "description", "keywords"}


@dataclass(frozen=True, slots=True, eq=False)
class Survey:
    """The work to do, and the decisions about all other files."""

    work: pa.Table  # schema WORK
    remotes: Mapping[str, Remote]  # by URL
    report: Report  # before anything is embedded, copied or removed
    skipped: Sequence[Skipped]  # new skips, or skips with a new reason
    outdated: Set[str]  # stored, changed and now unreadable: their items are removed
    recovered: Set[str]  # skipped before, now readable or deleted
    vanished: Set[str]  # stored and below the roots, but deleted or excluded
    excluded: Set[str]  # of these
    others: Sequence[Skipped]  # no failures, as by `Others`: new lines to record
    recaptioned: Set[str]  # unchanged pictures whose XMP sidecars have other words: embedded again

    def tasks(self, action: Action) -> Iterator[Task]:
        return tasks_of(self.work.filter(pc.field("action") == action), self.remotes)

    def preview(self, known: Known, prune: bool | Sequence[str | Path]) -> Report:
        """Return the report of a dry run. Files that will turn out to be duplicates count as new."""
        files, tasks = known.files, list(self.tasks(Action.EMBED))
        moved = moves(tasks, {name: files[name] for name in self.vanished})
        new = Counter(self.report.new)
        new.subtract(task.file.modality for task in moved.values())
        gone = self.vanished - moved.keys()
        removed = pruned(gone, prune)
        problems = [
            Skipped(sidecar(task.file.name), task.sidecar_problem, Reason.SIDECAR)
            for task in tasks
            if task.sidecar_problem
        ]
        return replace(
            self.report,
            new=+new,
            moved=len(moved),
            removed=sum(len(files[name].ids) for name in removed),
            skipped=(*self.report.skipped, *problems),
            notes=(*self.report.notes, *kept(files, gone - removed, self.excluded)),
        )


def survey(
    known: Known,
    roots: Sequence[str | Path],
    *,
    kinds: Sequence[tuple[Modality, str]],
    exclude: Sequence[str] = (),
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
    exclusion = Exclusion(exclude, known.removed - known.files.keys())
    listed = [file for remote in remotes.values() for file in remote.files(exclusion)]
    local_roots = [*folders, *(remote.folder for remote in remotes.values())]
    inside = f"{media.absolute(collection)}{os.sep}" if collection else None
    files = deque(
        file
        for file in chain(
            listed, media.walk(folders, kinds=kinds, known=known.unchanged, exclusion=exclusion)
        )
        if not (inside and (file.path if isinstance(file, Skipped) else file.name).startswith(inside))
    )
    described = _metadata(files, local_roots, remotes, kinds=kinds, requested=metadata)
    names = [*map(str, folders), *remotes]
    sorter = _Sorter(known, described, local_roots, kinds, exclusion, Others(names))
    drained = (files.popleft() for _ in range(len(files)))  # a million take 640 MB
    work = table_of(task for file in drained if (task := sorter.sort(file)))
    vanished = {*sorter.missing(known.files, names)}
    others = sorter.all_others()
    report = Report(
        files=sorter.files,
        new=sorter.new,
        items={},
        **sorter.counts,
        duplicates=0,
        moved=0,
        removed=0,
        skipped=(*sorter.still_skipped, *sorter.skipped),
        not_media=others.counts[Reason.NOT_MEDIA],
        not_media_types=dict(others.types.most_common()),
        excluded=others.counts[Reason.EXCLUDED],
        ignored=others.counts[Reason.REMOVED],
        notes=(*described.notes(), *sorter.notes()),
        seconds=0.0,
        spent={},
    )
    deleted = sorter.missing(known.skips.keys() - {skip.path for skip in report.skipped}, names)
    added, dropped = others.changes(known.others)
    return Survey(
        work,
        remotes,
        report,
        skipped=sorter.skipped,
        others=added,
        outdated=sorter.outdated,
        recovered=sorter.recovered.union(deleted, dropped),
        vanished=vanished,
        recaptioned=sorter.recaptioned,
        excluded={name for name in vanished if not media.is_url(name) and os.path.lexists(name)},
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
    skipped = (
        Path(file.path)
        for file in files
        if isinstance(file, Skipped) and file.error not in (Reason.EXCLUDED, Reason.REMOVED)
    )
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
        self,
        known: Known,
        metadata: Metadata,
        roots: Sequence[Path],
        kinds: Sequence[tuple[Modality, str]],
        exclusion: Exclusion,
        others: Others,
    ) -> None:
        self._known, self._metadata, self._roots, self._kinds = known, metadata, roots, kinds
        self._exclusion, self._others = exclusion, others
        self._unmatched = list(dict.fromkeys(kinds))
        self._rest: list[Skipped] = []  # no failures; some turn out to be sidecars
        self._sidecars: set[str] = set()
        self._visited: set[str] = set()  # media files
        self.files: Counter[Modality] = Counter()
        self.new: Counter[Modality] = Counter()
        self.counts = dict.fromkeys(("changed", "described", "unchanged"), 0)
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
        self._match(file.path)
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
        return Task(Action.EMBED, file, *self._user_columns(file.path, self._stated(file.path)))

    def _skip(self, skip: Skipped) -> None:
        known, before = self._known.files.get(skip.path), self._known.skips.get(skip.path)
        if skip.error in (Reason.EXCLUDED, Reason.REMOVED):
            self._rest.append(skip)
            return
        if known and known.differs(skip.path):
            self.outdated.add(skip.path)
        if skip.error is not Reason.NOT_MEDIA and skip.path not in self._metadata.tables:
            self._match(Path(skip.path))
            is_known = before is not None and before.skipped.reason == skip.reason
            (self.still_skipped if is_known else self.skipped).append(skip)
            return
        if skip.path not in self._metadata.used:
            self._rest.append(replace(skip, error=Reason.NOT_MEDIA))  # also of an empty table
        if before and before.skipped.error is not Reason.SIDECAR:  # sidecars are not media either
            self.recovered.add(skip.path)

    def all_others(self) -> Others:
        """Return the files without items, other than failures, after all have been sorted; call it once."""
        for skip in self._rest:
            if skip.path not in self._sidecars and skip.path not in self._metadata.sidecars:
                self._others.add(skip)
        return self._others

    def _match(self, path: Path) -> None:
        """Note which rules match a file."""
        for rule in list(self._unmatched):
            if any(media.matches(path, root, rule[1]) for root in self._roots):
                self._unmatched.remove(rule)

    def notes(self) -> Iterator[str]:
        """Yield what the user should know of rules and ignore files."""
        rules = [f"--as {kind}={glob}" for kind, glob in self._unmatched]
        rules += [f"--exclude {glob}" for glob in self._exclusion.unmatched]
        for rule in rules:
            yield f"{rule} matches nothing; a glob is compared with names and with paths below PATH"
        yield from self._exclusion.problems

    def _described(self, file: MediaFile | RemoteFile, known: KnownFile) -> Task | None:
        """Return a task if the columns from beside an unchanged file differ from the stored ones.

        A picture whose XMP sidecar has other words is embedded again: they are items.
        """
        stated = self._stated(file.path, known)
        extra, problem = self._user_columns(file.path, stated)
        if skips := self._known.skips:
            resolved = [file.name] if problem else [file.name, sidecar(file.name)]
            self.recovered.update(name for name in resolved if name in skips)
        if self._known.describes(known, extra):
            return None
        words = CAPTION & stated.keys() if file.modality in PICTURES else ()
        if words and not self._known.describes(known, {name: extra[name] for name in words}):
            self.recaptioned.add(file.name)
            self.new[file.modality] += 1
            self.counts["changed"] += 1
            return Task(Action.EMBED, file, extra, problem)
        self.counts["described"] += media.count(file)
        return Task(Action.DESCRIBE, file, extra)

    def _stated(self, path: Path, known: KnownFile | None = None) -> dict[str, Any]:
        """Return the facts from beside a file; those of Takeout only if the store lacks them."""
        of_xmp, of_takeout = facts.of_sidecar(path), facts.of_takeout(path)
        self._sidecars.update(filter(None, (of_xmp.path, of_takeout.path)))
        stated = of_xmp.columns
        if known and of_takeout.columns:
            stated |= facts.unstated(self._known.stated(known) | stated, of_takeout.columns)
        if "taken_at" in stated:
            stated["taken_at"] = str(stated["taken_at"])  # as in JSON
        return stated

    def _user_columns(self, path: Path, stated: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
        """Return the columns from beside a file and what is wrong with its JSON sidecar, if anything."""
        try:
            return replaced(stated, self._metadata.of(path)), None
        except UsageError as problem:
            return stated, " ".join(str(problem).removeprefix(f"{sidecar(str(path))}: ").split())

    def missing(self, names: Iterable[str], roots: Sequence[str]) -> Iterator[str]:
        """Yield those of `names` that are below the roots but do not exist or are excluded.

        URLs: that are not listed.
        """
        below = tuple(f"{root.rstrip('/')}/" for root in roots)
        for name in names:
            is_below = name not in self._visited and (name.startswith(below) or name in roots)
            if is_below and (media.is_url(name) or not os.path.lexists(name) or self._is_excluded(name)):
                yield name

    def _is_excluded(self, name: str) -> bool:
        path = Path(name)
        return all(self._exclusion.covers(path, root) for root in self._roots if path.is_relative_to(root))


def pruned(names: Set[str], prune: bool | Sequence[str | Path]) -> Set[str]:
    """Return the names of vanished files whose items are removed; see `ingest`."""
    if isinstance(prune, bool):
        return names if prune else set()
    tops = [str(path if media.is_url(path) else media.absolute(path)) for path in prune]
    below = tuple(f"{top.rstrip('/')}/" for top in tops)
    return {name for name in names if name in tops or name.startswith(below)}


def kept(files: Mapping[str, KnownFile], names: Set[str], excluded: Set[str]) -> Iterator[str]:
    """Yield notes about vanished files whose items are kept."""
    for group, what in ((names - excluded, "vanished"), (names & excluded, "excluded")):
        if count := sum(len(files[name].ids) for name in group):
            yield f"{count:,} item{'s' * (count != 1)} of {what} files kept; --prune removes them"
