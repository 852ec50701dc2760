"""The re-rank on a GPU: exact cosines of candidates with their stored vectors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from threading import Lock
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from xsearch.errors import StoreError
from xsearch.index import Products, cosines, in_parts

__all__ = ["DeviceVectors", "Source"]

ROOM = 0.5  # share of a device's free memory that the vectors may take: towers and FAISS need some, too
GATHERED = 1 << 27  # components of candidates at a time: 256 MB of float16, 512 MB of float32
MOVED = 1 << 22  # the same for each thread, where they are moved to the device: 8 MB


class Source(Protocol):
    """Stored vectors; implemented by `store.Snapshot`."""

    def __len__(self) -> int: ...

    def rows(self, ids: np.ndarray) -> np.ndarray:
        """Return the positions of these ids among all: int64 [n]."""

    def stored(self, ids: np.ndarray) -> np.ndarray:
        """Return the vectors of these ids: float16 [n, D]."""

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Stream (ids int64 [b], vectors float16 [b, D]) of all, in the order of `rows`."""


class DeviceVectors:
    """The vectors of `source`, compared on a device; may be shared by threads.

    They are copied there when as many have been compared as there are, if they fit: a single query should not
    wait for it. Until then, or if they do not fit, those of large batches are moved to the device, some while
    it multiplies others, and small batches are compared on the CPU.
    """

    def __init__(self, source: Source, device: torch.device) -> None:
        self._source, self._device = source, device
        self._compared = 0
        self._table: Tensor | None = None
        self._loading = Lock()  # held for good once they have been loaded, or do not fit

    @staticmethod
    def on_gpu(source: Source) -> DeviceVectors | None:
        """Return them for the first GPU, None if torch has none."""
        return DeviceVectors(source, torch.device("cuda", 0)) if torch.cuda.is_available() else None

    def cosines(self, queries: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """Return the cosines of each query with its candidates: float32 [Q, c], -inf for padding.

        queries: float32 [Q, D], unit rows. ids: int64 [Q, c], padded with -1. As `index.cosines` up to the
        rounding of float32. Raises StoreError for an id that is not in the source.
        """
        self._compared += ids.size
        if self._compared >= len(self._source) and self._loading.acquire(blocking=False):
            self._table = self._loaded(queries.shape[1])
        try:
            if self._table is not None:
                return self._gathered(queries, ids, self._table)
            rows = MOVED // queries.shape[1]
            if ids.size > rows:  # else there is nothing to multiply while it is moved
                return in_parts(queries, ids, rows, partial(self._mover, queries.shape[1]))
        except torch.OutOfMemoryError:
            pass  # of what else is on the device
        return cosines(queries, ids, self._source.stored)

    def _loaded(self, D: int) -> Tensor | None:
        """The vectors on the device, float16 [N, D]; None if they do not fit, or some are damaged."""
        N = len(self._source)
        if self._device.type == "cuda":
            cached = torch.cuda.memory_reserved(self._device) - torch.cuda.memory_allocated(self._device)
            if ROOM * (torch.cuda.mem_get_info(self._device)[0] + cached) < 2 * N * D:
                return None
        try:
            table, start = torch.empty((N, D), dtype=torch.float16, device=self._device), 0
            for ids, vectors in self._source.blocks():
                table[start : start + len(ids)] = torch.tensor(vectors)
                start += len(ids)
        except (torch.OutOfMemoryError, StoreError):
            return None
        return table

    def _gathered(self, queries: np.ndarray, ids: np.ndarray, table: Tensor) -> np.ndarray:
        scores = np.empty(ids.shape, np.float32)
        rows = np.zeros(ids.shape, np.int64)
        rows[ids >= 0] = self._source.rows(ids[ids >= 0])
        step = max(GATHERED // max(table.shape[1] * ids.shape[1], 1), 1)
        for start in range(0, len(ids), step):
            part = slice(start, start + step)
            candidates = table[torch.from_numpy(rows[part]).to(self._device)]
            scores[part] = self._products(queries[part], candidates, ids[part])
        return scores

    def _mover(self, D: int, rows: int) -> Products:
        """What compares up to `rows` candidates in this thread, by pinned memory and a stream of its own."""
        on_gpu = self._device.type == "cuda"
        pinned = torch.empty((rows, D), dtype=torch.float16, pin_memory=on_gpu)
        stream: Any = torch.cuda.stream(torch.cuda.Stream(self._device)) if on_gpu else nullcontext()

        def products(queries: np.ndarray, ids: np.ndarray) -> np.ndarray:
            some_id = ids.max()
            if some_id < 0:
                return np.full(ids.shape, -np.inf, np.float32)
            part = pinned[: ids.size]
            part.numpy()[:] = self._source.stored(np.where(ids < 0, some_id, ids).ravel())
            with stream:
                candidates = part.to(self._device, non_blocking=True).unflatten(0, ids.shape)
                return self._products(queries, candidates, ids)

        return products

    def _products(self, queries: np.ndarray, candidates: Tensor, ids: np.ndarray) -> np.ndarray:
        """Multiply in float32, and wait for the result. candidates: float16 [q, c, D]."""
        x = torch.tensor(queries, dtype=torch.float32, device=self._device)  # [q, D]
        products = (candidates.float() @ x[:, :, None])[:, :, 0]  # [q, c]
        return np.where(ids < 0, np.float32(-np.inf), products.cpu().numpy())
