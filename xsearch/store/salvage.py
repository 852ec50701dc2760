"""Salvage: the intact rows of a damaged segment.

`items.parquet` and `items.arrow` replace each other. Of files that are damaged themselves, the pages that
match their checksums are intact, and the rows that lie within such pages.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from xsearch.store.mapped import array, view
from xsearch.store.pages import PAGE, WORD, checksums, map_file
from xsearch.store.segments import (
    CHECKSUMS,
    ITEM_SCHEMA,
    ITEMS,
    LARGEST,
    MAPPED,
    MAPPED_SUMS,
    VECTORS,
    conform,
    unify,
    vector_batch,
)
from xsearch.store.snapshot import BLOCK_ROWS
from xsearch.store.writer import UNIT_TOLERANCE
from xsearch.system.durable import read_file
from xsearch.system.lookup import is_in

__all__ = ["UNREADABLE", "Salvaged", "salvage"]

UNREADABLE = (OSError, ValueError, LookupError, pa.ArrowException)  # raised for damaged Arrow and Parquet
MAGIC = 8  # bytes before the stream in an Arrow file


@dataclass(frozen=True, slots=True)
class Salvaged:
    """The rows of a segment whose items and vectors are both intact."""

    items: pa.Table  # sorted by id
    vectors: np.ndarray  # float16 [n, dim]
    others: pa.Table  # intact items without intact vectors
    ids: np.ndarray  # int64, ascending: of all intact items and vectors

    def without(self, removed: np.ndarray) -> Salvaged:
        """The same without the items of these ids: int64, ascending."""
        kept, others = (~is_in(table["id"].to_numpy(), removed) for table in (self.items, self.others))
        items = self.items.filter(pa.array(kept))
        ids = self.ids[~is_in(self.ids, removed)]
        return Salvaged(items, self.vectors[kept], self.others.filter(pa.array(others)), ids)


class _Pages(NamedTuple):
    """The content of a file, and which of its pages are intact."""

    content: np.ndarray  # uint8
    good: np.ndarray  # bool [pages]

    @property
    def buffer(self) -> pa.Buffer:
        return pa.py_buffer(self.content)

    def intact(self, first: np.ndarray, end: np.ndarray, buffer: pa.Buffer | None = None) -> np.ndarray:
        """Whether bytes `first` to `end` (int64 [n]) of `buffer`, by default the file, are: bool [n]."""
        whole = self.buffer
        buffer = whole if buffer is None else buffer
        bad = np.concatenate([[0], np.cumsum(~self.good)])  # pages before each page
        intact = (first >= 0) & (first <= end) & (end <= buffer.size)
        start = buffer.address - whole.address
        first, end = first[intact] + start, end[intact] + start
        intact[intact] = (first == end) | (bad[_pages(end)] == bad[first // PAGE])
        return intact

    def table(self, *, ids_known: bool = False) -> pa.Table:
        """Return the intact rows of the first record batch, in one chunk.

        ids_known: the metadata and the first column are right even where pages are not intact.
        """
        batch = pa.ipc.open_stream(self.buffer.slice(MAGIC)).read_next_batch()  # needs no footer
        start = batch.column(0).buffers()[1].address - self.buffer.address  # the schema is before it
        intact = np.repeat(ids_known | self.intact(np.zeros(1, int), np.array([start])), len(batch))
        for column in batch.columns[ids_known:]:
            for buffer, first, end in _spans(column):
                intact &= self.intact(first, end, buffer)
        table = pa.Table.from_batches([batch])
        table = table if intact.all() else table.filter(pa.array(intact)).combine_chunks()
        table.validate(full=True)
        if not len(table) or (np.diff(table["id"].to_numpy()) <= 0).any():
            raise ValueError("no rows, or ids that are not ascending")
        return table


def _spans(column: pa.Array) -> Iterator[tuple[pa.Buffer, np.ndarray, np.ndarray]]:
    """Yield buffers, and the first byte and the end of each row in them: int64 [n]."""
    rows, kind = np.arange(len(column)), column.type
    validity, *buffers = column.buffers()
    if validity:
        yield validity, rows // 8, rows // 8 + 1
    if pa.types.is_primitive(kind):
        yield buffers[0], rows * kind.bit_width // 8, ((rows + 1) * kind.bit_width + 7) // 8
    elif pa.types.is_fixed_size_list(kind) and pa.types.is_primitive(kind.value_type):
        size = kind.list_size * kind.value_type.bit_width // 8
        yield buffers[-1], rows * size, (rows + 1) * size
    elif pa.types.is_string(kind):
        offsets, text = buffers
        yield offsets, rows * 4, rows * 4 + 8
        ends = np.frombuffer(offsets, np.int32).astype(np.int64)
        if text:
            yield text, ends[rows], ends[rows + 1]
    else:  # nested: all or nothing
        for buffer in filter(None, buffers):
            yield buffer, 0 * rows, np.full(len(rows), buffer.size)


def salvage(
    files: Mapping[str, Path],
    damaged: Collection[str],
    rows: int | None = None,
    dim: int | None = None,
    *,
    trust: bool = False,
) -> Salvaged:
    """Return the intact rows of a segment.

    files: name -> where it is. damaged: names of files that differ from the manifest. rows, dim: of the
    segment, None if unknown. trust: also read damaged files without checksums, and use damaged checksums.
    """
    sums: dict[str, np.ndarray | None] = dict.fromkeys((CHECKSUMS, MAPPED_SUMS))
    for name in sums.keys() & files.keys():
        with suppress(OSError):
            if (trust or name not in damaged) and _size(files[name]) <= LARGEST:
                content = read_file(files[name], LARGEST)
                sums[name] = np.frombuffer(content[: len(content) // 8 * 8], WORD)

    def load(name: str, sums: np.ndarray | None, blank: np.ndarray | None = None) -> _Pages:
        data = np.frombuffer(map_file(files[name]), np.uint8)
        if name not in damaged or (trust and sums is None):
            return _Pages(data, np.ones(_pages(len(data)), bool))
        if sums is None:
            raise LookupError(f"no checksums of {name}")
        return _compared(data, sums, blank, trust=trust)

    both = sums[CHECKSUMS]
    if rows and dim and both is not None and rows * (2 * dim + 8) > len(both) * PAGE:
        rows = None  # the manifest lies
    parts = [ITEM_SCHEMA.empty_table()]
    with suppress(*UNREADABLE):
        parts.append(load(MAPPED, sums[MAPPED_SUMS]).table())
    item_sums, vector_sums = _split(files, damaged, both, rows, dim)
    if len(parts[-1]) != rows:
        with suppress(*UNREADABLE):
            parts += _groups(load(ITEMS, item_sums), _size(files[ITEMS]))
    items = _merged(parts)
    ids = items["id"].to_numpy()
    blank, ids_known = None, len(ids) == rows
    if VECTORS in damaged and vector_sums is not None and rows and dim:
        blank = _blank(ids if ids_known else np.zeros(rows, np.int64), dim)
    vectors, known = np.empty((0, dim or 1), np.float16), np.empty(0, np.int64)
    with suppress(*UNREADABLE):
        table = load(VECTORS, vector_sums, blank).table(ids_known=ids_known and blank is not None)
        vectors, known = _matrix(table["vector"].chunk(0)), table["id"].to_numpy()
        unit = is_unit(vectors)  # so are none of a file with another layout
        vectors, known = (vectors, known) if unit.all() else (vectors[unit], known[unit])
    joined, of_items = is_in(known, ids), is_in(ids, known)
    return Salvaged(
        items.filter(pa.array(of_items)),
        vectors if joined.all() else vectors[joined],
        items.filter(pa.array(~of_items)),
        np.union1d(ids, known),
    )


def is_unit(vectors: np.ndarray) -> np.ndarray:
    """Whether vectors (float16 [n, dim]) have length 1, within the precision of float16: bool [n]."""
    unit = np.empty(len(vectors), bool)
    for start in range(0, len(vectors), BLOCK_ROWS):
        block = vectors[start : start + BLOCK_ROWS].astype(np.float32)
        unit[start : start + BLOCK_ROWS] = abs(np.linalg.norm(block, axis=1) - 1) <= 2 * UNIT_TOLERANCE
    return unit


def _pages(size: Any) -> Any:
    return -(-size // PAGE)


def _size(file: Path) -> int:
    with suppress(OSError):
        return file.stat().st_size
    return 0


def _matrix(column: pa.Array) -> np.ndarray:
    """View of a column of float16 lists: [n, dim]."""
    size = column.type.list_size
    return view(column.values, np.float16)[column.offset * size :][: len(column) * size].reshape(-1, size)


def _split(
    files: Mapping[str, Path],
    damaged: Collection[str],
    sums: np.ndarray | None,
    rows: int | None,
    dim: int | None,
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Split the content of `checksums.bin` into those of `items.parquet` and of `vectors.arrow`."""
    if sums is None:
        return None, None
    if VECTORS not in damaged:
        pages = len(sums) - _pages(_size(files[VECTORS]))
    elif ITEMS in damaged and rows and dim:  # the size of either file may have changed
        pages = len(sums) - _pages(_written(pa.MockOutputStream(), np.zeros(rows, np.int64), dim).size())
    else:
        pages = _pages(_size(files[ITEMS]))
    return sums[: max(pages, 0)], sums[max(pages, 0) :]


