"""Sounds: any rate and channel count -> 16 kHz mono windows, by libsndfile or else FFmpeg."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, takewhile
from pathlib import Path
from typing import Any

import numpy as np

from xsearch.errors import Unreadable
from xsearch.media import container
from xsearch.types import AUDIO_RATE_HZ, MediaFile, Modality, Sample

__all__ = ["read", "track"]

WINDOW = 10 * AUDIO_RATE_HZ
LONGEST = 11 * AUDIO_RATE_HZ  # less than 1 s at the end is part of the window before it
BLOCK = 1 << 20  # numbers read at once: 10 s of what headers can tell of may be terabytes
UNKNOWN = 2**63 - 1  # libsndfile's SF_COUNT_MAX: the length of a stream


def read(file: MediaFile) -> Iterator[Sample]:
    """Windows of 10 s, hop 10 s, the last one of 1 s to 11 s. Channels are averaged.

    What lies beyond full scale is clipped; NaN becomes silence.
    """
    sound = _opened(file)
    if sound is None:
        yield from track(file.path)
        return
    with sound:
        rate_hz = sound.samplerate
        size = max(1, min(10 * rate_hz, BLOCK // sound.channels))
        blocks = takewhile(len, sound.blocks(size, dtype="float32", always_2d=True))
        yield from _samples(file.path, blocks, rate_hz, sound.frames / rate_hz)


def _opened(file: MediaFile) -> Any | None:
    """A `soundfile.SoundFile`, or None for what only FFmpeg can read, or read quietly."""
    import soundfile

    if file.mime == "audio/mpeg":  # libsndfile's decoder prints what it thinks of a damaged one
        return None
    try:
        sound = soundfile.SoundFile(file.path)
    except soundfile.LibsndfileError:
        return None
    if 0 < sound.frames < UNKNOWN:
        return sound
    sound.close()
    return None


def track(path: Path) -> Iterator[Sample]:
    """The first sound track of a container, cut as by `read`."""
    from av import AudioResampler

    with container.opened(path) as source:
        frames = source.decode(audio=0) if source.streams.audio else iter(())
        first = next(frames, None)
        if first is None:
            raise Unreadable(f"{path}: no sound in it; remove or replace it")
        # Interleaved, as PyAV crashes on more than eight planes (measured with 18.1); rate and channels stay.
        to_float = AudioResampler("flt", first.layout, first.sample_rate)
        parts = (part for frame in chain([first], frames) for part in to_float.resample(frame))
        blocks = (part.to_ndarray().reshape(-1, first.layout.nb_channels) for part in parts)
        duration_s = source.duration / 1e6 if source.duration else None  # from microseconds
        yield from _samples(path, blocks, first.sample_rate, duration_s)


def _samples(
    path: Path, blocks: Iterable[np.ndarray], rate_hz: int, duration_s: float | None
) -> Iterator[Sample]:
    start = 0
    for window in _cut(_resampled(blocks, rate_hz)):
        end = start + len(window)
        yield Sample(
            Modality.AUDIO,
            window,
            start_s=start / AUDIO_RATE_HZ,
            end_s=end / AUDIO_RATE_HZ,
            duration_s=duration_s,
            rate_hz=AUDIO_RATE_HZ,
        )
        start = end
    if start == 0:
        raise Unreadable(f"{path}: no sound in it; remove or replace it")


def _resampled(blocks: Iterable[np.ndarray], rate_hz: int) -> Iterator[np.ndarray]:
    """float32 [N, channels] blocks at `rate_hz` -> float32 [n] blocks at AUDIO_RATE_HZ, channels averaged.

    `librosa.resample` gives the same numbers, but takes a sound whole and a second and a half to import.
    """
    import soxr

    stream = soxr.ResampleStream(rate_hz, AUDIO_RATE_HZ, num_channels=1, dtype="float32")
    for block in blocks:
        yield stream.resample_chunk(np.clip(np.nan_to_num(block), -1, 1).mean(axis=1))
    yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


def _cut(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Blocks of any length -> windows, holding little more than one."""
    held: list[np.ndarray] = []
    length = 0
    for block in blocks:
        held.append(block)
        length += len(block)
        if length >= LONGEST:
            sound = np.concatenate(held)
            while len(sound) >= LONGEST:
                yield sound[:WINDOW]
                sound = sound[WINDOW:]
            held, length = [sound], len(sound)
    if length:
        yield np.concatenate(held)
