"""Which collection is meant: one that is named, or else the nearest, as git finds its repository."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from platformdirs import user_data_path

from xsearch.errors import UsageError
from xsearch.types import DEFAULT_COLLECTION

__all__ = ["NAME", "default_collection", "folder_of", "is_remote", "user_collection"]

LOG = logging.getLogger("xsearch")

NAME = "manifest.json"  # a folder that contains it is a collection


def is_remote(place: str | Path) -> bool:
    """Whether a collection is at a URL, where `xsearch push` has published it."""
    return isinstance(place, str) and "://" in place


def folder_of(place: str | Path) -> Path:
    """The folder of a collection that may be changed. Raises UsageError for a URL."""
    if is_remote(place):
        raise UsageError(
            f"{place} is read-only: change the folder that was published there, and then run "
            f"`xsearch push {place} --collection FOLDER`"
        )
    return Path(place)


def default_collection() -> str | Path:
    """The collection to use: $XSEARCH_COLLECTION, else the nearest folder, else DEFAULT_COLLECTION.

    The nearest is DEFAULT_COLLECTION below the current folder or one above it, up to the home of the user and
    within the file system, else `user_collection`. One above that belongs to somebody else is not used.
    """
    if named := os.environ.get("XSEARCH_COLLECTION"):
        return named if is_remote(named) else Path(named)
    if _is_collection(DEFAULT_COLLECTION):
        return DEFAULT_COLLECTION
    for folder in (*(above / DEFAULT_COLLECTION for above in _above(Path.cwd())), user_collection()):
        if _is_collection(folder):
            if not hasattr(os, "geteuid") or (folder / NAME).stat().st_uid in (os.geteuid(), 0):
                return folder
            LOG.warning("%s belongs to another user and is not used; name it with --collection", folder)
    return DEFAULT_COLLECTION


def user_collection() -> Path:
    """The folder of the collection of a user without one in the current folder or above, if it exists."""
    return user_data_path("xsearch", appauthor=False) / DEFAULT_COLLECTION


def _above(here: Path) -> Iterator[Path]:
    home, device = Path("~").expanduser(), here.stat().st_dev
    for folder, above in zip((here, *here.parents), here.parents, strict=False):
        if folder == home or above.stat().st_dev != device:
            return
        yield above


def _is_collection(folder: Path) -> bool:
    return os.path.isfile(folder / NAME)  # noqa: PTH113  also where it must not look