def _compared(data: np.ndarray, sums: np.ndarray, blank: np.ndarray | None, *, trust: bool) -> _Pages:
    """Return the pages of damaged `data` that match `sums`, the others from `blank`, of the same size."""
    if blank is None or _pages(len(blank)) != len(sums):
        blank = np.zeros(len(sums) * PAGE, np.uint8)
    content = blank.copy()
    size = min(len(data), len(content))  # it may have grown
    content[:size] = data[:size]
    good = checksums(content) == sums
    for page in np.flatnonzero(~good):
        part = slice(page * PAGE, (page + 1) * PAGE)
        content[part] = blank[part]
        good[page] = checksums(content[part])[0] == sums[page]
    return _Pages(content, good | (trust and not good.any()))


def _blank(ids: np.ndarray, dim: int) -> np.ndarray:
    """Return `vectors.arrow` of these items, with zeros for vectors: uint8."""
    content = np.zeros(_written(pa.MockOutputStream(), ids, dim).size(), np.uint8)
    _written(pa.FixedSizeBufferWriter(pa.py_buffer(content)), ids, dim)
    return content


def _written(file: pa.NativeFile, ids: np.ndarray, dim: int) -> pa.NativeFile:
    batch = vector_batch(array(ids), np.zeros((len(ids), dim), np.float16))
    with pa.ipc.new_file(file, batch.schema) as writer:
        writer.write_batch(batch)
    return file


