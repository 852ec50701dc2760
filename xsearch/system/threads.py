"""Threads that share work, in place of those of NumPy's BLAS.

These wait for each other in every product, beside another process for one that cannot run, which takes three
times as long as one thread alone (benchmarks/waiting.py). Threads that take parts of the work do not wait.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cached_property
from itertools import chain, islice
from threading import BoundedSemaphore, Lock
from typing import Any, TypeVar

from xsearch.system.cores import CORES

__all__ = ["share", "threads", "use_threads", "without_blas_threads"]

T = TypeVar("T")
R = TypeVar("R")


def threads() -> int:
    """The number of threads of a computation: OMP_NUM_THREADS, as for numerical libraries, or the cores."""
    requested = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(requested) if requested.isdecimal() and int(requested) else CORES


def use_threads(count: int) -> None:
    """Limit torch's threads, if it is loaded: in this thread, and in those that begin to use it later."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(count)


def share(worker: Callable[[Iterator[T]], R], parts: Iterable[T], least: int = 1) -> list[R]:
    """Run `worker` here and in helping threads, each of which iterates over a share of `parts`.

    Helpers come for `least` parts each, up to `threads()` with this one. `parts` advances in one thread at a
    time, not always the same. Returns what the workers return, in no order; raises the first error.
    """
    source = iter(parts)
    first = list(islice(source, least * threads()))
    todo = _Shared(chain(first, source))
    wanted = len(first) // least - 1
    del first

    def work() -> R:
        try:
            return worker(todo)
        except BaseException:
            todo.end()
            raise

    helping: list[Future[R]] = []
    try:
        _helpers.start(work, wanted, helping)
        own = work()
        wait(helping)
    except BaseException:
        todo.end()
        wait(helping)
        raise
    return [own, *(each.result() for each in helping)]


class _Helpers:
    """The threads that help all calls. They are kept: new ones would take 0.2 ms (measured)."""

    def __init__(self, count: int) -> None:
        self._free, self._pool = BoundedSemaphore(count), ThreadPoolExecutor(count, "share")

    def start(self, work: Callable[[], R], wanted: int, started: list[Future[R]]) -> None:
        """Run `work` in up to `wanted` threads that are free; append what will hold their results."""

        def run(future: Future[R]) -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = work()
            except BaseException as error:
                self._free.release()
                future.set_exception(error)
            else:
                self._free.release()
                future.set_result(result)

        while len(started) < wanted and self._free.acquire(blocking=False):
            started.append(Future())
            try:
                self._pool.submit(run, started[-1])
            except BaseException as error:  # the pool may run it yet, in another thread
                if started[-1].cancel():
                    started.pop()
                    self._free.release()
                if not isinstance(error, RuntimeError):  # no more threads: others do the work
                    raise
                return


class _Shared(Iterator[T]):
    """An iterator that several threads take from."""

    def __init__(self, source: Iterator[T]) -> None:
        self._source, self._turn = source, Lock()

    def __next__(self) -> T:
        with self._turn:
            return next(self._source)

    def end(self) -> None:
        with self._turn:
            self._source = iter(())


class _Blas:
    """A context in which NumPy's OpenBLAS, in the whole process, computes in the calling thread.

    Of the OpenBLAS with pthreads, as NumPy and SciPy from PyPI bring it. Several threads may be within.
    """

    def __init__(self) -> None:
        self._turn, self._inside = Lock(), 0
        self._counts: list[tuple[Any, int]] = []

    @cached_property
    def _libraries(self) -> list[Any]:
        from threadpoolctl import ThreadpoolController

        libraries: list[Any] = ThreadpoolController().select(internal_api="openblas").lib_controllers
        return [each for each in libraries if each.threading_layer == "pthreads"]

    def __enter__(self) -> None:
        with self._turn:
            if not self._inside:
                self._counts = [(library, library.get_num_threads()) for library in self._libraries]
                self._set((library, 1) for library in self._libraries)
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._turn:
            self._inside -= 1
            if not self._inside:
                self._set(self._counts)

    def _set(self, counts: Iterable[tuple[Any, int]]) -> None:
        for library, count in counts:  # which by itself obeys one thread only
            library.clear_controlling_thread(force=True)
            library.set_num_threads(count)
            library.clear_controlling_thread(force=True)


without_blas_threads = _Blas()
_helpers = _Helpers(CORES)  # who finds none does all the work


def _begin_anew() -> None:
    """In a child process, which may have come in the middle of another thread's search."""
    _helpers.__init__(CORES)  # type: ignore[misc]
    without_blas_threads.__init__()  # type: ignore[misc]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
