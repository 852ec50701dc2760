"""User columns from beside the media: `metadata.csv` tables and `name.json` sidecars.

A table has a column `path`: relative to the table's folder, or, if no file is there, the end of the file's
path. A sidecar is one JSON object and belongs to every `name.*` in its folder; it wins over a table. Column
names become lower case (SQL does not tell them apart), and one that is xsearch's own gets an underscore:
`id` -> `id_`.
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
from xsearch.store import ITEM_COLUMNS

__all__ = ["Metadata", "sidecar", "user_column"]

TABLE = "metadata.csv"  # looked for in every ingested folder and below


class Metadata:
    """What is known about files besides their content."""

    @classmethod
    def beside(cls, roots: Iterable[Path], table: str | Path | None = None) -> Metadata:
        """From the `metadata.csv` of every folder in and below `roots`, and from the user's `table`.

        The table of an inner folder wins over those of outer ones, the user's over all.
        """
        found = []
        for root in roots:
            for folder, folders, names in os.walk(root):
                folders[:] = sorted(name for name in folders if not name.startswith("."))
                if TABLE in names and Path(folder, TABLE).is_file():  # a pipe may never end
                    found.append(Path(folder, TABLE))
        return cls([*found, Path(table)] if table else found)

    def __init__(self, tables: Iterable[Path]) -> None:
        """Raises UsageError for a table that is missing, unreadable or without a column `path`."""
        self._exact: dict[Path, dict[str, Any]] = {}
        self._ends: dict[str, list[tuple[tuple[str, ...], dict[str, Any]]]] = {}  # by file name
        for table in tables:
            for path, row in _read_table(table):
                exact = Path(os.path.realpath(table.absolute().parent / path))  # not `resolve`: link loops
                self._exact[exact] = row
                if not os.path.lexists(exact):  # else it is about that file, and no other of this name
                    self._ends.setdefault(path.name, []).append((path.parts, row))

    def of(self, path: Path) -> dict[str, Any]:
        """The user columns of one file; {} if there are none.

        Raises UsageError when its sidecar is not a JSON object.
        """
        row = self._exact.get(path) or self._exact.get(path.resolve()) if self._exact else None
        if row is None:
            ends = [
                (len(end), row)
                for end, row in reversed(self._ends.get(path.name, []))
                if _ends_with(path, end)
            ]
            row = max(ends, key=lambda found: found[0])[1] if ends else {}
        beside = sidecar(str(path))
        return row | _read_sidecar(Path(beside)) if os.path.isfile(beside) else dict(row)  # noqa: PTH113


def _ends_with(path: Path, end: tuple[str, ...]) -> bool:
    return path.parts[-len(end) :] == end


def _read_table(table: Path) -> Iterable[tuple[Path, dict[str, Any]]]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines)
            names = [name for name in reader.fieldnames or () if name.strip()]
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as problem:
        raise UsageError(f"{table}: cannot be read as a UTF-8 CSV table: {problem}") from None
    if "path" not in names:
        raise UsageError(f"{table}: expected a column 'path'; found {', '.join(names) or 'none'}")
    names.remove("path")
    columns = {user_column(name): _typed([row[name] or None for row in rows]) for name in names}
    for at, row in enumerate(rows):
        if row["path"] and "\0" not in row["path"]:  # no file has such a name
            yield Path(row["path"]), {name: values[at] for name, values in columns.items()}


def _read_sidecar(sidecar: Path) -> dict[str, Any]:
    try:
        about = json.loads(sidecar.read_bytes())
        if not isinstance(about, dict):
            raise UsageError(f"{sidecar}: expected one JSON object, found {type(about).__name__}")
        return {
            user_column(name): json.dumps(value) if isinstance(value, list | dict) else value
            for name, value in about.items()
            if name.strip()
        }
    except (OSError, ValueError, RecursionError) as problem:
        raise UsageError(f"{sidecar}: cannot be read as JSON: {problem}") from None


def sidecar(name: str) -> str:
    """The path or URL of the sidecar that belongs to a file."""
    return f"{os.path.splitext(name)[0]}.json"  # noqa: PTH122  three times as fast, and a URL is no path


def user_column(name: str) -> str:
    """The name that a column of the user's has among the items."""
    name = name.strip().lower().encode(errors="backslashreplace").decode()  # JSON may hold half a character
    return f"{name}_" if name in ITEM_COLUMNS else name


def _typed(texts: list[str | None]) -> list[Any]:
    """A whole column as int, float or bool if every value is one, else as it stands; None where empty.

    >>> _typed(["1", None, "-2"]), _typed(["1", "0.5"]), _typed(["1", "007"]), _typed(["true", "False"])
    ([1, None, -2], [1.0, 0.5], ['1', '007'], [True, False])
    """
    for convert in _CONVERTERS:
        try:
            return [None if text is None else convert(text) for text in texts]
        except (ValueError, KeyError):
            continue
    return list(texts)


def _int(text: str) -> int:
    number = int(text)
    if str(number) != text or number.bit_length() > 63:
        raise ValueError(text)
    return number


def _float(text: str) -> float:
    """007, 1_000 and what has more than 64 bits are names rather than numbers."""
    if re.fullmatch(r".*_.*|-?0\d+|-?\d{19,}", text):
        raise ValueError(text)
    return float(text)


_CONVERTERS: tuple[Callable[[str], Any], ...] = (
    _int,
    _float,
    lambda text: {"true": True, "false": False}[text.lower()],
)
