"""Every command that writes, with each operation of the disk failing in turn: all or nothing happens."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import FakeBackend
from xsearch.collection import Collection
from xsearch.errors import StoreError
from xsearch.exchange import export
from xsearch.ingest import ingest
from xsearch.integrity import verify
from xsearch.store import Store

FILES = {"red.txt": "red", "green.txt": "green", "blue.txt": "blue", "both.txt": "red blue"}


def read(folder: Path, store: Store, **options: Any) -> None:
    ingest(store, [folder], FakeBackend(), decoders=0, **options)


def change(root: Path, store: Store) -> None:
    """New, changed, unreadable and deleted files."""
    media = root / "media"
    (media / "dark.txt").write_text("dark")
    (media / "red.txt").write_text("red and green")
    (media / "bad.txt").write_bytes(b"\xff\xfe\x00")
    (media / "blue.txt").unlink(missing_ok=True)
    read(media, store, prune=True, commit_items=1)


def remove(root: Path, store: Store) -> None:
    collection(store).remove(where="text = 'green'")


def compact(root: Path, store: Store) -> None:
    collection(store).compact()


def build_index(root: Path, store: Store) -> None:
    collection(store).build_index(recipe="IVF1,Flat", device="cpu")


def import_(root: Path, store: Store) -> None:
    Collection.import_(root / "other.parquet", store.path)


def repair(root: Path, store: Store) -> None:
    verify(store.path, repair=True)


def collection(store: Store) -> Collection:
    return Collection(store, backend=FakeBackend())


def state(store: Store) -> Any:
    """What a user sees: items without their ids, and skipped files."""
    snapshot = store.snapshot()
    vectors = snapshot.vectors(snapshot.ids).tolist()
    rows = snapshot.items(snapshot.ids, ["path", "modality", "text"]).to_pylist()
    items = sorted((*row.values(), tuple(vector)) for row, vector in zip(rows, vectors, strict=True))
    return items, sorted(snapshot.skipped()["path"].to_pylist())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Media, a collection of two segments with a removed item, and an export to import."""
    root = tmp_path / "whole"
    for name, text in FILES.items():
        (root / "media" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "media" / name).write_text(text)
    store = Store.create(root / "c", FakeBackend().fingerprint)
    read(root / "media" / "red.txt", store)
    read(root / "media", store)
    other = Store.create(root / "other", FakeBackend().fingerprint)
    (root / "more").mkdir()
    (root / "more" / "more.txt").write_text("green blue")
    read(root / "more", other)
    export(other.snapshot(), root / "other.parquet")
    return root


def copy(root: Path, name: str) -> Path:
    """The same, at the same path as seen by its files: paths in the collection stay true."""
    return Path(shutil.copytree(root, root.with_name(name)))


@pytest.mark.parametrize("command", [change, remove, compact, build_index, import_, repair])
def test_a_failing_disk_costs_the_command_and_nothing_else(
    root: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[[Path, Store], None]
) -> None:
    def prepared(name: str) -> tuple[Path, Store]:
        place = copy(root, name)
        store = Store.open(place / "c")
        if command is repair:
            name = next(iter(store.snapshot().manifest.tables()), "manifest.copy.json")
            (place / "c" / name).write_bytes(b"damaged")
        return place, store

    def outcome(store: Store, place: Path) -> Any:
        return str(state(store)).replace(str(place), "")

    def run(place: Path, store: Store, step: Callable[[str], None]) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(Store, "writer", with_step(step))
            command(place, store)

    names: list[str] = []
    place, store = prepared("undisturbed")
    before = outcome(store, place)
    run(place, store, names.append)
    after = outcome(store, place)
    for n in range(0, len(names), 3 if command is change else 1):  # of its several commits
        place, store = prepared(f"at {n}")
        started: list[str] = []

        def fail(name: str, n: int = n, started: list[str] = started) -> None:
            started.append(name)
            if len(started) == n + 1:
                code = errno.EIO if n % 2 else errno.ENOSPC
                raise OSError(code, os.strerror(code))

        try:
            run(place, store, fail)
        except StoreError as problem:
            assert "Input/output error" in str(problem) or "No space" in str(problem)  # noqa: PT017
        if command is not change:  # which has several commits
            assert outcome(store, place) in (before, after), names[n]
        command(place, store)
        assert outcome(store, place) == after, names[n]
        assert verify(store.path) == [], names[n]
        shutil.rmtree(place)


def with_step(step: Callable[[str], None]) -> Any:
    return lambda self, writer=Store.writer, **options: writer(self, step=step, **options)
