"""What files say of themselves, as columns of their items: when, where, by whom, with what."""

from __future__ import annotations

from typing import Any

from xsearch.types import MediaFile

__all__ = ["COLUMNS", "facts"]

COLUMNS: tuple[str, ...] = ()  # names of all facts, none of them a column of the store


def facts(file: MediaFile) -> dict[str, Any]:
    """Return what a file says of itself: a value for each of COLUMNS that it states. Never raises."""
    return {}
