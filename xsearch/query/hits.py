"""Answers: the hits of a query, as columns, as tables, and as objects."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import cached_property, partial
from itertools import count
from typing import TYPE_CHECKING, Any, overload

from xsearch.errors import UnknownWords, UsageError
from xsearch.system.terminal import printable
from xsearch.types import HIT_COLUMNS, Box, Hit, Modality, Sort

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    from xsearch.query.embedding import Embedded
    from xsearch.query.wire import Understood

__all__ = ["Hits"]

KINDS = {str(kind): kind for kind in Modality}


class Hits(Sequence[Hit]):
    """The answer to a query, best first; immutable. Hits become objects when they are asked for.

    nearest_expected: how many items as near as the nearest there would be by chance, over all modalities that
        may answer: their number times the least `expected`, also of items that a bound has left out, with
        fewer than ten items counted as ten. None if there is no item to answer.
    problem: why a text among many queries was not searched for; `search` raises it.
    missing_shards: those of an index on other machines that have not answered: hits may be missing.
    """

    def __init__(
        self,
        hits: Iterable[Hit] = (),
        query: Embedded | Understood | None = None,
        nearest_expected: float | None = None,
        kinds: int = 1,
        problem: UnknownWords | None = None,
        missing_shards: Sequence[int] = (),
    ) -> None:
        """query: its vectors. kinds: how many modalities may answer."""
        self.query = query
        self.problem = problem
        self.nearest_expected = nearest_expected
        self.kinds = kinds
        self.missing_shards = tuple(missing_shards)
        objects = tuple(hits)
        self._length = len(objects)
        self._read: Callable[[], Iterable[Hit]] = lambda: objects

    @cached_property
    def ids(self) -> np.ndarray:
        """The ids of the items, int64 [n], for which no hits are made."""
        import numpy as np

        return np.array([hit.id for hit in self._hits], np.int64)

    @cached_property
    def scores(self) -> np.ndarray:
        """The scores of the hits, float [n], likewise."""
        import numpy as np

        return np.array([hit.score for hit in self._hits], np.float64)

    @classmethod
    def of(
        cls,
        ids: np.ndarray,
        figures: Sequence[np.ndarray],
        items: Callable[[], Iterable[dict[str, Any]]],
        query: Embedded | None = None,
        nearest_expected: float | None = None,
        kinds: int = 1,
        missing_shards: Sequence[int] = (),
    ) -> Hits:
        """Hits of these items, int64 [n], that become objects on first access.

        figures: score, cosine, balanced, expected and bm25, float [n] each, NaN for none.
        items: what is not null of each hit's item, in dictionaries that become those of the hits.
        """
        from xsearch.media import is_url  # and with it numpy

        answer = cls((), query, nearest_expected, kinds, None, missing_shards)
        answer._length, answer.ids, (answer.scores, *others) = len(ids), ids, figures
        answer._read = lambda: map(
            partial(_hit, is_url), count(1), items(), answer.scores.tolist(), *map(_known, others)
        )
        return answer

    @cached_property
    def _hits(self) -> tuple[Hit, ...]:
        return tuple(self._read())

    @property
    def _about(self) -> tuple[Any, ...]:
        return self.query, self.nearest_expected, self.kinds, self.problem, self.missing_shards

    def _like(self, hits: Iterable[Hit]) -> Hits:
        """Return the answer with these hits."""
        return Hits(hits, *self._about)

    def by_date(self, sort: Sort | str) -> Hits:
        """Return the same hits in the order of their `taken_at`, those without one last; ranks stay."""
        dated = [hit for hit in self._hits if hit.extra.get("taken_at") is not None]
        dated.sort(key=lambda hit: hit.extra["taken_at"], reverse=sort == Sort.DATE)
        undated = [hit for hit in self._hits if hit.extra.get("taken_at") is None]
        return self._like([*dated, *undated])

    def located(self, boxes: Sequence[tuple[Box, ...] | None]) -> Hits:
        """Return the same hits with what was located in each."""
        hits = [replace(hit, boxes=of_hit) for hit, of_hit in zip(self._hits, boxes, strict=True)]
        return self._like(hits)

    def trusted(self) -> Hits:
        """Return the same hits; previews and pages also open the files and URLs that only an import names."""
        state = ("bytes", "mtime_ns")  # as the import claims
        hits = [
            replace(hit, is_imported=False, extra={k: v for k, v in hit.extra.items() if k not in state})
            for hit in self._hits
        ]
        return self._like(hits)

    @property
    def found(self) -> bool:
        """Whether some hit is nearer than by chance, over all modalities, or matches by its words."""
        if any(hit.bm25 is not None for hit in self._hits):
            return True
        return len(self) > 0 and (self.nearest_expected is None or self.nearest_expected <= 1)

    @property
    def remark(self) -> str:
        """The sentence for people if nothing is like the query, or not all was searched; else empty."""
        if self.problem is not None:
            return str(self.problem)
        if self.missing_shards:
            shards = ", ".join(map(str, self.missing_shards))
            return f"shards {shards} of the index did not answer: some hits may be missing"
        if self.found or self.nearest_expected is None or self.nearest_expected <= 1:
            return ""
        times = (
            f"{self.nearest_expected:,.0f}" if self.nearest_expected >= 10 else f"{self.nearest_expected:.3g}"
        )
        over = f", over {self.kinds} kinds" if self.kinds > 1 else ""
        return f"nothing like it here: the nearest would be found {times} times by chance{over}"

    def __reduce__(self) -> tuple[type[Hits], tuple[Any, ...]]:
        return Hits, (self._hits, *self._about)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Hit]:
        return iter(self._hits)

    @overload
    def __getitem__(self, at: int) -> Hit: ...
    @overload
    def __getitem__(self, at: slice) -> Hits: ...
    def __getitem__(self, at: int | slice) -> Hit | Hits:
        if isinstance(at, slice):
            return self._like(self._hits[at])
        return self._hits[at]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hits) and self._hits == other._hits

    __hash__ = None  # type: ignore[assignment]  # hits hold dictionaries

    def __repr__(self) -> str:
        lines = [
            f"{hit.rank:>3}  {hit.score:.3f}  {hit.modality:<7}  {printable(hit.path)}" for hit in self._hits
        ]
        return "\n".join(lines) or "no hits"

    def to_dicts(self) -> list[dict[str, Any]]:
        """One flat dictionary per hit: its own fields, then its other columns."""
        rows = []
        for hit in self._hits:
            own = asdict(hit)
            extra, _ = own.pop("extra"), own.pop("is_imported")
            if hit.boxes is None:
                del own["boxes"]
            rows.append(own | {name: value for name, value in extra.items() if name not in own})
        return rows

    def to_arrow(self) -> pa.Table:
        """The same as an Arrow table; what a hit lacks is null."""
        import pyarrow as pa

        rows = self.to_dicts()
        names = dict.fromkeys([*HIT_COLUMNS, *(name for row in rows for name in row)])
        figures = ("score", "cosine", "balanced", "expected", "bm25")
        types = dict.fromkeys((*figures, "start_s", "end_s"), pa.float64())
        types |= {"rank": pa.int64(), "id": pa.int64()}
        types |= {"path": pa.string(), "modality": pa.string(), "text": pa.string()}
        return pa.table({name: pa.array([row.get(name) for row in rows], types.get(name)) for name in names})

    def to_pandas(self) -> pd.DataFrame:
        """The same as a pandas data frame."""
        try:
            import pandas  # noqa: F401  pyarrow's own message does not say what to do
        except ImportError:
            raise UsageError("to_pandas needs pandas, which is not installed: pip install pandas") from None
        return self.to_arrow().to_pandas()

    def _repr_html_(self) -> str:
        from xsearch import gallery

        return gallery.table(self._hits)


def _hit(
    is_url: Callable[[str], bool],
    rank: int,
    item: dict[str, Any],
    score: float,
    cosine: float | None,
    balanced: float | None,
    expected: float | None,
    bm25: float | None,
) -> Hit:
    """item: of its columns, the user's may be called as the figures of a hit are."""
    take = item.pop
    id, path, kind = take("id"), take("path"), KINDS[take("modality")]
    start_s, end_s, text = take("start_s", None), take("end_s", None), take("text", None)
    is_read = "bytes" in item or is_url(path)  # by an ingest; else an import of an earlier release
    is_imported = "imported_from" in item or not is_read
    return Hit(
        rank, score, cosine, balanced, expected, id, path, kind, start_s, end_s, text, bm25, item, is_imported
    )


def _known(figures: np.ndarray) -> list[float | None]:
    """None for NaN."""
    return [None if figure != figure else figure for figure in figures.tolist()]
