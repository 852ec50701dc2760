"""Decode files in worker processes: a decoder that hangs or crashes costs its file, not the caller.

A process decodes one file at a time and blocks until its samples are consumed; it loads no models. (A torch
DataLoader fails as a whole if a worker dies, and a process pool cannot stream the samples of a file.)
"""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from threading import BoundedSemaphore, Lock
from types import TracebackType

from xsearch import media
from xsearch.errors import MediaError, Unreadable
from xsearch.system.crop import centre_square
from xsearch.system.memory import keep_memory
from xsearch.types import MediaFile, Modality, Sample

__all__ = ["MAX_DECODERS", "Decoders", "Event", "serve"]

Event = tuple[MediaFile, Sample | MediaError | None]  # None: end of the file

MAX_DECODERS = 16  # about 100 MB each
TIMEOUT_S = 120.0  # per sample: a window of a 4K video takes about 20 s


class Decoders:
    """A pool of `count` decoder processes (0: decode in this process); a context manager that ends them.

    side: images are cropped and resized to the square of this size that the model uses, to transfer less.
    with_facts: see `media.read`. timeout_s: limit per sample.

    Up to `count` threads may `read` concurrently, even during `decode`, which keeps its processes: the pool
    then doubles.
    """

    def __init__(
        self,
        count: int,
        *,
        side: int | None = None,
        with_facts: bool = False,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._count, self._timeout_s = count, timeout_s
        self._side, self._with_facts = side, with_facts
        self._processes: list[_Process] = []
        self._is_closed, self._lock = False, Lock()
        self._idle = deque(self._start() for _ in range(count))
        self._slots = BoundedSemaphore(max(count, 1))

    def __enter__(self) -> Decoders:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._lock:  # no other thread starts a process afterwards
            self._is_closed = True
        for process in self._processes:
            process.kill()

    @property
    def busy(self) -> int:
        """The number of processes that have a file."""
        return sum(bool(process.files) for process in self._processes)

    def decode(self, files: Iterator[MediaFile]) -> Iterator[Event]:
        """Yield the samples of each file in order, then None or its error."""
        return self._decode(files, self._count)

    def read(self, file: MediaFile) -> Iterator[Sample]:
        """Yield the samples of one file. Raises MediaError, also if decoding hangs or crashes."""
        with self._slots, closing(self._decode(iter([file]), min(self._count, 1))) as events:
            for _, event in events:
                if isinstance(event, Sample):
                    yield event
                elif event:
                    raise event

    def _decode(self, files: Iterator[MediaFile], count: int) -> Generator[Event, None, None]:
        """`decode` with `count` processes."""
        if not count:
            side, with_facts = self._side, self._with_facts
            yield from ((file, event) for file in files for event in _samples(file, side, with_facts))
            return
        processes = [self._take() for _ in range(count)]
        requeued: deque[MediaFile] = deque()  # files queued at a process that died
        try:
            while True:
                for process in processes:
                    while process.is_free and (file := requeued.popleft() if requeued else next(files, None)):
                        process.send(file)
                busy = [process for process in processes if process.files]
                if not busy:
                    return
                ready = wait([process.socket for process in busy], timeout=1.0)
                for process in busy:
                    if process.socket in ready:
                        yield process.take()
                    elif process.seconds > self._timeout_s and not process.socket.poll():
                        yield process.abort()
                for at, process in enumerate(processes):
                    if process.dead:
                        requeued.extend(process.files)
                        processes[at] = self._take()
                        self._put_back(process)
        finally:
            for process in processes:
                self._put_back(process)

    def _start(self) -> _Process:
        with self._lock:
            if self._is_closed:
                raise ValueError("the decoder pool is closed")
            process = _Process(self._side, self._with_facts)
            self._processes.append(process)
        return process

    def _take(self) -> _Process:
        """Return an idle process, or start one."""
        with suppress(IndexError):
            while not (process := self._idle.pop()).is_alive:
                self._put_back(process)
            return process
        return self._start()

    def _put_back(self, process: _Process) -> None:
        """Return a process to the pool; kill it if it is dead, has files, or the pool is full."""
        if process.files or not process.is_alive or len(self._idle) >= self._count:
            process.kill()
            with self._lock:
                self._processes = [each for each in self._processes if each is not process]
        else:
            self._idle.append(process)


class _Process:
    """The parent's handle of a worker process."""

    def __init__(self, side: int | None, with_facts: bool = False) -> None:
        ours, theirs = socket.socketpair()
        # multiprocessing would re-import the user's script, or fork a process that has threads.
        program = "import sys; from xsearch.decoders import serve; serve(*map(int, sys.argv[1:]))"
        path = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
        self._child = subprocess.Popen(
            [sys.executable, "-c", program, *map(str, (theirs.fileno(), side or 0, int(with_facts)))],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(path)},
            process_group=0,  # Ctrl-C reaches the parent only, which ends the child
        )
        theirs.close()
        self.socket = Connection(ours.detach())
        self.files: deque[MediaFile] = deque()  # the first is being decoded
        self.dead = False
        self._lock = Lock()
        self._since = 0.0

    @property
    def is_alive(self) -> bool:
        return not self.dead and self._child.poll() is None

    @property
    def seconds(self) -> float:
        """Time since the last sample was received, or the file sent."""
        return time.monotonic() - self._since

    @property
    def is_free(self) -> bool:
        """Whether to send another file; one more is queued behind an image, which takes milliseconds."""
        return not self.files or (len(self.files) == 1 and self.files[0].modality is Modality.IMAGE)

    def send(self, file: MediaFile) -> None:
        if not self.files:
            self._since = time.monotonic()
        self.files.append(file)
        with suppress(OSError):  # it died: reported by `take`
            self.socket.send(file)

    def take(self) -> Event:
        file, self._since = self.files[0], time.monotonic()
        try:
            event = self.socket.recv()
        except (EOFError, OSError):
            with suppress(subprocess.TimeoutExpired):
                self._child.wait(1)
            self.kill()
            self.files.popleft()
            return file, Unreadable(f"{file.path}: decoder crashed ({self._status()}); file may be damaged")
        if not isinstance(event, Sample):
            self.files.popleft()
        return file, event

    def abort(self) -> Event:
        self.kill()
        file = self.files.popleft()
        return file, Unreadable(f"{file.path}: decoding timed out; file may be damaged")

    def kill(self) -> None:
        """End the process, once: another thread that closes the socket too might close a new file."""
        with self._lock:
            if not self.dead:
                self._child.kill()
                self._child.wait()
                self.socket.close()
                self.dead = True

    def _status(self) -> str:
        code = self._child.returncode
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def serve(descriptor: int, side: int, with_facts: int) -> None:
    """Run a worker process: decode the files received through the socket until it is closed.

    side, with_facts: see `Decoders`; 0 is None or False.
    """
    keep_memory()
    os.nice(10)  # embedding has priority, so that samples do not pile up
    parent = Connection(descriptor)
    with suppress(EOFError, OSError):
        while True:
            for event in _samples(parent.recv(), side, bool(with_facts)):
                parent.send(event)


def _samples(file: MediaFile, side: int | None, with_facts: bool) -> Iterator[Sample | MediaError | None]:
    try:
        empty = True
        for sample in media.read(file, with_facts=with_facts):
            empty = False
            yield _reduced(sample, side)
        yield Unreadable(f"{file.path}: no samples; remove or replace the file") if empty else None
    except MediaError as problem:
        yield problem
    except MemoryError:
        yield Unreadable(f"{file.path}: out of memory; reduce the size of the file")


def _reduced(sample: Sample, side: int | None) -> Sample:
    if side and sample.modality is Modality.IMAGE:
        return dataclasses.replace(sample, data=centre_square(sample.data, side))
    return sample
