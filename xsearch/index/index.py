"""The FAISS index: candidates for a query."""

from __future__ import annotations

import math
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from itertools import accumulate, chain
from pathlib import Path
from typing import Any

import numpy as np

from xsearch.errors import StoreError, UsageError
from xsearch.index.exact import cosines
from xsearch.index.files import joined, write
from xsearch.index.gpu import GPU_MOST, copy_for
from xsearch.index.library import load_faiss
from xsearch.index.listing import INDEX, PLAN, Listing
from xsearch.index.plan import Plan
from xsearch.system.durable import digest
from xsearch.system.lookup import is_in, nearest_rows
from xsearch.system.threads import share, threads

__all__ = ["SCAN", "Index", "Subset", "best_of", "probes_of", "promising"]

SCAN = 1_000  # items up to which a scan is as fast as the index (measured)
MEASURED = 2_000  # vectors to estimate the quantisation error from
# Bytes of tables that FAISS computes from an index: at most 256 for each in the file, and its own limit
TABLES, MOST_TABLES = 256, 2 << 30
TIES = 8  # further candidates, as FAISS breaks ties by the order of its lists; there may be MOST_TIES times k
MOST_TIES = 16
KEPT = 1.5  # candidates to re-rank of subsets that are searched together, times those of one search
LEAST_PROBED = 8  # lists of each subset that is searched together with others
LEAST_APART = 4  # queries of a thread, for which it is worth starting (measured)
LEAST_CODES = 40_000  # codes to compare, of a single query, for which a thread is worth starting (measured)
OVERFETCH = 2  # candidates from a GPU, relative to what holds k allowed ones on average


@dataclass(frozen=True)
class Subset:
    """A subset of the ids of an index that restricts a search."""

    ids: np.ndarray  # int64 [s], ascending
    selector: Any  # faiss.IDSelector
    lists: np.ndarray  # int64 [L], ascending: inverted lists that contain them
    quantizer: Any  # faiss.IndexFlat of their centroids
    share: float  # fraction of the entries of these lists
    lists_of: Callable[[np.ndarray], np.ndarray]  # `Index.lists_of`

    @cached_property
    def by_list(self) -> tuple[np.ndarray, np.ndarray]:
        """The ids by list, int64 [s], and where each of `lists` begins, int64 [L + 1]."""
        list_of = self.lists_of(self.ids)
        order = np.argsort(list_of, kind="stable")
        starts = np.searchsorted(list_of[order], self.lists)
        return self.ids[order], np.append(starts, len(order))


