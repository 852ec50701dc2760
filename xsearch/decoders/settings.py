"""Limits of decoder processes.

XSEARCH_DECODE_TIMEOUT_S   seconds that a sample may take, by default 120
XSEARCH_DECODER_MEMORY     GB that a decoder may use, by default its share of 80 % of the memory, at least 1
"""

from __future__ import annotations

import math
import os

from xsearch.errors import UsageError
from xsearch.system.memory import total_memory

__all__ = ["MAX_DECODERS", "environment", "memory", "timeout_s"]

MAX_DECODERS = 16  # about 100 MB each
TIMEOUT_S = 120.0  # a window of a 4K video takes about 20 s
SHARE = 0.8  # of the memory, for all decoders together
LEAST = 1 << 30  # bytes; a picture of 100 megapixels takes 0.6 GB


def timeout_s() -> float:
    """Return the limit of the environment, or else the default."""
    return _number("XSEARCH_DECODE_TIMEOUT_S", "seconds") or TIMEOUT_S


def memory(count: int) -> int:
    """Return the bytes that each of `count` decoders may use."""
    if size := _number("XSEARCH_DECODER_MEMORY", "GB"):
        return int(size * 1e9)
    return max(int(SHARE * total_memory() / max(count, 1)), LEAST)


def environment() -> dict[str, str]:
    """Return the settings that a decoder inherits."""
    return {name: value for name, value in os.environ.items() if name.startswith("XSEARCH_")}


def _number(name: str, unit: str) -> float | None:
    if not (value := os.environ.get(name)):
        return None
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise UsageError(f"{name} is {value!r}; expected {unit} above 0")
    return number
