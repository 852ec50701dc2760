"""Everything that xsearch raises on purpose.

    XsearchError
    ├── UsageError            the request itself is wrong (exit code 2)
    │   ├── EmptyQuery        the parts of a query cancel out, or there are none
    │   └── BadFilter         `where` is not one read-only expression over the items
    ├── MediaError            a file cannot become samples
    │   ├── NotMedia          no reader knows this file
    │   └── Unreadable        the right kind, but damaged, empty or incomplete
    │       ├── MissingPackage    readable once an optional package is installed
    │       └── TooLarge          readable once its user allows more pixels
    ├── ModelError            weights are missing, damaged or of another shape
    │   └── ModelMismatch     query and collection come from different models
    └── StoreError            a collection cannot be read or written
        ├── NoCollection      nothing there
        ├── Damaged           a file is not what was written
        └── Locked            somebody else is writing

A message says what, where, what was given, and what to do.
"""

from pathlib import Path

__all__ = [
    "BadFilter",
    "Damaged",
    "EmptyQuery",
    "Locked",
    "MediaError",
    "MissingPackage",
    "ModelError",
    "ModelMismatch",
    "NoCollection",
    "NotMedia",
    "StoreError",
    "TooLarge",
    "Unreadable",
    "UsageError",
    "XsearchError",
]


class XsearchError(Exception):
    """The root: catch this to catch all of ours."""


class UsageError(XsearchError):
    """The request itself is wrong."""


class EmptyQuery(UsageError):
    """The parts of a query cancel out, or there are none."""


class BadFilter(UsageError):
    """A filter is not one read-only expression over the items."""


class MediaError(XsearchError):
    """A file cannot become samples."""


class NotMedia(MediaError):
    """No reader knows this file."""


class Unreadable(MediaError):
    """The right kind of file, but damaged, empty or incomplete."""


class MissingPackage(Unreadable):
    """Readable once an optional package is installed."""


class TooLarge(Unreadable):
    """Readable once its user allows more pixels."""


class ModelError(XsearchError):
    """Weights are missing, damaged or of another shape."""


class ModelMismatch(ModelError):
    """A query and a collection were embedded by different models."""

    def __init__(self, *, stored: str, given: str, choice: str | None = None) -> None:
        """`choice`: the `--model` value that names the stored one, where it is known."""
        super().__init__(
            f"collection was embedded with {stored!r}, this run uses {given!r}; "
            f"say --model {choice or 'FOLDER with the folder of that model'}, or ingest into a new collection"
        )


class StoreError(XsearchError):
    """A collection cannot be read or written."""


class NoCollection(StoreError):
    """There is no collection at this path."""


class Damaged(StoreError):
    """A file of a collection is not what was written."""

    def __init__(self, collection: Path, name: str, problem: object) -> None:
        """`name` is the path of the file inside the collection."""
        super().__init__(
            f"damaged file {collection / name}: {problem}; "
            f"run `xsearch verify --repair --collection {collection}`"
        )
        self.name = name
        self.problem = str(problem)


class Locked(StoreError):
    """Another process is writing to the collection."""
