"""Messages of workers: a header in JSON and the bytes of an array, a picture or a text.

    header length, body length (little-endian uint32, uint64), header, body

A worker may be in the hands of the file that it decodes, so what it sends is data only, and is checked.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from xsearch import errors
from xsearch.errors import MediaError
from xsearch.types import MediaFile, Modality, Sample

__all__ = [
    "PREFIX",
    "End",
    "Garbage",
    "OutOfMemory",
    "Ready",
    "decode",
    "encode",
    "plain",
    "sizes",
    "with_dates",
]

PREFIX = struct.Struct("<IQ")
MAX_HEADER = 64 << 20
_SCALARS = [each.name for each in fields(Sample) if each.name not in ("modality", "data", "times_s", "about")]
_ERRORS = {each.__name__: each for each in vars(errors).values() if isinstance(each, type)}
_ARRAYS = {"uint8", "float32", "float64"}
_FORMS = {Modality.TEXT: "text", Modality.IMAGE: "RGB"}  # of the data, if it is no array


class Garbage(Exception):
    """A worker sent what no worker sends."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The worker has started."""


@dataclass(frozen=True, slots=True)
class End:
    """The request is done."""


@dataclass(frozen=True, slots=True)
class OutOfMemory:
    """The request failed for lack of memory; the worker ends."""


def encode(value: Any) -> tuple[bytes, Any]:
    """Return the beginning of a message, and its body: a buffer.

    value: a Sample, a MediaFile, a MediaError, a sign as above, or what JSON can hold; datetimes may be among
    the values of objects, and bytes at the beginning of a tuple.
    """
    kind, content, body = type(value).__name__, value, b""
    match value:
        case Sample():
            content = {name: getattr(value, name) for name in _SCALARS}
            form, body = _buffer(value.data)
            content |= {"modality": value.modality, "times_s": value.times_s, "form": form}
            content["about"] = dict(value.about)
        case MediaFile():
            content = asdict(value)
        case MediaError():
            kind, content = "error", [type(value).__name__, str(value)]
        case Ready() | End() | OutOfMemory():
            content = None
        case (bytes() as body, *rest):
            kind, content = "bytes", rest
        case _:
            kind = "value"
    header = json.dumps([kind, content], default=plain).encode()
    return PREFIX.pack(len(header), memoryview(body).nbytes) + header, body


def sizes(prefix: bytes, limit: int) -> tuple[int, int]:
    """Return the lengths of header and body. Raises Garbage if they are over MAX_HEADER and `limit`."""
    header, body = PREFIX.unpack(prefix)
    if header > MAX_HEADER or body > limit:
        raise Garbage
    return header, body


def decode(header: memoryview, body: memoryview) -> Any:
    """Return the value of a message. Raises Garbage if it is none."""
    try:
        kind, content = json.loads(bytes(header), object_hook=with_dates)
        return _DECODERS[kind](content, body)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as problem:
        raise Garbage from problem


def _sample(content: dict[str, Any], body: memoryview) -> Sample:
    modality, form = Modality(content.pop("modality")), content.pop("form")
    times_s, about = tuple(content.pop("times_s")), content.pop("about")
    if not all(isinstance(content[name], str | int | float | None) for name in _SCALARS):
        raise ValueError(content)
    return Sample(modality, _data(modality, form, body), times_s=times_s, about=about, **content)


def _data(modality: Modality, form: list[Any], body: memoryview) -> Any:
    name, *shape = form
    if name not in ({_FORMS[modality]} if modality in _FORMS else _ARRAYS):
        raise ValueError(form)
    if name == "text":
        return bytes(body).decode(errors="surrogatepass")
    item = np.dtype(name).itemsize if name in _ARRAYS else 3
    if min(shape) < 0 or math.prod(shape) * item != body.nbytes:
        raise ValueError(form)
    if modality is Modality.IMAGE:
        from PIL import Image

        return Image.frombytes("RGB", (shape[0], shape[1]), body)
    return np.frombuffer(body, name).reshape(shape)


def _error(content: list[str], body: memoryview) -> MediaError:
    kind = _ERRORS[content[0]]
    if not issubclass(kind, MediaError):
        raise TypeError(kind)
    return kind(str(content[1]))


def _file(content: dict[str, Any], body: memoryview) -> MediaFile:
    paths = {name: content[name] and Path(content[name]) for name in ("path", "companion")}
    return MediaFile(**{**content, **paths, "modality": Modality(content["modality"])})


_DECODERS: dict[str, Callable[[Any, memoryview], Any]] = {
    "Sample": _sample,
    "MediaFile": _file,
    "error": _error,
    "bytes": lambda content, body: (bytes(body), *content),
    "value": lambda content, body: content,
    "Ready": lambda content, body: Ready(),
    "End": lambda content, body: End(),
    "OutOfMemory": lambda content, body: OutOfMemory(),
}


def _buffer(data: Any) -> tuple[list[Any], Any]:
    """Return what a sample's data is, and its bytes."""
    if isinstance(data, str):
        return ["text"], data.encode(errors="surrogatepass")
    if isinstance(data, np.ndarray):
        return [data.dtype.name, *data.shape], np.ascontiguousarray(data).data.cast("B")
    return [data.mode, *data.size], data.tobytes()


def plain(value: Any) -> Any:
    """Return what JSON can hold of a value."""
    if isinstance(value, datetime):
        return {"datetime": value.isoformat()}
    return value.item() if isinstance(value, np.generic) else str(value)


def with_dates(value: dict[str, Any]) -> Any:
    """Return a value of JSON, with a date in the place of what `plain` has made of it."""
    return datetime.fromisoformat(value["datetime"]) if value.keys() == {"datetime"} else value
