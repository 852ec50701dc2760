"""Everything that xsearch raises on purpose.

    XsearchError
    ├── UsageError            the request itself is wrong (exit code 2)
    │   ├── EmptyQuery        the parts of a query cancel out, or there are none
    │   └── BadFilter         `where` is not one read-only expression over the items
    ├── MediaError            a file cannot become samples
    │   ├── NotMedia          no reader knows this file
    │   ├── NotFetched        a remote file did not arrive
    │   ├── NotEmbedded       the model fails for one of its samples
    │   └── Unreadable        the right kind, but damaged, empty or incomplete
    │       ├── MissingPackage    readable once an optional package is installed
    │       └── TooLarge          readable once its user allows more pixels
    ├── ModelError            weights are missing, damaged or of another shape
    │   └── ModelMismatch     query and collection come from different models
    └── StoreError            a collection cannot be read or written
        ├── NoCollection      nothing there
        ├── Damaged           a file is not what was written
        └── Locked            somebody else is writing

A message says what, where, what was given, and what to do. A MediaError also carries a `Reason`, by which
ingest decides whether to try the file again.
"""

from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

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
    "NotEmbedded",
    "NotFetched",
    "NotMedia",
    "Reason",
    "StoreError",
    "TooLarge",
    "Unreadable",
    "UsageError",
    "XsearchError",
    "optional_module",
]


class XsearchError(Exception):
    """The root: catch this to catch all of ours."""


class UsageError(XsearchError):
    """The request itself is wrong."""


class EmptyQuery(UsageError):
    """The parts of a query cancel out, or there are none."""


class BadFilter(UsageError):
    """A filter is not one read-only expression over the items."""


class Reason(StrEnum):
    """Why a file gave no items, as a collection stores it with the skipped file.

    >>> Reason("TooLarge"), Reason("RuntimeError")  # collections of earlier releases name any exception
    (<Reason.TOO_LARGE: 'TooLarge'>, <Reason.NOT_EMBEDDED: 'NotEmbedded'>)
    """

    NOT_MEDIA = "NotMedia"
    UNREADABLE = "Unreadable"
    MISSING_PACKAGE = "MissingPackage"
    TOO_LARGE = "TooLarge"
    NOT_FETCHED = "OSError"
    NOT_EMBEDDED = "NotEmbedded"
    SIDECAR = "UsageError"  # the skipped file is a sidecar, its medium is an item

    @classmethod
    def _missing_(cls, value: object) -> "Reason":
        return cls.NOT_EMBEDDED  # what models raise was stored by its class

    @property
    def is_passing(self) -> bool:
        """Whether the same bytes may give items the next time."""
        return self in (Reason.MISSING_PACKAGE, Reason.TOO_LARGE, Reason.NOT_FETCHED)


class MediaError(XsearchError):
    """A file cannot become samples."""

    reason: ClassVar[Reason] = Reason.UNREADABLE


class NotMedia(MediaError):
    """No reader knows this file."""

    reason = Reason.NOT_MEDIA


class NotFetched(MediaError):
    """A remote file did not arrive."""

    reason = Reason.NOT_FETCHED


class NotEmbedded(MediaError):
    """The model fails for one of the file's samples."""

    reason = Reason.NOT_EMBEDDED


class Unreadable(MediaError):
    """The right kind of file, but damaged, empty or incomplete."""


class MissingPackage(Unreadable):
    """Readable once an optional package is installed."""

    reason = Reason.MISSING_PACKAGE


class TooLarge(Unreadable):
    """Readable once its user allows more pixels."""

    reason = Reason.TOO_LARGE


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


def optional_module(name: str, extra: str) -> Any:
    """Import a module of an optional package. Raises UsageError naming the extra that installs it."""
    try:
        return import_module(name)
    except ImportError:
        package = name.partition(".")[0]
        raise UsageError(f"{package} is not installed: pip install 'xsearch[{extra}]'") from None
