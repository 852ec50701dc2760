"""The local engine: decoder processes run ahead of the model, which embeds batches on one or more devices."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from xsearch import media
from xsearch.decoders import Decoders
from xsearch.errors import MediaError
from xsearch.ingest.report import Clock
from xsearch.ingest.work import Embedded, Outcomes, Task, embed, item, pieces, prepare, skipped
from xsearch.media import CONNECTIONS, RemoteFile
from xsearch.media.limits import MAX_ITEMS
from xsearch.system.memory import keep_memory
from xsearch.system.readahead import ReadAhead
from xsearch.system.threads import threads, use_threads
from xsearch.types import MediaFile, Modality, Sample

if TYPE_CHECKING:
    from xsearch.backend import Backend

__all__ = ["run"]

BATCH_BYTES = 64 << 20  # of the samples of a batch
AHEAD_BYTES = 256 << 20  # decoded samples buffered for the model
FETCHED, FETCHED_BYTES = 64, 1 << 30  # remote files buffered for the decoders, and their bytes


@dataclass(slots=True, eq=False)
class _File:
    """A file that is being decoded and embedded."""

    task: Task
    rows: list[dict[str, Any]] = field(default_factory=list)
    vectors: dict[int, np.ndarray] = field(default_factory=dict)  # by row
    pending: int = 0  # samples in batches
    is_decoded: bool = False
    problem: MediaError | None = None


Event = tuple[Task, MediaError] | tuple[_File, Sample | MediaError | None]


def run(
    tasks: Iterator[Task],
    outcomes: Outcomes,
    backends: Sequence[Backend],
    clock: Clock,
    pool: Decoders,
    *,
    captions: bool = True,
    embedded: set[Modality] | None = None,
) -> None:
    """Decode and embed files, reporting the outcome of each as soon as it is finished.

    backends: of one model, on several devices that embed a batch each at a time. captions: see `pieces`.
    embedded: the kinds that the model has embedded before, to which those of this run are added.
    """
    keep_memory()
    decoded = _decoded(tasks, outcomes, pool)
    with ReadAhead(decoded, AHEAD_BYTES, _size) as events:
        kinds = set() if embedded is None else embedded
        batches = _Batches(backends, outcomes, clock, kinds, captions=captions)
        try:
            for event in clock.waiting(events):
                match event:
                    case Task() as task, MediaError() as problem:
                        outcomes.refuse(skipped(task, problem), task.file)
                    case _File() as file, what:
                        batches.take(file, what)
                if outcomes.is_due:
                    batches.embed_all()
                    outcomes.commit()
            batches.embed_all()
        finally:
            batches.close()


def _prepared(tasks: Iterator[Task]) -> Iterator[tuple[Task, Task | MediaError]]:
    """Prepare tasks, in order; remote files are prefetched concurrently."""
    waiting: deque[tuple[Task, int, Callable[[], Task]]] = deque()
    fetched = 0  # bytes of waiting remote files
    fetchers = ThreadPoolExecutor(CONNECTIONS)
    try:
        while True:
            if task := next(tasks, None):
                if isinstance(task.file, RemoteFile):
                    waiting.append((task, task.file.bytes, fetchers.submit(prepare, task).result))
                    fetched += task.file.bytes
                else:
                    waiting.append((task, 0, partial(prepare, task)))
            elif not waiting:
                return
            while waiting and (not task or not fetched or len(waiting) > FETCHED or fetched > FETCHED_BYTES):
                first, size, result = waiting.popleft()
                fetched -= size
                try:
                    yield first, result()
                except MediaError as problem:
                    yield first, problem
    finally:
        fetchers.shutdown(cancel_futures=True)


def _decoded(tasks: Iterator[Task], outcomes: Outcomes, pool: Decoders) -> Iterator[Event]:
    """Yield the samples of each file, then None or its error; nothing for copies. Runs in a thread."""
    decoding: dict[MediaFile, _File] = {}
    failed: deque[Event] = deque()

    def files() -> Iterator[MediaFile]:
        for task, prepared in _prepared(tasks):
            if isinstance(prepared, MediaError):
                failed.append((task, prepared))
                continue
            file = cast(MediaFile, prepared.file)
            try:
                is_new = outcomes.claim(prepared)
            except MediaError as problem:
                failed.append((task, problem))
                is_new = False
            if is_new:
                decoding[file] = _File(prepared)
                yield file
            else:
                _discard(file)

    for file, what in pool.decode(files()):
        while failed:
            yield failed.popleft()
        if isinstance(what, Sample):
            yield decoding[file], what
        else:
            _discard(file)
            yield decoding.pop(file), what
    yield from failed


def _discard(file: MediaFile) -> None:
    """Delete the local copy of a remote file; a depth camera is kept for other maps."""
    if file.url:
        file.path.unlink(missing_ok=True)
        if file.companion and file.modality is Modality.IMU:
            file.companion.unlink(missing_ok=True)


Batch = list[tuple[_File, int, Sample]]
Vectors = list[np.ndarray | MediaError]


class _Batches:
    """Batches of samples by kind. A file is reported with the last of its vectors.

    A single backend embeds in this thread, several in one thread each.
    """

    def __init__(
        self,
        backends: Sequence[Backend],
        outcomes: Outcomes,
        clock: Clock,
        embedded_kinds: set[Modality],
        *,
        captions: bool,
    ) -> None:
        self._backend, self._outcomes, self._clock, self._captions = backends[0], outcomes, clock, captions
        self._batch = backends[0].capabilities().batch
        self._waiting: dict[Modality, Batch] = {}
        self._sizes: dict[Modality, int] = defaultdict(int)  # bytes of what is waiting
        self._embedded_kinds = embedded_kinds
        self._count, self._idle = len(backends), deque(backends)
        self._threads = None
        if self._count > 1:
            limit = partial(use_threads, max(threads() // self._count, 1))
            self._threads = ThreadPoolExecutor(self._count, initializer=limit)
        self._running: deque[tuple[Batch, Callable[[], Vectors]]] = deque()

    def take(self, file: _File, what: Sample | MediaError | None) -> None:
        """Add a sample of a file, its error, or None after the last sample."""
        if not isinstance(what, Sample):
            file.is_decoded, file.problem = True, file.problem or what
            self._finish(file)
            return
        try:
            with media.reading(file.task.file.path):
                windows = [*pieces(what, self._backend, captions=self._captions)] if not file.problem else []
            MAX_ITEMS.check(file.task.file.path, len(file.rows) + len(windows))
        except MediaError as problem:
            file.problem = problem
            return
        for piece in windows:
            if file.problem:
                return
            batch = self._waiting.setdefault(piece.modality, [])
            batch.append((file, len(file.rows), piece))
            file.rows.append(item(file.task, piece))
            file.pending += 1
            self._sizes[piece.modality] += _bytes(piece)
            if len(batch) >= self._batch or self._sizes[piece.modality] >= BATCH_BYTES:
                self._embed(piece.modality)

    def embed_all(self) -> None:
        for modality in list(self._waiting):
            self._embed(modality)
        while self._running:
            self._next()

    def close(self) -> None:
        """End the threads."""
        if self._threads:
            self._threads.shutdown(cancel_futures=True)
            use_threads(threads())

    def _embed(self, modality: Modality) -> None:
        """Embed a batch; with threads, wait only while each of them has another one to go on with."""
        batch, kinds = self._waiting.pop(modality), self._embedded_kinds
        del self._sizes[modality]
        samples = [sample for *_, sample in batch]
        vectors = partial(self._vectors, samples, verified=modality in kinds, works=bool(kinds))
        self._running.append((batch, self._threads.submit(vectors).result if self._threads else vectors))
        while len(self._running) > (2 * self._count if self._threads else 0):
            self._next()

    def _vectors(self, samples: Sequence[Sample], **options: bool) -> Vectors:
        backend = self._idle.popleft()
        try:
            return embed(samples, backend, **options)
        finally:
            self._idle.append(backend)

    def _next(self) -> None:
        """Take the vectors of the batch that was given first."""
        batch, result = self._running.popleft()
        with self._clock.timed("embed"):
            vectors = result()
        for (file, row, sample), vector in zip(batch, vectors, strict=True):
            file.pending -= 1
            if isinstance(vector, MediaError):
                file.problem = vector
            else:
                file.vectors[row] = vector
                self._embedded_kinds.add(sample.modality)
        for file in dict.fromkeys(file for file, *_ in batch):
            self._finish(file)

    def _finish(self, file: _File) -> None:
        """Report a file once it is decoded and has no pending samples."""
        if not file.is_decoded or file.pending:
            return
        if file.problem:
            self._outcomes.refuse(skipped(file.task, file.problem), file.task.file)
        else:
            vectors = [file.vectors[row] for row in range(len(file.rows))]
            self._outcomes.add(Embedded(file.task, file.rows, vectors))


def _size(event: Event) -> int:
    return _bytes(event[1]) if isinstance(event[1], Sample) else 0


def _bytes(sample: Sample) -> int:
    """Estimate the memory of a sample's data."""
    data = sample.data
    if isinstance(data, np.ndarray):
        return data.nbytes
    return len(data) if isinstance(data, str) else 3 * data.width * data.height
