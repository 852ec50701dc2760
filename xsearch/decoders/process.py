"""A worker process, as its parent handles it."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

import xsearch
from xsearch.decoders import settings
from xsearch.decoders.wire import PREFIX, Garbage, OutOfMemory, Ready, decode, sizes
from xsearch.system.confine import OVERHEAD
from xsearch.types import MediaFile, Modality

__all__ = ["LENGTH", "Job", "Process", "Trouble"]

LENGTH = struct.Struct("<I")  # precedes a request
FAULTS = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}
START_S = 60.0  # least time for a process to start: 0.3 s on an idle machine
PROGRAM = """
import sys
from xsearch.system.confine import end_with, limit_memory
requests, lifeline, memory, is_background = map(int, sys.argv[1:])
end_with(lifeline)
limit_memory(memory)
from xsearch.decoders.worker import serve
serve(requests, is_background=bool(is_background))
"""


class Trouble(Exception):
    """What a decoder suffered, which may pass. hint: what to think of it if it happens twice."""

    def __init__(
        self, what: str, hint: str = "", *, is_memory: bool = False, is_timeout: bool = False
    ) -> None:
        super().__init__(what)
        self.hint, self.is_memory, self.is_timeout = hint, is_memory, is_timeout


@dataclass(slots=True, eq=False)
class Job:
    """A call of a generator function in a worker, for a file.

    delivered: how many values the caller has. received: how many the present try has sent.
    trouble: what ended the first try.
    """

    subject: MediaFile | Path
    function: Callable[..., Any]
    args: tuple[Any, ...]
    timeout_s: float
    delivered: int = 0
    received: int = 0
    trouble: Exception | None = None

    @property
    def path(self) -> Path:
        return self.subject.path if isinstance(self.subject, MediaFile) else self.subject

    @property
    def lacked_memory(self) -> bool:
        """Whether the first try failed for lack of it, presumably."""
        return isinstance(self.trouble, Trouble) and self.trouble.is_memory

    @property
    def is_short(self) -> bool:
        """Whether it takes milliseconds."""
        return isinstance(self.subject, MediaFile) and self.subject.modality is Modality.IMAGE


@dataclass(slots=True)
class _Message:
    """A message that is being received: its prefix, header, and body, one after the other."""

    parts: list[memoryview] = field(default_factory=lambda: [memoryview(bytearray(PREFIX.size))])
    filled: int = 0  # bytes of the last part


class Process:
    """A worker process, started; it decodes what it is sent, and blocks until its samples are taken."""

    def __init__(self, memory: int, *, is_background: bool = False, once: bool = False) -> None:
        """memory: its limit in bytes. is_background: give way to the parent. once: for one job only."""
        self.memory, self._once, self._settings = memory, once, settings.environment()
        self.socket, theirs = socket.socketpair()
        ours, self._lifeline = os.pipe()
        path = [str(Path(xsearch.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
        arguments = map(str, (theirs.fileno(), ours, memory, int(is_background)))
        try:
            # multiprocessing would re-import the user's script, or fork a process that has threads.
            self._child = subprocess.Popen(
                [sys.executable, "-P", "-c", PROGRAM, *arguments],  # -P: no module of the current folder
                pass_fds=[theirs.fileno(), ours],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # C libraries print what files say
                env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(path)},
                process_group=0,  # Ctrl-C reaches the parent only, which ends the child
            )
        except BaseException:
            self.socket.close()
            os.close(self._lifeline)
            raise
        finally:
            theirs.close()
            os.close(ours)
        self.jobs: deque[Job] = deque()  # the first is being done
        self.dead = False
        self._message = _Message()
        self._has_started = self._is_spent = False
        self._lock = Lock()
        self._since = time.monotonic()

    @property
    def is_idle(self) -> bool:
        """Whether it may do another job."""
        return not (self.dead or self.jobs or self._is_spent) and self._child.poll() is None

    @property
    def is_current(self) -> bool:
        """Whether it has the present settings."""
        return self._settings == settings.environment()

    @property
    def is_free(self) -> bool:
        """Whether to send another job; one more is queued behind a short one."""
        if self.dead or self._is_spent:
            return False
        return not self.jobs or (len(self.jobs) == 1 and self.jobs[0].is_short)

    def check_time(self, patience: float) -> None:
        """Raise Trouble if the first job has sent nothing for `patience` times its limit."""
        limit_s = self.jobs[0].timeout_s * patience
        if time.monotonic() - self._since > (limit_s if self._has_started else max(START_S, limit_s)):
            hint = "XSEARCH_DECODE_TIMEOUT_S raises the limit"
            raise Trouble(f"decoder timed out after {limit_s:g} s", hint, is_timeout=True)

    def send(self, job: Job) -> None:
        if not self.jobs:
            self._since = time.monotonic()
        self.jobs.append(job)
        self._is_spent, job.received = self._once, 0
        request = pickle.dumps((job.function, job.args))
        with suppress(OSError):  # it died: reported by `receive`
            self.socket.sendall(LENGTH.pack(len(request)) + request)

    def receive(self) -> Any:
        """Return the next value of the first job, or an error or End; None until it has arrived whole.

        Never blocks. Raises Trouble if the process is dead or no longer of use.
        """
        try:
            value = self._received()
        except Garbage:
            raise Trouble("decoder sent no valid message") from None
        except (EOFError, OSError):
            with suppress(subprocess.TimeoutExpired):
                self._child.wait(1)
            raise _death(self._child.returncode) from None
        if isinstance(value, OutOfMemory):
            hint = "XSEARCH_DECODER_MEMORY raises the limit, in GB"
            raise Trouble(f"out of memory in a decoder of {self.memory / 1e9:.1f} GB", hint, is_memory=True)
        if isinstance(value, Ready):
            self._has_started = True
            return None
        return value

    def _received(self) -> Any:
        message = self._message
        while True:
            part = message.parts[-1]
            while message.filled < len(part):
                try:
                    count = self.socket.recv_into(part[message.filled :], 0, socket.MSG_DONTWAIT)
                except BlockingIOError:
                    return None
                if not count:
                    raise EOFError
                self._since = time.monotonic()
                message.filled += count
            if len(message.parts) == 3:
                self._message = _Message()
                return decode(*message.parts[1:])
            lengths = sizes(bytes(message.parts[0]), self.memory + OVERHEAD)
            length = lengths[len(message.parts) - 1]
            message.parts.append(memoryview(np.empty(length, np.uint8)))  # type: ignore[arg-type]
            message.filled = 0

    def kill(self) -> None:
        """End the process, once: another thread that closes the socket too might close a new file."""
        with self._lock:
            if not self.dead:
                self.dead = True
                self._child.kill()
                with suppress(subprocess.TimeoutExpired):  # while the kernel waits for a disk
                    self._child.wait(5)
                self.socket.close()
                os.close(self._lifeline)


def _death(code: int | None) -> Trouble:
    """Return what the exit code of a decoder says; None: it has closed its connection only."""
    if code is None or code >= 0:
        return Trouble("decoder ended" if code is None else f"decoder ended with exit code {code}")
    name = signal.Signals(-code).name if -code in list(signal.Signals) else f"signal {-code}"
    if -code in FAULTS:
        return Trouble(f"decoder crashed ({name})", "the file may be damaged, or a decoding library at fault")
    return Trouble(f"decoder killed ({name})", is_memory=-code == signal.SIGKILL)  # as the kernel does
