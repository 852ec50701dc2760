"""Damage anywhere in a collection is found, is never searched in silence, and can be repaired."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.fakes import FakeBackend
from tests.make_fixture import make
from xsearch.collection import Collection
from xsearch.errors import Damaged, Locked, NoCollection, StoreError, XsearchError
from xsearch.ingest import ingest
from xsearch.integrity import verify
from xsearch.store import Store
from xsearch.store.manifest import read_manifest, write_manifest
from xsearch.store.segments import write_segment
from xsearch.system.durable import digest
from xsearch.system.folder import Folder

OLD = Path(__file__).parent / "fixtures" / "format-1"  # made by the release that wrote it


@pytest.fixture(autouse=True)
def _few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also a tiny collection is searched through its index."""
    monkeypatch.setattr("xsearch.query.view.SCAN", 0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("indexes") / "whole").path


@pytest.fixture
def path(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "c"))


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


def test_a_repair_that_is_killed_is_done_by_the_next_one(whole, tmp_path):
    steps: list[str] = ["none"]
    for last in range(100):
        if len(steps) < last:
            break
        path = Path(shutil.copytree(whole, tmp_path / f"killed {last}"))
        broken = {read_manifest(path).segments[1].folder, read_manifest(path).tables()[0]}
        for name in broken:
            flip(path / name / "items.parquet" if "segments" in name else path / name)
        lost = verify(path)[0].lost
        steps.clear()

        def step(name: str, last: int = last) -> None:
            steps.append(name)
            if len(steps) > last:
                raise KeyboardInterrupt

        with suppress(KeyboardInterrupt), Store(path).writer(step=step) as writer:
            writer.quarantine(broken)
        if "rename manifest.json" not in steps[:last]:  # not committed
            assert verify(path, repair=True)[0].lost == lost
        assert verify(path) == []
        assert len(read_manifest(path).segments) == 1
    assert len(steps) < 100
    assert sum(name.startswith("rename ") for name in steps) == 2 + 3  # then the mark, the manifest, its copy


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


def test_without_a_manifest_nothing_can_be_done(path, tmp_path):
    with pytest.raises(NoCollection):
        verify(tmp_path)
    for name in ("manifest.json", "manifest.copy.json"):
        flip(path / name)
    for repair in (False, True):
        with pytest.raises(StoreError, match="restore one of them from a backup"):
            verify(path, repair=repair)


# ---------------------------------------------------------------- a collection of format 1


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLD, tmp_path / "old"))


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
