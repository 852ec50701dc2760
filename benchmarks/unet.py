"""A convolutional network instead of the transformer: the baseline of `benchmarks.decoder --unet`."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from diffusers import UNet2DModel
from torch import Tensor, nn

from xsearch.generate import DecoderConfig
from xsearch.types import Modality

PATCH = 2  # pixels: convolutions of all of them would be most of the work
CHANNELS = (32, 48, 96, 192)  # 0.65 GFLOP of a picture of 64 pixels, the transformer's default sizes 0.66


class UNet(nn.Module):
    """Predicts pictures as `xsearch.generate.Network` does; sizes other than the side are its own."""

    means: Tensor

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        D, W = config.dim, 4 * CHANNELS[0]
        self.register_buffer("means", torch.zeros(len(Modality), D))
        self.nothing = nn.Parameter(torch.zeros(D))  # in place of a vector that is not known
        self.vector, self.level = nn.Linear(D, W), nn.Linear(1, W)
        self.layers = UNet2DModel(
            sample_size=config.side // PATCH,
            in_channels=3 * PATCH**2,
            out_channels=3 * PATCH**2,
            layers_per_block=1,
            block_out_channels=CHANNELS,
            down_block_types=("DownBlock2D", "DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D", "UpBlock2D"),
            attention_head_dim=32,
            norm_num_groups=8,
            class_embed_type="identity",
        )

    def initialise(self) -> None:
        """Set the head to zero; diffusers has initialised the rest."""
        nn.init.zeros_(self.layers.conv_out.weight)
        nn.init.zeros_(self.layers.conv_out.bias)

    def forward(self, z: Tensor, t: Tensor, vectors: Tensor, levels: Tensor, known: Tensor) -> Tensor:
        """As `Network.forward`."""
        v = torch.where(known[:, None], vectors * math.sqrt(self.config.dim), self.nothing)  # [B, D]
        c = self.vector(v) + self.level((levels * known)[:, None])  # [B, W]
        x = self.layers(F.pixel_unshuffle(z, PATCH), 1000 * t, class_labels=c).sample
        return F.pixel_shuffle(x, PATCH)
