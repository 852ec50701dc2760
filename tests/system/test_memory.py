"""Memory maps are read ahead where that is asked for."""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from xsearch.store.pages import map_file
from xsearch.system import memory
from xsearch.system.memory import prefetch

PAGES = 4096


def resident(address: int) -> np.ndarray:
    """Whether each of PAGES pages is in memory: bool [PAGES]."""
    flags = (ctypes.c_ubyte * PAGES)()
    mincore = ctypes.CDLL(None, use_errno=True).mincore
    assert mincore(ctypes.c_void_p(address), ctypes.c_size_t(PAGES * mmap.PAGESIZE), flags) == 0
    return np.frombuffer(flags, np.uint8) & 1 == 1


@pytest.mark.parametrize("together", [1, 3, 1024])
@pytest.mark.parametrize("at_once", [True, False])
def test_every_range_is_asked_for(monkeypatch: pytest.MonkeyPatch, together: int, at_once: bool) -> None:
    asked: list[tuple[int, int]] = []

    def advise(descriptor: int, address: int, count: int, advice: int, flags: int) -> int:
        ranges = np.ctypeslib.as_array((ctypes.c_size_t * (2 * count)).from_address(address)).reshape(-1, 2)
        if not at_once:
            return -1
        asked.extend((start, length) for start, length in ranges.tolist())
        return int(ranges[:, 1].sum())

    libc = SimpleNamespace(
        madvise=lambda start, length, advice: asked.append((start, length)), process_madvise=advise
    )
    monkeypatch.setattr(memory, "_libc", lambda: libc)
    monkeypatch.setattr(memory, "TOGETHER", together)
    page = mmap.PAGESIZE
    prefetch(np.array([0, page + 10, 9 * page]), np.array([5, 20, 2 * page]))
    assert asked == [(0, 5), (page, 30), (9 * page, 2 * page)]
    prefetch(np.empty(0, np.int64), 3)
    assert len(asked) == 3


@pytest.mark.skipif(sys.platform != "linux", reason="mincore and posix_fadvise are of Linux")
def test_what_is_prefetched_comes_into_memory(on_disk: Path) -> None:
    path = on_disk / "file"
    path.write_bytes(os.urandom(PAGES * mmap.PAGESIZE))
    pages = np.array([5, 1_000, 3_000, 4_095])
    expected = np.concatenate([pages, pages[:-1] + 1])
    buffer = map_file(path)
    descriptor = os.open(path, os.O_RDONLY)
    until = time.monotonic() + 5
    while (is_kept := resident(buffer.address)[expected].any()) and time.monotonic() < until:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)
    if is_kept:
        pytest.skip("this file system keeps its files in memory")
    # 100 bytes that cross from a page into the next, but for the last page
    prefetch(buffer.address + (pages + 1) * mmap.PAGESIZE - np.array([50, 50, 50, 100]), 100)
    until = time.monotonic() + 60
    while not (there := resident(buffer.address))[expected].all() and time.monotonic() < until:
        time.sleep(0.01)
    assert there[expected].all()
    assert not there.all()
    assert bytes(buffer[:10]) == path.read_bytes()[:10]
