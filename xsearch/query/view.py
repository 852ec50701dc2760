"""One state of a collection, with everything that a search reads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property, reduce
from itertools import compress
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from xsearch.index import SCAN, best_of, cosines, exact, exact_by_group, load_faiss, load_for_scans, probes_of
from xsearch.query.calibration import Calibration, Samples, calibrate
from xsearch.query.scales import CODES, Scaling
from xsearch.system.lookup import is_in, nearest_rows
from xsearch.types import Modality

if TYPE_CHECKING:
    from xsearch.index import Index, Subset
    from xsearch.query.device_vectors import DeviceVectors
    from xsearch.store import Snapshot
    from xsearch.words import WordIndex, WordReader

__all__ = ["Candidates", "Group", "View"]

ITEM = 72  # codes that are compared in the time in which an item's vector is read (measured)
EACH = 3  # the same while it is compared with one query
WIDER, WIDER_EXACT = 2, 1.5  # see `View._nprobe`
RARER = 0.3  # a filter that passes a share of a modality needs share ** -RARER as many lists (measured)
FILTERS = 8  # whose items are remembered
CLOCK = re.compile(r"\b(now|today|age|(get_)?current_\w+)\b", re.I)  # filters that let other items pass later


class Candidates(NamedTuple):
    """What may be nearest, [Q, c] each, best first; -inf and -1 where there are fewer."""

    scores: np.ndarray  # float32: cosines, of an index's codes approximate ones
    ids: np.ndarray  # int64


class _Coverage:
    """Where an index has the items of a snapshot."""

    def __init__(self, snapshot: Snapshot, index: Index) -> None:
        self.index = index
        self._snapshot = snapshot

    @cached_property
    def lacking(self) -> np.ndarray:
        """The rows of the items that it lacks: int64, ascending."""
        return np.flatnonzero(~self.index.covers(self._snapshot.ids))

    @cached_property
    def counts(self) -> np.ndarray:
        """How many items of each modality there are: int64 [modalities]."""
        return _counts(self._snapshot.kinds)

    @cached_property
    def lists(self) -> np.ndarray:
        """The inverted list of each item, -1 for those that it lacks: int32 [N]."""
        return self.index.lists_of(self._snapshot.ids)


@dataclass(frozen=True)
class Group:
    """Items that compete with each other, all or of one modality, and which of them the index covers."""

    snapshot: Snapshot

    kind: int | None  # the code of their modality, None for a mixture
    ids: np.ndarray  # int64, ascending
    uncovered: np.ndarray  # those of them that the index does not cover
    covered: int  # how many it does
    subset: Subset | None  # the covered ones, where the index has others too
    counts: np.ndarray  # how many of each modality: int64 [modalities]
    is_known: bool  # False: texts of words that the model has not learned

    @classmethod
    def of(cls, kind: int | None, view: View, rows: np.ndarray, counts: np.ndarray, is_known: bool) -> Group:
        """rows: of the snapshot, int64, ascending."""
        snapshot, coverage = view.snapshot, view.coverage
        ids = snapshot.ids.take(rows)
        if coverage is None or len(ids) <= SCAN:
            return cls(snapshot, kind, ids, ids, 0, None, counts, is_known)
        uncovered = snapshot.ids[coverage.lacking[is_in(coverage.lacking, rows)]]
        covered, index = len(ids) - len(uncovered), coverage.index
        subset = index.subset(ids, coverage.lists.take(rows)) if 0 < covered < len(index.ids) else None
        return cls(snapshot, kind, ids, uncovered, covered, subset, counts, is_known)

    @cached_property
    def vectors(self) -> np.ndarray:
        """Of the uncovered items: float32 [n, dim]. Reading them takes longer than scanning them."""
        return self.snapshot.vectors(self.uncovered)


def _counts(codes: np.ndarray) -> np.ndarray:
    """How many there are of each modality: int64 [modalities]."""
    return np.bincount(codes, minlength=len(Modality))


class View:
    """A snapshot with its indexes, calibration and samples; immutable, except for caches.

    Any number of threads may search it at once.
    """

    def __init__(
        self, snapshot: Snapshot, index: Index | None = None, reader: WordReader | None = None
    ) -> None:
        """index: of the same generation; None: everything is scanned. reader: None: no words match."""
        self.snapshot = snapshot
        self.index = index
        self.coverage = None if index is None else _Coverage(snapshot, index)  # one for all sessions
        self._reader = reader
        self._samples = Samples(snapshot)
        self._groups: dict[Any, list[Group]] = {}

    @property
    def is_whole(self) -> bool:
        """Whether it has the index and the words of its snapshot: neither is damaged."""
        has_words = self._reader is not None and self._reader.has_stored
        manifest = self.snapshot.manifest
        return has_words == (manifest.words is not None) and (self.index is None) == (manifest.index is None)

    def warm(self) -> None:
        """Load what searches need, apart from the model."""
        from xsearch.store import warm_filters  # pyarrow

        warm_filters()
        self.groups(None, None, apart=True)
        if len(self.snapshot) > SCAN:
            load_faiss()

    @cached_property
    def scaling(self) -> Scaling:
        """By the stored calibration; measured now if there is none, or one of an earlier release."""
        stored = Calibration.stored(self.snapshot)
        return Scaling(self._samples, stored if stored.pairs else calibrate(self.snapshot, self._samples))

    def groups(
        self, where: str | None, kinds: Sequence[Modality] | None, *, apart: bool, anyway: bool = False
    ) -> list[Group]:
        """The items that may answer, one group for each modality if they are `apart`; none is empty.

        Texts of words that the model has not learned are in a separate group, the last one, unless `anyway`.
        The last FILTERS answers are remembered, except those of CLOCK.
        """
        present = [kind for kind in self._samples.kinds if kinds is None or kind in kinds]
        key = (where, apart, anyway, *present)
        if (groups := self._groups.get(key)) is not None:
            return groups
        snapshot = self.snapshot
        passing = np.ones(len(snapshot), bool) if where is None else snapshot.passing(where)
        codes = [CODES[kind] for kind in present]
        parts = [(code, [code]) for code in codes] if apart else [(None, codes)]
        groups = []
        for known in (True, False):
            some = passing & (known if anyway else snapshot.unread != known)
            if not some.any():
                continue
            for code, mixed in parts:
                masks = [some & (snapshot.kinds == each) for each in mixed]
                counts = np.zeros(len(Modality), np.int64)
                counts[mixed] = [np.count_nonzero(mask) for mask in masks]
                if counts.any():
                    rows = np.flatnonzero(reduce(np.logical_or, masks))
                    groups.append(Group.of(code, self, rows, counts, known))
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
        return snapshot.unread[nearest_rows(ids, snapshot.ids)]

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
                rows = self.snapshot.rows(group.ids[np.flatnonzero(~out)])
                rest.append(Group.of(group.kind, self, rows, counts, group.is_known))
        return rest

    def session(self) -> View:
        """Return what one search should use, to know the shards that it has missed."""
        session = self.index and self.index.session()
        if session is self.index:
            return self
        vars(self)["scaling"] = self.scaling  # for all sessions
        view = copy(self)
        view.index = session
        return view

    @property
    def missing(self) -> list[int]:
        """The shards of the index that have not answered in this `session`."""
        return [] if self.index is None else sorted(self.index.missing)

    def cosines(self, vectors: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """The cosines of vectors, float32 [Q, dim], with items, int64 [Q, c]; see `index.cosines`."""
        if self._on_gpu is not None:
            return self._on_gpu.cosines(vectors, ids)
        of = cosines if self.index is None else self.index.cosines
        return of(vectors, ids, self.snapshot.stored)

    @cached_property
    def _on_gpu(self) -> DeviceVectors | None:
        """The stored vectors, for an index that a GPU searches."""
        if self.index is None or not self.index.on_gpu:
            return None
        from xsearch.query.device_vectors import DeviceVectors  # torch

        return DeviceVectors.on_gpu(self.snapshot)

    def nearest(self, vectors: np.ndarray, groups: Sequence[Group], k: int) -> list[Candidates]:
        """For each group, candidates that contain its k nearest items to each of `vectors`, float32 [Q, dim].

        Small groups are scanned, all in one pass; of a large one, what the index does not cover, or what
        takes less time than its codes: see `_to_scan`.
        """
        requested = 0 if self.index is None else self.index.candidates(k)
        is_large = [group.covered > SCAN + requested > SCAN for group in groups]
        large = list(compress(groups, is_large))
        scanned = [
            self._to_scan(vectors, group, large, k) if at else group.ids
            for group, at in zip(groups, is_large, strict=True)
        ]
        indexed = [
            at and some is group.uncovered for at, some, group in zip(is_large, scanned, groups, strict=True)
        ]
        candidates = self._scan(vectors, groups, scanned, k)
        if self.index is not None and any(indexed):
            subsets = [(group.subset, self._nprobe(group, large)) for group in compress(groups, indexed)]
            answers = self.index.search_each(vectors, requested, subsets)
            for at, answer in zip(np.flatnonzero(indexed), answers, strict=True):
                if len(scanned[at]):
                    both = zip(candidates[at], answer, strict=True)
                    scores, ids = (np.concatenate(some, axis=1) for some in both)
                    candidates[at] = Candidates(*best_of(scores, ids, ids.shape[1]))
                else:
                    candidates[at] = Candidates(*answer)
        return candidates

    def _to_scan(self, vectors: np.ndarray, group: Group, large: Sequence[Group], k: int) -> np.ndarray:
        """The items to scan for one of the `large` groups: `uncovered` ones, if the index has the others.

        Many queries are compared with all items, a single one with those in the lists that the index would
        visit, if that takes less time than the codes. It finds more than these do.
        """
        subset, index, Q = group.subset, self.index, len(vectors)
        if subset is None or index is None or index.on_gpu or not self.snapshot.is_near:
            return group.uncovered
        if Q == 1 and subset.share * (ITEM + EACH) < 1:
            members = index.members(vectors, subset, self._nprobe(group, large, wider=WIDER_EXACT))
            return np.sort(np.append(members, group.uncovered)) if len(members) >= k else group.ids
        scan = group.covered * (ITEM / Q + EACH)
        return group.ids if scan <= index.reads(subset, self._nprobe(group, large)) else group.uncovered

    def _nprobe(self, group: Group, others: Sequence[Group], *, wider: float = WIDER) -> int | None:
        """Lists to visit for `group` where all of `others` are searched: together as many as for one search.

        A filter needs more, up to `wider` times as many, for a recall of 0.95 instead of 0.90 to 0.94; half
        as many more if vectors are compared and not codes (measured).
        """
        if self.index is None or self.coverage is None or group.subset is None or len(others) == 1:
            return None
        nprobe: float = self.index.plan.nprobe
        if group.kind is not None:
            passing = len(group.ids) / self.coverage.counts[group.kind]
            nprobe *= min(passing**-RARER, wider)
        return probes_of(group.subset, [each.subset for each in others if each.subset is not None], nprobe)

    def _scan(
        self, vectors: np.ndarray, groups: Sequence[Group], parts: Sequence[np.ndarray], k: int
    ) -> list[Candidates]:
        """The exact k nearest of a part of each group, int64 ascending; several groups are of a kind each.

        A few are kept in memory as float32, with their group.
        """
        nothing = Candidates(np.empty((len(vectors), 0), np.float32), np.empty((len(vectors), 0), np.int64))
        filled = [at for at, part in enumerate(parts) if len(part)]
        candidates = [nothing for _ in parts]
        if not filled:
            return candidates
        snapshot, count = self.snapshot, sum(map(len, parts))
        if count > SCAN:
            load_for_scans()
        if count <= SCAN and all(parts[at] is groups[at].uncovered for at in filled):
            found = [exact(vectors, [(parts[at], groups[at].vectors)], k) for at in filled]
        else:
            ids = None if count == len(snapshot) else np.sort(np.concatenate([parts[at] for at in filled]))
            kinds = [kind for at in filled if (kind := groups[at].kind) is not None]
            if len(filled) == 1:
                found = [exact(vectors, snapshot.parts(ids), k)]
            else:
                found = exact_by_group(vectors, snapshot.parts(ids), k, snapshot.kinds_of, kinds)
        for at, some in zip(filled, found, strict=True):
            candidates[at] = Candidates(*(each[:, : len(parts[at])] for each in some))
        return candidates
