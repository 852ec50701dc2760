"""Outputs of the official ImageBind code: a part in tests/parity, all of them beside the repository."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

__all__ = ["COMPLETE", "PARITY", "entries", "files", "goldens", "needs_complete", "published"]

PARITY = Path(__file__).parent / "parity"
COMPLETE = Path(__file__).parents[2] / "shared" / "parity"
FOLDERS = [PARITY, COMPLETE] if COMPLETE.is_dir() else [PARITY]
needs_complete = pytest.mark.skipif(
    not COMPLETE.is_dir(), reason="the complete goldens of the official code are not here"
)


def entries(name: str) -> list[dict[str, Any]]:
    return json.loads((PARITY / name).read_text(encoding="utf-8"))["entries"]


def files(folder: str) -> list[Path]:
    """All media of a kind that have goldens."""
    return [path for parity in FOLDERS for path in sorted((parity / folder).glob("*.*"))]


def goldens(kind: str, path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What is known of a file of `files`, and arrays by what they hold. kind: "image", "audio", "video"."""
    parity = path.parents[1]
    document = json.loads((parity / f"{kind}_goldens.json").read_text(encoding="utf-8"))
    listed = document["files"] if kind == "video" else document["entries"]
    arrays = np.load(parity / f"{kind}_goldens.npz")
    keys = [key for key in arrays if key.endswith(f"/{path.name}")]
    about = next(each for each in listed if each["file"] == path.name)
    return about, {key.partition("/")[0]: arrays[key] for key in keys}


def published() -> list[tuple[str, list[int], str]]:
    """Name, shape and kind ("param" or "buffer") of everything in the published checkpoint."""
    lines = gzip.decompress((PARITY / "imagebind_huge.jsonl.gz").read_bytes()).splitlines()
    return [tuple(json.loads(line)) for line in lines]
