"""Export to and import from plain files, so that collections are portable.

An export has one row per item, by suffix:

    .parquet  its columns and `vector`, fixed_size_list<float16 or float32>[dim]. The key-value metadata
              records the model of the vectors as JSON under "xsearch". Without suffix: a folder of these
    .jsonl    the same as JSON lines, without the model
    .npy      the vectors, float32 [n, dim]; the columns of row i are row i of the Parquet file of that name
    .csv      the columns only

`read` accepts these (but CSV), any Parquet and JSON lines with path, modality and vector, and the output of
clip-retrieval:

    img_emb/img_emb_0.npy, text_emb/text_emb_0.npy   float16 or float32 [N, dim]; at least one of the two
    metadata/metadata_0.parquet                      N rows in that order: image_path, caption, url, key, ...
"""

from __future__ import annotations

import csv
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from xsearch.backend import full_name, load_backend, model_source
from xsearch.derive import derive
from xsearch.errors import ModelError, NoCollection, UsageError
from xsearch.media.facts import COLUMNS
from xsearch.metadata import user_column
from xsearch.store import Store
from xsearch.store.segments import conform, unify
from xsearch.store.writer import UNIT_TOLERANCE
from xsearch.system.durable import fsync, publish
from xsearch.types import Fingerprint, Modality

if TYPE_CHECKING:
    from xsearch.store import Snapshot, Writer

__all__ = ["Imported", "Source", "export", "import_", "load", "read"]

GROUP_ROWS = 16_384  # per row group and per batch in memory: 32 MB of float16 at 1024 dimensions
FILE_ROWS = 16 * GROUP_ROWS  # per file of a folder: 512 MB
COMMIT_ROWS = 4 * GROUP_ROWS  # per commit: upper bound on the work that an interrupted import repeats
SHORTEST = 1e-6  # vector length below which rounding errors dominate
KEY = "xsearch"  # in the file metadata
# Items are duplicates if file, modality, window and text agree.
FILE, ITEM = ("sha256", "bytes", "mtime_ns"), ("modality", "start_s", "end_s", "text")
DATES = {name for name, kind in COLUMNS.items() if kind is datetime}  # which JSON has as texts
IDENTITY = pa.schema([unify([]).field(name) for name in ("path", *FILE, *ITEM)])

Batches = Iterator[tuple[pa.Table, np.ndarray]]  # items without `id`, and their vectors [n, dim]
Parts = list[Callable[[], Batches]]  # one per file of vectors
Progress = Callable[[int, int], None]  # rows done, rows in total


# ---------------------------------------------------------------- export


def export(
    snapshot: Snapshot,
    path: Path,
    ids: np.ndarray | None = None,
    *,
    float32: bool = False,
    progress: Progress | None = None,
) -> int:
    """Write items to `path`, in the format of its suffix or to a folder of Parquet; return their number.

    ids: int64, ascending; None for all. float32: in Parquet, widen the stored float16 vectors.
    `path` is created atomically. Raises UsageError if it already exists, and for another suffix.
    """
    suffix = "" if path.is_dir() else path.suffix.lower()
    if suffix and suffix not in _WRITERS:
        raise UsageError(
            f"{path}: expected a name that ends in {', '.join(_WRITERS)}, or a folder, which has no suffix"
        )
    items = path.with_suffix(".parquet") if suffix == ".npy" else path
    for taken in {path, items}:
        if taken.is_file() or (taken.is_dir() and any(taken.iterdir())):
            raise UsageError(f"{taken} already exists; choose another name, or remove it")
    path.parent.mkdir(parents=True, exist_ok=True)
    ids = snapshot.ids if ids is None else ids
    schema, done = _schema(snapshot, np.float32 if float32 or suffix == ".jsonl" else np.float16), 0
    if suffix in (".npy", ".csv"):
        schema = schema.remove(len(schema) - 1)

    def tables(some: np.ndarray) -> Iterator[pa.Table]:
        nonlocal done
        for start in range(0, len(some), GROUP_ROWS):
            group = some[start : start + GROUP_ROWS]
            yield _table(snapshot, group, schema)
            done += len(group)
            if progress:
                progress(done, len(ids))

    with publish(items.absolute()) as part:
        if not suffix:
            part.mkdir()
            for first in range(0, max(len(ids), 1), FILE_ROWS):
                file = part / f"part-{first // FILE_ROWS:05}.parquet"
                _write_parquet(file, tables(ids[first : first + FILE_ROWS]), schema)
        elif suffix == ".npy":
            with publish(path.absolute()) as array:
                _write_array(array, snapshot, ids)
                _write_parquet(part, tables(ids), schema)
        else:
            _WRITERS[suffix](part, tables(ids), schema)
    return len(ids)


