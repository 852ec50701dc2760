"""GoPro's motion telemetry in MP4: a track of GPMF payloads (github.com/gopro/gpmf-parser).

A payload is a tree of (key, type, size of a sample, samples, big-endian values padded to 4 bytes): devices
(DEVC), each with streams (STRM) of which the last entry has the samples and those before it their meaning.
DJI, Insta360 and Sony write other formats, which are not read.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from xsearch.media import container
from xsearch.media.imu.layouts import Series, unit_of

__all__ = ["is_in", "signals"]

STREAMS = {"accel": b"ACCL", "gyro": b"GYRO"}
TYPES = {b"b": "i1", b"B": "u1", b"s": "i2", b"S": "u2", b"l": "i4", b"L": "u4", b"j": "i8", b"J": "u8"} | {
    b"f": "f4",
    b"d": "f8",
}
# Axes in the order of the data, lower case if reversed, of cameras without ORIN; docs/README.md of the parser
ORDERS = {"fusion": "yXZ", "hero6": "YxZ", "hero7": "YxZ"}
ORDER = "ZXY"

Entry = tuple[bytes, bytes, int, bytes]  # key, type, size of a sample, values


def is_in(source: Any) -> bool:
    """Whether an open container may have such a track: one of unnamed binary data."""
    return any(stream.name == "bin_data" for stream in source.streams.data)


def signals(path: Path) -> dict[str, Series]:
    """Return seconds from the start of the video and xyz in m/s^2 or rad/s, by sensor."""
    parts: dict[str, list[tuple[float, float, float | None, np.ndarray]]] = {sensor: [] for sensor in STREAMS}
    for start_s, duration_s, payload in _payloads(path):
        for sensor, key in STREAMS.items():
            if (samples := _samples(payload, sensor, key)) is not None:
                parts[sensor].append((start_s, duration_s, *samples))
    return {sensor: _joined(of_sensor) for sensor, of_sensor in parts.items() if of_sensor}


def _payloads(path: Path) -> Iterator[tuple[float, float, bytes]]:
    """Yield start and duration in seconds and the bytes of each payload."""
    from av.stream import Discard

    with container.opened(path) as source:
        origin_s = container.start_s(source)
        tracks = [stream for stream in source.streams.data if stream.name == "bin_data"]
        for stream in source.streams:
            stream.discard = Discard.default if stream in tracks else Discard.all
        for packet in source.demux(tracks):
            payload = bytes(packet)
            if payload.startswith(b"DEVC") and packet.pts is not None:
                start_s = float(packet.pts * packet.time_base) - origin_s
                yield start_s, float((packet.duration or 0) * packet.time_base), payload


def _samples(payload: bytes, sensor: str, key: bytes) -> tuple[float | None, np.ndarray] | None:
    """Return the camera's time stamp in seconds, if any, and xyz [N, 3] of the first stream of a sensor."""
    for _, _, _, device in _entries(payload):
        name = ""
        for inner, _, _, stream in _entries(device):
            name = _text(stream) if inner == b"DVNM" else name
            about = {entry[0]: entry for entry in _entries(stream)} if inner == b"STRM" else {}
            if key in about and (values := _numbers(about[key])).size:
                return _stamp_s(about), _scaled(values.reshape(-1, 3), about, sensor, name)
    return None


def _scaled(values: np.ndarray, about: dict[bytes, Entry], sensor: str, device: str) -> np.ndarray:
    scale = _numbers(about[b"SCAL"]) if b"SCAL" in about else np.ones(1)
    unit = next((_text(about[key][3]) for key in (b"SIUN", b"UNIT") if key in about), "")
    values = values / scale.ravel() * (unit_of(unit, sensor) or 1.0)
    model = re.sub(r"\W", "", device.lower())
    known = next((order for name, order in ORDERS.items() if name in model), ORDER)
    order = _text(about[b"ORIN"][3]) if b"ORIN" in about else known
    signs = np.array([1.0 if axis.isupper() else -1.0 for axis in order])
    return (values * signs)[:, [order.upper().index(axis) for axis in "XYZ"]]


def _stamp_s(about: dict[bytes, Entry]) -> float | None:
    return float(_numbers(about[b"STMP"]).flat[0]) * 1e-6 if b"STMP" in about else None


def _joined(parts: list[tuple[float, float, float | None, np.ndarray]]) -> Series:
    """Join payloads: the samples of each are evenly spread until the next begins.

    They begin when the camera's time stamps say, counted from the first packet; without, with their packet.
    """
    starts_s = np.array([start_s for start_s, *_ in parts])
    counts = [len(xyz) for *_, xyz in parts]
    stamps_s = [stamp_s for _, _, stamp_s, _ in parts]
    if len(parts) > 1 and None not in stamps_s and (np.diff(np.array(stamps_s, np.float64)) > 0).all():
        starts_s = starts_s[0] + np.array(stamps_s, np.float64) - float(stamps_s[0] or 0)
    knots = np.cumsum([0, *counts])
    last_s = (starts_s[-1] - starts_s[0]) / knots[-2] * counts[-1] if len(parts) > 1 else parts[0][1]
    seconds = np.interp(np.arange(knots[-1]), knots, [*starts_s, starts_s[-1] + last_s])
    return seconds, np.concatenate([xyz for *_, xyz in parts])


def _entries(data: bytes) -> Iterator[Entry]:
    """Yield the entries of one level."""
    at = 0
    while at + 8 <= len(data):
        key, kind, size, count = struct.unpack_from(">4scBH", data, at)
        length = size * count
        if not key.strip(b"\0"):
            return  # padding
        yield key, kind, size, data[at + 8 : at + 8 + length]
        at += 8 + (length + 3) // 4 * 4


def _numbers(entry: Entry) -> np.ndarray:
    """Return the values of an entry, float64 [N, values of a sample]."""
    _, kind, size, data = entry
    dtype = np.dtype(">" + TYPES[kind])
    values = np.frombuffer(data, dtype, len(data) // dtype.itemsize).astype(np.float64)
    return values.reshape(-1, size // dtype.itemsize)


def _text(data: bytes) -> str:
    return data.rstrip(b"\0").decode("latin-1").strip()
