"""Videos: windows of five clips by timestamp, then the sound track."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np

from xsearch.errors import Unreadable
from xsearch.media import audio, container
from xsearch.types import MediaFile, Modality, Sample

__all__ = ["read"]

WINDOW_S = 10.0
SHORTEST_S = 1.0  # what would be shorter at the end is part of the window before it
# ImageBind's clips (official data.py, load_and_transform_video_data): evenly from the first that fits to the
# last, and of each its first and its last frame.
CLIPS, CLIP_S = 5, 2.0
SIDE = 256  # the shorter side of a frame at most, pixels

log = logging.getLogger(__name__)


def read(file: MediaFile) -> Iterator[Sample]:
    """Windows of 10 s, hop 10 s, the last one of 1 s to 11 s; then the sound track as audio samples.

    A window has five clips of 2 s, which overlap in one under 10 s; a clip gives its first and its last
    frame, upright: [first, last, first, last, ...], as the official code takes them from a file so long.
    A sound track that cannot be decoded is left out with a logged warning: the pictures are good.
    """
    with container.opened(file.path) as source:
        stream = container.picture_track(source)
        if stream is None:
            raise Unreadable(f"{file.path}: neither pictures nor sound in it; remove or replace it")
        stream.thread_type = "AUTO"
        has_sound = bool(source.streams.audio)
        yield from _pictures(file, source, stream)
    if has_sound:
        try:
            yield from audio.track(file.path)
        except Exception as error:  # what decoders raise on damaged input is not documented
            log.warning("sound track left out: %s", error)


def _pictures(file: MediaFile, source: Any, stream: Any) -> Iterator[Sample]:
    duration_s = _duration_s(source, stream)
    display = _Display(source, stream)
    if display.upcoming is None:
        raise Unreadable(f"{file.path}: no frame in it can be decoded; replace it")
    first = display.upcoming[1]
    width, height = first.width, first.height
    turns = round(first.rotation / 90) % 4  # quarter turns, counterclockwise
    scale = min(1.0, SIDE / min(width, height))
    small = (max(1, round(width * scale)), max(1, round(height * scale)))
    if turns % 2:
        width, height = height, width

    frame_s = float(1 / (stream.average_rate or 25))
    image, image_s = np.empty(0, np.uint8), -1.0  # the last that was made, and its time
    count = max(1, int((duration_s - SHORTEST_S) // WINDOW_S) + 1)
    number = 0
    while number < count:
        start_s = number * WINDOW_S
        end_s = duration_s if number == count - 1 else start_s + WINDOW_S
        targets_s = _moments(start_s, end_s, frame_s)  # [2 * CLIPS]
        pixels: list[np.ndarray] = [image] * len(targets_s)
        times = [0.0] * len(targets_s)
        for slot in np.argsort(targets_s):
            time_s, frame = display.at(targets_s[slot])
            if time_s != image_s:
                array = frame.reformat(*small, "rgb24", interpolation="AREA").to_ndarray()
                image, image_s = np.rot90(array, turns), time_s  # [H, W, 3]
            pixels[slot], times[slot] = image, image_s
        number += 1
        if start_s > 0 and max(times) < start_s:  # no frame begins in it
            if display.upcoming is None:
                return  # the header promised more than there is
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
    """What a track shows at ascending moments.

    All packets are read, but none is decoded that comes before the last keyframe on display by the moment,
    or that no other frame refers to: the frames that a seek would find, in any container, and never more
    work than decoding them all. Where a keyframe turns out to be none (periodic intra refresh), the track is
    decoded from its start.
    """

    def __init__(self, source: Any, stream: Any) -> None:
        self._source, self._stream = source, stream
        self._origin_s = (source.start_time or 0) / 1e6  # microseconds
        self._has_keyframes = True
        self._begin()

    def _begin(self) -> None:
        self._packets = self._source.demux(self._stream)
        self._ahead: deque[Any] = deque()  # packets that are read, but not decoded
        self._wanted = -math.inf  # the time stamp that is on display by the moment
        self._frames = self._decode()
        self._shown: tuple[float, Any] | None = None
        self.upcoming = next(self._frames, None)  # (seconds, frame); None at the end

    def at(self, moment_s: float) -> tuple[float, Any]:
        """The frame on display and when it began; the first one if none has begun."""
        keyframe = self._skip(moment_s) if self.upcoming and self.upcoming[0] <= moment_s else None
        while self.upcoming and (self.upcoming[0] <= moment_s or self._shown is None):
            self._shown, self.upcoming = self.upcoming, next(self._frames, None)
            if keyframe and self._shown[1].pts == keyframe.pts and self._shown[1].key_frame:
                keyframe = None  # it is one
        if keyframe:
            self._has_keyframes = False
            self._source.seek(self._source.start_time or 0)
            self._stream.codec_context.flush_buffers()
            self._begin()
            return self.at(moment_s)
        assert self._shown
        return self._shown

    def _skip(self, moment_s: float) -> Any | None:
        """Leave out the packets before the last keyframe by `moment_s`; returns it if there were any."""
        limit_s, keyframe = moment_s + self._origin_s, 0
        for at, packet in enumerate(self._read()):
            if packet.pts is None or packet.dts is None or packet.dts * packet.time_base > limit_s:
                break
            if packet.pts * packet.time_base <= limit_s:
                self._wanted = max(self._wanted, packet.pts)
                keyframe = at if packet.is_keyframe and self._has_keyframes else keyframe
        for _ in range(keyframe):
            self._ahead.popleft()
        if not keyframe:
            return None
        self._stream.codec_context.flush_buffers()
        return self._ahead[0]

    def _decode(self) -> Iterator[tuple[float, Any]]:
        from av.error import InvalidDataError

        while self._ahead or any(True for _ in self._read()):
            packet = self._ahead.popleft()
            is_before = packet.pts is not None and packet.pts < self._wanted
            self._stream.codec_context.skip_frame = "NONREF" if is_before else "DEFAULT"
            try:
                frames = packet.decode()
            except InvalidDataError:  # as players do: the others may be good
                continue
            yield from ((frame.time - self._origin_s, frame) for frame in frames if frame.time is not None)

    def _read(self) -> Iterator[Any]:
        """The packets to come; they stay in `_ahead`."""
        yield from self._ahead
        for packet in self._packets:
            self._ahead.append(packet)
            yield packet


def _moments(start_s: float, end_s: float, frame_s: float) -> np.ndarray:
    """When to look: the first frame from a clip's start on, and the last before its end; [2 * CLIPS].

    On display at a clip's start is, between two frames, the one before it: hence almost a frame later.
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
