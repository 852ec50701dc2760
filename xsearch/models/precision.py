"""The numbers that a tower computes with: float32, or half as many bits where those multiply faster."""

from __future__ import annotations

import torch

from xsearch.errors import UsageError
from xsearch.models.config import ImageBindConfig

__all__ = ["DTYPES", "has_fast_bf16", "precision", "training_precision"]

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
NARROW = 384  # narrower towers wait for memory and Python, not for products: half the bits win nothing


def precision(requested: str, device: torch.device, config: ImageBindConfig) -> torch.dtype:
    """The dtype that `requested` ("auto" or a name in DTYPES) means on `device`.

    auto: bfloat16 for the published model where the device is fast with it (cosine with float32 above 0.999,
    benchmarks/README.md), else float32. Raises UsageError for another name.
    """
    if requested != "auto":
        if requested not in DTYPES:
            raise UsageError(f"unknown dtype {requested!r}; expected auto, {', '.join(DTYPES)}")
        return DTYPES[requested]
    return torch.bfloat16 if config.vision.width >= NARROW and has_fast_bf16(device) else torch.float32


def training_precision(requested: str, device: torch.device) -> str:
    """ "fp32" or "bf16" (autocast): what "auto" resolves to on `device`, or `requested` itself."""
    if requested != "auto":
        return requested
    return "bf16" if has_fast_bf16(device) else "fp32"


def has_fast_bf16(device: torch.device) -> bool:
    """Whether `device` has instructions for products of bfloat16."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
