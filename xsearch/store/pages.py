"""Files that are checked as they are read: page by page, and only the pages that are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from xsearch.errors import Damaged

__all__ = ["PAGE", "CheckedFile", "checksums", "map_file"]

PAGE = 4096  # bytes; as the operating system reads them, so that a check reads nothing that is not needed
GATHERED = 1024  # pages that are copied at a time: 4 MB
WORD = np.dtype("<u8")
WEIGHTS = 2 * np.arange(PAGE // WORD.itemsize, dtype=WORD) + 1  # odd: a word that changes changes the sum


def map_file(path: Path) -> pa.Buffer:
    """The bytes of a file, memory-mapped. They outlive the file's removal and hold no descriptor."""
    with pa.memory_map(str(path)) as mapped:
        return mapped.read_buffer()


def checksums(data: np.ndarray) -> np.ndarray:
    """A number for every PAGE bytes of `data` (uint8 [n], filled up with zeros): uint64 [pages].

    It is the sum over the page's words w_0, w_1, ... of (2i + 1) w_i, modulo 2**64: no change of one word
    leaves it as it is. It takes a quarter of the time of a scan; crc32 as long as a scan (measured).

    >>> checksums(np.array([1, 0, 0, 0, 0, 0, 0, 0, 2], np.uint8)).tolist()
    [7]
    """
    sums = _sums(_words(data))
    if rest := len(data) % PAGE:
        last = np.zeros(PAGE, np.uint8)
        last[:rest] = data[-rest:]
        sums = np.append(sums, _sums(_words(last)))
    return sums


def _words(data: np.ndarray) -> np.ndarray:
    """The whole pages of `data`: uint64 [pages, 512], a view."""
    return data[: len(data) // PAGE * PAGE].view(WORD).reshape(-1, len(WEIGHTS))


def _sums(words: np.ndarray) -> np.ndarray:
    return np.einsum("pw,w->p", words, WEIGHTS)


class CheckedFile:
    """A memory-mapped file of a collection. A page that has been checked once is not checked again.

    Whoever reads from `buffer` calls `check` first. (Arrow would read from a Python object that does so by
    itself, but in its own threads: one that still holds such an object when the program ends aborts it.)
    """

    def __init__(self, collection: Path, name: str) -> None:
        """`name` is the path inside the collection. Nothing is checked until `expect` has been called."""
        self.buffer = map_file(collection / name)
        self.pages = -(-self.buffer.size // PAGE)
        self._where = collection, name
        self._bytes = np.frombuffer(self.buffer, np.uint8)
        self._expected = np.empty(0, WORD)
        self._good = np.ones(self.pages, bool)  # or nothing is known against it

    def expect(self, sums: np.ndarray) -> None:
        """From now on check against these `checksums`, one for each page."""
        self._expected, self._good = sums, np.zeros(self.pages, bool)

    def damaged(self, problem: object) -> Damaged:
        return Damaged(*self._where, problem)

    def check(self, start: int, stop: int) -> None:
        """Raises Damaged if the bytes from `start` to `stop`, as far as there are any, are not as written."""
        first, last = max(start, 0) // PAGE, min(-(-stop // PAGE), self.pages)
        if last - first == 1 and self._good[first]:
            return
        if not self._good[first:last].all():
            self._compare(np.arange(first, last), checksums(self._bytes[first * PAGE : last * PAGE]))

    def check_view(self, view: pa.Buffer) -> int:
        """The same for the bytes of `view`, which is a part of `buffer`. Returns where it starts."""
        start: int = view.address - self.buffer.address
        self.check(start, start + view.size)
        return start

    def check_each(self, starts: np.ndarray, sizes: np.ndarray | int) -> None:
        """The same for `sizes` bytes, int64 [n] or the same for all, at each of `starts`, int64 [n]."""
        if not len(starts) or self._good.all():
            return
        first, last = starts // PAGE, (starts + np.maximum(sizes, 1) - 1) // PAGE
        wanted = np.zeros(self.pages, bool)
        for step in range((last - first).max() + 1):
            wanted[np.minimum(first + step, last)] = True
        pages = np.flatnonzero(wanted & ~self._good)
        words = _words(self._bytes)
        if len(pages) and pages[-1] == len(words):  # the last one, which is short
            self.check(pages[-1] * PAGE, self.buffer.size)
            pages = pages[:-1]
        for part in np.array_split(pages, len(pages) // GATHERED + 1):
            self._compare(part, _sums(words[part]))

    def _compare(self, pages: np.ndarray, found: np.ndarray) -> None:
        if len(bad := pages[found != self._expected[pages]]):
            raise self.damaged(f"a wrong checksum at byte {bad[0] * PAGE:,}")
        self._good[pages] = True
