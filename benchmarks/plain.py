"""The towers again, as plainly as the official code computes them: the yardstick of `towers` and an oracle.

Sequence first, `nn.MultiheadAttention`, every block for every token, a picture as two frames under a 3-d
convolution, a text as all its 77 ids. The weights are those of the tower that it is made from.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xsearch.models.blocks import Block
from xsearch.models.imagebind import ImuTower, TextTower, Tower, VisionTower

__all__ = ["PlainTower"]


class PlainTower(nn.Module):
    """Any tower without convolutions in front. Inputs and outputs are those of `Tower.forward`."""

    def __init__(self, tower: Tower) -> None:
        super().__init__()
        self.tower = tower
        self.blocks = nn.ModuleList(PlainBlock(block) for block in tower.trunk.blocks)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        clips = x.ndim >= 5
        B, S = x.shape[:2] if clips else (len(x), 1)
        x = self.embed(x.flatten(0, 1) if clips else x)
        each = F.normalize(x, dim=-1).unflatten(0, (B, S))  # [B, S, E]
        return F.normalize(each.mean(dim=1), dim=-1)  # [B, E]

    def embed(self, x: Tensor) -> Tensor:
        tower = self.tower
        tokens = tower.trunk.pre_norm(self.tokens(x)).transpose(0, 1)  # [L, B, D]
        for block in self.blocks:
            tokens = block(tokens, tower.mask if isinstance(tower, TextTower) else None)
        tokens = tokens.transpose(0, 1)  # [B, L, D]
        at = x.argmax(dim=1) if isinstance(tower, TextTower) else torch.zeros(len(x), dtype=torch.int64)
        return tower.head(tokens[torch.arange(len(x)), at])  # [B, E]

    def tokens(self, x: Tensor) -> Tensor:
        tower = self.tower
        if isinstance(tower, TextTower):
            return tower.token_embedding(x) + tower.pos_embed
        if isinstance(tower, ImuTower):
            patches = tower.stem.proj(x.unfold(-1, tower.kernel, tower.kernel).transpose(1, 2).flatten(2))
        elif isinstance(tower, VisionTower):
            frames = x if x.ndim == 5 else torch.stack([x, x], dim=2)  # [B, 3, 2, H, W]
            weight = tower.stem.proj.weight
            patches = F.conv3d(frames, weight, stride=weight.shape[2:]).flatten(2).transpose(1, 2)
        else:
            patches = tower.stem.proj(x).flatten(2).transpose(1, 2)  # [B, L, D]
        cls = tower.cls_token.expand(len(x), -1, -1)
        return torch.cat([cls, tower.stem.norm(patches)], dim=1) + tower.pos_embed


class PlainBlock(nn.Module):
    """[L, B, D] -> [L, B, D]."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        ours = block.attn
        width = ours.in_proj_weight.shape[1]
        self.attn = nn.MultiheadAttention(
            width, ours.heads, add_bias_kv=ours.bias_k is not None, device="meta"
        )
        self.attn.load_state_dict(ours.state_dict(), assign=True)  # the same names; nothing is copied
        self.norm_1, self.norm_2, self.mlp = block.norm_1, block.norm_2, block.mlp

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        y = self.norm_1(x)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=mask)[0]
        return x + self.mlp(self.norm_2(x))
