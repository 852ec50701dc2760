"""Progress and results of an ingest."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

from xsearch.media import Skipped
from xsearch.types import Modality

__all__ = ["Clock", "Progress", "Report"]

T = TypeVar("T")


class Clock:
    """Elapsed time of an ingest, in total and per stage."""

    def __init__(self) -> None:
        self.started = datetime.now(UTC)
        self._start_s = time.perf_counter()
        self.spent: dict[str, float] = defaultdict(float)

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._start_s

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        start_s = time.perf_counter()
        try:
            yield
        finally:
            self.spent[stage] += time.perf_counter() - start_s

    def waiting(self, elements: Iterable[T]) -> Iterator[T]:
        """Yield the elements, counting the time until each as "wait"."""
        each = iter(elements)
        while True:
            with self.timed("wait"):
                element = next(each, None)
            if element is None:
                return
            yield element


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a run."""

    done: int  # files
    total: int  # files, without unchanged ones
    bytes: int  # of finished files
    items: Mapping[Modality, int]  # so far, by kind
    skipped: int
    seconds: float  # elapsed
    path: str  # of the last finished file


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The results of a run; of a dry run, what it would do."""

    files: Mapping[Modality, int]  # media files visited, by kind
    new: Mapping[Modality, int]  # new and changed files, by kind
    items: Mapping[Modality, int] = field(default_factory=dict)  # their items, by kind
    changed: int  # stored files with new content
    unchanged: int
    duplicates: int = 0  # files that took the vectors of another with the same bytes
    moved: int = 0  # duplicates whose original is gone
    described: int  # files with new user columns only
    removed: int = 0  # items of vanished and excluded files
    skipped: tuple[Skipped, ...]  # including unchanged ones of earlier runs
    not_media: int
    not_media_types: Mapping[str, int]  # by extension
    excluded: int  # files and folders, by globs and ignore files
    ignored: int  # files that the user has removed for good
    notes: tuple[str, ...]  # what the user should know: rows of tables and rules that match no file
    seconds: float = 0.0
    # seconds by stage: "look", "wait" (for decoders), "embed", "write", "index"
    spent: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # `asdict` of Python 3.11 breaks counters and default dictionaries (python/cpython#106113)
        for name in ("files", "new", "items", "not_media_types", "spent"):
            object.__setattr__(self, name, dict(getattr(self, name)))

    @property
    def passing(self) -> int:
        """The number of skipped files that are not to blame, which the next ingest tries again."""
        return sum(skip.error.is_passing for skip in self.skipped)

    @property
    def items_per_s(self) -> float:
        return sum(self.items.values()) / self.seconds if self.seconds else 0.0
