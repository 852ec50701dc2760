"""Items and vectors in files: those that an export has written, and those of other programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from xsearch.errors import StoreError, UsageError
from xsearch.exchange.columns import stored
from xsearch.metadata import user_column
from xsearch.store.manifest import SEGMENT_FILES, read_manifest
from xsearch.store.salvage import Salvaged, salvage
from xsearch.store.segments import KEY, VECTORS, conform, read_table, unify
from xsearch.store.snapshot import SCHEMAS
from xsearch.store.writer import REMOVED
from xsearch.types import Fingerprint, Modality

__all__ = ["GROUP_ROWS", "IDENTITY", "Progress", "Source", "read"]

GROUP_ROWS = 16_384  # per row group and per batch in memory: 32 MB of float16 at 1024 dimensions
# Items are duplicates if file, modality, window and text agree.
FILE, ITEM = ("sha256", "bytes", "mtime_ns"), ("modality", "start_s", "end_s", "text")
IDENTITY = pa.schema([unify([]).field(name) for name in ("path", *FILE, *ITEM)])
MAX_COLUMNS = 1_000  # of a source

Batches = Iterator[tuple[pa.Table, np.ndarray]]  # items without `id`, and their vectors [n, dim]
Parts = list[Callable[[], Batches]]  # one per file of vectors
Progress = Callable[[int, int], None]  # rows done, rows in total


@dataclass(frozen=True, slots=True)
class Source:
    """External items with vectors; validated as far as possible without reading the data."""

    rows: int
    dim: int | None  # None without rows
    fingerprint: Fingerprint | None  # model of the vectors, if recorded
    model: str | None  # `--model` value of that model, if recorded
    parts: Parts


def read(path: Path) -> Source:
    """Open an export, any Parquet of that form, clip-retrieval output, or segments of a damaged collection.

    Raises UsageError for others.
    """
    if not path.exists():
        raise UsageError(f"{path}: no such file or folder; check the path")
    if path.suffix.lower() == ".csv":
        raise UsageError(f"{path}: CSV has no vectors; import a .parquet, .jsonl or .npy file")
    clip = (path / "img_emb").is_dir() or (path / "text_emb").is_dir()
    openers = {".jsonl": _json_lines, ".ndjson": _json_lines, ".npy": _array_and_items}
    stored = not clip and path.is_dir() and bool(_folders(path))
    default = _clip_retrieval if clip else _segments if stored else _exported
    opener = openers.get("" if path.is_dir() else path.suffix.lower(), default)
    rows, parts, fingerprint, model = opener(path)
    first = next((vectors for part in parts for _, vectors in part()), None)
    return Source(rows, None if first is None else first.shape[1], fingerprint, model, parts)


_UNREADABLE = (
    OSError, ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError,
    pa.ArrowException,
)  # fmt: skip


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Convert read errors to a UsageError that names the file."""
    try:
        yield
    except _UNREADABLE as error:
        raise UsageError(f"{file}: cannot be read: {error}; replace or remove it") from None


def _open(file: Path) -> pq.ParquetFile:
    return pq.ParquetFile(file, buffer_size=1 << 20, page_checksum_verification=True)


def _exported(path: Path) -> tuple[int, Parts, Fingerprint | None, str | None]:
    """Return rows, parts, fingerprint and model of a Parquet file or a folder of them."""
    files = [path] if path.is_file() else sorted(path.glob("*.parquet"))
    if not files:
        raise UsageError(
            f"{path}: contains neither *.parquet nor img_emb/*.npy; expected a Parquet file or a folder of "
            "them, as written by `xsearch export`"
        )
    rows, models = 0, dict[Fingerprint | None, str | None]()
    for file in files:
        count, fingerprint, model = _header(file, "path", "modality", "vector")
        rows += count
        models[fingerprint] = model
    if len(models) > 1:
        raise UsageError(f"{path}: its files are not all of one model; import them one by one")
    return rows, [partial(_with_vectors, file, _batches) for file in files], *models.popitem()


def _header(file: Path, *required: str) -> tuple[int, Fingerprint | None, str | None]:
    """Return rows, fingerprint and model of a Parquet file that has these columns."""
    with _reading(file):
        parquet = _open(file)
        header = json.loads((parquet.metadata.metadata or {}).get(KEY.encode(), "null"))
        made_by = (_fingerprint(header["model"]), header["source"]) if header else (None, None)
    names = [name.lower() for name in parquet.schema_arrow.names]
    if not set(required) <= set(names):
        expected = f"{', '.join(required[:-1])} and {required[-1]}"
        raise UsageError(f"{file}: expected columns {expected}; found {', '.join(names)}")
    return parquet.metadata.num_rows, *made_by