def _schema(snapshot: Snapshot, dtype: type[np.floating]) -> pa.Schema:
    """Return the item columns plus `vector`; a user column of that name becomes `vector_`."""
    kind = pa.list_(pa.field("element", pa.from_numpy_dtype(dtype), nullable=False), snapshot.fingerprint.dim)
    fields = [
        field.with_name("vector_") if field.name.lower() == "vector" else field for field in snapshot.schema
    ]
    header = {"model": asdict(snapshot.fingerprint), "source": snapshot.manifest.source}
    return pa.schema([*fields, pa.field("vector", kind, nullable=False)], {KEY: json.dumps(header)})


def _table(snapshot: Snapshot, ids: np.ndarray, schema: pa.Schema) -> pa.Table:
    columns = snapshot.items(ids).columns
    if len(columns) < len(schema):
        kind = schema.field("vector").type
        vectors = np.concatenate([block for _, block in snapshot.blocks(ids)])  # [n, dim]
        values = pa.array(vectors.astype(kind.value_type.to_pandas_dtype(), copy=False).reshape(-1))
        columns = [*columns, pa.FixedSizeListArray.from_arrays(values, type=kind)]
    return pa.table(columns, schema=schema)


def _write_parquet(file: Path, tables: Iterator[pa.Table], schema: pa.Schema) -> None:
    names = [name for name in schema.names if name != "vector"]
    zstd = dict.fromkeys(names, "zstd")  # vectors do not compress
    with pq.ParquetWriter(
        file, schema, compression=zstd, use_dictionary=names, write_page_checksum=True
    ) as writer:
        for table in tables:
            writer.write_table(table, row_group_size=GROUP_ROWS)
    fsync(file)


def _write_csv(file: Path, tables: Iterator[pa.Table], schema: pa.Schema) -> None:
    def cell(value: Any) -> Any:
        return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, list | dict) else value

    with file.open("w", encoding="utf-8", newline="") as out:
        lines = csv.writer(out, lineterminator="\n")
        lines.writerow(schema.names)
        for table in tables:
            lines.writerows(map(cell, row.values()) for row in table.to_pylist())


def _write_json_lines(file: Path, tables: Iterator[pa.Table], schema: pa.Schema) -> None:
    with file.open("w", encoding="utf-8") as out:
        for table in tables:
            for row in table.to_pylist():
                numbers = {name: value for name, value in row.items() if isinstance(value, float)}
                row |= {name: None for name, value in numbers.items() if not math.isfinite(value)}
                out.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")


def _write_array(file: Path, snapshot: Snapshot, ids: np.ndarray) -> None:
    shape = (len(ids), snapshot.fingerprint.dim)
    with file.open("wb") as out:
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(out, header)
        for _, block in snapshot.blocks(ids):
            out.write(block.astype("<f4").tobytes())


_WRITERS: dict[str, Callable[[Path, Iterator[pa.Table], pa.Schema], None]] = {
    ".parquet": _write_parquet,
    ".csv": _write_csv,
    ".jsonl": _write_json_lines,
    ".npy": _write_parquet,  # of its items
}


# ---------------------------------------------------------------- import


