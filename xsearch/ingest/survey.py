"""Compare the files on disk with the store to determine the work of an ingest.

Files whose name, size and mtime match the store are neither opened nor fetched.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from xsearch import media
from xsearch.errors import Reason, Transient, UsageError
from xsearch.ingest.copies import moves
from xsearch.ingest.known import Known, KnownFile, state
from xsearch.ingest.listing import Listing
from xsearch.ingest.others import LEFT_OUT, Others
from xsearch.ingest.report import Report
from xsearch.ingest.roots import Roots
from xsearch.ingest.work import Action, Task, replaced, skipped_sidecar, table_of, tasks_of
from xsearch.media import Remote, RemoteFile, Skipped, facts
from xsearch.metadata import Metadata, sidecar
from xsearch.types import PICTURES, MediaFile, Modality

__all__ = ["Survey", "survey"]

CAPTION = {"title", "description", "keywords"}
_PLAIN = (str, int, float)  # values that a task can carry


class Pruned(NamedTuple):
    """Vanished files whose items are removed."""

    files: Set[str]
    items: int
    notes: tuple[str, ...]  # about the items that are kept


@dataclass(frozen=True, slots=True, eq=False)
class Survey:
    """The work to do, and the decisions about all other files."""

    work: pa.Table  # schema WORK
    remotes: Mapping[str, Remote]  # by URL
    report: Report  # before anything is embedded, copied or removed
    skipped: Sequence[Skipped]  # new skips, or skips with a new reason
    others: Sequence[Skipped]  # no failures, as by `Others`: new lines to record
    outdated: Set[str]  # stored, changed and now unreadable: their items are removed
    recovered: Set[str]  # skipped before, now readable or deleted
    recaptioned: Set[str]  # unchanged pictures whose XMP sidecars have other words: embedded again
    vanished: Mapping[str, KnownFile]  # stored and below the roots, but deleted or excluded

    def tasks(self, action: Action) -> Iterator[Task]:
        return tasks_of(self.work.filter(pc.field("action") == action), self.remotes)

    def pruned(self, prune: bool | Sequence[str | Path], moved: Set[str]) -> Pruned:
        """Choose the vanished files, other than moved ones, whose items are removed; see `ingest`."""
        gone, tops = self.vanished.keys() - moved, Roots(() if isinstance(prune, bool) else prune)
        files = {name for name in gone if prune is True or name in tops}
        kept = Counter[str]()
        for name in gone - files:
            kept["vanished" if media.is_gone(name) else "excluded"] += len(self.vanished[name].ids)
        notes = tuple(
            f"{count:,} item{'s' * (count != 1)} of {what} files kept; --prune removes them"
            for what, count in sorted(kept.items(), reverse=True)
        )
        return Pruned(files, sum(len(self.vanished[name].ids) for name in files), notes)

    def preview(self, prune: bool | Sequence[str | Path]) -> Report:
        """Return the report of a dry run. Files that will turn out to be duplicates count as new."""
        tasks = list(self.tasks(Action.EMBED))
        moved = moves(tasks, self.vanished)
        new = Counter(self.report.new)
        new.subtract(task.file.modality for task in moved.values())
        pruned = self.pruned(prune, moved.keys())
        problems = [skip for task in tasks for skip in skipped_sidecar(task)]
        return replace(
            self.report,
            new=+new,
            moved=len(moved),
            removed=pruned.items,
            skipped=(*self.report.skipped, *problems),
            notes=self.report.notes + pruned.notes,
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
    identify: Callable[..., MediaFile],
) -> Survey:
    """Compare the files below `roots` with the known ones.

    roots: paths and URLs. kinds, metadata: see `ingest`. collection: its folder, excluded.
    scratch: folder for copies of remote files. identify: `media.identify`, or one that works elsewhere.
    """
    listing = Listing(
        roots,
        known,
        kinds=kinds,
        exclude=exclude,
        collection=collection,
        scratch=scratch,
        identify=identify,
    )
    described = listing.metadata(metadata)
    sorter = _Sorter(known, listing, described)
    work = table_of(task for file in listing.drain() if (task := sorter.sort(file)))
    others, skipped = sorter.all_others(), tuple({**sorter.still_skipped, **sorter.skipped}.values())
    failing, unreached = {skip.path for skip in skipped}, Roots(sorter.unreached)
    report = Report(
        files=sorter.files,
        new=sorter.new,
        changed=sorter.changed,
        unchanged=sorter.unchanged,
        described=sorter.described,
        skipped=skipped,
        not_media=others.counts[Reason.NOT_MEDIA],
        not_media_types=dict(others.types.most_common()),
        excluded=others.counts[Reason.EXCLUDED],
        ignored=others.counts[Reason.REMOVED],
        notes=(*described.notes(), *listing.notes()),
    )
    added, dropped = others.changes(known.others, unreached)
    sidecars = {path for path, skip in known.skips.items() if skip.error.is_sidecar}  # their records stay
    skips = known.skips.keys() - failing
    deleted = listing.missing(skips, sorter.visited, unreached)
    listed = listing.listed(skips, sorter.visited, unreached)
    return Survey(
        work,
        listing.remotes,
        report,
        skipped=tuple(sorter.skipped.values()),
        others=[skip for skip in added if skip.path not in sidecars],
        outdated=sorter.outdated,
        recovered=sorter.recovered.union(deleted, listed, dropped) - failing,
        recaptioned=sorter.recaptioned,
        vanished={
            name: known.files[name] for name in listing.missing(known.files, sorter.visited, unreached)
        },
    )


class _Sorter:
    """Classifies files one by one and keeps the tallies."""

    def __init__(self, known: Known, listing: Listing, metadata: Metadata) -> None:
        self._known, self._listing, self._metadata = known, listing, metadata
        self._rest: list[Skipped] = []  # no failures; some turn out to be sidecars
        self._sidecars: set[str] = set()
        self.visited: set[str] = set()  # media files
        self.files: Counter[Modality] = Counter()
        self.new: Counter[Modality] = Counter()
        self.changed = self.unchanged = self.described = 0
        self.skipped: dict[str, Skipped] = {}  # by path
        self.still_skipped: dict[str, Skipped] = {}  # by an earlier run, unchanged since
        self.unreached: set[str] = set()  # files and folders that could not be read, for reasons that pass
        self._lacks_table = bool(metadata.unread)
        self.outdated: set[str] = set()
        self.recovered: set[str] = set()
        self.recaptioned: set[str] = set()

    def sort(self, file: MediaFile | RemoteFile | Skipped) -> Task | None:
        """Return the task for a file, if there is anything to do."""
        if isinstance(file, Skipped):
            self._skip(file)
            return None
        self._listing.match(file.path)
        self.visited.add(file.name)
        count = media.count(file)
        self.files[file.modality] += count
        known, skip = self._known.files.get(file.name), self._known.skips.get(file.name)
        now = file.as_modality(known.kind) if known and isinstance(file, RemoteFile) else file
        if known and known.is_same(now):
            return self._compare_columns(now, known, count)
        if skip and not (
            skip.error.is_retried
            or self._listing.has_rule(file.path)
            or skip.state is None
            or skip.state != state(file)
        ):
            self.still_skipped[file.name] = skip
            return None
        return self._embed(file, *self._user_columns(file, self._stated(file.path)))

    def _skip(self, skip: Skipped) -> None:
        known, before = self._known.files.get(skip.path), self._known.skips.get(skip.path)
        if skip.error in LEFT_OUT:
            self._rest.append(skip)
            return
        if problem := self._metadata.unread.get(skip.path):
            skip = Skipped.of(skip.path, Path(skip.path), Transient(problem))
        if skip.error.is_passing:
            self._listing.match(Path(skip.path))
            self._fail(skip)
            return
        if known and known.differs(skip.path):
            self.outdated.add(skip.path)
        if skip.error is not Reason.NOT_MEDIA and skip.path not in self._metadata.tables:
            self._listing.match(Path(skip.path))
            self._fail(skip)
            return
        if skip.path not in self._metadata.used:
            self._rest.append(replace(skip, error=Reason.NOT_MEDIA))  # also of an empty table
        if before and not before.error.is_sidecar:  # sidecars are not media either
            self.recovered.add(skip.path)

    def _fail(self, skip: Skipped) -> None:
        """Note a failure, as one of an earlier run if that has recorded the same."""
        before = self._known.skips.get(skip.path)
        is_known = before is not None and before.reason == skip.reason
        (self.still_skipped if is_known else self.skipped)[skip.path] = skip
        if skip.error.is_passing:
            self.unreached.add(skip.path)
            self._lacks_table |= media.is_metadata(Path(skip.path))

    def all_others(self) -> Others:
        """Return the files without items, other than failures, once all have been sorted."""
        others = Others(self._listing.roots)
        told = self._sidecars | self._metadata.sidecars | self.unreached
        for skip in self._rest:
            if skip.path not in told:
                others.add(skip)
        return others

    def _embed(self, file: MediaFile | RemoteFile, extra: Mapping[str, Any], problem: str | None) -> Task:
        count = media.count(file)
        self.new[file.modality] += count
        self.changed += count * (file.name in self._known.files)
        return Task(Action.EMBED, file, {**self._kept(file.name), **extra}, problem)

    def _compare_columns(self, file: MediaFile | RemoteFile, known: KnownFile, count: int) -> Task | None:
        """Return a task if the user columns of an unchanged file differ from the stored ones.

        A picture whose XMP sidecar has other words is embedded again: they are items.
        """
        stated = self._stated(file.path, known)
        extra, problem = self._user_columns(file, stated)
        self.recovered.update(self._known.resolved(file.name, problem))
        is_described = self._known.describes(known, extra)
        if not is_described and file.modality in PICTURES:
            words = {name: extra[name] for name in CAPTION & stated.keys()}
            if not self._known.describes(known, words):
                self.recaptioned.add(file.name)
                return self._embed(file, extra, problem)
        self.unchanged += count
        if is_described:
            return None
        self.described += count
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

    def _user_columns(
        self, file: MediaFile | RemoteFile, stated: dict[str, Any]
    ) -> tuple[dict[str, Any], str | None]:
        """Return the columns from beside a file and what is wrong with its JSON sidecar, if anything."""
        path = sidecar(str(file.path))
        try:
            return replaced(stated, self._metadata.of(file.path)), None
        except Exception as error:
            if problem := media.passing(error):
                self._fail(Skipped.of(sidecar(file.name), Path(path), Transient(problem)))
                return stated, None
            if isinstance(error, UsageError):
                return stated, " ".join(str(error).removeprefix(f"{path}: ").split())
            raise

    def _kept(self, name: str) -> dict[str, Any]:
        """Return the stored user columns of a changed file whose sidecar or table could not be read."""
        known = self._known.files.get(name)
        if known is None or not (self._lacks_table or {sidecar(name), f"{name}.json"} & self.unreached):
            return {}
        stored, others = self._known.stated(known).items(), {"id", *facts.COLUMNS}
        return {key: value for key, value in stored if key not in others and isinstance(value, _PLAIN)}
