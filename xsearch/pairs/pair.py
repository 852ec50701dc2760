"""One pair, and the decoding of its two sides."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

import numpy as np

from xsearch import decoders, media
from xsearch.errors import MediaError, Unreadable
from xsearch.media import imu
from xsearch.system import scratch
from xsearch.types import Modality, Sample

__all__ = ["NOT_NUMBERS", "Pair", "Source", "to_number"]

CAMERA = ("focal_px", "baseline_m", "rotate_bits", "unit_m")
NOT_NUMBERS = "numbers: only an IMU recording may be an array, not {}"

Source = Path | bytes | str | tuple[str, ...] | np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """A picture and its partner, not decoded."""

    image: Path | bytes | None
    # str: a literal text; tuple: texts that are all right; array: IMU, float32 [T, 6], m/s^2 and rad/s
    other: Source
    modality: Modality  # of `other`
    weight: float = 1.0
    split: str = "train"
    label: str | None = None
    plus: Source | None = None  # composition: picture + plus -> `other`
    plus_modality: Modality | None = None
    extra: dict[str, Any] = field(default_factory=dict)  # the other columns

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts of `other`: none if it is of another modality."""
        match self.other:
            case str(text):
                return (text,)
            case tuple(texts):
                return texts
        return ()

    def picture(self) -> Sample:
        """The decoded picture. Raises MediaError if there is none, or it cannot be decoded."""
        if self.image is None:
            raise Unreadable("this pair has no picture")
        return _decode(self.image, Modality.IMAGE, {})

    def partner(self) -> Sample:
        """The decoded partner; of a long file the first window, of several texts the first. MediaError."""
        return _decode(self.other, self.modality, self.extra)

    def addend(self) -> Sample:
        """The decoded plus. Raises MediaError if there is none, or it cannot be decoded."""
        if self.plus is None or self.plus_modality is None:
            raise Unreadable("this pair has no plus")
        return _decode(self.plus, self.plus_modality, self.extra)


def _decode(source: Source, modality: Modality, extra: dict[str, Any]) -> Sample:
    """The first sample of a source."""
    if isinstance(source, tuple):
        source = source[0]
    if isinstance(source, str):
        return Sample(Modality.TEXT, source, text=source)
    numbers = _numbers(source) if modality is Modality.IMU else None
    if numbers is not None:
        return _recording(numbers, to_number(extra.get("rate_hz")))
    if isinstance(source, np.ndarray):
        raise Unreadable(NOT_NUMBERS.format(modality))
    camera = {name: extra[name] for name in CAMERA if extra.get(name) is not None}
    with _as_file(source, camera if modality is Modality.DEPTH else {}) as path:
        try:
            if parent_process() is not None:  # a worker of a data loader
                return _first(path, modality)
            return decoders.shared().call(_first, path, modality)
        except MediaError as error:
            name = source if isinstance(source, Path) else f"{modality} of {len(source):,} bytes"
            raise type(error)(str(error).replace(str(path), str(name))) from None


def _first(path: Path, modality: Modality) -> Sample:
    """The first sample of a file, taken as this kind."""
    return next(media.read(media.identify(path, kinds=[(modality, "*")])))


@contextmanager
def _as_file(source: Path | bytes, camera: dict[str, float]) -> Iterator[Path]:
    """Yield a file for the readers of `media`, with `camera.json` beside it if `camera` is not empty."""
    if camera:
        with scratch.folder() as folder:
            path = Path(folder, source.name if isinstance(source, Path) else "bytes")
            if isinstance(source, Path):
                path.symlink_to(source.absolute())
            else:
                path.write_bytes(source)
            path.with_name("camera.json").write_text(json.dumps(camera))
            yield path
    elif isinstance(source, Path):
        yield source
    else:
        with scratch.file(source) as path:
            yield path


def _numbers(source: Source) -> np.ndarray | None:
    """The array of an array or a .npy file; None for other sources."""
    if isinstance(source, np.ndarray):
        return source
    try:
        if isinstance(source, Path) and source.suffix == ".npy":
            return np.load(source, allow_pickle=False)
        if isinstance(source, bytes) and source.startswith(b"\x93NUMPY"):
            return np.load(io.BytesIO(source), allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise Unreadable(f"cannot be read as .npy: {error}") from None
    return None


def _recording(numbers: np.ndarray, rate_hz: float) -> Sample:
    if numbers.ndim != 2 or numbers.shape[1] != 6 or not len(numbers) or not np.isfinite(numbers).all():
        raise Unreadable(f"an IMU recording must be finite [T][6], got {numbers.dtype} {numbers.shape}")
    if not 0 < rate_hz < math.inf:
        raise Unreadable("an IMU recording as numbers needs a column rate_hz above 0")
    window = numbers[: round(imu.WINDOW_S * rate_hz)].T.astype(np.float32)  # [6, T]
    return Sample(
        Modality.IMU,
        window,
        start_s=0.0,
        end_s=window.shape[1] / rate_hz,
        duration_s=len(numbers) / rate_hz,
        rate_hz=rate_hz,
    )


def to_number(value: object) -> float:
    """`value` as a float; NaN if it is not a number."""
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return math.nan
