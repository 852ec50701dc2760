"""Weights on disk: a model folder with one safetensors file per tower, and the official .pth.

    config.json       the config, and the sha256 of every other file: its own sha256 is the model's digest
    tokenizer.json
    vision.safetensors, text.safetensors, ...

config.json is written last: a folder without it is not a model.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from uuid import uuid4

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from xsearch.errors import ModelError
from xsearch.models.config import HUGE, ImageBindConfig
from xsearch.models.imagebind import ImageBind, Tower, build_tower
from xsearch.models.tokenizer import Tokenizer

__all__ = ["convert_official", "load_config", "load_tower", "official_name", "save_model", "split_official"]


def save_model(
    model: ImageBind, tokenizer: Tokenizer, folder: Path, *, dtype: torch.dtype = torch.float16
) -> None:
    """Write a model folder; weights are stored as `dtype`, the few single numbers as float32."""
    towers = ((name, tower.state_dict()) for name, tower in model.towers.items())
    _write(folder, model.config, tokenizer, towers, dtype)


def load_config(folder: Path) -> tuple[ImageBindConfig, str]:
    """The config of a model folder and the digest of everything in it. Raises ModelError."""
    path = folder / "config.json"
    try:
        text = path.read_text(encoding="utf-8")
        config = ImageBindConfig.from_json(json.dumps(json.loads(text)["config"]))
    except OSError as error:
        raise ModelError(f"{folder} is not a model folder: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path} is damaged: {error!r}") from error
    return config, hashlib.sha256(text.encode()).hexdigest()


def load_tower(
    folder: Path, name: str, config: ImageBindConfig, *, dtype: torch.dtype = torch.float32
) -> Tower:
    """One tower of a model folder, in eval mode. Weights already stored as `dtype` stay memory-mapped.

    Raises ModelError naming the file, and the keys that are missing, unknown or of another shape.
    """
    path = folder / f"{name}.safetensors"
    with torch.device("meta"):
        tower = build_tower(config, name)
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"the {name} tower cannot be read from {path}: {error}") from error
    _check(state, tower.state_dict(), path)
    for key, value in state.items():
        state[key] = value.to(dtype) if value.is_floating_point() else value
    tower.load_state_dict(state, assign=True)
    return tower.eval()


def convert_official(
    pth: Path,
    vocabulary: Path,
    folder: Path,
    *,
    config: ImageBindConfig = HUGE,
    dtype: torch.dtype = torch.float16,
) -> None:
    """imagebind_huge.pth and CLIP's vocabulary file -> a model folder; one tower at a time in memory.

    Pickled code is never run. Raises ModelError when either file is not what it should be.
    """
    tokenizer = Tokenizer.from_clip(vocabulary, context=config.text.context)
    try:
        state = torch.load(pth, map_location="cpu", weights_only=True, mmap=True)
        items = dict(state).items()
        weights = {str(key): value for key, value in items if isinstance(value, Tensor)}
    except (OSError, RuntimeError, TypeError, ValueError, pickle.UnpicklingError) as error:
        raise ModelError(f"{pth} is not a checkpoint of weights only: {error}") from error
    _write(folder, config, tokenizer, split_official(weights, config, pth).items(), dtype)


def split_official(
    state: Mapping[str, Tensor], config: ImageBindConfig, source: Path | str = "the checkpoint"
) -> dict[str, dict[str, Tensor]]:
    """A state dict with the official names -> one per tower with ours; the tensors are shared.

    Raises ModelError naming the keys that are missing, unknown or of another shape.
    """
    with torch.device("meta"):
        model = ImageBind(config)
    ours = {name: tower.state_dict() for name, tower in model.towers.items()}
    _check(state, {official_name(n, key): value for n in ours for key, value in ours[n].items()}, source)
    return {n: {key: state[official_name(n, key)] for key in ours[n]} for n in ours}


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


def _check(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor], source: Path | str) -> None:
    shapes = [
        f"{key} is {list(given[key].shape)}, not {list(wanted[key].shape)}"
        for key in wanted
        if key in given and given[key].shape != wanted[key].shape
    ]
    problems = {
        "missing": [key for key in wanted if key not in given],
        "unknown": [key for key in given if key not in wanted],
        "of another shape": shapes,
    }
    told = "; ".join(
        f"{len(keys)} {problem}: {', '.join(keys[:8])}{', ...' if len(keys) > 8 else ''}"
        for problem, keys in problems.items()
        if keys
    )
    if told:
        raise ModelError(f"{source} does not fit the model: {told}")


def _write(
    folder: Path,
    config: ImageBindConfig,
    tokenizer: Tokenizer,
    towers: Iterable[tuple[str, Mapping[str, Tensor]]],
    dtype: torch.dtype,
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").unlink(missing_ok=True)
    files = {"tokenizer.json": _publish(folder / "tokenizer.json", tokenizer.save)}
    for name, state in towers:
        stored = {key: _stored(value, dtype) for key, value in state.items()}
        path = folder / f"{name}.safetensors"
        files[path.name] = _publish(path, partial(save_file, stored))
    document = json.dumps({"config": json.loads(config.to_json()), "sha256": files}, indent=2) + "\n"
    _publish(folder / "config.json", lambda part: part.write_text(document, encoding="utf-8"))


def _stored(value: Tensor, dtype: torch.dtype) -> Tensor:
    """As it goes to disk: single numbers keep their precision, and counters stay whole."""
    return value.detach().to("cpu", dtype if value.ndim else value.dtype).contiguous()


def _publish(path: Path, write: Callable[[Path], object]) -> str:
    """Write beside `path`, move in when complete; returns the sha256."""
    part = path.with_name(f".{path.name}.{uuid4().hex}.part")
    try:
        write(part)
        part.chmod(0o644)  # safetensors makes 0600
        with part.open("rb") as file:
            os.fsync(file.fileno())
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return digest
