"""The standard streams, which may be closed, full, or a pipe that nobody reads."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

__all__ = ["OUTPUT", "guarded"]

OUTPUT = "standard output"  # the `filename` of errors of writing to it


@contextmanager
def guarded() -> Iterator[None]:
    """Exit with 1 if the output cannot be written; what cannot be written to stderr is lost silently."""
    _open_closed()
    sys.stdout, sys.stderr = _through(_Output, sys.stdout), _through(_Lossy, sys.stderr)
    code: object = 0
    try:
        yield
    except SystemExit as exit:
        code = exit.code or 0
        raise
    finally:
        try:
            sys.stdout.flush()
        except OSError as problem:
            with open(os.devnull, "w") as nothing, suppress(OSError):  # noqa: PTH123
                os.dup2(nothing.fileno(), 1)  # the interpreter flushes it again
            if not code:
                if problem.errno != errno.EPIPE:
                    sys.stderr.write(f"error: cannot write the output: {problem.strerror}\n")
                sys.exit(1)


def _open_closed() -> None:
    """Put /dev/null in the place of closed standard streams, lest a file that is opened later takes it.

    Writing to stdout then fails, as it should.
    """
    for descriptor, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR if name == "stderr" else os.O_RDONLY)  # gets the lowest free number
        if getattr(sys, name) is None:
            setattr(sys, name, open(descriptor, mode, closefd=False))  # noqa: SIM115


def _through(kind: type[io.FileIO], stream: TextIO) -> TextIO:
    """The same stream, written through a raw file of this kind; a terminal is returned as it is."""
    if stream.isatty():
        return stream
    raw = io.BufferedWriter(kind(stream.fileno(), "w", closefd=False))
    return io.TextIOWrapper(raw, stream.encoding, stream.errors, line_buffering=stream is sys.stderr)


class _Output(io.FileIO):
    def write(self, data: object, /) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError as problem:
            problem.filename = OUTPUT
            raise


class _Lossy(io.FileIO):
    def write(self, data: object, /) -> int:
        with suppress(OSError):
            return super().write(data)  # type: ignore[arg-type]
        return memoryview(data).nbytes  # type: ignore[arg-type]
