"""A model folder with random weights, and random batches for its towers, to measure time and memory with."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from xsearch.models import HUGE, TOWERS, ImageBindConfig, Tower, build_tower, train_tokenizer
from xsearch.models.checkpoint import write_folder
from xsearch.models.imagebind import lay_out

__all__ = ["SHORT", "batch_of", "random_tower", "tower_of", "write_model"]

SHORT = "text, 10 ids"  # a query of eight words; other texts fill the context


def tower_of(case: str) -> str:
    """A case is a tower, or SHORT."""
    return case.partition(",")[0]


def write_model(folder: Path, config: ImageBindConfig = HUGE) -> None:
    """Write float32 weights that keep the size of what passes through; seeded."""
    write_folder(folder, config, train_tokenizer(["a dog"], 300), _states(config), torch.float32)


def _states(config: ImageBindConfig) -> Iterator[tuple[str, dict[str, Tensor]]]:
    generator = torch.Generator().manual_seed(0)
    for name in TOWERS:
        with torch.device("meta"):
            meta = build_tower(config, name).state_dict()
        state = {key: torch.empty(value.shape) for key, value in meta.items()}
        _fill(state, generator)
        yield name, state


def random_tower(config: ImageBindConfig, name: str, device: torch.device, dtype: torch.dtype) -> Tower:
    """A tower with weights of the same kind, drawn on `device`, as `load_tower` would return it."""
    with torch.device("meta"):
        tower = build_tower(config, name)
    tower.to_empty(device=device)
    _fill(tower.state_dict(), torch.Generator(device).manual_seed(0))
    lay_out(tower)
    return tower.to(dtype).eval()


def _fill(state: dict[str, Tensor], generator: torch.Generator) -> None:
    for key, value in state.items():
        if key == "mask":
            value.fill_(-math.inf).triu_(1)
        elif value.ndim:
            value.normal_(*_mean_and_std(key, value), generator=generator)
        else:
            value.fill_(1)


def _mean_and_std(key: str, value: Tensor) -> tuple[float, float]:
    """Matrices keep variance, tables are small, gains near one, and biases large enough to be missed."""
    if value.ndim == 1:
        return (1.0, 0.1) if key.endswith("weight") else (0.0, 0.05)
    if key.endswith(("bias_k", "bias_v")):
        return 0.0, 1.0
    if key.endswith(("pos_embed", "cls_token", "token_embedding.weight")):
        return 0.0, 0.05
    return 0.0, (0.05 if "stem" in key else 1.0) * math.prod(value.shape[1:]) ** -0.5


def batch_of(case: str, size: int, config: ImageBindConfig = HUGE) -> Tensor:
    """What the tower of a case takes, [size, ...]; seeded."""
    generator = torch.Generator().manual_seed(1)
    text, audio = config.text, config.audio
    match tower_of(case):
        case "text":
            used = min(10 if case == SHORT else text.context, text.context)
            ids = torch.zeros(size, text.context, dtype=torch.int64)
            ids[:, : used - 1] = torch.randint(1, text.vocab - 2, (size, used - 1), generator=generator)
            ids[:, used - 1] = text.vocab - 1
            return ids
        case "audio":
            shape: tuple[int, ...] = (audio.clips, 1, audio.mels, audio.frames)
        case "imu":
            shape = (6, config.imu.samples)
        case "vision":
            shape = (3, config.vision.image_size, config.vision.image_size)
        case plane:
            side = getattr(config, plane).image_size
            shape = (1, side, side)
    return torch.randn(size, *shape, generator=generator)
