"""Collections as plain Parquet, out and in again, so that nobody is locked in.

An export has one row per item: its columns and `vector`, fixed_size_list<float16 or float32>[dim]. The
key-value metadata of each file say, as JSON under "xsearch", which model made the vectors. `read` takes any
Parquet with the columns path, modality and vector, and what clip-retrieval writes:

    img_emb/img_emb_0.npy, text_emb/text_emb_0.npy   float16 or float32 [N, dim]; one of the two may lack
    metadata/metadata_0.parquet                      N rows in that order: image_path, caption, url, key, ...
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from xsearch.backend import full_name, load_backend, model_source
from xsearch.derive import derive
from xsearch.errors import ModelError, NoCollection, UsageError
from xsearch.metadata import user_column
from xsearch.store import Store
from xsearch.store.segments import conform, unify
from xsearch.store.writer import UNIT_TOLERANCE
from xsearch.system.durable import fsync, publish
from xsearch.types import Fingerprint, Modality

if TYPE_CHECKING:
    from xsearch.store import Snapshot, Writer

__all__ = ["Imported", "Source", "export", "import_", "load", "read"]

GROUP_ROWS = 16_384  # of a row group, and of what is in memory: 32 MB of float16 at 1024 dimensions
FILE_ROWS = 16 * GROUP_ROWS  # of each file in a folder: 512 MB
COMMIT_ROWS = 4 * GROUP_ROWS  # of a commit: the most that an interrupted import has to do again
SHORTEST = 1e-6  # length of a vector below which rounding has left no direction
KEY = "xsearch"  # of the metadata
# An item is there already if one of the same file, kind, window and text is.
FILE, ITEM = ("sha256", "bytes", "mtime_ns"), ("modality", "start_s", "end_s", "text")
IDENTITY = pa.schema([unify([]).field(name) for name in ("path", *FILE, *ITEM)])

Batches = Iterator[tuple[pa.Table, np.ndarray]]  # items without `id`, and their vectors [n, dim]
Parts = list[Callable[[], Batches]]  # one per file of vectors
Progress = Callable[[int, int], None]  # rows done, of how many


# ---------------------------------------------------------------- out


def export(
    snapshot: Snapshot,
    path: Path,
    ids: np.ndarray | None = None,
    *,
    float32: bool = False,
    progress: Progress | None = None,
) -> int:
    """Write items to `path`: one file if it is called *.parquet, else a folder of files of at most FILE_ROWS.

    ids: only these, int64 ascending. float32: the vectors as such, not in float16 as they are stored.
    Returns how many. `path` appears when it is complete. Raises UsageError if there is something already.
    """
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise UsageError(f"{path} is there already; choose another name, or remove it")
    path.parent.mkdir(parents=True, exist_ok=True)
    ids = snapshot.ids if ids is None else ids
    schema = _schema(snapshot, np.float32 if float32 else np.float16)
    names = schema.names[:-1]
    zstd = dict.fromkeys(names, "zstd")  # vectors are noise to it
    single = path.suffix == ".parquet"
    rows = max(len(ids), 1) if single else FILE_ROWS
    with publish(path.absolute()) as part:
        if not single:
            part.mkdir()
        for first in range(0, max(len(ids), 1), rows):
            file = part if single else part / f"part-{first // rows:05}.parquet"
            with pq.ParquetWriter(
                file, schema, compression=zstd, use_dictionary=names, write_page_checksum=True
            ) as writer:
                for start in range(first, min(first + rows, len(ids)), GROUP_ROWS):
                    few = ids[start : min(start + GROUP_ROWS, first + rows)]
                    writer.write_table(_table(snapshot, few, schema), row_group_size=GROUP_ROWS)
                    if progress:
                        progress(start + len(few), len(ids))
            fsync(file)
    return len(ids)


def _schema(snapshot: Snapshot, dtype: type[np.floating]) -> pa.Schema:
    """The columns of the items and `vector`; a column that the user calls so becomes `vector_`."""
    kind = pa.list_(pa.field("element", pa.from_numpy_dtype(dtype), nullable=False), snapshot.fingerprint.dim)
    fields = [
        field.with_name("vector_") if field.name.lower() == "vector" else field for field in snapshot.schema
    ]
    about = {"model": asdict(snapshot.fingerprint), "source": snapshot.manifest.source}
    return pa.schema([*fields, pa.field("vector", kind, nullable=False)], {KEY: json.dumps(about)})


def _table(snapshot: Snapshot, ids: np.ndarray, schema: pa.Schema) -> pa.Table:
    kind = schema.field("vector").type
    vectors = np.concatenate([block for _, block in snapshot.blocks(ids)])  # [n, dim]
    values = pa.array(vectors.astype(kind.value_type.to_pandas_dtype(), copy=False).reshape(-1))
    column = pa.FixedSizeListArray.from_arrays(values, type=kind)
    return pa.table([*snapshot.items(ids).columns, column], schema=schema)


# ---------------------------------------------------------------- in


@dataclass(frozen=True, slots=True)
class Source:
    """Items with vectors that lie somewhere else, checked as far as that is possible without reading them."""

    rows: int
    dim: int | None  # None where there are no rows
    fingerprint: Fingerprint | None  # the model that made the vectors, if the source says so
    model: str | None  # where that model was: a `--model` value
    parts: Parts


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did; a dry run: what it would do."""

    new: Mapping[Modality, int]  # items added, by kind
    known: int  # rows that are items already
    other: int  # rows of files that are there with another content or time; left as they are
    unusable: int  # rows without a vector, or with one that is not finite or of length 0
    scaled: int  # vectors that were not of length 1
    seconds: float


