"""What `benchmarks.search` compares: xsearch and what people would use instead, each behind one face.

Packages are imported in `__init__`, so that their own memory is not counted as that of an index.
"""

from __future__ import annotations

import itertools
import os
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from benchmarks.vectors import ITEM_KINDS, SHELVES, Data, K

if TYPE_CHECKING:
    from xsearch.query import Hits

__all__ = ["ON_GPU", "SYSTEMS", "Setting", "System"]

Setting = tuple[int, ...]

STEPS = tuple(step for i in range(3, 13) for step in (2**i, 3 * 2 ** (i - 1)))  # 8, 12, 16, 24 ... 6,144
PROBES = STEPS[:-2]  # lists to visit, 8 to 3,072
DEPTHS = STEPS[2:-1]  # ef of a graph, 16 to 4,096
PART = 100  # queries or rows in a message to a database


class System(Protocol):
    """One process builds, another opens and searches. The vectors are searched by inner product."""

    knobs: tuple[str, ...]  # what a setting is made of
    re_ranks: str  # the mapped file of vectors that only a re-rank reads, or ""

    def build(self, folder: Path, data: Data) -> None: ...

    def open(self, folder: Path, data: Data) -> str:
        """Returns what it is, in a few words."""

    def settings(self) -> list[Setting]:
        """From cheap to dear."""

    def search(self, queries: np.ndarray, setting: Setting, limit: int = SHELVES) -> np.ndarray:
        """queries: float32 [Q, dim]. limit: only items with shelf < limit.

        Returns ids int64 [Q, K], -1 for none. Raises NotImplementedError where it has no filter.
        """


class Inner:
    """A collection on the disk with the index that `ingest` derives: its index and re-rank alone, ids only.

    A filter is given as the items that pass, found and made ready before, by `where`.
    """

    knobs, re_ranks = ("nprobe", "refine"), "vectors.arrow"
    refines = (3, 4, 6, 8, 16, 32, 64)
    in_hand = 1 << 17  # candidates that are re-ranked at a time: 512 MB of float32

    def __init__(self, threads: int, device: str) -> None:
        import faiss

        import xsearch.derive
        import xsearch.index
        import xsearch.store

        faiss.omp_set_num_threads(threads)
        self._index_module, self._store = xsearch.index, xsearch.store
        self._derive = xsearch.derive.derive

    def build(self, folder: Path, data: Data) -> None:
        import pyarrow as pa

        from xsearch.types import Fingerprint

        store = self._store.Store.create(folder / "collection", Fingerprint("made up", "0", "1", data.dim))
        with store.writer() as writer:
            for ids, vectors in data.blocks():
                kinds = np.array(ITEM_KINDS)[data.kinds[ids]]
                paths = [f"{id:09}" for id in ids]
                items = {"path": paths, "modality": kinds, "shelf": data.shelves[ids]}
                writer.add(pa.table(items), vectors)
                writer.commit()
            self._derive(writer)

    def open(self, folder: Path, data: Data) -> str:
        snapshot = self._snapshot = self._store.Store.open(folder / "collection").snapshot()
        self._index = None
        if snapshot.index_path:
            self._index = self._index_module.Index.load(snapshot.index_path, snapshot.manifest.index_digests)
        self._allowed = cache(self.where)
        return self._index.plan.recipe if self._index else "exact scan"

    def planned(self) -> Setting:
        """What a search uses by default."""
        return () if self._index is None else (self._index.plan.nprobe, self._index.plan.refine)

    def settings(self) -> list[Setting]:
        if self._index is None:
            return [()]
        probes = [nprobe for nprobe in PROBES if nprobe <= self._index.plan.lists]
        return list(itertools.product(probes, self.refines))

    def search(self, queries: np.ndarray, setting: Setting, limit: int = SHELVES) -> np.ndarray:
        allowed = None if limit == SHELVES else self._allowed(limit)
        if self._index is None or isinstance(allowed, np.ndarray):
            return self._index_module.exact(queries, self._snapshot.blocks(allowed), K)[1]
        nprobe, refine = setting
        _, ids = self._index.search(queries, K * refine, allowed=allowed, nprobe=nprobe)
        step = self.in_hand // (K * refine)
        parts = [slice(start, start + step) for start in range(0, len(queries), step)]
        rerank, vectors = self._index_module.rerank, self._snapshot.stored
        return np.concatenate([rerank(queries[part], ids[part], vectors, K)[1] for part in parts])

    def where(self, limit: int) -> Any:
        """What passes, as a user asks for it: ids where they are few or there is no index."""
        ids = self._snapshot.select(f"shelf < {limit}")
        few = self._index is None or len(ids) <= self._index_module.SCAN + K * self._index.plan.refine
        return ids if few else self._index.subset(ids)


