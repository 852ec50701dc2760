"""Decoded sound of any rate and channel count -> windows of 16 kHz mono on the clock of its file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import NamedTuple

import numpy as np

from xsearch.types import AUDIO_RATE_HZ

__all__ = ["BLOCK", "Block", "downmix", "limited", "peak", "windows"]

WINDOW_S = 10
MIN_WINDOW_S = 1  # a shorter remainder is merged into the last window
WINDOW, MAX_WINDOW = WINDOW_S * AUDIO_RATE_HZ, (WINDOW_S + MIN_WINDOW_S) * AUDIO_RATE_HZ
BLOCK = 1 << 20  # values processed at once: rate and channel count in a header are untrusted
CANCELLED = 0.1  # of the power that unrelated channels leave in their mean
FULL_SCALE = float(2**31)  # of the widest integers, which some programs write as floats; beyond it is damage
# Lossy decoders overshoot full scale by up to 2 dB, which is kept: the official code does not clip. Cosine of
# a sound with itself at full scale, bundled model: 0.998 at 2 dB, 0.97 at 11 dB; of a tone clipped by 0.2 dB
# 0.56.
OVERSHOOT = 1.25  # louder windows of lossy codecs are divided by their peak


class Block(NamedTuple):
    """Decoded samples, float32 [N, channels].

    run_s: seconds from the start of the file at which their run starts. Blocks of a run are contiguous.
    """

    run_s: float
    rate_hz: int
    values: np.ndarray


def peak(blocks: Iterable[Block]) -> float:
    """Return the largest absolute value of a recording, at least 1. Ignores NaN and damaged values."""
    highest = 1.0
    for block in blocks:
        values = np.abs(block.values)
        highest = max(highest, float(values.max(initial=0, where=values <= FULL_SCALE)))
    return highest


def windows(blocks: Iterable[Block], full_scale: float | None) -> Iterator[tuple[float, np.ndarray]]:
    """Yield (start in seconds, float32 [N] at AUDIO_RATE_HZ), N of 10 s, or 1 s to 11 s at the end of a run.

    full_scale: what values are divided by, see `peak`; None for lossy codecs, see OVERSHOOT. NaN is silence.
    A gap of up to 10 s between runs is filled with silence, windows start anew after a longer one. Buffers
    little more than one window.
    """
    for start, sound in _windows(blocks, full_scale):
        yield start / AUDIO_RATE_HZ, limited(sound) if full_scale is None else sound


def limited(sound: np.ndarray) -> np.ndarray:
    """Divide a sound by its peak if that is beyond OVERSHOOT."""
    highest = np.abs(sound).max(initial=0)
    return sound / highest if highest > OVERSHOOT else sound


def _windows(blocks: Iterable[Block], full_scale: float | None) -> Iterator[tuple[int, np.ndarray]]:
    """Yield windows with the number of their first sample on the clock of the file."""
    start, length, pending = 0, 0, list[np.ndarray]()
    for (run_s, rate_hz, _), run in groupby(blocks, lambda block: (*block[:2], block.values.shape[1])):
        run_start = round(run_s * AUDIO_RATE_HZ)
        gap = run_start - (start + length)
        if length and 0 < gap <= WINDOW:
            pending.append(np.zeros(gap, np.float32))
            length += gap
        elif gap > 0:
            if length:
                yield start, np.concatenate(pending)
            start, length, pending = run_start, 0, []
        for sound in _resampled((block.values for block in run), rate_hz, full_scale):
            pending.append(sound)
            length += len(sound)
            while length >= MAX_WINDOW:
                whole = np.concatenate(pending)
                yield start, whole[:WINDOW]
                start, length, pending = start + WINDOW, length - WINDOW, [whole[WINDOW:]]
    if length:
        yield start, np.concatenate(pending)


def downmix(values: np.ndarray) -> np.ndarray:
    """Return the mean of the channels, float32 [N, channels] -> [N].

    If they cancel out, as the two of a line connected with opposite polarity do, those that oppose the first
    of the loud ones are inverted.
    """
    mean = values.mean(axis=1)
    channels = values.shape[1]
    if channels > 1:
        power = np.einsum("nc,nc->c", values, values)  # [channels]
        if mean @ mean < CANCELLED * power.mean() / channels:
            first = (power >= power.max() / 2).argmax()
            mean = (values * np.sign(values[:, first] @ values)).mean(axis=1)
    return np.asarray(mean)


def _resampled(blocks: Iterable[np.ndarray], rate_hz: int, full_scale: float | None) -> Iterator[np.ndarray]:
    """Convert float32 [N, channels] blocks at `rate_hz` to mono float32 [n] blocks at AUDIO_RATE_HZ.

    Same values as `librosa.resample`, which cannot stream and takes 1.5 s to import.
    """
    import soxr

    limit = full_scale or FULL_SCALE
    stream = soxr.ResampleStream(rate_hz, AUDIO_RATE_HZ, num_channels=1, dtype="float32")
    for block in _seconds(blocks, rate_hz):
        mono = downmix(np.clip(np.nan_to_num(block), -limit, limit))
        yield stream.resample_chunk(mono / np.float32(full_scale or 1))
    yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


def _seconds(blocks: Iterable[np.ndarray], rate_hz: int) -> Iterator[np.ndarray]:
    """Regroup blocks into those of 1 s, so that `downmix` does not depend on the decoder."""
    pending, length = list[np.ndarray](), 0
    for block in blocks:
        size = max(1, min(rate_hz, BLOCK // block.shape[1]))
        pending.append(block)
        length += len(block)
        if length >= size:
            whole = np.concatenate(pending)
            end = length - length % size
            yield from (whole[first : first + size] for first in range(0, end, size))
            pending, length = [whole[end:]], length - end
    if length:
        yield np.concatenate(pending)
