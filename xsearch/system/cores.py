"""CPU cores available to this process."""

from __future__ import annotations

import os
import sys

__all__ = ["CORES", "use_threads"]

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_threads(count: int) -> None:
    """Limit torch's intra-op parallelism to `count` threads, or OMP_NUM_THREADS if that is less."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(min(count, int(os.environ.get("OMP_NUM_THREADS") or count)))
