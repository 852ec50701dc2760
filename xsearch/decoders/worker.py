"""The child's side of a worker process: it does one job at a time, confined."""

from __future__ import annotations

import dataclasses
import os
import pickle
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from typing import Any

from xsearch import media
from xsearch.decoders.process import LENGTH
from xsearch.decoders.wire import End, OutOfMemory, Ready, encode
from xsearch.errors import MediaError, NotMedia, TooLarge, Transient, Unreadable
from xsearch.system.confine import forbid_programs
from xsearch.system.crop import centre_square
from xsearch.system.memory import keep_memory
from xsearch.types import MediaFile, Modality, Sample

__all__ = ["begins", "once", "samples", "serve"]


def serve(descriptor: int, *, is_background: bool) -> None:
    """Do the jobs received through a socket until it is closed, or until memory runs out."""
    keep_memory()
    if find_spec("_soundfile_data") is None:
        import soundfile  # noqa: F401  it runs ldconfig to find the library of the system
    forbid_programs()
    if is_background:
        os.nice(10)  # embedding has priority, so that samples do not pile up
    with socket.socket(fileno=descriptor) as parent, suppress(EOFError, ConnectionError):
        _send(parent, Ready())
        while True:
            function, args = pickle.loads(_received(parent, LENGTH.unpack(_received(parent, LENGTH.size))[0]))
            try:
                for value in function(*args):
                    _send(parent, value)
                _send(parent, End())
            except ConnectionError:
                raise
            except Exception as problem:  # decoders raise undocumented exceptions on damaged input
                if not isinstance(problem, NotMedia | TooLarge) and media.lacks_memory(problem):
                    _send(parent, OutOfMemory())
                    return
                _send(parent, problem if isinstance(problem, MediaError) else _known(problem))


def samples(file: MediaFile, side: int | None, with_facts: bool) -> Iterator[Sample]:
    """Yield the samples of a file, at least one. side, with_facts: see `Decoders`."""
    empty = True
    for sample in media.read(file, with_facts=with_facts):
        empty = False
        if side and sample.modality is Modality.IMAGE:
            sample = dataclasses.replace(sample, data=centre_square(sample.data, side))
        yield sample
    if empty:
        raise Unreadable(f"{file.path}: no samples; remove or replace the file")


def begins(file: MediaFile) -> bool:
    """Decode the first sample of a file; return True."""
    next(samples(file, None, False))
    return True


def once(function: Callable[..., Any], *args: Any) -> Iterator[Any]:
    """Yield what a function returns."""
    yield function(*args)


def _known(problem: Exception) -> MediaError:
    if passing := media.passing(problem):
        return Transient(passing)
    return Unreadable(f"{type(problem).__name__}: {problem}")


def _send(parent: socket.socket, value: Any) -> None:
    beginning, body = encode(value)
    parent.sendall(beginning)
    parent.sendall(body)


def _received(parent: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        if not (more := parent.recv(size - len(received))):
            raise EOFError
        received += more
    return received
