"""What passes costs no items, is not remembered as damage, and is tried again at every ingest."""

from __future__ import annotations

import errno
import json
import os
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from PIL import Image

from tests.fakes import FakeBackend
from xsearch import media
from xsearch.collection import Collection
from xsearch.errors import ModelError, Reason, SkipKind, Transient
from xsearch.ingest import Report, ingest
from xsearch.ingest.work import embed
from xsearch.media import Skipped
from xsearch.types import MediaFile, Modality, Sample

from .conftest import fill


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A picture, a text and a folder with another text."""
    folder = tmp_path / "media"
    (folder / "deep").mkdir(parents=True)
    Image.new("RGB", (8, 8), "red").save(folder / "red.png")
    (folder / "green.txt").write_text("green")
    (folder / "deep" / "blue.txt").write_text("blue")
    return folder


def names(collection: Collection) -> list[str]:
    return sorted(Path(path).name for path in collection.items()["path"].to_pylist())


def kinds(report: Report) -> dict[str, SkipKind | None]:
    return {Path(skip.path).name: skip.kind for skip in report.skipped}


def recorded(collection: Collection) -> dict[str, str]:
    return {Path(row["path"]).name: row["kind"] for row in collection.skipped().to_pylist()}


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Make the reader of a kind fail in the block."""

    def while_failing(kind: Modality, problem: Exception) -> Any:
        def read(file: MediaFile) -> Iterator[Sample]:
            raise problem
            yield

        patch = monkeypatch.context()
        return _Patched(patch, lambda here: here.setitem(media._READERS, kind, read))

    return while_failing


class _Patched:
    def __init__(self, context: Any, change: Callable[[pytest.MonkeyPatch], None]) -> None:
        self._context, self._change = context, change

    def __enter__(self) -> None:
        self._change(self._context.__enter__())

    def __exit__(self, *error: Any) -> None:
        self._context.__exit__(*error)


TROUBLES = [
    MemoryError(),
    OSError(errno.EIO, "Input/output error"),
    PermissionError(errno.EACCES, "Permission denied", "x"),
    Transient("decoder killed (SIGKILL) twice; the next ingest tries it again"),
    RuntimeError("std::bad_alloc"),
]


@pytest.mark.parametrize("problem", TROUBLES, ids=repr)
def test_it_is_tried_again_though_the_file_is_unchanged(
    collection: Collection, folder: Path, fail: Callable[..., Any], problem: Exception
) -> None:
    with fail(Modality.IMAGE, problem):
        for _ in range(2):
            report = fill(collection, folder)
            assert kinds(report) == recorded(collection) == {"red.png": SkipKind.PASSING}
            assert report.passing == 1
            (skip,) = report.skipped
            assert skip.reason.endswith("; the next ingest tries it again")
            assert skip.reason.count("again") == 1
            assert "replace" not in skip.reason
            generation = collection.store.snapshot().manifest.generation
        assert collection.store.snapshot().manifest.generation == generation
    assert fill(collection, folder).skipped == ()
    assert names(collection) == ["blue.txt", "green.txt", "red.png"]
    assert recorded(collection) == {}


@pytest.mark.parametrize("prune", [False, True])
def test_stored_items_stay_where_a_changed_file_cannot_be_read(
    collection: Collection, folder: Path, fail: Callable[..., Any], prune: bool
) -> None:
    fill(collection, folder)
    Image.new("RGB", (9, 9), "blue").save(folder / "red.png")
    with fail(Modality.IMAGE, MemoryError()):
        report = fill(collection, folder, prune=prune)
    assert (kinds(report), report.removed) == ({"red.png": SkipKind.PASSING}, 0)
    assert names(collection) == ["blue.txt", "green.txt", "red.png"]
    assert fill(collection, folder).changed == 1
    (row,) = (row for row in collection.items().to_pylist() if row["path"].endswith("red.png"))
    assert (row["width"], recorded(collection)) == (9, {})


