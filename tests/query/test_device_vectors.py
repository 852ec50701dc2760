"""What a device computes of stored vectors is what numpy does; here the device is the CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from xsearch.errors import StoreError
from xsearch.query import device_vectors
from xsearch.query.device_vectors import DeviceVectors

N, D = 500, 64


class Stored:
    """Every third id, in blocks; counts what is read."""

    def __init__(self, damaged=False):
        rng = np.random.default_rng(0)
        x = rng.standard_normal((N, D))
        self.table = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float16)
        self.damaged, self.read, self.streamed = damaged, 0, 0

    def __len__(self):
        return N

    def rows(self, ids):
        if (ids % 3).any() or (ids < 0).any() or (ids >= 3 * N).any():
            raise StoreError("no live item")
        return ids // 3

    def stored(self, ids):
        self.read += len(ids)
        return self.table[self.rows(ids)]

    def blocks(self):
        for start in range(0, N, 170):
            if self.damaged:
                raise StoreError("damaged")
            self.streamed += 1
            block = self.table[start : start + 170].view()
            block.flags.writeable = False  # as those of a memory map
            yield 3 * np.arange(start, start + len(block)), block


def asked(rng, Q, c):
    """Queries and candidates, some of them repeated or missing, and their cosines in float64."""
    queries = rng.standard_normal((Q, D)).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    ids = 3 * rng.integers(N, size=(Q, c))
    ids[rng.random((Q, c)) < 0.2] = -1
    expected = np.einsum("qd,qcd->qc", queries, Stored().table[ids // 3].astype(np.float64))
    return queries, ids, np.where(ids < 0, -np.inf, expected)


@pytest.fixture
def few(monkeypatch):
    """Parts are of a few candidates."""
    monkeypatch.setattr(device_vectors, "MOVED", 30 * D)
    monkeypatch.setattr(device_vectors, "GATHERED", 30 * D)


@pytest.mark.parametrize(("Q", "c"), [(1, 7), (13, 11), (40, 3), (2, 100), (3, 0), (0, 5)])
def test_small_batches_large_ones_and_resident_vectors_agree_with_numpy(few, Q, c):
    rng, source = np.random.default_rng(Q), Stored()
    vectors = DeviceVectors(source, torch.device("cpu"))
    queries, ids, expected = asked(rng, Q, c)
    for _ in range(N // max(Q * c, 1) + 2 if Q * c else 1):
        found = vectors.cosines(queries, ids)
        assert (found.dtype, found.shape) == (np.float32, (Q, c))
        np.testing.assert_allclose(found, expected, atol=1e-6)
    assert source.streamed == (3 if Q * c else 0)  # now they are on the device: copied once
    read = source.read
    np.testing.assert_allclose(vectors.cosines(queries, ids), expected, atol=1e-6)
    assert source.read == read or not Q * c
    nothing = np.full_like(ids, -1)
    assert np.isneginf(vectors.cosines(queries, nothing)).all()


def test_a_part_may_have_no_candidates(few):
    vectors = DeviceVectors(Stored(), torch.device("cpu"))
    queries, ids, expected = asked(np.random.default_rng(1), 40, 10)
    ids[:20] = -1
    expected[:20] = -np.inf
    np.testing.assert_allclose(vectors.cosines(queries, ids), expected, atol=1e-6)


def out_of_memory(*_, **__):
    raise torch.OutOfMemoryError("out of memory")


@pytest.mark.parametrize("problem", ["damaged", "none to load", "none to compare"])
def test_what_cannot_be_on_the_device_is_compared_all_the_same(few, monkeypatch, problem):
    source = Stored(damaged=problem == "damaged")
    vectors = DeviceVectors(source, torch.device("cpu"))
    if problem == "none to load":
        monkeypatch.setattr(DeviceVectors, "_loaded", lambda *_: None)
    if problem == "none to compare":
        monkeypatch.setattr(DeviceVectors, "_products", out_of_memory)
    queries, ids, expected = asked(np.random.default_rng(2), 60, 12)
    for _ in range(3):
        np.testing.assert_allclose(vectors.cosines(queries, ids), expected, atol=1e-6)


def test_an_item_that_is_not_stored_is_an_error(few):
    vectors = DeviceVectors(Stored(), torch.device("cpu"))
    queries, ids, _ = asked(np.random.default_rng(3), 5, 4)
    ids[2, 1] = 3 * N
    for _ in range(2 * N // ids.size):
        with pytest.raises(StoreError):
            vectors.cosines(queries, ids)
