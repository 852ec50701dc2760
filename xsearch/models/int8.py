"""Linear layers in int8, for wide towers on CPUs.

Inputs have 8 bits and a scale for each row (a token), weights 7 bits and a scale for each output. Rows are
independent and sums of integers exact: what a row becomes depends on nothing else, to the last bit. Neither
does the vector of a sample, except where convolutions precede the patches.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from xsearch.models.blocks import Attention
from xsearch.models.imagebind import TextTower

__all__ = ["Int8Linear", "quantise"]

# Without VNNI, CPUs add two products of an unsigned and a signed byte in 16 bits that saturate at 32,767:
# 2 * 255 * 64 fits, weights of 8 bits would not.
WEIGHTS, INPUTS, ZERO = 64, 127, 128  # largest weight and input, and the input 0 as an unsigned byte
LEAST = 1e-30  # so that rows of zeros have a scale
LENGTH_MULTIPLE = 16  # tokens: attention rounds differently among more of them, even if they are padding


class Int8Linear(nn.Module):
    """What `nn.Linear` of the same weights computes, rounded. Not trainable, and not in a state dict."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """weight: floating point [out, in]. bias: [out]."""
        super().__init__()
        weight = weight.detach().float()
        scales = largest(weight) / WEIGHTS  # [out, 1]
        rounded = (weight / scales).round_().to(torch.int8)
        self.packed = torch.ops.onednn.qlinear_prepack(rounded, None)
        zeros = torch.zeros(len(weight), dtype=torch.int64)
        # What follows the packed weights: no bias, an output in float32, and no function of it.
        self.rest: tuple[Any, ...] = (scales[:, 0], zeros, None, 1.0, 0, torch.float32, "none", [], "")
        self.bias = None if bias is None else bias.detach().float().clone()

    def forward(self, x: Tensor) -> Tensor:
        """float32 [..., in] -> float32 [..., out]."""
        rows = x.flatten(0, -2)
        scales = largest(rows) / INPUTS
        rounded = (rows * (1 / scales)).add_(ZERO + 0.5).to(torch.uint8)
        out = torch.ops.onednn.qlinear_pointwise(rounded, 1.0, ZERO, self.packed, *self.rest).mul_(scales)
        return (out if self.bias is None else out.add_(self.bias)).unflatten(0, x.shape[:-1])


def largest(x: Tensor) -> Tensor:
    """[rows, columns] -> [rows, 1]: the largest magnitude of each row, at least LEAST."""
    return torch.maximum(x.amax(dim=1, keepdim=True), -x.amin(dim=1, keepdim=True)).clamp_min_(LEAST)


def quantise(tower: nn.Module) -> None:
    """Replace the Linear layers of a tower one by one, in place.

    What remains is float32, and a copy, so that the mapped file can go.
    """
    if isinstance(tower, TextTower):
        tower.length_multiple = LENGTH_MULTIPLE
    for part in list(tower.modules()):
        if isinstance(part, Attention):
            part.in_proj = Int8Linear(part.in_proj_weight, part.in_proj_bias)
            del part.in_proj_weight, part.in_proj_bias
        for name, child in part.named_children():
            if isinstance(child, nn.Linear):
                setattr(part, name, Int8Linear(child.weight, child.bias))
    for value in (*tower.parameters(), *tower.buffers()):
        value.data = value.to(torch.float32 if value.is_floating_point() else value.dtype, copy=True)
