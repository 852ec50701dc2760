"""A pool of worker processes, and what becomes of a file whose process fails."""

from __future__ import annotations

import atexit
import os
import select
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, suppress
from functools import cache, partial
from pathlib import Path
from threading import BoundedSemaphore, Lock
from types import TracebackType
from typing import Any, TypeVar, cast

from xsearch import media
from xsearch.decoders import settings
from xsearch.decoders.process import Job, Process, Trouble
from xsearch.decoders.wire import End
from xsearch.decoders.worker import begins, once, samples
from xsearch.errors import MediaError, Transient, Unreadable
from xsearch.system.cores import CORES
from xsearch.types import MediaFile, Modality, Sample

__all__ = ["Decoders", "Event", "identify", "shared"]

Event = tuple[MediaFile, Sample | MediaError | None]  # None: end of the file
T = TypeVar("T")

QUICK = 0.25  # of the time limit, for files below QUICK_BYTES that are no videos, and to identify a file
QUICK_BYTES = 1 << 20
TEXT_BYTES = 1 << 20  # of a text that is read in this process, by Python's own codecs
PATIENCE = (1.0, 0.5, 0.25)  # of the time limit, by the number of files that were late twice


class Decoders:
    """A pool of up to `count` worker processes (0: work in this process); a context manager that ends them.

    side: images are cropped and resized to the square of this size that the model uses, to transfer less.
    with_facts: see `media.read`. timeout_s: limit per sample, by default that of the settings.
    is_background: whether the processes give way to this one.

    A file whose process dies, is late or runs out of memory is tried once more, in a fresh process with the
    memory of all, and alone if memory was short; one that fails as Transient is tried once more too. Samples
    of the first try are not repeated. If it fails again, so it does as Transient.
    After each file of a stream that is late twice, the limit is halved down to a quarter, at which nothing is
    tried twice: a hundred files that hang take about 100 * 30 s / `count`.

    Up to `count` threads may `read` and `call` concurrently, even during `decode`, which keeps its processes:
    the pool then doubles.
    """

    def __init__(
        self,
        count: int,
        *,
        side: int | None = None,
        with_facts: bool = False,
        timeout_s: float | None = None,
        is_background: bool = False,
    ) -> None:
        self._count, self._timeout_s = count, timeout_s or settings.timeout_s()
        self._side, self._with_facts, self._is_background = side, with_facts, is_background
        self._processes: list[Process] = []
        self._is_closed, self._lock = False, Lock()
        self._idle: deque[Process] = deque()
        self._slots = BoundedSemaphore(max(count, 1))
        self.late = 0  # files of streams that were late twice

    def __enter__(self) -> Decoders:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the processes; no thread starts another one."""
        with self._lock:
            self._is_closed = True
        for process in self._processes:
            process.kill()

    def rest(self) -> None:
        """End the processes that are idle."""
        while self._idle:
            with suppress(IndexError):
                self._drop(self._idle.pop())

    def warm(self) -> None:
        """Begin to start a process, unless one is idle or all are busy, for a file that is requested soon."""
        if not self._idle and len(self._processes) < self._count:
            self.put_back(self.take())

    def decode(self, files: Iterator[MediaFile]) -> Iterator[Event]:
        """Yield the samples of each file in order, then None or its error."""
        jobs = (self._reading(file, self._side) for file in files)
        if self._count:
            yield from _Run(self, jobs, self._count, is_stream=True).events()
            return
        for job in jobs:
            file = cast(MediaFile, job.subject)
            try:
                yield from ((file, sample) for sample in _here(job))
                yield file, None
            except MediaError as problem:
                yield file, problem

    def read(self, file: MediaFile, *, side: int | None = None) -> Iterator[Sample]:
        """Yield the samples of one file. Raises MediaError, also if decoding hangs or crashes."""
        return self._of_file(self._reading(file, side or self._side))

    def call(self, function: Callable[..., T], subject: MediaFile | Path, *args: Any) -> T:
        """Return `function(subject, *args)` as a worker computes it. Raises MediaError.

        function: of a module, or a partial of one. See `wire.encode` for what it may return, but for None.
        """
        (value,) = self._values(Job(subject, once, (function, subject, *args), QUICK * self._timeout_s))
        return cast(T, value)

    def check(self, file: MediaFile) -> None:
        """Decode the first sample of a file. Raises MediaError."""
        for _ in self._of_file(Job(file, once, (begins, file), self._limit_s(file))):
            pass

    def facts(self, file: MediaFile) -> dict[str, Any]:
        """Return `media.facts.facts` of a file; none if a worker fails. Raises Transient."""
        try:
            return self.call(media.facts.facts, file)
        except Unreadable:
            return {}

    def identify(
        self, path: Path, *, root: Path | None = None, kinds: Sequence[tuple[Modality, str]] = ()
    ) -> MediaFile:
        """`media.identify`, which opens containers, tables and pictures in a worker."""

        def elsewhere(path: Path) -> MediaFile:
            function = partial(media.identify, root=root, kinds=kinds)
            job = Job(path, once, (function, path), QUICK * self._timeout_s)
            (file,) = self._values(job, is_stream=True)
            return cast(MediaFile, file)

        return media.identify(path, root=root, kinds=kinds, elsewhere=elsewhere if self._count else None)

    def _reading(self, file: MediaFile, side: int | None) -> Job:
        return Job(file, samples, (file, side, self._with_facts), self._limit_s(file))

    def _limit_s(self, file: MediaFile) -> float:
        is_quick = file.bytes < QUICK_BYTES and file.modality is not Modality.VIDEO
        return self._timeout_s * (QUICK if is_quick else 1)

    def _of_file(self, job: Job) -> Iterator[Any]:
        """Yield what a job for a file sends; a short text is read in this process."""
        file = cast(MediaFile, job.subject)
        is_plain = file.modality is Modality.TEXT and file.bytes <= TEXT_BYTES
        return _here(job) if is_plain else self._values(job)

    def _values(self, job: Job, *, is_stream: bool = False) -> Iterator[Any]:
        """Yield what a single job sends."""
        if not self._count:
            yield from _here(job)
            return
        with self._slots, closing(_Run(self, iter([job]), 1, is_stream=is_stream).events()) as events:
            for _, value in events:
                if isinstance(value, MediaError):
                    raise value
                if value is not None:
                    yield value

    def start(self, *, once: bool = False) -> Process:
        """Start a process; once: for one job, with the memory of all."""
        with self._lock:
            if self._is_closed:
                raise ValueError("the decoder pool is closed")
            memory = settings.memory(1 if once else self._count)
            process = Process(memory, is_background=self._is_background, once=once)
            self._processes.append(process)
        return process

    def take(self) -> Process:
        """Return an idle process, or start one."""
        with suppress(IndexError):
            while not ((process := self._idle.pop()).is_idle and process.is_current):
                self._drop(process)
            return process
        return self.start()

    def put_back(self, process: Process) -> None:
        """Return a process to the pool; kill it if it is of no more use, or the pool is full."""
        if process.is_idle and len(self._idle) < self._count:
            self._idle.append(process)
        else:
            self._drop(process)

    def _drop(self, process: Process) -> None:
        process.kill()
        with self._lock:
            self._processes = [each for each in self._processes if each is not process]


class _Run:
    """Jobs of one caller, and the processes that do them."""

    def __init__(self, pool: Decoders, jobs: Iterator[Job], count: int, *, is_stream: bool) -> None:
        self._pool, self._jobs, self._count, self._is_stream = pool, jobs, count, is_stream
        self._team: list[Process] = []
        self._again: deque[Job] = deque()  # to be tried once more
        self._queued: deque[Job] = deque()  # behind one whose process has failed

    def events(self) -> Generator[tuple[Any, Any], None, None]:
        """Yield the values of each job with its subject, in order, then None or its error."""
        try:
            while True:
                self._feed()
                busy = [process for process in self._team if process.jobs]
                if not busy:
                    return
                ready = _readable(busy)
                for process in busy:
                    yield from self._progress(process, is_ready=process in ready)
        finally:
            for process in self._team:
                self._pool.put_back(process)

    def _feed(self) -> None:
        """Give the processes their next jobs; replace those that have ended."""
        for process in [each for each in self._team if not each.jobs and not each.is_idle]:
            self._team.remove(process)
            self._pool.put_back(process)
        busy = [process for process in self._team if process.jobs]
        if any(process.jobs[0].lacked_memory for process in busy):
            return
        while self._again and not (busy and self._again[0].lacked_memory):
            retried, process = self._again.popleft(), self._pool.start(once=True)
            self._team.append(process)
            process.send(retried)
            busy.append(process)
            if retried.lacked_memory:
                return
        if self._again:  # waits for the others to end
            return
        while True:
            free = [process for process in self._team if process.is_free]
            idle = next((process for process in free if not process.jobs), None)
            if not (free or len(self._team) < self._count) or (job := self._next()) is None:
                return
            if idle is None and len(self._team) < self._count:
                self._team.append(idle := self._pool.take())
            (idle or free[0]).send(job)

    def _next(self) -> Job | None:
        return self._queued.popleft() if self._queued else next(self._jobs, None)

    def _progress(self, process: Process, *, is_ready: bool) -> Iterator[tuple[Any, Any]]:
        """Yield what the first job of a process has sent, if it is complete, or its end."""
        job, pool = process.jobs[0], self._pool
        value: Any
        try:
            if is_ready:
                value = process.receive()
            else:
                process.check_time(PATIENCE[min(pool.late, len(PATIENCE) - 1)] if self._is_stream else 1.0)
                return
        except Trouble as trouble:
            process.kill()
            self._queued.extend(process.jobs)
            self._queued.remove(job)
            process.jobs.clear()
            value = trouble
        if isinstance(value, End | MediaError):
            process.jobs.popleft()
        match value:
            case None:
                return
            case End():
                yield job.subject, None
            case Trouble():
                is_late = value.is_timeout and self._is_stream
                if job.trouble is None and not (is_late and pool.late >= len(PATIENCE) - 1):
                    job.trouble = value
                    self._again.append(job)
                    return
                pool.late += is_late
                yield job.subject, _transient(job, value)
            case Transient() if job.trouble is None:
                job.trouble = value
                self._queued.append(job)
            case MediaError():
                yield job.subject, value
            case _:
                job.received += 1
                if job.received > job.delivered:
                    job.delivered += 1
                    yield job.subject, value


def _transient(job: Job, last: Trouble) -> Transient:
    """Return the error of a file that has failed twice, or once where that is enough."""
    what, first = str(last), str(job.trouble)
    if isinstance(job.trouble, Trouble):
        what = f"{what} twice" if first == what else f"{first}, then {what}"
    hint = f" ({last.hint})" if last.hint else ""
    return Transient(f"{job.path}: {what}{hint}; the next ingest tries it again")


def _readable(processes: Sequence[Process]) -> list[Process]:
    """Wait for a message, half a second at most; return the processes that have sent some of one."""
    poll = select.poll()
    for process in processes:
        with suppress(ValueError, OSError):  # closed by another thread
            poll.register(process.socket, select.POLLIN)
    descriptors = {descriptor for descriptor, _ in poll.poll(500)}
    return [process for process in processes if process.dead or process.socket.fileno() in descriptors]


def _here(job: Job) -> Iterator[Any]:
    """Yield the values of a job, done in this process."""
    with media.reading(job.path):
        yield from job.function(*job.args)


@cache
def shared() -> Decoders:
    """The pool for media that a request brings. Its processes start when needed, and end with this one."""
    pool, owner = Decoders(min(CORES, settings.MAX_DECODERS)), os.getpid()

    @atexit.register
    def close() -> None:
        if os.getpid() == owner:  # not in a fork
            pool.close()

    return pool


os.register_at_fork(after_in_child=shared.cache_clear)


def identify(
    path: Path, *, root: Path | None = None, kinds: Sequence[tuple[Modality, str]] = ()
) -> MediaFile:
    """`Decoders.identify` of the shared pool."""
    return shared().identify(path, root=root, kinds=kinds)
