"""Threads that share work, and products without those of BLAS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, count
from threading import Barrier, Thread, get_ident

import pytest

from xsearch.system import threads
from xsearch.system.cores import CORES
from xsearch.system.threads import share, without_blas_threads

pytestmark = pytest.mark.usefixtures("four_threads")


def test_each_part_is_taken_once_and_all_threads_take_some() -> None:
    together = Barrier(4, timeout=60)

    def worker(parts: Iterator[int]) -> list[int]:
        first = next(parts)
        together.wait()
        return [first, *parts]

    taken = share(worker, (number for number in range(1_000)))
    assert len(taken) == 4
    assert sorted(chain.from_iterable(taken)) == list(range(1_000))


@pytest.mark.parametrize("parts", [[], [7]])
def test_a_single_part_stays_in_the_calling_thread(parts: list[int]) -> None:
    assert share(lambda todo: (list(todo), get_ident()), parts) == [(parts, get_ident())]


def test_helpers_come_for_some_parts_each_and_not_twice() -> None:
    assert len(share(list, range(7), 4)) == 1
    assert len(share(list, range(8), 4)) == 2
    together = Barrier(4, timeout=60)

    def within(parts: Iterator[int]) -> int:
        next(parts)
        together.wait()
        count = len(share(list, range(9)))
        together.wait()
        return count

    assert share(within, range(4)) == [1, 1, 1, 1]  # all helpers are busy
    assert len(share(list, range(4))) == 4  # and free again


def test_an_error_ends_the_work_of_all_threads() -> None:
    def torn() -> Iterator[int]:
        yield from range(9)
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        share(list, torn())
    with pytest.raises(ZeroDivisionError):
        share(lambda parts: [1 // (part - 99) for part in parts], count())
    assert len(share(list, range(4))) == 4


@pytest.mark.parametrize(("setting", "expected"), [("4,2", 4), ("0", CORES), ("", CORES), ("two", CORES)])
def test_the_number_of_threads(monkeypatch: pytest.MonkeyPatch, setting: str, expected: int) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", setting)
    assert threads.threads() == expected


@pytest.fixture
def counts() -> Iterator[Callable[[], list[int]]]:
    """The numbers of threads that the libraries have, two each."""
    libraries = without_blas_threads._libraries
    assert libraries, "NumPy has no OpenBLAS with threads: test with that of PyPI"
    before = [(library, library.get_num_threads()) for library in libraries]
    without_blas_threads._set((library, 2) for library in libraries)
    yield lambda: [library.get_num_threads() for library in libraries]
    without_blas_threads._set(before)


def test_blas_has_its_threads_back_when_the_last_thread_leaves(counts: Callable[[], list[int]]) -> None:
    inside, leave = Barrier(2, timeout=60), Barrier(2, timeout=60)

    def other() -> None:
        with without_blas_threads:
            inside.wait()
            leave.wait()

    assert set(counts()) == {2}
    thread = Thread(target=other)
    with without_blas_threads:
        thread.start()
        inside.wait()
        assert set(counts()) == {1}
    assert set(counts()) == {1}  # the other is still there
    leave.wait()
    thread.join()
    assert set(counts()) == {2}


def test_an_error_within_gives_the_threads_back(counts: Callable[[], list[int]]) -> None:
    with pytest.raises(KeyError), without_blas_threads:
        raise KeyError
    assert set(counts()) == {2}