def test_a_file_of_which_the_access_is_refused_keeps_its_items(
    collection: Collection, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(collection, folder)
    (folder / "green.txt").write_text("green green")
    opening = Path.open

    def refusing(path: Path, *args: Any, **options: Any) -> Any:
        if path.name == "green.txt":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opening(path, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refusing)
        report = fill(collection, folder, prune=True)
    assert kinds(report) == {"green.txt": SkipKind.PASSING}
    assert report.skipped[0].reason.startswith("cannot be opened: Permission denied; check its permissions")
    assert names(collection) == ["blue.txt", "green.txt", "red.png"]
    assert fill(collection, folder).changed == 1


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE])
def test_nothing_is_pruned_below_a_folder_that_cannot_be_listed(
    collection: Collection, folder: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    (folder / "deep" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "deep" / "program.exe").write_bytes(bytes(9))
    fill(collection, folder)
    before = collection.skipped(everything=True).to_pylist()
    locked, scandir, lstat = str(folder / "deep"), os.scandir, os.lstat

    def refuse(path: Any) -> None:
        if str(path).startswith(locked):
            raise OSError(number, os.strerror(number), str(path))

    def without_listing(path: Any) -> Any:
        refuse(path)
        return scandir(path)

    def without_status(path: Any, **options: Any) -> Any:
        refuse(path)
        return lstat(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", without_listing)
        patch.setattr(os, "lstat", without_status)
        for options in ({"prune": True}, {"prune": [locked]}):
            report = fill(collection, folder, **options)
            assert (kinds(report), report.removed) == ({"deep": SkipKind.PASSING}, 0)
        patch.setattr(os, "lstat", lstat)  # as where only the list of names is damaged
        assert fill(collection, folder, prune=True).removed == 0
    assert names(collection) == ["blue.txt", "green.txt", "red.png"]
    assert kinds(fill(collection, folder)) == {"bad.png": SkipKind.DAMAGED}
    assert collection.skipped(everything=True).to_pylist() == before


def test_a_copy_does_not_take_the_stale_items_of_its_source(
    collection: Collection, folder: Path, fail: Callable[..., Any]
) -> None:
    fill(collection, folder)
    for name in ("red.png", "zcopy.png"):
        Image.new("RGB", (9, 9), "blue").save(folder / name)
    with fail(Modality.IMAGE, MemoryError()):
        report = fill(collection, folder)
    assert kinds(report) == dict.fromkeys(("red.png", "zcopy.png"), SkipKind.PASSING)
    assert names(collection) == ["blue.txt", "green.txt", "red.png"]
    assert fill(collection, folder).duplicates == 1
    widths = {Path(row["path"]).name: row["width"] for row in collection.items().to_pylist()}
    assert (widths["red.png"], widths["zcopy.png"]) == (9, 9)


# ---------------------------------------------------------------- sidecars and tables


@pytest.mark.parametrize("name", ["red.json", "red.png.json", "metadata.csv", "metadata.jsonl"])
@pytest.mark.parametrize("problem", [OSError(errno.EIO, "Input/output error"), MemoryError()], ids=repr)
def test_stored_columns_stay_where_their_source_cannot_be_read(
    collection: Collection, folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, problem: Exception
) -> None:
    row = {"path": "red.png", "place": "sea"}
    text = ",".join(row) + "\n" + ",".join(row.values()) if name.endswith("csv") else json.dumps(row)
    (folder / name).write_text(text)
    fill(collection, folder)
    Image.new("RGB", (9, 9), "blue").save(folder / "red.png")
    opening = Path.open

    def failing(path: Path, *args: Any, **options: Any) -> Any:
        if path.name == name:
            raise problem
        return opening(path, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", failing)
        for changed in (1, 0):
            report = fill(collection, folder)
            assert (report.changed, kinds(report)) == (changed, {name: SkipKind.PASSING})
            assert recorded(collection) == {name: SkipKind.PASSING}
            assert collection.items(where="place = 'sea'")["width"].to_pylist() == [9]
    assert fill(collection, folder).skipped == ()
    assert recorded(collection) == {}


@pytest.mark.parametrize("name", ["red.json", "metadata.csv"])
def test_stored_columns_stay_where_their_source_cannot_be_fetched(
    collection: Collection, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    system = fsspec.filesystem("memory")
    system.pipe("/passing/red.txt", b"red")
    system.pipe(
        f"/passing/{name}", b"path,place\nred.txt,sea" if name.endswith("csv") else b'{"place": "sea"}'
    )
    get_file = system.get_file

    def refuse(key: str, local: str, **options: Any) -> None:
        if key.endswith(name):
            raise PermissionError("no")
        get_file(key, local, **options)

    try:
        fill(collection, "memory://passing")
        system.pipe("/passing/red.txt", b"red green")
        with monkeypatch.context() as patch:
            patch.setattr(system, "get_file", refuse)
            report = fill(collection, "memory://passing")
        assert (report.changed, report.passing) == (1, 1)
        assert collection.items(where="place = 'sea'")["text"].to_pylist() == ["red green"]
        assert fill(collection, "memory://passing").skipped == ()
    finally:
        system.rm("/passing", recursive=True)


# ---------------------------------------------------------------- collections of earlier releases


@pytest.mark.parametrize(
    ("error", "reason", "is_passing"),
    [
        ("Unreadable", "out of memory; reduce the size of the file", True),
        ("Unreadable", "decoder crashed (SIGKILL); file may be damaged", True),
        ("Unreadable", "decoding timed out; file may be damaged", True),
        ("Unreadable", "cannot be opened: Permission denied", True),
        ("Unreadable", "cannot be opened: Permission denied; check its permissions", True),
        ("Unreadable", "modified or deleted while being read; ingest again", True),
        ("Unreadable", "MemoryError; replace the file", True),
        ("Unreadable", "damaged image; replace the file", True),  # said of lack of memory too
        ("Unreadable", "cannot be decoded (Cannot allocate memory); replace or convert the file", True),
        ("Unreadable", "cannot be decoded as imu (Parquet): damaged, or an unsupported variant; c", True),
        ("NotEmbedded", "unexpected RuntimeError: DefaultCPUAllocator: can't allocate memory", True),
        ("RuntimeError", "unexpected OutOfMemoryError: CUDA out of memory", True),
        ("OSError", "cannot be fetched: TimeoutError; ingest again", True),
        ("Unreadable", "a damaged image; replace the file", False),
        ("Unreadable", "empty file; remove or replace it", False),
        ("Unreadable", "column out of memory is not numeric: 'x'; correct its values", False),
        ("NotEmbedded", "unexpected ValueError: odd", False),
        ("TooLarge", "over 9 pixels; downscale it or raise XSEARCH_MAX_PIXELS", False),
    ],
)
def test_their_records_of_what_has_passed_are_recognised(
    collection: Collection, folder: Path, error: str, reason: str, is_passing: bool
) -> None:
    assert Reason.recorded(error, reason).is_passing == is_passing
    path = folder / "red.png"
    row = {"path": str(path), "reason": reason, "error": error, "when": "2025-01-01T00:00:00+00:00"}
    with collection.store.writer() as writer:
        writer.skip([row | {"state": f"{path.stat().st_size} {path.stat().st_mtime_ns}"}])
        writer.commit()
    assert recorded(collection) == {"red.png": Reason.recorded(error, reason).kind}
    fill(collection, folder)
    assert ("red.png" in names(collection)) == (is_passing or error == "TooLarge")


# ---------------------------------------------------------------- models


class Small(FakeBackend):
    """A model with memory for `most` samples at once, and for none of those in which "large" stands."""

    def __init__(self, problem: Exception, most: int = 1) -> None:
        super().__init__()
        self.problem, self.most = problem, most

    def embed(self, samples: Sequence[Sample]) -> np.ndarray:
        if len(samples) > self.most or any("large" in str(sample.data) for sample in samples):
            raise self.problem
        return super().embed(samples)


MODELS = [
    MemoryError(),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    RuntimeError("CUDA out of memory"),
]


@pytest.mark.parametrize("problem", MODELS, ids=repr)
def test_a_model_without_memory_costs_samples_for_now_only(
    collection: Collection, folder: Path, problem: Exception
) -> None:
    (folder / "large.txt").write_text("large")
    report = ingest(collection.store, [folder], Small(problem), decoders=0)
    assert kinds(report) == recorded(collection) == {"large.txt": SkipKind.PASSING}
    assert report.skipped[0].reason == (
        "cannot be embedded: not enough memory; close other programs; the next ingest tries it again"
    )
    assert names(collection) == ["blue.txt", "green.txt", "red.png"]
    assert fill(collection, folder).skipped == ()


def test_a_model_that_lacks_memory_for_everything_ends_the_run(collection: Collection, folder: Path) -> None:
    for number in range(30):
        (folder / f"{number}.txt").write_text(f"large {number}")
    with pytest.raises(ModelError, match=r"each of 32 text .*; not enough memory; close other programs$"):
        ingest(collection.store, [folder], Small(MemoryError(), most=0), decoders=0)
    assert recorded(collection) == {}


def test_a_model_that_lacks_memory_for_a_kind_only_goes_on(collection: Collection, folder: Path) -> None:
    model = Small(MemoryError())
    model.batch = 8
    for number in range(8):
        Image.new("RGB", (8, 8), (0, number, 0)).save(folder / f"{number}.png")
        (folder / "deep" / f"{number}.txt").write_text(f"large {number}")
    report = ingest(collection.store, [folder], model, decoders=0)
    assert report.passing == 8
    assert fill(collection, folder).skipped == ()


def test_a_batch_without_memory_is_released_before_its_samples_are_tried() -> None:
    alive: Callable[[], object] = object

    class Tensor:
        """What a batch has computed."""

    class Holding(FakeBackend):
        def embed(self, samples: Sequence[Sample]) -> np.ndarray:
            nonlocal alive
            if len(samples) == 1:
                assert alive() is None
                return super().embed(samples)
            computed = Tensor()
            alive = weakref.ref(computed)
            raise MemoryError

    vectors = embed([Sample(Modality.TEXT, word, text=word) for word in ("red", "green")], Holding())
    assert [type(vector) for vector in vectors] == [np.ndarray, np.ndarray]


# ---------------------------------------------------------------- words


def test_kinds_of_files_that_cannot_be_read(
    collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XSEARCH_MAX_PIXELS", "1000")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    folder = tmp_path / "media"
    folder.mkdir()
    Image.effect_noise((20, 20), 99).save(folder / "torn.png")
    (folder / "torn.png").write_bytes((folder / "torn.png").read_bytes()[:200])
    (folder / "empty.jpg").touch()
    Image.new("RGB", (99, 99)).save(folder / "large.png")
    (folder / "eps.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n")
    (folder / "half.csv").write_text("time_s,accel_x,accel_y,accel_z\n" + "0,0,0,0\n" * 9)
    (folder / "data.txt").write_bytes(bytes(range(256)) * 9)
    (folder / "link.png").symlink_to("gone.png")
    found = kinds(fill(collection, folder))
    assert found == recorded(collection)
    assert found == {
        "torn.png": SkipKind.DAMAGED,
        "empty.jpg": SkipKind.DAMAGED,
        "large.png": SkipKind.TOO_LARGE,
        "eps.jpg": SkipKind.UNSUPPORTED,
        "half.csv": SkipKind.UNSUPPORTED,
        "data.txt": SkipKind.UNSUPPORTED,
        "link.png": SkipKind.PASSING,
    }
    rows = collection.skipped().to_pylist()
    assert {row["kind"] for row in rows if "replace" in row["reason"]} == {"damaged"}
    assert all("XSEARCH_MAX_PIXELS" in row["reason"] for row in rows if row["kind"] == "too large")


@pytest.mark.parametrize("reason", Reason)
def test_every_failure_has_a_kind(reason: Reason) -> None:
    others = (Reason.NOT_MEDIA, Reason.EXCLUDED, Reason.REMOVED)
    assert (reason.kind is None) == (reason in others) == (not reason.is_failure)


def test_only_damage_may_be_advised_to_be_replaced(folder: Path) -> None:
    problem = Transient(f"{folder}: not enough memory; close other programs")
    skip = Skipped.of("a", folder, problem)
    assert skip == Skipped(
        "a", "not enough memory; close other programs; the next ingest tries it again", Reason.TRANSIENT
    )
