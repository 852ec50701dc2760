"""The full-text index against its oracle: sets of words, and the formula of BM25."""

from __future__ import annotations

import math
import os
import sqlite3
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from xsearch.errors import StoreError
from xsearch.store import Snapshot, Store
from xsearch.system.durable import digest
from xsearch.types import Fingerprint
from xsearch.words import Matches, WordIndex, WordReader, reader
from xsearch.words.index import STALE

VOCABULARY = [f"w{i}x" for i in range(12)]
K1, B = 1.2, 0.75  # FTS5's


def draw(rng: np.random.Generator, n: int) -> list[str]:
    return [" ".join(rng.choice(VOCABULARY, rng.integers(1, 9))) for _ in range(n)]


def add(store: Store, texts: list[str], **columns: list[object]) -> Snapshot:
    """Items called 0, 1, ..., whose names are no words of VOCABULARY."""
    table = {"path": [f"/{i}" for i in range(len(texts))], "modality": ["text"] * len(texts), "text": texts}
    with store.writer() as writer:
        writer.add(pa.table(table | columns), np.tile(np.eye(8, dtype=np.float32)[0], (len(texts), 1)))
        writer.commit()
        return writer.snapshot


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "c", Fingerprint("tiny", "d1", "p1", 8))


def every(ids: np.ndarray) -> np.ndarray:
    return np.ones(len(ids), bool)


def bm25(query: list[str], texts: dict[int, str]) -> dict[int, float]:
    """Robertson's formula, with the inverse document frequency of FTS5: at least 1e-6."""
    lengths = {id: len(text.split()) + 1 for id, text in texts.items()}  # and the name
    average = sum(lengths.values()) / len(texts)
    scores = dict.fromkeys(texts, 0.0)
    for word in query:
        n = sum(word in text.split() for text in texts.values())
        idf = max(math.log((len(texts) - n + 0.5) / (n + 0.5)), 1e-6)
        for id, text in texts.items():
            f = text.split().count(word)
            scores[id] += idf * f * (K1 + 1) / (f + K1 * (1 - B + B * lengths[id] / average))
    return {id: score for id, score in scores.items() if score}


@pytest.mark.parametrize("seed", range(4))
def test_matches_are_those_of_sets_of_words_in_the_order_of_bm25(store, tmp_path, seed):
    rng = np.random.default_rng(seed)
    texts = dict(enumerate(draw(rng, 60)))
    snapshot = add(store, list(texts.values()))
    WordIndex.write(tmp_path / "w.sqlite", snapshot)
    index = WordIndex.open(tmp_path / "w.sqlite", digest(tmp_path / "w.sqlite")).verify()
    for count in (1, 2, 3):
        query = rng.choice(VOCABULARY, count, replace=False).tolist()
        passing = rng.random(60) < 0.7
        scores = {id: score for id, score in bm25(query, texts).items() if passing[id]}
        complete = {id for id in scores if set(query) <= set(texts[id].split())}
        matches = index.search(" ".join(query), lambda ids, passing=passing: passing[ids])
        assert set(matches.ids.tolist()) == scores.keys()
        assert set(matches.ids[matches.shares == 1].tolist()) == complete
        np.testing.assert_allclose(matches.bm25, [scores[id] for id in matches.ids.tolist()], rtol=1e-5)
        parts = (complete, scores.keys() - complete)
        expected = [score for part in parts for score in sorted((scores[id] for id in part), reverse=True)]
        np.testing.assert_allclose(matches.bm25, expected, rtol=1e-5)
        first = index.search(" ".join(query), lambda ids, passing=passing: passing[ids], least=1)
        assert set(first.ids.tolist()) == (complete or scores.keys())


