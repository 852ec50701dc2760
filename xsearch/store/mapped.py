"""Items in an Arrow file that is memory-mapped and checked where it is read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from xsearch.store.pages import CheckedFile

__all__ = ["MappedTable"]

# A buffer, and where in it bytes start and how many they are
Part = tuple[pa.Buffer | None, np.ndarray, np.ndarray]


class MappedTable:
    """One uncompressed record batch, its `id` ascending. A row is read where it lies, a column as a view."""

    def __init__(self, file: CheckedFile) -> None:
        self._file = file

    @cached_property
    def _batch(self) -> pa.RecordBatch:
        file = self._file
        try:
            batches = pa.ipc.open_file(file.buffer)
            batch = batches.get_batch(0)
            buffers = [buffer for column in batch for buffer in column.buffers() if buffer]
            start = min(buffer.address for buffer in buffers) - file.buffer.address
            stop = max(buffer.address + buffer.size for buffer in buffers) - file.buffer.address
            file.check(0, start)  # what describes the columns is before and after them
            file.check(stop, file.buffer.size)
            batch.validate()
        except (OSError, pa.ArrowException, LookupError, ValueError) as error:
            raise file.damaged(error) from error
        return batch

    @cached_property
    def _ids(self) -> np.ndarray:
        return self.columns(["id"])["id"].to_numpy()

    @property
    def schema(self) -> pa.Schema:
        return self._batch.schema

    def columns(self, names: Sequence[str]) -> pa.Table:
        """All rows of these columns: views."""
        batch = self._batch.select(list(names))
        for column in batch:
            self._check(column.buffers())
        return pa.table(batch)

    def record(self, row: int) -> dict[str, Any]:
        """The values of one row, by column."""
        check = self._file.check
        for start, bits, texts in self._places:
            if texts is None:
                check(start + row * bits // 8, start + (row * bits + bits + 7) // 8)
            else:
                check(start + row * 4, start + row * 4 + 8)
                offsets, text = texts
                check(text + int(offsets[row]), text + int(offsets[row + 1]))
        return {name: column[row].as_py() for name, column in self._columns}

    @cached_property
    def _columns(self) -> list[tuple[str, pa.Array]]:
        return list(zip(self.schema.names, self._batch.columns, strict=True))

    @cached_property
    def _places(self) -> list[tuple[int, int, tuple[np.ndarray, int] | None]]:
        """Where the values of a row are: the first byte of a buffer, and the bits of a row in it.

        Of strings also their offsets, and the first byte of their text. Other columns are checked as a whole.
        """
        places: list[tuple[int, int, tuple[np.ndarray, int] | None]] = []
        base = self._file.buffer.address
        for column in self._batch:
            validity, *buffers = column.buffers()
            if validity:
                places.append((validity.address - base, 1, None))
            if pa.types.is_primitive(column.type):
                places.append((buffers[0].address - base, column.type.bit_width, None))
            elif pa.types.is_string(column.type):
                offsets, text = buffers
                texts = np.frombuffer(offsets, np.int32), text.address - base if text else 0
                places.append((offsets.address - base, 32, texts))
            else:
                self._check(column.buffers())
        return places

    def take(self, ids: np.ndarray, names: Sequence[str]) -> pa.Table:
        """The rows of `ids` (int64 [n], all in here) of these columns: a copy."""
        batch, rows = self._batch.select(list(names)), np.searchsorted(self._ids, ids)
        self._check_each(part for column in batch for part in self._parts(column, rows))
        texts = [column.buffers() for column in batch if pa.types.is_string(column.type)]
        ends = [(text, np.frombuffer(offsets, np.int32)) for _, offsets, text in texts]  # checked by now
        self._check_each((text, end[rows], end[rows + 1] - end[rows]) for text, end in ends)
        return pa.table(batch.take(pa.array(rows)))

    def _parts(self, column: pa.Array, rows: np.ndarray) -> Iterator[Part]:
        """Where these rows are, except for the text of strings; lists and the like are checked as a whole."""
        validity, *buffers = column.buffers()
        yield validity, rows // 8, np.ones_like(rows)
        if pa.types.is_primitive(column.type):
            bits = column.type.bit_width
            yield buffers[0], rows * bits // 8, np.full_like(rows, max(bits // 8, 1))
        elif pa.types.is_string(column.type):
            yield buffers[0], rows * 4, np.full_like(rows, 8)
        else:
            self._check(buffers)

    def _check(self, buffers: Sequence[pa.Buffer | None]) -> None:
        for buffer in buffers:
            if buffer:
                self._file.check_view(buffer)

    def _check_each(self, parts: Iterable[Part]) -> None:
        """All at once: a call for each part takes most of the time of `take`."""
        start = self._file.buffer.address
        if some := [(part.address - start + starts, sizes) for part, starts, sizes in parts if part]:
            starts, sizes = zip(*some, strict=True)
            self._file.check_each(np.concatenate(starts), np.concatenate(sizes))
