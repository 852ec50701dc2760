"""Files -> samples -> vectors -> store -> index. What is committed is never done again.

A file is finished when all its samples are embedded, and only finished files are committed, every so many
items or seconds: a run that is killed loses the work since its last commit, and the next run goes on from
there.
"""

from __future__ import annotations

import hashlib
import os
import signal
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
import pyarrow as pa

from xsearch import media
from xsearch.ahead import Ahead
from xsearch.decoders import Decoders
from xsearch.errors import ModelError, StoreError, Unreadable, UsageError, XsearchError
from xsearch.index import make_plan
from xsearch.media import Skipped
from xsearch.metadata import Metadata
from xsearch.query.calibrate import Calibration, calibrate
from xsearch.store import ITEM_COLUMNS
from xsearch.survey import Known, Survey, as_text, changed_since, known_files
from xsearch.types import MediaFile, Modality, Sample

if TYPE_CHECKING:
    from xsearch.embed import Embedder
    from xsearch.store import Snapshot, Store, Writer

__all__ = ["Progress", "Report", "derive", "ingest"]

COMMIT_ITEMS, COMMIT_S = 2_000, 30.0  # the most that a kill costs; a commit itself is some 20 ms of fsync
BATCH, BATCH_BYTES = 32, 64 << 20  # samples of one kind that are embedded together
FAIR = 8  # samples of a kind of which none can be embedded: then it is not the files, but the model
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
MOST_DECODERS = 16  # processes of some 100 MB each
AHEAD_BYTES = 256 << 20  # of decoded samples that wait for the model
STALE = 0.1  # share of items outside the index at which it is built anew; until then they are scanned


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is, for whoever shows it."""

    done: int  # files
    total: int  # files to do; unchanged ones do not count
    bytes: int  # of the files that are done
    items: Mapping[Modality, int]  # embedded so far, by kind
    skipped: int
    seconds: float  # since the run began
    path: Path  # the file that was finished last


@dataclass(frozen=True, slots=True)
class Report:
    """What a run did; a dry run: what it would do."""

    files: Mapping[Modality, int]  # media files seen, by kind
    new: Mapping[Modality, int]  # files embedded, by kind; dry run: new or changed
    items: Mapping[Modality, int]  # items embedded, by kind: a file may give several, of two kinds
    changed: int  # files known with another content
    unchanged: int
    duplicates: int  # files that were given the vectors of another with the same bytes
    moved: int  # the same, where the other is gone
    described: int  # files of which only the user columns have changed
    removed: int  # items of vanished files
    skipped: tuple[Skipped, ...]  # also those of earlier runs that have not changed since
    not_media: int
    seconds: float
    spent: Mapping[str, float]  # of these seconds: "look", "wait" for decoders, "embed", "write", "index"

    @property
    def items_per_s(self) -> float:
        return sum(self.items.values()) / self.seconds if self.seconds else 0.0


def ingest(
    store: Store | None,
    paths: Sequence[str | Path],
    embedder: Embedder | None,
    *,
    kinds: Sequence[tuple[Modality, str]] = (),
    metadata: str | Path | None = None,
    prune: bool = False,
    dry_run: bool = False,
    progress: Callable[[Progress], None] | None = None,
    decoders: int | None = None,
    commit_items: int = COMMIT_ITEMS,
    commit_s: float = COMMIT_S,
) -> Report:
    """Bring the collection in step with the media below `paths` (files and folders).

    kinds: `(kind, glob)` rules that go before all detection.
    metadata: a CSV table with a column `path`; the others become columns of the items (see `metadata.py`).
    prune: also remove the items of files below `paths` that are gone.
    dry_run: compare only; `store` may be None (nothing is known yet) and `embedder` too.
    decoders: processes that decode, one for each core if None; 0 to decode in this one.

    One bad file never ends a run: it is recorded with its reason and tried again when it has changed.
    Raises UsageError for a path that is not there, Locked while somebody else is writing.
    """
    start_s = time.perf_counter()
    roots = [Path(path) for path in paths]
    about = Metadata.beside(roots, metadata)
    if dry_run:
        survey = Survey(
            store.snapshot() if store else None, roots, kinds, about, store.path if store else None
        )
        gone = sum(map(len, survey.vanished().values())) if prune else 0
        return _report(survey, start_s, new=Counter(file.modality for file in survey.work), removed=gone)
    if store is None or embedder is None:
        raise ValueError("only a dry run goes without a store and an embedder")
    with store.writer() as writer:
        before = writer.snapshot
        survey = Survey(before, roots, kinds, about, store.path)
        run = _Run(writer, embedder, survey, progress, commit_items, commit_s, start_s)
        if decoders is None:
            decoders = min(CORES, MOST_DECODERS, len(survey.work))
        try:
            with Decoders(decoders, side=embedder.picture_side) as processes:
                run.embed_all(processes)
            run.copy_all(before)
            if prune:
                run.prune()
        except BaseException:  # Ctrl-C too
            if not run.busy:
                run.commit()
            raise
        finally:
            embedder.use_threads(CORES)
        run.commit()
        with run.timed("index"):
            derive(writer)
    return _report(survey, start_s, skipped=(*survey.skipped_still, *run.skipped), **run.counts())


def _report(survey: Survey, start_s: float, **counts: Any) -> Report:
    values: dict[str, Any] = {
        "files": survey.files,
        "items": Counter(),
        "changed": sum(str(file.path) in survey.known for file in survey.work),
        "unchanged": survey.unchanged,
        "duplicates": 0,
        "moved": 0,
        "described": len(survey.described),
        "removed": 0,
        "skipped": (*survey.skipped_still, *survey.skipped),
        "not_media": survey.not_media,
        "seconds": time.perf_counter() - start_s,
        "spent": {"look": time.perf_counter() - start_s},
    }
    return Report(**(values | counts))


# ---------------------------------------------------------------- one run


@dataclass(slots=True, eq=False)
class _File:
    """A file on its way into the store."""

    file: MediaFile
    sha256: str = ""
    rows: list[dict[str, Any]] = field(default_factory=list)
    vectors: list[np.ndarray | None] = field(default_factory=list)  # one per row; None until it is embedded
    decoded: bool = False  # no more rows will come
    problem: Exception | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Copy:
    """A file whose vectors are there already, under the path `source`."""

    file: MediaFile
    source: str
    moved: bool = False  # the source is gone
    fresh: bool = False  # the source is new itself: its items are made by this run

    @property
    def own(self) -> bool:
        """The file itself, with another time or other user columns."""
        return self.source == str(self.file.path)


class _Contents:
    """Where each content lies: under the paths that the store knows, and under those of this run."""

    def __init__(self, known: Mapping[str, Known]) -> None:
        self._known = known
        self._stored: dict[tuple[str, Modality], list[str]] = {}
        for path, file in known.items():
            self._stored.setdefault((file.sha256, file.kind), []).append(path)
        self._fresh: dict[tuple[str, Modality], str] = {}
        self._moved: set[str] = set()

    def copy_of(self, file: MediaFile, sha256: str) -> _Copy | None:
        """How a file comes by its vectors; None if it has to be embedded."""
        path, content = str(file.path), (sha256, file.modality)
        stored = self._stored.get(content, [])
        if path in stored:
            return _Copy(file, path)  # only its time has changed
        for old in stored:
            if old not in self._moved and not os.path.lexists(old):
                self._moved.add(old)
                return _Copy(file, old, moved=True)
        if stored:
            return _Copy(file, stored[0])
        first = self._fresh.setdefault(content, path)
        return None if first == path else _Copy(file, first, fresh=True)


class _Run:
    """Everything between the survey and the report. Decoding runs ahead of the model, in other processes."""

    def __init__(
        self,
        writer: Writer,
        embedder: Embedder,
        survey: Survey,
        progress: Callable[[Progress], None] | None,
        commit_items: int,
        commit_s: float,
        start_s: float,
    ) -> None:
        self.writer, self.embedder, self.survey, self.progress = writer, embedder, survey, progress
        self.commit_items, self.commit_s, self.start_s = commit_items, commit_s, start_s
        self.spent: dict[str, float] = defaultdict(float, look=time.perf_counter() - start_s)
        self.new: Counter[Modality] = Counter()
        self.items: Counter[Modality] = Counter()
        self.skipped: list[Skipped] = []
        self.unchanged = survey.unchanged
        self.changed = self.duplicates = self.moved = self.removed = self._done = self._bytes = 0
        self._batches: dict[Modality, list[tuple[_File, int, Sample]]] = {}
        self._copies: list[_Copy] = []  # of items that were there when the run began
        self._later: list[_Copy] = []  # of items that this run makes
        self._rows: list[dict[str, Any]] = []  # finished, for the next commit
        self._unit: list[np.ndarray] = []
        self.busy = 0  # steps under way; one that was broken off never ends, and must not be committed
        self._spare_threads = lambda: CORES
        self._works: set[Modality] = set()  # kinds of which something has been embedded
        self._committed_s = time.perf_counter()
        self._when = datetime.now(UTC).isoformat()  # a file that changes after this is tried again
        writer.forget_skips(survey.healed)
        for path in survey.spoilt:
            self._drop(path)
        for skip in survey.skipped:
            self._skip(skip)

    @contextmanager
    def _step(self) -> Iterator[None]:
        """What is done in here is done whole, Ctrl-C or not; what breaks off otherwise is not committed."""
        self.busy += 1
        with _ctrl_c_waits():
            yield
            self.busy -= 1  # not in a `finally`

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        start_s = time.perf_counter()
        try:
            yield
        finally:
            self.spent[what] += time.perf_counter() - start_s

    def counts(self) -> dict[str, Any]:
        names = ("new", "items", "changed", "unchanged", "duplicates", "moved", "removed", "spent")
        return {name: getattr(self, name) for name in names}

    # ------------------------------------------------------------ new and changed files

    def embed_all(self, decoders: Decoders) -> None:
        """Decode, embed and commit; remember the files that only need a copy."""
        with Ahead(self._decode_all(decoders), AHEAD_BYTES, _size) as events:
            # The cores that no decoder is at; all, where those wait for the embedder.
            self._spare_threads = lambda: CORES if events.full else max(CORES - decoders.at_work, 1)
            for event in self._waited(events):
                match event:
                    case _Copy():
                        (self._later if event.fresh else self._copies).append(event)
                        self.unchanged += event.own
                    case _File():
                        event.decoded = True
                        self._finish(event)
                    case entry, sample:
                        self._take(entry, sample)
                if time.perf_counter() - self._committed_s > self.commit_s:
                    self._embed_waiting()
                    self.commit()
        self._embed_waiting()

    def _waited(self, events: Iterable[T]) -> Iterator[T]:
        """The same; the time until each comes is counted."""
        each = iter(events)
        while True:
            with self.timed("wait"):
                event = next(each, None)
            if event is None:
                return
            yield event

    def _decode_all(self, decoders: Decoders) -> Iterator[_Copy | _File | tuple[_File, Sample]]:
        """For each file a copy, or its samples and then the file itself. Runs in a thread."""
        contents = _Contents(self.survey.known)
        entries: dict[MediaFile, _File] = {}  # being decoded
        settled: deque[_Copy | _File] = deque()  # need no decoding

        def files() -> Iterator[MediaFile]:
            for file in self.survey.work:
                entry = _File(file)
                try:
                    entry.sha256 = _digest(file)
                except Unreadable as problem:
                    entry.problem = problem
                    settled.append(entry)
                    continue
                if copy := contents.copy_of(file, entry.sha256):
                    settled.append(copy)
                    continue
                entries[file] = entry
                yield file

        for file, what in decoders.decode(files()):
            while settled:
                yield settled.popleft()
            if isinstance(what, Sample):
                yield entries[file], what
                continue
            entry = entries.pop(file)
            entry.problem = what
            yield entry
        yield from settled

    def _take(self, entry: _File, sample: Sample) -> None:
        if entry.problem:
            return
        batch = self._batches.setdefault(sample.modality, [])
        batch.append((entry, len(entry.rows), sample))
        entry.rows.append(_row(entry, sample))
        entry.vectors.append(None)
        if len(batch) >= BATCH or sum(_bytes(waiting.data) for _, _, waiting in batch) >= BATCH_BYTES:
            self._embed(sample.modality)

    def _embed_waiting(self) -> None:
        for modality in list(self._batches):
            self._embed(modality)

    def _embed(self, modality: Modality) -> None:
        batch = self._batches.pop(modality)
        for (entry, row, _), vector in zip(
            batch, self._vectors(modality, [sample for *_, sample in batch]), strict=True
        ):
            if isinstance(vector, Exception):
                entry.problem = vector
            else:
                entry.vectors[row] = vector
        for entry in dict.fromkeys(entry for entry, *_ in batch):
            self._finish(entry)

    def _vectors(self, modality: Modality, samples: Sequence[Sample]) -> list[np.ndarray | Exception]:
        """Per sample a vector, or what is wrong with it.

        Raises ModelError if none of FAIR samples can be embedded and nothing of their kind has been before.
        """
        try:
            self.embedder.use_threads(self._spare_threads())
            with self.timed("embed"):
                vectors = self.embedder.embed(samples)
        except (ModelError, MemoryError):
            raise
        except Exception as problem:
            if len(samples) == 1:
                return [problem]
            each = [self._vectors(modality, [sample])[0] for sample in samples]
            if len(samples) >= FAIR and modality not in self._works:
                raise ModelError(
                    f"the model fails for each of {len(samples)} {modality} samples: "
                    f"{type(problem).__name__}: {problem}; check its files and the device, or use another one"
                ) from problem
            return each
        self._works.add(modality)
        finite = np.isfinite(vectors).all(axis=1)
        return [
            vector if good else Unreadable("the model finds no direction in it: not finite")
            for vector, good in zip(vectors, finite, strict=True)
        ]

    def _finish(self, entry: _File) -> None:
        """Hand a file over for the next commit, once: when it is decoded and nothing of it is in a batch."""
        file = entry.file
        if not entry.decoded or any(
            waiting is entry for batch in self._batches.values() for waiting, *_ in batch
        ):
            return
        if entry.problem:
            with self._step():
                self._drop(str(file.path))
                self._skip(_skipped(file.path, entry.problem))
        else:
            self.new[file.modality] += 1
            self.items.update(Modality(row["modality"]) for row in entry.rows)
            self.changed += str(file.path) in self.survey.known
            self._add(file, entry.rows, cast(list[np.ndarray], entry.vectors))
        self._report(file)
        if len(self._rows) >= self.commit_items:
            self.commit()

    # ------------------------------------------------------------ files whose vectors are there

    def copy_all(self, before: Snapshot) -> None:
        """Give moved, touched, newly described and duplicate files the vectors that their content has.

        before: the collection as the run found it.
        """
        described = [_Copy(file, str(file.path)) for file in self.survey.described]
        self._copy(before, self.survey.known, self._copies + described)
        if self._later:
            self.commit()
            after = self.writer.snapshot
            self._copy(after, known_files(after), self._later)

    def _copy(self, snapshot: Snapshot, known: Mapping[str, Known], copies: Sequence[_Copy]) -> None:
        problems = {str(skip.path): skip for skip in self.skipped}
        for copy in copies:
            file = copy.file
            if copy.source not in known:  # the same bytes, the same problem
                first = problems[copy.source]
                with self._step():
                    self._drop(str(file.path))
                    self._skip(Skipped(file.path, first.reason, first.error))
                self._report(file)
                continue
            ids = known[copy.source].ids
            rows = [
                row | {"path": str(file.path), "mtime_ns": file.mtime_ns, "mime": file.mime or row["mime"]}
                for row in snapshot.items(ids).drop_columns("id").to_pylist()
            ]
            if not (copy.own or copy.moved):
                rows = [{name: row[name] for name in row if name in ITEM_COLUMNS} for row in rows]
                self.duplicates += 1
            self.changed += not copy.own and str(file.path) in self.survey.known
            self.moved += copy.moved
            vectors = list(snapshot.vectors(ids))
            with self._step():
                if copy.moved:
                    self._drop(copy.source)
                self._add(file, rows, vectors)
            self._report(file)
            if len(self._rows) >= self.commit_items:
                self.commit()

    def prune(self) -> None:
        """Remove the items of files that are gone and have not been found elsewhere."""
        for path in self.survey.vanished():
            self.removed += self._drop(path)

    # ------------------------------------------------------------ towards the store

    def _add(self, file: MediaFile, rows: list[dict[str, Any]], vectors: list[np.ndarray]) -> None:
        """Put the items of a file into the next commit, in place of those that it had."""
        path, sidecar = str(file.path), file.path.with_suffix(".json")
        with self._step():
            self._drop(path)
            fine = {as_text(path)}
            try:
                extra = self.survey.about.of(file.path)
                fine.add(as_text(sidecar))
            except UsageError as problem:  # the medium itself is fine
                extra = {}
                self._skip(_skipped(sidecar, problem))
            self.writer.forget_skips(fine & self.survey.skipped_before.keys())
            self._rows += [row | extra for row in rows]
            self._unit += vectors

    def _drop(self, path: str) -> int:
        """Remove the items that the store had of this path. Returns how many."""
        known = self.survey.known.get(path)
        with self._step():
            return self.writer.remove(known.ids) if known else 0

    def _skip(self, skip: Skipped) -> None:
        self.skipped.append(skip)
        record = {"path": as_text(skip.path), "reason": skip.reason, "error": skip.error}
        before = self.survey.skipped_before.get(record["path"], {})
        same = all(before.get(name) == value for name, value in record.items())
        if not same or changed_since(skip.path, before["when"]):  # else a retry, to no avail
            self.writer.skip([record | {"when": self._when}])

    def _report(self, file: MediaFile) -> None:
        self._done += 1
        self._bytes += file.bytes
        if self.progress:
            total = len(self.survey.work) + len(self.survey.described)
            seconds = time.perf_counter() - self.start_s
            items = dict(self.items)
            self.progress(
                Progress(self._done, total, self._bytes, items, len(self.skipped), seconds, file.path)
            )

    def commit(self) -> None:
        """Make everything that is finished permanent."""
        with self._step(), self.timed("write"):
            if self._rows:
                self.writer.add(_table(self._rows), np.stack(self._unit))
            self.writer.commit()
            self._rows, self._unit = [], []
        self._committed_s = time.perf_counter()


def _digest(file: MediaFile) -> str:
    """Hex sha256 of the file; of the digests of both files where a recording has two."""
    own = media.sha256(file.path)
    if file.companion is None:
        return own
    return hashlib.sha256(f"{own} {media.sha256(file.companion)}".encode()).hexdigest()


def _row(entry: _File, sample: Sample) -> dict[str, Any]:
    """An item without its id and without user columns."""
    file = entry.file
    of_sample = ("modality", "start_s", "end_s", "width", "height", "duration_s", "text")
    return {
        "path": str(file.path),
        "bytes": file.bytes,
        "mtime_ns": file.mtime_ns,
        "mime": file.mime,
        "sha256": entry.sha256,
        **{name: getattr(sample, name) for name in of_sample},
    }


def _table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows as columns. Where a user column has values of several types, it becomes text."""
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name) for row in rows] for name in names}
    return pa.table({name: _column(values) for name, values in columns.items()})


