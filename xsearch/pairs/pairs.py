"""The rows of a table as a sequence of pairs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np

from xsearch.errors import Unreadable, UsageError
from xsearch.pairs.formats import NAMED, REQUIRED, Opened, cut, open_table
from xsearch.pairs.pair import Pair, Source, number
from xsearch.types import Modality

__all__ = ["NO_WEIGHT", "Pairs", "no_modality", "read_pairs"]


class Pairs(Sequence[Pair]):
    """The rows of a table, made into pairs when asked for; nothing is decoded, and it pickles as its path.

    Bytes of a Parquet file are read a row group at a time, so that groups of some 1,000 rows serve best.
    """

    def __init__(
        self,
        path: Path,
        rows: np.ndarray | None = None,
        label: str = "label",
        *,
        opened: Opened | None = None,
    ) -> None:
        """rows: which of the table, int64 [N] from 0; without them all. label: the column of the classes.

        opened: what `open_table(path)` has given before. Raises UsageError if the table cannot be read.
        """
        self.path = path
        self._label = label
        self._opened = self._table, self._groups = opened or open_table(path)
        names = [*self._table.column_names, *(self._groups.names if self._groups else ())]
        wanted = REQUIRED if label == "label" else (*REQUIRED, label)
        if missing := [name for name in wanted if name not in names]:
            raise UsageError(
                f"{path}: no column {', '.join(missing)}; a pair table has {', '.join(REQUIRED)}, "
                f"this one {', '.join(names)}"
            )
        self._some = rows

    @cached_property
    def rows(self) -> np.ndarray:
        """Where in the table each pair is, int64 [N] from 0."""
        return np.arange(self._table.num_rows) if self._some is None else self._some

    @cached_property
    def modalities(self) -> np.ndarray:
        """Names as they stand in the table, str [N]."""
        return self._column("modality", "").astype(str)

    @cached_property
    def weights(self) -> np.ndarray:
        """float64 [N]; NaN for what is no number."""
        return np.array([number(weight) for weight in self._column("weight", 1.0)])

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
        """Some of the pairs: their numbers, or a bool for each."""
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
        if isinstance(image, str | np.ndarray):
            raise Unreadable(f"{self.path}: row {self.rows[at] + 1}: image is neither a path nor bytes")
        plus_modality = cells.get("plus_modality")
        if plus_modality not in (None, *Modality):
            raise Unreadable(f"{self.path}: row {self.rows[at] + 1}: plus_{no_modality(str(plus_modality))}")
        added = plus_modality and Modality(plus_modality)
        return Pair(
            image,
            other,
            modality,
            weight=float(self.weights[at]),
            split=str(self.splits[at]),
            label=self.labels[at],
            plus=added and self._source(cells.get("plus"), added),
            plus_modality=added,
            extra={name: cell for name, cell in cells.items() if name not in NAMED},
        )

    def __reduce__(self) -> tuple[type[Pairs], tuple[Path, np.ndarray | None, str]]:
        return Pairs, (self.path, self._some, self._label)

    def _column(self, name: str, default: object) -> np.ndarray:
        """A small column, with `default` where nothing is told: object [N]."""
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
                data = cut(**cell)
                cell = json.loads(data)["caption"] if name.endswith(".json") else data
            case {"bytes": data, "path": name}:
                cell = name if data is None else data
            case list():
                try:
                    return np.array(cell, np.float32)
                except (TypeError, ValueError):
                    raise Unreadable(f"{self.path}: a list that is no array of numbers") from None
        if modality is Modality.TEXT and isinstance(cell, bytes):
            try:
                return cell.decode()
            except UnicodeDecodeError:
                raise Unreadable(f"{self.path}: a text is not UTF-8") from None
        if modality is Modality.TEXT or cell is None or isinstance(cell, bytes):
            return cell
        return self.path.parent / str(cell) if cell else None


def read_pairs(path: Path, *, split: str | None = None, label: str = "label") -> Pairs:
    """The pairs of a table, or those of one split; `label` is the column of the classes.

    UsageError for a table that cannot be read or lacks a column, an unknown modality, a weight that is no
    finite number of at least 0, and a split that no row has. Media are not looked at: see `check_pairs`.
    """
    pairs = Pairs(path, label=label)
    for at in np.flatnonzero(~np.isin(pairs.modalities, list(Modality)))[:1]:
        raise UsageError(f"{path}: row {at + 1}: {no_modality(pairs.modalities[at])}")
    for at in np.flatnonzero(~(np.isfinite(pairs.weights) & (pairs.weights >= 0)))[:1]:
        raise UsageError(f"{path}: row {at + 1}: {NO_WEIGHT}")
    if split is None:
        return pairs
    if split not in pairs.splits:
        raise UsageError(f"{path}: no row of split {split!r}; it has {', '.join(np.unique(pairs.splits))}")
    return pairs.take(np.flatnonzero(pairs.splits == split))


NO_WEIGHT = "weight is no finite number of at least 0"


def no_modality(name: str) -> str:
    return f"modality {str(name)!r}; it is one of {', '.join(Modality)}"
