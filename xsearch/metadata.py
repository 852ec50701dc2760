"""User columns from files beside the media: `metadata.csv` tables and `name.json` sidecars.

A table has a column `path`: relative to the table's folder or, if no such file exists, a suffix of the file's
path. A sidecar is a JSON object that applies to every `name.*` in its folder and overrides tables. Column
names are lower-cased (SQL ignores case); names reserved by xsearch get an underscore: `id` -> `id_`.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from xsearch.errors import UsageError
from xsearch.media.files import METADATA
from xsearch.store import ITEM_COLUMNS

__all__ = ["Metadata", "sidecar", "user_column"]


class Metadata:
    """User columns by file."""

    @classmethod
    def beside(cls, roots: Iterable[Path], table: str | Path | None = None) -> Metadata:
        """Load the `metadata.csv` of every folder in and below `roots`, and the user's `table`.

        Inner folders override outer ones, the user's table overrides all.
        """
        tables = []
        for root in roots:
            for folder, folders, names in os.walk(root):
                folders[:] = sorted(name for name in folders if not name.startswith("."))
                if METADATA in names and Path(folder, METADATA).is_file():  # not a pipe, which may block
                    tables.append(Path(folder, METADATA))
        return cls([*tables, Path(table)] if table else tables)

    def __init__(self, tables: Iterable[Path]) -> None:
        """Read the tables. Raises UsageError if one is missing, unreadable or has no `path` column."""
        self._exact: dict[Path, dict[str, Any]] = {}
        self._suffixes: dict[str, list[tuple[tuple[str, ...], dict[str, Any]]]] = {}  # by file name
        for table in tables:
            for path, row in _read_table(table):
                exact = Path(os.path.realpath(table.absolute().parent / path))  # not `resolve`: link loops
                self._exact[exact] = row
                if not os.path.lexists(exact):  # an existing file is meant exactly
                    self._suffixes.setdefault(path.name, []).append((path.parts, row))

    def of(self, path: Path) -> dict[str, Any]:
        """Return the user columns of a file, {} if none. Raises UsageError for an invalid sidecar."""
        row = self._exact.get(path) or self._exact.get(path.resolve()) if self._exact else None
        if row is None:
            candidates = [
                (len(suffix), row)
                for suffix, row in reversed(self._suffixes.get(path.name, []))
                if _ends_with(path, suffix)
            ]
            row = max(candidates, key=lambda candidate: candidate[0])[1] if candidates else {}
        beside = sidecar(str(path))
        return row | _read_sidecar(Path(beside)) if os.path.isfile(beside) else dict(row)  # noqa: PTH113


def _ends_with(path: Path, suffix: tuple[str, ...]) -> bool:
    return path.parts[-len(suffix) :] == suffix


def _read_table(table: Path) -> Iterable[tuple[Path, dict[str, Any]]]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines)
            names = [name for name in reader.fieldnames or () if name.strip()]
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as problem:
        raise UsageError(f"{table}: cannot be read as a UTF-8 CSV table: {problem}") from None
    if "path" not in names:
        raise UsageError(f"{table}: no column 'path'; it has {', '.join(names) or 'no columns'}")
    names.remove("path")
    columns = {user_column(name): _typed([row[name] or None for row in rows]) for name in names}
    for at, row in enumerate(rows):
        if row["path"] and "\0" not in row["path"]:  # invalid in a path
            yield Path(row["path"]), {name: values[at] for name, values in columns.items()}


def _read_sidecar(sidecar: Path) -> dict[str, Any]:
    try:
        fields = json.loads(sidecar.read_bytes())
        if not isinstance(fields, dict):
            raise UsageError(f"{sidecar}: expected a JSON object, got {type(fields).__name__}")
        return {
            user_column(name): json.dumps(value) if isinstance(value, list | dict) else value
            for name, value in fields.items()
            if name.strip()
        }
    except (OSError, ValueError, RecursionError) as problem:
        raise UsageError(f"{sidecar}: cannot be read as JSON: {problem}") from None


def sidecar(name: str) -> str:
    """Return the path or URL of a file's sidecar."""
    return f"{os.path.splitext(name)[0]}.json"  # noqa: PTH122  also for URLs, and 3x faster than pathlib


def user_column(name: str) -> str:
    """Return the item column name of a user column."""
    name = name.strip().lower().encode(errors="backslashreplace").decode()  # JSON may hold lone surrogates
    return f"{name}_" if name in ITEM_COLUMNS else name


def _typed(strings: list[str | None]) -> list[Any]:
    """Convert a column to int, float or bool if every value is one; None stays None.

    >>> _typed(["1", None, "-2"]), _typed(["1", "0.5"]), _typed(["1", "007"]), _typed(["true", "False"])
    ([1, None, -2], [1.0, 0.5], ['1', '007'], [True, False])
    """
    for convert in _CONVERTERS:
        try:
            return [None if text is None else convert(text) for text in strings]
        except (ValueError, KeyError):
            continue
    return list(strings)


def _int(text: str) -> int:
    number = int(text)
    if str(number) != text or number.bit_length() > 63:
        raise ValueError(text)
    return number


def _float(text: str) -> float:
    """Parse a float; 007, 1_000 and integers over 64 bits are treated as text."""
    if re.fullmatch(r".*_.*|-?0\d+|-?\d{19,}", text):
        raise ValueError(text)
    return float(text)


_CONVERTERS: tuple[Callable[[str], Any], ...] = (
    _int,
    _float,
    lambda text: {"true": True, "false": False}[text.lower()],
)