def _column(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeEncodeError):
        return pa.array([None if value is None else as_text(value) for value in values], pa.string())


@contextmanager
def _ctrl_c_waits() -> Iterator[None]:
    """Until the end of the block, which takes milliseconds. Signals come to the main thread alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []
    usual = signal.signal(signal.SIGINT, lambda number, frame: waiting.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
        if waiting:
            signal.raise_signal(signal.SIGINT)


def _size(event: object) -> int:
    return _bytes(event[1].data) if isinstance(event, tuple) else 0


def _bytes(data: Any) -> int:
    """Memory of a sample's data, roughly."""
    if isinstance(data, np.ndarray):
        return data.nbytes
    return len(data) if isinstance(data, str) else 3 * data.width * data.height


def _skipped(path: Path, problem: Exception) -> Skipped:
    reason = " ".join(str(problem).removeprefix(f"{path}: ").split()) or "no reason given"
    if not isinstance(problem, XsearchError):
        reason = f"unexpected {type(problem).__name__}: {reason}"
    return Skipped(path, reason, type(problem).__name__)


def derive(writer: Writer) -> None:
    """Bring up to date what is computed from the items: the calibration, and the index if it is worth one."""
    snapshot = writer.snapshot
    plan = make_plan(len(snapshot), snapshot.stamp.dim)
    if plan.recipe == "Flat":
        writer.set_index(None)
    elif _share_outside(snapshot) > STALE:
        from xsearch.index import build  # faiss: only where there is an index

        ids = np.random.default_rng(0).permutation(snapshot.ids)[: plan.sample]
        folder = writer.new_index_folder()
        build(plan, snapshot.vectors(np.sort(ids)), snapshot.blocks()).save(folder)
        writer.set_index(folder)
    if Calibration.from_dict(snapshot.manifest.calibration).next_id != snapshot.manifest.next_id:
        writer.set_calibration(calibrate(snapshot).to_dict())  # items have come since
    writer.commit()


def _share_outside(snapshot: Snapshot) -> float:
    """Share of the items that the index does not cover: all, if there is none that can be read."""
    from xsearch.index import Index

    if snapshot.index_path is None:
        return 1.0
    try:
        index = Index.load(snapshot.index_path, snapshot.manifest.index_digests)
        return 1 - float(index.covers(snapshot.ids).mean())
    except StoreError:
        return 1.0
