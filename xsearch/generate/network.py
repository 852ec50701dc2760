"""The network of a decoder: a noisy picture and the vector of what it should show -> the picture."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xsearch.generate.config import MAX_NOISE, DecoderConfig
from xsearch.models.blocks import Attention, Mlp
from xsearch.types import Modality

__all__ = ["Layer", "Network"]

FREQUENCIES = 32  # of the features of a scalar
MAX_PERIODS = 100.0  # of the highest frequency, between 0 and 1


class Layer(nn.Module):
    """A transformer block with adaLN-Zero (DiT, arXiv:2212.09748): [B, L, W] and a condition [B, W]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.attn = Attention(width, heads, bias_kv=False)
        self.mlp = Mlp(width)
        self.modulation = nn.Linear(width, 6 * width)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = self.modulation(c)[:, None].chunk(6, dim=-1)
        x = x + gate_1 * self.attn(self.norm(x) * (1 + scale_1) + shift_1)
        return x + gate_2 * self.mlp(self.norm(x) * (1 + scale_2) + shift_2)


class Network(nn.Module):
    """Predicts the picture itself, not noise or velocity, which fail with large patches (arXiv:2511.13720).

    means: float32 [kinds, D], buffer: mean unit vector of each Modality, in order of the enum.
    """

    means: Tensor

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        D, W, pixels = config.dim, config.width, 3 * config.patch**2
        self.register_buffer("means", torch.zeros(len(Modality), D))
        self.nothing = nn.Parameter(torch.zeros(D))  # in place of a vector that is not known
        self.scalars = nn.Sequential(nn.Linear(4 * FREQUENCIES, W), nn.SiLU(), nn.Linear(W, W))
        self.vector = nn.Linear(D, W)
        self.tokens = nn.Linear(D, config.tokens * W)
        self.patches = nn.Linear(pixels, W)
        self.positions = nn.Parameter(torch.zeros(config.tokens + (config.side // config.patch) ** 2, W))
        self.layers = nn.ModuleList(Layer(W, config.heads) for _ in range(config.depth))
        self.modulation = nn.Linear(W, 2 * W)
        self.norm = nn.LayerNorm(W, eps=1e-6, elementwise_affine=False)
        self.head = nn.Linear(W, pixels)

    @torch.no_grad()
    def initialise(self) -> None:
        """Set random weights. Layers begin as identities, and the head at zero."""
        for name, weight in self.named_parameters():
            if weight.ndim < 2 or name.endswith(("head.weight", "modulation.weight")):
                nn.init.zeros_(weight)
            elif weight is not self.positions:
                nn.init.xavier_uniform_(weight)
        nn.init.trunc_normal_(self.positions[: self.config.tokens], std=0.02)
        grid = _grid(self.config.side // self.config.patch, self.config.width)
        self.positions[self.config.tokens :] = grid

    def forward(self, z: Tensor, t: Tensor, vectors: Tensor, levels: Tensor, known: Tensor) -> Tensor:
        """The pictures, [B, 3, S, S] like z.

        z: noisy pictures. t: float [B], 0 noise to 1 picture. vectors: [B, D], unit rows, where `known`,
        bool [B], holds. levels: float [B], of the noise of the vectors, 0 to MAX_NOISE.
        """
        P, K, S, D = self.config.patch, self.config.tokens, self.config.side, self.config.dim
        v = torch.where(known[:, None], vectors * math.sqrt(D), self.nothing)  # [B, D], entries of size 1
        scalars = torch.cat([_waves(t), _waves(levels * known / MAX_NOISE)], dim=1)
        c = F.silu(self.scalars(scalars) + self.vector(v))  # [B, W]
        x = self.patches(F.pixel_unshuffle(z, P).flatten(2).mT)  # [B, L, W]
        x = torch.cat([self.tokens(v).unflatten(1, (K, -1)), x], dim=1) + self.positions  # [B, K+L, W]
        for layer in self.layers:
            x = layer(x, c)
        shift, scale = self.modulation(c)[:, None].chunk(2, dim=-1)
        x = self.head(self.norm(x[:, K:]) * (1 + scale) + shift)  # [B, L, 3PP]
        return F.pixel_shuffle(x.mT.unflatten(2, (S // P, S // P)), P)


def _waves(x: Tensor) -> Tensor:
    """float [B] in 0..1 -> [B, 2 * FREQUENCIES]."""
    periods = torch.logspace(-1, math.log10(MAX_PERIODS), FREQUENCIES, device=x.device)
    angles = 2 * math.pi * x[:, None] * periods
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def _grid(count: int, width: int) -> Tensor:
    """Sines and cosines of the row and the column of each patch: [count^2, width]."""
    frequencies = 10_000 ** -(torch.arange(width // 4) / (width // 4))
    angles = torch.arange(count)[:, None] * frequencies  # [count, width/4]
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)  # [count, width/2]
    rows, columns = waves.repeat_interleave(count, dim=0), waves.repeat(count, 1)
    return torch.cat([rows, columns], dim=1)
