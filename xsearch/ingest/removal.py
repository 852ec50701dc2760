"""Which items a removal is about, and which files it leaves without items."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xsearch import media
from xsearch.ingest.roots import Roots

if TYPE_CHECKING:
    from xsearch.store import Snapshot

__all__ = ["Removal"]


@dataclass(frozen=True, slots=True)
class Removal:
    """Items by id, by the names of their files, and by a filter; see `Collection.remove`."""

    ids: Sequence[int] | None
    paths: Sequence[str | Path] | None
    where: str | None

    @classmethod
    def of(cls, ids: Iterable[int] | None, paths: Iterable[str | Path] | None, where: str | None) -> Removal:
        return cls(None if ids is None else [*ids], None if paths is None else [*paths], where)

    def chosen(self, snapshot: Snapshot) -> np.ndarray:
        """Return the ids of the items, int64, ascending."""
        if self.ids is None and self.paths is None:
            return snapshot.ids[:0] if self.where is None else snapshot.select(self.where)
        named = snapshot.ids[np.isin(snapshot.ids, np.array(self.ids or (), np.int64))]
        named = np.unique(np.concatenate([named, *self._of_paths(snapshot)]))
        return named if self.where is None else np.intersect1d(named, snapshot.select(self.where))

    def emptied(self, snapshot: Snapshot) -> list[str]:
        """Return the files that are left without items, sorted, also those of `paths` that have none."""
        names = snapshot.items(snapshot.ids, ["path"])["path"].to_numpy()
        removed = np.isin(snapshot.ids, self.chosen(snapshot))
        paths = self.paths or () if self.where is None else ()
        absent = Roots(path for path in paths if media.is_url(path) or Path(path).is_file()).names
        return sorted({*absent, *names[removed]} - {*names[~removed]})

    def _of_paths(self, snapshot: Snapshot) -> Iterator[np.ndarray]:
        if not self.paths:
            return
        files = snapshot.files().select(["path", "ids"]).to_pylist()
        parts = [_parts(file["path"]) for file in files]
        for path in self.paths:
            glob = _parts(path)
            matches = [each[: len(glob)] == glob for each in parts]
            if not any(matches):  # a part of a recording, which is named after another file
                owners = {_parts(owner) for owner in media.owners(media.absolute(path))}
                matches = [each in owners for each in parts]
            if not any(matches):
                matches = [media.fits(each, glob) for each in parts]
            yield from (
                np.array(file["ids"], np.int64) for file, yes in zip(files, matches, strict=True) if yes
            )


def _parts(name: str | Path) -> tuple[str, ...]:
    """Return the folders and the file of a path, absolute, or of a URL."""
    return tuple(str(name).rstrip("/").split("/")) if media.is_url(name) else media.absolute(name).parts
