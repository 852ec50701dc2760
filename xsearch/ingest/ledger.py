"""Collects the results of a run and commits them; the only user of the writer.

The outcome of a file is one `_Change`, appended atomically. A commit takes all pending changes before it
writes, so an interrupted commit never writes twice; the next run processes those files again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from xsearch import media
from xsearch.errors import Reason, Transient
from xsearch.ingest.columns import as_text, table
from xsearch.ingest.copies import Copies, Copy, copied
from xsearch.ingest.interrupts import deferred_interrupts
from xsearch.ingest.known import Known, KnownFile, state
from xsearch.ingest.others import extension
from xsearch.ingest.report import Clock, Progress, Report
from xsearch.ingest.survey import Survey
from xsearch.ingest.work import Action, Embedded, Task, skipped_sidecar
from xsearch.media import RemoteFile, Skipped
from xsearch.types import MediaFile, Modality

if TYPE_CHECKING:
    from xsearch.store import Snapshot, Writer

__all__ = ["COMMIT_ITEMS", "COMMIT_S", "Ledger"]

CHANGED = Transient("the file that it was a copy of has changed meanwhile")
COMMIT_ITEMS, COMMIT_S = 2_000, 30.0  # bound the work lost on a kill; a commit takes about 20 ms of fsync


@dataclass(frozen=True, slots=True, eq=False)
class _Change:
    """The outcome of a file, committed as a whole."""

    dropped: Collection[str] = ()  # files whose items, if any, are removed
    rows: Sequence[Mapping[str, Any]] = ()
    vectors: Sequence[np.ndarray] = ()
    skipped: Sequence[Skipped] = ()
    recovered: Collection[str] = ()  # files no longer skipped


class Ledger:
    """Collects file outcomes and commits them every so many items or seconds.

    A context manager: on exit, including Ctrl-C and errors, commits everything finished.
    """

    def __init__(
        self,
        writer: Writer,
        known: Known,
        survey: Survey,
        clock: Clock,
        *,
        facts: Callable[[MediaFile], dict[str, Any]],
        commit_items: int = COMMIT_ITEMS,
        commit_s: float = COMMIT_S,
        progress: Callable[[Progress], None] | None = None,
    ) -> None:
        """facts: what a file states; see `media.facts`."""
        self._writer, self._known, self._survey, self._clock = writer, known, survey, clock
        self._commit_items, self._commit_s, self._progress = commit_items, commit_s, progress
        self._before: Snapshot = writer.snapshot
        self._copies = Copies(known.files, survey.vanished, survey.recaptioned, facts)
        skips = (*survey.skipped, *survey.others)
        self._pending = [_Change(dropped=survey.outdated, skipped=skips, recovered=survey.recovered)]
        self._committed_s = time.perf_counter()
        self._started = clock.started.isoformat()  # skipped files modified later are retried
        self._new: Counter[Modality] = Counter()
        self._items: Counter[Modality] = Counter()
        self._skipped: list[Skipped] = []
        self._counts: dict[str, Any] = dict.fromkeys(("changed", "duplicates", "moved", "removed"), 0)
        self._counts |= {"unchanged": survey.report.unchanged, "notes": survey.report.notes}
        self._not_media = Counter(survey.report.not_media_types)
        self._failing = {skip.path for skip in survey.report.skipped}
        self._done = self._bytes = self._pending_items = 0  # files, their bytes, items to commit

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._pending:
            self.commit()

    @property
    def collection(self) -> Path:
        """Its folder."""
        return self._writer.path

    def claim(self, task: Task) -> bool:
        """Return whether a prepared file must be embedded; otherwise `finish` copies its vectors.

        Call from a single thread, not necessarily that of the other methods.
        """
        return self._copies.claim(task)

    def candidates(self, file: MediaFile | RemoteFile) -> set[str]:
        """Return the sha256 by which `claim` would recognise a file as a copy, before it has been read."""
        return self._copies.candidates(file)

    def add(self, embedded: Embedded) -> None:
        """Record an embedded file, replacing its stored items."""
        self._count(embedded)
        self._replace(embedded)

    def refuse(self, skip: Skipped, file: MediaFile | RemoteFile) -> None:
        """Record a file without items. After a passing trouble its stored items are kept."""
        skip = replace(skip, state=state(file))
        if skip.error is Reason.NOT_MEDIA:
            self._not_media[extension(skip.path)] += 1
        self._apply(
            _Change(
                dropped=() if skip.error.is_passing else (skip.path,),
                skipped=() if skip.error is Reason.NOT_MEDIA else (skip,),
            ),
            skip.path,
            file,
        )

    def finish(self, prune: bool | Sequence[str | Path]) -> None:
        """Record the copies, whose sources are all embedded by now.

        prune: remove the items of vanished and excluded files, or those at and below these paths, unless
            they were moved.
        """
        copies, files = self._copies, self._known.files
        same = (copy.task.file for copy in copies.of_stored if copy.is_same_file)
        self._counts["unchanged"] += sum(map(media.count, same))
        for task in self._survey.tasks(Action.DESCRIBE):
            copies.of_stored.append(Copy(task, task.file.name))
        self._copy(self._before, files, copies.of_stored)
        if copies.of_new:
            self.commit()
            after = self._writer.snapshot
            current = Known(after).files
            problems = {skip.path: skip for skip in self._skipped}
            embedded = []
            for copy in copies.of_new:
                source, file = current.get(copy.source), copy.task.file
                if source and source.sha256 == copy.task.sha256:
                    embedded.append(copy)
                else:  # same bytes, same problem; items of earlier bytes may have stayed
                    problem = problems.get(copy.source) or Skipped.of(copy.source, file.path, CHANGED)
                    self.refuse(replace(problem, path=file.name), file)
            self._copy(after, current, embedded)
        pruned = self._survey.pruned(prune, copies.moved)
        self._counts["removed"] = pruned.items
        self._counts["notes"] += pruned.notes
        self._pending.append(_Change(dropped=pruned.files))

    @property
    def is_due(self) -> bool:
        """Whether the commit interval has elapsed."""
        return time.perf_counter() - self._committed_s > self._commit_s

    def commit(self) -> None:
        """Commit all pending changes."""
        with deferred_interrupts(), self._clock.timed("write"):
            changes, self._pending, self._pending_items = self._pending, [], 0
            writer, files = self._writer, self._known.files
            dropped = [files[name].ids for change in changes for name in change.dropped if name in files]
            if dropped:
                writer.remove(np.concatenate(dropped))
            for change in changes:
                writer.forget_skips(change.recovered)
                writer.skip(self._records(change.skipped))
            if rows := [row for change in changes for row in change.rows]:
                vectors = [vector for change in changes for vector in change.vectors]
                writer.add(table(rows), np.stack(vectors))
            writer.commit()
        self._committed_s = time.perf_counter()

    @property
    def report(self) -> Report:
        """The report so far, without timings."""
        report, types = self._survey.report, self._not_media
        return replace(
            report,
            new=self._new,
            items=self._items,
            skipped=(*report.skipped, *self._skipped),
            not_media=types.total(),
            not_media_types=types,
            **self._counts,
        )

    def _copy(self, snapshot: Snapshot, files: Mapping[str, KnownFile], copies: Sequence[Copy]) -> None:
        for copy, embedded in copied(snapshot, files, copies):
            if not copy.is_same_file:
                self._counts["moved" if copy.is_moved else "duplicates"] += media.count(copy.task.file)
                self._count(embedded, is_new=not copy.is_moved)
            self._replace(embedded, copy.source if copy.is_moved else None)

    def _count(self, embedded: Embedded, *, is_new: bool = True) -> None:
        file = embedded.task.file
        self._counts["changed"] += media.count(file) * (file.name in self._known.files)
        if is_new:
            self._new[file.modality] += media.count(file)
            self._items.update(Modality(row["modality"]) for row in embedded.rows)

    def _replace(self, embedded: Embedded, moved_from: str | None = None) -> None:
        """Replace a file's items; those of `moved_from` are removed as well."""
        file, problem = embedded.task.file, embedded.task.sidecar_problem
        self._apply(
            _Change(
                dropped=(file.name, moved_from) if moved_from else (file.name,),
                rows=embedded.rows,
                vectors=embedded.vectors,
                skipped=skipped_sidecar(embedded.task),
                recovered=[*{*self._known.resolved(file.name, problem)} - self._failing],
            ),
            file.name,
            file,
        )

    def _apply(self, change: _Change, name: str, file: MediaFile | RemoteFile) -> None:
        """Append a pending change; commit if enough items are pending."""
        self._pending.append(change)
        self._pending_items += len(change.rows)
        self._skipped += change.skipped
        self._done += media.count(file)
        self._bytes += file.bytes
        if self._progress:
            expected = self._survey.report
            total = sum(expected.new.values()) + expected.described
            skipped = len(self._survey.skipped) + len(self._skipped)
            items, seconds = dict(self._items), self._clock.seconds
            self._progress(Progress(self._done, total, self._bytes, items, skipped, seconds, name))
        if self._pending_items >= self._commit_items:
            self.commit()

    def _records(self, skips: Iterable[Skipped]) -> Iterator[dict[str, str | None]]:
        """Yield skips as stored, except those already stored (failed retries)."""
        for skip in skips:
            path = as_text(skip.path)
            known = self._known.skips.get(path)
            if known != replace(skip, path=path) or known.state != skip.state:
                yield {
                    "path": path,
                    "reason": skip.reason,
                    "error": skip.error,
                    "when": self._started,
                    "state": skip.state,
                }
