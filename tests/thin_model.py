"""The architecture of the bundled model, as thin as it gets: an embedding costs a millisecond."""

import dataclasses
from pathlib import Path

import torch

from xsearch.models import SMALL, TOWERS, ImageBind, Tokenizer, save_model

WIDTH = 16


def save_thin_model(folder: Path, tokenizer: Tokenizer, *, dim: int, context: int, mirrored: bool) -> None:
    """Write a model folder with random weights, which are always the same."""
    part = dataclasses.replace
    towers = {
        name: part(
            getattr(SMALL, name), width=WIDTH, depth=1, heads=2, stem=(8,) * len(getattr(SMALL, name).stem)
        )
        for name in TOWERS
    }
    towers["vision"] = part(towers["vision"], mirrored=mirrored)
    towers["text"] = part(towers["text"], context=context, vocab=tokenizer.size)
    torch.manual_seed(0)
    save_model(ImageBind(part(SMALL, name="tiny", embed_dim=dim, **towers)), tokenizer, folder)
