"""Bounds of transfers, on a clock that the test sets."""

from __future__ import annotations

import pytest

from xsearch.errors import UsageError
from xsearch.system.transfer import TooLong, TooSlow, Transfer, max_bytes


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_rate_is_measured_over_windows():
    clock = Clock()
    transfer = Transfer(window_s=60, clock=clock)
    transfer.add(1_000_000)
    for clock.now in (30, 61, 90):  # fast on the whole, and the first window was
        transfer.add(10)
    clock.now = 122
    with pytest.raises(TooSlow, match="slower than 1,000 bytes/s"):
        transfer.add(10)


def test_bytes_and_seconds_are_bounded():
    clock = Clock()
    transfer = Transfer(100, done=50, seconds=10, clock=clock)
    transfer.add(50)
    with pytest.raises(TooLong, match="more than 100 bytes"):
        transfer.add(1)
    late = Transfer(seconds=10, clock=clock)
    late.add(1_000_000)
    clock.now = 11
    with pytest.raises(TooSlow, match="not complete after 10 s"):
        late.add(1_000_000)


@pytest.mark.parametrize("text", ["x", "0", "-1", "nan"])
def test_a_setting_that_is_no_positive_number_is_wrong_usage(text, monkeypatch):
    monkeypatch.setenv("XSEARCH_MAX_DOWNLOAD_GB", text)
    with pytest.raises(UsageError, match=r"XSEARCH_MAX_DOWNLOAD_GB='.*': expected a number above 0"):
        max_bytes()
