"""Threads that share work, and products without those of BLAS."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from threading import Barrier, Thread, get_ident

import pytest
from threadpoolctl import ThreadpoolController

from xsearch.system import threads
from xsearch.system.threads import share, without_blas_threads


@pytest.fixture(autouse=True)
def four_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "4")


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


def test_an_error_of_the_source_or_a_worker_is_raised() -> None:
    def torn() -> Iterator[int]:
        yield from range(9)
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        share(list, torn())
    with pytest.raises(ZeroDivisionError):
        share(lambda parts: [1 // part for part in parts], range(9))


def counts() -> list[int]:
    libraries = ThreadpoolController().select(threading_layer="pthreads").lib_controllers
    return [library.get_num_threads() for library in libraries]


def test_blas_has_its_threads_back_when_the_last_thread_leaves() -> None:
    blas = threads._Blas()
    blas._set((library, 2) for library in blas._libraries)
    before = counts()
    inside, leave = Barrier(2, timeout=60), Barrier(2, timeout=60)

    def other() -> None:
        with blas:
            inside.wait()
            leave.wait()

    thread = Thread(target=other)
    with blas:
        thread.start()
        inside.wait()
        assert set(counts()) <= {1}
    assert set(counts()) <= {1}  # the other is still there
    leave.wait()
    thread.join()
    assert counts() == before


def test_an_error_within_gives_the_threads_back() -> None:
    before = counts()
    with pytest.raises(KeyError), without_blas_threads:
        raise KeyError
    assert counts() == before