class Ours(Inner):
    """The same through the public search, by cosine as the others do it: hits with all their metadata."""

    def open(self, folder: Path, data: Data) -> str:
        from xsearch.query import Embedded, View, search_many, vector

        about = super().open(folder, data)
        self._view = cache(
            lambda *setting: View(
                self._snapshot,
                self._index and self._index.tuned(**dict(zip(self.knobs, setting, strict=True))),
            )
        )
        self._embedded = lambda row: Embedded(vector(row, "image"), row, row[None], 1.0)
        self._search_many = search_many
        self._groups, self._asked = View(self._snapshot, self._index).groups, itertools.count()
        return about

    def search(self, queries: np.ndarray, setting: Setting, limit: int = SHELVES) -> np.ndarray:
        where = None if limit == SHELVES else f"shelf < {limit}"
        asked = [self._embedded(row) for row in queries]
        answers = self._search_many(self._view(*setting), asked, top=K, rank="cosine", where=where)
        ids = np.full((len(queries), K), -1, np.int64)
        for row, hits in zip(ids, answers, strict=True):
            row[: len(hits)] = self.ids_of(hits)
        return ids

    def ids_of(self, hits: Hits) -> Any:
        return [hit.id for hit in hits]

    def where(self, limit: int) -> Any:
        """What passes, as the first search with a filter finds it; a space more makes it another filter."""
        return self._groups(f"shelf < {limit}" + " " * next(self._asked), None, apart=False)


class Arrays(Ours):
    """The same answers, of which only ids and scores are read, which is all that the others give."""

    def ids_of(self, hits: Hits) -> Any:
        return hits.ids


class Hnswlib:
    """M 16, efConstruction 200. Its filter is a Python function, for which it asks for one thread."""

    knobs, re_ranks = ("ef",), ""

    def __init__(self, threads: int, device: str) -> None:
        import hnswlib

        self._make, self._threads = hnswlib.Index, threads

    def build(self, folder: Path, data: Data) -> None:
        index = self._make("ip", data.dim)
        index.init_index(data.n, M=16, ef_construction=200, random_seed=100)  # its own default seed
        for ids, vectors in data.blocks():
            index.add_items(vectors.astype(np.float32), ids, num_threads=self._threads)
        index.save_index(str(folder / "index.hnsw"))

    def open(self, folder: Path, data: Data) -> str:
        self._index = self._make("ip", data.dim)
        self._index.load_index(str(folder / "index.hnsw"))
        self._passes = cache(lambda limit: ((data.shelves < limit).tolist(), (data.shelves < limit).sum()))
        return "HNSW M16 efC200, float32"

    def settings(self) -> list[Setting]:
        return [(ef,) for ef in DEPTHS]

    def search(self, queries: np.ndarray, setting: Setting, limit: int = SHELVES) -> np.ndarray:
        self._index.set_ef(setting[0])
        if limit == SHELVES:
            return self._index.knn_query(queries, K, num_threads=self._threads)[0].astype(np.int64)
        out = np.full((len(queries), K), -1, np.int64)
        passes, count = self._passes(limit)
        k = min(K, count)
        for query, row in zip(queries, out, strict=True):
            with suppress(RuntimeError):  # what it raises where it finds fewer than k
                row[:k] = self._index.knn_query(query, k, num_threads=1, filter=passes.__getitem__)[0][0]
        return out


class Usearch:
    """Its defaults (connectivity 16, expansion_add 128) with float16. Its Python has no filter."""

    knobs, re_ranks = ("expansion",), ""

    def __init__(self, threads: int, device: str) -> None:
        from usearch.index import Index

        self._make, self._threads = Index, threads

    def build(self, folder: Path, data: Data) -> None:
        index = self._make(ndim=data.dim, metric="ip", dtype="f16")
        for ids, vectors in data.blocks():
            index.add(ids, vectors, threads=self._threads)
        index.save(str(folder / "index.usearch"))

    def open(self, folder: Path, data: Data) -> str:
        self._index = self._make.restore(str(folder / "index.usearch"))
        return "HNSW 16, float16"

    def settings(self) -> list[Setting]:
        return [(depth,) for depth in DEPTHS]

    def search(self, queries: np.ndarray, setting: Setting, limit: int = SHELVES) -> np.ndarray:
        if limit < SHELVES:
            raise NotImplementedError
        self._index.expansion_search = setting[0]
        found = self._index.search(queries, K, threads=self._threads)
        return found.keys.reshape(len(queries), -1).astype(np.int64)


