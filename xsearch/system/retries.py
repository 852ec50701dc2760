"""Requests to fsspec file systems, which raise exceptions of their own: retried, and explained."""

from __future__ import annotations

import errno
from collections.abc import Callable
from time import monotonic, sleep
from typing import TypeVar

from xsearch.system.transfer import TooLong, TooSlow

__all__ = ["is_of_disk", "reason_of", "retried"]

BACKOFF_S = (0.3, 1.0, 3.0, 10.0)  # delay before each retry
PATIENCE_S = 60  # time after which a failed attempt is the last one
FATAL = (
    *(FileNotFoundError, PermissionError, IsADirectoryError, NotImplementedError, ValueError, ImportError),
    *(FileExistsError, TooLong, TooSlow),
)
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)  # of this machine
TRANSIENT_STATUSES = (408, 429)  # besides 5xx

T = TypeVar("T")


def retried(call: Callable[[], T]) -> T:
    """Return `call()`, retrying after transient errors."""
    start_s = monotonic()
    for delay_s in BACKOFF_S:
        try:
            return call()
        except Exception as problem:  # file systems raise exceptions of their own
            if not _is_transient(problem) or monotonic() - start_s > PATIENCE_S:
                raise
        sleep(delay_s)
    return call()


def _is_transient(problem: BaseException) -> bool:
    if is_of_disk(problem):
        return False
    if status := getattr(problem, "status", None) or getattr(problem.__cause__, "status", None):  # HTTP
        return bool(status >= 500 or status in TRANSIENT_STATUSES)
    return not isinstance(problem, FATAL)


def is_of_disk(problem: BaseException) -> bool:
    """Whether it is an error of the local disk."""
    return isinstance(problem, OSError) and problem.errno in DISK


def reason_of(problem: Exception) -> str:
    """Return why a request failed, on one line."""
    if isinstance(problem, FileNotFoundError):
        return "no such file or folder"
    if isinstance(problem, TimeoutError) and not str(problem):
        return "the server does not answer in time"
    if isinstance(problem, ImportError):
        return f"{problem}; pip install 'xsearch[remote]'"
    return f"{type(problem).__name__}: {problem}".splitlines()[0].rstrip(": ")
