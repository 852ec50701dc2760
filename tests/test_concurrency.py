"""Readers while others write: every answer is that of one generation."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.fakes import FakeBackend
from xsearch.collection import Collection
from xsearch.ingest import ingest
from xsearch.store import Store

FILES = 12


def test_queries_see_one_snapshot_while_others_ingest_prune_and_compact(tmp_path: Path) -> None:
    media = tmp_path / "media"
    media.mkdir()
    store = Store.create(tmp_path / "c", FakeBackend().fingerprint)

    def bring(text: str, count: int) -> None:
        """So many files are left, and all of them are about the same; in a single commit."""
        for i in range(FILES):
            (media / f"{i}.txt").write_text(f"{text} {i}") if i < count else (media / f"{i}.txt").unlink(
                missing_ok=True
            )
        ingest(store, [media], FakeBackend(), prune=True, decoders=0)

    bring("red", FILES)
    wrong, seen, done = [], set(), threading.Event()

    def read() -> None:
        collection = Collection(Store.open(store.path), backend=FakeBackend())
        while not done.is_set():
            hits = [hit.text for hit in collection.search("red green", top=2 * FILES)]
            for texts in (hits, collection.items()["text"].to_pylist()):
                some = [text.split()[0] for text in texts if text]
                seen.add((some[0], len(some)))
                if len(set(some)) > 1 or len(some) not in (FILES, FILES // 2):
                    wrong.append(some)

    with ThreadPoolExecutor(2) as threads:
        readers = [threads.submit(read) for _ in range(2)]
        try:
            for text in ("green", "blue", "red") * 2:
                bring(text, FILES)
                bring(text, FILES // 2)
                with store.writer() as writer:
                    writer.compact()
                    writer.compact()  # what the readers are at is deleted
        finally:
            done.set()
        for reader in readers:
            reader.result()
    assert wrong == []
    assert len(seen) > 2  # they have seen it change
