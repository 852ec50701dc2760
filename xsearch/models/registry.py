"""Which model: the one in the wheel, an installed ImageBind, or a folder.

Installed models live in `$XSEARCH_HOME/models`, by default in the platform's cache directory.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import torch

from xsearch.errors import ModelError
from xsearch.models.checkpoint import convert_official
from xsearch.models.config import HUGE, ImageBindConfig

__all__ = ["BUNDLED", "LICENCE", "ModelChoice", "home", "imagebind_folder", "install_imagebind", "resolve"]

BUNDLED = Path(__file__).parent / "bundled"
# The files as published: dl.fbaipublicfiles.com/imagebind/imagebind_huge.pth, and openai/CLIP's vocabulary.
CHECKPOINT_SHA256 = "d6f6c22bedcc90708448d5d2fbb7b2db9c73f505dc89bd0b2e09b23af1b62157"
VOCABULARY_SHA256 = "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a"
LICENCE = "CC-BY-NC-4.0"  # of the weights, as an SPDX identifier
_INSTALL = "xsearch models install --from imagebind_huge.pth --vocab bpe_simple_vocab_16e6.txt.gz"


@dataclass(frozen=True)
class ModelChoice:
    """A model folder that is there."""

    name: str  # "bundled", "imagebind", or the folder as it was given
    folder: Path
    line: str  # which model this is, and how to get another


def home() -> Path:
    """Where xsearch keeps what it installs: $XSEARCH_HOME, else `xsearch` in the user's cache directory."""
    if given := os.environ.get("XSEARCH_HOME"):
        return Path(given)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "xsearch"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "xsearch"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "xsearch"


def imagebind_folder() -> Path:
    """Where ImageBind's weights are, or would be."""
    return home() / "models" / "imagebind"


def resolve(choice: str | None = None) -> ModelChoice:
    """`choice` ("bundled", "imagebind" or a model folder), else $XSEARCH_MODEL, else the best that is there.

    Raises ModelError, saying what to do, when the choice is not there.
    """
    choice = choice or os.environ.get("XSEARCH_MODEL") or None
    installed = _is_model(imagebind_folder())
    if choice == "imagebind" or (choice is None and installed):
        if not installed:
            raise ModelError(
                f"ImageBind is not installed in {imagebind_folder()}; install it with: {_INSTALL}"
            )
        line = "model: imagebind (weights CC-BY-NC 4.0); the small built-in one: --model bundled"
        return ModelChoice("imagebind", imagebind_folder(), line)
    if choice is None or choice == "bundled":
        if not _is_model(BUNDLED):
            raise ModelError(f"this installation lacks the bundled model in {BUNDLED}; reinstall xsearch")
        other = "--model imagebind" if installed else _INSTALL
        return ModelChoice("bundled", BUNDLED, f"model: bundled (small); the published ImageBind: {other}")
    folder = Path(choice).expanduser()
    if not _is_model(folder):
        raise ModelError(
            f"no model {choice!r}: neither bundled, nor imagebind, nor a folder with a config.json"
        )
    return ModelChoice(choice, folder, f"model: {choice}; the built-in one: --model bundled")


def install_imagebind(
    pth: Path,
    vocabulary: Path,
    *,
    accepted: Literal["flag", "prompt"],
    warn: Callable[[str], object] = warnings.warn,
    config: ImageBindConfig = HUGE,
    dtype: torch.dtype = torch.float16,
    vocabulary_sha256: str = VOCABULARY_SHA256,
) -> Path:
    """Convert the official imagebind_huge.pth and CLIP's vocabulary file into the installed model.

    Both are files on this machine; nothing is downloaded. Returns the folder, in which licence.json says
    when and how the licence of the weights was accepted.
    warn: is told in one line if the weights are others than the published ones; they are taken all the same.
    Raises ModelError, also for another vocabulary: the published weights mean nothing with it.
    """
    if (found := _sha256(vocabulary)) != vocabulary_sha256:
        raise ModelError(f"{vocabulary}: expected CLIP's vocabulary, sha256 {vocabulary_sha256}, got {found}")
    if (found := _sha256(pth)) != CHECKPOINT_SHA256:
        warn(f"{pth}: not the published weights, sha256 {CHECKPOINT_SHA256}, but {found}")
    folder = imagebind_folder()
    convert_official(pth, vocabulary, folder, config=config, dtype=dtype)
    record = {"licence": LICENCE, "accepted": datetime.now(UTC).isoformat(timespec="seconds"), "by": accepted}
    (folder / "licence.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return folder


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}; check the path") from error


def _is_model(folder: Path) -> bool:
    return (folder / "config.json").is_file()
