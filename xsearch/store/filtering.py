"""Filter processes: conditions are evaluated in child processes that are killed when they exceed a limit.

They start when first needed, stay for the next condition, and end with this process however it ends. A
condition that takes long occupies one of a few; others do not wait for it.
"""

from __future__ import annotations

import atexit
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import BoundedSemaphore

import numpy as np
import pyarrow as pa

from xsearch.errors import UsageError
from xsearch.store import sandbox

__all__ = ["Refused", "SharedColumns", "end_processes", "passing", "processes", "warm_filters"]

MAX_PROCESSES = 4  # 75 MB each
START_S = 60.0  # 0.3 s on an idle machine
KEPT_BYTES = 256 << 20  # of columns, for the next filter of the same snapshot
TIMEOUT, MEMORY = "XSEARCH_WHERE_TIMEOUT_S", "XSEARCH_WHERE_MEMORY"
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


class Refused(Exception):
    """A condition is not allowed, does not fit the columns, or exceeds a limit; the message says which."""


class _Column:
    """A column as an Arrow stream in memory that other processes can map."""

    def __init__(self, column: pa.Table) -> None:
        if hasattr(os, "memfd_create"):
            self.descriptor = os.memfd_create("xsearch-column")
        else:
            with tempfile.TemporaryFile() as unnamed:
                self.descriptor = os.dup(unnamed.fileno())
        weakref.finalize(self, os.close, self.descriptor)
        with (
            os.fdopen(self.descriptor, "wb", closefd=False) as target,
            pa.ipc.new_stream(target, column.schema) as stream,
        ):
            stream.write_table(column)
        self.size = os.fstat(self.descriptor).st_size


class SharedColumns:
    """The columns of one snapshot that filter processes have been handed, of which the last are kept."""

    def __init__(self) -> None:
        self._columns: dict[str, _Column] = {}  # replaced, never changed: threads share it

    def take(self, names: Sequence[str], read: Callable[[Sequence[str]], pa.Table]) -> list[_Column]:
        """Return these columns; those that are not at hand are read."""
        kept = dict(self._columns)
        taken = {name: kept.pop(name) for name in names if name in kept}
        if missing := [name for name in names if name not in taken]:
            table = read(missing)
            taken |= {name: _Column(table.select([name])) for name in missing}
        kept |= taken  # the last are kept longest
        while sum(column.size for column in kept.values()) > KEPT_BYTES:
            del kept[next(iter(kept))]
        self._columns = kept
        return [taken[name] for name in names]


