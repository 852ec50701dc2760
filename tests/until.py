"""Waiting for what other threads do."""

import gc
import time
from collections.abc import Callable


def until(condition: Callable[[], bool]) -> None:
    """Return when it holds; what nothing refers to is collected meanwhile. AssertionError after a minute."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        gc.collect()
        time.sleep(0.01)