def _fingerprint(content: dict[str, Any]) -> Fingerprint:
    made_by = Fingerprint(**content)
    texts = (made_by.name, made_by.digest, made_by.preprocessing)
    if not all(isinstance(text, str) for text in texts) or type(made_by.dim) is not int:
        raise ValueError(f"not a model: {content}")
    return made_by


def _batches(file: Path) -> Iterator[pa.Table]:
    for batch in _open(file).iter_batches(GROUP_ROWS):
        yield pa.Table.from_batches([batch])


def _folders(path: Path) -> list[Path]:
    """Return the folders of segments at `path` or a few levels below, unless that is a whole collection."""
    with suppress(StoreError):
        read_manifest(path)
        return []
    return sorted(file.parent for depth in range(4) for file in path.glob("*/" * depth + VECTORS))


def _segments(path: Path) -> tuple[int, Parts, Fingerprint | None, str | None]:
    """`_exported` for segments such as those that a repair has set aside: what can be read of them.

    If they are below their collection, its removed items are left out.
    """
    rows, parts, models = 0, Parts(), dict[Fingerprint | None, str | None]()
    removed, default = _collection_above(path)
    for folder in _folders(path):
        with _reading(folder):
            salvaged = _salvaged(folder, removed)
            rows += len(salvaged.items) + len(salvaged.others)
            header = json.loads((salvaged.items.schema.metadata or {}).get(KEY.encode(), "null"))
            fingerprint, model = (Fingerprint(**header["model"]), header["source"]) if header else default
            models[fingerprint] = model
        parts.append(partial(_segment, folder, removed))
    if len(models) > 1:
        raise UsageError(f"{path}: its segments are not all of one model; import them one by one")
    return rows, parts, *(models or {None: None}).popitem()


def _segment(folder: Path, removed: np.ndarray) -> Batches:
    with _reading(folder):
        salvaged = _salvaged(folder, removed)
        for start in range(0, len(salvaged.items), GROUP_ROWS):
            items = _items(folder, salvaged.items.slice(start, GROUP_ROWS))
            yield items, salvaged.vectors[start : start + len(items)]


def _salvaged(folder: Path, removed: np.ndarray) -> Salvaged:
    files = {name: folder / name for name in SEGMENT_FILES}
    ids = [removed, *_ids(folder, REMOVED, None)]
    return salvage(files, SEGMENT_FILES, trust=True).without(np.unique(np.concatenate(ids)))


def _ids(collection: Path, name: str, sha256: str | None) -> Iterator[np.ndarray]:
    """Yield the ids in a table of tombstones, if it can be read."""
    with suppress(StoreError, OSError):
        yield read_table(collection, name, SCHEMAS["tombstones"], sha256)["id"].to_numpy()


def _collection_above(path: Path) -> tuple[np.ndarray, tuple[Fingerprint | None, str | None]]:
    """Return the removed ids of the collection that `path` is in, its model, and where that is."""
    for folder in (path.absolute(), *path.absolute().parents):
        with suppress(StoreError):
            manifest = read_manifest(folder)
            tables = (name for name in manifest.tables() if name.startswith("tombstones"))
            ids = (each for name in tables for each in _ids(folder, name, manifest.digests.get(name)))
            removed = np.concatenate([np.empty(0, np.int64), *ids])
            return removed, (manifest.fingerprint, manifest.source)
    return np.empty(0, np.int64), (None, None)


def _with_vectors(file: Path, batches: Callable[[Path], Iterator[pa.Table]]) -> Batches:
    """Yield the items and vectors of a file, skipping null vectors; column names are case-insensitive."""
    with _reading(file):
        for table in batches(file):
            names = {name.lower(): name for name in table.column_names}
            table = table.filter(pc.is_valid(table[names["vector"]]))
            if len(table):
                vectors = _matrix(file, table[names["vector"]].combine_chunks())
                yield _items(file, table.drop_columns(names["vector"])), vectors


def _items(file: Path, table: pa.Table) -> pa.Table:
    """Without the ids, which are of another collection, and checked."""
    return _checked(file, table.drop_columns([name for name in table.column_names if name.lower() == "id"]))


def _json_lines(file: Path) -> tuple[int, Parts, None, None]:
    """`_exported` for JSON lines, which do not record the model."""
    with _reading(file), file.open(encoding="utf-8") as lines:
        rows = sum(not line.isspace() for line in lines)
    return rows, [partial(_with_vectors, file, _json_batches)], None, None


