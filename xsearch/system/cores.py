"""CPU cores available to this process, and which thread goes first."""

from __future__ import annotations

import os
import sys
from threading import get_native_id

__all__ = ["CORES", "lower_priority"]

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def lower_priority() -> None:
    """Let other threads go before this one and those that it starts; on Linux, which alone can."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, get_native_id(), 10)
