"""Deferred signals for critical sections."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["deferred_interrupts"]

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")


@contextmanager
def deferred_interrupts() -> Iterator[None]:
    """Defer the Python handlers of NAMES until the block has finished.

    No-op outside the main thread, which handles signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
    previous = {number: handler for number in numbers if callable(handler := signal.getsignal(number))}
    pending: list[int] = []
    for number in previous:
        signal.signal(number, lambda number, frame: pending.append(number))
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        for number in pending:
            signal.raise_signal(number)
