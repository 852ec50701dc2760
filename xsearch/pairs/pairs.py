"""A pair table as a sequence of pairs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np

from xsearch.errors import Unreadable, UsageError
from xsearch.pairs.formats import NAMED, REQUIRED, Opened, open_table, read_range
from xsearch.pairs.pair import Pair, Source, to_number
from xsearch.types import Modality

__all__ = ["INVALID_WEIGHT", "Pairs", "read_pairs", "unknown_modality"]


class Pairs(Sequence[Pair]):
    """The rows of a table as pairs, made on access and not decoded. Pickles as its path.

    The binary columns of Parquet are read by row group: groups of about 1,000 rows work best.
    """

    def __init__(
        self,
        path: Path,
        rows: np.ndarray | None = None,
        label: str = "label",
        *,
        opened: Opened | None = None,
    ) -> None:
        """rows: int64 [N] from 0, by default all. label: the column of the classes.

        opened: the result of an earlier `open_table(path)`. Raises UsageError if the table cannot be read.
        """
        self.path = path
        self._label = label
        self._opened = self._table, self._groups = opened or open_table(path)
        names = [*self._table.column_names, *(self._groups.names if self._groups else ())]
        required = REQUIRED if label == "label" else (*REQUIRED, label)
        if missing := [name for name in required if name not in names]:
            raise UsageError(
                f"{path}: no column {', '.join(missing)}; a pair table has {', '.join(REQUIRED)}, "
                f"this one {', '.join(names)}"
            )
        self._some = rows

    @cached_property
    def rows(self) -> np.ndarray:
        """The row in the table of each pair, int64 [N] from 0."""
        return np.arange(self._table.num_rows) if self._some is None else self._some

    @cached_property
    def modalities(self) -> np.ndarray:
        """As in the table, unchecked: str [N]."""
        return self._column("modality", "").astype(str)

    @cached_property
    def weights(self) -> np.ndarray:
        """float64 [N]; NaN for cells that are not numbers."""
        return np.array([to_number(weight) for weight in self._column("weight", 1.0)])

    @cached_property
    def splits(self) -> np.ndarray:
        """str [N]."""
        return self._column("split", "train").astype(str)

    @cached_property
    def labels(self) -> np.ndarray:
        """str or None, [N]; several as `a|b`."""
        cells = self._column(self._label, None)
        return np.array(["|".join(x) if isinstance(x, list) else x and str(x) for x in cells], object)

    def take(self, which: np.ndarray) -> Pairs:
        """A subset of the pairs, by indices or by a bool for each."""
        return Pairs(self.path, self.rows[which], self._label, opened=self._opened)

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, at: int) -> Pair: ...
    @overload
    def __getitem__(self, at: slice) -> Pairs: ...
    def __getitem__(self, at: int | slice) -> Pair | Pairs:
        if isinstance(at, slice):
            return self.take(np.arange(len(self))[at])
        cells = self._cells(int(self.rows[at]))
        modality = Modality(cells["modality"])
        other = self._source(cells["other"], modality)
        if other is None:
            raise Unreadable(f"{self.path}: row {self.rows[at] + 1}: other is empty")
        image = self._source(cells["image"], Modality.IMAGE)
        if isinstance(image, str | tuple | np.ndarray):
            raise Unreadable(f"{self.path}: row {self.rows[at] + 1}: image is neither a path nor bytes")
        plus_modality = cells.get("plus_modality")
        if plus_modality not in (None, *Modality):
            problem = f"plus_{unknown_modality(str(plus_modality))}"
            raise Unreadable(f"{self.path}: row {self.rows[at] + 1}: {problem}")
        plus_kind = plus_modality and Modality(plus_modality)
        return Pair(
            image,
            other,
            modality,
            weight=float(self.weights[at]),
            split=str(self.splits[at]),
            label=self.labels[at],
            plus=plus_kind and self._source(cells.get("plus"), plus_kind),
            plus_modality=plus_kind,
            extra={name: cell for name, cell in cells.items() if name not in NAMED},
        )

    def __reduce__(self) -> tuple[type[Pairs], tuple[Path, np.ndarray | None, str]]:
        return Pairs, (self.path, self._some, self._label)

    def _column(self, name: str, default: object) -> np.ndarray:
        """A small column, with `default` for missing cells: object [N]."""
        if name not in self._table.column_names:
            return np.full(len(self), default, object)
        cells = [default if cell is None else cell for cell in self._table[name].to_pylist()]
        column = np.empty(len(cells), object)
        column[:] = cells  # not np.array, which takes lists apart
        return column[self.rows]

    def _cells(self, row: int) -> dict[str, Any]:
        cells = {name: self._table[name][row].as_py() for name in self._table.column_names}
        if self._groups:
            cells |= self._groups.cells(row)
        return json.loads(cells.pop("json")) | cells if self.path.suffix == ".tar" else cells

    def _source(self, cell: Any, modality: Modality) -> Source | None:
        match cell:
            case {"name": name}:
                data = read_range(**cell)
                cell = json.loads(data)["caption"] if name.endswith(".json") else data
            case {"bytes": data, "path": name}:
                cell = name if data is None else data
            case list(texts) if modality is Modality.TEXT and texts:
                if not all(isinstance(text, str) for text in texts):
                    raise Unreadable(f"{self.path}: a list that is not of texts")
                return tuple(texts)
            case list():
                try:
                    return np.array(cell, np.float32)
                except (TypeError, ValueError):
                    raise Unreadable(f"{self.path}: a list that is not an array of numbers") from None
        if modality is Modality.TEXT and isinstance(cell, bytes):
            try:
                return cell.decode()
            except UnicodeDecodeError:
                raise Unreadable(f"{self.path}: a text is not UTF-8") from None
        if modality is Modality.TEXT or cell is None or isinstance(cell, bytes):
            return cell
        return self.path.parent / str(cell) if cell else None


def read_pairs(path: Path, *, split: str | None = None, label: str = "label") -> Pairs:
    """Open a pair table, or one split of it; `label` is the column of the classes.

    Raises UsageError for a table that cannot be read or lacks a column, an unknown modality, an invalid
    weight, and a split without rows. Media are not opened: see `check_pairs`.
    """
    pairs = Pairs(path, label=label)
    for at in np.flatnonzero(~np.isin(pairs.modalities, list(Modality)))[:1]:
        raise UsageError(f"{path}: row {at + 1}: {unknown_modality(pairs.modalities[at])}")
    for at in np.flatnonzero(~(np.isfinite(pairs.weights) & (pairs.weights >= 0)))[:1]:
        raise UsageError(f"{path}: row {at + 1}: {INVALID_WEIGHT}")
    if split is None:
        return pairs
    if split not in pairs.splits:
        raise UsageError(f"{path}: no row of split {split!r}; it has {', '.join(np.unique(pairs.splits))}")
    return pairs.take(np.flatnonzero(pairs.splits == split))


INVALID_WEIGHT = "weight must be a finite number of at least 0"


def unknown_modality(name: str) -> str:
    return f"modality {str(name)!r}; expected one of {', '.join(Modality)}"
