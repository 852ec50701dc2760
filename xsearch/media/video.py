"""Videos: windows of five clips by timestamp, then the sound track."""

from __future__ import annotations

import logging
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
        except Unreadable as error:
            log.warning("sound track left out: %s", error)


def _pictures(file: MediaFile, source: Any, stream: Any) -> Iterator[Sample]:
    origin_s = (source.start_time or 0) / 1e6  # microseconds
    duration_s = _duration_s(source, stream)
    frames = ((frame.time - origin_s, frame) for frame in source.decode(stream) if frame.time is not None)
    shown = next(frames, None)
    if shown is None:
        raise Unreadable(f"{file.path}: no frame in it can be decoded; replace it")
    upcoming = next(frames, None)
    width, height = shown[1].width, shown[1].height
    turns = round(shown[1].rotation / 90) % 4  # quarter turns, counterclockwise
    scale = min(1.0, SIDE / min(width, height))
    small = (max(1, round(width * scale)), max(1, round(height * scale)))
    if turns % 2:
        width, height = height, width

    frame_s = float(1 / (stream.average_rate or 25))
    image, image_s = np.empty(0, np.uint8), -1.0  # the last that was made, and its time
    count = max(1, int((duration_s - SHORTEST_S) // WINDOW_S) + 1)
    for start_s in np.arange(count) * WINDOW_S:
        end_s = duration_s if start_s == (count - 1) * WINDOW_S else start_s + WINDOW_S
        targets_s = _moments(start_s, end_s, frame_s)  # [2 * CLIPS]
        pixels: list[np.ndarray] = [image] * len(targets_s)
        times = [0.0] * len(targets_s)
        for slot in np.argsort(targets_s):
            while upcoming and upcoming[0] <= targets_s[slot]:
                shown, upcoming = upcoming, next(frames, None)
            if shown[0] != image_s:
                frame = shown[1].reformat(*small, "rgb24", interpolation="AREA")
                image, image_s = np.rot90(frame.to_ndarray(), turns), shown[0]  # [H, W, 3]
            pixels[slot], times[slot] = image, image_s
        if start_s > 0 and max(times) < start_s:
            return  # the header promised more than there is
        yield Sample(
            Modality.VIDEO,
            np.stack(pixels),  # [2 * CLIPS, H, W, 3]
            start_s=float(start_s),
            end_s=float(end_s),
            duration_s=duration_s,
            width=width,
            height=height,
            times_s=tuple(max(0.0, time) for time in times),
        )


def _moments(start_s: float, end_s: float, frame_s: float) -> np.ndarray:
    """When to look: the first frame from a clip's start on, and the last before its end; [2 * CLIPS].

    On display at a clip's start is, between two frames, the one before it: hence almost a frame later.
    """
    starts = start_s + np.arange(CLIPS) * max(end_s - start_s - CLIP_S, 0) / (CLIPS - 1)
    ends = np.minimum(starts + CLIP_S, end_s)
    return np.stack([starts + 0.999 * frame_s, ends - 0.001 * frame_s], axis=1).ravel()


def _duration_s(source: Any, stream: Any) -> float:
    if stream.duration:
        return float(stream.duration * stream.time_base)
    if source.duration:
        return float(source.duration / 1e6)
    ends = [(p.pts + (p.duration or 0)) * p.time_base for p in source.demux(stream) if p.pts is not None]
    source.seek(0)
    return max(0.0, float(max(ends, default=0)) - (source.start_time or 0) / 1e6)
