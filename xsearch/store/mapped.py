"""Items in a memory-mapped Arrow file, verified on access."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from xsearch.store.pages import PAGE, CheckedFile
from xsearch.system.memory import prefetch

__all__ = ["MappedTable", "array", "bits_of", "fetch", "scalar", "view"]

WINDOW = 1 << 16  # bytes verified around a value; matches the kernel's read-ahead
NUMBERS: dict[pa.DataType, Any] = {  # codes of the `struct` module
    pa.int8(): "b",
    pa.int16(): "h",
    pa.int32(): "i",
    pa.int64(): "q",
    pa.float32(): "f",
    pa.float64(): "d",
}
# A buffer, byte offsets into it and byte counts
Part = tuple[pa.Buffer | None, np.ndarray, np.ndarray]


# `to_numpy`, `pa.array` and whatever takes a Python value import pandas: 0.2 s


def view(array: pa.Array, dtype: type) -> np.ndarray:
    """Zero-copy view of a primitive array without nulls."""
    return np.frombuffer(array.buffers()[1], dtype, len(array), array.offset * np.dtype(dtype).itemsize)


def bits_of(buffer: pa.Buffer, column: pa.Array) -> np.ndarray:
    """The bit that a buffer of a column has for each of its rows, as bool. `to_numpy` would import pandas."""
    count = column.offset + len(column)
    bits = np.unpackbits(np.frombuffer(buffer, np.uint8), count=count, bitorder="little")
    return bits[column.offset :].view(bool)


def array(values: np.ndarray) -> pa.Array:
    """Zero-copy Arrow array of int64 values."""
    return pa.Array.from_buffers(pa.int64(), len(values), [None, pa.py_buffer(values)])


def scalar(text: str) -> pa.Scalar:
    """Arrow's form of a string."""
    content = text.encode()
    ends = np.array([0, len(content)], np.int32)
    return pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(ends), pa.py_buffer(content)])[0]