def _groups(pages: _Pages, size: int) -> Iterator[pa.Table]:
    """Yield the intact row groups of a Parquet file of `size` bytes."""
    end = min(size, len(pages.content)) - 8  # footer length and magic; the footer precedes them
    start = end - int.from_bytes(pages.content[end : end + 4].tobytes(), "little")
    if not pages.intact(np.array([start]), np.array([end + 8]))[0]:
        raise ValueError("the footer is damaged")
    file = pq.ParquetFile(pages.buffer.slice(0, end + 8))
    for number in range(file.num_row_groups):
        group = file.metadata.row_group(number)
        chunks = [group.column(i) for i in range(group.num_columns)]
        first = np.array([chunk.dictionary_page_offset or chunk.data_page_offset for chunk in chunks])
        if pages.intact(first, first + [chunk.total_compressed_size for chunk in chunks]).all():
            with suppress(*UNREADABLE):
                yield file.read_row_group(number, use_threads=False)


def _merged(parts: list[pa.Table]) -> pa.Table:
    """Return the rows of `parts`, of which several may have the same, sorted by id; none if they disagree."""
    filled = [part for part in parts if len(part)] or parts[:1]
    with suppress(*UNREADABLE):
        schema = unify([part.schema for part in filled])
        table = filled[0] if len(filled) == 1 else pa.concat_tables(conform(part, schema) for part in filled)
        _, rows = np.unique(table["id"].to_numpy(), return_index=True)
        return table if np.array_equal(rows, np.arange(len(table))) else table.take(array(rows))
    return parts[0]
