"""The folder of what is installed or kept for the user: models, and copies of files at URLs."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path

__all__ = ["home"]


def home() -> Path:
    """$XSEARCH_HOME, else the platform's cache folder of the user."""
    if folder := os.environ.get("XSEARCH_HOME"):
        return Path(folder)
    return user_cache_path("xsearch", appauthor=False)
