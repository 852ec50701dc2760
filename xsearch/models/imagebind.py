"""ImageBind (arXiv:2305.05665): six towers into one space, at any size.

Every tower has three parts: `tokens` (media tensor -> sequence), `trunk` (transformer), `head` (one token ->
embedding). `forward` returns unit vectors.

Inputs, float32 unless stated; the embeddings of the S clips of an item are averaged and renormalised:

    vision   [B, 3, H, W] pictures; [B, S, 3, 2, H, W] clips of two frames
    text     int64 [B, context]
    audio    [B, S, 1, mels, frames] or [B, 1, mels, frames]
    depth    [B, 1, H, W]
    thermal  [B, 1, H, W]
    imu      [B, 6, samples]
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xsearch.errors import ModelError
from xsearch.models.blocks import Attention, Residual, Trunk
from xsearch.models.config import (
    TOWERS,
    AudioConfig,
    DepthConfig,
    ImageBindConfig,
    ImuConfig,
    TextConfig,
    ThermalConfig,
    TowerConfig,
    VisionConfig,
)

__all__ = ["ImageBind", "Tower", "build_tower"]

TEXTS = 64  # per forward pass of the text tower


class Stem(nn.Module):
    """Media -> tokens: optional convolutions, patch projection without bias, and a norm (not for vision).

    is_series: the media are one row, and so are the kernels.
    """

    def __init__(
        self,
        proj: nn.Conv2d | nn.Conv3d | nn.Linear,
        *,
        channels: Sequence[int] = (),
        blocks: Sequence[int] = (),
        norm: bool = True,
        is_series: bool = False,
    ) -> None:
        super().__init__()
        largest, kernel = ((1, 5), (1, 5)) if is_series else ((5, 5), (3, 3))
        self.convs = nn.Sequential()
        if channels[1:]:
            padding = largest[0] // 2, largest[1] // 2
            first = nn.Conv2d(channels[0], channels[1], largest, stride=2, padding=padding, bias=False)
            self.convs.extend([first, nn.BatchNorm2d(channels[1]), nn.ReLU()])
        counts = blocks or [1] * len(channels[2:])
        for (before, after), count in zip(pairwise(channels[1:]), counts, strict=True):
            self.convs.append(Residual(before, after, stride=2, kernel=kernel))
            self.convs.extend(Residual(after, after, kernel=kernel) for _ in range(count - 1))
        self.proj = proj
        self.norm = nn.LayerNorm(len(proj.weight), eps=1e-5) if norm else nn.Identity()


class Head(nn.Module):
    """Norm and projection of the pooled token: [B, D] -> [B, E]."""

    def __init__(self, width: int, embed_dim: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.dropout = nn.Dropout(dropout)
        self.proj = nn.Linear(width, embed_dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(self.dropout(self.norm(x)))


class Tower(nn.Module):
    """Media tensor -> unit vectors. Subclasses provide `tokens`; token 0 is the class token."""

    cls_token: Tensor
    pos_embed: Tensor
    log_logit_scale: Tensor  # ln of the scale of the official outputs; `forward` does not apply it

    def __init__(
        self,
        config: TowerConfig,
        embed_dim: int,
        *,
        bias_kv: bool = True,
        pre_norm: bool = False,
        head_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.trunk = Trunk(
            config.width,
            config.depth,
            config.heads,
            bias_kv=bias_kv,
            drop_path=config.drop_path,
            pre_norm=pre_norm,
        )
        self.head = Head(config.width, embed_dim, head_dropout)

    def tokens(self, x: Tensor) -> Tensor:
        """A batch without clips -> [B, 1+L, D]."""
        raise NotImplementedError

    def embed(self, x: Tensor) -> Tensor:
        """A batch without clips -> [B, E], not normalised."""
        tokens = self.tokens(x)  # [B, 1+L, D]
        if not len(self.trunk.blocks):
            return self.head(tokens[:, 1:].mean(dim=1))
        first = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        return self.head(self.trunk(tokens, at=first)[:, 0])

    def forward(self, x: Tensor) -> Tensor:
        """Returns [B, E], unit rows, at least float32 even under autocast."""
        return unit(self.clips(x).mean(dim=1))  # [B, E]  a mean is shorter than 1

    def clips(self, x: Tensor) -> Tensor:
        """[B, S, E], unit rows; S is 1 for inputs without clips."""
        B, S = x.shape[:2] if x.ndim >= 5 else (len(x), 1)
        return unit(self.embed(x.flatten(0, 1) if x.ndim >= 5 else x)).unflatten(0, (B, S))

    def official(self, x: Tensor) -> Tensor:
        """The output of the official code for the same input, [B, E], at least float32.

        Unit vectors times exp(log_logit_scale), at most 100 (unscaled for vision); of several clips the plain
        mean, which is shorter. `forward` returns the same direction at length 1.
        """
        mean = self.clips(x).mean(dim=1)  # [B, E]
        if not hasattr(self, "log_logit_scale"):
            return mean
        return mean * self.log_logit_scale.to(mean.dtype).exp().clamp(max=100)

    def with_class_token(self, patches: Tensor) -> Tensor:
        """[B, L, D] -> [B, 1+L, D]: prepends the class token and adds positions."""
        B, L, D = patches.shape
        if self.pos_embed.shape[1] != 1 + L:
            raise ModelError(
                f"the input has {L} patches, the {type(self).__name__} has positions for "
                f"{self.pos_embed.shape[1] - 1}; use the input size of its config"
            )
        return torch.cat([self.cls_token.expand(B, 1, D), patches], dim=1) + self.pos_embed


def unit(x: Tensor) -> Tensor:
    """Rows normalised to length 1, at least in float32."""
    return F.normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=-1)


class VisionTower(Tower):
    """Pictures and pairs of frames: patches of two frames x p x p pixels."""

    def __init__(self, config: VisionConfig, embed_dim: int) -> None:
        super().__init__(config, embed_dim, bias_kv=False, pre_norm=True)
        self.patch = p = config.patch  # pixels
        D = config.width
        if config.stem:
            side = p >> len(config.stem)
            proj = nn.Conv2d(config.stem[-1], D, side, side, bias=False)
            self.stem = Stem(proj, channels=(6, *config.stem), blocks=config.blocks, norm=False)
        else:
            self.stem = Stem(nn.Conv3d(3, D, (2, p, p), bias=False), norm=False)
        self.cls_token = nn.Parameter(torch.empty(1, 1, D))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + (config.image_size // p) ** 2, D))
        self.mirrored = config.mirrored

    def clips(self, x: Tensor) -> Tensor:
        """[B, S, E], unit rows; twice as many if mirror images count, which they do not in training."""
        clips = super().clips(x)
        if self.training or not self.mirrored:
            return clips
        return torch.cat([clips, super().clips(x.flip(-1))], dim=1)

    def tokens(self, x: Tensor) -> Tensor:
        """[B, 3, H, W] or [B, 3, T, H, W] with T 1 or 2 -> [B, 1+L, D], patches row by row."""
        if x.ndim == 5 and x.shape[2] == 1:
            x = x[:, :, 0]
        if x.shape[1] != 3 or x.ndim not in (4, 5) or (x.ndim == 5 and x.shape[2] != 2):
            raise ModelError(
                "pictures are [B, 3, H, W] and clips [B, S, 3, 2, H, W]; "
                f"got [B, {', '.join(map(str, x.shape[1:]))}]"
            )
        grid = self.patches(x)  # [B, D, h, w]
        h, w = grid.shape[2:]
        patches = grid.flatten(2).transpose(1, 2)  # [B, h*w, D]
        if h * w == self.pos_embed.shape[1] - 1 or h != w:
            return self.with_class_token(patches)
        cls_token = self.cls_token.expand(len(x), 1, -1)
        return torch.cat([cls_token, patches], dim=1) + self.resized_positions(h)

    def patches(self, x: Tensor) -> Tensor:
        """[B, 3, H, W] or [B, 3, 2, H, W] -> [B, D, h, w]. A picture counts as two equal frames."""
        if len(self.stem.convs):
            frames = x.repeat(1, 2, 1, 1) if x.ndim == 4 else x.transpose(1, 2).flatten(1, 2)  # [B, 6, H, W]
            return self.stem.proj(self.stem.convs(frames))
        weight = self.stem.proj.weight  # [D, 3, 2, p, p]
        if x.ndim == 4:
            return F.conv2d(x, weight.sum(dim=2), stride=weight.shape[-1])  # both frames in one product
        return F.conv2d(x.flatten(1, 2), weight.flatten(1, 2), stride=weight.shape[-1])

    def resized_positions(self, side: int) -> Tensor:
        """The square of learned positions, bicubically resized to side x side: [1, 1+side*side, D]."""
        first, square = self.pos_embed[:, :1], self.pos_embed[:, 1:]
        n = math.isqrt(square.shape[1])
        square = square.transpose(1, 2).unflatten(2, (n, n))  # [1, D, n, n]
        square = F.interpolate(square.float(), scale_factor=side / n, mode="bicubic").to(first.dtype)
        return torch.cat([first, square.flatten(2).transpose(1, 2)], dim=1)


class PlaneTower(Tower):
    """Single-channel images: mel spectrograms, depth maps, thermal pictures."""

    def __init__(
        self,
        config: AudioConfig | DepthConfig | ThermalConfig,
        embed_dim: int,
        *,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        patches: int,
    ) -> None:
        super().__init__(config, embed_dim)
        D, shrunk = config.width, 2 ** len(config.stem)
        (height, width), (down, right) = ([size // shrunk for size in pair] for pair in (kernel, stride))
        channels = config.stem[-1] if config.stem else 1
        proj = nn.Conv2d(channels, D, (height, width), (down, right), bias=False)
        self.stem = Stem(proj, channels=(1, *config.stem), blocks=config.blocks)
        self.cls_token = nn.Parameter(torch.empty(1, 1, D))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + patches, D))
        self.register_buffer("log_logit_scale", torch.tensor(math.log(config.logit_scale)))

    def tokens(self, x: Tensor) -> Tensor:
        """[B, 1, H, W] -> [B, 1+L, D], patches row by row."""
        if x.ndim != 4 or x.shape[1] != 1:
            raise ModelError(f"the {type(self).__name__} takes [B, 1, H, W], got {list(x.shape)}")
        patches = self.stem.proj(self.stem.convs(x)).flatten(2).transpose(1, 2)  # [B, L, D]
        return self.with_class_token(self.stem.norm(patches))


class AudioTower(PlaneTower):
    """Log-mel clips: overlapping patches of kernel[0] mels x kernel[1] frames."""

    def __init__(self, config: AudioConfig, embed_dim: int) -> None:
        patches = math.prod(config.grid)
        super().__init__(config, embed_dim, kernel=config.kernel, stride=config.stride, patches=patches)


class DepthTower(PlaneTower):
    """Disparity maps and, as `ThermalTower`, thermal pictures: square patches."""

    def __init__(self, config: DepthConfig | ThermalConfig, embed_dim: int) -> None:
        p, patches = config.patch, (config.image_size // config.patch) ** 2
        super().__init__(config, embed_dim, kernel=(p, p), stride=(p, p), patches=patches)


class ThermalTower(DepthTower):
    """Thermal pictures: square patches."""


class ImuTower(Tower):
    """Accelerometer and gyroscope: a patch is `kernel` time steps of all six channels."""

    def __init__(self, config: ImuConfig, embed_dim: int) -> None:
        super().__init__(config, embed_dim, head_dropout=config.head_dropout)
        D, self.kernel = config.width, config.kernel
        steps = config.kernel >> len(config.stem)
        proj: nn.Conv2d | nn.Linear = nn.Linear(6 * steps, D, bias=False)
        if config.stem:
            proj = nn.Conv2d(config.stem[-1], D, (1, steps), steps, bias=False)
        self.stem = Stem(proj, channels=(6, *config.stem), blocks=config.blocks, is_series=True)
        self.cls_token = nn.Parameter(torch.empty(1, 1, D))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + config.patches, D))
        self.register_buffer("log_logit_scale", torch.tensor(math.log(config.logit_scale)))

    def tokens(self, x: Tensor) -> Tensor:
        """[B, 6, T] -> [B, 1+L, D]; time steps that do not fill a patch are dropped."""
        if x.ndim != 3 or x.shape[1] != 6:
            raise ModelError(f"IMU recordings are [B, 6, samples], got {list(x.shape)}")
        if len(self.stem.convs):
            grid = self.stem.proj(self.stem.convs(x[:, :, None]))  # [B, D, 1, L]
            patches = grid.flatten(2).transpose(1, 2)  # [B, L, D]
        else:
            patches = x.unfold(-1, self.kernel, self.kernel).transpose(1, 2).flatten(2)  # [B, L, 6*kernel]
            patches = self.stem.proj(patches)  # [B, L, D]
        return self.with_class_token(self.stem.norm(patches))


class TextTower(Tower):
    """Token ids, with causal attention; the embedding is that of the end token, which has the largest id.

    Constructed without torch's `triu` and `normal_`, whose first use on the meta device takes a second.
    """

    mask: Tensor

    def __init__(self, config: TextConfig, embed_dim: int) -> None:
        super().__init__(config, embed_dim, bias_kv=False)
        L = config.context
        table = torch.empty(config.vocab, config.width)
        self.token_embedding = nn.Embedding.from_pretrained(table, freeze=False)
        self.pos_embed = nn.Parameter(torch.empty(1, L, config.width))
        future = np.triu(np.full((L, L), -np.inf, np.float32), 1)
        self.register_buffer("mask", torch.from_numpy(future))
        self.log_logit_scale = nn.Parameter(torch.tensor(math.log(config.logit_scale)))
        self.length_multiple: int | None = None  # of which texts are padded, with others of that length only

    def tokens(self, ids: Tensor) -> Tensor:
        """int64 [B, L], L at most the context -> [B, L, D]."""
        return self.token_embedding(ids) + self.pos_embed[:, : ids.shape[1]]

    def embed(self, ids: Tensor) -> Tensor:
        context = len(self.mask)
        if ids.ndim != 2 or ids.shape[1] != context:
            raise ModelError(f"token ids are [B, {context}], got {list(ids.shape)}")
        end = ids.argmax(dim=1)  # [B]  the first, if a text has several
        # Batches of similar length, cut at the longest text: attention is causal, padding has no effect.
        order = end.argsort(stable=True)
        lengths = [len(order)]
        if self.length_multiple:
            lengths = (end[order] // self.length_multiple).unique_consecutive(return_counts=True)[1].tolist()
        groups = (some for group in order.split(lengths) for some in group.split(TEXTS))
        rows = [self._ended(ids[some], end[some]) for some in groups]
        return torch.cat(rows)[order.argsort()]  # [B, E]

    def _ended(self, ids: Tensor, end: Tensor) -> Tensor:
        L = int(end.max()) + 1
        if self.length_multiple:
            L = min(L + -L % self.length_multiple, ids.shape[1])
        x = self.trunk(self.tokens(ids[:, :L]), self.mask[:L, :L], end)  # [B, 1, D]
        return self.head(x[:, 0])  # [B, E]


def build_tower(config: ImageBindConfig, name: str) -> Tower:
    """A new tower `name` (one of TOWERS), its weights drawn from torch's global generator."""
    kinds = (VisionTower, TextTower, AudioTower, DepthTower, ThermalTower, ImuTower)
    tower: Tower = dict(zip(TOWERS, kinds, strict=True))[name](getattr(config, name), config.embed_dim)
    _init(tower)
    return tower


