"""A process that dies or a disk that fails at any operation leaves a collection that opens and goes on."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import xsearch
from xsearch.errors import NoCollection, StoreError
from xsearch.store import Store, Writer
from xsearch.types import Fingerprint

STAMP = Fingerprint("tiny", "d1", "p1", 8)
COMMITTED = "create .manifest.copy.json."  # starts the first operation after a commit


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
        next_id = writer.next_id  # above those of a commit that did not succeed
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


def commits(names: list[str]) -> int:
    """How many commits are complete before the last of these operations."""
    return min(sum(COMMITTED in name for name in names), 2)


def kind(name: str) -> str:
    """An operation without the names that are drawn."""
    return re.sub("[0-9a-f]{32}", "*", name)


def test_killed_at_every_kind_of_operation(tmp_path):
    names = steps(tmp_path / "whole")
    kinds = list(map(kind, names))
    assert {name.split()[0] for name in names} == {
        "mkdir", "create", "write", "fsync", "link", "rename", "unlink", "rmdir"
    }  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(Path(xsearch.__file__).parents[1])}
    second = next(i for i, name in enumerate(names) if COMMITTED in name)  # commit
    points = sorted({kinds.index(each, second) for each in kinds[second:]})
    points = points[:: len(points) // 12]
    stores = [begin(tmp_path / f"killed {i}") for i in points]
    arguments = [str(word) for i, store in zip(points, stores, strict=True) for word in (store.path, i)]
    command = [sys.executable, __file__, *arguments]
    died = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert json.loads(died.stdout) == [9] * len(points), died.stderr
    for i, store in zip(points, stores, strict=True):
        check_and_go_on(store, finished=commits(names[: i + 1]))


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.EIO, "Input/output error")])
def test_interrupted_or_failing_at_any_operation(tmp_path, error):
    names = steps(tmp_path / "whole")
    for i in range(0, len(names), 5 if isinstance(error, KeyboardInterrupt) else 2):
        store = begin(tmp_path / f"stopped {i}")
        started: list[str] = []

        def step(name: str, started: list[str] = started, last: int = i) -> None:
            started.append(name)
            if len(started) == last + 1:
                raise error

        try:
            with store.writer(step=step) as writer:
                change(writer)
        except (KeyboardInterrupt, StoreError) as problem:
            assert isinstance(error, KeyboardInterrupt) or "Input/output error" in str(problem)  # noqa: PT017
        else:
            best_effort = re.compile(r"fsync \.|.* \.?manifest\.copy\.json.*|(mkdir|link) generations.*")
            assert best_effort.fullmatch(names[i])
        check_and_go_on(store, finished=commits(started[: i + 1]))


def test_a_full_disk_leaves_the_collection_as_it_was(tmp_path):
    names: list[str] = []
    with begin(tmp_path / "whole").writer(step=names.append) as writer:
        add(writer, 3)
        writer.commit()
    for i in range(names.index("rename manifest.json") + 1):
        store = begin(tmp_path / f"full {i}")
        left = [i]

        def step(name: str, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0 and name.split()[0] in ("create", "write", "mkdir", "fsync"):
                raise OSError(errno.ENOSPC, "No space left on device")

        with store.writer(step=step) as writer:
            add(writer, 3)
            if i < names.index("rename manifest.json"):
                with pytest.raises(StoreError, match=r"No space left on device; the collection is as it was"):
                    writer.commit()
                assert state(store) == STATES[0]
                left[0] = 1000
                writer.commit()  # there is room now
        assert state(store)[0] in ([0, 1, 2, 3, 4, 5], STATES[0][0])


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

    def any_of_it(self, random: np.random.Generator, to: Path) -> None:
        """Names and content since the last fsync reach the disk in any order, content also in part."""

        def restore(path: Path, to: Path) -> None:
            to.mkdir()
            durable = self.folders.get(path.stat().st_ino, {})
            current = {child.name: child.stat().st_ino for child in path.iterdir()}
            for name in {**durable, **current}:
                inode = (durable, current)[random.integers(2)].get(name)
                if inode is None:
                    continue
                if inode == current.get(name) and (path / name).is_dir():
                    restore(path / name, to / name)
                    continue
                synced = self.files.get(inode, b"")
                written = (path / name).read_bytes() if inode == current.get(name) else synced
                torn = written[: random.integers(len(written) + 1)].ljust(len(written), b"\0")
                (to / name).write_bytes(
                    synced if written == synced else [written, torn, synced][random.integers(3)]
                )

        restore(self.root, to)


def test_a_power_loss_at_any_moment_leaves_what_was_committed(tmp_path, monkeypatch):
    (tmp_path / "disk").mkdir()
    random = np.random.default_rng(0)
    disk = Disk(tmp_path / "disk")
    committed = -1  # the last of STATES that must be there
    looks = 0

    def look() -> None:
        nonlocal looks
        for leave in (disk.least, disk.names_first, partial(disk.any_of_it, random)):
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
        committed = min(committed + (COMMITTED in name), 2)
        look()

    monkeypatch.setattr(os, "fsync", fsync)
    store = begin(disk.root / "indexes" / "c")
    committed = 0
    with store.writer(step=step) as writer:
        change(writer)
    look()
    assert looks > 100
    for descriptor in disk.held:
        os.close(descriptor)


def change_until(path: str, left: int) -> None:
    """Change a collection, and end after so many operations, without any cleaning up."""

    def die(name: str) -> None:
        nonlocal left
        if left == 0:
            os._exit(9)
        left -= 1

    with Store.open(Path(path)).writer(step=die) as held:
        change(held)


def died(path: str, left: int) -> int:
    """The exit code of a fork of this process, which has imported everything and started nothing."""
    if (child := os.fork()) == 0:
        change_until(path, left)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    points = zip(sys.argv[1::2], map(int, sys.argv[2::2]), strict=True)
    print(json.dumps([died(path, left) for path, left in points]))
