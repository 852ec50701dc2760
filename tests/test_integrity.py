"""Damage anywhere in a collection is found, is never searched in silence, and can be repaired."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from functools import partialmethod
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.fakes import FakeBackend
from tests.make_fixture import make
from xsearch.collection import Collection
from xsearch.errors import Damaged, Locked, NoCollection, StoreError, UsageError, XsearchError
from xsearch.exchange import import_
from xsearch.ingest import ingest
from xsearch.integrity import verify
from xsearch.store import Store
from xsearch.store.manifest import read_manifest, write_manifest
from xsearch.store.pages import PAGE
from xsearch.store.segments import write_segment
from xsearch.system.durable import digest
from xsearch.system.folder import Folder

OLD = Path(__file__).parent / "fixtures" / "format-1"  # made by the release that wrote it


@pytest.fixture(autouse=True)
def _few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also a tiny collection is searched through its index. Nothing waits for the disk."""
    monkeypatch.setattr("xsearch.query.view.SCAN", 0)
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("indexes") / "whole").path


@pytest.fixture
def path(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "c"))


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLD, tmp_path / "old"))


def answers(path: Path) -> list[Any]:
    """What is to be had from a collection, opened anew: hits of two searches, items, skipped files."""
    collection = Collection(Store.open(path), backend=FakeBackend())
    hits = [collection.search("red", top=20), collection.search("green blue", top=3, modality="text")]
    found = [sorted((hit.id, round(hit.cosine, 4)) for hit in some) for some in hits]  # ties in any order
    return [*found, collection.items().to_pylist(), collection.skipped().to_pylist()]


def files(path: Path) -> list[str]:
    return sorted(
        str(file.relative_to(path))
        for file in path.rglob("*")
        if file.is_file() and file.stat().st_size and file.parent.name != "generations"
    )


def damaged(content: bytes, seed: int) -> list[bytes]:
    """Five times with one byte changed, then emptied, cut twice, and grown."""
    rng = np.random.default_rng(seed)
    size = len(content)
    flipped = [
        content[:at] + bytes([content[at] ^ int(rng.integers(1, 256))]) + content[at + 1 :]
        for at in (0, size - 1, *rng.integers(0, size, 3).tolist())
    ]
    return [*flipped, b"", content[:-1], content[: int(rng.integers(1, size))], content + content]


def test_any_damage_is_found_never_searched_and_repaired(whole, tmp_path):
    before = answers(whole)
    assert verify(whole) == []
    path = tmp_path / "c"
    for seed, name in enumerate(files(whole)):
        for number, content in enumerate(damaged((whole / name).read_bytes(), seed)):
            shutil.copytree(whole, path)
            (path / name).write_bytes(content)
            found = verify(path)
            assert any(name.startswith(finding.path) for finding in found), (name, number, found)
            try:
                assert answers(path) == before, (name, number)
            except XsearchError as error:
                assert "verify" in str(error)  # noqa: PT017
            if number in (4, 5):
                assert verify(path, repair=True) == found
                assert verify(path) == [], (name, number)
                assert len(answers(path)) == len(before)
            shutil.rmtree(path)


@pytest.mark.parametrize("name", ["manifest.json", "manifest.copy.json"])
@pytest.mark.parametrize("digit", [b"0", b"1", b"2", b"9"])
def test_a_format_that_is_damaged_is_not_taken_for_another(path, name, digit):
    content = (path / name).read_bytes()
    (path / name).write_bytes(content.replace(b'"format": 3', b'"format": ' + digit))
    (finding,) = verify(path, repair=True)
    assert finding.path == name
    assert verify(path) == []


