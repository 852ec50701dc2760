"""Faults that are not a file's: lack of memory, of access, errors of a disk or network.

Libraries wrap such exceptions in their own, or report damage; this is the one place that tells them apart.
"""

from __future__ import annotations

import errno
import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

from xsearch.errors import MissingPackage, NotMedia, TooLarge, Transient, Unreadable
from xsearch.system.memory import is_short

__all__ = [
    "ForC",
    "Watched",
    "lacks_memory",
    "passing",
    "reading",
    "unavailable",
    "unless_passing",
    "watched",
]

MEMORY = "not enough memory; close other programs"
_MEMORY = re.compile(
    r"(out of|not enough|insufficient|unsufficient) memory|memory (allocation|exhausted)|"
    r"(can ?not|can't|could not|failed to|unable to) (allocate|map)|[bm]ad.?alloc|malloc|alloc_failed|"
    r"failed to map segment|can't start new thread|errno 12\b|error -4\b",
    re.IGNORECASE,
)
BUFFER = 1 << 16  # bytes
_OFFSETS = {errno.EBADF, errno.EFBIG, errno.EINVAL, errno.EOVERFLOW, errno.ESPIPE}  # of damaged files
_NAMES = {errno.ELOOP, errno.ENAMETOOLONG}
_HINTS = {
    errno.EACCES: "check its permissions",
    errno.EPERM: "check its permissions",
    errno.ENOENT: "it was moved or deleted",
    errno.EMFILE: "allow more open files (ulimit -n)",
    errno.ENFILE: "close other programs",
    errno.EINVAL: "replace it by a file",  # a pipe, or such
    errno.ELOOP: "it is a link that leads to itself",
    errno.ENAMETOOLONG: "shorten its name",
}


def passing(error: BaseException) -> str | None:
    """Return what else than the file is to blame for an exception, and what to do; None if nothing is.

    An exception is judged with those that it was raised from. Where memory is short it is to blame for all:
    decoders report failed allocations as damage.
    """
    is_optional = isinstance(error, MissingPackage)
    each: BaseException | None = error
    while each is not None:
        if isinstance(each, MemoryError) or _MEMORY.search(getattr(each, "strerror", None) or str(each)):
            return MEMORY
        if isinstance(each, OSError) and each.errno:
            if type(each).__module__ != "builtins":  # of FFmpeg, which uses the numbers for damage too
                if each.errno in (errno.EAGAIN, errno.ENOMEM):
                    return MEMORY
            elif each.errno not in _OFFSETS | _NAMES:
                return unavailable(each)
        if isinstance(each, ImportError) and not is_optional:
            return f"{each}; repair the installation"
        each = each.__cause__ or each.__context__
    return MEMORY if is_short() else None


def lacks_memory(error: BaseException) -> bool:
    """Whether lack of memory is to blame for an exception."""
    return passing(error) == MEMORY


def unavailable(error: OSError) -> str:
    """Return what the system says of a file or folder, and what to do."""
    if error.errno in (errno.EAGAIN, errno.ENOMEM):
        return MEMORY
    verb = "read" if error.filename is None else "opened"
    hint = _HINTS.get(error.errno or 0, "check its disk or network")
    return f"cannot be {verb}: {error.strerror or error}; {hint}"


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn the exceptions inside the block that are not the fault of a file into Transient."""
    try:
        yield
    except (NotMedia, TooLarge, Transient):
        raise
    except Exception as error:
        if problem := passing(error):
            if isinstance(error, FileNotFoundError) and path.is_symlink():
                problem = f"cannot be opened: {error.strerror}; it is a link to a file that is gone"
            raise Transient(f"{path}: {problem}") from error
        if isinstance(error, OSError) and error.filename is not None:  # not one of Pillow's
            raise Unreadable(f"{path}: {unavailable(error)}") from error
        raise


@contextmanager
def unless_passing(*kinds: type[Exception]) -> Iterator[None]:
    """Suppress exceptions of these classes, as `contextlib.suppress` does, but not those that are passing."""
    try:
        yield
    except kinds as error:
        if passing(error):
            raise


class Watched(io.BufferedReader):
    """A file for libraries that take an error of the disk for damage, or for the end of the file.

    It is raised once, and what follows is the end; `check` raises it again.
    """

    def __init__(self, file: IO[bytes], *, is_quiet: bool = False) -> None:
        self._recorded = _Recorded(file, is_quiet)
        super().__init__(self._recorded, BUFFER)

    def check(self) -> None:
        """Raise the error of the disk, if there was one."""
        if self._recorded.error:
            raise self._recorded.error


class ForC(Watched):
    """A file for libraries in C: a seek that damage asks for is no exception, but returns -1.

    is_quiet: an error of the disk is no exception either, for callbacks that can raise none.
    """

    def seek(self, offset: int, whence: int = 0, /) -> int:
        try:
            return super().seek(offset, whence)
        except (OSError, ValueError):
            return -1


class _Recorded(io.RawIOBase):
    """What is below the buffer: keeps the first error of the disk."""

    mode = "rb"

    def __init__(self, file: IO[bytes], is_quiet: bool) -> None:
        self._file, self._is_quiet, self.name = file, is_quiet, getattr(file, "name", "")
        self.error: OSError | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self.error:
            return 0
        try:
            data = self._file.read(len(buffer))
        except OSError as error:
            self.error = error
            if self._is_quiet:
                return 0
            raise
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


File = TypeVar("File", bound=Watched)


@contextmanager
def watched(path: Path, kind: Callable[[IO[bytes]], File]) -> Iterator[File]:
    """Open a file; its error of the disk is raised behind the block too, in the place of what came of it.

    kind: of the file, a class that is `Watched`.
    """
    with path.open("rb") as opened, kind(opened) as file:
        try:
            yield file
        except Exception:
            file.check()
            raise
        file.check()
