"""Readers of pair tables: Parquet, Arrow IPC, CSV, JSON lines, WebDataset shards -> Arrow tables."""

from __future__ import annotations

import json
import re
import tarfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xsearch.errors import UsageError
from xsearch.types import Modality

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["NAMED", "PARTNERS", "REQUIRED", "Opened", "open_table", "read_range"]

REQUIRED = ("image", "other", "modality")
NAMED = (*REQUIRED, "weight", "split", "label", "plus", "plus_modality")
PICTURES = ("jpg", "jpeg", "png", "webp")
PARTNERS = {
    "txt": Modality.TEXT, "wav": Modality.AUDIO, "flac": Modality.AUDIO, "ogg": Modality.AUDIO,
    "mp3": Modality.AUDIO, "depth.png": Modality.DEPTH, "thermal.png": Modality.THERMAL,
    "npy": Modality.IMU, "csv": Modality.IMU,
}  # fmt: skip
CACHE_BYTES = 1 << 30  # of row groups
BLOCK = 64 << 20  # bytes: the longest line of JSON


class _RowGroups:
    """The large columns of a Parquet file, read by row group, with an LRU cache."""

    def __init__(self, file: Any, names: list[str]) -> None:
        self.names = names
        self._file = file
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        self._starts = np.cumsum([0, *sizes])
        self._cache: OrderedDict[int, pa.Table] = OrderedDict()

    def cells(self, row: int) -> dict[str, Any]:
        group = int(np.searchsorted(self._starts, row, side="right")) - 1
        if group not in self._cache:
            # No threads: data loader workers may be forks of a process that has some.
            self._cache[group] = self._file.read_row_group(group, columns=self.names, use_threads=False)
            while len(self._cache) > 1 and sum(table.nbytes for table in self._cache.values()) > CACHE_BYTES:
                self._cache.popitem(last=False)
        self._cache.move_to_end(group)
        return {name: self._cache[group][name][row - self._starts[group]].as_py() for name in self.names}


Opened = tuple[Any, _RowGroups | None]


def open_table(path: Path) -> Opened:
    """The table, and the large columns of Parquet separately. Raises UsageError."""
    import pyarrow as pa
    from pyarrow import csv, parquet
    from pyarrow import json as json_lines

    text = pa.string()
    texts = {name: text for name in NAMED if name != "weight"}  # even if all cells look like numbers
    try:
        match path.suffix.lower():
            case ".parquet":
                file = parquet.ParquetFile(path, memory_map=True)
                large = [field.name for field in file.schema_arrow if _is_large(field)]
                small = [field.name for field in file.schema_arrow if field.name not in large]
                return file.read(columns=small), _RowGroups(file, large) if large else None
            case ".arrow" | ".feather":
                return pa.ipc.open_file(pa.memory_map(str(path))).read_all(), None
            case ".csv":
                convert = csv.ConvertOptions(column_types=texts, null_values=[""], strings_can_be_null=True)
                return csv.read_csv(path, None, csv.ParseOptions(newlines_in_values=True), convert), None
            case ".jsonl":
                block = json_lines.ReadOptions(block_size=BLOCK)
                del texts["other"]  # may be numbers
                return json_lines.read_json(path, block, json_lines.ParseOptions(pa.schema(texts))), None
            case ".tar":
                location = {"shard": text, "name": text, "start": pa.int64(), "size": pa.int64()}
                columns = dict.fromkeys((*NAMED, "json"), text)
                columns |= dict.fromkeys(("image", "other"), pa.struct(location))
                return pa.Table.from_pylist(list(_members(path)), pa.schema(columns)), None
    except (OSError, TypeError, ValueError, tarfile.TarError) as error:  # Arrow's are ValueErrors
        raise UsageError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from None
    raise UsageError(f"{path}: unknown format; expected .parquet, .arrow, .csv, .jsonl or shards in .tar")


def _is_large(field: pa.Field) -> bool:
    from pyarrow import types

    nested = field.name in ("image", "other", "plus") and types.is_nested(field.type)
    return bool(nested or types.is_binary(field.type) or types.is_large_binary(field.type))


def _members(path: Path) -> Iterator[dict[str, Any]]:
    """A row for each partner of a picture in the shards, with byte ranges in place of bytes."""
    for shard in _shards(path):
        samples: dict[str, dict[str, tarfile.TarInfo]] = {}
        with tarfile.open(shard, "r:") as tar:  # uncompressed, for random access
            for member in tar:
                folder, _, name = member.name.rpartition("/")
                stem, _, ending = name.partition(".")
                if member.isfile():
                    samples.setdefault(f"{folder}/{stem}", {})[ending.lower()] = member
            for members in samples.values():
                ranges = {ending: _range(shard, member) for ending, member in members.items()}
                about = dict(json.loads(read_range(**ranges["json"]))) if "json" in ranges else {}
                if "cls" in ranges:
                    about["label"] = read_range(**ranges["cls"]).decode().strip()
                if "caption" in about:
                    ranges.setdefault("txt", ranges["json"])
                row: dict[str, Any] = {"image": next((ranges[e] for e in PICTURES if e in ranges), None)}
                row |= {name: str(about.pop(name)) for name in ("weight", "split", "label") if name in about}
                for ending, modality in PARTNERS.items():
                    if ending in ranges:
                        yield row | {"other": ranges[ending], "modality": modality, "json": json.dumps(about)}


def _range(shard: Path, member: tarfile.TarInfo) -> dict[str, Any]:
    return {"shard": str(shard), "name": member.name, "start": member.offset_data, "size": member.size}


def read_range(shard: str, name: str, start: int, size: int) -> bytes:
    """The bytes of a member of a shard."""
    with Path(shard).open("rb") as file:
        file.seek(start)
        return file.read(size)


def _shards(path: Path) -> list[Path]:
    """The files of `x-{0000..0009}.tar`.

    >>> [shard.name for shard in _shards(Path("x-{08..10}.tar"))]
    ['x-08.tar', 'x-09.tar', 'x-10.tar']
    """
    match = re.fullmatch(r"(.*)\{(\d+)\.\.(\d+)\}(.*)", str(path))
    if match is None:
        return [path]
    before, first, last, after = match.groups()
    numbers = range(int(first), int(last) + 1)
    return [Path(f"{before}{number:0{len(first)}}{after}") for number in numbers]
