"""One collection shared by threads, while others write to it: every answer is that of one generation."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import xsearch.derive
from tests.fakes import DIM, WORDS, FakeBackend
from xsearch.collection import Collection
from xsearch.errors import NoCollection
from xsearch.index import Index, new_index
from xsearch.ingest import ingest
from xsearch.query import search, vector
from xsearch.store import Snapshot, Store, verify
from xsearch.types import Modality

FILES = 12  # of each kind
ROUNDS = 4
THREADS = 8
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


# ---------------------------------------------------------------- what writes: another process


def bring(store: Store, media: Path, round: int, count: int, backend: FakeBackend) -> None:
    """Make `count` texts and pictures all that there is, of this round and its colour; in a single commit."""
    word = WORDS[round % 3]
    for old in media.iterdir():
        if old.name != str(round):
            shutil.rmtree(old)
    folder = media / str(round)
    folder.mkdir(exist_ok=True)
    for i in range(FILES):
        text, picture = folder / f"{i}.txt", folder / f"{i}.png"
        if i >= count:
            text.unlink(missing_ok=True)
            picture.unlink(missing_ok=True)
        elif not text.exists():
            text.write_text(f"{word} {round} {i}")
            pixels = np.full((8, 8, 3), COLOURS[word], np.uint8)
            pixels[0, 0] = round, i, 0  # no two files are the same
            Image.fromarray(pixels).save(picture)
    ingest(store, [media], backend, prune=True, decoders=0)


def write(store: Store, media: Path, rounds: range) -> None:
    """Ingest, prune and compact; the index of each round has lists of its own, every third round has none."""
    backend = FakeBackend()
    update = xsearch.derive.update
    try:
        for round in rounds:
            recipe = (None, "IVF1,Flat", "IVF4,Flat")[round % 3]
            anew = partial(new_index, device="cpu", recipe=recipe) if recipe else lambda items: None
            xsearch.derive.update = lambda index, items, anew=anew: anew(items)  # type: ignore[misc]
            bring(store, media, round, FILES, backend)
            bring(store, media, round, FILES // 2, backend)
            with store.writer() as writer:
                writer.compact()
                writer.compact()  # what the readers are at is deleted
    finally:
        xsearch.derive.update = update
    assert len(backend.seen) == len(rounds) * 2 * FILES, "a file was not embedded once"


@contextmanager
def writing(store: Store, media: Path, rounds: int = ROUNDS) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that writes meanwhile; it must come to its end without an error."""
    command = [sys.executable, "-m", "tests.test_concurrency", str(store.path), str(media), str(rounds)]
    root = Path(__file__).parents[1]
    child = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert child.stdout is not None
        child.stdout.readline()  # it has been imported
        yield child
        _, problem = child.communicate(timeout=60)
        assert child.returncode == 0, problem.decode()
    finally:
        child.kill()
        child.communicate()


@pytest.fixture
def media(tmp_path: Path) -> Path:
    folder = tmp_path / "media"
    folder.mkdir()
    return folder


@pytest.fixture
def collection(tmp_path: Path, media: Path, monkeypatch: pytest.MonkeyPatch) -> Collection:
    """Of round 0. Also tiny groups are searched through an index, and no busy disk is waited for."""
    monkeypatch.setattr("xsearch.query.view.SCAN", 0)
    monkeypatch.setattr("os.fsync", lambda fd: None)
    store = Store.create(tmp_path / "c", FakeBackend().fingerprint)
    bring(store, media, 0, FILES, FakeBackend())
    return Collection(store, backend=FakeBackend())


# ---------------------------------------------------------------- what reads


def together(work: Callable[[int], Any], threads: int = THREADS) -> list[Any]:
    """What `work` returns in each of these threads, which start at the same moment."""
    start = threading.Barrier(threads)

    def run(thread: int) -> Any:
        start.wait(timeout=30)
        return work(thread)

    with ThreadPoolExecutor(threads) as pool:
        return [future.result() for future in [pool.submit(run, thread) for thread in range(threads)]]


