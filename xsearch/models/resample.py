"""Resampling as in the official ImageBind: torchaudio's `sinc_interp_hann`.

Band-limited interpolation (J. O. Smith, ccrma.stanford.edu/~jos/resample): each output sample is a sum of
input samples weighted by a sinc, cut off at 0.99 of the lower Nyquist frequency and limited to six zero
crossings by a Hann window. Only for parity: `xsearch.media` resamples with soxr, which is sharper.
"""

from __future__ import annotations

import math
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["resample"]

CROSSINGS, ROLLOFF = 6, 0.99  # torchaudio's defaults


def resample(waves: Tensor, from_hz: int, to_hz: int) -> Tensor:
    """float32 [channels, samples] at `from_hz` -> [channels, ceil(samples * to_hz / from_hz)] at `to_hz`.

    >>> resample(torch.ones(2, 441), 44_100, 16_000).shape
    torch.Size([2, 160])
    """
    if from_hz == to_hz:
        return waves
    common = math.gcd(from_hz, to_hz)
    before, after = from_hz // common, to_hz // common
    kernels = _kernels(before, after)  # [after, 1, width]
    reach = (kernels.shape[-1] - before) // 2
    padded = F.pad(waves[:, None], (reach, reach + before))  # [channels, 1, samples + ...]
    phases = F.conv1d(padded, kernels, stride=before)  # [channels, after, blocks]
    length = math.ceil(waves.shape[1] * after / before)
    return phases.transpose(1, 2).flatten(1)[:, :length]


@cache
def _kernels(before: int, after: int) -> Tensor:
    """[after, 1, width]: a filter per output phase, over `before` samples and the reach on both sides."""
    cutoff = min(before, after) * ROLLOFF  # in units of `before` samples
    reach = math.ceil(CROSSINGS * before / cutoff)
    at = torch.arange(-reach, reach + before, dtype=torch.float64) / before  # [width]
    phase = torch.arange(after, dtype=torch.float64)[:, None] / after  # [after, 1]
    crossings = ((at - phase) * cutoff).clamp(-CROSSINGS, CROSSINGS)  # [after, width]
    hann = torch.cos(crossings * (math.pi / CROSSINGS / 2)).square()
    return (torch.sinc(crossings) * hann * (cutoff / before)).float()[:, None]
