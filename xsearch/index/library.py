"""FAISS, loaded on first use: it takes 0.2 s, and an exact scan works without it."""

from __future__ import annotations

import sys
from importlib import import_module
from itertools import count
from typing import Any

__all__ = ["has_faiss", "load_faiss", "load_for_scans"]


_scans = count()


def load_faiss() -> Any:
    """Return the module `faiss`, untyped because its stubs lack many keywords."""
    return import_module("faiss")


def has_faiss() -> bool:
    """Whether it is loaded."""
    return "faiss" in sys.modules


def load_for_scans() -> None:
    """Load it on the second call in a process: a single scan is not worth the 0.2 s."""
    if next(_scans):
        load_faiss()
