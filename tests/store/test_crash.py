"""A process that dies at any step of any commit leaves a collection that opens and goes on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import xsearch
from xsearch.errors import NoCollection
from xsearch.store import Store, Writer
from xsearch.types import Fingerprint

STAMP = Fingerprint("tiny", "d1", "p1", 8)


def add(writer: Writer, start: int, n: int = 3) -> None:
    vectors = np.eye(8, dtype=np.float32)[np.arange(start, start + n) % 8]
    items = pa.table({"path": [f"{i}.txt" for i in range(start, start + n)], "modality": ["text"] * n})
    assert writer.add(items, vectors).tolist() == list(range(start, start + n))


def change(writer: Writer) -> None:
    """Everything that a writer can do, in two commits and two compactions."""
    for start in (3, 6):
        add(writer, start)
        writer.remove([start - 3])
        writer.skip([{"path": f"bad {start}", "reason": "torn", "error": "Unreadable"}])
        folder = writer.new_index_folder()
        (folder / "plan.json").write_text("{}")
        writer.set_index(folder)
        words = writer.new_words_file()
        words.write_text(str(start))
        writer.set_words(words)
        writer.set_calibration({"at": start})
        writer.commit()
    writer.compact()
    writer.compact()


def state(store: Store) -> tuple[object, ...]:
    snapshot = store.snapshot()
    for ids, vectors in snapshot.blocks():
        np.testing.assert_array_equal(vectors, np.eye(8)[ids % 8])
    assert snapshot.items(snapshot.ids)["path"].to_pylist() == [f"{i}.txt" for i in snapshot.ids]
    assert snapshot.index_path is None or (snapshot.index_path / "plan.json").exists()
    at = snapshot.manifest.calibration
    assert snapshot.words_path is None or at == {"at": int(snapshot.words_path.read_text())}
    return snapshot.ids.tolist(), snapshot.skipped()["path"].to_pylist(), at


STATES = [
    ([0, 1, 2], [], None),
    ([1, 2, 3, 4, 5], ["bad 3"], {"at": 3}),
    ([1, 2, 4, 5, 6, 7, 8], ["bad 3", "bad 6"], {"at": 6}),
]


def begin(path: Path) -> Store:
    store = Store.create(path, STAMP)
    with store.writer() as writer:
        add(writer, 0)
        writer.commit()
    return store


def steps(path: Path) -> list[str]:
    names: list[str] = []
    with begin(path).writer(step=names.append) as writer:
        change(writer)
    return names


def check_and_go_on(store: Store, finished: int) -> None:
    now = state(store)
    assert now in STATES
    assert STATES.index(now) >= finished  # what was committed is there
    with store.writer() as writer:
        next_id = writer.manifest.next_id
        add(writer, next_id)
        writer.compact()
        writer.compact()
        named = writer.manifest.files()
    assert state(store)[0] == [*now[0], next_id, next_id + 1, next_id + 2]
    on_disk = {
        f"{kind.name}/{path.name}"
        for kind in store.path.iterdir()
        if kind.is_dir()
        for path in kind.iterdir()
    }
    assert on_disk == named  # no garbage is left
    assert not list(store.path.glob(".*"))


def test_killed_at_every_kind_of_step(tmp_path):
    names = steps(tmp_path / "whole")
    of_a_commit = {"items", "vectors", "checksums", "tombstones", "skipped", "manifest", "copy", "published"}
    assert set(names) == of_a_commit | {"garbage"}
    environment = {**os.environ, "PYTHONPATH": str(Path(xsearch.__file__).parents[1])}
    second = names.index("published") + 1  # commit
    for i in (names.index(name, second) for name in sorted(set(names))):
        store = begin(tmp_path / f"killed {i}")
        command = [sys.executable, __file__, str(store.path), str(i)]
        died = subprocess.run(command, env=environment, capture_output=True, check=False)
        assert died.returncode == 9, died.stderr
        check_and_go_on(store, finished=min(names[:i].count("published"), 2))


def test_interrupted_or_failing_at_any_step(tmp_path):
    names = steps(tmp_path / "whole")
    for i in range(len(names)):
        store = begin(tmp_path / f"stopped {i}")
        completed: list[str] = []

        def step(name: str, completed: list[str] = completed, last: int = i) -> None:
            completed.append(name)
            if len(completed) > last:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt), store.writer(step=step) as writer:
            change(writer)
        check_and_go_on(store, finished=min(completed.count("published"), 2))


def test_a_full_disk_leaves_the_collection_as_it_was(tmp_path):
    store = begin(tmp_path / "full")
    full = [True]

    def step(name: str) -> None:
        if name == "manifest" and full:
            raise OSError(28, "No space left on device")

    with store.writer(step=step) as writer:
        add(writer, 3)
        with pytest.raises(
            xsearch.errors.StoreError, match=r"No space left on device; the collection is as it was"
        ):
            writer.commit()
        assert state(store) == STATES[0]
        full.clear()
        writer.commit()  # there is room now
    assert state(store)[0] == [0, 1, 2, 3, 4, 5]


class Disk:
    """Stands in for `os.fsync`: knows what of a folder is sure to be there after a power loss."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files: dict[int, bytes] = {}  # what was fsynced, by inode
        self.folders: dict[int, dict[str, int]] = {}  # names and their inodes
        self.held: list[int] = []  # open files: an inode in use is not given again

    def fsync(self, descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        self.held.append(os.dup(descriptor))
        if path.is_dir():
            self.folders[path.stat().st_ino] = {child.name: child.stat().st_ino for child in path.iterdir()}
        else:
            self.files[path.stat().st_ino] = path.read_bytes()

    def least(self, to: Path) -> None:
        """What is there at least: names and content that were fsynced."""

        def restore(inode: int, to: Path) -> None:
            to.mkdir()
            for name, child in self.folders.get(inode, {}).items():
                if child in self.files:
                    (to / name).write_bytes(self.files[child])
                else:  # for a file too: it is as bad as one that is empty
                    restore(child, to / name)

        restore(self.root.stat().st_ino, to)

    def names_first(self, to: Path) -> None:
        """Every name is there, but only the content that was fsynced."""
        for path in sorted([self.root, *self.root.rglob("*")]):
            target = to / path.relative_to(self.root)
            target.mkdir() if path.is_dir() else target.write_bytes(self.files.get(path.stat().st_ino, b""))


def test_a_power_loss_at_any_moment_leaves_what_was_committed(tmp_path, monkeypatch):
    (tmp_path / "disk").mkdir()
    disk = Disk(tmp_path / "disk")
    committed = -1  # the last of STATES that must be there
    looks = 0

    def look() -> None:
        nonlocal looks
        for leave in (disk.least, disk.names_first):
            looks += 1
            after = tmp_path / f"after {looks}"
            leave(after)
            try:
                now = state(Store.open(after / "indexes" / "c"))
                assert now == ([], [], None) or STATES.index(now) >= committed
            except NoCollection:
                assert committed < 0

    def fsync(descriptor: int) -> None:
        look()
        disk.fsync(descriptor)

    def step(name: str) -> None:
        nonlocal committed
        committed = min(committed + (name == "published"), 2)

    monkeypatch.setattr(os, "fsync", fsync)
    store = begin(disk.root / "indexes" / "c")
    committed = 0
    with store.writer(step=step) as writer:
        change(writer)
    look()
    assert looks > 100
    for descriptor in disk.held:
        os.close(descriptor)


if __name__ == "__main__":
    left = int(sys.argv[2])

    def die(name: str) -> None:
        global left
        if left == 0:
            os._exit(9)
        left -= 1

    with Store.open(Path(sys.argv[1])).writer(step=die) as held:
        change(held)
