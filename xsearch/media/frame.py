"""Decoded video frames -> RGB as on display: upright, not mirrored, with square pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Shown", "pixel_shape"]

MAX_RATIO = 8.0  # of the sides of a pixel; more is a damaged header, anamorphic film has 2


class Shown(NamedTuple):
    """A frame and when it is on display, from the start of the file. ratio: width of its pixels / height."""

    time_s: float
    frame: Any
    ratio: float = 1.0

    @property
    def size(self) -> tuple[int, int]:
        """Width and height on display, pixels."""
        size = max(1, round(self.frame.width * self.ratio)), self.frame.height
        return size[::-1] if _matrix(self.frame)[0, 0] == 0 else size

    def pixels(self, width: int, height: int) -> np.ndarray:
        """Return uint8 [height, width, 3], the centre of the frame if its aspect ratio is another one."""
        from av import VideoFrame

        frame, matrix = self.frame, _matrix(self.frame)
        if matrix[0, 0] == 0:
            width, height = height, width
        across, down = width / (frame.width * self.ratio), height / frame.height
        cover = max(across, down)
        if abs(frame.width * self.ratio * cover - width) > 1 or abs(frame.height * cover - height) > 1:
            array = frame.to_ndarray(format="rgb24")
            left = round(frame.width * (1 - across / cover) / 2)
            top = round(frame.height * (1 - down / cover) / 2)
            array = array[top : frame.height - top, left : frame.width - left]
            frame = VideoFrame.from_ndarray(np.ascontiguousarray(array), format="rgb24")
        array = frame.reformat(width, height, "rgb24", interpolation="AREA").to_ndarray()
        if matrix[0, 0] == 0:
            array = array.swapaxes(0, 1)
        return array[:: matrix[:, 1].sum(), :: matrix[:, 0].sum()]


def pixel_shape(stream: Any) -> Callable[[], float]:
    """Return a function that returns the `ratio` of the frame decoded last.

    Broadcasts change it in mid-stream. A container that contradicts the codec prevails.
    """
    stated, coded = stream.sample_aspect_ratio, stream.codec_context.sample_aspect_ratio
    source = stream.codec_context if stated == coded else stream

    def ratio() -> float:
        value = float(source.sample_aspect_ratio or 1)
        return value if 1 / MAX_RATIO <= value <= MAX_RATIO else 1.0

    return ratio


def _matrix(frame: Any) -> np.ndarray:
    """Return the display matrix of a frame, rounded to quarter turns and mirroring: [2, 2] of -1, 0 and 1.

    A point (x, y) of the picture, a row, is displayed at (x, y) @ matrix (ISO 14496-12, 6.2.2).
    """
    try:
        stated = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV 18.1 does not know all types of side data
        stated = None
    matrix = np.eye(2) if stated is None else np.frombuffer(stated, np.int32).reshape(3, 3)[:2, :2]
    signs = np.where(matrix < 0, -1, 1)
    is_turned = np.abs(matrix).trace() < np.abs(matrix[::-1]).trace()
    return np.asarray(signs * (np.eye(2, dtype=int)[::-1] if is_turned else np.eye(2, dtype=int)))
