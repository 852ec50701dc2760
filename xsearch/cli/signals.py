"""SIGTERM and SIGHUP end a command as Ctrl-C does: what is done is committed, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Timer
from typing import Any

__all__ = ["ending", "report"]

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
MESSAGE = "\ninterrupted: nothing is lost, run the same command again to continue\n"
LINGER_S = 3.0  # that threads may take to end, which may wait for the network


@contextmanager
def ending() -> Iterator[None]:
    """Have the signals of NAMES raise KeyboardInterrupt; exit with 128 + the signal, as a shell reports it.

    Others are ignored while the command finishes, but the third ends it at once, by default. A signal that
    is ignored already, such as SIGHUP under nohup, stays so.
    """
    received: list[int] = []

    def handle(number: int, frame: Any) -> None:
        received.append(number)
        if len(received) == 1:
            raise KeyboardInterrupt
        if len(received) > 2:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    for name in NAMES:
        number = getattr(signal, name, None)
        if number and signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, handle)
    try:
        yield
    except KeyboardInterrupt:  # before the command began
        report()
        sys.exit(128 + received[0] if received else 130)
    except SystemExit as exit:
        if received:
            exit.code = 128 + received[0]
        raise
    finally:
        if received:
            timer = Timer(LINGER_S, os._exit, [128 + received[0]])
            timer.daemon = True
            timer.start()


def report() -> None:
    """Tell the user, if the terminal is still there."""
    with suppress(OSError, ValueError):
        sys.stderr.write(MESSAGE)
        sys.stderr.flush()
