"""The exception hierarchy.

    XsearchError
    ├── UsageError            invalid request (exit code 2)
    │   ├── EmptyQuery        a query without parts, or whose parts cancel out
    │   ├── UnknownWords      a text of which the model has learned no word (exit code 1)
    │   └── BadFilter         `where` is not a read-only expression over the items
    ├── MediaError            a file cannot be decoded or embedded
    │   ├── NotMedia          unsupported file type
    │   ├── NotEmbedded       the model failed for one of its samples
    │   ├── Transient         not the file's fault: memory, a killed decoder, a time-out, I/O, access
    │   │   └── NotFetched        a remote file could not be fetched
    │   └── Unreadable        supported type, but damaged, empty or incomplete
    │       ├── TooLarge          readable with a higher limit
    │       └── Unsupported       sound, but of a variant, codec or layout that cannot be read
    │           └── MissingPackage    readable once an optional package is installed
    ├── ModelError            weights are missing, damaged or of another shape
    │   └── ModelMismatch     query and collection use different models
    ├── StoreError            a collection cannot be read or written
    │   ├── NoCollection      no collection at this path
    │   ├── Damaged           a file fails its integrity check
    │   └── Locked            another process is writing
    ├── Unavailable           a part of a collection does not answer at present
    └── ServerError           a server cannot be reached, refuses, or fails

A message states the problem, its place, the offending value and the next step. A MediaError also carries a
`Reason`, by which ingest decides whether to retry the file. Only a message about damage may advise to replace
the file.
"""

import re
from collections.abc import Sequence
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
    "ServerError",
    "SkipKind",
    "StoreError",
    "TooLarge",
    "Transient",
    "Unavailable",
    "UnknownWords",
    "Unreadable",
    "Unsupported",
    "UsageError",
    "XsearchError",
    "optional_module",
]


class XsearchError(Exception):
    """Base class of all xsearch exceptions. They can be pickled, whatever their constructors take."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Exception.__new__, (type(self), *self.args), self.__dict__


class UsageError(XsearchError):
    """Invalid request."""


class EmptyQuery(UsageError):
    """A query has no parts, or its parts cancel out."""


class UnknownWords(UsageError):
    """The model has learned none of the words of a query's text.

    text: the text. words: its content words, in order; none for a text of numbers or symbols. near: learned
    words that are spelled like them.
    """

    def __init__(self, text: str, *, words: Sequence[str], near: Sequence[str], model: str) -> None:
        shown = repr(text if len(text) <= 60 else f"{text[:57]}...")
        similar = f"; it knows {', '.join(map(repr, near))}" if near else ""
        super().__init__(
            f"the {model} model has learned no word of {shown}{similar}; "
            "--anyway (anyway=True) searches all the same"
        )
        self.text, self.words, self.near, self.model = text, tuple(words), tuple(near), model


class BadFilter(UsageError):
    """A filter is not a read-only expression over the items."""


class SkipKind(StrEnum):
    """What is wrong where a file should have had items."""

    DAMAGED = "damaged"  # the bytes, or those of its sidecar
    UNSUPPORTED = "unsupported"  # sound, but nothing here reads it
    TOO_LARGE = "too large"  # for a limit that can be set
    PASSING = "passing"  # not the file's fault: the next ingest tries it again


class Reason(StrEnum):
    """Why a file was skipped, as stored in the collection.

    >>> Reason("TooLarge"), Reason("RuntimeError")  # earlier releases stored any exception class
    (<Reason.TOO_LARGE: 'TooLarge'>, <Reason.NOT_EMBEDDED: 'NotEmbedded'>)
    """

    NOT_MEDIA = "NotMedia"
    UNREADABLE = "Unreadable"
    UNSUPPORTED = "Unsupported"
    TRANSIENT = "Transient"
    MISSING_PACKAGE = "MissingPackage"
    TOO_LARGE = "TooLarge"
    NOT_FETCHED = "OSError"
    NOT_EMBEDDED = "NotEmbedded"
    SIDECAR = "UsageError"  # an invalid sidecar of a file that has items
    LARGE_SIDECAR = "LargeSidecar"  # one beyond a limit
    EXCLUDED = "Excluded"  # by a glob of the user or an ignore file
    REMOVED = "Removed"  # for good, by the user

    @classmethod
    def _missing_(cls, value: object) -> "Reason":
        return cls.NOT_EMBEDDED  # exceptions of models were stored by class name

    @classmethod
    def recorded(cls, error: str, message: str) -> "Reason":
        """Return the reason of a stored record. Earlier releases recorded passing troubles as damage.

        >>> Reason.recorded("Unreadable", "decoder crashed (SIGKILL); file may be damaged")
        <Reason.TRANSIENT: 'Transient'>
        """
        reason = cls(error)
        return cls.TRANSIENT if reason in _MIXED and _PASSING.match(message) else reason

    @property
    def kind(self) -> SkipKind | None:
        """What is wrong; None of a file that should have no items."""
        return _KINDS.get(self)

    @property
    def is_retried(self) -> bool:
        """Whether a retry may succeed with the same bytes."""
        return self.is_passing or self in (Reason.MISSING_PACKAGE, Reason.TOO_LARGE)

    @property
    def is_passing(self) -> bool:
        """Whether the fault was not the file's: its stored items stay, and the next ingest retries it."""
        return self.kind is SkipKind.PASSING

    @property
    def is_sidecar(self) -> bool:
        """Whether the fault is that of a sidecar, which is no medium itself."""
        return self in (Reason.SIDECAR, Reason.LARGE_SIDECAR)

    @property
    def is_failure(self) -> bool:
        """Whether the file should have had items."""
        return self.kind is not None


