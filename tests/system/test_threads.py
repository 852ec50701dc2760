"""Threads that share work, and products without those of BLAS."""

from __future__ import annotations

import os
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


def test_without_further_threads_the_caller_does_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(Thread, "start", refuse)
        assert share(list, range(9)) == [list(range(9))]
    taken = share(list, range(100))
    assert len(taken) == 4  # all helpers are free again
    assert sorted(chain.from_iterable(taken)) == list(range(100))


def test_what_stops_the_start_of_helpers_ends_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: Thread) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            share(list, range(9))
    assert len(share(list, range(4))) == 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_child_process_has_helpers_of_its_own() -> None:
    share(list, range(9))
    child = os.fork()
    if not child:
        os._exit(len(share(list, range(9))) if sum(map(sum, share(list, range(9)))) == 36 else 0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == min(4, CORES + 1)


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
