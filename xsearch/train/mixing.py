"""Mixtures of pictures: each stands for what it shows, in shares (mixup, arXiv:1710.09412; CutMix,
arXiv:1905.04899)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

__all__ = ["mixed"]


def mixed(x: Tensor, draws: np.ndarray, share: float) -> tuple[Tensor, Tensor]:
    """Mix each picture with its neighbour: 0 with 1, 2 with 3. Returns the pictures and what is left of each.

    x: float32 [B, 3, H, W]; a last one without a neighbour stays. draws: float [B // 2, 5] in [0, 1).
    share: of the neighbours that are mixed, half of them as a blend, half with a rectangle exchanged.
    Returns [B, 3, H, W] and float32 [B].
    """
    height, width = x.shape[2:]
    result, left = x.clone(), torch.ones(len(x))
    for at, (chosen, kind, kept, down, right) in enumerate(draws):
        one, other = 2 * at, 2 * at + 1
        if chosen >= share:
            continue
        if kind < 0.5:
            result[one] = torch.lerp(x[other], x[one], kept)
            result[other] = torch.lerp(x[one], x[other], kept)
        else:
            h, w = (round(side * (1 - kept) ** 0.5) for side in (height, width))
            top, start = int(down * (height - h + 1)), int(right * (width - w + 1))
            box = (slice(None), slice(top, top + h), slice(start, start + w))
            result[one][box], result[other][box] = x[other][box], x[one][box]
            kept = 1 - h * w / (height * width)
        left[one] = left[other] = kept
    return result, left
