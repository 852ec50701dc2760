"""The dtype that towers compute in: float32, or fewer bits where that is faster."""

from __future__ import annotations

import torch

from xsearch.errors import UsageError
from xsearch.models.config import ImageBindConfig

__all__ = ["COMPUTED", "DTYPES", "has_fast_bf16", "is_wide", "precision", "training_precision"]

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}  # of weights in files
COMPUTED = DTYPES | {"int8": torch.int8}  # which towers can compute in; int8: see `models.int8`
NARROW = 512  # narrower towers are bound by memory and Python overhead, where fewer bits gain nothing


def precision(requested: str, device: torch.device, config: ImageBindConfig) -> torch.dtype:
    """The dtype that `requested` ("auto" or a name in COMPUTED) resolves to on `device`.

    auto: bfloat16 for the published model if the device has fast bfloat16 (cosine with float32 above 0.999,
    benchmarks/README.md), else float32; never int8, which suffers from the outliers that wide towers can have
    when trained, and was measured with random weights. Raises UsageError for another name, and for int8 where
    it does not pay.
    """
    if requested != "auto":
        if requested not in COMPUTED:
            raise UsageError(f"unknown dtype {requested!r}; expected auto, {', '.join(COMPUTED)}")
        if requested == "int8":
            _check_int8(device, config)
        return COMPUTED[requested]
    return torch.bfloat16 if is_wide(config) and has_fast_bf16(device) else torch.float32


def is_wide(config: ImageBindConfig) -> bool:
    """Whether the arithmetic of its towers takes most of their time."""
    return config.vision.width >= NARROW


def _check_int8(device: torch.device, config: ImageBindConfig) -> None:
    if device.type != "cpu":
        raise UsageError(f"int8 needs a CPU, not {device}: add --device cpu, or take --dtype auto")
    if not torch.backends.mkldnn.is_available():
        raise UsageError("int8 needs oneDNN, which this build of torch lacks: take --dtype auto")
    if not is_wide(config):
        raise UsageError(f"int8 gains nothing for {config.name}, which is narrow: take --dtype auto")


def training_precision(requested: str, device: torch.device) -> str:
    """ "fp32" or "bf16" (autocast): what "auto" resolves to on `device`, or `requested` itself."""
    if requested != "auto":
        return requested
    return "bf16" if has_fast_bf16(device) else "fp32"


def has_fast_bf16(device: torch.device) -> bool:
    """Whether `device` has native bfloat16 matrix products."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
