"""User columns by file."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from xsearch import media
from xsearch.errors import UsageError
from xsearch.metadata.columns import MAX_VALUE, columns
from xsearch.metadata.files import Files, Match
from xsearch.metadata.sidecar import Foreign, read_sidecar, sidecar
from xsearch.metadata.table import Table, naming, read_table

__all__ = ["Metadata"]

_SHOWN, _LONGEST = 5, 60  # tables and fields that are named in notes, and letters of a name


class Metadata:
    """User columns by file, from tables and sidecars."""

    def __init__(
        self,
        files: Files,
        tables: Iterable[Path] = (),
        requested: Path | None = None,
        *,
        shown: Callable[[Path], str] = str,
    ) -> None:
        """Read the tables. Raises UsageError if the requested one cannot be used.

        tables: beside the media; one that cannot be used is noted; one that cannot be read for now, `unread`.
        requested: the user's table, of any name and place. All paths are absolute.
        shown: the name of a path in notes.
        """
        tables = sorted(tables, key=lambda table: (len(table.parts), table))  # inner ones last
        self.tables, self.used = {str(table) for table in tables}, set[str]()  # paths
        self.unread: dict[str, str] = {}  # tables beside the media that cannot be read for now, and why
        self.sidecars: set[str] = set()  # paths of those that have been read
        self._files, self._shown = files, shown
        self._tables: list[tuple[str, Table]] = []  # as shown
        self._rows: dict[str, list[tuple[int, int]]] = defaultdict(list)  # by path: tables and their rows
        self._last_sidecar: tuple[str, dict[str, Any]] = ("", {})  # files that share one are neighbours
        self._omitted: Counter[tuple[str, str, str]] = Counter()  # values by field, "row", and " of" what
        self._foreign: dict[str, list[str]] = defaultdict(list)  # sidecars by what they are
        self._notes: list[str] = []
        notes: list[str] = []
        for table in tables:
            if requested is None or os.path.realpath(table) != os.path.realpath(requested):
                try:
                    notes += self._add(table)
                except Exception as error:
                    if problem := media.passing(error):
                        self.unread[str(table)] = problem
                    elif isinstance(error, UsageError):
                        notes.append(f"not used: {error}")
                    else:
                        raise
        if requested:
            self._notes += self._add(requested, anywhere=True)
        self._notes += notes[:_SHOWN]
        if len(notes) > _SHOWN:
            self._notes.append(f"and {len(notes) - _SHOWN:,} more notes on metadata tables")

    def of(self, path: Path) -> dict[str, Any]:
        """Return the user columns of a file, {} if none. Raises UsageError for a damaged sidecar."""
        row: dict[str, Any] = {}
        for number, at in self._rows.get(str(path), ()):
            source, table = self._tables[number]
            fields = {name: column[at] for name, column in zip(table.names, table.columns, strict=True)}
            inner = self._columns(fields, "row", f" of {source}")
            row |= {name: value for name, value in inner.items() if value is not None or name not in row}
        return row | self._of_sidecar(sidecar(str(path)))

    def notes(self) -> tuple[str, ...]:
        """Return what the user should know of the tables, and of the sidecars read so far."""
        notes = list(self._notes)
        for reason, paths in self._foreign.items():
            example = self._shown(Path(paths[0]))
            notes.append(f"{_count(len(paths), 'sidecar')} not used ({reason}), such as {example}")
        if self._omitted:
            omitted = ", ".join(
                f"{_cut(field)} of {_count(count, unit)}{of}"
                for (field, unit, of), count in self._omitted.most_common(_SHOWN)
            )
            more = f" and {len(self._omitted) - _SHOWN:,} more fields" * (len(self._omitted) > _SHOWN)
            notes.append(f"{omitted}{more} left out: over {MAX_VALUE:,} bytes")
        return tuple(_printable(note) for note in notes)

    def _add(self, path: Path, *, anywhere: bool = False) -> list[str]:
        """Read a table; return notes. Raises UsageError if it cannot be used."""
        shown = self._shown(path)
        try:
            if not (anywhere or path.is_file()):  # a pipe may block
                raise UsageError(f"{path}: not a regular file")
            table = read_table(path)
            column, match = self._naming(path, table, anywhere)
        except UsageError as problem:
            raise UsageError(str(problem).replace(str(path), shown, 1)) from None
        for file, row in match.rows.items():
            self._rows[file].append((len(self._tables), row))
        self._tables.append((shown, table.without(column)))
        if match.rows:
            self.used.add(str(path))
        notes, of_rows = [], f"of {_count(table.rows, 'row')} of {shown}"
        if match.missing:
            names = (table.columns[column][row] for row in match.missing)
            example = next((f", such as {_cut(str(name))!r}" for name in names if name), "")
            if len(match.missing) < table.rows:
                verb = "matches" if len(match.missing) == 1 else "match"
                notes.append(f"{len(match.missing):,} {of_rows} {verb} no file{example}")
            else:
                hint = "" if anywhere else "; names are relative to the table's folder"
                notes.append(f"0 {of_rows} match a file{example}{hint}")
        if table.ragged:
            verb = "has" if table.ragged == 1 else "have"
            notes.append(f"{table.ragged:,} {of_rows} {verb} more cells than names, which are left out")
        return notes

    def _naming(self, path: Path, table: Table, anywhere: bool) -> tuple[int, Match]:
        """Return the column that names files, and which. Raises UsageError if several columns do."""
        folder = str(path.parent)

        def match(column: int) -> Match:
            names = [name if isinstance(name, str) else None for name in table.columns[column]]
            return self._files.match(names, folder, anywhere=anywhere)

        known, others = naming(table.names)
        matches = {at: match(at) for at in known}
        for at in known:
            if matches[at].exact:
                return at, matches[at]
        for at in known:
            if matches[at].rows:
                return at, matches[at]
        matches |= {at: match(at) for at in others}
        best = max(matches, key=lambda at: len(matches[at].rows))
        for at in others:
            if not matches[at].rows.items() <= matches[best].rows.items():
                both = f"{table.names[best]} and {table.names[at]}"
                raise UsageError(f"{path}: columns {both} name files; call the one that is described path")
        return best, matches[best]

    def _of_sidecar(self, path: str) -> dict[str, Any]:
        if path != self._last_sidecar[0]:
            fields: dict[str, Any] = {}
            try:
                if os.path.isfile(path):  # noqa: PTH113
                    fields = self._columns(read_sidecar(path), "sidecar")
                    self.sidecars.add(path)
            except Foreign as problem:
                self._foreign[str(problem)].append(path)
            self._last_sidecar = path, fields
        return self._last_sidecar[1]

    def _columns(self, fields: Mapping[str, Any], source: str, of: str = "") -> dict[str, Any]:
        row, omitted = columns(fields)
        self._omitted.update((field, source, of) for field in omitted)
        return row


def _count(count: int, unit: str) -> str:
    return f"{count:,} {unit}{'s' * (count != 1)}"


def _cut(text: str) -> str:
    return f"{text[:_LONGEST]}..." if len(text) > _LONGEST else text


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
