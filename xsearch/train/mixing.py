"""Mixtures of pictures, which stand for what they show in shares: blends (mixup, arXiv:1710.09412), exchanged
rectangles (CutMix, arXiv:1905.04899), and the one small within the other."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["mixed"]

SMALLEST, LARGEST = 0.4, 0.7  # sides of a picture within another, relative


def mixed(x: Tensor, draws: np.ndarray, share: float) -> tuple[Tensor, Tensor]:
    """Mix each picture with its neighbour: 0 with 1, 2 with 3. Returns the pictures and what is left of each.

    x: float32 [B, 3, H, W]; a last one without a neighbour stays. draws: float [B // 2, 5] in [0, 1).
    share: of the neighbours that are mixed, in one of the three ways. Returns [B, 3, H, W] and float32 [B].
    """
    height, width = x.shape[2:]
    result, left = x.clone(), torch.ones(len(x))

    def box(size: float, down: float, right: float) -> tuple[slice, slice, slice]:
        h, w = round(height * size), round(width * size)
        top, start = int(down * (height - h + 1)), int(right * (width - w + 1))
        return slice(None), slice(top, top + h), slice(start, start + w)

    for at, (chosen, kind, kept, down, right) in enumerate(draws):
        one, other = 2 * at, 2 * at + 1
        if chosen >= share:
            continue
        if kind < 1 / 3:
            result[one] = torch.lerp(x[other], x[one], kept)
            result[other] = torch.lerp(x[one], x[other], kept)
        elif kind < 2 / 3:
            part = box((1 - kept) ** 0.5, down, right)
            result[one][part], result[other][part] = x[other][part], x[one][part]
            kept = 1 - x[one][part].numel() / x[one].numel()
        else:
            part = box(SMALLEST + kept * (LARGEST - SMALLEST), down, right)
            size = x[one][part].shape[1:]
            small = F.interpolate(x[one : other + 1], size, mode="bilinear", antialias=True)
            result[one][part], result[other][part] = small[1], small[0]
            kept = 0.5
        left[one] = left[other] = kept
    return result, left
