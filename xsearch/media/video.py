"""Video files -> windows of five clips by timestamp, then the sound track."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from xsearch.errors import Unreadable, Unsupported
from xsearch.media import audio, container, imu
from xsearch.media.faults import passing
from xsearch.media.frame import Screen, Shown
from xsearch.media.imu import gpmf
from xsearch.media.limits import MAX_FRAME_PIXELS, check_windows
from xsearch.system.cores import CORES
from xsearch.types import MediaFile, Modality, Sample

__all__ = ["read"]

WINDOW_S = 10.0
MIN_WINDOW_S = 1.0  # a shorter remainder is merged into the last window
# ImageBind (official data.py, load_and_transform_video_data): evenly spaced clips, first and last frames.
CLIPS, CLIP_S = 5, 2.0
MAX_SIDE = 256  # upper bound on the shorter side of a frame, pixels
MAX_THREADS = 16  # FFmpeg's own limit
AHEAD_PIXELS = 1 << 27  # of the frames that are decoded at once

log = logging.getLogger(__name__)


def read(file: MediaFile) -> Iterator[Sample]:
    """Yield windows of 10 s, hop 10 s, the last 1 s to 11 s long; then the sound track as audio samples.

    A window has five clips of 2 s, overlapping if it is shorter than 10 s, with the first and last frame of
    each, upright: [first, last, first, last, ...], as the official code samples a file of that length.
    Then follows the motion that a GoPro recorded, as IMU samples. A sound track or telemetry that cannot be
    decoded is skipped with a logged warning.
    """
    duration_s, has_telemetry = 0.0, False
    with container.opened(file.path) as source:
        stream, has_sound = container.picture_track(source), bool(source.streams.audio)
        if stream is None and not has_sound:
            raise Unsupported(f"{file.path}: no video in it, and no audio")
        if stream is not None:
            if stream.codec_context is None:
                raise Unsupported(f"{file.path}: unsupported video codec; convert it")
            has_telemetry = gpmf.is_in(source)
            _limit(file, stream.codec_context)
            for sample in _frame_windows(file, source, stream):
                yield sample
                duration_s = sample.duration_s or 0.0
    if stream is None:  # its header did not say so
        yield from audio.track(file.path)
        return
    if has_sound:
        try:
            for sample in audio.track(file.path):
                yield replace(sample, duration_s=max(sample.duration_s or 0.0, duration_s))
        except Exception as error:  # decoders raise undocumented exceptions on damaged input
            if passing(error):
                raise
            log.warning("skipping sound track: %s", error)
    if has_telemetry:
        try:
            yield from imu.telemetry(file.path)
        except Exception as error:  # as above
            if passing(error):
                raise
            log.warning("skipping motion telemetry: %s", error)


def _limit(file: MediaFile, codec: Any) -> None:
    """Limit the memory of a decoder. Raises TooLarge if its frames are."""
    pixels = max(codec.width * codec.height, 1)
    MAX_FRAME_PIXELS.check(file.path, pixels)
    codec.options = container.codec_options()  # they may grow in mid-stream
    codec.thread_type = "AUTO"  # each thread has a frame
    codec.thread_count = max(1, min(CORES, MAX_THREADS, AHEAD_PIXELS // pixels))


def _frame_windows(file: MediaFile, source: Any, stream: Any) -> Iterator[Sample]:
    duration_s = _duration_s(file, source, stream)
    display = _Display(source, stream)
    if display.upcoming is None:
        raise Unreadable(f"{file.path}: no frame can be decoded; replace the file")
    frame_s = float(1 / (stream.average_rate or 25))
    shown: Shown | None = None  # the last converted frame, and its pixels
    image: np.ndarray = np.empty((0, 0, 3), np.uint8)
    count = max(1, int((duration_s - MIN_WINDOW_S) // WINDOW_S) + 1)
    check_windows(file.path, count)
    number = min(max(0, int(display.upcoming.time_s // WINDOW_S)), count - 1)
    while number < count:
        start_s = number * WINDOW_S
        end_s = duration_s if number == count - 1 else start_s + WINDOW_S
        targets_s = _clip_times(start_s, end_s, frame_s)  # [2 * CLIPS]
        pixels: list[np.ndarray] = [image] * len(targets_s)
        times = [0.0] * len(targets_s)
        width = height = 0
        for slot in np.argsort(targets_s):
            current = display.at(targets_s[slot])
            if not width:  # the first frame of the window
                width, height = current.size
                scale = min(1.0, MAX_SIDE / min(width, height))
                small = max(1, round(width * scale)), max(1, round(height * scale))
            if current is not shown or image.shape[:2] != small[::-1]:
                shown, image = current, current.pixels(*small)  # [H, W, 3]
            pixels[slot], times[slot] = image, current.time_s
        number += 1
        if start_s > 0 and max(times) < start_s:  # no frame begins in the window
            if display.upcoming is None:
                return  # shorter than the header declares
            number = max(number, min(int(display.upcoming.time_s // WINDOW_S), count - 1))
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
        self._origin_s = container.start_s(source)
        self._has_keyframes = True
        self._screen = Screen(stream)
        self._restart()

    def _restart(self) -> None:
        self._packets = _packets(self._source, self._stream)
        self._queue: deque[Any] = deque()  # packets demuxed, not decoded
        self._target_pts = -math.inf  # of the frame on display at the requested time
        self._frames = self._decode()
        self._current: Shown | None = None
        self.upcoming = next(self._frames, None)  # None at the end

    def at(self, time_s: float) -> Shown:
        """Return the frame on display; before the first frame, the first."""
        keyframe = self._skip(time_s) if self.upcoming and self.upcoming.time_s <= time_s else None
        while self.upcoming and (self.upcoming.time_s <= time_s or self._current is None):
            self._current, self.upcoming = self.upcoming, next(self._frames, None)
            if keyframe and self._current.frame.pts == keyframe.pts and self._current.frame.key_frame:
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

    def _decode(self) -> Iterator[Shown]:
        from av.error import InvalidDataError

        end_s = 0.0  # of the last frame
        while self._queue or any(True for _ in self._demux()):
            packet = self._queue.popleft()
            is_before = packet.pts is not None and packet.pts < self._target_pts
            self._stream.codec_context.skip_frame = "NONREF" if is_before else "DEFAULT"
            try:
                frames = packet.decode()
            except InvalidDataError:  # skip damaged packets, as players do
                continue
            for frame in frames:  # elementary streams have no timestamps
                time_s = end_s if frame.time is None else frame.time - self._origin_s
                end_s = time_s + float(1 / (self._stream.average_rate or 25))
                yield self._screen.show(time_s, frame)

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


def _packets(source: Any, stream: Any) -> Iterator[Any]:
    """Yield the packets of a stream, its clock continued where it jumps back, as in concatenated files."""
    if not container.may_restart(source):
        yield from container.packets(source, stream)
        return
    latest, shift = -math.inf, 0
    for packet in container.packets(source, stream):
        if packet.dts is not None:
            if (packet.dts + shift - latest) * packet.time_base < -container.GAP_S:
                shift = int(latest) + (packet.duration or 0) - packet.dts
            packet.dts += shift
            packet.pts = None if packet.pts is None else packet.pts + shift
            latest = max(latest, packet.dts)
        yield packet


def _duration_s(file: MediaFile, source: Any, stream: Any) -> float:
    """Return the duration in seconds: that of the header, or measured if it states none."""
    if not container.may_restart(source):
        if (stream.duration or 0) > 0:
            late_s = float((stream.start_time or 0) * stream.time_base) - container.start_s(source)
            return float(stream.duration * stream.time_base) + (late_s if late_s > container.LATE_S else 0)
        if duration_s := container.duration_s(source):
            return duration_s
    end, count = None, 0
    with container.opened(file.path) as again:
        for packet in _packets(again, again.streams[stream.index]):
            count += packet.size > 0
            if packet.pts is not None:
                end = max(end or 0, (packet.pts + (packet.duration or 0)) * packet.time_base)
    if end is None:  # an elementary stream
        return count / float(stream.average_rate or 25)
    return max(0.0, float(end) - container.start_s(source))
