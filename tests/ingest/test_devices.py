"""Several devices of one machine, each with a copy of the model."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, current_thread
from typing import Any

import numpy as np
import pytest
import torch

from tests.fakes import FakeBackend
from xsearch.backend import load_backend
from xsearch.errors import ModelError
from xsearch.ingest import ingest
from xsearch.store import Store
from xsearch.types import Sample


class Devices(FakeBackend):
    """A backend whose replicas embed their first batches at the same time, or fail."""

    def __init__(self, count: int, *, fails: bool = False, **options: Any) -> None:
        super().__init__(**options)
        barrier = Barrier(count)
        self.all = [_Device(barrier, fails=fails and i == count - 1) for i in range(count)]

    def replicas(self, devices: Sequence[str]) -> list[FakeBackend]:
        return [*self.all]


class _Device(FakeBackend):
    def __init__(self, barrier: Barrier, *, fails: bool) -> None:
        super().__init__()
        self._barrier, self._fails = barrier, fails
        self.threads: set[str] = set()

    def embed(self, samples: Sequence[Sample]) -> np.ndarray:
        if not self.threads:
            self._barrier.wait(60)
        self.threads.add(current_thread().name)
        if self._fails:
            raise ModelError("the device is gone")
        return super().embed(samples)


def content(store: Store) -> list[tuple[str, bytes]]:
    snapshot = store.snapshot()
    paths = snapshot.items(snapshot.ids, ["path"])["path"].to_pylist()
    return sorted(zip(paths, [vector.tobytes() for vector in snapshot.vectors(snapshot.ids)], strict=True))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """400 texts: 13 batches."""
    (tmp_path / "media").mkdir()
    for i in range(400):
        (tmp_path / "media" / f"{i:03}.txt").write_text(f"red {'green ' * (i % 7)} {i}")
    return tmp_path / "media"


@pytest.mark.parametrize("count", [1, 2, 3])
def test_each_embeds_some_of_the_batches(folder: Path, tmp_path: Path, count: int) -> None:
    backend = Devices(count)
    stores = [Store.create(tmp_path / name, backend.fingerprint) for name in ("one", "several")]
    ingest(stores[0], [folder], FakeBackend(), decoders=0)
    report = ingest(stores[1], [folder], backend, decoders=0)
    assert sum(report.items.values()) == 400
    assert content(stores[1]) == content(stores[0])
    embedded = [len(device.seen) for device in backend.all]
    assert sum(embedded) == 400
    assert min(embedded) > 0


def test_torch_has_its_threads_back_after_them(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    before = torch.get_num_threads()
    try:
        backend = Devices(2)
        ingest(Store.create(tmp_path / "c", backend.fingerprint), [folder], backend, decoders=0)
        with ThreadPoolExecutor(1) as later:
            assert later.submit(torch.get_num_threads).result() == 4
    finally:
        torch.set_num_threads(before)


def test_one_that_fails_ends_the_ingest(folder: Path, tmp_path: Path) -> None:
    backend = Devices(2, fails=True)
    store = Store.create(tmp_path / "c", backend.fingerprint)
    with pytest.raises(ModelError, match="gone"):
        ingest(store, [folder], backend, decoders=0)
    kept = content(store)
    assert len(kept) < 400
    report = ingest(store, [folder], FakeBackend(), decoders=0)
    assert sum(report.items.values()) == 400 - len(kept)


def test_a_model_on_two_devices_gives_what_it_gives_on_one(tmp_path: Path) -> None:
    backend = load_backend("bundled", device="cpu")
    first, second = backend.replicas(["cpu", "cpu"])
    assert first is backend
    assert second is not backend
    assert backend.replicas() == [backend]
    stores = [Store.create(tmp_path / name, backend.fingerprint) for name in ("one", "two")]
    (tmp_path / "media").mkdir()
    for i in range(100):
        (tmp_path / "media" / f"{i}.txt").write_text(f"a dog and {i} cats")
    ingest(stores[0], [tmp_path / "media"], backend, decoders=0)
    ingest(stores[1], [tmp_path / "media"], backend, decoders=0, devices=["cpu", "cpu"])
    assert {path for path, _ in content(stores[1])} == {path for path, _ in content(stores[0])}
    one, two = (store.snapshot() for store in stores)
    order = [np.argsort(each.items(each.ids, ["path"])["path"].to_pylist()) for each in (one, two)]
    vectors = [each.vectors(each.ids[rows]) for each, rows in zip((one, two), order, strict=True)]
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-3)  # stored as float16
