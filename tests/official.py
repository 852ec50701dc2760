"""The files that ImageBind's authors publish, in small: made up, but of the same format."""

from __future__ import annotations

import dataclasses
import gzip
from functools import cache
from itertools import islice, product
from string import ascii_lowercase

import torch
from torch import Tensor

from xsearch.models import HUGE, ImageBind, ImageBindConfig
from xsearch.models.convert import official_name


def small() -> ImageBindConfig:
    """As few numbers as the published heads, strides and positions of sounds allow."""
    part = dataclasses.replace
    return part(
        HUGE,
        embed_dim=8,
        vision=part(HUGE.vision, width=16, depth=2, image_size=28),
        text=part(HUGE.text, width=16, depth=1),
        audio=part(HUGE.audio, width=12, depth=1),
        depth=part(HUGE.depth, width=8, depth=1, image_size=32),
        thermal=part(HUGE.thermal, width=12, depth=1, image_size=48),
        imu=part(HUGE.imu, width=8, depth=1, kernel=200),
    )


def checkpoint(config: ImageBindConfig, seed: int = 0) -> dict[str, Tensor]:
    """The state dict that the official code would save."""
    torch.manual_seed(seed)
    return {
        official_name(name, key): value
        for name, tower in ImageBind(config).towers.items()
        for key, value in tower.state_dict().items()
    }


@cache
def vocabulary() -> bytes:
    """As bpe_simple_vocab_16e6.txt.gz: with as many merges, all of them made up."""
    pairs = [f"{left}{right}" for left, right in product(ascii_lowercase, repeat=2)]
    merges = [" ".join(pair) for pair in pairs] + [
        f"{left} {right}" for left, right in product(pairs, repeat=2)
    ]
    lines = ["version", *islice(merges, 49152 - 256 - 2), "beyond"]
    return gzip.compress("\n".join(lines).encode(), compresslevel=1)
