"""The engine of this machine: decoder processes run ahead of the model, which embeds in batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from xsearch.decoders import MOST_DECODERS, Decoders
from xsearch.errors import MediaError
from xsearch.ingest.ledger import Ledger
from xsearch.ingest.report import Clock
from xsearch.ingest.survey import Survey
from xsearch.ingest.work import Action, Embedded, Task, embed, item, prepare, skipped
from xsearch.media import CONNECTIONS, RemoteFile
from xsearch.system.cores import CORES, use_threads
from xsearch.system.memory import keep_memory
from xsearch.system.readahead import ReadAhead
from xsearch.types import MediaFile, Modality, Sample

if TYPE_CHECKING:
    from xsearch.backend import Backend

__all__ = ["run"]

BATCH, BATCH_BYTES = 32, 64 << 20  # samples of one kind that are embedded together
AHEAD_BYTES = 256 << 20  # of decoded samples that wait for the model
FETCHED, FETCHED_BYTES = 64, 1 << 30  # remote files that wait for the decoders, and their bytes, at most


@dataclass(slots=True, eq=False)
class _File:
    """A file that is being decoded and embedded."""

    task: Task
    rows: list[dict[str, Any]] = field(default_factory=list)
    vectors: dict[int, np.ndarray] = field(default_factory=dict)  # by the row
    waiting: int = 0  # samples in batches
    is_decoded: bool = False  # no more samples will come
    problem: MediaError | None = None


Event = tuple[Task, MediaError] | tuple[_File, Sample | MediaError | None]


def run(survey: Survey, ledger: Ledger, backend: Backend, clock: Clock, decoders: int | None) -> None:
    """Decode and embed what is to be embedded; each file goes to the ledger as soon as it is finished.

    decoders: processes, one for each core if None; 0 to decode in this one.
    """
    keep_memory()
    if decoders is None:
        decoders = min(CORES, MOST_DECODERS, sum(survey.report.new.values()))
    with (
        Decoders(decoders, side=backend.capabilities().image_side) as pool,
        ReadAhead(_decoded(survey.tasks(Action.EMBED), ledger, pool), AHEAD_BYTES, _size) as events,
    ):

        def spare_threads() -> int:
            """The cores that no decoder is at; all, where those wait for the model."""
            return CORES if events.full else max(CORES - pool.at_work, 1)

        batches = _Batches(backend, ledger, clock, spare_threads)
        try:
            for event in clock.waiting(events):
                match event:
                    case Task() as task, MediaError() as problem:
                        ledger.refuse(skipped(task, problem), task.file.bytes)
                    case _File() as file, what:
                        batches.take(file, what)
                if ledger.is_due:
                    batches.embed_all()
                    ledger.commit()
            batches.embed_all()
        finally:
            use_threads(CORES)


def _prepared(tasks: Iterator[Task]) -> Iterator[tuple[Task, Task | MediaError]]:
    """Each task prepared, in their order; remote files are fetched ahead, several at a time."""
    waiting: deque[tuple[Task, int, Callable[[], Task]]] = deque()
    held = 0  # bytes of remote files
    fetchers = ThreadPoolExecutor(CONNECTIONS)
    try:
        while True:
            if task := next(tasks, None):
                if isinstance(task.file, RemoteFile):
                    waiting.append((task, task.file.bytes, fetchers.submit(prepare, task).result))
                    held += task.file.bytes
                else:
                    waiting.append((task, 0, partial(prepare, task)))
            elif not waiting:
                return
            while waiting and (not task or not held or len(waiting) > FETCHED or held > FETCHED_BYTES):
                first, size, result = waiting.popleft()
                held -= size
                try:
                    yield first, result()
                except MediaError as problem:
                    yield first, problem
    finally:
        fetchers.shutdown(cancel_futures=True)


def _decoded(tasks: Iterator[Task], ledger: Ledger, pool: Decoders) -> Iterator[Event]:
    """The samples of each file, then None or its problem; nothing for copies. Runs in a thread."""
    decoding: dict[MediaFile, _File] = {}
    failed: deque[Event] = deque()

    def files() -> Iterator[MediaFile]:
        for task, prepared in _prepared(tasks):
            if isinstance(prepared, MediaError):
                failed.append((task, prepared))
                continue
            file = cast(MediaFile, prepared.file)
            if ledger.claim(prepared):
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
    """Remove a copy that has been read; a camera stays for the other maps."""
    if file.url:
        file.path.unlink(missing_ok=True)
        if file.companion and file.modality is Modality.IMU:
            file.companion.unlink(missing_ok=True)


class _Batches:
    """Samples that wait for the model, by kind; a file goes to the ledger with the last of its vectors."""

    def __init__(
        self, backend: Backend, ledger: Ledger, clock: Clock, spare_threads: Callable[[], int]
    ) -> None:
        self._backend, self._ledger, self._clock = backend, ledger, clock
        self._spare_threads = spare_threads
        self._waiting: dict[Modality, list[tuple[_File, int, Sample]]] = {}
        self._proven: set[Modality] = set()  # kinds of which something has been embedded

    def take(self, file: _File, what: Sample | MediaError | None) -> None:
        """Take a sample of a file, its problem, or None after the last sample."""
        if not isinstance(what, Sample):
            file.is_decoded, file.problem = True, file.problem or what
            self._finish(file)
        elif not file.problem:
            batch = self._waiting.setdefault(what.modality, [])
            batch.append((file, len(file.rows), what))
            file.rows.append(item(file.task, what))
            file.waiting += 1
            if len(batch) >= BATCH or sum(_bytes(sample) for *_, sample in batch) >= BATCH_BYTES:
                self._embed(what.modality)

    def embed_all(self) -> None:
        for modality in list(self._waiting):
            self._embed(modality)

    def _embed(self, modality: Modality) -> None:
        batch = self._waiting.pop(modality)
        use_threads(self._spare_threads())
        with self._clock.timed("embed"):
            samples = [sample for *_, sample in batch]
            vectors = embed(samples, self._backend, proven=modality in self._proven)
        for (file, row, _), vector in zip(batch, vectors, strict=True):
            file.waiting -= 1
            if isinstance(vector, MediaError):
                file.problem = vector
            else:
                file.vectors[row] = vector
                self._proven.add(modality)
        for file in dict.fromkeys(file for file, *_ in batch):
            self._finish(file)

    def _finish(self, file: _File) -> None:
        """Hand a file to the ledger, once: when it is decoded and no batch has anything of it."""
        if not file.is_decoded or file.waiting:
            return
        if file.problem:
            self._ledger.refuse(skipped(file.task, file.problem), file.task.file.bytes)
        else:
            vectors = [file.vectors[row] for row in range(len(file.rows))]
            self._ledger.add(Embedded(file.task, file.rows, vectors))


def _size(event: Event) -> int:
    return _bytes(event[1]) if isinstance(event[1], Sample) else 0


def _bytes(sample: Sample) -> int:
    """Memory of a sample's data, roughly."""
    data = sample.data
    if isinstance(data, np.ndarray):
        return data.nbytes
    return len(data) if isinstance(data, str) else 3 * data.width * data.height
