"""Products with float16 vectors as they are stored: FAISS converts them in registers, not in memory."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from xsearch.index.library import load_faiss
from xsearch.system.float16 import to_float32

__all__ = ["products"]


class _Scanners(threading.local):
    """One scanner of each dimension for each thread: Python never frees them."""

    def __init__(self) -> None:
        self.known: dict[int, tuple[Any, Any]] = {}  # with its quantizer, to which it refers

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

    queries: float32 [Q, D]. vectors: float16 [n, D].
    """
    faiss = load_faiss()
    n, pointer, scanner = len(vectors), faiss.swig_ptr, _scanners.of(vectors.shape[1])
    queries, codes = np.ascontiguousarray(queries), np.ascontiguousarray(vectors).view(np.uint8)
    rows, same_rows = np.arange(n), np.empty(n, np.int64)
    scores = np.empty((len(queries), n), np.float32)
    for query, of_query in zip(queries, scores, strict=True):
        found = faiss.RangeSearchResult(1)
        found.buffer_size = max(n, 1)
        part = faiss.RangeSearchPartialResult(found)
        result = part.new_result(0)
        scanner.set_query(pointer(query))
        scanner.scan_codes_range(n, pointer(codes), pointer(rows), -np.inf, result)
        if result.nres == n > 0:
            part.copy_range(0, n, pointer(same_rows), pointer(of_query))
        else:  # NaN is above no bound
            of_query[:] = to_float32(vectors) @ query
    return scores