def test_a_file_that_is_gone_is_found_and_repaired(whole, tmp_path):
    path = tmp_path / "c"
    for name in set(files(whole)) - {"high-water.json"}:  # collections of earlier releases have none
        shutil.copytree(whole, path)
        (path / name).unlink()
        (finding,) = verify(path)
        assert name.startswith(finding.path)
        assert "missing" in finding.problem or "No such file" in finding.problem
        verify(path, repair=True)
        assert verify(path) == []
        assert answers(path)[0]
        shutil.rmtree(path)


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_the_files_of_a_broken_segment_are_named_and_embedded_again(tmp_path):
    media, store = tmp_path / "media", Store.create(tmp_path / "c", FakeBackend().fingerprint)
    media.mkdir()
    for word in ("red", "green", "blue"):
        (media / f"{word}.txt").write_text(word)
        ingest(store, [media], FakeBackend(), decoders=0)
    first, second, third = read_manifest(store.path).segments
    flip(store.path / second.folder / "vectors.arrow")

    (finding,) = verify(store.path, repair=True)
    assert (finding.path, finding.problem) == (f"{second.folder}/vectors.arrow", "a wrong sha256")
    assert finding.lost == (str(media / "green.txt"),)
    assert (store.path / "quarantine" / second.folder / "vectors.arrow").exists()
    assert read_manifest(store.path).segments == (first, third)

    backend = FakeBackend()
    ingest(store, [media], backend, decoders=0)
    assert [sample.data for sample in backend.seen] == ["green"]
    assert [item["text"] for item in answers(store.path)[2]] == ["red", "blue", "green"]


def test_what_follows_from_a_lost_list_is_said_and_true(path):
    manifest = read_manifest(path)
    for name in manifest.tables():
        flip(path / name)
    removed, skipped = verify(path, repair=True)
    assert "removed items may be back" in removed.remedy
    assert "tries the files" in skipped.remedy
    assert len(answers(path)[2]) == len(answers(OLD)[2]) + 1
    assert answers(path)[3] == []


def zeroed(file: Path, page: int) -> None:
    content = bytearray(file.read_bytes())
    content[page * PAGE : (page + 1) * PAGE] = bytes(len(content[page * PAGE : (page + 1) * PAGE]))
    file.write_bytes(content)


def swap(one: Path, other: Path) -> None:
    one.rename(one.with_suffix(".away"))
    other.rename(one)
    one.with_suffix(".away").rename(other)


def rows(path: Path) -> dict[int, tuple[Any, ...]]:
    """Vector and columns of each live item."""
    snapshot = Store.open(path).snapshot()
    vectors = snapshot.vectors(snapshot.ids)
    return {
        row["id"]: (vector.tobytes(), *row.values())
        for row, vector in zip(snapshot.table().to_pylist(), vectors, strict=True)
    }


REBUILT = ("items.parquet", "items.arrow", "checksums.bin", "items.checksums.bin")


def test_what_another_file_has_is_never_lost(whole, tmp_path):
    """Any two files swapped; any file that is derived damaged in any way: all items stay, with their ids."""
    before, names = answers(whole), files(whole)
    pairs = [(one, other) for one in names for other in names if one < other]
    for one, other in [*pairs, *((name, "") for name in names)]:
        path = Path(shutil.copytree(whole, tmp_path / "c"))
        if other:
            swap(path / one, path / other)
        else:
            (path / one).unlink()
        damaged = {one, other}
        swapped = bool(other) and (path / one).read_bytes() != (path / other).read_bytes()
        found = verify(path)
        gone = not other and one.endswith(("vectors.arrow", ".parquet")) and not one.endswith("items.parquet")
        if gone:  # nothing else has what it had
            assert [finding.path for finding in found] == [one]
        elif swapped or (not other and one != "high-water.json"):
            assert found, damaged
            assert not [finding for finding in found if finding.lost], (damaged, found)
        assert verify(path, repair=True) == found
        assert verify(path) == [], (damaged, found)
        if not gone:
            assert answers(path) == before, (damaged, found)
        shutil.rmtree(path)