def test_shares_weigh_rare_words_more(store):
    index = WordReader().of(add(store, ["w1x w2x", "w1x w3x", "w1x", "w1x w4x"]), required=True)
    assert index is not None
    matches = index.search("w1x w2x w9x", every)  # which nothing has
    share = dict(zip(matches.ids.tolist(), matches.shares.tolist(), strict=True))
    of = {n: math.log1p((4 - n + 0.5) / (n + 0.5)) for n in (4, 1, 0)}
    assert share[0] == pytest.approx((of[4] + of[1]) / sum(of.values()))
    assert share[1] == share[2] == share[3] == pytest.approx(of[4] / sum(of.values()))


def same(a: Matches, b: Matches) -> bool:
    return (a.ids == b.ids).all() and np.allclose(a.bm25, b.bm25)


def test_an_index_that_grows_is_the_same_as_one_made_at_once(store, tmp_path):
    rng = np.random.default_rng(0)
    first = add(store, draw(rng, 30))
    WordIndex.write(tmp_path / "1.sqlite", first)
    old = WordIndex.open(tmp_path / "1.sqlite", digest(tmp_path / "1.sqlite"))
    assert old.missing(first) == 0
    assert old.covering(first) is old
    second = add(store, draw(rng, 20))
    assert old.missing(second) == 20
    before = (tmp_path / "1.sqlite").read_bytes()
    WordIndex.write(tmp_path / "2.sqlite", second, old)
    in_memory = old.covering(second)
    third = add(store, draw(rng, 10))
    assert in_memory.covering(third) is in_memory
    WordIndex.write(tmp_path / "3.sqlite", third)
    at_once = WordIndex.open(tmp_path / "3.sqlite", digest(tmp_path / "3.sqlite"))
    grown = WordIndex.open(tmp_path / "2.sqlite", digest(tmp_path / "2.sqlite")).covering(third)
    for word in VOCABULARY:
        assert same(in_memory.search(word, every), at_once.search(word, every))
        assert same(grown.search(word, every), at_once.search(word, every))
    assert (tmp_path / "1.sqlite").read_bytes() == before
    assert len(old.search(VOCABULARY[0], every)) < len(grown.search(VOCABULARY[0], every))


def test_captions_keywords_and_names_are_words(store):
    columns = {
        "caption": ["a red boat", None],
        "keywords": [["sea", None, "harbour"], []],
        "year": [1999, 2000],
    }
    index = WordReader().of(add(store, ["", "boat"], **columns), required=True)
    assert index is not None
    for query, ids in {"boat": [1, 0], "harbour sea": [0], "1999": [0], "0": [0], "None": []}.items():
        assert index.search(query, every).ids.tolist() == ids, query


def test_a_long_text_is_indexed_up_to_a_limit(store):
    index = WordReader().of(add(store, ["w1x " + "w2x " * 10_000 + "w3x"]), required=True)
    assert index is not None
    assert [len(index.search(word, every)) for word in ("w1x", "w2x", "w3x")] == [1, 1, 0]


def test_an_index_of_many_removed_items_is_stale(store, tmp_path):
    WordIndex.write(tmp_path / "w.sqlite", add(store, ["w1x"] * 100))
    index = WordIndex.open(tmp_path / "w.sqlite", digest(tmp_path / "w.sqlite"))
    with store.writer() as writer:
        for removed, stale in ((int(100 * STALE), False), (int(100 * STALE) + 1, True)):
            writer.remove(range(removed))
            writer.commit()
            assert index.is_stale(writer.snapshot) is stale


def test_words_that_take_long_to_read_are_read_on_request(store, monkeypatch):
    monkeypatch.setattr(reader, "MOST_READ", 3)
    snapshot = add(store, ["w1x"] * 4)
    words = WordReader()
    assert words.of(snapshot, required=False) is None
    index = words.of(snapshot, required=True)
    assert index is not None
    assert len(index.search("w1x", every)) == 4
    assert words.of(add(store, ["w1x"] * 3), required=False) is not None