@dataclass(frozen=True, slots=True)
class Source:
    """External items with vectors; validated as far as possible without reading the data."""

    rows: int
    dim: int | None  # None without rows
    fingerprint: Fingerprint | None  # model of the vectors, if recorded
    model: str | None  # `--model` value of that model, if recorded
    parts: Parts


@dataclass(frozen=True, slots=True)
class Imported:
    """Result of an import or, for a dry run, its expected result."""

    new: Mapping[Modality, int]  # items added, by modality
    known: int  # rows that already are items
    other: int  # rows whose file exists with other content or time; skipped
    unusable: int  # rows whose vector is missing, not finite or of length 0
    scaled: int  # vectors that were normalised
    seconds: float


def read(path: Path) -> Source:
    """Open an export, any Parquet of that form, or clip-retrieval output. Raises UsageError for others."""
    if not path.exists():
        raise UsageError(f"{path}: no such file or folder; check the path")
    if path.suffix.lower() == ".csv":
        raise UsageError(f"{path}: CSV has no vectors; import a .parquet, .jsonl or .npy file")
    clip = (path / "img_emb").is_dir() or (path / "text_emb").is_dir()
    openers = {".jsonl": _json_lines, ".ndjson": _json_lines, ".npy": _array_and_items}
    opener = _clip_retrieval if clip else openers.get(path.suffix.lower(), _exported)
    rows, parts, fingerprint, model = opener(path)
    first = next((vectors for part in parts for _, vectors in part()), None)
    return Source(rows, None if first is None else first.shape[1], fingerprint, model, parts)