class Autofaiss:
    """What autofaiss 2.18 picks with memory for it: HNSW32, below 10,000 vectors HNSW15, efConstruction 40.

    Made with FAISS itself: the package asks for numpy 1. Its own choice of efSearch is one for 10 ms.
    """

    knobs, re_ranks = ("ef",), ""

    def __init__(self, threads: int, device: str) -> None:
        import faiss

        faiss.omp_set_num_threads(threads)
        self._faiss: Any = faiss

    def build(self, folder: Path, data: Data) -> None:
        key = "HNSW32" if data.n >= 10_000 else "HNSW15"
        index = self._faiss.index_factory(data.dim, key, self._faiss.METRIC_INNER_PRODUCT)
        for _, vectors in data.blocks():
            index.add(vectors.astype(np.float32))
        self._faiss.write_index(index, str(folder / "index.faiss"))

    def open(self, folder: Path, data: Data) -> str:
        self._index = self._faiss.read_index(str(folder / "index.faiss"))

        def selector(limit: int) -> Any:
            return self._faiss.IDSelectorBitmap(np.packbits(data.shelves < limit, bitorder="little"))

        self._selector = cache(selector)
        return f"HNSW{self._index.hnsw.nb_neighbors(1)} efC{self._index.hnsw.efConstruction}, float32"

    def settings(self) -> list[Setting]:
        return [(ef,) for ef in DEPTHS]

    def search(self, queries: np.ndarray, setting: Setting, limit: int = SHELVES) -> np.ndarray:
        selector = None if limit == SHELVES else self._selector(limit)
        how = self._faiss.SearchParametersHNSW(efSearch=setting[0], sel=selector)
        return self._index.search(queries, K, params=how)[1]


class LanceDB:
    """IVF-PQ with sizes of its own choice, refined with its vectors; a scalar index on the shelf.

    These are float32: with float16 it trains 8 times as long (measured) and answers no sooner.
    """

    knobs, re_ranks = ("nprobes", "refine"), ""

    def __init__(self, threads: int, device: str) -> None:
        os.environ.setdefault("RUST_LOG", "error")
        os.environ["LANCE_CPU_THREADS"] = str(threads)
        import lancedb

        self._connect = lancedb.connect

    def build(self, folder: Path, data: Data) -> None:
        import pyarrow as pa
        from lancedb.index import BTree, IvfPq

        def tables() -> Any:
            for ids, vectors in data.blocks():
                rows = pa.FixedSizeListArray.from_arrays(vectors.astype(np.float32).ravel(), data.dim)
                yield pa.record_batch({"id": ids, "shelf": data.shelves[ids], "vector": rows})

        vector = pa.list_(pa.float32(), data.dim)
        schema = pa.schema({"id": pa.int64(), "shelf": pa.int16(), "vector": vector})
        table = self._connect(folder / "lance").create_table("items", tables(), schema=schema)
        table.create_index("vector", config=IvfPq(distance_type="dot"))
        table.create_index("shelf", config=BTree())

    def open(self, folder: Path, data: Data) -> str:
        self._table = self._connect(folder / "lance").open_table("items")
        return "IVF-PQ, refined"

    def settings(self) -> list[Setting]:
        return list(itertools.product((4, 8, 16, 32, 64, 128, 256), (4, 16, 64)))

    def search(self, queries: np.ndarray, setting: Setting, limit: int = SHELVES) -> np.ndarray:
        out = np.full((len(queries), K), -1, np.int64)
        for start in range(0, len(queries), PART):
            part = queries[start : start + PART]
            search = self._table.search(part if len(part) > 1 else part[0], vector_column_name="vector")
            search = search.limit(K).nprobes(setting[0]).refine_factor(setting[1]).select(["id", "_distance"])
            if limit < SHELVES:
                search = search.where(f"shelf < {limit}", prefilter=True)
            found = search.to_arrow()
            at = found["query_index"].to_numpy() if len(part) > 1 else np.zeros(len(found), int)
            order = np.argsort(at, kind="stable")
            place = np.arange(len(at)) - np.searchsorted(at[order], at[order])
            out[start + at[order], place] = found["id"].to_numpy()[order]
        return out


