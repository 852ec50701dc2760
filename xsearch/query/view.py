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
    LARGEST,
    Calibration,
    Samples,
    Scales,
    baselines,
    calibrate,
    pooled,
)
from xsearch.system.lookup import is_in, nearest_rows
from xsearch.types import UNKNOWN_SHARE, Modality

if TYPE_CHECKING:
    from xsearch.index import Index, Subset
    from xsearch.query.embedding import Embedded
    from xsearch.store import Snapshot
    from xsearch.words import WordIndex, WordReader

__all__ = ["Candidates", "Group", "View"]

PRIOR = 2  # items that the pooled baseline counts for; it leads while a modality has only one or two
GENERAL = np.array([0, 0.25, 0.25, 8])[:, None, None]  # pooled with all baselines: few items say little
SPREAD_FLOOR = 0.02  # a model that tells nothing apart by less
WIDTH_FLOOR = 0.14  # the same, of vectors
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
    is_known: bool  # False: texts of words that the model has not learned

    @classmethod
    def of(
        cls, kind: int | None, index: Index | None, ids: np.ndarray, counts: np.ndarray, is_known: bool
    ) -> Group:
        if index is None or len(ids) <= SCAN:
            return cls(kind, ids, ids, 0, None, counts, is_known)
        covers = index.covers(ids)
        covered = int(covers.sum())
        subset = index.subset(ids[covers]) if 0 < covered < len(index.ids) else None
        return cls(kind, ids, ids[~covers], covered, subset, counts, is_known)


def _counts(codes: np.ndarray) -> np.ndarray:
    """How many there are of each modality: int64 [modalities]."""
    return np.bincount(codes, minlength=len(Modality))