_KINDS = {
    Reason.UNREADABLE: SkipKind.DAMAGED,
    Reason.SIDECAR: SkipKind.DAMAGED,
    Reason.LARGE_SIDECAR: SkipKind.TOO_LARGE,
    Reason.UNSUPPORTED: SkipKind.UNSUPPORTED,
    Reason.MISSING_PACKAGE: SkipKind.UNSUPPORTED,
    Reason.NOT_EMBEDDED: SkipKind.UNSUPPORTED,
    Reason.TOO_LARGE: SkipKind.TOO_LARGE,
    Reason.TRANSIENT: SkipKind.PASSING,
    Reason.NOT_FETCHED: SkipKind.PASSING,
}
# Messages of releases before `Transient`, which no later one records under these reasons
_MIXED = (Reason.UNREADABLE, Reason.NOT_EMBEDDED)
_PASSING = re.compile(
    r"out of memory|decoder crashed \(|decoding timed out|cannot be opened: |modified or deleted while|"
    r"(unexpected )?(MemoryError|OutOfMemoryError)|unexpected .*(allocate|out of memory)|"
    r"cannot be decoded as .*: damaged, or an|(truncated|damaged) (image|table); replace the file|"
    r"cannot be decoded \(|neither video nor audio stream|no decodable frame; replace"
)


class MediaError(XsearchError):
    """A file cannot be decoded or embedded."""

    reason: ClassVar[Reason] = Reason.UNREADABLE


class NotMedia(MediaError):
    """Unsupported file type."""

    reason = Reason.NOT_MEDIA


class NotEmbedded(MediaError):
    """The model failed for one of the file's samples."""

    reason = Reason.NOT_EMBEDDED


class Transient(MediaError):
    """Out of memory, a killed decoder, a time-out, an I/O error, no permission: not the file's fault.

    The message says what the user can do, and not that the next ingest retries: queries raise it too.
    """

    reason = Reason.TRANSIENT


class NotFetched(Transient):
    """A remote file could not be fetched."""

    reason = Reason.NOT_FETCHED


class Unreadable(MediaError):
    """Supported type, but damaged, empty or incomplete."""


class TooLarge(Unreadable):
    """Readable with a higher limit; the message states the limit and the name of its setting."""

    reason = Reason.TOO_LARGE


class Unsupported(Unreadable):
    """Sound, but of a variant, codec or layout that cannot be read."""

    reason = Reason.UNSUPPORTED


class MissingPackage(Unsupported):
    """Readable once an optional package is installed."""

    reason = Reason.MISSING_PACKAGE


class ModelError(XsearchError):
    """Weights are missing, damaged or of another shape."""


class ModelMismatch(ModelError):
    """A query and a collection use different models."""

    def __init__(self, *, stored: str, given: str, choice: str | None = None) -> None:
        """choice: the `--model` value of the stored model, if known."""
        super().__init__(
            f"collection was embedded with {stored!r}, this run uses {given!r}; "
            f"pass --model {choice or 'FOLDER with the folder of that model'} or ingest into a new collection"
        )


class StoreError(XsearchError):
    """A collection cannot be read or written."""


class NoCollection(StoreError):
    """There is no collection at this path."""


class Damaged(StoreError):
    """A file of a collection fails its integrity check."""

    def __init__(self, collection: Path | str, name: str, problem: object, remedy: str | None = None) -> None:
        """name: path of the file relative to the collection. remedy: by default, a repair."""
        remedy = remedy or f"run `xsearch verify --repair --collection {collection}`"
        super().__init__(f"damaged file {collection}/{name}: {problem}; {remedy}")
        self.name = name
        self.problem = str(problem)


class Locked(StoreError):
    """Another process is writing to the collection."""


class Unavailable(XsearchError):
    """A part of a collection, on another machine, does not answer at present."""


class ServerError(XsearchError):
    """A server of xsearch cannot be reached, refuses the request, or fails."""


def optional_module(name: str, extra: str) -> Any:
    """Import a module of an optional package. Raises UsageError naming the extra to install."""
    try:
        return import_module(name)
    except ImportError:
        package = name.partition(".")[0]
        raise UsageError(f"{package} is not installed: pip install 'xsearch[{extra}]'") from None