class MappedTable:
    """One uncompressed record batch sorted by `id`; rows are read in place, columns are views."""

    def __init__(self, file: CheckedFile) -> None:
        self._file = file

    @cached_property
    def _batch(self) -> pa.RecordBatch:
        file = self._file
        file.check(0, PAGE)  # a page fault of Arrow's would have the system read megabytes ahead
        file.check(file.buffer.size - PAGE, file.buffer.size)
        try:
            batches = pa.ipc.open_file(file.buffer)
            batch = batches.get_batch(0)
            buffers = [buffer for column in batch for buffer in column.buffers() if buffer]
            start = min(buffer.address for buffer in buffers) - file.buffer.address
            stop = max(buffer.address + buffer.size for buffer in buffers) - file.buffer.address
            file.check(0, start)  # metadata before and after the column buffers
            file.check(stop, file.buffer.size)
            ends = [end for each in buffers for end in (each.address, each.address + each.size - 1)]
            prefetch(np.array(ends, np.int64), 1)  # which `validate` touches
            batch.validate()
        except (OSError, pa.ArrowException, LookupError, ValueError) as error:
            raise file.damaged(error) from error
        return batch

    @cached_property
    def ids(self) -> np.ndarray:
        """The ids: int64 [n], ascending."""
        return view(self.columns(["id"])["id"].chunk(0), np.int64)

    @property
    def schema(self) -> pa.Schema:
        return self._batch.schema

    @property
    def address(self) -> int:
        """Where the file is in memory."""
        return self._file.buffer.address

    def columns(self, names: Sequence[str]) -> pa.Table:
        """Return all rows of these columns, as views."""
        batch = self._batch.select(list(names))
        for column in batch:
            self._check(column.buffers())
        return pa.Table.from_batches([batch])

    def record(self, row: int) -> dict[str, Any]:
        """Return what is not null in one row as a dictionary."""
        if 0 in self._file.flags:
            self._check_row(row)
        return {name: found for name, value in self._values if (found := value(row)) is not None}

    def _check_row(self, row: int) -> None:
        for spans, around in zip(self.spans(row), (WINDOW, 1), strict=True):
            for start, stop in spans:
                if not self._is_verified(start, stop):
                    end = -(-stop // around) * around
                    self._file.check(start // around * around, end)

    def spans(self, row: int) -> Iterator[list[tuple[int, int]]]:
        """Yield starts and stops of what `record` reads: of the values, then, once verified, of the texts."""
        yield [
            # of a string, its offset and the next one
            (start + row * bits // 8, start + (row * bits + bits - 1) // 8 + (1 if texts is None else 5))
            for start, bits, texts in self._places
        ]
        texts = [texts for _, _, texts in self._places if texts is not None]
        yield [(text + int(offsets[row]), text + int(offsets[row + 1])) for offsets, text in texts]

    def verify(self, spans: Sequence[tuple[int, int]]) -> None:
        """Verify `spans` of the file, which takes little time where they have been verified before."""
        if not all(self._is_verified(*span) for span in spans):
            starts, stops = np.array(spans, np.int64).T
            self._file.check_each(starts, stops - starts)

    def _is_verified(self, start: int, stop: int) -> bool:
        """Whether these bytes have been verified; of more than a page it does not know."""
        flags = self._file.flags
        return bool(flags[start // PAGE] and flags[(stop - 1) // PAGE]) and stop - start < PAGE

    @cached_property
    def _values(self) -> list[tuple[str, Callable[[int], Any]]]:
        """Names of the columns that are not all null, and functions from a row to its value."""
        return [(name, _value(column)) for name, column in self._columns]

    @cached_property
    def _columns(self) -> list[tuple[str, pa.Array]]:
        """Names and values of the columns that are not all null."""
        columns = zip(self.schema.names, self._batch.columns, strict=True)
        return [(name, column) for name, column in columns if column.null_count < len(column)]

    @cached_property
    def _places(self) -> list[tuple[int, int, tuple[np.ndarray, int] | None]]:
        """Per buffer: its start in the file, bits per row, and for strings their offsets and text start.

        Columns of other types are verified completely here.
        """
        places: list[tuple[int, int, tuple[np.ndarray, int] | None]] = []
        base = self._file.buffer.address
        for _, column in self._columns:
            validity, *buffers = column.buffers()
            if validity and column.null_count:
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
        """Return a copy of the rows of `ids` (int64 [n], all present) in these columns."""
        batch, rows = self._batch.select(list(names)), np.searchsorted(self.ids, ids)
        self._check_each(part for column in batch for part in self._parts(column, rows))
        texts = [column.buffers() for column in batch if pa.types.is_string(column.type)]
        ends = [(text, np.frombuffer(offsets, np.int32)) for _, offsets, text in texts]  # verified above
        self._check_each((text, end[rows], end[rows + 1] - end[rows]) for text, end in ends)
        return pa.Table.from_batches([batch.take(array(rows))])

    def _parts(self, column: pa.Array, rows: np.ndarray) -> Iterator[Part]:
        """Yield the byte ranges of these rows except string text; nested columns are verified as a whole."""
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
        """Verify all parts in one call; one call per part dominates the time of `take`."""
        start = self._file.buffer.address
        if ranges := [(part.address - start + starts, sizes) for part, starts, sizes in parts if part]:
            starts, sizes = zip(*ranges, strict=True)
            self._file.check_each(np.concatenate(starts), np.concatenate(sizes))


def fetch(rows: Sequence[tuple[MappedTable, int]]) -> None:
    """Read and verify what `record` returns of rows of tables, from the disk all at the same time.

    Alone, `record` waits for the disk once for each value of each row, and has the system read ahead.
    """
    for parts in zip(*(table.spans(row) for table, row in rows), strict=True):
        starts = [
            table.address + start for (table, _), spans in zip(rows, parts, strict=True) for start, _ in spans
        ]
        sizes = [stop - start for spans in parts for start, stop in spans]
        prefetch(np.array(starts, np.int64), np.array(sizes, np.int64))
        for (table, _), spans in zip(rows, parts, strict=True):
            table.verify(spans)


def _value(column: pa.Array) -> Callable[[int], Any]:
    """Return a function from a row to its Python value; Arrow's scalars take five times as long."""
    kind = column.type
    if column.null_count == column.offset == 0:
        if kind in NUMBERS:
            return memoryview(column.buffers()[1]).cast("B").cast(NUMBERS[kind]).__getitem__
        if pa.types.is_string(kind):
            _, offsets, text = column.buffers()
            ends, content = memoryview(offsets).cast("B").cast("i"), memoryview(text or b"").cast("B")
            return lambda row: str(content[ends[row] : ends[row + 1]], "utf-8")
    return lambda row: column[row].as_py()
