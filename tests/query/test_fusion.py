"""Words and meaning together, against the obvious: two full orders, and the sum of reciprocal ranks."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.fakes import WORDS, FakeBackend
from xsearch.collection import Collection
from xsearch.errors import UnknownWords, UsageError
from xsearch.models.vocabulary import Vocabulary
from xsearch.query import Hits, image, text, vector
from xsearch.query.fusion import DEPTH, K, fuse
from xsearch.types import Match, Modality, Rank, Sample

NAMES = ("apple", "pear", "plum", "fig")  # words that the backend takes for "dark"


class Reader(FakeBackend):
    """Has learned the words of FakeBackend, and nothing else."""

    def capabilities(self) -> Any:

        return replace(
            super().capabilities(), vocabulary=Vocabulary(["red", "green", "blue", "dark", "bright"])
        )


def fill(path: Path, texts: list[str], pictures: int = 0, backend: FakeBackend | None = None) -> Collection:
    """Texts, then pictures of many colours, photo_0.jpg and so on; the words are not indexed yet."""
    collection = Collection.create(path, backend=backend or FakeBackend())
    rng = np.random.default_rng(0)
    samples = [Sample(Modality.TEXT, words, text=words) for words in texts]
    samples += [Sample(Modality.IMAGE, rng.integers(0, 255, (4, 4, 3))) for _ in range(pictures)]
    paths = [*(f"/{i}.txt" for i in range(len(texts))), *(f"/photo_{i}.jpg" for i in range(pictures))]
    items = {
        "path": paths,
        "modality": [str(sample.modality) for sample in samples],
        "sha256": paths,
        "text": pa.array([sample.text for sample in samples], pa.string()),
    }
    with collection.store.writer() as writer:
        writer.add(pa.table(items), collection.backend.embed(samples))
        writer.commit()
    return collection


def random_texts(n: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    words = [*NAMES, *WORDS]
    return [" ".join(rng.choice(words, rng.integers(1, 6))) for _ in range(n)]


def ids(hits: Hits) -> list[int]:
    return [hit.id for hit in hits]


@pytest.mark.parametrize("query", ["red", "red apple", "apple pear", "apple pear plum fig", "red nothing"])
def test_both_is_the_sum_of_reciprocal_ranks(tmp_path, query):
    texts = random_texts(40)
    collection = fill(tmp_path / "c", texts, pictures=20)
    meaning = collection.search(query, DEPTH, match="meaning")
    words = collection.search(query, 1000, match="words")
    asked = query.split()
    complete = [hit.id for hit in words if set(asked) <= set(texts[hit.id].split())]
    if complete:
        orders = [complete, ids(meaning)]
    else:  # rarer words weigh more; "red nothing" has none with a third of the weight
        counts = [sum(word in some.split() for some in texts) for word in asked]
        weights = np.log1p((60 - np.array(counts) + 0.5) / (np.array(counts) + 0.5))
        having = [[word in texts[id].split() for word in asked] for id in ids(words)]
        most = [id for id, has in zip(ids(words), having, strict=True) if weights @ has > weights.sum() / 3]
        orders = [most, ids(meaning)]
    scores: dict[int, float] = dict.fromkeys(ids(meaning), 0.0)  # of what is near by chance, which comes last
    orders[1] = [hit.id for hit in meaning if hit.expected <= 1]
    for order in orders:
        for rank, id in enumerate(order[:DEPTH], start=1):
            scores[id] = scores.get(id, 0) + 1 / (K + rank)
    hits = collection.search(query, 20)
    if not orders[0]:
        assert hits == meaning[:20]
        assert all(hit.bm25 is None for hit in hits)
        return
    near = {hit.id: hit for hit in collection.search(query, 60, match="meaning")}
    bm25 = {hit.id: hit.bm25 for hit in words if hit.id in orders[0]}
    # An item that has the words and the query's own vector is what is searched for
    itself = {id for id in bm25 if near[id].cosine >= 0.999}
    expected = sorted(scores, key=lambda at: (at not in itself, -scores[at]))[:20]
    assert [hit.score for hit in hits] == pytest.approx([scores[id] for id in expected])
    for hit in hits:
        assert (hit.cosine, hit.balanced) == (near[hit.id].cosine, near[hit.id].balanced)
        assert (hit.score, hit.bm25) == (pytest.approx(scores[hit.id]), bm25.get(hit.id))


def test_a_tie_goes_to_the_earlier_order():
    found, scores = fuse([np.array([9, 8]), np.array([1, 2])])
    assert found.tolist() == [9, 1, 8, 2]
    assert scores[0] == scores[1]


def test_words_alone_need_no_model_and_have_no_cosine(tmp_path, monkeypatch):
    texts = random_texts(30)
    collection = fill(tmp_path / "c", texts)
    monkeypatch.setattr(FakeBackend, "embed", None)
    hits = collection.search("apple", 100, match=Match.WORDS)
    assert set(ids(hits)) == {at for at, words in enumerate(texts) if "apple" in words.split()}
    assert [hit.score for hit in hits] == [hit.bm25 for hit in hits]
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert all(hit.cosine is None and hit.balanced is None for hit in hits)
    assert hits.query is None
    assert ids(collection.search("apple", 3, match="words")) == ids(hits)[:3]
    assert len(collection.search("nothing", match="words")) == 0


def test_filters_hold_for_words_too(tmp_path):
    collection = fill(tmp_path / "c", random_texts(30), pictures=5)
    for match in ("words", "both"):
        some = collection.search("photo apple", 100, match=match, modality="image")
        assert {hit.modality for hit in some} == {Modality.IMAGE}
        assert all(hit.id < 9 for hit in collection.search("apple", 100, match=match, where="id < 9"))
    assert len(collection.search("apple", 100, min_cosine=0.5)) < len(collection.search("apple", 100))
    assert all(hit.cosine >= 0.5 for hit in collection.search("apple", 100, min_cosine=0.5))


def test_words_that_match_are_no_chance(tmp_path):
    texts = random_texts(40)
    collection = fill(tmp_path / "c", texts, pictures=20)
    having = {id for id, words in enumerate(texts) if "pear" in words.split()}
    for unique in (False, True):
        hits = collection.search("pear", 100, max_expected=0, unique=unique)
        matched = {hit.id for hit in hits if hit.bm25 is not None}
        assert matched <= having
        assert unique or len(matched) == len(having) > 1
        assert all(hit.expected == 0 for hit in hits if hit.id not in matched)  # the same to the model
        assert hits.found
        assert not hits.remark
    assert all(hit.expected is None for hit in collection.search("pear", match="words"))
    assert all(hit.expected == 0 for hit in collection.search("pear", 100, max_expected=0, match="meaning"))


def test_copies_are_folded(tmp_path):
    collection = fill(tmp_path / "c", ["red apple", "red apple", "red apple pear", "green pear", "blue fig"])
    for match in ("words", "both"):
        found = ids(collection.search("red apple", match=match, unique=True))
        assert len({0, 1, 2} & set(found)) == 1  # one direction: apples are dark


def test_the_name_of_a_picture_is_a_word(tmp_path):
    collection = fill(tmp_path / "c", random_texts(10), pictures=30)
    assert Path(collection.search("photo_17")[0].path).name == "photo_17.jpg"
    assert len(collection.search("photo_17", match="words")) == 1


def test_only_a_single_text_has_words(tmp_path):
    collection = fill(tmp_path / "c", random_texts(20), pictures=3)
    for query in (text("red") + text("apple"), -text("red"), image(np.zeros((4, 4, 3), np.uint8))):
        assert collection.search(query) == collection.search(query, match="meaning")
        with pytest.raises(UsageError, match="only a single text has words"):
            collection.search(query, match="words")
    assert collection.search(2 * text("apple")) == collection.search("apple")
    own = vector(np.eye(16, dtype=np.float32)[0], "text")
    assert ids(collection.search_many([own, "apple", own])[1]) == ids(collection.search("apple"))


def test_bare_cosines_keep_their_order_unless_words_are_requested(tmp_path):
    collection = fill(tmp_path / "c", random_texts(30))
    plain = collection.search("apple", rank=Rank.COSINE)
    assert [hit.score for hit in plain] == [hit.cosine for hit in plain]
    assert plain == collection.search("apple", rank="cosine", match="meaning")
    assert any(hit.bm25 for hit in collection.search("apple", rank="cosine", match="both"))


def test_impossible_requests(tmp_path):
    collection = fill(tmp_path / "c", ["red"])
    with pytest.raises(UsageError, match="match: expected words, meaning, both; got 'all'"):
        collection.search("red", match="all")
    with pytest.raises(UsageError, match="no cosine to be limited"):
        collection.search("red", match="words", min_cosine=0.1)


def test_a_text_of_unknown_words_is_answered_by_its_words(tmp_path):
    collection = fill(tmp_path / "c", random_texts(30), backend=Reader())
    apples, red = collection.search_many(["apple", "red"])
    assert apples == collection.search("apple", match="words")
    assert apples.query is None
    assert red.query is not None
    for options in ({"match": "meaning"}, {"rank": "cosine"}, {"min_cosine": 0.0}):
        with pytest.raises(UnknownWords):
            collection.search("apple", **options)
    with pytest.raises(UnknownWords):
        collection.search("cherry")  # no item has it
    with pytest.raises(UnknownWords):
        collection.search("apple cherry quince")  # nor most of these
    assert collection.search("apple", anyway=True).query is not None


def test_unknown_words_cost_their_own_answer_only(tmp_path):
    collection = fill(tmp_path / "c", ["red", "blue"], backend=Reader())
    red, cherry, blue = collection.search_many(["red", "cherry", "blue"], match="meaning")
    assert (red, blue) == (
        collection.search("red", match="meaning"),
        collection.search("blue", match="meaning"),
    )
    assert len(cherry) == 0
    assert not cherry.found
    assert "no word of 'cherry'" in cherry.remark
    assert isinstance(cherry.problem, UnknownWords)
    assert pickle.loads(pickle.dumps(cherry)).remark == cherry.remark
