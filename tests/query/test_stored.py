"""Of files that the collection has, the stored vectors are taken; and their items are the query's own."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pytest

import xsearch
from tests.fakes import FakeBackend
from tests.small_files import one_of_each
from xsearch.collection import Collection
from xsearch.media import sha256
from xsearch.query import Part, Query, embed, parse
from xsearch.types import Modality


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file of every kind, the depth map with its camera."""
    folder = tmp_path_factory.mktemp("media")
    files = one_of_each(folder, np.full((20, 20, 3), (200, 90, 20), np.uint8))
    (folder / "depth").mkdir()
    (folder / "depth" / "camera.json").write_text('{"unit_m": 0.002}')
    return files | {"depth": files["depth"].rename(folder / "depth" / "a.png")}


@pytest.fixture
def files(original: dict[str, Path], tmp_path: Path) -> dict[str, Path]:
    folder = original["image"].parent
    shutil.copytree(folder, tmp_path / "media")
    return {kind: tmp_path / "media" / path.relative_to(folder) for kind, path in original.items()}


@pytest.fixture
def collection(tmp_path: Path, files: dict[str, Path]) -> Collection:
    collection = Collection.create(tmp_path / "c", backend=FakeBackend())
    collection.ingest(tmp_path / "media")
    return collection


def ask(collection: Collection, query: Query | str | Path) -> tuple[np.ndarray, list[int], int]:
    """The vector, the own ids, and how many samples had to be embedded."""
    backend = collection.backend
    assert isinstance(backend, FakeBackend)
    backend.seen.clear()
    query_ = collection.search(query).query
    assert query_ is not None
    return query_.vector, query_.own.tolist(), len(backend.seen)


def ids(collection: Collection, where: str) -> list[int]:
    found: list[int] = collection.items(where=where, columns=["id"])["id"].to_pylist()
    assert found
    return found


@pytest.mark.parametrize("kind", list(Modality))
def test_a_stored_file_has_the_vector_that_embedding_it_gives(
    collection: Collection, files: dict[str, Path], kind: Modality
) -> None:
    (fresh,) = embed([parse(files[kind])], FakeBackend())
    queries = [parse(files[kind])]
    if kind is not Modality.DEPTH:  # without its camera it is another depth map
        queries.append(Query((Part(None, files[kind].read_bytes()),)))
    for query in queries:
        vector, own, embedded = ask(collection, query)
        np.testing.assert_allclose(vector, fresh.vector, atol=2e-3)  # stored as float16
        assert own == ids(collection, f"path = '{files[kind]}'")
        assert embedded == 0


def test_content_decides_where_the_name_or_the_time_differs(
    collection: Collection, files: dict[str, Path], tmp_path: Path
) -> None:
    own = ids(collection, "modality = 'audio'")
    copy = shutil.copy(files["audio"], tmp_path / "copy.wav")
    assert ask(collection, copy)[1:] == (own, 0)
    os.utime(files["audio"], ns=(0, 0))
    assert ask(collection, files["audio"])[1:] == (own, 0)
    files["audio"].write_bytes(files["audio"].read_bytes()[:-400])
    assert ask(collection, files["audio"])[1:] == ([], 3)
    collection.ingest(tmp_path)
    assert ask(collection, copy)[1:] == (ids(collection, f"path = '{copy}'"), 0)
    shutil.copy(copy, tmp_path / "again.wav")
    collection.ingest(tmp_path)
    assert ask(collection, copy)[1:] == (ids(collection, f"path = '{copy}' OR path LIKE '%again.wav'"), 0)
    collection.remove(paths=[copy, tmp_path / "again.wav"])
    assert ask(collection, copy)[1:] == ([], 3)


def test_another_kind_of_a_stored_file_is_embedded_and_a_text_is_just_words(
    collection: Collection, files: dict[str, Path]
) -> None:
    own = ids(collection, "modality = 'image'")
    assert ask(collection, xsearch.thermal(files["image"]))[1:] == (own, 1)
    assert ask(collection, "a dog on the beach")[1:] == ([], 1)
    total = xsearch.image(files["image"]) - xsearch.audio(files["audio"]) + xsearch.text("red")
    assert ask(collection, total)[1:] == (sorted(own + ids(collection, "modality = 'audio'")), 1)


