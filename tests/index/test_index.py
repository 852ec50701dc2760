"""An index finds, after the re-rank, what the exact scan finds; also filtered, saved, mapped and tuned."""

from __future__ import annotations

import hashlib
import json
import resource
import subprocess
import sys
from contextlib import suppress

import faiss
import numpy as np
import pytest

from xsearch.errors import StoreError, UsageError
from xsearch.index import Index, build, exact, make_plan, recall_by_score, rerank, tune
from xsearch.index.plan import FLAT_BELOW, OperatingPoint
from xsearch.index.tune import fastest

N, D = 6_000, 32


def unit(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids with gaps, clustered vectors, queries."""
    rng = np.random.default_rng(5)
    centres = rng.standard_normal((40, D))
    vectors = unit(centres[rng.integers(0, 40, N)] + 0.4 * rng.standard_normal((N, D)))
    queries = unit(centres[:20] + 0.4 * rng.standard_normal((20, D)))
    ids = np.arange(N) * 2 + 100
    ids[N // 2 :] += 1_001
    return ids, vectors.astype(np.float16), queries


def blocks(ids, vectors):
    return [(ids[i : i + 1_000], vectors[i : i + 1_000]) for i in range(0, len(ids), 1_000)]


@pytest.fixture(scope="module")
def index(data) -> Index:
    ids, vectors, _ = data
    plan = make_plan(N, D, device="cpu", recipe="PCAR16,IVF64,PQ8x4fs")
    return build(plan, vectors[:4_000].astype(np.float32), blocks(ids, vectors))


def lookup(ids, vectors):
    return lambda requested: vectors[np.searchsorted(ids, requested)].astype(np.float32)


@pytest.mark.parametrize("recipe", ["PCAR16,IVF64,PQ8x4fs", "IVF64,PQ8x4", "IVF32,Flat"])
@pytest.mark.parametrize("share", [1, 5, 200])
def test_candidates_and_rerank_find_the_true_best(data, recipe, share):
    ids, vectors, queries = data
    index = build(
        make_plan(N, D, device="cpu", recipe=recipe), vectors.astype(np.float32), blocks(ids, vectors)
    )
    allowed = None if share == 1 else ids[::share]
    scores, found = index.search(queries, 10 * 16, allowed=allowed, nprobe=64)
    assert np.isin(found[found >= 0], ids if allowed is None else allowed).all()
    assert np.isneginf(scores[found < 0]).all()
    scores, _ = rerank(queries, found, lookup(ids, vectors), 10)
    truth, _ = exact(queries, blocks(ids[::share], vectors[::share]), 10)
    assert recall_by_score(scores, truth) >= 0.95


@pytest.mark.usefixtures("four_threads")
def test_threads_find_what_one_finds(data, index, monkeypatch):
    ids, _, queries = data
    subsets = [(None, None), (index.subset(ids[::3]), None), (index.subset(ids[:5]), 4)]
    apart = index.search_each(queries, 9, subsets)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for (scores, found), (one_scores, one_found) in zip(
        apart, index.search_each(queries, 9, subsets), strict=True
    ):
        np.testing.assert_allclose(scores, one_scores, atol=1e-6)
        assert (found == one_found).mean() > 0.99  # but for ties of codes
    assert [len(found) for _, found in index.search_each(queries[:0], 9, subsets)] == [0, 0, 0]


@pytest.mark.usefixtures("four_threads")
@pytest.mark.parametrize("share", [1, 3, 300])
def test_threads_divide_the_lists_of_a_query(data, index, monkeypatch, share):
    ids, _, queries = data
    subset = index.subset(ids[::share])
    alone = [index.search(query[None], 30, allowed=subset, nprobe=20) for query in queries]
    codes = np.bincount(index.list_of)[subset.lists].sum()
    assert index.reads(subset, 64) == pytest.approx(codes)
    assert index.reads(subset, 1) < codes
    monkeypatch.setattr("xsearch.index.index.LEAST_CODES", 1)
    used = []
    among = type(index)._among
    monkeypatch.setattr(type(index), "_among", lambda *some: used.append(some[2].shape) or among(*some))
    for query, (scores, found) in zip(queries, alone, strict=True):
        divided = index.search(query[None], 30, allowed=subset, nprobe=20)
        np.testing.assert_allclose(divided[0], scores, atol=1e-6)
        assert (divided[1] == found).mean() > 0.9  # but for ties of codes
    assert len(used) >= 4 * len(queries)


@pytest.mark.parametrize("share", [1, 40])
def test_members_are_those_of_the_lists_that_a_search_visits(data, index, share):
    ids, _, queries = data
    subset = index.subset(ids[::share])
    for query in queries[:5]:
        members = index.members(query[None], subset, 3)
        rows = np.searchsorted(ids, members)
        visited = np.unique(index.list_of[rows])
        np.testing.assert_array_equal(members, subset.ids[np.isin(index.lists_of(subset.ids), visited)])
        _, found = index.search(query[None], len(members), allowed=subset, nprobe=3)
        assert set(members.tolist()) == set(found[0].tolist())
    np.testing.assert_array_equal(index.members(queries[:1], subset, 64), subset.ids)


@pytest.mark.usefixtures("four_threads")
def test_what_faiss_refuses_in_a_thread_is_an_error_of_the_recipe(data, index, monkeypatch):
    def refuse(*arguments):
        raise RuntimeError("Error: not supported")

    monkeypatch.setattr(index, "_visit", refuse)
    with pytest.raises(UsageError, match=r"index PCAR16.*: not supported; rebuild it with another recipe"):
        index.search(data[2], 3)


def test_the_shared_index_is_not_changed_by_a_search(data, index):
    _, _, queries = data
    before = index.search(queries, 20)
    index.search(queries, 20, nprobe=1)
    index.search(queries, 20, allowed=data[0][:100])
    after = index.search(queries, 20)
    np.testing.assert_array_equal(before[1], after[1])


def test_saved_and_loaded(data, index, tmp_path):
    ids, _, queries = data
    folder = tmp_path / "ïndex"
    folder.mkdir()
    index.save(folder)
    again = Index.load(folder)
    assert again.plan == index.plan
    np.testing.assert_array_equal(again.ids, ids)
    np.testing.assert_array_equal(again.stored(), ids)
    for one, other in zip(index.search(queries, 30), again.search(queries, 30), strict=True):
        np.testing.assert_array_equal(one, other)
    assert again.covers(np.array([99, 100, 101, 102, ids[-1], ids[-1] + 1])).tolist() == [0, 1, 0, 1, 1, 0]


def test_a_damaged_index_is_an_error(index, tmp_path):
    with pytest.raises(StoreError, match="build it again"):
        Index.load(tmp_path)
    index.save(tmp_path)
    plan = tmp_path / "plan.json"
    good = json.loads(plan.read_text())
    for bad in ("{", "{}", json.dumps({**good, "covered": [[1, 2]]}), json.dumps({**good, "covered": []})):
        plan.write_text(bad)
        with pytest.raises(StoreError, match="build it again"):
            Index.load(tmp_path)
    plan.write_text(json.dumps(good))
    (tmp_path / "index.faiss").write_bytes(b"nonsense")
    with pytest.raises(StoreError, match="build it again"):
        Index.load(tmp_path)


def test_faiss_is_not_given_a_file_with_another_checksum(index, tmp_path):
    index.save(tmp_path)
    content = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    sha256 = {name: hashlib.sha256(old).hexdigest() for name, old in content.items()}
    assert Index.load(tmp_path, sha256).plan == index.plan
    for name, old in content.items():
        for at in (0, 20, len(old) // 2, len(old) - 1):
            (tmp_path / name).write_bytes(old[:at] + bytes([old[at] ^ 1]) + old[at + 1 :])
            with pytest.raises(StoreError, match=f"{name} has a wrong sha256; build it again"):
                Index.load(tmp_path, sha256)
        (tmp_path / name).write_bytes(old)


def test_tune_reaches_the_target_or_does_its_best(data, index):
    ids, vectors, queries = data
    stream = blocks(ids, vectors)
    tuned, points = tune(index, queries, stream, lookup(ids, vectors), target=0.95)
    assert tuned.plan.recall >= 0.95
    scores, found = tuned.search(queries, 10 * tuned.plan.refine)
    scores, _ = rerank(queries, found, lookup(ids, vectors), 10)
    assert recall_by_score(scores, exact(queries, stream, 10)[0]) == tuned.plan.recall
    assert points[0].recall < 0.95  # one list and no refinement are not enough
    assert index.plan.recall is None
    assert tuned.plan.points == tuple(points)
    best, points = tune(index, queries, stream, lookup(ids, vectors), target=1.1)
    assert best.plan.recall == max(point.recall for point in points)
    hurried, points = tune(index, queries, stream, lookup(ids, vectors), target=0.95, latency_ms=0)
    quickest = min(points, key=lambda point: point.latency_ms)
    assert (hurried.plan.nprobe, hurried.plan.refine) == (quickest.nprobe, quickest.refine)


def test_a_busy_clock_does_not_choose_more_lists_or_a_deeper_rerank():
    def point(nprobe: int, refine: int, ms: float) -> OperatingPoint:
        return OperatingPoint(nprobe, refine, 0.96, ms)

    assert fastest([]) is None
    assert fastest([point(32, 3, 0.45), point(48, 3, 0.44), point(96, 3, 0.43)]) == point(32, 3, 0.45)
    assert fastest([point(8, 16, 0.5), point(32, 3, 0.4)]) == point(32, 3, 0.4)  # neither is less work
    all_visited = point(1, 32, 2.0)  # as one list holds too few
    assert fastest([all_visited, point(32, 32, 0.4)]) == point(32, 32, 0.4)


def test_recall_counts_scores_not_ids():
    true = np.array([[0.9, 0.8, 0.8], [0.5, 0.4, -np.inf], [-np.inf] * 3], np.float32)
    assert recall_by_score(true, true) == 1
    found = np.array([[0.9, 0.8, 0.1], [0.5, -np.inf, -np.inf], [-np.inf] * 3], np.float32)
    assert recall_by_score(found, true) == pytest.approx(3 / 5)
    assert recall_by_score(np.full((3, 3), -np.inf, np.float32), true) == 0


@pytest.mark.parametrize("recipe", ["PCAR16,IVF64,PQ8x4fs", "IVF64,Flat"])
@pytest.mark.parametrize("sort", ["some", "one cluster", "few", "none"])
def test_a_search_among_some_ids_finds_them_also_far_from_the_query(data, recipe, sort):
    ids, vectors, queries = data
    plan = make_plan(N, D, device="cpu", recipe=recipe)
    index = build(plan, vectors.astype(np.float32), blocks(ids, vectors))
    some = {
        "some": ids[::7],
        "one cluster": ids[np.argsort(-(vectors @ queries[0]))[:150]],
        "few": ids[[5, 77, 4_000]],
        "none": ids[:0],
    }[sort]
    some = np.sort(some)
    outside = np.array([1, int(ids[-1]) + 5])
    subset = index.subset(np.sort(np.append(some, outside)))
    np.testing.assert_array_equal(subset.ids, some)
    _, found = index.search(queries, 100, allowed=subset, nprobe=8)
    assert np.isin(found[found >= 0], some).all()
    assert ((found >= 0).sum(axis=1) == min(100, len(some))).all()  # never fewer than there are
    scores, _ = rerank(queries, found, lookup(ids, vectors), 10)
    allowed_rows = np.isin(ids, some)
    truth, _ = exact(queries, blocks(ids[allowed_rows], vectors[allowed_rows]), 10)
    assert not len(some) or recall_by_score(scores, truth) >= 0.9


def test_a_search_of_one_list_that_holds_too_few_goes_on(data, index):
    _, found = index.search(data[2], 2_000, nprobe=1)
    assert (found >= 0).all()


def test_candidates_have_about_their_cosine(data, index):
    ids, vectors, queries = data
    scores, found = index.search(queries, 10)
    true = np.einsum("qd,qkd->qk", queries, lookup(ids, vectors)(found.ravel()).reshape(*found.shape, D))
    assert np.abs(scores - true).mean() < 0.15


@pytest.mark.parametrize("share", [1, 3, 1_000])
def test_a_gpu_has_no_selector_and_finds_the_same(data, share):
    ids, vectors, queries = data
    plan = make_plan(N, D, recipe="IVF64,Flat")
    index = build(plan, vectors.astype(np.float32), blocks(ids, vectors))
    like_a_gpu = Index(index.plan, index.ids, index.faiss, gpu=index.faiss)
    allowed = None if share == 1 else ids[::share]
    for k in (3, 20, 2_500):  # one is more than a GPU gives
        found = like_a_gpu.search(queries, k, allowed=allowed, nprobe=64)
        for one, other in zip(found, index.search(queries, k, allowed=allowed, nprobe=64), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)


def test_an_index_of_the_first_version_is_read(data, tmp_path):
    """It compared by inner product, and its plan had fewer fields."""
    ids, vectors, queries = data
    old = faiss.index_factory(D, "PCAR16,IVF64,PQ8x4fs", faiss.METRIC_INNER_PRODUCT)
    old.train(vectors.astype(np.float32))
    old.add_with_ids(vectors.astype(np.float32), ids)
    faiss.write_index(old, str(tmp_path / "index.faiss"))
    plan = {"recipe": "PCAR16,IVF64,PQ8x4fs", "n": N, "dim": D, "device": "cpu", "lists": 64, "nprobe": 32}
    plan |= {"refine": 8, "sample": N, "why": "", "recall": None}
    runs = [[int(id), int(id)] for id in ids]
    (tmp_path / "plan.json").write_text(json.dumps({**plan, "covered": runs}))
    index = Index.load(tmp_path)
    assert (index.plan.error, index.plan.points) == (None, ())
    np.testing.assert_array_equal(index.stored(), ids)
    for allowed in (None, ids[::2]):
        scores, found = index.search(queries, 160, allowed=allowed, nprobe=64)
        assert (scores[:, :-1] >= scores[:, 1:]).all()
        allowed_rows = slice(None) if allowed is None else slice(None, None, 2)
        truth, _ = exact(queries, blocks(ids[allowed_rows], vectors[allowed_rows]), 10)
        assert recall_by_score(rerank(queries, found, lookup(ids, vectors), 10)[0], truth) >= 0.95


def test_the_plan_follows_the_number_of_items():
    assert make_plan(FLAT_BELOW - 1, 256).recipe == "Flat"
    for n, dim, recipe in [
        (FLAT_BELOW, 256, "PCAR128,IVF512,PQ64x4fs"),
        (100_000, 1024, "PCAR128,IVF1024,PQ64x4fs"),
        (1_000_000, 1024, "PCAR128,IVF4096,PQ64x4fs"),
        (30_000, 33, "PCAR32,IVF512,PQ16x4fs"),
    ]:
        plan = make_plan(n, dim, device="cpu")
        assert (plan.recipe, plan.device, plan.refine) == (recipe, "cpu", 8)
        assert 1 <= plan.nprobe <= plan.lists
        assert 39 * plan.lists <= plan.sample <= n
        assert recipe in plan.why
        assert "\n" not in plan.why
    assert make_plan(10, 8, recipe="IVF2,Flat").sample == 10
    assert make_plan(10**6, 8, recipe="Flat").recipe == "Flat"


def test_what_cannot_be_built_is_said(data):
    ids, vectors, _ = data
    with pytest.raises(UsageError, match="does not know"):
        make_plan(N, D, recipe="Magic8")
    with pytest.raises(UsageError, match="no inverted lists"):
        make_plan(N, D, recipe="HNSW16")
    with pytest.raises(UsageError, match="exact"):
        build(make_plan(5, D), vectors[:5].astype(np.float32), [])
    with pytest.raises(UsageError, match="no items"):
        build(make_plan(N, D, recipe="IVF4,Flat"), vectors.astype(np.float32), [])
    with pytest.raises(UsageError, match="sample of 5"):
        build(make_plan(N, D, recipe="IVF64,Flat"), vectors[:5].astype(np.float32), blocks(ids, vectors))


@pytest.mark.skipif(faiss.get_num_gpus() > 0, reason="a GPU is present")
def test_a_gpu_that_is_not_there_is_an_error():
    with pytest.raises(UsageError, match="no NVIDIA GPU"):
        make_plan(N, D, device="cuda", recipe="IVF64,PQ8")


@pytest.mark.skipif(not hasattr(faiss, "StandardGpuResources") or faiss.get_num_gpus() == 0, reason="no GPU")
def test_gpu_and_cpu_agree(data, tmp_path):
    ids, vectors, queries = data
    plan = make_plan(N, D, device="cuda", recipe="IVF64,PQ8")
    index = build(plan, vectors.astype(np.float32), blocks(ids, vectors))
    index.save(tmp_path)
    truth, _ = exact(queries, blocks(ids, vectors), 10)
    for some in (index, Index.load(tmp_path)):
        for allowed in (None, ids):  # on the GPU, on the CPU
            _, found = some.search(queries, 160, allowed=allowed, nprobe=64)
            assert recall_by_score(rerank(queries, found, lookup(ids, vectors), 10)[0], truth) >= 0.95


def test_an_exact_scan_does_not_import_faiss():
    program = "import sys, xsearch.index; sys.exit('faiss' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


LIES = {
    "n": [-1, "6000", True, 10**30, 1.5, None],
    "dim": [0, 16, 10**9],
    "lists": [0, 63, 10**9],
    "nprobe": [0, -1, 10**9, "4"],
    "refine": [0, 10**9],
    "growth": [-1, 1e9, float("nan")],
    "recall": ["1", float("inf")],
    "why": ["w" * 10_000_000, 3],
    "recipe": [None, ["Flat"]],
    "device": ["tpu", 3],
    "given": ["yes"],
    "points": [[{"nprobe": 0}], 3, [[1]], [{"nprobe": "1", "refine": 1, "recall": 1, "ms_per_query": 1}]],
    "covered": [
        [],
        [[100, 90]],
        [["100", "200"]],
        [[0, 10**12]],
        [[0, 2**63 - 1]],
        [[-5, 5_994]],
        [[0, 4_000], [2_000, 3_998]],
        [[0, 5_998], [5_998, 5_998]],
        [[0.0, 5_999.0]],
        [[0]],
        3,
        {"0": 5_999},
    ],
    "unknown": [1],
}


@pytest.mark.parametrize("field", LIES)
def test_a_plan_that_lies_is_refused(field, index, tmp_path):
    index.save(tmp_path)
    plan = json.loads((tmp_path / "plan.json").read_text())
    for lie in LIES[field]:
        (tmp_path / "plan.json").write_text(json.dumps({**plan, field: lie}))
        with pytest.raises(StoreError, match=r"cannot read the index in .*; build it again") as caught:
            Index.load(tmp_path)
        assert len(str(caught.value)) < 500


@pytest.mark.parametrize("text", ["[]", "null", "[" * 100_000, "9" * 5_000, " " * 3_000_000, "\0"])
def test_what_is_no_plan_is_refused(text, index, tmp_path):
    index.save(tmp_path)
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(StoreError, match="build it again"):
        Index.load(tmp_path)


def test_an_index_that_claims_to_be_huge_takes_no_memory(index, tmp_path):
    """Sizes in the file of 2**30 and 2**39 elements, wherever there is one."""
    index.save(tmp_path)
    content = (tmp_path / "index.faiss").read_bytes()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for at in range(4, 300, 23):
        for size in (2**30, 2**39):
            (tmp_path / "index.faiss").write_bytes(
                content[:at] + size.to_bytes(8, "little") + content[at + 8 :]
            )
            with suppress(StoreError):
                Index.load(tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000


def test_an_index_of_other_lists_is_refused(data, index, tmp_path):
    ids, vectors, _ = data
    plan = make_plan(N, D, device="cpu", recipe="PCAR16,IVF32,PQ8x4fs")
    other = build(plan, vectors[:4_000].astype(np.float32), blocks(ids, vectors))
    index.save(tmp_path)
    faiss.write_index(other.faiss, str(tmp_path / "index.faiss"))
    with pytest.raises(StoreError, match=r"dimensions in 32 lists, expected .* in 64"):
        Index.load(tmp_path)
    flat = faiss.IndexFlatL2(D)
    flat.add(vectors.astype(np.float32))
    faiss.write_index(flat, str(tmp_path / "index.faiss"))
    with pytest.raises(StoreError, match="6,000 vectors of 32 dimensions in None lists"):
        Index.load(tmp_path)


def test_every_byte_that_cannot_be_written_is_an_error(index, tmp_path):
    """At each size of the disk: the last bytes are written when the file is closed."""
    (tmp_path / "whole").mkdir()
    index.save(tmp_path / "whole")
    size = (tmp_path / "whole/index.faiss").stat().st_size
    program = (
        "import resource, sys; from pathlib import Path; from xsearch.index import Index\n"
        "index = Index.load(Path(sys.argv[1]))\n"
        "for size in map(int, sys.argv[3:]):\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (size, -1))\n"
        "    try:\n"
        "        index.save(Path(sys.argv[2]))\n"
        "        print('saved')\n"
        "    except OSError as error:\n"
        "        print(error.strerror)\n"
    )
    sizes = [0, 1, 4096, size // 2, size - 1, 10**9]
    command = [sys.executable, "-c", program, str(tmp_path / "whole"), str(tmp_path), *map(str, sizes)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert printed == ["File too large"] * 5 + ["saved"]