def import_(
    source: str | Path,
    path: str | Path,
    model: str | None = None,
    *,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Imported:
    """Add the new items of an export, or of other vectors, to the collection at `path`; create it if needed.

    source: as for `read`. model: the model of the vectors, if the source does not record it.
    progress: called with rows done and rows in total.
    An interrupted import can be rerun. Raises UsageError if `source` cannot be read, ModelError if its
    vectors come from another model than the collection's.
    """
    content, path = read(Path(source)), Path(path)
    try:
        store = Store.open(path)
    except NoCollection:
        store = None
    snapshot = store.snapshot() if store else None
    stored = None if snapshot is None else snapshot.fingerprint
    expected, location = content.fingerprint, content.model
    if model is not None:
        location = model_source(model)
        expected = load_backend(location, device="cpu").fingerprint
    if expected is None:
        raise UsageError(f"{source} does not record the model of its vectors; specify --model NAME")
    for where, actual in ((source, content.fingerprint), (path, stored)):
        if actual not in (None, expected):
            raise ModelError(
                f"{where} was embedded with {full_name(actual, expected)!r}, not with "
                f"{full_name(expected, actual)!r}; omit --model, or import into another collection"
            )
    if content.dim not in (None, expected.dim):
        raise ModelError(
            f"{source}: vectors of {content.dim} dimensions, those of {expected.name} have {expected.dim}; "
            "specify their model: --model NAME"
        )
    if dry_run:
        return load(content, snapshot, progress=progress)
    store = store or Store.create(path, expected, location)
    with store.writer() as writer:
        imported = load(content, writer.snapshot, writer, progress=progress)
        derive(writer)
    return imported


def load(
    source: Source,
    snapshot: Snapshot | None,
    writer: Writer | None = None,
    *,
    progress: Progress | None = None,
    commit_rows: int = COMMIT_ROWS,
) -> Imported:
    """Add the new items of `source`, committing about every `commit_rows` rows.

    snapshot: existing items, None for an empty collection. writer: None for a dry run.
    Items whose path, modality, window and text exist already are skipped, so an interrupted import can be
    rerun. Duplicate rows within one file of the source all become items. Rows of a file that exists with
    other content or time are skipped.
    """
    start_s = time.perf_counter()
    existing, new, states = _Existing(snapshot), Counter[Modality](), Counter[str]()
    done = pending = scaled = 0
    for part in source.parts:
        existing.begin_part()
        for items, vectors in part():
            done += len(items)
            vectors, usable, rescaled = _normalise(vectors)
            scaled += rescaled
            items, vectors = items.filter(pa.array(usable)), vectors[usable]
            batch = existing.states(items)
            states.update(batch)
            rows = [row for row, state in enumerate(batch) if state == "new"]
            items, vectors = items.take(pa.array(rows, pa.int64())), vectors[rows]
            new.update(map(Modality, items["modality"].to_pylist()))
            if writer:
                writer.add(items, vectors)
                pending += len(rows)
                if pending >= commit_rows:
                    writer.commit()
                    pending = 0
            if progress:
                progress(done, source.rows)
    if writer:
        writer.commit()
    unusable = source.rows - states.total()
    return Imported(new, states["known"], states["other"], unusable, scaled, time.perf_counter() - start_s)


class _Existing:
    """Digests of the files and items of a collection, including those added during the import."""

    def __init__(self, snapshot: Snapshot | None) -> None:
        self._files: dict[bytes, bytes] = {}  # by path
        self._items: Counter[bytes] = Counter()
        self._matched: Counter[bytes] = Counter()
        if snapshot is None:
            return
        for start in range(0, len(snapshot), GROUP_ROWS):
            items = snapshot.items(snapshot.ids[start : start + GROUP_ROWS], IDENTITY.names)
            for path, file, item in _digests(items):
                self._files[path] = file
                self._items[item] += 1

    def begin_part(self) -> None:
        """Start a file of the source; duplicate rows within it are not matched with each other."""
        self._matched.clear()

    def states(self, items: pa.Table) -> list[str]:
        """Return per row "new", "known", or "other" if its file exists with other content."""
        return [self._state(*digests) for digests in _digests(conform(items, IDENTITY))]

    def _state(self, path: bytes, file: bytes, item: bytes) -> str:
        if self._files.setdefault(path, file) != file:
            return "other"
        self._matched[item] += 1
        if self._matched[item] <= self._items[item]:
            return "known"
        self._items[item] += 1
        return "new"


def _digests(items: pa.Table) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yield digests of path, file state and item for each row of IDENTITY's columns."""
    for path, sha256, size, mtime_ns, *item in zip(*(c.to_pylist() for c in items.columns), strict=True):
        yield _digest(path), _digest(sha256, size, mtime_ns), _digest(path, *item)


def _digest(*values: Any) -> bytes:
    return blake2b(repr(values).encode(), digest_size=16).digest()


def _normalise(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Return vectors as float32 of length 1, which are usable (bool [n]), and the number of rescaled ones."""
    with np.errstate(over="ignore", invalid="ignore"):  # overflow becomes inf
        vectors = vectors.astype(np.float32)
        lengths = np.linalg.norm(vectors, axis=1)
        usable = np.isfinite(lengths) & (lengths > SHORTEST)
        rescaled = usable & (np.abs(lengths - 1) > UNIT_TOLERANCE)
    vectors[rescaled] /= lengths[rescaled, None]
    return vectors, usable, int(rescaled.sum())


# ---------------------------------------------------------------- files


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Convert read errors to a UsageError that names the file."""
    try:
        yield
    except (OSError, ValueError, TypeError, KeyError, pa.ArrowException) as error:
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
        made_by = (Fingerprint(**header["model"]), header["source"]) if header else (None, None)
    names = [name.lower() for name in parquet.schema_arrow.names]
    if not set(required) <= set(names):
        expected = f"{', '.join(required[:-1])} and {required[-1]}"
        raise UsageError(f"{file}: expected columns {expected}; found {', '.join(names)}")
    return parquet.metadata.num_rows, *made_by


def _batches(file: Path) -> Iterator[pa.Table]:
    for batch in _open(file).iter_batches(GROUP_ROWS):
        yield pa.Table.from_batches([batch])


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
            for name in DATES & columns.keys():
                with suppress(pa.ArrowInvalid):  # a column of the user may be called so
                    columns[name] = columns[name].cast(pa.timestamp("us"))
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
