"""Conversion of the official imagebind_huge.pth into a model folder: parameter names, sizes, weights."""

from __future__ import annotations

import dataclasses
import math
import pickle
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xsearch.errors import ModelError
from xsearch.models.checkpoint import check_shapes, shapes_of, write_folder
from xsearch.models.config import HUGE, TOWERS, ImageBindConfig
from xsearch.models.imagebind import ImageBind
from xsearch.models.tokenizer import Tokenizer

__all__ = ["convert_official", "official_config", "official_name", "split_official"]


def convert_official(
    pth: Path,
    vocabulary: Path,
    folder: Path,
    *,
    base: ImageBindConfig = HUGE,
    dtype: torch.dtype = torch.float32,
    say: Callable[[str], object] = lambda line: None,
) -> None:
    """imagebind_huge.pth and CLIP's vocabulary file -> a model folder, one tower at a time in memory.

    Sizes are read from the checkpoint; `base` provides what shapes do not determine, see `official_config`.
    say: called with a line of text before each tower. Pickled code is never executed. Raises ModelError if
    either file is invalid.
    """
    shapes = shapes_of(_read(pth))
    if sum(map(math.prod, shapes.values())) > pth.stat().st_size:  # repeated values, which do not fit memory
        raise ModelError(f"{pth} is not a checkpoint: its tensors are larger than the file")
    config = official_config(shapes, base, pth)
    ours = _ours(config)
    check_shapes(shapes, _shapes(ours), pth)
    tokenizer = Tokenizer.from_clip(vocabulary, context=config.text.context)
    if tokenizer.size != config.text.vocab:
        raise ModelError(f"{pth} has {config.text.vocab:,} tokens, {vocabulary} has {tokenizer.size:,}")

    def towers() -> Iterator[tuple[str, dict[str, Tensor]]]:
        for tower in TOWERS:
            say(f"converting the {tower} tower")
            state = _read(pth)  # a new mapping, whose pages are released with the tower
            yield tower, {key: state[official_name(tower, key)] for key in ours[tower]}

    write_folder(folder, config, tokenizer, towers(), dtype)


def split_official(
    state: Mapping[str, Tensor], config: ImageBindConfig, source: Path | str = "the checkpoint"
) -> dict[str, dict[str, Tensor]]:
    """A state dict with official names -> one per tower with our names; tensors are shared.

    Raises ModelError naming the keys that are missing, unknown or of another shape.
    """
    ours = _ours(config)
    check_shapes(shapes_of(state), _shapes(ours), source)
    return {tower: {key: state[official_name(tower, key)] for key in ours[tower]} for tower in ours}


