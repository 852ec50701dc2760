"""Pictures, drawings and sounds of items, kept on disk, and the numbers to draw them by."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Any
from uuid import uuid4

import numpy as np

from xsearch import preview
from xsearch.errors import UsageError
from xsearch.preview import Item, Piece, Preview
from xsearch.serve.contract import Form, Signal, Stop
from xsearch.serve.items import described
from xsearch.types import Hit, Modality

__all__ = ["SIZES", "Previews", "draw", "fitting", "key", "signal"]

LOG = logging.getLogger("xsearch")

SIZES = (128, 256, 400, 640, 1024, 2048)  # pixels: few, so that a cache has what is requested
VERSION = "1"  # of what is drawn
POINTS = 1000  # of a series
AXES = tuple(f"{what}_{axis}" for what in ("accel", "gyro") for axis in "xyz")
RARELY = 0.8  # of the bound, to which the oldest previews are deleted


def fitting(size: int) -> int:
    """Return the least of SIZES that is not below `size`."""
    return next((each for each in SIZES if each >= size), SIZES[-1])


def draw(piece: Hit | Item, form: Form, size: int, at_s: float | None) -> Preview:
    """Return a preview. Raises MediaError, and UsageError for a form that the kind does not have."""
    kind = piece.modality
    if form == "text":
        if kind is not Modality.TEXT:
            raise UsageError(f"form: a {kind} has no text")
        return preview.text(piece)
    if form in ("sound", "spectrogram"):
        if kind not in (Modality.AUDIO, Modality.VIDEO):
            raise UsageError(f"form: a {kind} has no {form}")
        sound = preview.load(replace(piece, modality=Modality.AUDIO))
        return preview.sound(sound) if form == "sound" else preview.spectrogram(sound)
    if isinstance(piece, Hit) and (shown := described(piece)) is not None:
        piece = replace(piece, modality=shown, text=None)
    return preview.thumbnail(piece, size, at_s=at_s)


def key(piece: Hit | Item, form: Form, size: int, at_s: float | None, *state: object) -> str:
    """Return what a preview is filed under: it changes with all that it depends on."""
    window = piece.modality, piece.path, piece.start_s, piece.end_s
    of = (VERSION, *window, piece.text, form, size, at_s, *state)
    return sha256(repr(of).encode(errors="surrogatepass")).hexdigest()[:32]


class Previews:
    """Previews on disk, of at most `most` bytes; the ones used longest ago are deleted.

    For any number of threads, and processes: those that share the folder each keep to the bound.
    """

    def __init__(self, folder: Path, most: int) -> None:
        self.folder, self._most = folder, most
        self._lock = Lock()
        self.bytes = sum(size for _, size, _ in self._files())
        self.hits = self.misses = 0

    def get(self, key: str) -> Preview | None:
        path = self.folder / key
        try:
            mime, _, data = path.read_bytes().partition(b"\n")
            os.utime(path)
        except OSError:
            self.misses += 1
            return None
        self.hits += 1
        return Preview(data, mime.decode())

    def put(self, key: str, drawn: Preview) -> None:
        """Keep a preview, if the disk has room."""
        part = self.folder / f"{key}.{uuid4().hex}.part"
        content = drawn.mime.encode() + b"\n" + drawn.data
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            part.write_bytes(content)
            part.replace(self.folder / key)
        except OSError as problem:
            LOG.warning("cannot keep a preview in %s: %s", self.folder, problem.strerror)
            with suppress(OSError):
                part.unlink(missing_ok=True)
            return
        with self._lock:
            self.bytes += len(content)
            if self.bytes > self._most:
                self._trim()

    def _trim(self) -> None:
        files = sorted(self._files())
        self.bytes = sum(size for _, size, _ in files)
        for _, size, path in files:
            if self.bytes <= RARELY * self._most:
                return
            with suppress(OSError):
                path.unlink(missing_ok=True)
                self.bytes -= size

    def _files(self) -> list[tuple[int, int, Path]]:
        """When each file was used last, its size and path."""
        files = []
        with suppress(OSError), os.scandir(self.folder) as entries:
            for entry in entries:
                with suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    files.append((status.st_mtime_ns, status.st_size, Path(entry.path)))
        return files


def signal(piece: Piece) -> Signal:
    """Return the numbers of a sound, a motion, a depth map or a thermal picture. Raises MediaError."""
    kind = piece.modality
    if kind not in (Modality.AUDIO, Modality.IMU, Modality.DEPTH, Modality.THERMAL):
        raise UsageError(f"a {kind} has no signal to draw; it has a preview")
    sample = preview.load(piece)
    window: dict[str, Any] = {"kind": kind, "start_s": sample.start_s, "end_s": sample.end_s}
    if kind is Modality.AUDIO:
        parts = np.array_split(np.abs(sample.data), min(POINTS, max(len(sample.data), 1)))
        return Signal(**window, unit={}, series={"peak": _numbers([part.max(initial=0) for part in parts])})
    if kind is Modality.IMU:
        steps = min(POINTS, sample.data.shape[1])
        at = np.linspace(0, sample.data.shape[1] - 1, steps)
        rows = np.arange(sample.data.shape[1])
        times_s = (sample.start_s or 0.0) + at / (sample.rate_hz or 200)
        series = {"time_s": _numbers(times_s)}
        series |= {
            name: _numbers(np.interp(at, rows, axis)) for name, axis in zip(AXES, sample.data, strict=True)
        }
        units = {name: "m/s²" if name.startswith("accel") else "rad/s" for name in AXES}
        return Signal(**window, unit=units, series=series)
    stops = preview.legend(sample)
    unit = {"legend": "m"} if kind is Modality.DEPTH else {}
    return Signal(**window, unit=unit, series={}, legend=[Stop(value=v, colour=c) for v, c in stops])


def _numbers(values: Sequence[float] | np.ndarray) -> list[float]:
    return [round(float(value), 4) for value in values]