@pytest.mark.parametrize("name", REBUILT)
@pytest.mark.parametrize("number", range(8))
def test_a_file_of_a_segment_is_rebuilt_from_the_others(path, name, number):
    before = rows(path)
    for entry in read_manifest(path).segments:
        file = path / entry.folder / name
        file.write_bytes(damaged(file.read_bytes(), 5)[number])
    found = verify(path)
    assert {finding.remedy for finding in found} == {
        "rebuilt from the other files of its segment, no item is lost"
    }
    assert verify(path, repair=True) == found
    assert verify(path) == []
    assert rows(path) == before
    assert not (path / "quarantine").exists()


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two segments of many pages: 700 files of two items each."""
    store = Store.create(tmp_path_factory.mktemp("large") / "c", FakeBackend().fingerprint, "bundled")
    rng = np.random.default_rng(8)
    for part in range(2):
        numbers = range(700 * part, 700 * part + 700)
        vectors = rng.standard_normal((700, 16), np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        items = {
            "path": [f"/media/{number // 2}" for number in numbers],
            "modality": ["text"] * 700,
            "bytes": [number // 2 for number in numbers],
            "text": [f"text {number} {'x' * (number % 40)}" if number % 3 else None for number in numbers],
            "flag": [number % 2 == 0 for number in numbers],
            "names": [[str(number)] for number in numbers],
        }
        with store.writer() as writer:
            writer.add(
                pa.table(items), (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype("f4")
            )
            writer.commit()
    with store.writer() as writer:
        writer.remove([5, 100, 101, 900])
        writer.commit()
    return store.path


@pytest.mark.parametrize("page", [0, 1, 2, 5, -1])
@pytest.mark.parametrize("ruin", ["flipped", "zeroed", "cut", "grown"])
@pytest.mark.parametrize("also", [(), ("items.parquet",), ("items.arrow", "items.checksums.bin")])
def test_damaged_vectors_cost_the_rows_of_their_pages(large, tmp_path, page, ruin, also):
    path = Path(shutil.copytree(large, tmp_path / "c"))
    before, entry = rows(path), read_manifest(path).segments[0]
    file = path / entry.folder / "vectors.arrow"
    content = file.read_bytes()
    buffer = pa.py_buffer(content)
    start = pa.ipc.open_file(buffer).get_batch(0)["vector"].values.buffers()[1].address - buffer.address
    page %= -(-len(content) // PAGE)
    first, end = page * PAGE, page * PAGE + PAGE
    bad = {
        "flipped": content[: first + 1] + bytes([content[first + 1] ^ 64]) + content[first + 2 :],
        "zeroed": content[:first] + bytes(len(content[first:end])) + content[end:],
        "cut": content[:first],
        "grown": content + b"grown",
    }[ruin]
    file.write_bytes(bad)
    for name in also:
        flip(path / entry.folder / name)
    end = len(content) if ruin == "cut" else end
    hit = {row for row in range(700) if start + 32 * row < end and start + 32 * row + 32 > first}
    hit -= hit if ruin == "grown" else set()
    found = verify(path)
    assert verify(path, repair=True) == found
    assert verify(path) == []

    lost, after = hit & before.keys(), rows(path)
    assert before.keys() - after.keys() == lost
    paths = {f"/media/{id // 2}" for id in lost}
    assert {path for finding in found for path in finding.lost} == paths
    for id, row in after.items():  # an ingest reads files again of whose state nothing is known
        assert row == before[id] if f"/media/{id // 2}" not in paths else row[0] == before[id][0]
    aside = path / "quarantine" / entry.folder / "vectors.arrow"
    assert aside.exists() == bool(lost)
    if lost:
        many = f"{len(lost)} of 697 items" if len(lost) < 697 else "697 items"
        assert f"{many} are gone until the next ingest" in found[-1].remedy
        assert aside.read_bytes() == bad


@pytest.mark.parametrize("pages", [(0,), (1,), (2, 9), (7,), (-1,)])
@pytest.mark.parametrize("parquet", [False, True])
def test_damaged_items_cost_the_rows_of_their_pages(large, tmp_path, pages, parquet):
    """Both files of the items are damaged."""
    path = Path(shutil.copytree(large, tmp_path / "c"))
    before, entry = rows(path), read_manifest(path).segments[0]
    flip(path / entry.folder / "items.parquet")
    if parquet:
        (path / entry.folder / "items.arrow").unlink()
    else:
        for page in pages:
            zeroed(path / entry.folder / "items.arrow", page)
    found = verify(path)
    assert verify(path, repair=True) == found
    assert verify(path) == []
    after = rows(path)
    assert all(before[id][:3] == row[:3] for id, row in after.items())
    lost = before.keys() - after.keys()
    assert (len(lost) == 697) == (parquet or pages in ((0,), (2, 9)))  # metadata, and a column of lists
    assert not lost or all(f" {len(lost)} " in finding.remedy for finding in found)
    assert {path for finding in found for path in finding.lost} == {f"/media/{id // 2}" for id in lost}


def test_a_repair_that_is_interrupted_is_completed_by_the_next_one(large, tmp_path, monkeypatch):
    """Every step fails once: then all is as it was; or is the last one: then the next repair does it."""
    first, second = read_manifest(large).segments

    def ruined() -> Path:
        path = Path(shutil.copytree(large, tmp_path / f"{len(list(tmp_path.iterdir()))}"))
        swap(path / first.folder / "items.arrow", path / second.folder / "vectors.arrow")
        swap(path / first.folder / "checksums.bin", path / "manifest.copy.json")
        zeroed(path / first.folder / "vectors.arrow", 4)
        flip(path / read_manifest(path).tables()[0])
        return path

    def tree(path: Path) -> dict[str, bytes]:
        return {name: (path / name).read_bytes() for name in files(path) if name != "high-water.json"}

    steps: list[str] = []
    fails: type[BaseException] = OSError
    last = 10**6

    def step(name: str) -> None:
        steps.append(name)
        if len(steps) == last or (len(steps) > last and fails is KeyboardInterrupt):
            raise fails

    monkeypatch.setattr(Store, "writer", partialmethod(Store.writer, step=step))
    monkeypatch.setattr("xsearch.integrity.derive", lambda writer: None)
    path = ruined()
    found = verify(path, repair=True)
    lost = {path for finding in found for path in finding.lost}
    whole, every = rows(path), len(steps)
    assert len(whole) < 1400
    for fails in (OSError, KeyboardInterrupt):
        for last in range(1, every + 1):
            steps.clear()
            path = ruined()
            before = tree(path)
            try:
                verify(path, repair=True)
            except (StoreError, KeyboardInterrupt):
                if fails is OSError and "rename manifest.json" not in steps[: last - 1]:
                    assert tree(path) == before, steps[last - 1]
                    shutil.rmtree(path)
                    continue
            steps.clear()
            limit, last = last, 10**6
            again = verify(path, repair=True)
            assert verify(path) == [], (fails, limit)
            assert rows(path) == whole, (fails, limit, again)
            assert {path for finding in again for path in finding.lost} in (lost, set())
            shutil.rmtree(path)
            last = limit


def test_what_is_set_aside_can_be_imported(old):
    """Format 1 has no page checksums: rows of a damaged file are only taken when the user says so."""
    before, entry = rows(old), read_manifest(old).segments[0]
    file = old / entry.folder / "vectors.arrow"
    content = bytearray(file.read_bytes())
    content[content.index(np.float16(0.5 / 1.25**0.5).tobytes())] ^= 64  # a component of the first vector
    for number in (0, 1):  # the second repair must not touch what the first has set aside
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content)
        if number:
            shutil.copyfile(OLD / entry.folder / "items.parquet", file.with_name("items.parquet"))
            shutil.copyfile(OLD / "manifest.json", old / "manifest.json")
            (old / "manifest.copy.json").unlink()
        findings = verify(old)
        assert verify(old, repair=True) == findings
        finding = findings[-1]
        command = f"`xsearch import {old}/quarantine/{entry.folder}{'.1' * number} --collection {old}`"
        assert f"9 items are gone until the next ingest; {command} takes 8 that" in finding.remedy
    (old / "segments" / entry.uuid).mkdir()  # neither this nor the quarantine is garbage
    with Store.open(old).writer() as writer:
        writer.compact()
    done = import_(old / "quarantine", old)
    assert (sum(done.new.values()), done.known, done.unusable) == (8, 8, 2)
    imported = {row[2:8]: row[0] for row in rows(old).values()}
    missing = [id for id, row in before.items() if imported.get(row[2:8]) != row[0]]
    assert missing == [0]  # without the removed item 3
    assert verify(old) == []


def test_a_segment_without_a_collection_can_be_imported(large, tmp_path):
    """It says what its model is."""
    entry = read_manifest(large).segments[0]
    shutil.copytree(large / entry.folder, tmp_path / "alone")
    zeroed(tmp_path / "alone" / "vectors.arrow", 3)
    done = import_(tmp_path / "alone", tmp_path / "c")
    assert read_manifest(tmp_path / "c").fingerprint == FakeBackend().fingerprint
    assert read_manifest(tmp_path / "c").source == "bundled"
    assert sum(done.new.values()) + done.unusable == 700
    assert done.unusable <= PAGE // 32 + 1
    with pytest.raises(UsageError, match="as written by `xsearch export`"):
        import_(large, tmp_path / "c")


def test_a_file_of_which_windows_are_lost_is_embedded_again(tmp_path):
    media, store = tmp_path / "long.txt", Store.create(tmp_path / "c", FakeBackend().fingerprint)
    media.write_text("\n\n".join(" ".join([word] * 40) for word in ("red", "green", "blue") * 60))
    ingest(store, [media], FakeBackend(), decoders=0)
    before = rows(store.path)
    (entry,) = read_manifest(store.path).segments
    zeroed(store.path / entry.folder / "vectors.arrow", 1)
    (finding,) = verify(store.path, repair=True)
    assert finding.lost == (str(media),)
    assert 0 < len(rows(store.path)) < len(before)
    ingest(store, [media], FakeBackend(), decoders=0)
    assert [row[:1] + row[2:] for row in rows(store.path).values()] == [
        row[:1] + row[2:] for row in before.values()
    ]


@pytest.mark.parametrize("name", ["vectors.arrow", "items.parquet", "checksums.bin", "items.checksums.bin"])
def test_a_pipe_or_a_sparse_file_does_not_stop_a_repair(path, name):
    first, second = read_manifest(path).segments
    (path / first.folder / name).unlink()
    os.mkfifo(path / first.folder / name)
    with (path / second.folder / name).open("r+b") as file:
        file.truncate(1 << 42)
    found = verify(path)
    assert [finding.problem[:20] for finding in found] == ["not a regular file", "larger than 1,089,47"]
    assert verify(path, repair=True) == found
    assert verify(path) == []


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("lock"), None])
def test_no_file_of_a_collection_need_be_a_file(whole, tmp_path, make):
    for number, name in enumerate(files(whole)):
        path = Path(shutil.copytree(whole, tmp_path / f"{number}"))
        if make:
            (path / name).unlink()
            make(path / name)
        else:
            with (path / name).open("r+b") as file:
                file.truncate(1 << 42)
        found = verify(path)
        assert name.startswith(found[0].path), (name, found)
        assert verify(path, repair=True) == found
        assert verify(path) == [], name


def test_a_collection_that_loses_all_its_items_is_left_empty(large, tmp_path):
    path = Path(shutil.copytree(large, tmp_path / "c"))
    for entry in read_manifest(path).segments:
        (path / entry.folder / "vectors.arrow").unlink()
    first, second = verify(path, repair=True)
    assert (len(first.lost), len(second.lost)) == (349, 350)  # both items of a file were removed before
    assert verify(path) == []
    assert len(Store.open(path).snapshot()) == 0


def test_an_index_without_items_is_dropped(path):
    for file in path.glob("segments/*/vectors.arrow"):
        file.unlink()
    verify(path, repair=True)
    assert verify(path) == []
    assert answers(path)[:3] == [[], [], []]


def test_a_link_is_no_file_of_a_collection(path, tmp_path):
    """What it points to is neither moved nor changed."""
    entry, content = read_manifest(path).segments[0], b"mine"
    (tmp_path / "mine").write_bytes(content)
    (path / entry.folder / "items.arrow").unlink()
    (path / entry.folder / "items.arrow").symlink_to(tmp_path / "mine")
    before = rows(OLD)
    verify(path, repair=True)
    assert verify(path) == []
    assert rows(path) == before
    assert (tmp_path / "mine").read_bytes() == content


def test_a_repair_waits_for_no_writer(path):
    flip(path / "manifest.copy.json")
    with Store(path).writer(), pytest.raises(Locked):
        verify(path, repair=True)
    assert len(verify(path)) == 1


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda items, vectors: (items, vectors * np.nan), "vector of id 15 has length nan"),
        (lambda items, vectors: (items, np.r_[vectors[:1], 2 * vectors[1:]]), "vector of id 16 has length 2"),
        (lambda items, vectors: (items.set_column(0, "id", [[15, 15]]), vectors), "ids are not ascending"),
        (
            lambda items, vectors: (items.set_column(0, "id", [[14, 15]]), vectors),
            "ids from 14 to 15 are out of range",
        ),
        (
            lambda items, vectors: (items.set_column(2, "modality", [["text", "smell"]]), vectors),
            "valid modality",
        ),
    ],
)
def test_a_segment_with_right_checksums_and_wrong_content(path, spoil, problem):
    items = pa.table({"id": [15, 16], "path": ["/media/a", "/media/b"], "modality": ["text", "text"]})
    vectors = np.eye(16, dtype=np.float16)[:2]
    entry = write_segment(Folder(path / "segments"), *spoil(items, vectors))
    manifest = read_manifest(path)
    write_manifest(Folder(path), replace(manifest, segments=(*manifest.segments, entry), next_id=17))
    (finding,) = verify(path)
    assert problem in finding.problem
    verify(path, repair=True)
    assert verify(path) == []
    assert answers(path) == answers(OLD)


def test_an_index_or_a_calibration_with_right_checksums_and_wrong_content(path):
    manifest = read_manifest(path)
    plan = path / "index" / str(manifest.index) / "plan.json"
    content = json.loads(plan.read_text())
    plan.write_text(json.dumps(content | {"covered": [[1, 14]]}))  # of 0 to 2 and 4 to 14
    digests = {**manifest.digests, str(plan.relative_to(path)): digest(plan)}
    pairs = {"next_id": 15, "pairs": {"text,text": [float("nan"), 1.0, 9]}}
    write_manifest(Folder(path), replace(manifest, digests=digests, calibration=pairs))
    collection = Collection(Store.open(path), backend=FakeBackend())
    assert collection.verify() == verify(path)
    calibration, index = collection.verify(repair=True)
    assert "calibration: not finite" in calibration.problem
    assert "items differ from those listed" in index.problem
    assert verify(path) == []
    assert answers(path) == answers(OLD)


def test_without_a_manifest_and_segments_nothing_can_be_done(old, tmp_path):
    """Segments of earlier releases do not tell their model."""
    (tmp_path / "none").mkdir()
    with pytest.raises(NoCollection):
        verify(tmp_path / "none")
    flip(old / "manifest.json")
    for repair in (False, True):
        with pytest.raises(StoreError, match="restore one of them from a backup"):
            verify(old, repair=repair)


@pytest.mark.parametrize("ruin", [flip, Path.unlink])
@pytest.mark.parametrize("also", ["", "high-water.json", *REBUILT])
def test_lost_manifests_are_rebuilt_from_the_segments(path, ruin, also):
    with Store.open(path).writer() as writer:  # segments of the previous generation stay for its readers
        writer.remove([1, 14])
        writer.commit()
        writer.compact()
        writer.remove([2])
        writer.commit()
    before, generation = answers(path), read_manifest(path).generation
    for name in ("manifest.json", "manifest.copy.json"):
        ruin(path / name)
    with pytest.raises(StoreError, match="verify --repair"):
        Store.open(Store.create(path, FakeBackend().fingerprint, exist_ok=True).path)
    if also == "high-water.json":
        ruin(path / also)
    elif also:
        for file in path.glob(f"segments/*/{also}"):
            flip(file)
    found = verify(path)
    assert verify(path, repair=True) == found
    assert verify(path) == []
    assert not [finding for finding in found if finding.lost]
    assert answers(path) == before
    manifest = read_manifest(path)
    assert manifest.next_id == 15 - (also == "high-water.json")
    assert manifest.generation > generation or also == "high-water.json"
    assert manifest.source == "bundled"


# ---------------------------------------------------------------- a collection of format 1


def test_format_2_opens_and_answers(whole):
    old = OLD.with_name("format-2")
    assert (read_manifest(old).format, read_manifest(old).words) == (2, None)
    assert answers(old) == answers(whole)
    assert verify(old) == []


def test_format_1_opens_answers_and_is_verified_as_far_as_it_has_checksums(old, whole):
    assert read_manifest(old).format == 1
    assert answers(old) == answers(whole)
    assert verify(old) == []
    for name in files(old):
        if name.startswith("segments"):
            flip(old / name)
            assert [finding.path for finding in verify(old)] == [name]
            with Store(old).writer() as writer, pytest.raises(Damaged):
                writer.compact()  # the damage would get a right checksum
            flip(old / name)


@pytest.mark.parametrize("fixture", ["format-1", "format-2"])
def test_an_earlier_format_becomes_format_3_with_the_first_commit(fixture, tmp_path):
    old = Path(shutil.copytree(OLD.with_name(fixture), tmp_path / "old"))
    before = answers(old)
    (tmp_path / "new.txt").write_text("bright blue")
    ingest(Store.open(old), [tmp_path / "new.txt"], FakeBackend(), decoders=0)
    assert read_manifest(old).format == 3
    assert answers(old)[2][:-1] == before[2]
    assert verify(old) == []
    for name in files(old):
        if not name.startswith("index"):  # not needed for so few items
            flip(old / name)
            assert verify(old), name
            flip(old / name)
    with Store.open(old).writer() as writer:
        writer.compact()
    assert all("checksums.bin" in entry.sha256 for entry in read_manifest(old).segments)
    assert verify(old) == []
