"""How far an ingest is, and what it did."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from xsearch.media import Skipped
from xsearch.types import Modality

__all__ = ["Clock", "Progress", "Report"]

T = TypeVar("T")


class Clock:
    """The seconds since an ingest began, and on what they were spent."""

    def __init__(self) -> None:
        self.started = datetime.now(UTC)
        self._start_s = time.perf_counter()
        self.spent: dict[str, float] = defaultdict(float)

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._start_s

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        start_s = time.perf_counter()
        try:
            yield
        finally:
            self.spent[what] += time.perf_counter() - start_s

    def waiting(self, elements: Iterable[T]) -> Iterator[T]:
        """The same; the time until each comes is spent on "wait"."""
        each = iter(elements)
        while True:
            with self.timed("wait"):
                element = next(each, None)
            if element is None:
                return
            yield element


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is, for whoever shows it."""

    done: int  # files
    total: int  # files to do; unchanged ones do not count
    bytes: int  # of the files that are done
    items: Mapping[Modality, int]  # embedded so far, by kind
    skipped: int
    seconds: float  # since the run began
    path: str  # of the file that was finished last


@dataclass(frozen=True, slots=True)
class Report:
    """What a run did; a dry run: what it would do."""

    files: Mapping[Modality, int]  # media files visited, by kind
    new: Mapping[Modality, int]  # files embedded, by kind; dry run: new or changed
    items: Mapping[Modality, int]  # items embedded, by kind: a file may give several, of two kinds
    changed: int  # files known with another content
    unchanged: int
    duplicates: int  # files that got the vectors of another with the same bytes
    moved: int  # the same, where the other is gone
    described: int  # files of which only the user columns have changed
    removed: int  # items of vanished files
    skipped: tuple[Skipped, ...]  # also those of earlier runs that have not changed since
    not_media: int
    seconds: float
    spent: Mapping[str, float]  # of these seconds: "look", "wait" for decoders, "embed", "write", "index"

    @property
    def items_per_s(self) -> float:
        return sum(self.items.values()) / self.seconds if self.seconds else 0.0
