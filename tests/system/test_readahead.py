"""Reading ahead."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from xsearch.system.readahead import ReadAhead


def test_it_is_bounded_in_order_and_passes_exceptions_on() -> None:
    made: list[int] = []

    def source() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            yield number
        raise OSError("gone")

    with ReadAhead(source(), 30, lambda number: 10) as ahead:
        read = iter(ahead)
        assert next(read) == 0
        time.sleep(0.05)
        assert len(made) == 4  # three are held, and it waits with the fourth
        with pytest.raises(OSError, match="gone"):
            list(read)
    assert made == list(range(100))


def test_a_reader_that_leaves_ends_it() -> None:
    made: list[int | str] = []

    def endless() -> Iterator[int]:
        try:
            while True:
                made.append(0)
                yield 0
        finally:
            made.append("closed")

    with ReadAhead(endless(), 1, lambda number: 1) as ahead:
        assert next(iter(ahead)) == 0
    time.sleep(0.05)
    assert made[-1] == "closed"
    assert len(made) <= 4
