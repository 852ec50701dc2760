"""One run: what the survey found is decoded, embedded and committed."""

from __future__ import annotations

import hashlib
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
from xsearch.decoders import Decoders
from xsearch.errors import ModelError, NotMedia, Unreadable, UsageError, XsearchError
from xsearch.ingest.copies import Contents, Copy, copied
from xsearch.ingest.report import Progress
from xsearch.ingest.survey import Known, Survey, as_text, changed_since, known_files, sidecar
from xsearch.media import Skipped
from xsearch.system.cores import CORES, use_threads
from xsearch.system.readahead import ReadAhead
from xsearch.types import MediaFile, Modality, Sample

if TYPE_CHECKING:
    from xsearch.backend import Backend
    from xsearch.store import Snapshot, Writer

__all__ = ["COMMIT_ITEMS", "COMMIT_S", "Run"]

COMMIT_ITEMS, COMMIT_S = 2_000, 30.0  # the most that a kill costs; a commit itself is some 20 ms of fsync
BATCH, BATCH_BYTES = 32, 64 << 20  # samples of one kind that are embedded together
FAIR = 8  # samples of a kind of which none can be embedded: then it is not the files, but the model
AHEAD_BYTES = 256 << 20  # of decoded samples that wait for the model


T = TypeVar("T")


@dataclass(slots=True, eq=False)
class _File:
    """A file on its way into the store."""

    file: MediaFile
    sha256: str = ""
    rows: list[dict[str, Any]] = field(default_factory=list)
    vectors: list[np.ndarray | None] = field(default_factory=list)  # one per row; None until it is embedded
    decoded: bool = False  # no more rows will come
    problem: Exception | None = None


