"""The building blocks of all towers: transformer blocks and residual convolutions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Attention", "Block", "Mlp", "Residual", "Trunk", "drop_path"]


class Attention(nn.Module):
    """Multi-head self-attention; parameters are named and laid out as in nn.MultiheadAttention.

    With `bias_kv`, one learned key and value are appended to those of the tokens. It is not a query, so the
    length stays L.
    """

    def __init__(self, width: int, heads: int, *, bias_kv: bool) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))  # rows: queries, keys, values
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.bias_k = nn.Parameter(torch.empty(1, 1, width)) if bias_kv else None
        self.bias_v = nn.Parameter(torch.empty(1, 1, width)) if bias_kv else None
        self.in_proj: nn.Module | None = None  # [.., D] -> [.., 3D] in the place of the weight, as in int8
        self.out_proj = nn.Linear(width, width)

    def project(self, x: Tensor, rows: slice) -> Tensor:
        """[B, L, D] -> [B, L, len(rows)]: these of the queries, keys and values."""
        if self.in_proj is not None:
            return self.in_proj(x)[..., rows]
        return F.linear(x, self.in_proj_weight[rows], self.in_proj_bias[rows])

    def forward(self, x: Tensor, mask: Tensor | None = None, at: Tensor | None = None) -> Tensor:
        """[B, L, D] -> [B, L, D]; with `at`, int64 [B], only the query of token at[b] of row b: [B, 1, D]."""
        B, _, D = x.shape
        if at is None:
            q, k, v = self.project(x, slice(None)).chunk(3, dim=-1)  # [B, L, D] each
        else:
            q = self.project(select(x, at), slice(D))  # [B, 1, D]
            k, v = self.project(x, slice(D, None)).chunk(2, dim=-1)
            mask = None if mask is None else mask[at][:, None, None]  # [B, 1, 1, L]
        if self.bias_k is not None and self.bias_v is not None:
            k = torch.cat([k, self.bias_k.to(k.dtype).expand(B, 1, D)], dim=1)  # [B, L+1, D]
            v = torch.cat([v, self.bias_v.to(v.dtype).expand(B, 1, D)], dim=1)
        q, k, v = (
            t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (q, k, v)
        )  # [B, heads, L, D/heads]
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out_proj(x.transpose(1, 2).flatten(2))  # [B, L, D]


def select(x: Tensor, at: Tensor) -> Tensor:
    """[B, L, D] -> [B, 1, D]: token at[b] of each row."""
    return x[torch.arange(len(x), device=x.device), at][:, None]


class Mlp(nn.Module):
    """Two layers with a hidden width of 4 x width; exact (erf) GELU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


def drop_path(x: Tensor, rate: float, training: bool) -> Tensor:
    """Stochastic depth (arXiv:1603.09382): zero random rows of a batch [B, ...], rescale the others."""
    if rate == 0.0 or not training:
        return x
    keep = torch.rand(x.shape[0], *[1] * (x.ndim - 1), device=x.device) >= rate
    return x * keep / (1 - rate)


class Block(nn.Module):
    """Pre-norm transformer block: [B, L, D] -> [B, L, D]; with `at` only that token of a row, [B, 1, D]."""

    def __init__(self, width: int, heads: int, *, bias_kv: bool, drop_path: float) -> None:
        super().__init__()
        self.drop_path = drop_path
        self.attn = Attention(width, heads, bias_kv=bias_kv)
        self.norm_1 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width)
        self.norm_2 = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x: Tensor, mask: Tensor | None = None, at: Tensor | None = None) -> Tensor:
        attended = self.attn(self.norm_1(x), mask, at)
        x = x if at is None else select(x, at)
        x = x + drop_path(attended, self.drop_path, self.training)
        return x + drop_path(self.mlp(self.norm_2(x)), self.drop_path, self.training)


class Trunk(nn.Module):
    """A stack of blocks, without a final norm: the head starts with one."""

    def __init__(
        self, width: int, depth: int, heads: int, *, bias_kv: bool, drop_path: float, pre_norm: bool
    ) -> None:
        super().__init__()
        self.pre_norm = nn.LayerNorm(width, eps=1e-6) if pre_norm else nn.Identity()
        rates = [drop_path * i / max(depth - 1, 1) for i in range(depth)]
        self.blocks = nn.ModuleList(Block(width, heads, bias_kv=bias_kv, drop_path=rate) for rate in rates)

    def forward(self, x: Tensor, mask: Tensor | None = None, at: Tensor | None = None) -> Tensor:
        """[B, L, D] -> [B, L, D].

        With `at`, int64 [B], the last block computes only the token of each row that the head takes:
        [B, 1, D], the same numbers at a fraction of that block's cost.
        """
        x = self.pre_norm(x)
        *before, last = self.blocks
        for block in before:
            x = block(x, mask)
        return last(x, mask, at)


class Residual(nn.Module):
    """ResNet's basic block (arXiv:1512.03385): [B, before, H, W] -> [B, after, H/stride, W/stride], rounded
    up. kernel: odd numbers."""

    def __init__(self, before: int, after: int, stride: int = 1, kernel: tuple[int, int] = (3, 3)) -> None:
        super().__init__()
        padding = kernel[0] // 2, kernel[1] // 2
        self.straight = nn.Sequential(
            nn.Conv2d(before, after, kernel, stride=stride, padding=padding, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            nn.Conv2d(after, after, kernel, padding=padding, bias=False),
            nn.BatchNorm2d(after),
        )
        self.shortcut = nn.Sequential()
        if stride > 1 or before != after:
            conv = nn.Conv2d(before, after, 1, stride=stride, bias=False)
            self.shortcut.extend([conv, nn.BatchNorm2d(after)])

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.straight(x) + self.shortcut(x))
