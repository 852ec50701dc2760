"""Files -> samples in other processes: a decoder that hangs or dies costs its file, not the caller.

A process decodes one file after the other, and waits while nobody takes its samples. It knows the readers
and nothing of models. (A torch DataLoader ends as a whole when one of its workers dies, and a process pool
returns a file whole, however long it is.)
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

__all__ = ["MOST_DECODERS", "Decoders", "Event", "serve"]

Event = tuple[MediaFile, Sample | MediaError | None]  # None: that was all of the file

MOST_DECODERS = 16  # of some 100 MB each
TIMEOUT_S = 120.0  # for one sample: a window of a 4k video takes some 20 s


class Decoders:
    """A pool of `count` processes, or none to decode here; a context manager that ends them.

    side: images are reduced to the square of this size that a model uses, a fraction of their bytes.
    timeout_s: how long a process may work on one sample.

    Several threads may `read` at once, `count` of them side by side, also while a stream is decoded, which
    keeps its processes: the pool then grows to twice as many.
    """

    def __init__(self, count: int, *, side: int | None = None, timeout_s: float = TIMEOUT_S) -> None:
        self._count, self._side, self._timeout_s = count, side, timeout_s
        self._processes: list[_Process] = []
        self._is_closed, self._lock = False, Lock()
        self._idle = deque(self._start() for _ in range(count))
        self._turns = BoundedSemaphore(max(count, 1))

    def __enter__(self) -> Decoders:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._lock:  # so that nobody who is still at it starts another
            self._is_closed = True
        for process in self._processes:
            process.kill()

    @property
    def at_work(self) -> int:
        """Processes that have a file."""
        return sum(bool(process.files) for process in self._processes)

    def decode(self, files: Iterator[MediaFile]) -> Iterator[Event]:
        """What files become: the samples of each in order, then None or what is wrong with it."""
        return self._decode(files, self._count)

    def read(self, file: MediaFile) -> list[Sample]:
        """All samples of one file. Raises MediaError, also where decoding hangs or ends its process."""
        samples = []
        with self._turns, closing(self._decode(iter([file]), min(self._count, 1))) as events:
            for _, what in events:
                if isinstance(what, Sample):
                    samples.append(what)
                elif what:
                    raise what
        return samples

    def _decode(self, files: Iterator[MediaFile], count: int) -> Generator[Event, None, None]:
        """`decode`, in so many processes."""
        if not count:
            yield from ((file, what) for file in files for what in _decoded(file, self._side))
            return
        processes = [self._take() for _ in range(count)]
        again: deque[MediaFile] = deque()  # were waiting at a process that died
        try:
            while True:
                for process in processes:
                    while process.is_free and (file := again.popleft() if again else next(files, None)):
                        process.give(file)
                busy = [process for process in processes if process.files]
                if not busy:
                    return
                ready = wait([process.socket for process in busy], timeout=1.0)
                for process in busy:
                    if process.socket in ready:
                        yield process.take()
                    elif process.seconds > self._timeout_s and not process.socket.poll():
                        yield process.give_up()
                for at, process in enumerate(processes):
                    if process.dead:
                        again.extend(process.files)
                        processes[at] = self._take()
                        self._put_back(process)
        finally:
            for process in processes:
                self._put_back(process)

    def _start(self) -> _Process:
        with self._lock:
            if self._is_closed:
                raise ValueError("the decoders have been ended")
            process = _Process(self._side)
            self._processes.append(process)
        return process

    def _take(self) -> _Process:
        """An idle process, or a new one where there is none."""
        with suppress(IndexError):
            while not (process := self._idle.pop()).is_alive:
                self._put_back(process)
            return process
        return self._start()

    def _put_back(self, process: _Process) -> None:
        """Keep a process for later, unless it is dead, in the middle of a file, or one too many."""
        if process.files or not process.is_alive or len(self._idle) >= self._count:
            process.kill()
            with self._lock:
                self._processes = [each for each in self._processes if each is not process]
        else:
            self._idle.append(process)


class _Process:
    """One process, from here."""

    def __init__(self, side: int | None) -> None:
        ours, theirs = socket.socketpair()
        # Not multiprocessing: that runs the user's script again, and forks a process that has threads.
        program = "import sys; from xsearch.decoders import serve; serve(int(sys.argv[1]), int(sys.argv[2]))"
        where = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
        self._child = subprocess.Popen(
            [sys.executable, "-c", program, str(theirs.fileno()), str(side or 0)],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(where)},
            process_group=0,  # Ctrl-C is for this process, which then ends that one
        )
        theirs.close()
        self.socket = Connection(ours.detach())
        self.files: deque[MediaFile] = deque()  # the first is being decoded
        self.dead = False
        self._since = 0.0

    @property
    def is_alive(self) -> bool:
        return not self.dead and self._child.poll() is None

    @property
    def seconds(self) -> float:
        """Since the last sample was taken, or the file given."""
        return time.monotonic() - self._since

    @property
    def is_free(self) -> bool:
        """Whether it wants a file: its next, or behind a picture, which takes milliseconds, the one after."""
        return not self.files or (len(self.files) == 1 and self.files[0].modality is Modality.IMAGE)

    def give(self, file: MediaFile) -> None:
        if not self.files:
            self._since = time.monotonic()
        self.files.append(file)
        with suppress(OSError):  # it died: `take` finds out
            self.socket.send(file)

    def take(self) -> Event:
        file, self._since = self.files[0], time.monotonic()
        try:
            what = self.socket.recv()
        except (EOFError, OSError):
            with suppress(subprocess.TimeoutExpired):
                self._child.wait(1)
            self.kill()
            self.files.popleft()
            return file, Unreadable(f"{file.path}: its decoder died ({self._death()}); is it damaged?")
        if not isinstance(what, Sample):
            self.files.popleft()
        return file, what

    def give_up(self) -> Event:
        self.kill()
        file = self.files.popleft()
        return file, Unreadable(f"{file.path}: decoding hangs; is it damaged?")

    def kill(self) -> None:
        self._child.kill()
        self._child.wait()
        self.socket.close()
        self.dead = True

    def _death(self) -> str:
        code = self._child.returncode
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def serve(descriptor: int, side: int) -> None:
    """What a process does: decode the files that come through the socket, until it is closed.

    side: as of `Decoders`; 0 is None.
    """
    keep_memory()
    os.nice(10)  # what is decoded is embedded first, so that it does not pile up
    parent = Connection(descriptor)
    with suppress(EOFError, OSError):
        while True:
            for what in _decoded(parent.recv(), side):
                parent.send(what)


def _decoded(file: MediaFile, side: int | None) -> Iterator[Sample | MediaError | None]:
    try:
        empty = True
        for sample in media.read(file):
            empty = False
            yield _small(sample, side)
        yield Unreadable(f"{file.path}: nothing in it to embed") if empty else None
    except MediaError as problem:
        yield problem
    except MemoryError:
        yield Unreadable(f"{file.path}: too large for the memory; make it smaller")


def _small(sample: Sample, side: int | None) -> Sample:
    if side and sample.modality is Modality.IMAGE:
        return dataclasses.replace(sample, data=centre_square(sample.data, side))
    return sample
