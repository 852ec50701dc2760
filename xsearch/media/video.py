"""Video files -> windows of five clips by timestamp, then the sound track."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np

from xsearch.errors import Unreadable
from xsearch.media import audio, container, gpmf, imu
from xsearch.types import MediaFile, Modality, Sample

__all__ = ["read"]

WINDOW_S = 10.0
MIN_WINDOW_S = 1.0  # a shorter remainder is merged into the last window
# ImageBind (official data.py, load_and_transform_video_data): evenly spaced clips, first and last frames.
CLIPS, CLIP_S = 5, 2.0
MAX_SIDE = 256  # upper bound on the shorter side of a frame, pixels

log = logging.getLogger(__name__)


def read(file: MediaFile) -> Iterator[Sample]:
    """Yield windows of 10 s, hop 10 s, the last 1 s to 11 s long; then the sound track as audio samples.

    A window has five clips of 2 s, overlapping if it is shorter than 10 s, with the first and last frame of
    each, upright: [first, last, first, last, ...], as the official code samples a file of that length.
    Then follows the motion that a GoPro recorded, as IMU samples. A sound track or telemetry that cannot be
    decoded is skipped with a logged warning.
    """
    with container.opened(file.path) as source:
        stream = container.picture_track(source)
        if stream is None:
            raise Unreadable(f"{file.path}: neither video nor audio stream; remove or replace the file")
        stream.thread_type = "AUTO"
        has_sound, has_telemetry = bool(source.streams.audio), gpmf.is_in(source)
        yield from _frame_windows(file, source, stream)
    if has_sound:
        try:
            yield from audio.track(file.path)
        except Exception as error:  # decoders raise undocumented exceptions on damaged input
            log.warning("skipping sound track: %s", error)
    if has_telemetry:
        try:
            yield from imu.telemetry(file.path)
        except Exception as error:  # as above
            log.warning("skipping motion telemetry: %s", error)


def _frame_windows(file: MediaFile, source: Any, stream: Any) -> Iterator[Sample]:
    duration_s = _duration_s(source, stream)
    display = _Display(source, stream)
    if display.upcoming is None:
        raise Unreadable(f"{file.path}: no decodable frame; replace the file")
    first = display.upcoming[1]
    width, height = first.width, first.height
    turns = round(first.rotation / 90) % 4  # quarter turns, counterclockwise
    scale = min(1.0, MAX_SIDE / min(width, height))
    small = (max(1, round(width * scale)), max(1, round(height * scale)))
    if turns % 2:
        width, height = height, width

    frame_s = float(1 / (stream.average_rate or 25))
    image, image_s = np.empty(0, np.uint8), -1.0  # last converted frame and its time
    count = max(1, int((duration_s - MIN_WINDOW_S) // WINDOW_S) + 1)
    number = 0
    while number < count:
        start_s = number * WINDOW_S
        end_s = duration_s if number == count - 1 else start_s + WINDOW_S
        targets_s = _clip_times(start_s, end_s, frame_s)  # [2 * CLIPS]
        pixels: list[np.ndarray] = [image] * len(targets_s)
        times = [0.0] * len(targets_s)
        for slot in np.argsort(targets_s):
            time_s, frame = display.at(targets_s[slot])
            if time_s != image_s:
                array = frame.reformat(*small, "rgb24", interpolation="AREA").to_ndarray()
                image, image_s = np.rot90(array, turns), time_s  # [H, W, 3]
            pixels[slot], times[slot] = image, image_s
        number += 1
        if start_s > 0 and max(times) < start_s:  # no frame begins in the window
            if display.upcoming is None:
                return  # shorter than the header declares
            number = max(number, min(int(display.upcoming[0] // WINDOW_S), count - 1))
            continue
        yield Sample(
            Modality.VIDEO,
            np.stack(pixels),  # [2 * CLIPS, H, W, 3]
            start_s=start_s,
            end_s=end_s,
            duration_s=duration_s,
            width=width,
            height=height,
            times_s=tuple(max(0.0, time) for time in times),
        )


class _Display:
    """Frames on display at ascending times.

    Demuxes every packet, but decodes none before the last keyframe at or before the requested time, and no
    non-reference frames on the way: the frames a seek would return, in any container, at no more than the
    cost of a full decode. If a keyframe turns out not to be one (periodic intra refresh), decodes from the
    start.
    """

    def __init__(self, source: Any, stream: Any) -> None:
        self._source, self._stream = source, stream
        self._origin_s = (source.start_time or 0) / 1e6  # microseconds
        self._has_keyframes = True
        self._restart()

    def _restart(self) -> None:
        self._packets = self._source.demux(self._stream)
        self._queue: deque[Any] = deque()  # packets demuxed, not decoded
        self._target_pts = -math.inf  # of the frame on display at the requested time
        self._frames = self._decode()
        self._current: tuple[float, Any] | None = None
        self.upcoming = next(self._frames, None)  # (seconds, frame); None at the end

    def at(self, time_s: float) -> tuple[float, Any]:
        """Return (start time, frame) of the frame on display; before the first frame, the first."""
        keyframe = self._skip(time_s) if self.upcoming and self.upcoming[0] <= time_s else None
        while self.upcoming and (self.upcoming[0] <= time_s or self._current is None):
            self._current, self.upcoming = self.upcoming, next(self._frames, None)
            if keyframe and self._current[1].pts == keyframe.pts and self._current[1].key_frame:
                keyframe = None  # confirmed
        if keyframe:
            self._has_keyframes = False
            self._source.seek(self._source.start_time or 0)
            self._stream.codec_context.flush_buffers()
            self._restart()
            return self.at(time_s)
        assert self._current
        return self._current

    def _skip(self, time_s: float) -> Any | None:
        """Drop the packets before the last keyframe at or before `time_s`; return it if any were dropped."""
        limit_s, keyframe = time_s + self._origin_s, 0
        for at, packet in enumerate(self._demux()):
            if packet.pts is None or packet.dts is None or packet.dts * packet.time_base > limit_s:
                break
            if packet.pts * packet.time_base <= limit_s:
                self._target_pts = max(self._target_pts, packet.pts)
                keyframe = at if packet.is_keyframe and self._has_keyframes else keyframe
        for _ in range(keyframe):
            self._queue.popleft()
        if not keyframe:
            return None
        self._stream.codec_context.flush_buffers()
        return self._queue[0]

    def _decode(self) -> Iterator[tuple[float, Any]]:
        from av.error import InvalidDataError

        while self._queue or any(True for _ in self._demux()):
            packet = self._queue.popleft()
            is_before = packet.pts is not None and packet.pts < self._target_pts
            self._stream.codec_context.skip_frame = "NONREF" if is_before else "DEFAULT"
            try:
                frames = packet.decode()
            except InvalidDataError:  # skip damaged packets, as players do
                continue
            yield from ((frame.time - self._origin_s, frame) for frame in frames if frame.time is not None)

    def _demux(self) -> Iterator[Any]:
        """Yield the packets ahead, keeping them in `_queue`."""
        yield from self._queue
        for packet in self._packets:
            self._queue.append(packet)
            yield packet


def _clip_times(start_s: float, end_s: float, frame_s: float) -> np.ndarray:
    """Return when each clip's first frame (from its start on) and last frame are on display, [2 * CLIPS].

    The frame on display at a clip's start may have begun before it: hence the offset of almost a frame.
    """
    starts = start_s + np.arange(CLIPS) * max(end_s - start_s - CLIP_S, 0) / (CLIPS - 1)
    ends = np.maximum(np.minimum(starts + CLIP_S, end_s) - 0.001 * frame_s, starts)
    return np.stack([np.minimum(starts + 0.999 * frame_s, ends), ends], axis=1).ravel()


def _duration_s(source: Any, stream: Any) -> float:
    if (stream.duration or 0) > 0:
        return float(stream.duration * stream.time_base)
    if (source.duration or 0) > 0:
        return float(source.duration / 1e6)
    ends = [(p.pts + (p.duration or 0)) * p.time_base for p in source.demux(stream) if p.pts is not None]
    source.seek(0)
    return max(0.0, float(max(ends, default=0)) - (source.start_time or 0) / 1e6)
