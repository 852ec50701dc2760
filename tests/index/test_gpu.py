"""The arithmetic of what a GPU can hold; that there is none is no reason not to know."""

from __future__ import annotations

import faiss
import numpy as np
import pytest

from xsearch.errors import UsageError
from xsearch.index import gpu, make_plan
from xsearch.index.gpu import GPU_SUB_DIMS, GPU_SUBS, copy_for, obstacle, to_gpu

GB = 10**9


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, None),
        ({"sub": 63, "dim": 63 * 16}, "63 quantisers"),
        ({"sub": 96, "dim": 1024}, "1024 dimensions in 96 parts"),
        ({"sub": 16, "dim": 16 * 5}, "80 dimensions in 16 parts"),
        ({"sub": 96, "dim": 96 * 8}, None),
        ({"sub": 48, "dim": 96, "float16": False}, None),
        ({"sub": 56, "dim": 112, "float16": False}, "without float16"),
        ({"n": 10**9}, "73.6 GB needed, 16.0 GB free"),
        ({"free": 1 * GB}, "free"),
    ],
)
def test_what_a_gpu_cannot_hold(options, problem):
    baseline = {"n": 10**6, "dim": 1024, "sub": 64, "lists": 2048, "free": 16 * GB}
    result = obstacle(**(baseline | options))
    assert (result is None) if problem is None else (problem in result)


@pytest.fixture
def one_gpu(monkeypatch):
    """FAISS sees one of 16 GB."""
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1)
    monkeypatch.setattr(gpu, "free_bytes", lambda: 16 * GB)


@pytest.mark.parametrize("dim", [1024, 768, 256, 100, 96, 7])
def test_the_plan_for_a_gpu_keeps_its_rules(one_gpu, dim):
    plan = make_plan(100_000, dim)
    *rotation, lists, codes = plan.recipe.split(",")
    kept = int(rotation[0].removeprefix("PCAR")) if rotation else dim
    sub = int(codes.removeprefix("PQ"))
    assert (plan.device, lists) == ("cuda", "IVF1024")
    assert sub in GPU_SUBS
    assert kept // sub in GPU_SUB_DIMS
    assert kept % sub == 0
    assert kept <= dim
    assert plan.nprobe <= gpu.GPU_MOST


def test_a_gpu_that_is_too_small_is_said(one_gpu):
    plan = make_plan(10**9, 1024)
    assert plan.device == "cpu"
    assert "the GPU cannot hold it (" in plan.why
    assert "16.0 GB free" in plan.why
    with pytest.raises(UsageError, match=r"device cuda: .*16\.0 GB free"):
        make_plan(10**9, 1024, device="cuda")
    assert make_plan(10**9, 1024, device="cpu").why.count("GPU") == 0


@pytest.mark.skipif(not hasattr(faiss, "StandardGpuResources"), reason="FAISS for CPUs alone")
@pytest.mark.parametrize("gpus", [1, 2])
def test_several_gpus_share_what_is_searched_and_one_trains(monkeypatch, gpus):
    copies = []
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: gpus)
    monkeypatch.setattr(faiss, "index_cpu_to_gpu", lambda resources, at, index, co: copies.append((at, co)))
    monkeypatch.setattr(faiss, "index_cpu_to_all_gpus", lambda index, co: copies.append(("all", co)))
    to_gpu(faiss.IndexFlatL2(4))
    to_gpu(faiss.IndexFlatL2(4), shared=False)
    assert [at for at, _ in copies] == ["all" if gpus > 1 else 0, 0]
    assert all(options.useFloat16 for _, options in copies)
    assert not getattr(copies[0][1], "common_ivf_quantizer", False)


def test_an_index_that_does_not_fit_the_gpu_is_searched_on_the_cpu(monkeypatch, caplog):
    index = faiss.IndexFlatL2(4)

    def full(index):
        raise RuntimeError("Error in alloc: Error: cudaMalloc: out of memory")

    assert copy_for("cpu", index) is None
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 0)
    assert copy_for("cuda", index) is None
    assert not caplog.records
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1)
    monkeypatch.setattr(gpu, "to_gpu", full)
    assert copy_for("cuda", index) is None
    assert "not on the GPU: out of memory" in caplog.text
    monkeypatch.setattr(gpu, "to_gpu", lambda index: "copy")
    assert copy_for("cuda", index) == "copy"


def test_only_shards_without_a_common_quantizer_take_nprobe():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1_000, 8)).astype(np.float32)
    trained = faiss.index_factory(8, "IVF16,Flat")
    trained.train(x)
    quantizer = faiss.IndexFlatL2(8)
    quantizer.add(trained.quantizer.reconstruct_n(0, 16))
    shards, common = faiss.IndexShards(8, True, False), faiss.IndexShardsIVF(quantizer, 16, True, False)
    parts = [faiss.clone_index(trained) for _ in range(2)]
    for part in parts:
        shards.add_shard(part)
        common.add_shard(part)
    shards.add_with_ids(x, np.arange(len(x)))
    trained.add(x)
    how = faiss.SearchParametersIVF(nprobe=4)
    expected = trained.search(x[:20], 10, params=how)
    for found, right in zip(shards.search(x[:20], 10, params=how), expected, strict=True):
        np.testing.assert_array_equal(found, right)
    with pytest.raises(RuntimeError, match="inconsistent nprobe"):
        common.search(x[:20], 10, params=how)
