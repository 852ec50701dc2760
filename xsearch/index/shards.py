"""An index in several files, each with a range of the items, that are written in parallel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import numpy as np

from xsearch.errors import UsageError
from xsearch.index.build import fill
from xsearch.index.files import joined, write
from xsearch.index.index import Index
from xsearch.index.library import load_faiss
from xsearch.index.listing import MOST_SHARDS, Listing
from xsearch.index.plan import Plan

if TYPE_CHECKING:
    from xsearch.index.maintain import Items

__all__ = ["Run", "Shards", "check_shards", "in_turn"]

Run = Callable[[Callable[[int], None], int], None]  # calls a function with each number below a count


def in_turn(function: Callable[[int], None], count: int) -> None:
    """The `Run` of this process."""
    for number in range(count):
        function(number)


def check_shards(count: int, items: int) -> None:
    """Raise UsageError if so many items cannot be in `count` shards."""
    most = min(MOST_SHARDS, items)
    if not 1 <= count <= most:
        raise UsageError(f"{count:,} shards: these items can be in 1 to {most:,}")


@dataclass(frozen=True, eq=False)
class Shards:
    """Writes the shards of an index. May be pickled: any process that can read the items may write one.

    trained: by `faiss.serialize_index`. scratch: where a file is written, before it is moved to `folder`.
    """

    folder: Path
    scratch: Path
    items: Callable[[], Items]
    plan: Plan
    trained: np.ndarray
    count: int

    @classmethod
    def of(
        cls, trained: Index, items: Callable[[], Items], folder: Path, scratch: Path, count: int
    ) -> Shards:
        """Prepare `count` shards; see `check_shards`."""
        faiss = load_faiss()
        return cls(folder, scratch, items, trained.plan, faiss.serialize_index(trained.faiss), count)

    def __call__(self, number: int) -> None:
        """Write a shard, again if it is there. Raises OSError, UsageError."""
        faiss = load_faiss()
        items = self.items()
        listing = self._listing(items)
        empty = Index(self.plan, np.empty(0, np.int64), faiss.deserialize_index(self.trained))
        shard = fill(empty, items.blocks(listing.parts[number]))
        part = self.scratch / f".{uuid4().hex}.{number:064x}.part"
        write(shard.faiss, part)
        part.replace(listing.files[number])

    def finish(self, *, merge: bool) -> None:
        """List the shards, all of which are written; merge: as one file. Raises OSError."""
        listing = self._listing(self.items())
        if merge:
            faiss = load_faiss()
            merged = joined(faiss.read_index(str(file)) for file in listing.files)
            Index(self.plan, listing.ids, merged).save(self.folder)
            for file in listing.files:
                file.unlink()
        else:
            listing.write()

    def _listing(self, items: Items) -> Listing:
        return Listing(self.folder, self.plan, items.ids, self.count)
