"""CPU cores available to this process."""

from __future__ import annotations

import os
import sys
from threading import get_native_id

__all__ = ["CORES", "lower_priority", "use_threads"]

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_threads(count: int) -> None:
    """Limit torch's intra-op parallelism to `count` threads, or OMP_NUM_THREADS if that is less."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(min(count, int(os.environ.get("OMP_NUM_THREADS") or count)))


def lower_priority() -> None:
    """Let other threads go before this one and those that it starts; on Linux, which alone can."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, get_native_id(), 10)
