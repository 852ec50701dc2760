"""Decoded video frames -> RGB as on display: upright, not mirrored, with square pixels."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

__all__ = ["Screen", "Shown"]

MAX_RATIO = 8.0  # of the sides of a pixel; more is a damaged header, anamorphic film has 2
SQUARE = 0.02  # ratios nearer to 1 make up for sides that were rounded to even numbers; broadcast has 16/15


class Shown(NamedTuple):
    """A frame and how it is displayed.

    time_s: from the start of the file. ratio: width of its pixels / height. matrix: a point (x, y) of the
    frame is displayed at (x, y) @ matrix (ISO 14496-12, 6.2.2); [2, 2] of -1, 0 and 1: turns and mirroring.
    """

    time_s: float
    frame: Any
    ratio: float
    matrix: np.ndarray

    @property
    def is_turned(self) -> bool:
        return bool(self.matrix[0, 0] == 0)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height on display, pixels."""
        size = max(1, round(self.frame.width * self.ratio)), self.frame.height
        return size[::-1] if self.is_turned else size

    def pixels(self, width: int, height: int) -> np.ndarray:
        """Return uint8 [height, width, 3], the centre of the frame if its aspect ratio is another one."""
        from av import VideoFrame

        frame = self.frame
        if self.is_turned:
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
        if self.is_turned:
            array = array.swapaxes(0, 1)
        return array[:: self.matrix[:, 1].sum(), :: self.matrix[:, 0].sum()]


class Screen:
    """How the frames of a stream are displayed. Broadcasts change the shape of their pixels in mid-stream."""

    def __init__(self, stream: Any) -> None:
        is_coded = stream.sample_aspect_ratio == stream.codec_context.sample_aspect_ratio
        self._source = stream.codec_context if is_coded else stream  # a container that contradicts prevails
        self._rotation: int | None = None
        self._matrix = np.eye(2, dtype=int)

    def show(self, time_s: float, frame: Any) -> Shown:
        """frame: the one decoded last."""
        ratio = float(self._source.sample_aspect_ratio or 1)
        if not 1 / MAX_RATIO <= ratio <= MAX_RATIO or abs(ratio - 1) < SQUARE:
            ratio = 1.0
        if (
            frame.rotation != self._rotation
        ):  # PyAV 18.1 keeps a frame whose side data were read until the next gc
            self._rotation, self._matrix = frame.rotation, _matrix(frame)
        return Shown(time_s, frame, ratio, self._matrix)


def _matrix(frame: Any) -> np.ndarray:
    try:
        stated = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV 18.1 does not know all types of side data
        stated = None
    matrix = np.eye(2) if stated is None else np.frombuffer(stated, np.int32).reshape(3, 3)[:2, :2]
    signs = np.where(matrix < 0, -1, 1)
    is_turned = np.abs(matrix).trace() < np.abs(matrix[::-1]).trace()
    return np.asarray(signs * (np.eye(2, dtype=int)[::-1] if is_turned else np.eye(2, dtype=int)))
