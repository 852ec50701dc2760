"""Audio files at any rate and channel count -> 16 kHz mono windows. libsndfile, falling back to FFmpeg."""

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
MAX_WINDOW = 11 * AUDIO_RATE_HZ  # a remainder shorter than 1 s is merged into the last window
BLOCK = 1 << 20  # values per read: rate and channel count in a header are untrusted
UNKNOWN_LENGTH = 2**63 - 1  # libsndfile's SF_COUNT_MAX, reported for streams


def read(file: MediaFile) -> Iterator[Sample]:
    """Yield windows of 10 s, hop 10 s; the last is 1 s to 11 s long. Channels are averaged.

    Values beyond full scale are clipped and NaN is replaced by 0.
    """
    sound = _open(file)
    if sound is None:
        yield from track(file.path)
        return
    with sound:
        rate_hz = sound.samplerate
        size = max(1, min(10 * rate_hz, BLOCK // sound.channels))
        blocks = takewhile(len, sound.blocks(size, dtype="float32", always_2d=True))
        yield from _samples(file.path, blocks, rate_hz, sound.frames / rate_hz)


def _open(file: MediaFile) -> Any | None:
    """Return a `soundfile.SoundFile`, or None if FFmpeg should decode the file."""
    import soundfile

    if file.mime == "audio/mpeg":  # mpg123, libsndfile's MP3 decoder, prints warnings to stderr
        return None
    try:
        sound = soundfile.SoundFile(file.path)
    except soundfile.LibsndfileError:
        return None
    if 0 < sound.frames < UNKNOWN_LENGTH:
        return sound
    sound.close()
    return None


def track(path: Path) -> Iterator[Sample]:
    """Yield the windows of a container's first audio stream, split as by `read`."""
    from av import AudioResampler

    with container.opened(path) as source:
        frames = source.decode(audio=0) if source.streams.audio else iter(())
        first = next(frames, None)
        if first is None:
            raise Unreadable(f"{path}: no audio samples; remove or replace the file")
        # Packed format: PyAV 18.1 crashes on more than eight planes. Rate and channels are unchanged.
        to_float = AudioResampler("flt", first.layout, first.sample_rate)
        parts = (part for frame in chain([first], frames) for part in to_float.resample(frame))
        blocks = (part.to_ndarray().reshape(-1, first.layout.nb_channels) for part in parts)
        duration_s = source.duration / 1e6 if source.duration else None  # microseconds
        yield from _samples(path, blocks, first.sample_rate, duration_s)


def _samples(
    path: Path, blocks: Iterable[np.ndarray], rate_hz: int, duration_s: float | None
) -> Iterator[Sample]:
    start = 0
    for window in _windows(_resampled(blocks, rate_hz)):
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
        raise Unreadable(f"{path}: no audio samples; remove or replace the file")


def _resampled(blocks: Iterable[np.ndarray], rate_hz: int) -> Iterator[np.ndarray]:
    """Resample float32 [N, channels] blocks at `rate_hz` to mono float32 [n] blocks at AUDIO_RATE_HZ.

    Same values as `librosa.resample`, which cannot stream and takes 1.5 s to import.
    """
    import soxr

    stream = soxr.ResampleStream(rate_hz, AUDIO_RATE_HZ, num_channels=1, dtype="float32")
    for block in blocks:
        yield stream.resample_chunk(np.clip(np.nan_to_num(block), -1, 1).mean(axis=1))
    yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


def _windows(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Regroup blocks of any length into windows, buffering little more than one."""
    pending: list[np.ndarray] = []
    length = 0
    for block in blocks:
        pending.append(block)
        length += len(block)
        if length >= MAX_WINDOW:
            sound = np.concatenate(pending)
            while len(sound) >= MAX_WINDOW:
                yield sound[:WINDOW]
                sound = sound[WINDOW:]
            pending, length = [sound], len(sound)
    if length:
        yield np.concatenate(pending)