def test_damage_is_reported_once_and_words_are_read_again(store, tmp_path, caplog):
    path = tmp_path / "w.sqlite"
    snapshot = add(store, ["w1x", "w2x"])
    WordIndex.write(path, snapshot)
    sha256, content = digest(path), bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    words = WordReader(WordIndex.open(path, sha256))
    for _ in range(2):
        index = words.of(snapshot, required=False)
        assert index is not None
        assert index.search("w1x", every).ids.tolist() == [0]
    (record,) = caplog.records
    assert "wrong sha256; they are indexed again with the next ingest" in record.getMessage()
    for damaged in (b"", b"no database", content[:5000]):
        path.write_bytes(damaged)
        with pytest.raises(StoreError):
            WordIndex.open(path, sha256).verify()
    path.unlink()
    with pytest.raises(StoreError, match="No such file"):
        WordIndex.open(path, sha256)


def test_a_file_that_is_deleted_is_still_read(store, tmp_path):
    WordIndex.write(tmp_path / "w.sqlite", add(store, ["w1x"]))
    index = WordIndex.open(tmp_path / "w.sqlite", digest(tmp_path / "w.sqlite"))
    (tmp_path / "w.sqlite").unlink()
    assert index.verify().search("w1x", every).ids.tolist() == [0]


def test_threads_share_an_index_that_grows(store):
    words, problems = WordReader(), []
    snapshots = [add(store, ["w1x w2x"]) for _ in range(5)]

    def ask(snapshot: Snapshot) -> None:
        for _ in range(20):
            index = words.of(snapshot, required=False)
            assert index is not None
            found = index.search("w1x w2x", snapshot.contains).ids
            if not (found == snapshot.ids).all():
                problems.append(found)

    threads = [threading.Thread(target=ask, args=(snapshot,)) for snapshot in snapshots * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


def test_a_full_disk_is_reported(store, small_disk):
    snapshot = add(store, [" ".join(f"w{i}x{j}" for j in range(60)) for i in range(3000)])
    with pytest.raises(StoreError, match="cannot write the words"):
        WordIndex.write(small_disk / "w.sqlite", snapshot)


STRANGE = {
    "a view": "DROP TABLE about; CREATE VIEW about AS SELECT 1 AS next_id, 1 AS items",
    "a trigger": "CREATE TRIGGER t AFTER INSERT ON about BEGIN DELETE FROM about; END",
    "another table": "CREATE TABLE other(x)",
    "words that are none": "DROP TABLE words; CREATE TABLE words(text)",
    "no rows": "DELETE FROM about",
    "two rows": "INSERT INTO about VALUES (1, 1)",
    "a text": "UPDATE about SET next_id = 'all'",
    "a negative number": "UPDATE about SET items = -1",
    "nothing": "UPDATE about SET next_id = NULL",
}


@pytest.mark.parametrize("form", STRANGE)
def test_a_file_of_another_schema_is_refused(form, store, tmp_path):
    path = tmp_path / "w.sqlite"
    WordIndex.write(path, add(store, ["a dog"]))
    with sqlite3.connect(path) as connection:
        connection.executescript(STRANGE[form])
    with pytest.raises(StoreError, match=r"cannot read the words in .*; they are indexed again"):
        WordIndex.open(path, "")


@pytest.mark.parametrize("cut", [0, 100, 5_000])
def test_a_file_that_shrinks_while_it_is_read_is_an_error(cut, store, tmp_path):
    path = tmp_path / "w.sqlite"
    snapshot = add(store, [" ".join(f"w{i}x{j}" for j in range(20)) for i in range(1_000)])
    WordIndex.write(path, snapshot)
    index = WordIndex.open(path, "")
    os.truncate(path, cut)
    queries = (f"w{word}x3" for word in range(1_000))
    with pytest.raises(StoreError, match="cannot read the words in"):
        list(map(partial(index.search, passing=snapshot.contains), queries))


def test_a_file_that_is_not_complete_is_deleted(store, tmp_path, monkeypatch):
    snapshot = add(store, ["a dog"])

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(WordIndex, "add", interrupted)
    (tmp_path / "words").mkdir()
    with pytest.raises(KeyboardInterrupt):
        WordIndex.write(tmp_path / "words/w.sqlite", snapshot)
    assert list((tmp_path / "words").iterdir()) == []
