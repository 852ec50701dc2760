"""An index of several files is, searched as one or file by file, that of one file."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import faiss
import numpy as np
import pytest

from tests.index.test_maintain import D, Some, unit
from xsearch.errors import StoreError, UsageError
from xsearch.index import (
    Index,
    Listing,
    Shards,
    best_of,
    check_shards,
    fill,
    in_turn,
    new_index,
    new_trained,
)

RECIPES = ["PCAR16,IVF32,PQ8x4fs", "IVF32,Flat", "PCAR16,IVF16,SQ8"]


def some_items() -> Some:
    rng = np.random.default_rng(3)
    vectors = unit(rng.standard_normal((4_001, D))).astype(np.float16)
    vectors[1_600:1_660] = vectors[10]  # equal codes, in two shards
    return Some(np.arange(4_001) * 3 + 5, np.full(4_001, "image"), vectors)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "index").mkdir()
    (tmp_path / "scratch").mkdir()
    return tmp_path / "index"


def build(folder: Path, recipe: str, count: int = 5, *, merge: bool = False) -> Index:
    trained = new_trained(some_items(), device="cpu", recipe=recipe)
    assert trained is not None
    shards = Shards.of(trained, some_items, folder, folder.with_name("scratch"), count)
    in_turn(pickle.loads(pickle.dumps(shards)), count)
    shards.finish(merge=merge)
    assert not list(folder.with_name("scratch").iterdir())
    return Index.load(folder)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("merge", [False, True])
def test_as_one_it_is_the_index_of_one_file(folder, tmp_path, recipe, merge):
    items, trained = some_items(), new_trained(some_items(), device="cpu", recipe=recipe)
    blocks = (block for part in np.array_split(items.ids, 5) for block in items.blocks(part))
    one = fill(trained, blocks)  # other blocks may be rounded to other codes
    one.save(tmp_path)
    expected = faiss.serialize_index(Index.load(tmp_path).faiss)
    loaded = build(folder, recipe, merge=merge)
    np.testing.assert_array_equal(faiss.serialize_index(loaded.faiss), expected)
    np.testing.assert_array_equal(loaded.ids, one.ids)
    assert loaded.plan == one.plan
    names = {"index.faiss"} if merge else {f"shard-{number}.faiss" for number in range(5)}
    assert {path.name for path in folder.iterdir()} == names | {"plan.json"}
    assert len(loaded.shards) == (0 if merge else 5)


@pytest.mark.parametrize("recipe", RECIPES)
def test_file_by_file_it_finds_the_same(folder, recipe):
    one = build(folder, recipe)
    parts = [Index.load(folder, shard=number) for number in range(5)]
    queries = unit(np.random.default_rng(4).standard_normal((20, D)))
    queries[0] = some_items().rows[10]
    for k, nprobe in ((10, 1), (80, 4), (160, 2)):
        (expected,) = one.visit(queries, k, [(None, nprobe)])
        found = [part.visit(queries, k, [(None, nprobe)])[0] for part in parts]
        merged = best_of(*(np.concatenate(each, axis=1) for each in zip(*found, strict=True)), k)
        np.testing.assert_array_equal(merged[0], expected[0])
        np.testing.assert_array_equal(merged[1], expected[1])


def test_a_tuned_index_keeps_its_files(folder, tmp_path):
    index = build(folder, RECIPES[0])
    index.tuned(nprobe=3).save(tmp_path)
    again = Index.load(tmp_path)
    assert again.plan.nprobe == 3
    assert [path.read_bytes() for path in again.shards] == [path.read_bytes() for path in index.shards]


def test_a_shard_that_is_missing_damaged_or_of_another_index_is_an_error(folder, tmp_path):
    build(folder, RECIPES[1])
    whole = (folder / "shard-2.faiss").read_bytes()
    new_index(some_items(), device="cpu", recipe="IVF16,Flat").save(tmp_path)
    for content in (None, whole[:-100], b"", (tmp_path / "index.faiss").read_bytes()):
        (folder / "shard-2.faiss").unlink()
        if content is not None:
            (folder / "shard-2.faiss").write_bytes(content)
        with pytest.raises(StoreError):
            Index.load(folder)
        if content is None:
            (folder / "shard-2.faiss").touch()
    with pytest.raises(StoreError, match="wrong sha256"):
        Index.load(folder, {"shard-2.faiss": "0" * 64}, shard=2)
    Index.load(folder, {"shard-2.faiss": "0" * 64}, shard=1)
    with pytest.raises(StoreError):
        Index.load(folder, shard=5)


@pytest.mark.parametrize(("count", "items"), [(0, 5_000), (1_001, 5_000), (6, 5)])
def test_impossible_numbers_are_refused(count, items):
    with pytest.raises(
        UsageError, match=f"{count:,} shards: these items can be in 1 to {min(items, 1_000):,}"
    ):
        check_shards(count, items)


@pytest.mark.parametrize("lie", [-1, 1.0, True, "5", 1_001, 6])
def test_a_listing_that_lies_is_refused(folder, lie):
    build(folder, RECIPES[1])
    text = (folder / "plan.json").read_text()
    (folder / "plan.json").write_text(text.replace('"shards": 5', f'"shards": {json.dumps(lie)}'))
    with pytest.raises(StoreError):
        Index.load(folder)
    (folder / "plan.json").write_text(text)
    assert Listing.read(folder).shards == 5