class Run:
    """Everything between the survey and the report. Decoding runs ahead of the model, in other processes."""

    def __init__(
        self,
        writer: Writer,
        backend: Backend,
        survey: Survey,
        progress: Callable[[Progress], None] | None,
        commit_items: int,
        commit_s: float,
        start_s: float,
    ) -> None:
        self.writer, self.backend, self.survey, self.progress = writer, backend, survey, progress
        self.commit_items, self.commit_s, self.start_s = commit_items, commit_s, start_s
        self.spent: dict[str, float] = defaultdict(float, look=time.perf_counter() - start_s)
        self.new: Counter[Modality] = Counter()
        self.items: Counter[Modality] = Counter()
        self.skipped: list[Skipped] = []
        self.unchanged = survey.unchanged
        self.changed = self.duplicates = self.moved = self.removed = self._done = self._bytes = 0
        self._batches: dict[Modality, list[tuple[_File, int, Sample]]] = {}
        self._copies: list[Copy] = []  # of items that were there when the run began
        self._later: list[Copy] = []  # of items that this run makes
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
        with _ctrl_c_waits():
            self.busy += 1
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
        with ReadAhead(self._decode_all(decoders), AHEAD_BYTES, _size) as events:
            # The cores that no decoder is at; all, where those wait for the backend.
            self._spare_threads = lambda: CORES if events.full else max(CORES - decoders.at_work, 1)
            for event in self._waited(events):
                match event:
                    case Copy():
                        (self._later if event.fresh else self._copies).append(event)
                        self.unchanged += event.own
                    case Skipped():
                        self._refuse(event)
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

    def _decode_all(self, decoders: Decoders) -> Iterator[Skipped | Copy | _File | tuple[_File, Sample]]:
        """For each file a copy, or its samples and then the file itself. Runs in a thread."""
        contents = Contents(self.survey.known, self.survey.is_gone)
        entries: dict[MediaFile, _File] = {}  # being decoded
        settled: deque[Skipped | Copy | _File] = deque()  # need no decoding

        def files() -> Iterator[MediaFile]:
            for file in media.fetched(self.survey.work):
                if isinstance(file, Skipped):
                    settled.append(file)
                    continue
                entry = _File(file)
                try:
                    entry.sha256 = _digest(file)
                except Unreadable as problem:
                    entry.problem = problem
                    settled.append(entry)
                    continue
                if copy := contents.copy_of(file, entry.sha256):
                    settled.append(copy)
                    _forget(file)
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
            _forget(file)
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
            use_threads(self._spare_threads())
            with self.timed("embed"):
                vectors = self.backend.embed(samples)
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
                self._drop(file.name)
                self._skip(_skipped(file.name, file.path, entry.problem))
        else:
            self.new[file.modality] += 1
            self.items.update(Modality(row["modality"]) for row in entry.rows)
            self.changed += file.name in self.survey.known
            self._add(file, entry.rows, cast(list[np.ndarray], entry.vectors))
        self._report(file.name, file.bytes)
        if len(self._rows) >= self.commit_items:
            self.commit()

    # ------------------------------------------------------------ files whose vectors are there

    def copy_all(self, before: Snapshot) -> None:
        """Give moved, touched, newly described and duplicate files the vectors that their content has.

        before: the collection as the run found it.
        """
        described = [Copy(file, file.name) for file in self.survey.described]
        self._copy(before, self.survey.known, self._copies + described)
        if self._later:
            self.commit()
            after = self.writer.snapshot
            known = known_files(after)
            problems = {skip.path: skip for skip in self.skipped}
            for copy in [copy for copy in self._later if copy.source not in known]:
                self._skip_like(copy, problems[copy.source])
            self._copy(after, known, [copy for copy in self._later if copy.source in known])

    def _skip_like(self, copy: Copy, first: Skipped) -> None:
        """The same bytes, the same problem."""
        with self._step():
            self._drop(copy.file.name)
            self._skip(Skipped(copy.file.name, first.reason, first.error))
        self._report(copy.file.name, copy.file.bytes)

    def _copy(self, snapshot: Snapshot, known: Mapping[str, Known], copies: Sequence[Copy]) -> None:
        for copy, rows, vectors in copied(snapshot, known, copies):
            self.duplicates += not (copy.own or copy.moved)
            self.changed += not copy.own and copy.file.name in self.survey.known
            self.moved += copy.moved
            with self._step():
                if copy.moved:
                    self._drop(copy.source)
                self._add(copy.file, rows, vectors)
            self._report(copy.file.name, copy.file.bytes)
            if len(self._rows) >= self.commit_items:
                self.commit()

    def prune(self) -> None:
        """Remove the items of files that are gone and have not been found elsewhere."""
        for name in self.survey.vanished():
            self.removed += self._drop(name)

    # ------------------------------------------------------------ towards the store

    def _add(self, file: MediaFile, rows: list[dict[str, Any]], vectors: list[np.ndarray]) -> None:
        """Put the items of a file into the next commit, in place of those that it had."""
        beside = sidecar(file.name)
        with self._step():
            self._drop(file.name)
            fine = {as_text(file.name)}
            try:
                extra = self.survey.about.of(file.path)
                fine.add(as_text(beside))
            except UsageError as problem:  # the medium itself is fine
                extra = {}
                self._skip(_skipped(beside, sidecar(str(file.path)), problem))
            self.writer.forget_skips(fine & self.survey.skipped_before.keys())
            self._rows += [row | extra for row in rows]
            self._unit += vectors

    def _refuse(self, skip: Skipped) -> None:
        """Of a remote file that could not be fetched, or is no media."""
        with self._step():
            if skip.error != OSError.__name__:  # what did not come may be as it was
                self._drop(skip.path)
            if skip.error == NotMedia.__name__:
                self.survey.not_media += 1
            else:
                self._skip(skip)
        self._report(skip.path)

    def _drop(self, name: str) -> int:
        """Remove the items that the store had of this file. Returns how many."""
        known = self.survey.known.get(name)
        with self._step():
            return self.writer.remove(known.ids) if known else 0

    def _skip(self, skip: Skipped) -> None:
        self.skipped.append(skip)
        record = {"path": as_text(skip.path), "reason": skip.reason, "error": skip.error}
        before = self.survey.skipped_before.get(record["path"], {})
        same = all(before.get(name) == value for name, value in record.items())
        if not same or changed_since(skip.path, before["when"]):  # else a retry, to no avail
            self.writer.skip([record | {"when": self._when}])

    def _report(self, name: str, bytes: int = 0) -> None:
        self._done += 1
        self._bytes += bytes
        if self.progress:
            total = len(self.survey.work) + len(self.survey.described)
            seconds = time.perf_counter() - self.start_s
            items = dict(self.items)
            self.progress(Progress(self._done, total, self._bytes, items, len(self.skipped), seconds, name))

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


def _forget(file: MediaFile) -> None:
    """Remove a copy that has been read; a camera stays for the other maps."""
    if file.url:
        file.path.unlink(missing_ok=True)
        if file.companion and file.modality is Modality.IMU:
            file.companion.unlink(missing_ok=True)


def _row(entry: _File, sample: Sample) -> dict[str, Any]:
    """An item without its id and without user columns."""
    file = entry.file
    of_sample = ("modality", "start_s", "end_s", "width", "height", "duration_s", "text")
    return {
        "path": file.name,
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
        signal.signal(signal.SIGINT, signal.SIG_DFL if usual is None else usual)  # None: not set by Python
        if waiting:
            signal.raise_signal(signal.SIGINT)


def _size(event: object) -> int:
    return _bytes(event[1].data) if isinstance(event, tuple) else 0


def _bytes(data: Any) -> int:
    """Memory of a sample's data, roughly."""
    if isinstance(data, np.ndarray):
        return data.nbytes
    return len(data) if isinstance(data, str) else 3 * data.width * data.height


def _skipped(name: str, path: str | Path, problem: Exception) -> Skipped:
    """path: where the file was read."""
    reason = " ".join(str(problem).removeprefix(f"{path}: ").split()) or "no reason given"
    if not isinstance(problem, XsearchError):
        reason = f"unexpected {type(problem).__name__}: {reason}"
    return Skipped(name, reason, type(problem).__name__)
