"""Derived data is written whole or not at all, whatever fails."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from xsearch.derive import build_shards, derive, keep_index, load_index
from xsearch.errors import StoreError, UsageError
from xsearch.index import Index, in_turn, new_index
from xsearch.store import Store
from xsearch.types import Fingerprint

RECIPE = "IVF16,Flat"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """2,000 items, and all that derives from them but an index."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((2_000, 32)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    store = Store.create(tmp_path / "c", Fingerprint("fake", "0", "1", 32))
    with store.writer() as writer:
        writer.add(pa.table({"path": [f"/{i}" for i in range(2_000)], "modality": ["image"] * 2_000}), rows)
        writer.commit()
        derive(writer)
    return store


def state(store: Store) -> tuple[bytes, set[Path]]:
    """The commit, and all files and folders but the lock."""
    return store.version(), {path for path in store.path.rglob("*") if "lock" not in path.name}


def test_an_index_is_committed_with_its_files(store):
    with store.writer() as writer:
        keep_index(writer, new_index(writer.snapshot, recipe=RECIPE))
    assert {path.name for path in store.snapshot().index_path.iterdir()} == {"index.faiss", "plan.json"}
    with store.writer() as writer:
        keep_index(writer, None)
    assert store.snapshot().index_path is None


FULL = OSError(28, "No space left on device")


@pytest.mark.parametrize("problem", [FULL, KeyboardInterrupt(), MemoryError()])
@pytest.mark.parametrize("where", ["save", "save_plan"])
def test_a_failure_leaves_nothing(where, problem, store, monkeypatch):
    before = state(store)

    def fail(*args: object) -> None:
        raise problem

    monkeypatch.setattr(Index, where, fail)
    expected = StoreError if isinstance(problem, OSError) else type(problem)
    with store.writer() as writer, pytest.raises(expected) as caught:
        keep_index(writer, new_index(writer.snapshot, recipe=RECIPE))
    assert state(store) == before
    if expected is StoreError:
        step = f"make room, then xsearch index build --collection {store.path}"
        assert str(caught.value).endswith(f"No space left on device; the items are safe: {step}")


def test_a_commit_that_fails_leaves_nothing(store):
    before = state(store)

    def full(name: str) -> None:
        if name == "rename manifest.json":
            raise FULL

    with store.writer(step=full) as writer, pytest.raises(StoreError, match="No space left"):
        keep_index(writer, new_index(writer.snapshot, recipe=RECIPE))
    assert state(store) == before


def test_a_commit_that_fails_once_it_is_published_keeps_the_index(store):
    steps: list[str] = []

    def late(name: str) -> None:
        if "rename manifest.json" in steps:
            raise KeyboardInterrupt
        steps.append(name)

    with store.writer(step=late) as writer, pytest.raises(KeyboardInterrupt):
        keep_index(writer, new_index(writer.snapshot, recipe=RECIPE))
    assert Index.load(store.snapshot().index_path).plan.recipe == RECIPE


def test_a_disk_of_any_size_leaves_the_old_state_or_the_new(store, tmp_path):
    """`RLIMIT_FSIZE` fails the first write beyond so many bytes of a file."""
    program = (
        "import resource, sys; from xsearch.cli import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)), -1)); main()"
    )
    before = state(store)
    command = ["index", "build", "--recipe", RECIPE, "--collection", str(store.path)]
    for size in (0, 100, 10_000, 200_000):
        ended = subprocess.run(
            [sys.executable, "-c", program, str(size), *command], capture_output=True, text=True, check=False
        )
        assert ended.returncode == 1
        (line,) = ended.stderr.splitlines()
        assert line.startswith("error: cannot write")
        assert "File too large" in line
        assert state(store) == before


def test_new_items_leave_an_index_of_several_files_as_it_is(store, caplog):
    with store.writer() as writer:
        build_shards(writer, 3, in_turn, merge=False, recipe=RECIPE)
        before = load_index(store.snapshot())
        assert {file.name for file in before.shards} == {f"shard-{number}.faiss" for number in range(3)}
        for count, warnings in ((100, 0), (10, 1)):
            new = pa.table({"path": [f"/{count}/{i}" for i in range(count)], "modality": ["image"] * count})
            writer.add(new, np.eye(32, dtype=np.float32)[np.arange(count) % 32])
            writer.commit()
            with caplog.at_level(logging.WARNING, "xsearch"):
                derive(writer)
            assert len(caplog.records) == warnings
    assert "--shards 3" in caplog.text
    after = load_index(store.snapshot())
    np.testing.assert_array_equal(after.ids, before.ids)
    assert after.shards == before.shards


def test_a_wrong_number_of_shards_is_refused_before_the_training(store):
    with store.writer() as writer, pytest.raises(UsageError, match="1,001 shards"):
        build_shards(writer, 1_001, in_turn, merge=False, recipe="no recipe")  # which training would refuse


def test_shards_that_fail_leave_nothing(store):
    before = state(store)

    def fail(function, count):
        function(0)
        raise FULL

    with store.writer() as writer, pytest.raises(StoreError, match="No space left"):
        build_shards(writer, 3, fail, merge=False, recipe=RECIPE)
    assert {path for path in state(store)[1] if path.is_file()} == {
        path for path in before[1] if path.is_file()
    }