class _Process:
    """The parent's handle of a filter process; `xsearch.store.sandbox` is its program."""

    def __init__(self, memory: int) -> None:
        self.memory = memory
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._child = subprocess.Popen(
                # -P: not the modules of the current folder
                [sys.executable, "-P", sandbox.__file__, str(theirs.fileno()), str(memory)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.PIPE,  # its end tells the child that this process ended
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                # Reserved address space counts as memory
                env=os.environ | {"MALLOC_ARENA_MAX": "2", "ARROW_DEFAULT_MEMORY_POOL": "system"},
                process_group=0,  # Ctrl-C reaches the parent only
            )
        self.is_free = True  # False: it ends, or was left in the middle of an answer
        self._is_ready = False

    @property
    def id(self) -> int:
        return self._child.pid

    @property
    def is_running(self) -> bool:
        return self._child.poll() is None

    def passing(
        self,
        where: str,
        columns: Sequence[str],
        take: Callable[[Sequence[str]], Sequence[_Column]],
        timeout_s: float,
    ) -> np.ndarray:
        """`passing`, in this process. Raises TimeoutError, or EOFError if the process crashed."""
        self.is_free = False
        if not self._is_ready:
            sandbox.receive(self._socket, time.monotonic() + START_S)
            self._is_ready = True
        until = time.monotonic() + timeout_s
        sandbox.send(self._socket, {"where": where, "columns": list(columns)})
        answer, bits = sandbox.receive(self._socket, until)
        if names := answer.get("columns"):
            for column in take(names):
                socket.send_fds(self._socket, [b"."], [column.descriptor])
            answer, bits = sandbox.receive(self._socket, until)
        self.is_free = not answer["last"]
        if answer.get("memory"):
            raise MemoryError
        if problem := answer.get("problem"):
            raise Refused(problem)
        return np.unpackbits(np.frombuffer(bits, np.uint8), count=answer["rows"]).view(bool)

    def kill(self) -> None:
        self.end()
        self.forget()
        self._child.wait()

    def end(self) -> None:
        """End the process without closing what another thread may be waiting for."""
        self._child.kill()

    def forget(self) -> None:
        """Close what leads to the process; it ends unless another process holds the same."""
        self._socket.close()
        assert self._child.stdin is not None
        self._child.stdin.close()

    def status(self) -> int:
        """Return the exit code of a process that is ending; -1 to -64: by that signal."""
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(1)
        return self._child.returncode or 0


class _Processes:
    """At most MAX_PROCESSES, for any number of threads."""

    def __init__(self) -> None:
        self._slots = BoundedSemaphore(MAX_PROCESSES)
        self._idle: list[_Process] = []
        self._all: weakref.WeakSet[_Process] = weakref.WeakSet()

    def passing(
        self,
        where: str,
        columns: Sequence[str],
        take: Callable[[Sequence[str]], Sequence[_Column]],
    ) -> np.ndarray:
        """Return which rows of the columns satisfy `where`: bool. Raises Refused."""
        timeout_s, memory = _timeout_s(), _memory()
        with self._slots:
            process = self._take(memory)
            try:
                return process.passing(where, columns, take, timeout_s)
            except TimeoutError:
                raise Refused(f"timed out after {timeout_s:g} s ({TIMEOUT})") from None
            except MemoryError:
                raise Refused(_over(memory)) from None
            except (EOFError, ConnectionError):
                status = process.status()
                # An allocation has failed; the system lacks memory
                if status in (-signal.SIGABRT, -signal.SIGKILL):
                    raise Refused(_over(memory)) from None
                raise Refused(f"its process ended (exit code {status})") from None
            finally:
                if process.is_free and process.is_running:
                    self._idle.append(process)
                else:
                    process.kill()

    def warm(self) -> None:
        """Start a process for the first condition, without waiting for it."""
        with self._slots:
            if not self._idle:
                self._idle.append(self._take(_memory()))

    def _take(self, memory: int) -> _Process:
        with suppress(IndexError):
            while not (process := self._idle.pop()).is_running or process.memory != memory:
                process.kill()
            return process
        process = _Process(memory)
        self._all.add(process)
        return process

    def running(self) -> list[int]:
        """Return the ids of the processes that have not ended."""
        return [process.id for process in list(self._all) if process.is_running]

    def end(self) -> None:
        """End all processes; threads that wait for an answer get BadFilter."""
        while self._idle:
            self._idle.pop().kill()
        for process in list(self._all):
            process.end()

    def forget(self) -> None:
        """Close what a fork inherited from its parent, whose processes these are."""
        for process in list(self._all):
            process.forget()
        self.__init__()  # type: ignore[misc]


def _timeout_s() -> float:
    value = os.environ.get(TIMEOUT) or "10"
    if not re.fullmatch(r"\d+(\.\d+)?", value):
        raise UsageError(f"{TIMEOUT} is {value!r}; expected seconds, such as 10")
    return float(value)


def _memory() -> int:
    value = os.environ.get(MEMORY) or "1GB"
    if not (parts := re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?", value.strip(), re.I)):
        raise UsageError(f"{MEMORY} is {value!r}; expected a size, such as 2GB")
    return int(float(parts[1]) * UNITS[parts[2].upper()])


def _over(memory: int) -> str:
    return f"needs more than {memory / 1e9:g} GB of memory ({MEMORY})"


_PROCESSES = _Processes()
atexit.register(_PROCESSES.end)
os.register_at_fork(after_in_child=_PROCESSES.forget)
passing, processes, end_processes = _PROCESSES.passing, _PROCESSES.running, _PROCESSES.end
warm_filters = _PROCESSES.warm