class Milvus:
    """Milvus-lite: HNSW M 16, efConstruction 200."""

    knobs, re_ranks = ("ef",), ""

    def __init__(self, threads: int, device: str) -> None:
        import milvus_lite  # noqa: F401
        import pymilvus

        self._milvus = pymilvus

    def build(self, folder: Path, data: Data) -> None:
        types = self._milvus.DataType
        client = self._client(folder)
        schema = client.create_schema()
        schema.add_field("id", types.INT64, is_primary=True)
        schema.add_field("shelf", types.INT32)
        schema.add_field("vector", types.FLOAT_VECTOR, dim=data.dim)
        index = client.prepare_index_params()
        how = {"M": 16, "efConstruction": 200}
        index.add_index("vector", index_type="HNSW", metric_type="IP", params=how)
        client.create_collection("items", schema=schema, index_params=index)
        for ids, vectors in data.blocks():
            rows = [
                {"id": int(id), "shelf": int(data.shelves[id]), "vector": vector}
                for id, vector in zip(ids, vectors.astype(np.float32), strict=True)
            ]
            for start in range(0, len(rows), 10 * PART):
                client.insert("items", rows[start : start + 10 * PART])
        client.flush("items")
        client.load_collection("items")
        client.close()

    def open(self, folder: Path, data: Data) -> str:
        self._items = self._client(folder)
        self._items.load_collection("items")
        return "HNSW M16 efC200, float32"

    def _client(self, folder: Path) -> Any:
        return self._milvus.MilvusClient(str(folder / "milvus.db"))

    def settings(self) -> list[Setting]:
        return [(ef,) for ef in DEPTHS]

    def search(self, queries: np.ndarray, setting: Setting, limit: int = SHELVES) -> np.ndarray:
        out = np.full((len(queries), K), -1, np.int64)
        for start in range(0, len(queries), PART):
            answers = self._items.search(
                "items",
                data=list(queries[start : start + PART]),
                limit=K,
                filter="" if limit == SHELVES else f"shelf < {limit}",
                output_fields=["id"],
                search_params={"params": {"ef": setting[0]}},
            )
            for row, hits in zip(out[start:], answers, strict=False):
                row[: len(hits)] = [hit["id"] for hit in hits]
        return out


class Qdrant:
    """The local mode of its client, which scans everything in numpy."""

    knobs, re_ranks = (), ""

    def __init__(self, threads: int, device: str) -> None:
        import qdrant_client

        self._qdrant = qdrant_client

    def build(self, folder: Path, data: Data) -> None:
        models = self._qdrant.models
        client = self._qdrant.QdrantClient(path=str(folder / "qdrant"))
        params = models.VectorParams(size=data.dim, distance=models.Distance.DOT)
        client.create_collection("items", vectors_config=params)
        for ids, vectors in data.blocks():
            for start in range(0, len(ids), PART):
                few = slice(start, start + PART)
                payloads = [{"shelf": int(shelf)} for shelf in data.shelves[ids[few]]]
                points = models.Batch(ids=ids[few].tolist(), vectors=vectors[few].tolist(), payloads=payloads)
                client.upsert("items", points)
        client.close()

    def open(self, folder: Path, data: Data) -> str:
        self._client = self._qdrant.QdrantClient(path=str(folder / "qdrant"))
        return "exact scan"

    def settings(self) -> list[Setting]:
        return [()]

    def search(self, queries: np.ndarray, setting: Setting, limit: int = SHELVES) -> np.ndarray:
        models = self._qdrant.models
        out = np.full((len(queries), K), -1, np.int64)
        only = None
        if limit < SHELVES:
            only = models.Filter(must=[models.FieldCondition(key="shelf", range=models.Range(lt=limit))])
        for query, row in zip(queries, out, strict=True):
            found = self._client.query_points("items", query=query.tolist(), limit=K, query_filter=only)
            row[: len(found.points)] = [point.id for point in found.points]
        return out


