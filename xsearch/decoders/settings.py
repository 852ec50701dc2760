"""Limits of decoder processes.

XSEARCH_DECODE_TIMEOUT_S   seconds that a sample may take, by default 120
XSEARCH_DECODER_MEMORY     GB that a decoder may use, by default its share of 80 % of the memory, at least 1
"""

from __future__ import annotations

import os
import resource

from xsearch.system.memory import total_memory
from xsearch.system.settings import setting

__all__ = ["MAX_DECODERS", "environment", "memory", "timeout_s"]

MAX_DECODERS = 16  # about 100 MB each
TIMEOUT_S = 120.0  # a window of a 4K video takes about 20 s
SHARE = 0.8  # of the memory, for all decoders together
LEAST = 1 << 30  # bytes; a picture of 100 megapixels takes 0.6 GB


def timeout_s() -> float:
    """Return the limit of the environment, or else the default."""
    return setting("XSEARCH_DECODE_TIMEOUT_S", TIMEOUT_S)


def memory(count: int) -> int:
    """Return the bytes that each of `count` decoders may use; no more than a limit of this process."""
    share = max(SHARE * total_memory() / max(count, 1), LEAST)
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    size = int(1e9 * setting("XSEARCH_DECODER_MEMORY", share / 1e9))
    return size if limit == resource.RLIM_INFINITY else min(size, limit)


def environment() -> dict[str, str]:
    """Return the settings that a decoder inherits."""
    return {name: value for name, value in os.environ.items() if name.startswith("XSEARCH_")}
