"""Decode the window of a hit or an item for a preview."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import chain, dropwhile, takewhile
from pathlib import Path
from typing import Any

import numpy as np

from xsearch import decoders, media
from xsearch.errors import MediaError, NotMedia, Unreadable
from xsearch.media import audio, container
from xsearch.media.audio import chained, mono
from xsearch.media.frame import Screen, Shown
from xsearch.preview import colours
from xsearch.types import AUDIO_RATE_HZ, Hit, MediaFile, Modality, Sample

__all__ = ["Item", "Piece", "check", "decoded", "load", "picture"]

SOUND_S = 10.0  # length of the preview of a whole recording
DRAWN = (Modality.IMAGE, Modality.VIDEO, Modality.DEPTH, Modality.THERMAL)
PREROLL_S = 0.2  # decoder warm-up before a window: Opus takes 80 ms (RFC 7845, section 4.6)


@dataclass(frozen=True, slots=True)
class Item:
    """A window of a file, like a `Hit` without a score."""

    modality: Modality
    path: str  # or a URL
    start_s: float | None = None
    end_s: float | None = None
    text: str | None = None


Piece = Hit | Item | Sample


def check(hit: Hit) -> None:
    """Raise Unreadable unless the file of a hit may be opened, as the one that was ingested.

    A collection may come from anybody, and name any file: one on disk must have the size, and the mtime or
    the content, that the item states. One that only an import names is not looked for.
    """
    if hit.is_imported:
        raise Unreadable("only an import names its file; ingest it, or trust the import: --trust-paths")
    size, mtime_ns = hit.extra.get("bytes"), hit.extra.get("mtime_ns")
    if size is None or mtime_ns is None or media.is_url(hit.path):
        return
    path = Path(hit.path)
    try:
        status = path.stat()
    except OSError as problem:
        gone = isinstance(problem, FileNotFoundError)
        raise Unreadable("the file no longer exists" if gone else f"no access: {problem.strerror}") from None
    kinds = (hit.modality, Modality.DEPTH, Modality.IMU)  # of a text, that of its file
    files = (MediaFile(path, kind, size, mtime_ns) for kind in kinds)
    is_whole = status.st_size == size  # without a companion
    if not stat.S_ISREG(status.st_mode) or not (
        any(map(media.unchanged, files)) or (is_whole and media.sha256(path) == hit.extra.get("sha256"))
    ):
        raise Unreadable("the file has changed since it was ingested; ingest it again")


def load(piece: Piece, *kinds: Modality, at_s: float | None = None, size: int | None = None) -> Sample:
    """Decode the window of a piece, seeking in long recordings; a sample is returned unchanged.

    kinds: one of which it must be. size: the most pixels of a side, for what can be seen.
    Sounds are mono at their native rate. A video returns one upright frame: the first at or after `at_s`
    seconds of the file, or the middle of the window. Raises MediaError with a message without the path.
    """
    with decoded(piece, *kinds, at_s=at_s, size=size) as sample:
        return sample


@contextmanager
def decoded(
    piece: Piece, *kinds: Modality, at_s: float | None = None, size: int | None = None
) -> Iterator[Sample]:
    """Yield `load(piece)`, which must be of one of `kinds`. Errors inside the block become MediaError too.

    A file is decoded in another process, which draws what can be seen as a picture of at most `size` pixels.
    """
    names = [] if isinstance(piece, Sample) else [piece.path]
    try:
        if kinds and piece.modality not in kinds:
            raise NotMedia(f"expected {' or '.join(kinds)}, got {piece.modality}")
        if isinstance(piece, Sample):
            yield piece
        elif piece.modality is Modality.TEXT and piece.text is not None:
            yield Sample(Modality.TEXT, piece.text)
        else:
            if isinstance(piece, Hit):
                check(piece)
                if piece.modality is Modality.TEXT:
                    raise Unreadable("no text is stored")  # a file of any content could be called one
            with media.at_hand(piece.path, decoders.identify) as path:
                names.append(str(path.absolute()))
                item = Item(piece.modality, piece.path, piece.start_s, piece.end_s)
                sample = decoders.shared().call(_decode, path.absolute(), item, at_s, size)
            yield sample
    except Exception as problem:  # decoders raise undocumented exceptions on damaged input
        reason = (str(problem) or type(problem).__name__).splitlines()[0]
        for name in names:
            reason = reason.removeprefix(f"{name}: ")
        raise (type(problem) if isinstance(problem, MediaError) else Unreadable)(reason) from problem


def picture(sample: Sample, size: int, at_s: float | None = None) -> Sample:
    """Return an image, video frame, depth map or thermal image as an image of at most `size` pixels a side.

    Of a video, the frame nearest to `at_s`, or the middle one.
    """
    from PIL import Image

    match sample.modality:
        case Modality.VIDEO:
            middle = len(sample.data) // 2
            at = middle if at_s is None else np.abs(np.array(sample.times_s) - at_s).argmin()
            image = Image.fromarray(np.ascontiguousarray(sample.data[at]))
        case Modality.DEPTH:
            image = Image.fromarray(colours.of_depth(sample.data))
        case Modality.THERMAL:
            image = Image.fromarray(colours.of_heat(sample.data))
        case _:
            image = sample.data.convert("RGB")
    image.thumbnail((size, size))
    return Sample(Modality.IMAGE, image)


def _decode(path: Path, item: Item, at_s: float | None, size: int | None) -> Sample:
    """Decode the window of an item whose file, or its copy, is at `path`; see `decoded`."""
    if not path.exists():
        raise Unreadable("the file no longer exists")
    start_s = item.start_s or 0.0
    if item.modality is Modality.AUDIO:
        return _sound(path, start_s, start_s + SOUND_S if item.end_s is None else item.end_s)
    if item.modality is Modality.VIDEO:
        middle_s = 0.0 if item.end_s is None else (start_s + item.end_s) / 2
        sample = _frame(path, middle_s if at_s is None else at_s)
    else:
        file = media.identify(path, kinds=[(item.modality, "*")])
        sample = min(media.read(file), key=lambda sample: abs((sample.start_s or 0.0) - start_s))
    return sample if size is None or item.modality not in DRAWN else picture(sample, size, at_s)


def _sound(path: Path, start_s: float, end_s: float) -> Sample:
    """Decode a window of audio: by seeking, or from the start where FFmpeg cannot, as in chained files."""
    file = media.identify(path, kinds=[(Modality.AUDIO, "*")])
    if not chained.links(path, file.mime):
        with suppress(Unreadable), container.opened(path) as source:
            tracks = container.sound_tracks(path, source)
            sounds = list(filter(None, (_sought(source, track, start_s, end_s) for track in tracks)))
            audible = (each for each in sounds if np.abs(each.data).max(initial=0) > audio.SILENCE)
            if sounds:
                return next(audible, sounds[0])
    for sample in media.read(file):
        first_s, last_s = sample.start_s or 0.0, sample.end_s or 0.0
        if first_s <= start_s < last_s:
            begin, end = (round((second - first_s) * AUDIO_RATE_HZ) for second in (start_s, end_s))
            wave = sample.data[begin:end]
            return replace(sample, data=wave, start_s=start_s, end_s=start_s + len(wave) / AUDIO_RATE_HZ)
    raise Unreadable("no audio in this window")


def _sought(source: Any, stream: Any, start_s: float, end_s: float) -> Sample | None:
    """Decode a window of a stream up to where its rate or layout changes; None if there is none."""
    from av import AudioResampler

    origin_s = _seek(source, start_s - PREROLL_S)
    decoded = container.frames(source, stream)
    times = ((frame.time - origin_s, frame) for frame in decoded if frame.time is not None)
    ahead = dropwhile(lambda at: at[0] + at[1].samples / at[1].sample_rate <= start_s, times)
    first_s, first = next(ahead, (end_s, None))
    if first is None or first_s >= end_s:
        return None
    rate_hz, layout = first.sample_rate, first.layout
    to_float = AudioResampler("flt", layout, rate_hz)  # packed
    alike = takewhile(lambda at: (at[1].sample_rate, at[1].layout) == (rate_hz, layout), ahead)
    inside = takewhile(lambda at: at[0] < end_s, chain([(first_s, first)], alike))
    blocks = [part.to_ndarray() for _, frame in inside for part in to_float.resample(frame)]
    sound = np.concatenate(blocks, axis=1).reshape(-1, layout.nb_channels)  # [N, channels]
    begin, end = (max(0, round((second - first_s) * rate_hz)) for second in (start_s, end_s))
    wave = mono.limited(mono.downmix(np.nan_to_num(sound[begin:end])))
    return Sample(Modality.AUDIO, wave, start_s=start_s, end_s=start_s + len(wave) / rate_hz, rate_hz=rate_hz)


def _frame(path: Path, at_s: float) -> Sample:
    with container.opened(path) as source:
        track = container.picture_track(source)
        if track is None:
            raise Unreadable("no video stream")
        track.thread_type = "AUTO"
        screen = Screen(track)
        next(container.frames(source, track), None)  # only the first frame may carry the codec parameters
        starts_s = (at_s, at_s - 2, at_s - 10, 0.0)  # a seek may end after the keyframe, as in MPEG-TS
        attempts = (_decode_from(max(0.0, start_s), source, track, screen, at_s) for start_s in starts_s)
        shown = next(filter(None, attempts), None)
        if shown is None:
            raise Unreadable("no decodable frame")
        pixels = np.ascontiguousarray(shown.pixels(*shown.size))  # [H, W, 3]
    return Sample(Modality.VIDEO, pixels[None], times_s=(shown.time_s,))


def _decode_from(start_s: float, source: Any, track: Any, screen: Screen, at_s: float) -> Shown | None:
    """Return the first frame at or after `at_s`, or the last one if the video is shorter.

    None if decoding cannot start at the keyframe before `start_s` (periodic intra refresh).
    """
    origin_s = _seek(source, start_s)
    decoded = (frame for frame in container.frames(source, track) if frame.time is not None)
    frames = (screen.show(frame.time - origin_s, frame) for frame in decoded)
    shown = next(frames, None)
    if shown and start_s > 0 and (shown.time_s > at_s + 1e-3 or shown.frame.is_corrupt):
        return None
    while shown and shown.time_s < at_s and (later := next(frames, None)):
        shown = later
    return shown


def _seek(source: Any, at_s: float) -> float:
    """Seek to the keyframe before `at_s`; return the start time of the file in seconds."""
    start_us = source.start_time or 0
    source.seek(start_us + int(at_s * 1e6) if at_s > 0 else min(start_us, 0))
    return float(start_us / 1e6)