class Svs:
    """Intel's Vamana graph, R 64, whose library refuses its codes on other makers' processors.

    On Intel's: LeanVec of 160 dimensions, LVQ8x8; else float16. Its Python has no filter.
    """

    knobs, re_ranks = ("window",), ""

    def __init__(self, threads: int, device: str) -> None:
        import svs

        self._svs, self._threads = svs, threads
        self._has_codes = "GenuineIntel" in Path("/proc/cpuinfo").read_text()

    def build(self, folder: Path, data: Data) -> None:
        svs = self._svs
        # alpha 0.95: its default for inner products
        graph = svs.VamanaBuildParameters(graph_max_degree=64, window_size=128, alpha=0.95)
        vectors: Any = np.asarray(data.vectors)
        if self._has_codes:
            source = folder / "vectors.fvecs"
            svs.write_vecs(vectors.astype(np.float32), str(source))
            kind = svs.LeanVecKind.lvq8
            loader = svs.VectorDataLoader(str(source), svs.DataType.float32)
            vectors = svs.LeanVecLoader(loader, leanvec_dims=160, primary_kind=kind, secondary_kind=kind)
        index = svs.Vamana.build(graph, vectors, svs.DistanceType.MIP, num_threads=self._threads)
        index.save(*(str(folder / part) for part in ("config", "graph", "data")))
        (folder / "vectors.fvecs").unlink(missing_ok=True)

    def open(self, folder: Path, data: Data) -> str:
        svs, (config, graph, stored) = self._svs, (str(folder / part) for part in ("config", "graph", "data"))
        if self._has_codes:
            loader = svs.LeanVecLoader(stored)
        else:
            loader = svs.VectorDataLoader(stored, svs.DataType.float16)
        self._index = svs.Vamana(
            config, svs.GraphLoader(graph), loader, svs.DistanceType.MIP, num_threads=self._threads
        )
        return "Vamana R64, " + ("LeanVec 160, LVQ8x8" if self._has_codes else "float16")

    def settings(self) -> list[Setting]:
        return [(window,) for window in DEPTHS]

    def search(self, queries: np.ndarray, setting: Setting, limit: int = SHELVES) -> np.ndarray:
        if limit < SHELVES:
            raise NotImplementedError
        if self._index.search_window_size != setting[0]:
            self._index.search_window_size = setting[0]
        return self._index.search(queries, K)[0].astype(np.int64)


class Scann:
    """A tree of 2 sqrt(n) leaves, 4-bit codes for 2 dimensions each, reordered with its float32 vectors.

    `scann-core`, which needs no TensorFlow. It has no filter.
    """

    knobs, re_ranks = ("leaves", "reorder"), ""

    def __init__(self, threads: int, device: str) -> None:
        from scann import scann_ops_pybind

        self._scann, self._threads = scann_ops_pybind, threads

    def build(self, folder: Path, data: Data) -> None:
        leaves = round(2 * data.n**0.5)
        builder = self._scann.builder(np.asarray(data.vectors).astype(np.float32), K, "dot_product")
        tree = builder.set_n_training_threads(self._threads).tree(
            num_leaves=leaves, num_leaves_to_search=leaves // 10, training_sample_size=min(data.n, 250_000)
        )
        # 0.2 is the threshold of its own examples
        searcher = tree.score_ah(2, anisotropic_quantization_threshold=0.2).reorder(100).build()
        (folder / "scann").mkdir()
        searcher.serialize(str(folder / "scann"))

    def open(self, folder: Path, data: Data) -> str:
        self._index = self._scann.load_searcher(str(folder / "scann"))
        self._index.set_num_threads(self._threads)
        self._leaves = round(2 * data.n**0.5)
        return f"tree of {self._leaves:,}, AH2, reordered"

    def settings(self) -> list[Setting]:
        return list(itertools.product([leaves for leaves in PROBES if leaves <= self._leaves], (32, 96, 320)))

    def search(self, queries: np.ndarray, setting: Setting, limit: int = SHELVES) -> np.ndarray:
        if limit < SHELVES:
            raise NotImplementedError
        leaves, reorder = setting
        options = {"leaves_to_search": leaves, "pre_reorder_num_neighbors": reorder}
        if len(queries) == 1:
            ids = self._index.search(queries[0], **options)[0][None]
        else:
            ids = self._index.search_batched_parallel(queries, **options)[0]
        return ids.astype(np.int64)


class OnGpu:
    """FAISS on the first GPU, loaded from what `build` leaves on the disk. A search has no filter."""

    re_ranks = ""

    def __init__(self, threads: int, device: str) -> None:
        import faiss
        import torch

        faiss.omp_set_num_threads(threads)
        self._faiss: Any = faiss
        self._torch = torch
        self._resources = faiss.StandardGpuResources()

    def _scan(self, dim: int) -> Any:
        """An empty Flat index that holds and multiplies float16."""
        config = self._faiss.GpuIndexFlatConfig()
        config.useFloat16 = True
        return self._faiss.GpuIndexFlatIP(self._resources, dim, config)


