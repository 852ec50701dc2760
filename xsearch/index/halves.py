"""Products with float16 vectors as they are stored: FAISS converts them in registers, not in memory."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from xsearch.index.library import load_faiss

__all__ = ["products"]


class _Scanners(threading.local):
    """By dimension, with what they refer to; one for each thread, as Python does not free them."""

    def __init__(self) -> None:
        self.known: dict[int, tuple[Any, Any]] = {}

    def of(self, D: int) -> Any:
        if D not in self.known:
            faiss = load_faiss()
            quantizer = faiss.ScalarQuantizer(D, faiss.ScalarQuantizer.QT_fp16)
            options = faiss.METRIC_INNER_PRODUCT, None, False, None, False
            self.known[D] = quantizer.select_InvertedListScanner(*options), quantizer
        return self.known[D][0]


_scanners = _Scanners()


def products(queries: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Return the products of all pairs, computed one by one in the calling thread: float32 [Q, n].

    queries: float32 [Q, D]. vectors: finite float16 [n, D]. Both are contiguous.
    """
    faiss = load_faiss()
    (n, D), pointer = vectors.shape, faiss.swig_ptr
    codes, rows, same_rows = vectors.view(np.uint8), np.arange(n), np.empty(n, np.int64)
    scanner, scores = _scanners.of(D), np.empty((len(queries), n), np.float32)
    for query, of_query in zip(queries, scores, strict=True):
        found = faiss.RangeSearchResult(1)
        found.buffer_size = n
        part = faiss.RangeSearchPartialResult(found)
        scanner.set_query(pointer(query))
        scanner.scan_codes_range(n, pointer(codes), pointer(rows), -np.inf, part.new_result(0))
        part.copy_range(0, n, pointer(same_rows), pointer(of_query))
    return scores
