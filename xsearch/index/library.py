"""FAISS, loaded on first use: it takes 0.2 s, and an exact scan works without it."""

from __future__ import annotations

import os
from functools import cache
from importlib import import_module
from typing import Any

__all__ = ["load_faiss"]

# Iterations for which a thread of libgomp waits actively at the end of a parallel region, about 10 us. Its
# default is 3 ms: beside other processes threads spin while the one that they wait for cannot run, and
# training takes many times the CPU time (benchmarks/waiting.py)
SPINS = "1000"


@cache
def load_faiss() -> Any:
    """Return the module `faiss`, untyped because its stubs lack many keywords.

    Its OpenMP runtime, which is not torch's, reads the environment once, when loaded.
    """
    if os.environ.keys() & {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}:
        return import_module("faiss")
    os.environ["GOMP_SPINCOUNT"] = SPINS
    try:
        return import_module("faiss")
    finally:
        os.environ.pop("GOMP_SPINCOUNT", None)  # another thread may have loaded it, too