def official_config(
    shapes: Mapping[str, Sequence[int]],
    base: ImageBindConfig = HUGE,
    source: Path | str = "the checkpoint",
) -> ImageBindConfig:
    """The config of an official checkpoint, from the shapes of its tensors by official name.

    Heads, strides, mels, frames and settings, which shapes do not determine, are those of `base`.
    Raises ModelError naming missing and unknown keys, or if a width is not divisible by the heads.
    """
    towers: dict[str, Any] = {}
    for name in TOWERS:
        blocks = official_name(name, "trunk.blocks.")
        numbers = {key.removeprefix(blocks).split(".")[0] for key in shapes if key.startswith(blocks)}
        tower = getattr(base, name)
        towers[name] = dataclasses.replace(tower, depth=len(numbers) or tower.depth)
    expected = _shapes(_ours(dataclasses.replace(base, **towers)))
    check_shapes(dict.fromkeys(shapes, ()), dict.fromkeys(expected, ()), source)  # names only

    def length(tower: str, key: str, axis: int) -> int:
        name = official_name(tower, key)
        try:
            return max(shapes[name][axis], 1)
        except IndexError:
            raise ModelError(f"{source}: {name} is {list(shapes[name])}, too few dimensions") from None

    for name, tower in towers.items():
        width, positions = length(name, "head.norm.weight", 0), length(name, "pos_embed", 1)
        if width % tower.heads:
            key = official_name(name, "head.norm.weight")
            raise ModelError(f"{source}: {key} is [{width}], not divisible by {tower.heads} heads")
        sizes: dict[str, Any] = {"width": width}
        if name == "text":
            sizes |= {"context": positions, "vocab": length(name, "token_embedding.weight", 0)}
        elif name == "audio":
            sizes["kernel"] = length(name, "stem.proj.weight", 2), length(name, "stem.proj.weight", 3)
        elif name == "imu":
            kernel = max(length(name, "stem.proj.weight", 1) // 6, 1)
            sizes |= {"kernel": kernel, "samples": kernel * (positions - 1)}
        else:
            patch = length(name, "stem.proj.weight", -1)
            sizes |= {"patch": patch, "image_size": patch * math.isqrt(positions - 1)}
        towers[name] = dataclasses.replace(tower, **sizes)
    rows, columns = towers["audio"].grid
    if rows * columns != length("audio", "pos_embed", 1) - 1:
        key = official_name("audio", "pos_embed")
        raise ModelError(f"{source}: {key} is {list(shapes[key])}, not for {rows} x {columns} patches")
    embed_dim = length("vision", "head.proj.weight", 0)
    return dataclasses.replace(base, embed_dim=embed_dim, **towers)


def official_name(tower: str, key: str) -> str:
    """The name of a tower's parameter in imagebind_huge.pth.

    >>> official_name("depth", "stem.proj.weight")
    'modality_preprocessors.depth.depth_stem.proj.weight'
    >>> official_name("imu", "head.proj.weight")
    'modality_heads.imu.3.weight'
    """
    inputs, trunk, head = (f"modality_{part}.{tower}" for part in ("preprocessors", "trunks", "heads"))
    stem = f"{inputs}.{tower if tower in ('depth', 'imu') else 'rgbt'}_stem"
    helper = "" if tower in ("text", "imu") else "pos_embedding_helper."
    norm, proj = {"text": ("proj.0", "proj.1"), "imu": ("0", "3")}.get(tower, ("0", "2"))  # IMU's 2: dropout
    renamed = {
        "pos_embed": f"{inputs}.{helper}pos_embed",
        "stem.proj.": f"{stem}.proj.1." if tower == "vision" else f"{stem}.proj.",  # 0 pads frames
        "stem.norm.": f"{stem}.norm_layer.",
        "trunk.pre_norm.": f"{trunk}.pre_transformer_layer.0.",
        "trunk.blocks.": f"{trunk}.blocks.",
        "head.norm.": f"{head}.{norm}.",
        "head.proj.": f"{head}.{proj}.",
        "log_logit_scale": f"modality_postprocessors.{tower}.1.log_logit_scale",
    }
    for ours, official in renamed.items():
        if key.startswith(ours):
            return official + key.removeprefix(ours)
    return f"{inputs}.{key}"


def _ours(config: ImageBindConfig) -> dict[str, dict[str, tuple[int, ...]]]:
    """Shapes by tower and by our name."""
    with torch.device("meta"):
        model = ImageBind(config)
    return {name: shapes_of(tower.state_dict()) for name, tower in model.towers.items()}


def _shapes(ours: Mapping[str, Mapping[str, tuple[int, ...]]]) -> dict[str, tuple[int, ...]]:
    """Shapes by official name."""
    return {official_name(name, key): shape for name in ours for key, shape in ours[name].items()}


def _read(pth: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint, memory-mapped."""
    try:
        state = torch.load(pth, map_location="cpu", weights_only=True, mmap=True)
        return {str(key): value for key, value in dict(state).items() if isinstance(value, Tensor)}
    except pickle.UnpicklingError as error:  # torch's message suggests to run the code
        code = re.search(r"GLOBAL (\S+)", str(error))
        reason = (
            f"it asks for {code[1]}, which was not run; do not use this file" if code else "it is damaged"
        )
        raise ModelError(f"{pth} is not a checkpoint of weights only: {reason}") from error
    except (EOFError, LookupError, AttributeError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise ModelError(f"{pth} is not a checkpoint of weights only: {error}") from error
