"""A view: one state of a collection, with all that a search needs of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xsearch.index import SCAN, exact
from xsearch.query.calibration import Baseline, Calibration, Samples
from xsearch.types import Modality

if TYPE_CHECKING:
    from xsearch.index import Index, Subset
    from xsearch.query.embedding import Embedded
    from xsearch.store import Snapshot

__all__ = ["Group", "View"]

PRIOR = 8  # cosines that the pooled baseline counts for; it leads while a modality has only a few items
SPREAD_FLOOR = 1e-3  # two rounding steps of a float16 near 1: less is not a difference
CODES = {kind: code for code, kind in enumerate(Modality)}  # as `Snapshot.kinds` has them
FILTERS = 8  # whose items are remembered
CLOCK = re.compile(r"\b(now|today|age|(get_)?current_\w+)\b", re.I)  # filters that let other items pass later


@dataclass(frozen=True, slots=True)
class Group:
    """Items that compete with each other, and which of them the index covers."""

    ids: np.ndarray  # int64, ascending
    uncovered: np.ndarray  # those of them that the index does not cover
    covered: int  # how many it does
    subset: Subset | None  # the covered ones, where the index has others too

    @classmethod
    def of(cls, index: Index | None, ids: np.ndarray) -> Group:
        if index is None or len(ids) <= SCAN:
            return cls(ids, ids, 0, None)
        covers = index.covers(ids)
        covered = int(covers.sum())
        subset = index.subset(ids[covers]) if 0 < covered < len(index.ids) else None
        return cls(ids, ids[~covers], covered, subset)


class View:
    """A snapshot, the index that it names, its calibration and samples; immutable, but for what it remembers.

    Any number of threads may search it at once.
    """

    def __init__(self, snapshot: Snapshot, index: Index | None = None) -> None:
        """index: of the same generation; None: everything is scanned."""
        self.snapshot = snapshot
        self.index = index
        self._calibration = Calibration.from_dict(snapshot.manifest.calibration)
        self._samples = Samples(snapshot)
        self._groups: dict[Any, list[Group]] = {}
        self._scales: dict[Modality, np.ndarray] = {}

    def groups(self, where: str | None, kinds: Sequence[Modality] | None, *, apart: bool) -> list[Group]:
        """The items that may answer, one group for each modality if they are `apart`; none is empty.

        The last FILTERS answers are remembered, except those of CLOCK.
        """
        present = [kind for kind in self._samples.kinds if kinds is None or kind in kinds]
        key = (where, apart, *present)
        if (groups := self._groups.get(key)) is not None:
            return groups
        ids, codes = self.snapshot.ids, self.snapshot.kinds
        if where is not None:
            ids = self.snapshot.select(where)
            codes = codes[self.snapshot.rows(ids)]
        parts = [[kind] for kind in present] if apart else [present]
        groups = [Group.of(self.index, ids[np.isin(codes, [CODES[kind] for kind in part])]) for part in parts]
        groups = [group for group in groups if len(group.ids)]
        if not CLOCK.search(where or ""):
            for old in list(self._groups)[: 1 - FILTERS]:
                self._groups.pop(old, None)  # another thread may have done it
            self._groups[key] = groups
        return groups

    def nearest(self, vectors: np.ndarray, group: Group, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Candidates that contain the k nearest items of `group` to each of `vectors`, float32 [Q, dim].

        A small group is scanned; of a large one, what the index does not cover.
        Returns (approximate cosines float32 [Q, c], ids int64 [Q, c]), -inf and -1 where there are fewer.
        """
        index, scanned, requested = self.index, group.ids, 0
        if index is not None and group.covered:
            candidates = index.candidates(k)
            if group.covered > SCAN + candidates:  # which have to be read too
                scanned, requested = group.uncovered, candidates
        found = []
        if len(scanned):
            found.append(exact(vectors, self.snapshot.blocks(scanned), min(k, len(scanned))))
        if index is not None and requested:
            found.append(index.search(vectors, requested, allowed=group.subset))
        scores, ids = (np.concatenate(some, axis=1) for some in zip(*found, strict=True))
        return scores, ids

    def baselines(self, queries: Sequence[Embedded]) -> tuple[np.ndarray, np.ndarray]:
        """Centres and spreads, float32 [Q, modalities] each, of each query's cosines with unrelated items.

        With parts q_i of unit length, weights w_i and n = |sum w_i q_i|, the query is v = sum (w_i / n) q_i
        and cos(v, x) = sum (w_i / n) cos(q_i, x). Over the items x of one modality, and over the queries that
        might have stood in place of q_i, therefore

            centre = sum (w_i / n) centre_i     and     spread^2 = sum (w_i / n)^2 spread_i^2

        where centre_i and spread_i belong to the pair of modalities of q_i and x, and the parts are taken to
        be independent: no worse than to compare the sum itself with a sample (benchmarks/ranking.py). A part
        of a modality that the collection lacks (words, in a folder of pictures) is compared with samples of
        the items itself. Modalities with few items lean on the pooled baseline.
        """
        scales = np.empty((len(queries), 2, len(Modality)), np.float32)
        for row, query in enumerate(queries):
            weights = np.array([part.weight for part in query.query.parts], np.float32) / query.norm  # [P]
            parts = np.stack(
                [
                    self._scale(part.modality, vector)
                    for part, vector in zip(query.query.parts, query.parts, strict=True)
                ]
            )  # [P, 2, modalities]
            scales[row, 0] = weights @ parts[:, 0]
            scales[row, 1] = np.sqrt((weights**2) @ parts[:, 1] ** 2)
        return scales[:, 0], np.maximum(scales[:, 1], SPREAD_FLOOR)

    def _scale(self, asking: Modality | None, vector: np.ndarray) -> np.ndarray:
        """Centres and spreads of one part of a query: float32 [2, modalities]."""
        assert asking is not None
        if (scale := self._scales.get(asking)) is not None:
            return scale
        pairs = {kind: self._calibration.pairs.get((asking, kind)) for kind in self._samples.kinds}
        baselines = {
            kind: pair or Baseline.of(self._samples.vectors(kind) @ vector) for kind, pair in pairs.items()
        }
        pooled = Baseline.pooled(list(baselines.values()))
        prior = Baseline(pooled.centre, pooled.spread, PRIOR if pooled.count else 0)
        scale = np.array([[0.0], [1.0]], np.float32).repeat(len(Modality), axis=1)
        for kind, baseline in baselines.items():
            both = Baseline.pooled([baseline, prior])
            scale[:, CODES[kind]] = both.centre, both.spread
        if all(pairs.values()):  # it does not depend on the vector
            self._scales[asking] = scale
        return scale
