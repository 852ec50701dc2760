"""From the name of a model to its folder: the one in the wheel, an installed ImageBind, or any folder.

Installed models are in `$XSEARCH_HOME/models`, by default in the platform's cache folder.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from xsearch.errors import ModelError
from xsearch.system.home import home

__all__ = ["BUNDLED", "ModelChoice", "home", "imagebind_folder", "resolve"]

BUNDLED = Path(__file__).parent / "bundled"
_INSTALL = "xsearch models pull imagebind"


@dataclass(frozen=True)
class ModelChoice:
    """An existing model folder."""

    name: str  # "bundled", "imagebind", or the folder as requested
    folder: Path
    line: str  # for the user: which model this is, and how to choose another


def imagebind_folder() -> Path:
    """The folder of an installed ImageBind, whether it exists or not."""
    return home() / "models" / "imagebind"


def resolve(choice: str | None = None) -> ModelChoice:
    """`choice` ("bundled", "imagebind" or a model folder), else $XSEARCH_MODEL, else the best installed one.

    Raises ModelError, with the next step, if the choice does not exist.
    """
    choice = choice or os.environ.get("XSEARCH_MODEL") or None
    installed = _is_model(imagebind_folder())
    if choice == "imagebind" or (choice is None and installed):
        if not installed:
            raise ModelError(f"ImageBind is not installed in {imagebind_folder()}; install it: {_INSTALL}")
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


def _is_model(folder: Path) -> bool:
    try:
        return (folder / "config.json").is_file()
    except OSError:  # no permission, or a name that no file system has
        return False
