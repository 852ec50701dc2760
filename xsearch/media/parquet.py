"""How much a Parquet file unpacks to, by the headers of its pages: what its footer states may be wrong.

A page of a few bytes may stand for any number of values, and for 2 GB (github.com/apache/parquet-format).
"""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

from xsearch.media.limits import MAX_COLUMNS, Limit

__all__ = ["check", "check_footer"]

LARGEST_FOOTER = 16 << 20  # bytes, of 10,000 columns in 10 groups of rows
LONGEST_HEADER = 1 << 16  # bytes of the header of a page; statistics are in it
_SIZE, _PACKED, _V1, _DICTIONARY, _V2 = (
    2,
    3,
    5,
    7,
    8,
)  # fields of PageHeader; the last three start with a count


def check_footer(file: IO[bytes], path: Path) -> None:
    """Raise TooLarge if the footer of a file, which names its columns, is too large to be parsed."""
    file.seek(max(file.seek(0, 2) - 8, 0))
    if int.from_bytes(file.read(4), "little") > LARGEST_FOOTER:
        raise MAX_COLUMNS.refusal(path)
    file.seek(0)


def check(file: IO[bytes], path: Path, limit: Limit, columns: set[str] | None = None, share: int = 1) -> None:
    """Raise TooLarge if columns, by default all, unpack to more than a limit of bytes.

    A value counts as 8 bytes at least. share: of the bytes that count, 1 / share. Raises undocumented
    exceptions if the file is damaged.
    """
    from pyarrow import parquet

    check_footer(file, path)
    metadata = parquet.read_metadata(file)
    size = 0
    for group in range(metadata.num_row_groups):
        for number in range(metadata.num_columns):
            chunk, about = metadata.row_group(group).column(number), metadata.schema.column(number)
            if columns is not None and about.path.partition(".")[0] not in columns:
                continue
            at = min(filter(None, (chunk.dictionary_page_offset, chunk.data_page_offset)), default=0)
            end = at + chunk.total_compressed_size
            while at < end:
                file.seek(at)
                head = _Compact(file.read(LONGEST_HEADER))
                page = head.struct()
                counts = [page[field][1] for field in (_V1, _V2) if field in page]
                size += max(page[_SIZE], sum(counts) * max(about.length, 8))
                at += head.at + page[_PACKED]
                limit.check(path, size // share)
    file.seek(0)


class _Compact:
    """A structure in Thrift's compact protocol."""

    def __init__(self, data: bytes) -> None:
        self._data, self.at = data, 0

    def struct(self) -> dict[int, Any]:
        """Return the fields of a structure by number."""
        fields: dict[int, Any] = {}
        field = 0
        while head := self._byte():
            field = field + (head >> 4) if head >> 4 else self._integer()
            fields[field] = self._value(head & 15)
        return fields

    def _value(self, kind: int) -> Any:
        match kind:
            case 1 | 2:
                return kind == 1
            case 3:
                return self._byte()
            case 4 | 5 | 6:
                return self._integer()
            case 7:
                self.at += 8
            case 8:
                length = self._varint()
                self.at += length
            case 9 | 10:
                head = self._byte()
                count = head >> 4 if head >> 4 < 15 else self._varint()
                return [self._value(head & 15) for _ in range(min(count, LONGEST_HEADER))]
            case 12:
                return self.struct()
            case _:
                raise ValueError("damaged header of a page")
        return None

    def _integer(self) -> int:
        value = self._varint()
        return value >> 1 ^ -(value & 1)

    def _varint(self) -> int:
        value = shift = 0
        while (byte := self._byte()) & 128:
            value, shift = value | (byte & 127) << shift, shift + 7
        return value | byte << shift

    def _byte(self) -> int:
        self.at += 1
        return self._data[self.at - 1]
