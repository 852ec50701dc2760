"""Weights and inputs of the small ImageBind model of the goldens, drawn from their names; numpy only.

n = Generator(PCG64(crc32(name))).standard_normal(shape, float32); a weight is n * scale + offset.
"""

from __future__ import annotations

import math
import zlib

import numpy as np

__all__ = ["inputs", "weight"]

LOGIT_SCALES = {"text": 1 / 0.07, "audio": 20.0, "depth": 5.0, "thermal": 10.0, "imu": 5.0}


def weight(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """float32: the entry `key` of the official state dict."""
    if key.endswith(".mask"):
        return np.triu(np.full(shape, -np.inf, np.float32), 1)
    if key.endswith("log_logit_scale"):
        return np.float32(np.log(LOGIT_SCALES[key.split(".")[1]])).reshape(())
    scale, offset = _scale(key, shape)
    return _normal(key, shape) * np.float32(scale) + np.float32(offset)


def inputs(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """float32, multiples of 1/16 in -4..4: half white noise, and a coarse field over the last axes."""
    axes, cells = (1, 16) if len(shape) == 3 else (2, 8)
    coarse = _normal(f"coarse:{name}", (*shape[:-axes], *[cells] * axes))
    for axis in range(len(shape) - axes, len(shape)):
        coarse = np.take(coarse, np.arange(shape[axis]) * cells // shape[axis], axis=axis)
    x = _normal(f"input:{name}", shape) * np.float32(0.5) + coarse
    return np.clip(np.rint(x * np.float32(16)), -64, 64).astype(np.float32) / np.float32(16)


def _normal(name: str, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    return rng.standard_normal(shape, dtype=np.float32)


def _scale(key: str, shape: tuple[int, ...]) -> tuple[float, float]:
    if len(shape) == 1 and key.endswith(".weight"):  # gains of norms
        return 0.1, 1.0
    if key.endswith("bias"):
        return 0.05, 0.0
    if key.endswith(("bias_k", "bias_v")):
        return 1.0, 0.0
    if key.endswith(("pos_embed", "cls_token", "token_embedding.weight")):
        return 0.05, 0.0
    fan_in = math.prod(shape[1:])
    # Small stems keep the input of the first norm at a variance of 0.003, where a wrong eps shows.
    gain = 0.05 if "_stem.proj" in key else 1.25 if key.endswith("in_proj_weight") else 1.0
    return gain / math.sqrt(fan_in), 0.0
