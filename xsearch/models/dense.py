"""A vision tower's features at every patch, in the space of its embeddings.

`Tower.forward` is not involved, and neither is what it computes.

A transformer's last block is reduced to its attention, without residual and MLP (ClearCLIP,
arXiv:2407.12442), in which a patch attends to patches with similar keys, and to its neighbours (NACLIP,
arXiv:2404.08181). A convolutional tower has its map, of which the embedding is the mean.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from xsearch.errors import ModelError
from xsearch.models.blocks import Attention, Block
from xsearch.models.imagebind import VisionTower, unit

__all__ = ["dense_features"]

NEIGHBOURHOOD = 5.0  # patches: standard deviation of the Gaussian; sinahmr/NACLIP, configs/base_config.py


def dense_features(tower: VisionTower, x: Tensor) -> Tensor:
    """Pictures [B, 3, H, W] -> [B, h, w, E], unit vectors of the patches, at least float32.

    The sides may be any multiples of the patch for a convolutional tower, the config's for a transformer.
    """
    p = tower.patch
    if x.ndim != 4 or x.shape[2] % p or x.shape[3] % p:
        raise ModelError(f"pictures are [B, 3, H, W] in patches of {p} pixels, got {list(x.shape)}")
    h, w = x.shape[2] // p, x.shape[3] // p
    if len(tower.trunk.blocks):
        patches = _attended(tower, x, (h, w))[:, 1:]  # [B, h*w, D]
    else:
        patches = tower.patches(x).flatten(2).transpose(1, 2)  # [B, h*w, D]
        patches = patches + tower.pos_embed[:, 1:].mean(dim=1, keepdim=True)  # as in their mean
    return unit(tower.head(patches)).unflatten(1, (h, w))


def _attended(tower: VisionTower, x: Tensor, grid: tuple[int, int]) -> Tensor:
    """[B, 1+L, D], from the last block's attention alone."""
    tokens = tower.trunk.pre_norm(tower.tokens(x))
    *before, last = tower.trunk.blocks
    for block in before:
        tokens = block(tokens)
    assert isinstance(last, Block)
    return key_attention(last.attn, last.norm_1(tokens), neighbours(*grid).to(tokens))


def key_attention(attention: Attention, x: Tensor, bias: Tensor) -> Tensor:
    """[B, L, D] -> [B, L, D]: the values of tokens with similar keys. bias: [L, L], added to the products."""
    D = x.shape[2]
    k, v = attention.project(x, slice(D, None)).chunk(2, dim=-1)
    k, v = (t.unflatten(-1, (attention.heads, -1)).transpose(1, 2) for t in (k, v))  # [B, heads, L, D/heads]
    x = F.scaled_dot_product_attention(k, k, v, attn_mask=bias)
    return attention.out_proj(x.transpose(1, 2).flatten(2))  # [B, L, D]


def neighbours(h: int, w: int) -> Tensor:
    """float32 [1+h*w, 1+h*w]: exp(-distance^2 / 2 sigma^2) of two patches, 0 for the class token."""
    rows, columns = torch.arange(h * w) // w, torch.arange(h * w) % w
    squares = (rows[:, None] - rows) ** 2 + (columns[:, None] - columns) ** 2
    return F.pad(torch.exp(-squares / (2 * NEIGHBOURHOOD**2)), (1, 0, 1, 0))
