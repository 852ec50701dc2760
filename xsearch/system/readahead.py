"""An iterator that runs ahead of its reader, in a thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from threading import Condition, Thread
from typing import Generic, TypeVar

__all__ = ["ReadAhead"]

T = TypeVar("T")


class ReadAhead(Generic[T]):
    """Iterates `source` in a thread until what has not been read yet holds `room` or more, by `size`.

    What the source raises is raised here, in its place. A context manager: a reader that leaves ends the
    thread with the next element, but does not wait for that.
    """

    def __init__(self, source: Iterator[T], room: int, size: Callable[[T], int]) -> None:
        self._source, self._room, self._size = source, room, size
        self._ready: deque[T] = deque()
        self._held = 0
        self._problem: BaseException | None = None
        self._ended = self._closed = self.full = False  # full: the source waits for the reader
        self._changed = Condition()
        Thread(target=self._run, name="ahead", daemon=True).start()

    def __enter__(self) -> ReadAhead[T]:
        return self

    def __exit__(self, *problem: object) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _run(self) -> None:
        try:
            for element in self._source:
                with self._changed:
                    self._ready.append(element)
                    self._held += self._size(element)
                    self._changed.notify_all()
                    self.full = self._held >= self._room
                    self._changed.wait_for(lambda: self._held < self._room or self._closed)
                    self.full = False
                    if self._closed:
                        return
        except BaseException as problem:  # the reader's business
            self._problem = problem
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
                self._held -= self._size(element)
                self._changed.notify_all()
            yield element
        if self._problem:
            raise self._problem