def state_of(paths: list[str]) -> tuple[int, int]:
    """Round and number of files of an answer that holds everything. AssertionError for a mixture."""
    files = [Path(path) for path in paths]
    (round,) = {int(file.parent.name) for file in files}
    names = sorted(file.name for file in files)
    assert len(files) in (FILES, 2 * FILES), names
    assert names == sorted(f"{i}.{kind}" for i in range(len(files) // 2) for kind in ("txt", "png"))
    return round, len(files)


def read(collection: Collection, thread: int) -> list[tuple[int, int]]:
    """One answer of every sort; the states that those which hold everything belong to, in their order."""
    rng = np.random.default_rng(thread)
    states = []
    everything = 4 * FILES
    states.append(state_of([hit.path for hit in collection.search("red green", top=everything)]))
    # Few of many: through the index, one subset of it for each modality
    for answers in (
        collection.search_many(["red", "green", "blue"], top=3),
        [collection.search(vector(row, "image"), top=2) for row in np.eye(DIM, dtype=np.float32)[:2]],
        [collection.search("blue", top=3, rank="cosine", modality=rng.choice(["image", "text"]))],
    ):
        for hits in answers:
            assert len(hits) in (2, 3)
            assert len({hit.id for hit in hits}) == len(hits)
            assert len({Path(hit.path).parent for hit in hits}) == 1
            assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        assert len({Path(hit.path).parent for hits in answers[:1] for hit in hits}) == 1
    filtered = collection.search("red", top=everything, where="modality = 'text'")
    assert {hit.modality for hit in filtered} == {Modality.TEXT}
    assert len({(hit.text or "").split()[1] for hit in filtered}) == 1
    assert len(filtered) in (FILES // 2, FILES)
    states.append(state_of(collection.items()["path"].to_pylist()))
    assert collection.remove(where="true", dry_run=True) in (FILES, 2 * FILES)
    for facts in (collection.summary(), stats := collection.stats()):
        assert facts["items"] in (FILES, 2 * FILES)
        assert facts["modalities"] == {"image": facts["items"] // 2, "text": facts["items"] // 2}
        assert facts["index"] in ("Flat", "IVF1,Flat", "IVF4,Flat")
    assert stats["files"] == stats["items"]
    collection.index_info()
    return states


def check_order(states: list[tuple[int, int]]) -> None:
    """Nobody goes back: rounds ascend, and of each all files are there first, then half of them."""
    order = [(round, -count) for round, count in states]
    assert order == sorted(order)


def test_threads_that_share_a_collection_see_one_generation_at_a_time(
    collection: Collection, media: Path, caplog: pytest.LogCaptureFixture
) -> None:
    limit = time.monotonic() + 60  # the writer needs 2 s
    other = Collection(collection.store, backend=FakeBackend())
    with writing(collection.store, media) as writer:

        def work(thread: int) -> list[tuple[int, int]]:
            mine, states = other if thread == 0 else collection, []
            while writer.poll() is None and time.monotonic() < limit:
                states += read(mine, thread)
                time.sleep(0.01)  # and let others have the cores
            return states

        visited = together(work)
    for states in visited:
        check_order(states)
    assert {*read(collection, 0), *read(other, 0)} == {(ROUNDS, FILES)}
    assert len({state for states in visited for state in states}) > 3
    assert caplog.records == []  # no index was taken for a damaged one


# ---------------------------------------------------------------- moments that a race may hit, hit on purpose


class Raced(Store):
    """A store to which others write at a moment of the readers."""

    def __init__(self, path: Path, before_snapshot: Callable[[], None]) -> None:
        super().__init__(path)
        self._before_snapshot = before_snapshot

    def snapshot(self, previous: Snapshot | None = None) -> Snapshot:
        self._before_snapshot()
        return super().snapshot(previous)


def test_a_commit_between_looking_and_reading_is_not_missed(collection: Collection, media: Path) -> None:
    rounds: list[int] = []  # that others write, as soon as somebody has looked

    def others() -> None:
        if rounds:
            bring(collection.store, media, rounds.pop(), FILES // 2, FakeBackend())

    shared = Collection(Raced(collection.path, others), backend=FakeBackend())
    for round in (1, 3):
        bring(collection.store, media, round, FILES, FakeBackend())
        rounds.append(round + 1)
        assert state_of(shared.items()["path"].to_pylist()) == (round + 1, FILES)
        assert shared.summary()["generation"] == Collection(collection.store).summary()["generation"]


def test_an_index_that_is_compacted_away_before_it_is_read_is_not_damaged(
    collection: Collection, media: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write(collection.store, media, range(1, 2))
    load, waiting = xsearch.derive.load_index, [range(2, 3)]

    def late(snapshot: Snapshot) -> Index | None:
        if waiting:
            write(collection.store, media, waiting.pop())
            assert snapshot.index_path is not None
            assert not snapshot.index_path.exists()
        return load(snapshot)

    monkeypatch.setattr("xsearch.collection.load_index", late)
    assert state_of([hit.path for hit in collection.search("red", top=99)]) == (2, FILES)
    assert collection.summary()["index"] == collection.index_info()["recipe"] == "IVF4,Flat"
    assert caplog.records == []


def test_a_view_outlives_compactions(collection: Collection, media: Path) -> None:
    write(collection.store, media, range(2, 3))
    query = collection.search("red").query
    assert query is not None
    opened, before = collection.view(), [collection.search(query.query, top=top) for top in (3, 99)]
    unread = Collection(collection.store, backend=FakeBackend()).view()  # nothing of it was searched
    write(collection.store, media, range(3, 4))
    assert not {path.name for path in (collection.path / "segments").iterdir()} & {
        entry.uuid for entry in opened.snapshot.manifest.segments
    }
    for view in (opened, unread):
        assert [search(view, query, top=top) for top in (3, 99)] == before


def test_a_compaction_while_files_are_verified_is_no_damage(
    collection: Collection, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examine, waiting = verify._examine, [range(1, 2)]

    def late(*segment: Any) -> None:
        if waiting:
            write(collection.store, media, waiting.pop())
        examine(*segment)

    monkeypatch.setattr(verify, "_examine", late)
    assert collection.verify() == []
    assert waiting == []


def test_a_repair_leaves_those_who_search_alone(collection: Collection) -> None:
    (segment,) = (collection.path / "segments").iterdir()
    before = collection.search("red", top=99)
    opened = collection.view()
    (segment / "vectors.arrow").unlink()
    assert collection.verify(repair=True)
    assert before == search(opened, before.query, top=99)
    assert list(collection.search("red")) == []


def test_versions_differ_where_inode_and_time_do_not(collection: Collection, media: Path) -> None:
    """As on a file system that gives the inodes of deleted files away again, within a tick of its clock."""
    path, versions = collection.path / "manifest.json", set()
    before = path.read_bytes()
    bring(collection.store, media, 0, FILES // 2, FakeBackend())
    after = path.read_bytes()
    for content in (before, after):
        path.write_bytes(content)
        os.utime(path, ns=(0, 0))
        versions.add(collection.store.version())
    assert len(versions) == 2


def test_a_collection_that_is_gone_is_no_collection(collection: Collection) -> None:
    shutil.rmtree(collection.path)
    with pytest.raises(NoCollection):
        collection.search("red")


def test_one_answer_may_be_read_by_threads(collection: Collection) -> None:
    hits = collection.search("red", top=3)
    first = [*hits._read()]  # where Python computes a cached property twice
    assert [*hits._read()] == first == list(hits)


if __name__ == "__main__":
    os.fsync = lambda fd: None
    print("ready", flush=True)
    write(Store.open(Path(sys.argv[1])), Path(sys.argv[2]), range(1, int(sys.argv[3]) + 1))