class View:
    """A snapshot with its indexes, calibration and samples; immutable, but for what it remembers.

    Any number of threads may search it at once.
    """

    def __init__(
        self, snapshot: Snapshot, index: Index | None = None, reader: WordReader | None = None
    ) -> None:
        """index: of the same generation; None: everything is scanned. reader: None: words do not count."""
        self.snapshot = snapshot
        self.index = index
        self._reader = reader
        self._samples = Samples(snapshot)
        self._groups: dict[Any, list[Group]] = {}
        self._known: dict[Modality, np.ndarray] = {}  # baselines

    @cached_property
    def _calibration(self) -> Calibration:
        """As stored, or measured now if an earlier release has stored it, or nobody."""
        stored = Calibration.from_dict(self.snapshot.manifest.calibration)
        return stored if stored.pairs else calibrate(self.snapshot, self._samples)

    def groups(
        self, where: str | None, kinds: Sequence[Modality] | None, *, apart: bool, anyway: bool = False
    ) -> list[Group]:
        """The items that may answer, one group for each modality if they are `apart`; none is empty.

        Texts of words that the model has not learned are in a group of their own, the last one, unless
        `anyway`. The last FILTERS answers are remembered, except those of CLOCK.
        """
        present = [kind for kind in self._samples.kinds if kinds is None or kind in kinds]
        key = (where, apart, anyway, *present)
        if (groups := self._groups.get(key)) is not None:
            return groups
        snapshot = self.snapshot
        ids, codes = snapshot.ids, snapshot.kinds
        is_known = (snapshot.unknown_shares <= UNKNOWN_SHARE) | anyway
        if where is not None:
            ids = snapshot.select(where)
            rows = snapshot.rows(ids)
            codes, is_known = codes[rows], is_known[rows]
        requested = [CODES[kind] for kind in present]
        parts = (
            [(code, codes == code) for code in requested] if apart else [(None, np.isin(codes, requested))]
        )
        chosen = [(code, part & is_known, True) for code, part in parts]
        if not is_known.all():
            code = CODES[Modality.TEXT]
            part = (codes == code) & ~is_known & (code in requested)
            chosen.append((code if apart else None, part, False))
        groups = [
            Group.of(code, self.index, ids[part], _counts(codes[part]), known)
            for code, part, known in chosen
            if part.any()
        ]
        if not CLOCK.search(where or ""):
            for old in list(self._groups)[: 1 - FILTERS]:
                self._groups.pop(old, None)  # another thread may have done it
            self._groups[key] = groups
        return groups

    def words(self, *, required: bool) -> WordIndex | None:
        """The full-text index of all items; None if it would take long to make and is not `required`."""
        return None if self._reader is None else self._reader.of(self.snapshot, required=required)

    def is_unread(self, ids: np.ndarray) -> np.ndarray:
        """Whether these items, int64, are texts of words that the model has not learned: bool, as `ids`."""
        snapshot = self.snapshot
        return snapshot.unknown_shares[nearest_rows(ids, snapshot.ids)] > UNKNOWN_SHARE

    def without(self, groups: Sequence[Group], ids: np.ndarray) -> list[Group]:
        """The same groups without these items, int64, ascending; not remembered."""
        if not len(ids):
            return list(groups)
        rest = []
        for group in groups:
            out = is_in(group.ids, ids)
            if not out.any():
                rest.append(group)
            elif not out.all():
                counts = group.counts - _counts(self.snapshot.kinds_of(group.ids[out]))
                rest.append(Group.of(group.kind, self.index, group.ids[~out], counts, group.is_known))
        return rest

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

        `balanced` has the unit spread^b width^(1 - b), where `width` is the distance of the items from the
        mean of their modality and b = (2 - share) / 3 with the share of the heaviest part in the weights: 1/3
        for one part. Where answers are far above the rest the spread of a pair is wide, and dividing by it
        alone would set them back. A sum needs more of it: else items of one part's modality would answer for
        that part only. (benchmarks/ranking.py and answers.py compare other ways.)
        """
        centres, spreads, deviations = self.baselines(queries)
        weights = [np.abs([part.weight for part in query.query.parts]) for query in queries]
        share = np.array([[some.max() / some.sum()] for some in weights], np.float32)
        power = (2 - share) / 3
        return Scales(centres, spreads**power * self._widths ** (1 - power), deviations)

    def baselines(self, queries: Sequence[Embedded]) -> np.ndarray:
        """Centres, spreads and deviations of each query's cosines: float32 [3, Q, modalities].

        With parts q_i of unit length, weights w_i and n = |sum w_i q_i|, the query is v = sum (w_i / n) q_i
        and cos(v, x) = sum (w_i / n) cos(q_i, x). Over the items x of one modality, and over the queries that
        might have stood in place of q_i, therefore

            centre = sum (w_i / n) centre_i     and     spread^2 = sum (w_i / n)^2 spread_i^2

        where centre_i and spread_i belong to the pair of modalities of q_i and x, and the parts are taken to
        be independent: no worse than to compare the sum itself with a sample (benchmarks/ranking.py). They
        are not where they agree, or one is subtracted from the other. But v is as long as each of them, and
        its cosines with unrelated items deviate as theirs do: by the root mean square, weighted by w_i^2
        (benchmarks/none.py).

        A part of a modality that the collection lacks (words, in a folder of pictures) is compared with
        samples of the items itself. Modalities with few items lean on all of them together.
        """
        both = np.empty((3, len(queries), len(Modality)), np.float32)
        parts = iter(self._parts_of(queries))
        for row, query in enumerate(queries):
            weights = np.array([part.weight for part in query.query.parts], np.float32) / query.norm  # [P]
            each = np.stack([next(parts) for _ in weights], axis=1)  # [3, P, modalities]
            both[0, row] = weights @ each[0]
            both[1, row] = np.sqrt(weights**2 @ each[1] ** 2)
            both[2, row] = np.sqrt(weights**2 @ each[2] ** 2 / (weights**2).sum())
        both[0] = np.clip(both[0], -LARGEST, LARGEST)
        both[1:] = np.maximum(both[1:], SPREAD_FLOOR)
        return both

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

    def _parts_of(self, queries: Sequence[Embedded]) -> list[np.ndarray]:
        """Centre, spread and deviation of every part of every query: float32 [3, modalities] each."""
        kinds = [Modality(str(part.modality)) for query in queries for part in query.query.parts]
        unknown = [row for row, kind in enumerate(kinds) if kind not in self._known]
        if not unknown:
            return [self._known[kind] for kind in kinds]
        vectors = np.concatenate([query.parts for query in queries])[unknown]  # [U, dim]
        stored = self._pairs[:, [CODES[kinds[row]] for row in unknown]]  # [4, U, present]
        lacking = np.isnan(stored)
        measured = np.where(lacking, self._measured(vectors), stored) if lacking.any() else stored
        general = np.broadcast_to(GENERAL, (4, len(unknown), 1))
        both = np.empty((*measured.shape, 2))
        both[..., 0] = measured
        both[..., 1] = pooled(np.concatenate([measured, general], axis=2))[..., None]
        both[3, ..., 1] = PRIOR
        new = np.zeros((len(unknown), 3, len(Modality)), np.float32)
        new[:, 1:] = 1
        new[:, :, [CODES[kind] for kind in self._samples.kinds]] = pooled(both)[:3].swapaxes(0, 1)
        for baseline, row, is_measured in zip(new, unknown, lacking[0].any(axis=1), strict=True):
            if not is_measured:
                self._known[kinds[row]] = baseline  # it does not depend on the vector
        of_row = dict(zip(unknown, new, strict=True))
        return [of_row[row] if row in of_row else self._known[kind] for row, kind in enumerate(kinds)]

    @cached_property
    def _pairs(self) -> np.ndarray:
        """The calibration: float64 [4, modalities, present modalities], NaN for pairs that it lacks."""
        table = np.full((4, len(Modality), len(self._samples.kinds)), np.nan)
        for at, kind in enumerate(self._samples.kinds):
            for other, code in CODES.items():
                if pair := self._calibration.pairs.get((other, kind)):
                    table[:, code, at] = astuple(pair)
        return table

    @cached_property
    def _squares(self) -> np.ndarray:
        """Mean square deviation of each present modality in its calibrated pairs, NaN for none: float64."""
        squares = [column[~np.isnan(column)] ** 2 for column in self._pairs[2].T]
        return np.array([some.mean() if len(some) else np.nan for some in squares])

    def _measured(self, vectors: np.ndarray) -> np.ndarray:
        """Centre, spread, deviation and count of the cosines of `vectors` with each present modality.

        vectors: float32 [U, dim], of modalities that the collection lacks. How far the cosines of one vector
        deviate depends on what it shows; their deviation is averaged with that of the item's modality in
        other pairs (benchmarks/none.py). Returns float64 [4, U, present].
        """
        samples, starts = self._samples.together
        # BLAS's own threads, which all callers share, take longer for a few: 5 ms of CPU, not 1.6 (measured)
        few = len(vectors) <= FEW
        cosines = np.split(
            np.vecdot(vectors[:, None], samples) if few else vectors @ samples.T, starts, axis=1
        )
        measured = np.empty((4, len(vectors), len(cosines)))
        for at, part in enumerate(cosines):
            measured[:3, :, at], measured[3, :, at] = baselines(part), part.shape[1]
        squares = measured[2] ** 2
        measured[2] = np.sqrt(np.where(np.isnan(self._squares), squares, (squares + self._squares) / 2))
        return measured
