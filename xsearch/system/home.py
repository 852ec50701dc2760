"""The folder of what is installed or kept for the user: models, and copies of files at URLs."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path

from platformdirs import user_cache_path

__all__ = ["VIEWS", "copies", "home", "view_folder"]

VIEWS = "views"  # in `copies()`


def home() -> Path:
    """$XSEARCH_HOME, else the platform's cache folder of the user."""
    if folder := os.environ.get("XSEARCH_HOME"):
        return Path(folder)
    return user_cache_path("xsearch", appauthor=False)


def copies() -> Path:
    """The folder of a `Cache`, which has copies of the files of collections at URLs."""
    return home() / "collections"


def view_folder(url: str) -> Path:
    """The folder of the copies of the collection at a URL, by their names in it; it may not exist."""
    return copies() / VIEWS / sha256(url.rstrip("/").encode()).hexdigest()[:32]
