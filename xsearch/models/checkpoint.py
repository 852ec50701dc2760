"""Model folders: one safetensors file per tower.

    config.json       the licence of the weights, if stated, the config, and the sha256 of every other file;
                      its own sha256 is the model's digest
    tokenizer.json
    vision.safetensors, text.safetensors, ...

config.json is written last: a folder without it is not a model.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from xsearch.errors import ModelError
from xsearch.models.config import ImageBindConfig
from xsearch.models.imagebind import ImageBind, Tower, build_tower, lay_out
from xsearch.models.int8 import quantise
from xsearch.models.precision import DTYPES
from xsearch.models.tokenizer import Tokenizer
from xsearch.models.vocabulary import WORDS, save_words
from xsearch.system.durable import digest, open_file, publish, read_file

__all__ = [
    "TowerFile",
    "check_shapes",
    "license_of",
    "load_config",
    "load_tower",
    "save_model",
    "shapes_of",
    "tower_file",
    "verify",
    "write_folder",
]

CONFIG_BYTES, HEADER_BYTES = 1 << 20, 16 << 20  # of config.json; of the header of a safetensors file
VERIFIED_BYTES = 64 << 20  # files up to which the sha256 is compared whenever they are read: 30 ms (measured)
_NAME, _SHA256 = re.compile(r"\w[\w.-]{0,99}", re.ASCII), re.compile("[0-9a-f]{64}")
_CODES = {  # of the safetensors format
    torch.float64: "F64",
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int64: "I64",
}


@dataclass(frozen=True)
class TowerFile:
    """A summary of a tower's file."""

    parameters: int  # including buffers
    bytes: int
    dtype: str  # of the weights: one of DTYPES, or "mixed"


def save_model(
    model: ImageBind,
    tokenizer: Tokenizer,
    folder: Path,
    *,
    dtype: torch.dtype = torch.float16,
    words: Iterable[str] | None = None,
    license: str | None = None,
) -> None:
    """Write a model folder; weights are stored as `dtype`, scalars as float32.

    words: the vocabulary of the model, see `vocabulary`; None: open. license: of the weights, as an SPDX
    expression; None: not stated.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WORDS).unlink(missing_ok=True)
    if words is not None:
        save_words(words, folder)
    towers = ((name, tower.state_dict()) for name, tower in model.towers.items())
    write_folder(folder, model.config, tokenizer, towers, dtype, license)


def load_config(folder: Path) -> tuple[ImageBindConfig, str]:
    """The config of a model folder, and the digest of all its files. Raises ModelError."""
    document, sha256 = _document(folder)
    return ImageBindConfig.from_json(json.dumps(document["config"])), sha256


def license_of(folder: Path) -> str | None:
    """The licence of a model's weights, an SPDX expression; None: not stated. Raises ModelError."""
    license: str | None = _document(folder)[0]["license"]
    return license


def load_tower(
    folder: Path, name: str, config: ImageBindConfig, *, dtype: torch.dtype = torch.float32
) -> Tower:
    """One tower of a model folder, in eval mode. Weights that are stored as `dtype` stay memory-mapped.

    As int8 (see `models.int8`) they are converted layer by layer. Raises ModelError naming the file, and the
    keys that are missing, unknown or of another shape.
    """
    path = folder / f"{name}.safetensors"
    with _building(folder), torch.device("meta"):
        tower = build_tower(config, name)
    with _reading(name, path):
        state = load_file(path)
    expected = tower.state_dict()
    check_shapes(shapes_of(state), shapes_of(expected), path)
    if wrong := [key for key in state if state[key].is_floating_point() != expected[key].is_floating_point()]:
        raise ModelError(f"{path} does not fit the model: {wrong[0]} is {state[wrong[0]].dtype}")
    if path.stat().st_size <= VERIFIED_BYTES:
        recorded = _document(folder)[0]["sha256"].get(path.name)
        if digest(path) != recorded:
            raise ModelError(f"{path} has a wrong sha256; xsearch models verify compares all files")
    for key, value in state.items():
        if dtype.is_floating_point and value.is_floating_point() and value.ndim:  # not logit scales
            state[key] = value.to(dtype)
    tower.load_state_dict(state, assign=True)
    if dtype is torch.int8:
        quantise(tower)
    lay_out(tower)
    return tower.eval()


def tower_file(folder: Path, name: str) -> TowerFile:
    """Read the header of a tower's file. Raises ModelError."""
    path = folder / f"{name}.safetensors"
    with _reading(name, path), safe_open(path, "pt") as file:
        parts = [file.get_slice(key) for key in file.keys()]  # noqa: SIM118
        codes = {part.get_dtype() for part in parts if part.get_shape()}
        parameters = sum(math.prod(part.get_shape()) for part in parts)
    dtypes = [short for short, dtype in DTYPES.items() if _CODES[dtype] in codes]
    dtype = dtypes[0] if len(dtypes) == len(codes) == 1 else "mixed"
    return TowerFile(parameters, path.stat().st_size, dtype)


