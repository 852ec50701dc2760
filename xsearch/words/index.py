"""A full-text index: one SQLite file with a contentless FTS5 table, immutable once written.

FTS5's bm25() has k1 = 1.2 and b = 0.75. Removed items stay in the file and readers drop them, as they do for
the FAISS index: to delete an item from a contentless table, SQLite 3.40 needs its words.
"""

from __future__ import annotations

import hashlib
import sqlite3
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from xsearch.errors import StoreError
from xsearch.system.durable import open_file
from xsearch.system.lookup import is_in
from xsearch.words.documents import columns, documents
from xsearch.words.tokens import TOKENIZER, units

if TYPE_CHECKING:
    from io import BufferedReader

    from xsearch.store import Snapshot

__all__ = ["NOTHING", "Matches", "Passing", "WordIndex"]

STALE = 0.25  # tolerated fraction of items that are indexed, but removed
BLOCK = 4096  # items whose words are read at once
TEMPORARY = ""  # SQLite's name of a database in memory that spills to a temporary file
SETTINGS = (
    "journal_mode = OFF",  # a file is written once, and published or lost
    "synchronous = OFF",
    "cache_size = -65536",  # KiB
    "mmap_size = 0",  # a file that shrinks is an error, not a SIGBUS; as fast (measured)
    "trusted_schema = OFF",
    "cell_size_check = ON",
)
SCHEMA = f"""
    CREATE VIRTUAL TABLE words USING fts5(text, content='', tokenize="{TOKENIZER}");
    CREATE TABLE about(next_id INTEGER, items INTEGER);
    INSERT INTO about VALUES (0, 0);
"""

TABLES = {"about", "words", "words_config", "words_data", "words_docsize", "words_idx"}
VIRTUAL = "CREATE VIRTUAL TABLE words USING fts5(text, content='', "

Passing = Callable[[np.ndarray], np.ndarray]  # which of these ids, int64 [n], may answer: bool [n]


@dataclass(frozen=True, slots=True)
class Matches:
    """Items that match words of a query, best first: parallel arrays of length n."""

    ids: np.ndarray  # int64
    bm25: np.ndarray  # float32, above 0
    shares: np.ndarray  # float32: share of the query's words that match, by inverse document frequency

    def __getitem__(self, rows: np.ndarray | slice) -> Matches:
        return Matches(self.ids[rows], self.bm25[rows], self.shares[rows])

    def __len__(self) -> int:
        return len(self.ids)


NOTHING = Matches(np.empty(0, np.int64), np.empty(0, np.float32), np.empty(0, np.float32))


