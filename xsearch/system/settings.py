"""Numeric settings in environment variables."""

from __future__ import annotations

import math
import os

from xsearch.errors import UsageError

__all__ = ["setting"]


def setting(name: str, default: float) -> float:
    """Return the positive number in the environment variable `name`, or `default`.

    Raises UsageError for anything else.
    """
    text = os.environ.get(name)
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not value > 0:
        raise UsageError(f"{name}={text!r}: expected a number above 0, such as {default:g}")
    return value
