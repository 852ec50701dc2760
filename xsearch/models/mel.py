"""Sound -> log-mel clips, as Kaldi's `fbank` computes them with the official ImageBind's settings.

25 ms Hann windows every 10 ms, no partial windows; per window: mean removed, pre-emphasis 0.97, power
spectrum of 512 points, triangular filters evenly spaced on the HTK mel scale (20 Hz to 8 kHz), natural log.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from xsearch.models.config import AudioConfig, Preprocessing
from xsearch.types import AUDIO_RATE_HZ

__all__ = ["clip_points", "fbank", "log_mel_clips", "mel_filters"]

WINDOW, HOP, FFT = 400, 160, 512  # samples: 25 ms, 10 ms, the next power of two
FLOOR = float(torch.finfo(torch.float32).eps)  # Kaldi's, under the log


def clip_points(duration_s: float, clip_s: float, clips: int) -> list[Fraction]:
    """Start times of `clips` clips of `clip_s`, evenly spaced from 0 to the last that fits: exact rationals.

    Floats would be off by one sample for one duration in five; pytorchvideo's clip sampler is exact, too.

    >>> [str(start) for start in clip_points(3.0, 2.0, 3)]
    ['0', '1/2', '1']
    """
    last = Fraction(max(duration_s - clip_s, 0.0))
    return [last * i / max(clips - 1, 1) for i in range(clips)]


@cache
def mel_filters(mels: int) -> Tensor:
    """float32 [257, mels]: power spectrum -> mel energies, not normalised. The Nyquist bin is unused."""

    def mel(hz: Tensor) -> Tensor:
        return 1127.0 * torch.log1p(hz / 700.0)

    low, high = mel(torch.tensor([20.0, AUDIO_RATE_HZ / 2], dtype=torch.float64))
    step = (high - low) / (mels + 1)
    left = low + step * torch.arange(mels)  # [mels]
    bins = mel(torch.arange(FFT // 2, dtype=torch.float64) * AUDIO_RATE_HZ / FFT)[:, None]  # [256, 1]
    rising, falling = (bins - left) / step, (left + 2 * step - bins) / step
    triangles = torch.minimum(rising, falling).clamp(min=0)  # [256, mels]
    return F.pad(triangles, (0, 0, 0, 1)).float()


def fbank(waves: Tensor, mels: int) -> Tensor:
    """float32 [N, samples] at 16 kHz, at least 400 samples -> [N, frames, mels], natural log of energy."""
    frames = waves.unfold(-1, WINDOW, HOP)  # [N, frames, 400]
    frames = frames - frames.mean(dim=-1, keepdim=True)
    before = F.pad(frames, (1, 0), mode="replicate")[..., :-1]
    frames = (frames - 0.97 * before) * torch.hann_window(WINDOW, periodic=False)
    spectrum = torch.fft.rfft(frames, n=FFT)  # [N, frames, 257]
    power = spectrum.real.square() + spectrum.imag.square()  # ten times faster than abs().square()
    return (power @ mel_filters(mels)).clamp(min=FLOOR).log()


def log_mel_clips(waves: Sequence[np.ndarray], audio: AudioConfig, settings: Preprocessing) -> Tensor:
    """float32 [samples] or [channels, samples] at 16 kHz -> float32 [B, clips, 1, mels, frames], normalised.

    Of several channels the first is used, minus the mean of all, as in the official code. A sound shorter
    than a clip gives the same clip several times, padded with 0 *before* normalising.
    """
    size = round(audio.clip_s * AUDIO_RATE_HZ)
    clips = np.zeros((len(waves) * audio.clips, size), np.float32)
    frames = np.zeros(len(clips), np.int64)  # windows without padding
    rows = iter(range(len(clips)))
    for wave in waves:
        sound = np.array(wave, np.float32, ndmin=2)  # [channels, samples]  a copy
        for start in clip_points(sound.shape[1] / AUDIO_RATE_HZ, audio.clip_s, audio.clips):
            row, first = next(rows), math.floor(start * AUDIO_RATE_HZ)
            piece = sound[:, first : first + size]
            centred = piece - piece.mean() if piece.size else piece
            if settings.audio_dc == "official":
                piece[:] = centred  # in place: an overlapping next clip includes the subtraction
            length = piece.shape[1]
            clips[row, :length] = centred[0]
            frames[row] = max(1 + (length - WINDOW) // HOP, 1)
    parts = torch.from_numpy(clips).split(4)  # twice as fast within the CPU cache
    mel = torch.cat([fbank(part, audio.mels) for part in parts])  # [B*clips, F, mels]
    padding = torch.arange(mel.shape[1]) >= torch.from_numpy(frames)[:, None]
    mel = mel.masked_fill_(padding[..., None], 0.0).transpose(1, 2)
    mel = F.pad(mel, (0, audio.frames - mel.shape[2]))  # [B*clips, mels, frames]; a negative pad crops
    mel = mel.sub_(settings.audio_mean).div_(settings.audio_std)
    return mel.unflatten(0, (len(waves), audio.clips)).unsqueeze(2)
