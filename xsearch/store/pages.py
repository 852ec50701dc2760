"""Memory-mapped files with page checksums, verified lazily: only the pages that are read."""

from __future__ import annotations

import errno
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from xsearch.errors import Damaged
from xsearch.system.memory import prefetch

__all__ = ["PAGE", "CheckedFile", "check_all", "checksums", "map_file"]

PAGE = 4096  # bytes; the page size of the OS, so that verification causes no extra reads
GATHERED = 1024  # pages copied at a time: 4 MB
WORD = np.dtype("<u8")
WEIGHTS = 2 * np.arange(PAGE // WORD.itemsize, dtype=WORD) + 1  # odd: a changed word changes the sum


def map_file(path: Path) -> pa.Buffer:
    """Memory-map a regular file. The buffer survives deletion of the file and holds no descriptor."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))  # a pipe would block for ever
    with pa.memory_map(str(path)) as mapped:
        return mapped.read_buffer()


def checksums(data: np.ndarray) -> np.ndarray:
    """Return one checksum per PAGE bytes of `data` (uint8 [n], zero-padded): uint64 [pages].

    The sum of (2i + 1) w_i modulo 2**64 over the page's words w_0, w_1, ...; it detects any change of a
    single word. Takes a quarter of the time of a scan; crc32 takes as long as a scan (measured).

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
    """View of the complete pages of `data`: uint64 [pages, 512]."""
    return data[: len(data) // PAGE * PAGE].view(WORD).reshape(-1, len(WEIGHTS))


def _sums(words: np.ndarray) -> np.ndarray:
    return np.einsum("pw,w->p", words, WEIGHTS)


class CheckedFile:
    """A memory-mapped file of a collection whose pages are verified once, on first access.

    Call `check` before reading from `buffer`. (A Python file object could do this for Arrow, but Arrow's
    threads may still hold it when the interpreter exits, which aborts the process.)
    """

    def __init__(self, collection: Path, name: str) -> None:
        """`name`: path inside the collection. Nothing is verified until `expect` has been called."""
        self.buffer = map_file(collection / name)
        self.pages = -(-self.buffer.size // PAGE)
        self._where = collection, name
        self._bytes = np.frombuffer(self.buffer, np.uint8)
        self.words = _words(self._bytes)
        self._expected = np.empty(0, WORD)
        self.flags = bytearray(b"\1") * self.pages  # 1: verified, or no checksums to verify against
        self._good = np.frombuffer(self.flags, bool)  # shares the memory of `flags`

    def expect(self, sums: np.ndarray) -> None:
        """Verify against these `checksums`, one per page, from now on."""
        self._expected = sums
        self._good[:] = False

    def damaged(self, problem: object) -> Damaged:
        return Damaged(*self._where, problem)

    def check(self, start: int, stop: int) -> None:
        """Verify the bytes from `start` to `stop`, clipped to the file. Raises Damaged."""
        first, last = max(start, 0) // PAGE, min(-(-stop // PAGE), self.pages)
        if not self._good[first:last].all():
            prefetch(np.array([self.buffer.address + first * PAGE]), (last - first) * PAGE)
            self.compare(np.arange(first, last), checksums(self._bytes[first * PAGE : last * PAGE]))

    def check_view(self, view: pa.Buffer) -> int:
        """Verify `view`, a slice of `buffer`, and return its offset. Raises Damaged."""
        start: int = view.address - self.buffer.address
        self.check(start, start + view.size)
        return start

    def check_each(self, starts: np.ndarray, sizes: np.ndarray | int) -> None:
        """Verify `sizes` bytes (int64 [n] or a scalar) at each of `starts` (int64 [n]). Raises Damaged."""
        check_all([(self, starts, sizes)])

    def unchecked(self, starts: np.ndarray, sizes: np.ndarray | int) -> np.ndarray:
        """Return the pages of these bytes that are not verified yet: int64, may contain duplicates."""
        first, last = starts // PAGE, (starts + np.maximum(sizes, 1) - 1) // PAGE
        steps = range(1, int((last - first).max(initial=0)))
        pages = np.concatenate([first, *(np.minimum(first + step, last) for step in steps), last])
        return pages[~self._good[pages]]

    def compare(self, pages: np.ndarray, sums: np.ndarray) -> None:
        """Mark `pages` as verified if `sums` are their checksums. Raises Damaged if not."""
        if len(bad := pages[sums != self._expected[pages]]):
            raise self.damaged(f"a wrong checksum at byte {bad[0] * PAGE:,}")
        self._good[pages] = True


def check_all(parts: Iterable[tuple[CheckedFile, np.ndarray, np.ndarray | int]]) -> None:
    """`CheckedFile.check_each` for several files; one call per file takes longer than the sums (measured)."""
    gathered: list[tuple[CheckedFile, np.ndarray]] = []
    for file, starts, sizes in parts:
        pages = file.unchecked(starts, sizes)
        if len(pages) and pages.max() == len(file.words):  # the last page, incomplete
            file.check(len(file.words) * PAGE, file.buffer.size)
            pages = pages[pages < len(file.words)]
        for start in range(0, len(pages), GATHERED):
            gathered.append((file, pages[start : start + GATHERED]))
            if sum(len(part) for _, part in gathered) >= GATHERED:
                _compare(gathered)
                gathered = []
    if gathered:
        _compare(gathered)


def _compare(gathered: Sequence[tuple[CheckedFile, np.ndarray]]) -> None:
    sums = _sums(np.concatenate([file.words[pages] for file, pages in gathered]))
    ends = np.cumsum([len(pages) for _, pages in gathered])[:-1]
    for (file, pages), part in zip(gathered, np.split(sums, ends), strict=True):
        file.compare(pages, part)