class Index:
    """A trained and populated FAISS index, its plan and the ids it covers.

    Searching is thread-safe and does not modify the index. On a GPU, searches are serialised.
    """

    missing: Set[int] = frozenset()  # shards that have not answered in this `session`
    _gpu: Any = None

    def __init__(
        self, plan: Plan, ids: np.ndarray, index: Any, gpu: Any = None, shards: Sequence[Path] = ()
    ) -> None:
        """ids: int64 [n], ascending. index: a faiss.Index with these ids. gpu: its copy on a GPU.

        shards: the files that it was read from, if they are several.
        """
        self.plan = plan
        self.ids = ids
        self.faiss = index
        self.shards = shards
        self._gpu = gpu
        self._turn = threading.Lock()

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU searches it."""
        return self._gpu is not None

    def tuned(self, **changes: Any) -> Index:
        """Return a shallow copy whose plan has these fields replaced."""
        other = copy(self)
        other.plan = replace(self.plan, **changes)
        return other

    def session(self) -> Index:
        """Return what one search should use, to know what it has missed."""
        return self

    def covers(self, ids: np.ndarray) -> np.ndarray:
        """Return which of `ids` are in the index: bool, of the shape of `ids`."""
        return is_in(ids, self.ids)

    def lists_of(self, ids: np.ndarray) -> np.ndarray:
        """Return the inverted list of each of `ids`, int64 [n], -1 for one outside the index: int32 [n]."""
        if np.array_equal(ids, self.ids):
            return self.list_of
        rows = nearest_rows(ids, self.ids)
        return np.where(self.ids[rows] == ids, self.list_of[rows], np.int32(-1))

    def subset(self, ids: np.ndarray, lists: np.ndarray | None = None) -> Subset:
        """Prepare searches restricted to `ids` (int64, ascending); ids outside the index are dropped.

        lists: `lists_of(ids)`, if it is known.
        """
        if lists is None:
            lists = self.lists_of(ids)
        covered = lists >= 0
        if not covered.all():
            ids, lists = ids[covered], lists[covered]
        lists = np.flatnonzero(np.bincount(lists, minlength=len(self._sizes)))
        return self.restricted(ids, lists, float(len(ids) / max(self._sizes[lists].sum(), 1)))

    def restricted(self, ids: np.ndarray, lists: np.ndarray, share: float) -> Subset:
        """Prepare searches restricted to `ids`, in these lists, of whose entries they are a `share`."""
        faiss = load_faiss()
        bits = np.zeros(int(ids[-1:].max(initial=0)) + 1, bool)
        bits[ids] = True
        selector = faiss.IDSelectorBitmap(np.packbits(bits, bitorder="little"))
        quantizer = faiss.IndexFlat(self._ivf.d, self.faiss.metric_type)
        quantizer.add(self._centroids[lists])
        return Subset(ids, selector, lists, quantizer, share, self.lists_of)

    def members(self, query: np.ndarray, subset: Subset, nprobe: int | None = None) -> np.ndarray:
        """Return the ids of `subset` in the lists that its search visits: int64, ascending.

        query: float32 [1, D], a unit row. nprobe: as for `search`.
        """
        with _single_threaded():
            _, rows = self._nearest_lists(self._rotated(query), subset, self._probed(subset, nprobe))
        ids, starts = subset.by_list
        first, counts = starts[rows[0]], np.diff(starts)[rows[0]]
        ends = np.cumsum(counts)
        places = np.arange(ends[-1]) + np.repeat(first - ends + counts, counts)
        return np.sort(ids[places])

    def reads(self, subset: Subset, nprobe: int | None = None) -> float:
        """Return how many codes a search of `subset` compares, on average. nprobe: as for `search`."""
        codes = len(subset.ids) / subset.share
        return codes * self._probed(subset, nprobe) / len(subset.lists)

    def _probed(self, subset: Subset, nprobe: int | None) -> int:
        """How many lists a search of `subset` visits."""
        growth = max(subset.share, 1e-6) ** -self.plan.growth
        return min(math.ceil((nprobe or self.plan.nprobe) * growth), len(subset.lists))

    def candidates(self, k: int) -> int:
        """Return how many candidates to request and re-rank for the k best, filtered or not."""
        return k * self.plan.refine

    def error_of(self, vectors: np.ndarray) -> float:
        """Return the mean squared distance of vectors, float32 [n, D], to their list centroids.

        The codes encode these residuals: as they grow, the codes lose accuracy.
        """
        sample = np.asarray(vectors, np.float32)[:: -(-len(vectors) // MEASURED)]
        x = self._rotated(sample)
        nearest = self._ivf.quantizer.search(x, 1)[1][:, 0]
        back = self._centroids[nearest]
        for transform in reversed(self._transforms):
            back = transform.reverse_transform(back)
        return float(((sample - back) ** 2).sum(axis=1).mean())

    def search(
        self,
        queries: np.ndarray,
        k: int,
        *,
        allowed: Subset | np.ndarray | None = None,
        nprobe: int | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return up to k candidates per query; request `candidates(k)` and `rerank` them.

        queries: float32 [Q, D], unit rows. allowed: restricts results to these ids: int64, or a reusable
        `subset`. nprobe: overrides the plan's; selective filters visit more lists.
        Returns (scores float32 [Q, k], ids int64 [Q, k]): approximate cosines, best first, padded with -inf
        and -1. Results may include removed items; drop ids that the snapshot does not contain.

        Raises UsageError if the recipe does not support the search.
        """
        subset = self.subset(allowed) if isinstance(allowed, np.ndarray) else allowed
        return self.search_each(queries, k, [(subset, nprobe)])[0]

    def search_each(
        self, queries: np.ndarray, k: int, subsets: Sequence[tuple[Subset | None, int | None]]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """`search` for each pair of subset and nprobe."""
        results = self.visit(queries, k, subsets)
        for result, (subset, _) in zip(results, subsets, strict=True):
            available = min(k, len(self.ids) if subset is None else len(subset.ids))
            short = (result[1][:, available - 1] < 0).nonzero()[0]
            if available and len(short):  # the visited lists hold fewer than k: visit all
                (full,) = self.visit(queries[short], k, [(subset, self.plan.lists)])
                for target, rows in zip(result, full, strict=True):
                    target[short] = rows
        return results

    def visit(
        self, queries: np.ndarray, k: int, subsets: Sequence[tuple[Subset | None, int | None]]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """`search_each` in nprobe lists, also where these hold fewer than k."""
        queries = np.ascontiguousarray(queries, np.float32)
        count = min(threads(), len(queries) // LEAST_APART)
        if count <= 1:
            with _single_threaded():
                return self._visit_each(queries, k, subsets)
        if self._gpu is not None:
            return self._visit_each(queries, k, subsets)
        return self._visit_apart(np.array_split(queries, count), k, subsets)

    def _visit_apart(
        self, parts: Sequence[np.ndarray], k: int, subsets: Sequence[tuple[Subset | None, int | None]]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Parts of the queries in threads of their own."""
        found: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}

        def work(todo: Iterator[tuple[int, np.ndarray]]) -> None:
            with _single_threaded():
                for at, queries in todo:
                    found[at] = self._visit_each(queries, k, subsets)

        share(work, enumerate(parts))
        of_subsets = zip(*(found[at] for at in range(len(parts))), strict=True)
        pairs = (zip(*each, strict=True) for each in of_subsets)
        return [(np.concatenate(scores), np.concatenate(ids)) for scores, ids in pairs]

    def _visit_each(
        self, queries: np.ndarray, k: int, subsets: Sequence[tuple[Subset | None, int | None]]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        rotated = cache(lambda: self._rotated(queries))
        try:
            return [
                self._visit(queries, rotated, k, nprobe or self.plan.nprobe, subset)
                for subset, nprobe in subsets
            ]
        except RuntimeError as error:
            reason = str(error).rsplit(": ", 1)[-1]
            raise UsageError(f"index {self.plan.recipe}: {reason}; rebuild it with another recipe") from error

    def _visit(
        self,
        queries: np.ndarray,
        rotated: Callable[[], np.ndarray],
        k: int,
        nprobe: int,
        subset: Subset | None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k best, those of equal scores by id."""
        fetch = k + TIES
        while True:
            found = self._on_gpu(queries, fetch, nprobe, subset)
            if found is None:
                found = self._on_cpu(queries, rotated, fetch, nprobe, subset)
            scores, ids = found
            is_tied = scores[:, -1] == scores[:, k - 1]
            if fetch >= MOST_TIES * k or not is_tied.any() or (ids[is_tied, -1] < 0).all():
                return best_of(scores, ids, k)
            fetch = min(4 * fetch, MOST_TIES * k)

    def cosines(
        self, queries: np.ndarray, ids: np.ndarray, vectors: Callable[[np.ndarray], np.ndarray]
    ) -> np.ndarray:
        """See `index.cosines`."""
        return cosines(queries, ids, vectors)

    def save(self, folder: Path) -> None:
        """Write `plan.json` and FAISS files, without fsync: `Writer.set_index` does that. Raises OSError."""
        for shard in self.shards:  # which never change
            try:
                (folder / shard.name).hardlink_to(shard)
            except OSError:
                shutil.copyfile(shard, folder / shard.name)
        if not self.shards:
            write(self.faiss, folder / INDEX)
        self.save_plan(folder)

    def save_plan(self, folder: Path) -> None:
        """Write `plan.json` only, next to unchanged FAISS files."""
        Listing(folder, self.plan, self.ids, len(self.shards)).write()

    def stored(self) -> np.ndarray:
        """Return the ids stored in the inverted lists: int64 [n], ascending."""
        return np.sort(np.concatenate(self._lists()))

    @staticmethod
    def load(folder: Path, sha256: Mapping[str, str] | None = None, shard: int | None = None) -> Index:
        """Load an index from `folder`, to a GPU if it was built on one and one is available.

        Not memory-mapped: FAISS 1.15 copies 4-bit codes out of a map, which would double their memory.
        sha256: file name -> digest, verified first. A digest does not make a file trustworthy, so nothing is
        allocated that the size of the FAISS files does not justify.
        shard: only this one of several, by number; None reads all of them as one index.
        Raises StoreError if the index is missing or damaged.
        """
        faiss = load_faiss()

        digests = sha256 or {}

        def checked(name: str) -> str:
            if name in digests and digest(folder / name) != digests[name]:
                raise ValueError(f"{name} has a wrong sha256")
            return str(folder / name)

        try:
            checked(PLAN)
            listing = Listing.read(folder)
            plan, parts = listing.plan, range(len(listing.files)) if shard is None else [shard]
            files = [checked(listing.files[part].name) for part in parts]
            if hasattr(faiss, "set_deserialization_vector_byte_limit"):  # FAISS 1.15
                bytes = max(Path(file).stat().st_size for file in files)
                faiss.set_deserialization_vector_byte_limit(bytes + min(TABLES * bytes, MOST_TABLES))
            index = joined(map(faiss.read_index, files))
            ids = listing.ids if shard is None else listing.parts[shard]
            _check_fits(index, plan, len(ids))
            gpu = copy_for(plan.device, index)
        except (OSError, ValueError, LookupError, TypeError, RuntimeError, MemoryError) as error:
            reason = str(error).rsplit("Error: ", 1)[-1] or "not enough memory"
            raise StoreError(f"cannot read the index in {folder}: {reason}; build it again") from error
        return Index(plan, ids, index, gpu, listing.files if listing.shards and shard is None else ())

    def _on_gpu(
        self, queries: np.ndarray, k: int, nprobe: int, subset: Subset | None
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Return None beyond the GPU's limits. It lacks selectors, so overfetch and filter afterwards."""
        fetch = k if subset is None else OVERFETCH * k * len(self.ids) // max(len(subset.ids), 1)
        if self._gpu is None or max(fetch, nprobe) > GPU_MOST:
            return None
        with self._turn:
            distances, ids = self._gpu.search(queries, fetch, params=_parameters(self._gpu, nprobe))
        scores = self._cosines(distances, ids)
        if subset is None:
            return scores, ids
        allowed = is_in(ids, subset.ids)
        order = np.argsort(~allowed, axis=1, kind="stable")[:, :k]
        scores, ids = np.take_along_axis(scores, order, 1), np.take_along_axis(ids, order, 1)
        excluded = ~np.take_along_axis(allowed, order, 1)
        scores[excluded], ids[excluded] = -np.inf, -1
        available = min(k, len(subset.ids))
        return None if ((ids >= 0).sum(axis=1) < available).any() else (scores, ids)

    def _on_cpu(
        self,
        queries: np.ndarray,
        rotated: Callable[[], np.ndarray],
        k: int,
        nprobe: int,
        subset: Subset | None,
    ) -> tuple[np.ndarray, np.ndarray]:
        # The C functions: argument checks in FAISS's Python wrappers take a third of the time of one query
        Q, pointer = len(queries), self._swig_ptr
        if subset is None:
            distances, ids = np.empty((Q, k), np.float32), np.empty((Q, k), np.int64)
            arrays = (pointer(array) for array in (distances, ids))
            self.faiss.search_c(Q, pointer(queries), k, *arrays, self._parameters(nprobe))
            return self._cosines(distances, ids), ids
        if not len(subset.lists):
            return np.full((Q, k), -np.inf, np.float32), np.full((Q, k), -1, np.int64)
        # Probe only lists that contain allowed ids: in a cross-modal search the nearest lists often contain
        # none (recall 0.00 instead of 0.95, measured)
        x = rotated()
        coarse, rows = self._nearest_lists(x, subset, self._probed(subset, nprobe))
        lists, selector = subset.lists[rows], subset.selector if subset.share < 1 else None
        count = min(threads(), int(self.reads(subset, nprobe) / LEAST_CODES)) if Q < LEAST_APART else 1
        if count <= 1:
            return self._among(x, lists, coarse, k, selector)

        def visit(parts: Iterator[slice]) -> list[tuple[np.ndarray, np.ndarray]]:
            with _single_threaded():
                return [self._among(x, lists[:, part], coarse[:, part], k, selector) for part in parts]

        found = chain(*share(visit, (slice(at, None, count) for at in range(count))))
        scores, ids = (np.concatenate(each, axis=1) for each in zip(*found, strict=True))
        return best_of(scores, ids, k)

    def _nearest_lists(self, x: np.ndarray, subset: Subset, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Distances, float32 [Q, count], and positions in `subset.lists`, int64. x: rotated queries."""
        Q, pointer = len(x), self._swig_ptr
        coarse, rows = np.empty((Q, count), np.float32), np.empty((Q, count), np.int64)
        subset.quantizer.search_c(Q, pointer(x), count, pointer(coarse), pointer(rows))
        return coarse, rows

    def _among(
        self, x: np.ndarray, lists: np.ndarray, coarse: np.ndarray, k: int, selector: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        """lists, coarse: those to visit, int64 [Q, n], and their distances, float32 [Q, n]."""
        Q, pointer = len(x), self._swig_ptr
        distances, ids = np.empty((Q, k), np.float32), np.empty((Q, k), np.int64)
        arrays = np.ascontiguousarray(lists), np.ascontiguousarray(coarse), distances, ids
        params = self._list_parameters(lists.shape[1], selector)
        self._ivf.search_preassigned_c(Q, pointer(x), k, *map(pointer, arrays), False, params)
        return self._cosines(distances, ids), ids

    def _cosines(self, distances: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """Convert distances to cosines: |a - b|^2 = 2 - 2 cos for unit vectors."""
        cosines = distances if self._by_product else 1 - distances / 2
        cosines[ids < 0] = -np.inf
        return cosines

    @cached_property
    def _by_product(self) -> bool:
        """Whether the metric is inner product, as in indexes of earlier releases."""
        return self.faiss.metric_type == load_faiss().METRIC_INNER_PRODUCT

    @cached_property
    def _transforms(self) -> list[Any]:
        faiss = load_faiss()
        if not isinstance(self.faiss, faiss.IndexPreTransform):
            return []
        chain = self.faiss.chain
        return [faiss.downcast_VectorTransform(chain.at(at)) for at in range(chain.size())]

    @cached_property
    def _ivf(self) -> Any:
        return load_faiss().extract_index_ivf(self.faiss)

    @cached_property
    def _swig_ptr(self) -> Any:
        return load_faiss().swig_ptr

    @cached_property
    def _parameters(self) -> Callable[[int], Any]:
        """Search parameters by nprobe, which searches share."""
        return cache(partial(_parameters, self.faiss))

    @cached_property
    def _list_parameters(self) -> Callable[[int, Any], Any]:
        """Factory of SearchParametersIVF from nprobe and an optional selector."""
        kind = load_faiss().SearchParametersIVF
        return lambda nprobe, selector: kind(nprobe=nprobe, sel=selector) if selector else kind(nprobe=nprobe)

    def _rotated(self, x: np.ndarray) -> np.ndarray:
        x = np.ascontiguousarray(x, np.float32)
        for transform in self._transforms:
            x = transform.apply(x)
        return x

    def _lists(self) -> list[np.ndarray]:
        """Return the ids in each inverted list."""
        faiss = load_faiss()
        lists = self._ivf.invlists
        sizes = [lists.list_size(i) for i in range(lists.nlist)]
        none = np.empty(0, np.int64)
        return [faiss.rev_swig_ptr(lists.get_ids(i), size) if size else none for i, size in enumerate(sizes)]

    @cached_property
    def _sizes(self) -> np.ndarray:
        return np.array([len(ids) for ids in self._lists()])

    @cached_property
    def list_of(self) -> np.ndarray:
        """Inverted list of each of `ids`: int32 [n]."""
        list_of = np.zeros(len(self.ids), np.int32)
        lists = self._lists()
        list_of[nearest_rows(np.concatenate(lists), self.ids)] = np.repeat(np.arange(len(lists)), self._sizes)
        return list_of

    @cached_property
    def _centroids(self) -> np.ndarray:
        """List centroids: float32 [lists, dimensions after the rotation]."""
        return self._ivf.quantizer.reconstruct_n(0, self.plan.lists)


def probes_of(subset: Subset, together: Sequence[Subset], nprobe: float) -> int:
    """Return how many lists to visit of a subset, if `together` all subsets are given nprobe lists.

    Each modality has lists of its own. The balanced ten of a million items are so found almost as well as
    their ten nearest; as many lists for each modality take three times as long (measured).
    """
    share = len(subset.lists) / sum(len(other.lists) for other in together)
    return max(math.ceil(share * nprobe), LEAST_PROBED)


def promising(scores: np.ndarray, widths: Sequence[int], k: int, candidates: int) -> np.ndarray | None:
    """Return the places of candidates to re-rank for the k best of several subsets; None for all.

    scores: float32 [Q, sum(widths)], of the same scale, best first in each subset. candidates: of one search.
    There are KEPT times as many, and at least k / 2 of each subset: the codes of one may be off by more than
    those of another. That loses 0.002 of recall against a re-rank of all (measured). Returns int64 [Q, c].
    """
    least = -(-k // 2)
    keep = max(int(KEPT * candidates), least * len(widths))
    if keep >= scores.shape[1]:
        return None
    scores = scores.copy()
    for start, width in zip(accumulate(widths, initial=0), widths, strict=False):
        scores[:, start : start + min(width, least)] = np.inf
    return np.argpartition(-scores, keep - 1, axis=1)[:, :keep]


def best_of(scores: np.ndarray, ids: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the k best of each row, those of equal scores by id; float32 and int64 [Q, c]."""
    order = np.lexsort((ids, -scores), axis=1)[:, :k]
    rows = np.arange(len(ids))[:, None]  # `take_along_axis` takes longer for one query than the sort
    return scores[rows, order], ids[rows, order]


def _check_fits(index: Any, plan: Plan, n: int) -> None:
    """Raise ValueError unless `index` has n vectors and the structure of `plan`."""
    ivf = load_faiss().try_extract_index_ivf(index)
    lists = ivf.nlist if ivf is not None and ivf.quantizer.ntotal == ivf.nlist else None
    if (index.ntotal, index.d, lists) != (n, plan.dim, plan.lists):
        raise ValueError(
            f"it has {index.ntotal:,} vectors of {index.d:,} dimensions in {lists} lists, expected {n:,} of "
            f"{plan.dim:,} in {plan.lists:,}"
        )


@contextmanager
def _single_threaded() -> Iterator[None]:
    """Run FAISS single-threaded within the block; the OpenMP setting is per calling thread.

    Its own threads wait for each other several times in a search: beside another process two queries take
    8 ms instead of 0.6 (measured).
    """
    faiss = load_faiss()
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _parameters(index: Any, nprobe: int) -> Any:
    """Return search parameters nested like the index, so that a shared index is never modified."""
    faiss = load_faiss()

    if isinstance(faiss.downcast_index(index), faiss.IndexPreTransform):
        inner = faiss.downcast_index(index).index
        return faiss.SearchParametersPreTransform(index_params=_parameters(inner, nprobe))
    return faiss.SearchParametersIVF(nprobe=nprobe)
