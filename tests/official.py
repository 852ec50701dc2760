"""The files that ImageBind's authors publish, in small: made up, but of the same format."""

from __future__ import annotations

import dataclasses
import gzip
from functools import cache
from itertools import chain, product

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
def vocabulary(merges: tuple[tuple[int, str], ...] = ()) -> bytes:
    """bpe_simple_vocab_16e6.txt.gz with `merges` in their lines, and made-up ones in all the others."""
    letters = [chr(256 + byte) for byte in range(32)]  # GPT-2's stand-ins for control bytes: no text has them
    pairs = list(product(letters, repeat=2))
    made_up = chain(map(" ".join, pairs), map(" ".join, product(map("".join, pairs), repeat=2)))
    known = dict(merges)
    lines = [known.get(number) or next(made_up) for number in range(1, 49152 - 256 - 1)]
    return gzip.compress("\n".join(["version", *lines, "beyond"]).encode(), compresslevel=1)