class FlatGpu(OnGpu):
    """Every vector of the collection in the device's memory as float16, scanned."""

    knobs = ()

    def build(self, folder: Path, data: Data) -> None:
        """There is nothing to build: the vectors are copied to the device, which `open` does too."""
        self.open(folder, data)

    def open(self, folder: Path, data: Data) -> str:
        self._index = self._scan(data.dim)
        for _, vectors in data.blocks():
            self._index.add(vectors.astype(np.float32))
        return "Flat, float16"

    def settings(self) -> list[Setting]:
        return [()]

    def search(self, queries: np.ndarray, setting: Setting, limit: int = SHELVES) -> np.ndarray:
        if limit < SHELVES:
            raise NotImplementedError
        return self._index.search(queries, K)[1]


class IvfPqGpu(OnGpu):
    """IVF-PQ64 with float16 tables; its candidates are re-ranked on the device with the float16 vectors."""

    knobs = ("nprobe", "refine")
    gathered = 1 << 29  # components of candidates at a time: 1 GB of float16
    per_list = 64  # vectors to train on

    def build(self, folder: Path, data: Data) -> None:
        lists = 2 ** round(np.log2(4 * data.n**0.5))
        options = self._faiss.GpuIndexIVFPQConfig()
        options.useFloat16LookupTables = True
        metric = self._faiss.METRIC_INNER_PRODUCT
        index = self._faiss.GpuIndexIVFPQ(self._resources, data.dim, lists, 64, 8, metric, options)
        rows = np.sort(np.random.default_rng(0).permutation(data.n)[: self.per_list * lists])
        index.train(data.vectors[rows].astype(np.float32))
        for _, vectors in data.blocks():
            index.add(vectors.astype(np.float32))
        self._faiss.write_index(self._faiss.index_gpu_to_cpu(index), str(folder / "index.faiss"))

    def open(self, folder: Path, data: Data) -> str:
        options = self._faiss.GpuClonerOptions()
        options.useFloat16 = True
        stored = self._faiss.read_index(str(folder / "index.faiss"))
        self._lists = stored.nlist
        self._index = self._faiss.index_cpu_to_gpu(self._resources, 0, stored, options)
        self._vectors = self._torch.empty((data.n, data.dim), dtype=self._torch.float16, device="cuda")
        for ids, vectors in data.blocks():
            self._vectors[ids[0] : ids[-1] + 1] = self._torch.from_numpy(vectors).cuda()
        return f"IVF{self._lists},PQ64, re-ranked on the device"

    def settings(self) -> list[Setting]:
        probes = [nprobe for nprobe in PROBES if nprobe <= min(self._lists, 2048)]
        return list(itertools.product(probes, (4, 8, 16, 32, 64)))

    def search(self, queries: np.ndarray, setting: Setting, limit: int = SHELVES) -> np.ndarray:
        if limit < SHELVES:
            raise NotImplementedError
        nprobe, refine = setting
        how = self._faiss.SearchParametersIVF(nprobe=nprobe)
        _, found = self._index.search(queries, K * refine, params=how)
        out = np.empty((len(queries), K), np.int64)
        step = max(self.gathered // (K * refine * queries.shape[1]), 1)
        for start in range(0, len(queries), step):
            ids = self._torch.from_numpy(found[start : start + step]).cuda()  # [b, c]
            query = self._torch.from_numpy(queries[start : start + step]).cuda().half()  # [b, dim]
            candidates = self._vectors[ids.clamp(min=0)]  # [b, c, dim]
            scores = (candidates @ query.unsqueeze(2)).squeeze(2).float()  # [b, c]
            scores[ids < 0] = -self._torch.inf
            best = scores.topk(K).indices
            out[start : start + step] = ids.gather(1, best).cpu().numpy()
        return out


SYSTEMS: dict[str, type] = {
    "xsearch": Ours,
    "xsearch, ids and scores": Arrays,
    "xsearch, index alone": Inner,
    "hnswlib": Hnswlib,
    "usearch": Usearch,
    "svs": Svs,
    "scann": Scann,
    "lancedb": LanceDB,
    "autofaiss": Autofaiss,
    "milvus-lite": Milvus,
    "qdrant-local": Qdrant,
}
ON_GPU: dict[str, type] = {"xsearch": Ours, "xsearch, index alone": Inner, "ivfpq": IvfPqGpu, "flat": FlatGpu}