def test_a_window_stands_for_its_file_and_copies(collection: Collection, files: dict[str, Path]) -> None:
    own = ids(collection, "modality = 'audio'")
    shutil.copy(files["audio"], files["audio"].with_name("copy.wav"))
    collection.ingest(files["audio"].parent)
    vector, found, embedded = ask(collection, xsearch.item(own[1]))
    assert (found, embedded) == (ids(collection, "modality = 'audio'"), 0)
    np.testing.assert_allclose(vector, collection.snapshot().vectors(np.array(own[1:2]))[0], atol=1e-3)


def table(path: Path, kinds: list[str], **state: object) -> pa.Table:
    columns = {name: [value] * len(kinds) for name, value in state.items()}
    return pa.table({"path": [str(path)] * len(kinds), "modality": kinds, **columns})


def axes(*at: int) -> np.ndarray:
    return np.eye(FakeBackend().fingerprint.dim, dtype=np.float32)[list(at)]


def test_a_video_is_its_frames_unless_its_sound_is_asked_for(
    collection: Collection, files: dict[str, Path]
) -> None:
    film = files["video"].with_name("other.mp4")
    film.write_bytes(files["video"].read_bytes() + b"\0")
    state = {"bytes": film.stat().st_size, "mtime_ns": film.stat().st_mtime_ns, "sha256": sha256(film)}
    with collection.store.writer() as writer:
        own = writer.add(table(film, ["video", "video", "audio"], **state), axes(0, 1, 2)).tolist()
        writer.commit()
    vector, found, embedded = ask(collection, film)
    assert (found, embedded) == (own, 0)
    np.testing.assert_allclose(vector, axes(0, 1).sum(axis=0) / np.sqrt(2), atol=1e-3)
    np.testing.assert_allclose(ask(collection, xsearch.audio(film))[0], axes(2)[0], atol=1e-3)
    content = Query((Part(None, film.read_bytes()),))
    np.testing.assert_array_equal(ask(collection, content)[0], vector)


@pytest.mark.parametrize("state", [{}, {"sha256": ""}])
def test_what_is_unknown_of_a_file_equals_nothing_but_its_name(
    collection: Collection, files: dict[str, Path], state: dict[str, object]
) -> None:
    other = files["image"].with_name("other.jpg")
    other.write_bytes(files["image"].read_bytes() + b"\0")
    with collection.store.writer() as writer:
        own = writer.add(table(other, ["image", "text"], **state), axes(0, 1)).tolist()
        writer.add(table(other.with_name("no.jpg"), ["image"], **state), axes(0))
        writer.commit()
    assert ask(collection, other)[1:] == (own, 1)
    assert ask(collection, xsearch.item(own[0]))[1] == own
    assert ask(collection, files["image"])[1] == ids(collection, f"path = '{files['image']}'")


def test_a_url_that_is_stored_is_not_fetched(tmp_path: Path, files: dict[str, Path]) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/stored/a.jpg", files["image"].read_bytes())
    collection = Collection.create(tmp_path / "remote", backend=FakeBackend())
    collection.ingest("memory://stored")
    own = ids(collection, "TRUE")
    assert ask(collection, "memory://stored/a.jpg")[1:] == (own, 0)
    memory.pipe("/stored/copy.jpg", files["image"].read_bytes())
    assert ask(collection, "memory://stored/copy.jpg")[1:] == (own, 0)
    assert ask(collection, files["image"])[1:] == (own, 0)
    memory.pipe("/stored/b.jpg", files["image"].read_bytes() + b"\0")
    assert ask(collection, "memory://stored/b.jpg")[1:] == ([], 1)


def test_many_files_of_one_size_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compared as a whole column, or row by row."""
    collection = Collection.create(tmp_path / "many", backend=FakeBackend())
    paths, digests = [f"/{i}.npy" for i in range(300)], [f"{i // 2:064x}" for i in range(300)]
    same = {"bytes": [7] * 300, "mtime_ns": [9] * 300}
    for _ in range(2):
        with collection.store.writer() as writer:
            items = pa.table({"path": paths, "modality": ["depth"] * 300, "sha256": digests, **same})
            writer.add(items, axes(*[0] * 300))
            writer.remove(np.array([8]))
            writer.commit()
    snapshot = collection.snapshot()
    for scattered in (0, 1000):
        monkeypatch.setattr("xsearch.store.segments.SCATTERED", scattered)
        assert snapshot.of_content(7, lambda: digests[8]).tolist() == [9, 308, 309]
        assert snapshot.of_file("/8.npy", 7, 9).tolist() == [308]
        assert snapshot.of_file("/8.npy", 7, 8).tolist() == []
    assert snapshot.of_content(6, lambda: pytest.fail("hashed in vain")).tolist() == []
