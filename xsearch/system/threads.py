"""Threads that share work, in place of those of NumPy's BLAS.

These wait for each other in every product, beside another process for one that cannot run, which takes three
times as long as one thread alone (benchmarks/waiting.py). Threads that take parts of the work do not wait.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import chain, islice
from threading import Lock
from typing import Any, TypeVar

from xsearch.system.cores import CORES

__all__ = ["share", "threads", "without_blas_threads"]

T = TypeVar("T")
R = TypeVar("R")


def threads() -> int:
    """The number of threads of a computation: OMP_NUM_THREADS, as for numerical libraries, or the cores."""
    return int(os.environ.get("OMP_NUM_THREADS") or CORES)


def share(worker: Callable[[Iterator[T]], R], parts: Iterable[T]) -> list[R]:
    """Return what `worker` returns in each thread; all of them take from `parts`, until none is left.

    One part, or none, is left to the calling thread.
    """
    source = iter(parts)
    first = list(islice(source, threads()))
    todo = _Shared(chain(first, source))
    if len(first) <= 1:
        return [worker(todo)]
    with ThreadPoolExecutor(len(first)) as pool:
        return [done.result() for done in [pool.submit(worker, todo) for _ in first]]


class _Shared(Iterator[T]):
    """An iterator that several threads take from."""

    def __init__(self, source: Iterator[T]) -> None:
        self._source, self._turn = source, Lock()

    def __next__(self) -> T:
        with self._turn:
            return next(self._source)


class _Blas:
    """OpenBLAS with threads of its own, as NumPy and SciPy from PyPI bring it: one setting for a process."""

    def __init__(self) -> None:
        self._turn, self._inside = Lock(), 0
        self._counts: list[tuple[Any, int]] = []

    @cached_property
    def _libraries(self) -> list[Any]:
        from threadpoolctl import ThreadpoolController

        libraries: list[Any] = ThreadpoolController().select(threading_layer="pthreads").lib_controllers
        return libraries

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


without_blas_threads = _Blas()  # a context, also of several threads at once: they compute their products