def _json_batches(file: Path) -> Iterator[pa.Table]:
    with file.open(encoding="utf-8") as lines:
        filled = (line for line in lines if not line.isspace())
        while rows := [json.loads(line) for line in islice(filled, GROUP_ROWS)]:
            names = dict.fromkeys(name for row in rows for name in row if row[name] is not None)
            columns = {name: pa.array([row.get(name) for row in rows]) for name in names}
            vectors = pa.array([row.get("vector") for row in rows], pa.list_(pa.float32()))
            yield pa.table(columns | {"vector": vectors})


def _array_and_items(file: Path) -> tuple[int, Parts, Fingerprint | None, str | None]:
    """`_exported` for vectors whose items are in the Parquet file of that name, in the same order."""
    table, vectors = file.with_suffix(".parquet"), _array(file)
    if not table.is_file():
        raise UsageError(f"{file}: {table} is missing, which has the items of its rows; export writes both")
    rows, fingerprint, model = _header(table, "path", "modality")
    if vectors.shape[:1] != (rows,) or vectors.ndim != 2:
        raise UsageError(_UNJOINED.format(file, list(vectors.shape), table, rows))

    def part() -> Batches:
        start = 0
        with _reading(table):
            for items in _batches(table):
                yield _items(table, items), vectors[start : start + len(items)]
                start += len(items)

    return rows, [part], fingerprint, model


def _checked(file: Path, items: pa.Table) -> pa.Table:
    if items.num_columns > MAX_COLUMNS:
        raise UsageError(f"{file}: {items.num_columns:,} columns; at most {MAX_COLUMNS:,} can be imported")
    items = stored(items)
    key = conform(items, IDENTITY)
    unknown = set(key["modality"].unique().to_pylist()) - set(Modality)
    if unknown or key["path"].null_count:
        raise UsageError(
            f"{file}: each row needs a path and a modality of {', '.join(Modality)}; found {unknown or None}"
        )
    return items


def _matrix(file: Path, column: pa.Array) -> np.ndarray:
    """Convert a column of equal-length lists without nulls to [n, dim]."""
    kind = column.type
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if not lists or not pa.types.is_floating(kind.value_type):
        raise UsageError(f"{file}: column vector is {kind}; expected lists of floats")
    lengths = pc.unique(pc.list_value_length(column)).to_pylist()
    if len(lengths) > 1:
        raise UsageError(f"{file}: vectors of {lengths[0]} and of {lengths[1]} dimensions; expected one dim")
    return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)


def _clip_retrieval(folder: Path) -> tuple[int, Parts, None, None]:
    """`_exported` for clip-retrieval output, which does not record the model."""
    rows, parts = 0, Parts()
    for name, modality in (("img_emb", Modality.IMAGE), ("text_emb", Modality.TEXT)):
        for vectors in sorted(folder.glob(f"{name}/*.npy"), key=lambda path: (len(path.name), path.name)):
            table = folder / "metadata" / f"metadata_{vectors.stem.rpartition('_')[2]}.parquet"
            shape = _array(vectors).shape
            with _reading(table):
                described = _open(table).metadata.num_rows
            if len(shape) != 2 or shape[0] != described:
                raise UsageError(_UNJOINED.format(vectors, list(shape), table, described))
            rows += described
            parts.append(partial(_shard, vectors, table, modality))
    if not parts:
        raise UsageError(f"{folder}: contains neither img_emb/*.npy nor text_emb/*.npy; check the folder")
    return rows, parts, None, None


_UNJOINED = "{0} has shape {1} and {2} {3} rows; they are joined by row order, so expected [{3}, dim]"


def _array(file: Path) -> np.ndarray:
    with _reading(file):
        array = np.load(file, mmap_mode="r")
    if not np.issubdtype(array.dtype, np.floating):
        raise UsageError(f"{file}: array of {array.dtype}; expected float16 or float32")
    return array


def _shard(file: Path, table: Path, modality: Modality) -> Batches:
    vectors, start = _array(file), 0
    with _reading(table):
        for rows in _batches(table):
            items = _described(rows, modality, [f"{table.absolute()}:{start + i}" for i in range(len(rows))])
            yield _checked(table, items), vectors[start : start + len(rows)]
            start += len(rows)


def _described(rows: pa.Table, modality: Modality, places: list[str]) -> pa.Table:
    """Map columns: path from image_path, url, key or place; text from caption, of texts; others are kept."""
    names = {name.lower(): name for name in rows.column_names}
    paths = [rows[names[name]].cast(pa.string()) for name in ("image_path", "url", "key") if name in names]
    columns = {"path": pc.coalesce(*paths, pa.array(places)), "modality": [str(modality)] * len(rows)}
    if modality is Modality.TEXT and "caption" in names:
        columns["text"] = rows[names["caption"]]
    user = {user_column(name): rows[name] for name in rows.column_names if name.lower() != "image_path"}
    return pa.table(columns | user)
