"""Sidecars: the fields of a JSON file named like a media file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from xsearch.errors import UsageError
from xsearch.media.facts import takeout
from xsearch.media.limits import MAX_SIDECAR_COLUMNS, MAX_SIDECAR_MB

__all__ = ["TOO_LARGE", "Foreign", "read_sidecar", "sidecar"]

TOO_LARGE = "too large: "  # how the problem of a sidecar beyond a limit begins


class Foreign(Exception):
    """A JSON file beside a media file that is no sidecar of it: it belongs to another program."""


def sidecar(name: str) -> str:
    """Return the path or URL of a file's sidecar: `a.jpg.json` if there is one, else `a.json`."""
    whole = f"{name}.json"
    if os.path.isfile(whole):  # noqa: PTH113
        return whole
    return f"{os.path.splitext(name)[0]}.json"  # noqa: PTH122  also for URLs, and 3x faster than pathlib


def read_sidecar(path: str) -> dict[str, Any]:
    """Return the fields of a sidecar; ExifTool writes them as a list of one object, Takeout writes facts.

    Raises UsageError if it is not JSON or too large, Foreign if it holds something else.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_SIDECAR_MB.bytes + 1)
        if len(data) > MAX_SIDECAR_MB.bytes:
            raise UsageError(f"{path}: {TOO_LARGE}{MAX_SIDECAR_MB.exceeded()}")
        try:
            fields = json.loads(data)
        except UnicodeDecodeError:
            fields = json.loads(data.decode("cp1252"))
    except json.JSONDecodeError as problem:
        if problem.msg == "Extra data":
            raise Foreign("several JSON values") from None
        raise UsageError(f"{path}: cannot be read as JSON: {problem}") from None
    except (OSError, ValueError, RecursionError) as problem:
        raise UsageError(f"{path}: cannot be read as JSON: {problem}") from None
    if isinstance(fields, list) and len(fields) == 1:
        fields = fields[0]
    if not isinstance(fields, dict):
        raise Foreign(f"expected a JSON object, got {type(fields).__name__}")
    if takeout.is_takeout(fields):
        return {}
    if len(fields) > MAX_SIDECAR_COLUMNS.value:
        raise UsageError(f"{path}: {TOO_LARGE}{MAX_SIDECAR_COLUMNS.exceeded()}")
    return fields