def lay_out(tower: Tower) -> None:
    """Store convolution weights channels last: 25% faster (measured)."""
    for part in tower.modules():
        if isinstance(part, nn.Conv2d):
            part.weight.data = part.weight.data.contiguous(memory_format=torch.channels_last)


def _init(tower: Tower) -> None:
    """Initialise as CLIP (openai/CLIP, model.py): layers preserve the variance of their input, the ends of
    residual branches are scaled by depth, embedding tables are small. ViT's 0.02 everywhere suits wide towers
    only: at a width of 192 attention hardly contributes, and for 700 steps only the last word is learned.

    Convolutions before the patch projection keep torch's initialisation; a residual block that can be is the
    identity at the start (arXiv:1706.02677, section 5.1).
    """
    convs = {part for stem in tower.modules() if isinstance(stem, Stem) for part in stem.convs.modules()}
    for part in tower.modules():
        if isinstance(part, nn.Linear | nn.Conv2d | nn.Conv3d) and part not in convs:
            nn.init.trunc_normal_(part.weight, std=part.weight[0].numel() ** -0.5)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        if isinstance(part, Tower | Attention | nn.Embedding):
            for parameter in part.parameters(recurse=False):
                if parameter.ndim > 1:
                    nn.init.trunc_normal_(parameter, std=0.02)
        if isinstance(part, Residual) and not len(part.shortcut):
            nn.init.zeros_(part.straight.get_parameter("4.weight"))
        if isinstance(part, Attention):
            nn.init.trunc_normal_(part.in_proj_weight, std=part.in_proj_weight.shape[1] ** -0.5)
    depth = len(tower.trunk.blocks)
    for name, parameter in tower.trunk.blocks.named_parameters():
        if name.endswith(("attn.out_proj.weight", "mlp.fc2.weight")):
            with torch.no_grad():
                parameter.mul_((2 * depth) ** -0.5)


class ImageBind(nn.Module):
    """The six towers, or a selection of them."""

    def __init__(self, config: ImageBindConfig, towers: tuple[str, ...] = TOWERS) -> None:
        super().__init__()
        self.config = config
        self.towers = nn.ModuleDict({name: build_tower(config, name) for name in towers})

    def forward(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """One batch per tower -> float32 [B, embed_dim] of unit rows per tower."""
        return {name: self.towers[name](x) for name, x in inputs.items()}