class WordIndex:
    """The words of the items up to a certain id. Shared by threads, which take turns."""

    def __init__(self, name: str, file: BufferedReader | None = None, sha256: str = "") -> None:
        """name: a URI, or TEMPORARY. file, sha256: of a read-only index, the open file and its digest."""
        self._file = file
        self._sha256 = sha256
        self._lock = Lock()
        self._next_id = self._items = 0
        if file is not None:
            weakref.finalize(self, file.close)
        self._connection = sqlite3.connect(name, uri=True, check_same_thread=False, isolation_level=None)
        weakref.finalize(self, self._connection.close)
        for setting in SETTINGS:
            self._connection.execute(f"PRAGMA {setting}")

    @staticmethod
    def empty() -> WordIndex:
        """Return a temporary index of no items. Raises StoreError if this Python's SQLite lacks FTS5."""
        index = WordIndex(TEMPORARY)
        try:
            index._connection.executescript(SCHEMA)
        except sqlite3.OperationalError as error:
            raise StoreError(f"cannot index words: {error}; use a Python whose SQLite has FTS5") from error
        return index

    @staticmethod
    def open(path: Path, sha256: str) -> WordIndex:
        """Open a file, which pins it, and leave its digest to `verify`. Raises StoreError if that fails.

        A digest does not make a file trustworthy: its schema must be SCHEMA, without views or triggers.
        """
        try:
            index = WordIndex(f"{path.absolute().as_uri()}?mode=ro&immutable=1", open_file(path), sha256)
            execute = index._connection.execute
            schema = {
                name: (kind, sql) for kind, name, sql in execute("SELECT type, name, sql FROM sqlite_schema")
            }
            if schema.keys() != TABLES or {kind for kind, _ in schema.values()} != {"table"}:
                raise sqlite3.DatabaseError("it has other tables")
            if not str(schema["words"][1]).startswith(VIRTUAL):
                raise sqlite3.DatabaseError("its words are no full-text index")
            ((index._next_id, index._items),) = execute("SELECT next_id, items FROM about").fetchmany(2)
            if not all(isinstance(n, int) and 0 <= n < 1 << 62 for n in (index._next_id, index._items)):
                raise sqlite3.DatabaseError("its numbers of items are wrong")
        except (OSError, ValueError, sqlite3.Error) as error:
            raise StoreError(f"cannot read the words in {path}: {error}; they are indexed again") from error
        return index

    def verify(self) -> WordIndex:
        """Return the same index. Raises StoreError if its file does not have its digest."""
        if self._file is not None:
            self._file.seek(0)
            if hashlib.file_digest(self._file, "sha256").hexdigest() != self._sha256:
                raise StoreError(
                    f"the words in {self._file.name} have a wrong sha256; they are indexed again"
                )
        return self

    @staticmethod
    def write(path: Path, snapshot: Snapshot, previous: WordIndex | None = None) -> None:
        """Write an index of the items of `snapshot`, `previous` extended if there is one, to a new file.

        Raises StoreError if that fails, and leaves no file. The file is not fsynced.
        """
        source = previous or WordIndex.empty()
        try:
            source._copy(path.absolute().as_uri())._extend(snapshot)
        except BaseException as error:  # Ctrl-C too
            path.unlink(missing_ok=True)
            if isinstance(error, sqlite3.Error):
                raise StoreError(f"cannot write the words to {path}: {error}") from error
            raise

    def missing(self, snapshot: Snapshot) -> int:
        """How many items of `snapshot` it does not cover."""
        return len(snapshot) - int(np.searchsorted(snapshot.ids, self._next_id))

    def is_stale(self, snapshot: Snapshot) -> bool:
        """Whether more than STALE of its items are no longer in `snapshot`."""
        return self._items - (len(snapshot) - self.missing(snapshot)) > STALE * self._items

    def covering(self, snapshot: Snapshot) -> WordIndex:
        """This index if it has all items of `snapshot`, else a temporary one that also has the others."""
        with self._lock:
            if not self.missing(snapshot):
                return self
            index = self if self._file is None else self._copy(TEMPORARY)
            index._extend(snapshot)
            return index

    def search(self, query: str, passing: Passing, least: int | None = None) -> Matches:
        """Return the items that match content words of `query`: those that match all, then others, by BM25.

        least: if so many match all words, return only those.
        """
        expressions = units(query)
        if not expressions:
            return NOTHING
        with self._lock, self._reading():
            ids, scores = self._scored(" AND ".join(expressions), passing)
            if len(expressions) == 1 or (least is not None and len(ids) >= least):
                return Matches(ids, scores, np.ones(len(ids), np.float32))
            ids, scores = self._scored(" OR ".join(expressions), passing)
            postings = [self._ids(expression) for expression in expressions]
        counts = np.array([len(posting) for posting in postings])
        weights = np.log1p((self._items - counts + 0.5) / (counts + 0.5))  # as in Lucene: never negative
        matched = np.stack([is_in(ids, posting) for posting in postings])  # [words, n]
        complete = matched.all(axis=0)
        shares = np.where(complete, 1, (weights / weights.sum()) @ matched).astype(np.float32)
        return Matches(ids, scores, shares)[np.argsort(~complete, kind="stable")]

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, TypeError, ValueError) as error:
            name = "the words" if self._file is None else f"the words in {self._file.name}"
            raise StoreError(f"cannot read {name}: {error}; run `xsearch verify --repair`") from error

    def _scored(self, expression: str, passing: Passing) -> tuple[np.ndarray, np.ndarray]:
        """Return matching ids, int64, and their BM25, float32: best first, ties by id."""
        rows = self._connection.execute(
            "SELECT rowid, -bm25(words) FROM words WHERE words MATCH ?", (expression,)
        ).fetchall()
        table = np.array(rows, np.float64).reshape(-1, 2)  # ids are exact up to 2**53
        ids, scores = table[:, 0].astype(np.int64), table[:, 1].astype(np.float32)
        passed = np.flatnonzero(passing(ids))
        order = passed[np.argsort(-scores[passed], kind="stable")]
        return ids[order], scores[order]

    def _ids(self, expression: str) -> np.ndarray:
        """Return matching ids, int64, ascending."""
        rows = self._connection.execute("SELECT rowid FROM words WHERE words MATCH ?", (expression,))
        return np.array(rows.fetchall(), np.int64).reshape(-1)

    def _copy(self, name: str) -> WordIndex:
        copy = WordIndex(name)
        self._connection.backup(copy._connection)
        copy._next_id, copy._items = self._next_id, self._items
        return copy

    def _extend(self, snapshot: Snapshot) -> None:
        """Add the items of `snapshot` that it does not cover."""
        names = columns(snapshot.schema)
        new = snapshot.ids[len(snapshot) - self.missing(snapshot) :]
        for start in range(0, len(new), BLOCK):
            ids = new[start : start + BLOCK]
            self.add(ids, documents(snapshot.items(ids, names)))

    def add(self, ids: np.ndarray, texts: Sequence[str]) -> None:
        """Add items, `normalised`. ids: int64 [n], ascending, above those that it has."""
        execute = self._connection.execute
        execute("BEGIN")
        rows = zip(ids.tolist(), texts, strict=True)
        self._connection.executemany("INSERT INTO words(rowid, text) VALUES (?, ?)", rows)
        self._next_id, self._items = int(ids[-1]) + 1, self._items + len(ids)
        execute("UPDATE about SET next_id = ?, items = ?", (self._next_id, self._items))
        execute("COMMIT")
