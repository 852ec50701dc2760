"""Prefetching iterator backed by a thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from threading import Condition, Thread
from typing import Generic, TypeVar

__all__ = ["ReadAhead"]

T = TypeVar("T")


class ReadAhead(Generic[T]):
    """Iterate `source` in a thread, pausing while the buffered elements total `capacity` or more by `size`.

    Exceptions of the source are re-raised at their position. Leaving the context stops the thread after its
    next element, without waiting for it.
    """

    def __init__(self, source: Iterator[T], capacity: int, size: Callable[[T], int]) -> None:
        self._source, self._capacity, self._size = source, capacity, size
        self._ready: deque[T] = deque()
        self._buffered = 0
        self._error: BaseException | None = None
        self._ended = self._closed = False
        self._changed = Condition()
        Thread(target=self._run, name="ahead", daemon=True).start()

    def __enter__(self) -> ReadAhead[T]:
        return self

    def __exit__(self, *error: object) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _run(self) -> None:
        try:
            for element in self._source:
                with self._changed:
                    self._ready.append(element)
                    self._buffered += self._size(element)
                    self._changed.notify_all()
                    self._changed.wait_for(lambda: self._buffered < self._capacity or self._closed)
                    if self._closed:
                        return
        except BaseException as error:  # re-raised in __iter__
            self._error = error
        finally:
            if isinstance(self._source, Generator):
                self._source.close()
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ready or self._ended)
                if not self._ready:
                    break
                element = self._ready.popleft()
                self._buffered -= self._size(element)
                self._changed.notify_all()
            yield element
        if self._error:
            raise self._error