def read(path: Path) -> Source:
    """Look at a Parquet file, a folder of them, or one of clip-retrieval's. Raises UsageError for others."""
    if not path.exists():
        raise UsageError(f"{path}: no such file or folder; check the path")
    clip = (path / "img_emb").is_dir() or (path / "text_emb").is_dir()
    rows, parts, fingerprint, model = _clip_retrieval(path) if clip else _exported(path)
    some = next((vectors for part in parts for _, vectors in part()), None)
    return Source(rows, None if some is None else some.shape[1], fingerprint, model, parts)


def import_(
    source: str | Path,
    path: str | Path,
    model: str | None = None,
    *,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Imported:
    """Add what is new of an export, or of other vectors, to the collection at `path`; create it if need be.

    source: what `read` takes. model: what made the vectors, if they do not say so.
    progress: called with the rows done, and with how many there are.
    May be interrupted and run again. Raises UsageError for what cannot be read, ModelError where the
    vectors are not of the collection's model.
    """
    content, path = read(Path(source)), Path(path)
    try:
        store = Store.open(path)
    except NoCollection:
        store = None
    before = store.snapshot() if store else None
    made_by, home = content.fingerprint, content.model
    if model is not None:
        home = model_source(model)
        made_by = load_backend(home, device="cpu").fingerprint
    if made_by is None:
        raise UsageError(f"{source} does not say which model made its vectors; name it: --model NAME")
    for where, theirs in (
        (source, content.fingerprint),
        (path, None if before is None else before.fingerprint),
    ):
        if theirs not in (None, made_by):
            raise ModelError(
                f"{where} was embedded with {full_name(theirs, made_by)!r}, not with "
                f"{full_name(made_by, theirs)!r}; leave --model out, or import into another collection"
            )
    if content.dim not in (None, made_by.dim):
        raise ModelError(
            f"{source}: vectors of {content.dim} dimensions, those of {made_by.name} have {made_by.dim}; "
            "say which model made them: --model NAME"
        )
    if dry_run:
        return load(content, before, progress=progress)
    store = store or Store.create(path, made_by, home)
    with store.writer() as writer:
        done = load(content, writer.snapshot, writer, progress=progress)
        derive(writer)
    return done


def load(
    source: Source,
    snapshot: Snapshot | None,
    writer: Writer | None = None,
    *,
    progress: Progress | None = None,
    commit_rows: int = COMMIT_ROWS,
) -> Imported:
    """Add what is new of `source`, in commits of about `commit_rows` rows.

    snapshot: what is there, None for nothing. writer: None to only look.
    Nothing is added twice: an item is there already if one of the same path, kind, window and text is, so
    an import that ended early is simply run again. Rows that are equal within one file of the source all
    become items. A file that is there with another content or time is left as it is.
    """
    start_s = time.perf_counter()
    there, new, states = _There(snapshot), Counter[Modality](), Counter[str]()
    done = pending = scaled = 0
    for part in source.parts:
        there.begin()
        for items, vectors in part():
            done += len(items)
            vectors, usable, off = _unit(vectors)
            scaled += off
            items, vectors = items.filter(pa.array(usable)), vectors[usable]
            found = there.states(items)
            states.update(found)
            rows = [row for row, state in enumerate(found) if state == "new"]
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


class _There:
    """Digests of the files and items that a collection has, and of those that have come since."""

    def __init__(self, snapshot: Snapshot | None) -> None:
        self._files: dict[bytes, bytes] = {}  # by path
        self._items: Counter[bytes] = Counter()
        self._seen: Counter[bytes] = Counter()
        if snapshot is None:
            return
        for start in range(0, len(snapshot), GROUP_ROWS):
            few = snapshot.items(snapshot.ids[start : start + GROUP_ROWS], IDENTITY.names)
            for path, file, item in _digests(few):
                self._files[path] = file
                self._items[item] += 1

    def begin(self) -> None:
        """A new file begins: what it has is compared with what is there, not with what it had itself."""
        self._seen.clear()

    def states(self, items: pa.Table) -> list[str]:
        """Per row: is it "new", "known", or of an "other" file than the one that is there?"""
        return [self._state(*digests) for digests in _digests(conform(items, IDENTITY))]

    def _state(self, path: bytes, file: bytes, item: bytes) -> str:
        if self._files.setdefault(path, file) != file:
            return "other"
        self._seen[item] += 1
        if self._seen[item] <= self._items[item]:
            return "known"
        self._items[item] += 1
        return "new"


def _digests(items: pa.Table) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Per row of IDENTITY's columns: digests of the path, of the file as it was, and of the item in it."""
    for path, sha256, size, mtime_ns, *item in zip(*(c.to_pylist() for c in items.columns), strict=True):
        yield _digest(path), _digest(sha256, size, mtime_ns), _digest(path, *item)


def _digest(*values: Any) -> bytes:
    return blake2b(repr(values).encode(), digest_size=16).digest()


def _unit(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Vectors as float32 of length 1, which of them are usable (bool [n]), and how many had to be scaled."""
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is not finite
        vectors = vectors.astype(np.float32)
        lengths = np.linalg.norm(vectors, axis=1)
        usable = np.isfinite(lengths) & (lengths > SHORTEST)
        off = usable & (np.abs(lengths - 1) > UNIT_TOLERANCE)
    vectors[off] /= lengths[off, None]
    return vectors, usable, int(off.sum())


# ---------------------------------------------------------------- files


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Say which file it is that cannot be read."""
    try:
        yield
    except (OSError, ValueError, TypeError, KeyError, pa.ArrowException) as error:
        raise UsageError(f"{file}: cannot be read: {error}; replace or remove it") from None


def _open(file: Path) -> pq.ParquetFile:
    return pq.ParquetFile(file, buffer_size=1 << 20, page_checksum_verification=True)


def _exported(path: Path) -> tuple[int, Parts, Fingerprint | None, str | None]:
    """Rows, parts, model and where that was: of one Parquet file or all those in a folder."""
    files = [path] if path.is_file() else sorted(path.glob("*.parquet"))
    if not files:
        raise UsageError(
            f"{path}: neither *.parquet nor img_emb/*.npy in it; give a Parquet file or a folder of them, "
            "such as `xsearch export` makes of a collection"
        )
    rows, models = 0, dict[Fingerprint | None, str | None]()
    for file in files:
        with _reading(file):
            parquet = _open(file)
            said = json.loads((parquet.metadata.metadata or {}).get(KEY.encode(), "null"))
            models |= {Fingerprint(**said["model"]): said["source"]} if said else {None: None}
        names = [name.lower() for name in parquet.schema_arrow.names]
        if not {"path", "modality", "vector"} <= set(names):
            raise UsageError(f"{file}: expected columns path, modality and vector; found {', '.join(names)}")
        rows += parquet.metadata.num_rows
    if len(models) > 1:
        raise UsageError(f"{path}: its files are not all of one model; import them one by one")
    return rows, [partial(_parquet, file) for file in files], *models.popitem()


def _batches(file: Path) -> Iterator[pa.Table]:
    for batch in _open(file).iter_batches(GROUP_ROWS):
        yield pa.Table.from_batches([batch])


def _parquet(file: Path) -> Batches:
    """Rows with path, modality and vector, in whatever case; those without a vector are left out."""
    with _reading(file):
        for table in _batches(file):
            names = {name.lower(): name for name in table.column_names}
            table = table.filter(pc.is_valid(table[names["vector"]]))
            if len(table):
                items = table.drop_columns([names[name] for name in ("id", "vector") if name in names])
                yield _checked(file, items), _matrix(file, table[names["vector"]].combine_chunks())


def _checked(file: Path, items: pa.Table) -> pa.Table:
    key = conform(items, IDENTITY)
    unknown = set(key["modality"].unique().to_pylist()) - set(Modality)
    if unknown or key["path"].null_count:
        raise UsageError(
            f"{file}: each row needs a path and a modality of {', '.join(Modality)}; found {unknown or None}"
        )
    return items


def _matrix(file: Path, column: pa.Array) -> np.ndarray:
    """A column of lists of equal length, without nulls -> [n, dim]."""
    kind = column.type
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if not lists or not pa.types.is_floating(kind.value_type):
        raise UsageError(f"{file}: column vector is {kind}; expected lists of floats")
    lengths = pc.unique(pc.list_value_length(column)).to_pylist()
    if len(lengths) > 1:
        raise UsageError(f"{file}: vectors of {lengths[0]} and of {lengths[1]} dimensions; expected one dim")
    return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)


def _clip_retrieval(folder: Path) -> tuple[int, Parts, None, None]:
    """The same of a folder of clip-retrieval's, which says nothing about the model."""
    rows, parts = 0, Parts()
    for name, modality in (("img_emb", Modality.IMAGE), ("text_emb", Modality.TEXT)):
        for vectors in sorted(folder.glob(f"{name}/*.npy"), key=lambda path: (len(path.name), path.name)):
            table = folder / "metadata" / f"metadata_{vectors.stem.rpartition('_')[2]}.parquet"
            shape = _array(vectors).shape
            with _reading(table):
                described = _open(table).metadata.num_rows
            if len(shape) != 2 or shape[0] != described:
                raise UsageError(
                    f"{vectors} has the shape {list(shape)} and {table} {described} rows; they are joined by "
                    f"their order, so expected [{described}, dim]"
                )
            rows += described
            parts.append(partial(_shard, vectors, table, modality))
    if not parts:
        raise UsageError(f"{folder}: no img_emb/*.npy and no text_emb/*.npy in it; check the folder")
    return rows, parts, None, None


def _array(file: Path) -> np.ndarray:
    with _reading(file):
        array = np.load(file, mmap_mode="r")
    if not np.issubdtype(array.dtype, np.floating):
        raise UsageError(f"{file}: an array of {array.dtype}; expected float16 or float32")
    return array


def _shard(file: Path, table: Path, modality: Modality) -> Batches:
    vectors, start = _array(file), 0
    with _reading(table):
        for rows in _batches(table):
            items = _described(rows, modality, [f"{table.absolute()}:{start + i}" for i in range(len(rows))])
            yield _checked(table, items), vectors[start : start + len(rows)]
            start += len(rows)


def _described(rows: pa.Table, modality: Modality, places: list[str]) -> pa.Table:
    """Path = image_path, else url, key, place; text = caption, of a text; all else is the user's columns."""
    names = {name.lower(): name for name in rows.column_names}
    paths = [rows[names[name]].cast(pa.string()) for name in ("image_path", "url", "key") if name in names]
    own = {"path": pc.coalesce(*paths, pa.array(places)), "modality": [str(modality)] * len(rows)}
    if modality is Modality.TEXT and "caption" in names:
        own["text"] = rows[names["caption"]]
    users = {user_column(name): rows[name] for name in rows.column_names if name.lower() != "image_path"}
    return pa.table(own | users)
