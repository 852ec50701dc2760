"""FAISS, loaded on first use: it takes 0.2 s, and an exact scan works without it."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["load_faiss"]


def load_faiss() -> Any:
    """Return the module `faiss`, untyped because its stubs lack many keywords."""
    return import_module("faiss")