def verify(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield each file that config.json lists, with its problem or "". Raises ModelError."""
    for name, recorded in _document(folder)[0]["sha256"].items():
        try:
            found = digest(folder / name)
        except OSError as error:
            yield name, f"cannot be read: {error.strerror}"
        else:
            yield name, "" if found == recorded else f"expected sha256 {recorded}, found {found}"


def shapes_of(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in state.items()}


def check_shapes(
    actual: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]], source: Path | str
) -> None:
    """Raise ModelError naming the keys that are missing, unknown or of another shape, if any."""
    shapes = [
        f"{key} is {list(actual[key])}, not {list(expected[key])}"
        for key in expected
        if key in actual and actual[key] != expected[key]
    ]
    problems = {
        "missing": [key for key in expected if key not in actual],
        "unknown": [key for key in actual if key not in expected],
        "of another shape": shapes,
    }
    summary = "; ".join(
        f"{len(keys)} {problem}: {', '.join(keys[:20])}{', ...' if len(keys) > 20 else ''}"
        for problem, keys in problems.items()
        if keys
    )
    if summary:
        raise ModelError(f"{source} does not fit the model: {summary}")


def write_folder(
    folder: Path,
    config: ImageBindConfig,
    tokenizer: Tokenizer,
    towers: Iterable[tuple[str, Mapping[str, Tensor]]],
    dtype: torch.dtype,
    license: str | None = None,
) -> None:
    """As `save_model`, from state dicts that are read one by one."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").unlink(missing_ok=True)
    files = {"tokenizer.json": _publish(folder / "tokenizer.json", tokenizer.save)}
    for name, state in towers:
        path = folder / f"{name}.safetensors"
        files[path.name] = _publish(path, partial(_write_tower, state, dtype))
    document: dict[str, Any] = {"license": license} if license else {}
    document |= {"config": json.loads(config.to_json()), "sha256": files}
    text = json.dumps(document, indent=2) + "\n"
    _publish(folder / "config.json", lambda part: part.write_text(text, encoding="utf-8"))


def _write_tower(state: Mapping[str, Tensor], dtype: torch.dtype, path: Path) -> None:
    """Write the safetensors file that `save_file` would, copying one tensor at a time instead of all.

    Weights are cast to `dtype`; scalars keep their dtype.
    """
    dtypes = {key: dtype if value.ndim else value.dtype for key, value in state.items()}
    keys = sorted(state, key=lambda key: (-dtypes[key].itemsize, key))  # the widest first, for alignment
    header, end = {}, 0
    for key in keys:
        start, end = end, end + state[key].numel() * dtypes[key].itemsize
        shape = list(state[key].shape)
        header[key] = {"dtype": _CODES[dtypes[key]], "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for key in keys:
            value = state[key].detach().to("cpu", dtypes[key]).contiguous()
            file.write(value.reshape(-1).view(torch.uint8).numpy().data)


@contextmanager
def _building(folder: Path) -> Iterator[None]:
    try:
        yield
    except (ArithmeticError, AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise ModelError(f"{folder / 'config.json'}: its sizes do not fit each other: {error}") from error


@contextmanager
def _reading(name: str, path: Path) -> Iterator[None]:
    """Raise ModelError if the file of a tower is not a regular one, or cannot be read in the block."""
    try:
        with open_file(path) as file:
            if int.from_bytes(file.read(8), "little") > HEADER_BYTES:
                raise ValueError(f"its header is larger than {HEADER_BYTES:,} bytes")
        yield
    except (KeyError, OSError, RuntimeError, SafetensorError, TypeError, ValueError) as error:
        raise ModelError(f"the {name} tower cannot be read from {path}: {str(error)[:200]}") from error


def _document(folder: Path) -> tuple[dict[str, Any], str]:
    """The content of config.json, and its sha256."""
    path = folder / "config.json"
    try:
        text = read_file(path, CONFIG_BYTES)
        document = json.loads(text)
        fields = {"config": document["config"], "sha256": dict(document["sha256"])}
        document = fields | {"license": document.get("license")}
        for name, sha256 in document["sha256"].items():
            if not (_NAME.fullmatch(name) and isinstance(sha256, str) and _SHA256.fullmatch(sha256)):
                raise ValueError(f"no file of a model: {name[:40]!r}")
        if not isinstance(document["license"], str | None):
            raise ValueError("its license is no text")
    except OSError as error:
        raise ModelError(f"{folder} is not a model folder: {error}") from error
    except (KeyError, RecursionError, TypeError, ValueError) as error:
        raise ModelError(f"{path} is damaged: {str(error)[:200]}") from error
    return document, hashlib.sha256(text).hexdigest()


def _publish(path: Path, write: Callable[[Path], object]) -> str:
    """Write to a scratch path, then move it to `path`; returns the sha256."""
    with publish(path) as part:
        write(part)
        return digest(part)
