"""Work of several requests, done at once: what comes while a batch runs is the next batch.

Nothing waits for company: a request that comes alone is begun at once, and the more come, the larger the
batches become.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from threading import Lock
from typing import Generic, TypeVar

from xsearch.errors import Unavailable

__all__ = ["Batches", "Together"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
R = TypeVar("R")

MOST = 64  # of a batch


class Batches(Generic[K, V, R]):
    """Batches of coroutines: what is submitted under one key while a batch of that key runs.

    run: computes a batch in a thread of `pool`; returns a result, or an exception, for each value.
    """

    def __init__(self, run: Callable[[K, list[V]], Sequence[R | Exception]]) -> None:
        self._run = run
        self._waiting: dict[K, list[tuple[V, asyncio.Future[R]]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def submit(self, pool: Executor, key: K, value: V) -> R:
        """Return the result for `value`, computed with those that other requests submit under `key`."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        if key in self._waiting:
            self._waiting[key].append((value, future))
        else:
            self._waiting[key] = [(value, future)]
            task = asyncio.create_task(self._drain(pool, key))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await future

    async def _drain(self, pool: Executor, key: K) -> None:
        loop = asyncio.get_running_loop()
        batch: list[tuple[V, asyncio.Future[R]]] = []
        try:
            while batch := self._waiting[key][:MOST]:
                del self._waiting[key][:MOST]
                results: Sequence[R | Exception]
                try:
                    results = await loop.run_in_executor(pool, self._run, key, [value for value, _ in batch])
                except Exception as problem:
                    results = [problem] * len(batch)
                for (_, future), result in zip(batch, results, strict=True):
                    if future.done():  # its client has gone
                        continue
                    if isinstance(result, Exception):
                        future.set_exception(result)
                    else:
                        future.set_result(result)
        finally:
            for _, future in [*batch, *self._waiting.pop(key)]:  # some are left if the server ends
                future.cancel()


class Together(Generic[V, R]):
    """The same for threads that wait. One thread computes, as each has OpenMP threads of its own beside it.

    run: returns a result for each value of a batch, for instance embeds samples.
    parallel: batches at once, of what computes elsewhere.
    """

    def __init__(self, run: Callable[[list[V]], Sequence[R]], parallel: int = 1) -> None:
        self._run = run
        self._waiting: deque[tuple[V, Future[R]]] = deque()
        self._taking = Lock()
        self._threads = ThreadPoolExecutor(parallel, "together")

    def __call__(self, values: Sequence[V]) -> list[R]:
        """Return a result for each value. Raises what its computation raises, alone if need be."""
        futures: list[Future[R]] = [Future() for _ in values]
        self._waiting.extend(zip(values, futures, strict=True))
        self._threads.submit(self._drain)
        return [future.result() for future in futures]

    def _drain(self) -> None:
        while batch := self._next():
            self._compute(batch)

    def _next(self) -> list[tuple[V, Future[R]]]:
        with self._taking:
            return [self._waiting.popleft() for _ in range(min(MOST, len(self._waiting)))]

    def _compute(self, batch: list[tuple[V, Future[R]]]) -> None:
        try:
            results = list(zip(batch, self._run([value for value, _ in batch]), strict=True))
        except BaseException as problem:
            is_alone = len(batch) == 1 or isinstance(problem, Unavailable)  # which each would wait for again
            for each in batch:
                if is_alone:
                    each[1].set_exception(problem)
                else:
                    self._compute([each])
            return
        for (_, future), result in results:
            future.set_result(result)
