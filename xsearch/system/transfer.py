"""Bounds of a transfer from a server: bytes, least rate, total time.

XSEARCH_MAX_DOWNLOAD_GB   largest remote file (20)
XSEARCH_MIN_BYTES_PER_S   least rate in bytes/s, over WINDOW_S (1000)
XSEARCH_FETCH_MINUTES     longest time for one media file (60)
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from xsearch.system.settings import setting

__all__ = ["WINDOW_S", "OutOfTime", "TooLong", "TooSlow", "Transfer", "bounded", "max_bytes", "max_seconds"]

WINDOW_S = 60.0


class TooLong(Exception):
    """More bytes than allowed."""


class TooSlow(Exception):
    """Below the least rate."""


class OutOfTime(TooSlow):
    """Beyond the total time."""


class Transfer:
    """Counts the bytes of one transfer. Raises TooLong or TooSlow, both with the bound that was exceeded."""

    def __init__(
        self,
        most: float = math.inf,
        *,
        done: int = 0,
        seconds: float = math.inf,
        window_s: float = WINDOW_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """most: bytes, `done` of which have been transferred before. seconds: of the whole transfer.

        window_s: time over which the rate is measured.
        """
        self._most, self._seconds, self._window_s, self._clock = most, seconds, window_s, clock
        self._least = setting("XSEARCH_MIN_BYTES_PER_S", 1000)
        self._start = self._window = clock()
        self._count = self._before = done  # bytes, up to now and to the start of the window

    def add(self, count: int) -> None:
        """Account for `count` more bytes."""
        self.reach(self._count + count)

    def reach(self, count: int) -> None:
        """Account for `count` bytes in all."""
        self._count = count
        if self._count > self._most:
            raise TooLong(f"more than {self._most:,.0f} bytes")
        now = self._clock()
        if now - self._start > self._seconds:
            raise OutOfTime(f"not complete after {self._seconds:,.0f} s")
        if now - self._window >= self._window_s:
            rate = (self._count - self._before) / (now - self._window)
            if rate < self._least:
                raise TooSlow(f"slower than {self._least:,.0f} bytes/s (XSEARCH_MIN_BYTES_PER_S)")
            self._window, self._before = now, self._count


def bounded(transfer: Transfer) -> Any:
    """Return a callback for fsspec that accounts for what it transfers."""
    from fsspec.callbacks import Callback

    def check(size: int | None, done: int) -> None:
        transfer.reach(done)

    return Callback(hooks={"bounds": check})


def max_bytes() -> int:
    """Return the size of the largest file to fetch."""
    return int(setting("XSEARCH_MAX_DOWNLOAD_GB", 20) * 1e9)


def max_seconds() -> float:
    """Return the longest time to fetch one media file."""
    return setting("XSEARCH_FETCH_MINUTES", 60) * 60
