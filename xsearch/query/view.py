"""A view: one state of a collection, with all that a search needs of it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from functools import cached_property
from itertools import compress
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from xsearch.index import SCAN, exact, exact_by_group
from xsearch.query.calibration import (
    UNKNOWN_SHARE,
    Calibration,
    Samples,
    Scales,
    baselines,
    calibrate,
    fisher,
    pooled,
)
from xsearch.types import Modality

if TYPE_CHECKING:
    from xsearch.index import Index, Subset
    from xsearch.query.embedding import Embedded
    from xsearch.store import Snapshot

__all__ = ["Candidates", "Group", "View"]

PRIOR = 2  # items that the pooled baseline counts for; it leads while a modality has only one or two
GENERAL = (0.0, 0.25, 8)  # centre, spread and count, pooled with all others: a few items say little
SPREAD_FLOOR = 0.02  # a model that tells nothing apart by less
WIDTH_FLOOR = 0.14  # the same, of vectors
DOMINANCE = 2 / 3  # how much of a spread is taken to be signal, in a query of one part
FEW_ALIKE = 4  # unrelated items that a modality is taken to have besides its own
CODES = {kind: code for code, kind in enumerate(Modality)}  # as `Snapshot.kinds` has them
LEAST_PROBED = 8  # lists of each modality
FEW = 4  # vectors, up to which dot products are as fast as a matrix product (measured)
FILTERS = 8  # whose items are remembered
CLOCK = re.compile(r"\b(now|today|age|(get_)?current_\w+)\b", re.I)  # filters that let other items pass later


class Candidates(NamedTuple):
    """What may be nearest, [Q, c] each; -inf and -1 where there are fewer."""

    scores: np.ndarray  # float32: cosines, of an index's codes approximate ones
    ids: np.ndarray  # int64


@dataclass(frozen=True, slots=True)
class Group:
    """Items that compete with each other, all or of one modality, and which of them the index covers."""

    kind: int | None  # the code of their modality, None for a mixture
    ids: np.ndarray  # int64, ascending
    uncovered: np.ndarray  # those of them that the index does not cover
    covered: int  # how many it does
    subset: Subset | None  # the covered ones, where the index has others too
    counts: np.ndarray  # how many of each modality: int64 [modalities]
    is_known: bool = True  # False: texts of words that the model has not learned

    @classmethod
    def of(
        cls, kind: int | None, index: Index | None, ids: np.ndarray, codes: np.ndarray, is_known: bool = True
    ) -> Group:
        """codes: the modality of each of `ids`."""
        counts = np.bincount(codes, minlength=len(Modality))
        if index is None or len(ids) <= SCAN:
            return cls(kind, ids, ids, 0, None, counts, is_known)
        covers = index.covers(ids)
        covered = int(covers.sum())
        subset = index.subset(ids[covers]) if 0 < covered < len(index.ids) else None
        return cls(kind, ids, ids[~covers], covered, subset, counts, is_known)


class View:
    """A snapshot, the index that it names, its calibration and samples; immutable, but for what it remembers.

    Any number of threads may search it at once.
    """

    def __init__(self, snapshot: Snapshot, index: Index | None = None) -> None:
        """index: of the same generation; None: everything is scanned."""
        self.snapshot = snapshot
        self.index = index
        self._samples = Samples(snapshot)
        self._groups: dict[Any, list[Group]] = {}
        self._known: dict[Modality, np.ndarray] = {}  # baselines

    @cached_property
    def _calibration(self) -> Calibration:
        """As stored, or measured now: by an earlier release it was not, or otherwise."""
        stored = Calibration.from_dict(self.snapshot.manifest.calibration)
        return stored if stored.pairs else calibrate(self.snapshot, self._samples)

    def groups(self, where: str | None, kinds: Sequence[Modality] | None, *, apart: bool) -> list[Group]:
        """The items that may answer, one group for each modality if they are `apart`; none is empty.

        Texts of words that the model has not learned are in a group of their own, the last one. The last
        FILTERS answers are remembered, except those of CLOCK.
        """
        present = [kind for kind in self._samples.kinds if kinds is None or kind in kinds]
        key = (where, apart, *present)
        if (groups := self._groups.get(key)) is not None:
            return groups
        snapshot = self.snapshot
        ids, codes, is_known = snapshot.ids, snapshot.kinds, snapshot.unknown_shares <= UNKNOWN_SHARE
        if where is not None:
            ids = snapshot.select(where)
            rows = snapshot.rows(ids)
            codes, is_known = codes[rows], is_known[rows]
        requested = [CODES[kind] for kind in present]
        parts = (
            [(code, codes == code) for code in requested] if apart else [(None, np.isin(codes, requested))]
        )
        groups = [
            Group.of(code, self.index, ids[part & is_known], codes[part & is_known]) for code, part in parts
        ]
        if not is_known.all():
            code = CODES[Modality.TEXT]
            part = (codes == code) & ~is_known & (code in requested)
            kind = code if apart else None
            groups.append(Group.of(kind, self.index, ids[part], codes[part], is_known=False))
        groups = [group for group in groups if len(group.ids)]
        if not CLOCK.search(where or ""):
            for old in list(self._groups)[: 1 - FILTERS]:
                self._groups.pop(old, None)  # another thread may have done it
            self._groups[key] = groups
        return groups

    def nearest(self, vectors: np.ndarray, groups: Sequence[Group], k: int) -> list[Candidates]:
        """For each group, candidates that contain its k nearest items to each of `vectors`, float32 [Q, dim].

        Small groups are scanned, all in one pass; of a large one, what the index does not cover.
        """
        requested = 0 if self.index is None else self.index.candidates(k)
        indexed = [group.covered > SCAN + requested > SCAN for group in groups]  # else scanning reads less
        scanned = [group.uncovered if at else group.ids for group, at in zip(groups, indexed, strict=True)]
        candidates = self._scan(vectors, [group.kind for group in groups], scanned, k)
        if self.index is not None and any(indexed):
            large = list(compress(groups, indexed))
            subsets = [(group.subset, self._nprobe(group, large)) for group in large]
            answers = self.index.search_each(vectors, requested, subsets)
            for at, answer in zip(np.flatnonzero(indexed), answers, strict=True):
                if len(scanned[at]):
                    both = zip(candidates[at], answer, strict=True)
                    candidates[at] = Candidates(*(np.concatenate(some, axis=1) for some in both))
                else:
                    candidates[at] = Candidates(*answer)
        return candidates

    def _nprobe(self, group: Group, others: Sequence[Group]) -> int | None:
        """Lists to visit for `group` where all of `others` are searched: together as many as for one search.

        Each modality has lists of its own. The balanced ten of a million items are so found as well as their
        ten nearest (recall 0.96, measured); as many lists for each modality take three times as long.
        """
        if self.index is None or group.subset is None or len(others) == 1:
            return None
        lists = [len(other.subset.lists) for other in others if other.subset is not None]
        share = len(group.subset.lists) / sum(lists)
        return max(math.ceil(share * self.index.plan.nprobe), LEAST_PROBED)

    def _scan(
        self, vectors: np.ndarray, kinds: Sequence[int | None], parts: Sequence[np.ndarray], k: int
    ) -> list[Candidates]:
        """The exact k nearest of each part, ids int64 ascending; several parts are of a kind each."""
        nothing = Candidates(np.empty((len(vectors), 0), np.float32), np.empty((len(vectors), 0), np.int64))
        filled = [part for part in parts if len(part)]
        if not filled:
            return [nothing for _ in parts]
        snapshot, count = self.snapshot, sum(map(len, filled))
        ids = None if count == len(snapshot) else np.sort(np.concatenate(filled))
        if len(filled) == 1:
            found = [exact(vectors, snapshot.blocks(ids), k)]
        else:
            codes = [code for code, part in zip(kinds, parts, strict=True) if code is not None and len(part)]
            found = exact_by_group(vectors, snapshot.blocks(ids), k, snapshot.kinds_of, codes)
        each = iter(found)
        return [
            Candidates(*(some[:, : len(part)] for some in next(each))) if len(part) else nothing
            for part in parts
        ]

    def scales(self, queries: Sequence[Embedded]) -> Scales:
        """What the cosines of each query are compared with.

        With parts q_i of unit length, weights w_i and n = |sum w_i q_i|, the query is v = sum (w_i / n) q_i
        and cos(v, x) = sum (w_i / n) cos(q_i, x), so that the centre is the same sum of the parts' centres,
        as cosines. v is as long as each q_i: its spread is their root mean square, weighted by w_i^2. (That
        of a sum of independent figures is far off for parts that agree or are subtracted from each other, and
        that of the cosines of v with a sample no better; benchmarks/none.py.)

        The unit of `balanced` is spread^b width^(1 - b), where `width` is the distance of the items from the
        mean of their modality and b = 1 - DOMINANCE * (the largest weight of a part / the sum of all weights).
        Where answers are far above the rest the spread of a pair is wide, and dividing by it alone would set
        them back. A sum needs it more: else items of one part's modality would answer for that part only.
        (benchmarks/ranking.py compares other ways.)
        """
        centres, spreads = np.empty((2, len(queries), len(Modality)), np.float32)
        parts = iter(self._baselines(queries))
        power = np.empty((len(queries), 1), np.float32)
        for row, query in enumerate(queries):
            weights = np.array([part.weight for part in query.query.parts], np.float32)
            each = np.stack([next(parts) for _ in weights])  # [P, 2, modalities]
            power[row] = 1 - DOMINANCE * np.abs(weights).max() / np.abs(weights).sum()
            if len(weights) == 1:
                centres[row], spreads[row] = np.sign(weights) * each[0, 0], each[0, 1]
                continue
            centres[row] = fisher(weights @ np.tanh(each[:, 0]) / query.norm)
            spreads[row] = np.sqrt(weights**2 @ each[:, 1] ** 2 / (weights**2).sum())
        return Scales(centres, spreads, spreads**power * self._widths ** (1 - power))

    @cached_property
    def _widths(self) -> np.ndarray:
        """How far the items of each modality are from their mean, at least WIDTH_FLOOR: float32 [modalities].

        Of unit vectors with a mean cosine c it is sqrt(1 - c); a few items are taken to be less alike.
        """
        widths = np.ones(len(Modality), np.float32)
        for kind in self._samples.kinds:
            vectors = self._samples.vectors(kind)
            n, square = len(vectors), float((vectors.sum(axis=0) ** 2).sum())
            if n > 1:
                alike = (square - n) / (n * (n - 1)) * n / (n + FEW_ALIKE)
                widths[CODES[kind]] = math.sqrt(max(1 - alike, WIDTH_FLOOR**2))
        return widths

    def _baselines(self, queries: Sequence[Embedded]) -> list[np.ndarray]:
        """Centres and spreads of every part of every query: float32 [2, modalities] each.

        A part of a modality that the collection lacks (words, in a folder of pictures) is compared with
        samples of the items itself. Modalities with few items lean on all of them together.
        """
        kinds = [Modality(str(part.modality)) for query in queries for part in query.query.parts]
        unknown = [row for row, kind in enumerate(kinds) if kind not in self._known]
        if not unknown:
            return [self._known[kind] for kind in kinds]
        vectors = np.concatenate([query.parts for query in queries])[unknown]  # [U, dim]
        measured = self._measured(vectors, [kinds[row] for row in unknown])  # [3, U, present]
        general = np.broadcast_to(np.array(GENERAL)[:, None, None], (3, len(unknown), 1))
        both = np.stack([measured, np.empty_like(measured)], axis=-1)
        both[..., 1] = pooled(*np.concatenate([measured, general], axis=2))[..., None]
        both[2, ..., 1] = PRIOR
        new = np.zeros((len(unknown), 2, len(Modality)), np.float32)
        new[:, 1] = 1
        present = self._samples.kinds
        new[:, :, [CODES[kind] for kind in present]] = pooled(*both)[:2].swapaxes(0, 1)
        new[:, 1] = np.maximum(new[:, 1], SPREAD_FLOOR)
        for baseline, row in zip(new, unknown, strict=True):
            if all((kinds[row], kind) in self._calibration.pairs for kind in present):
                self._known[kinds[row]] = baseline  # it does not depend on the vector
        of_row = dict(zip(unknown, new, strict=True))
        return [of_row[row] if row in of_row else self._known[kind] for row, kind in enumerate(kinds)]

    def _measured(self, vectors: np.ndarray, asking: Sequence[Modality]) -> np.ndarray:
        """Centre, spread and count of each of `vectors`, float32 [U, dim], with each present modality.

        asking: the modality of each vector. Where its pair is calibrated, that is taken. Elsewhere it is
        compared with the sample; the spread of one vector's cosines depends on what it shows, and is averaged
        with that of the item's modality in other pairs (AUC 0.96, alone 0.92; benchmarks/none.py).
        Returns float64 [3, U, present].
        """
        pairs, present = self._calibration.pairs, self._samples.kinds
        samples, starts = self._samples.together
        # BLAS's own threads, which all callers share, take longer for a few: 5 ms of CPU, not 1.6 (measured)
        few = len(vectors) <= FEW
        cosines = np.split(
            np.vecdot(vectors[:, None], samples) if few else vectors @ samples.T, starts, axis=1
        )
        measured = np.empty((3, len(vectors), len(present)))
        for at, (kind, part) in enumerate(zip(present, cosines, strict=True)):
            measured[:2, :, at], measured[2, :, at] = baselines(part), part.shape[1]
            if others := [pair.spread for (_, other), pair in pairs.items() if other == kind]:
                measured[1, :, at] = np.sqrt((measured[1, :, at] ** 2 + np.square(others).mean()) / 2)
            for row, other in enumerate(asking):
                if pair := pairs.get((other, kind)):
                    measured[:, row, at] = astuple(pair)
        return measured
