"""Calls of many replicas at once, here of threads in this process; without Ray."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from threading import Event, Lock, Thread
from typing import Any

import pytest

from xsearch.cluster.fan import Fan
from xsearch.errors import StoreError


class Death(Exception):
    """Befalls a replica."""


class Failure(Exception):
    """What wraps an exception of a replica."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Response:
    def __init__(self, future: Future[Any]) -> None:
        self._future = future
        self.is_cancelled = False

    def result(self, *, timeout_s: float) -> Any:
        return self._future.result(timeout_s)

    def cancel(self) -> None:
        self.is_cancelled = True


class Handle:
    """A handle of one replica, which does what `acts` say, one a call, and the last of them from then on."""

    def __init__(self, *acts: Callable[[], Any]) -> None:
        self.acts, self.calls = list(acts), list[str]()
        self.responses = list[Response]()
        self._lock = Lock()

    def __getattr__(self, method: str) -> Any:
        def remote(*arguments: Any) -> Response:
            future: Future[Any] = Future()

            def act() -> None:
                with self._lock:
                    self.calls.append(method)
                    run = self.acts.pop(0) if len(self.acts) > 1 else self.acts[0]
                try:
                    future.set_result(run())
                except Exception as problem:
                    future.set_exception(problem)

            Thread(target=act, daemon=True).start()
            self.responses.append(Response(future))
            return self.responses[-1]

        return type("Method", (), {"remote": staticmethod(remote)})


def die() -> None:
    raise Death


def fan(*handles: Handle, timeout_s: float = 60.0, **options: Any) -> Fan:
    return Fan(handles, timeout_s, deaths=(Death,), failure=Failure, **options)


def one() -> int:
    return 1


def test_answers_are_in_the_order_of_the_handles() -> None:
    handles = [Handle(one), Handle(lambda: 2), Handle(lambda: 3)]
    assert fan(*handles)("visit", [(), None, ()]) == [1, None, 3]
    assert [handle.calls for handle in handles] == [["visit"], [], ["visit"]]


def test_a_call_whose_replica_dies_is_repeated_while_another_is_slow() -> None:
    go_on = Event()

    def slow() -> int:
        assert go_on.wait(60)
        return 1

    def last() -> int:
        go_on.set()  # the first answers only after the others have been repeated
        return 3

    assert fan(Handle(slow), Handle(die, one), Handle(die, die, last))("visit", [()] * 3) == [1, 1, 3]


def test_what_a_replica_raises_is_raised() -> None:
    def fail() -> None:
        raise Failure(StoreError("damaged"))

    with pytest.raises(StoreError, match="damaged"):
        fan(Handle(one), Handle(fail))("visit", [(), ()])


def test_a_shard_without_an_answer_is_not_waited_for_again_before_it_is_ready() -> None:
    go_on = Event()

    def stuck() -> int:
        assert go_on.wait(60)
        return 7

    handle = Handle(stuck)
    call = fan(Handle(one), handle, timeout_s=0.2, skip=True, lists=60.0)
    assert call("visit", [(), ()]) == [1, None]
    assert handle.responses[0].is_cancelled
    assert call("visit", [(), ()]) == [1, None]
    assert call("cosines", [(), ()]) == [1, None]
    while len(handle.calls) < 2:
        time.sleep(0.001)
    assert set(handle.calls[1:]) == {"ready"}
    go_on.set()
    while call("visit", [(), ()]) != [1, 7]:
        time.sleep(0.001)
    patient = fan(Handle(stuck), timeout_s=0.2)
    assert patient("visit", [()]) == [7]


def test_a_probe_that_dies_is_sent_again() -> None:
    handle = Handle(die)
    call = fan(handle, timeout_s=0.01, skip=True)
    assert call("visit", [()]) == [None]
    handle.acts = [die, die, one]
    while call("visit", [()]) != [1]:
        time.sleep(0.001)


def test_a_shard_is_waited_for_again_unless_it_may_be_skipped() -> None:
    handle = Handle(die)
    call = fan(handle, timeout_s=0.01)
    assert [call("visit", [()]) for _ in range(2)] == [[None], [None]]
    assert set(handle.calls) == {"visit"}
