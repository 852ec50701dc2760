"""Calls of a method of many replicas at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from xsearch.cluster.connection import cause_of

__all__ = ["Fan"]

AGAIN_S = 0.05  # before a call is repeated whose replica has died


class Fan:
    """A `Call` through handles of Ray Serve, from any number of threads.

    What a replica raises is raised; a call whose replica has died is repeated until the time is over. Answers
    are awaited in the calling thread as long as they come soon, which costs least; each that does not gets a
    thread, so that none waits for another to be repeated.
    """

    def __init__(
        self,
        handles: Sequence[Any],
        timeout_s: float,
        *,
        deaths: tuple[type[Exception], ...],
        failure: type[Exception],
        skip: bool = False,
        **others: float,
    ) -> None:
        """deaths: what befalls a replica, and its answers. failure: what wraps the exceptions of its methods.

        skip: a handle that has not answered in time is not called again before it answers `ready`.
        others: time-outs of methods, by name.
        """
        self._handles, self._timeout_s, self._others = handles, timeout_s, others
        self._deaths, self._failure, self._skip = deaths, failure, skip
        self._down: dict[int, tuple[Any, float]] = {}  # handles that are skipped: the probe, and until when

    def __call__(self, method: str, arguments: Sequence[tuple[Any, ...] | None]) -> list[Any]:
        deadline = time.monotonic() + self._others.get(method, self._timeout_s)
        calls = {
            at: partial(getattr(handle, method).remote, *some)
            for at, (handle, some) in enumerate(zip(self._handles, arguments, strict=True))
            if some is not None and not self._is_down(at)
        }
        begun = {at: call() for at, call in calls.items()}
        soon = min(time.monotonic() + AGAIN_S, deadline)
        answers: dict[int, Any] = {}
        for at, response in begun.items():
            with suppress(TimeoutError, *self._deaths):
                answers[at] = self._result(response, soon)
        if late := [at for at in begun if at not in answers]:
            with ThreadPoolExecutor(len(late)) as threads:
                patient = [threads.submit(self._answer, at, calls[at], begun[at], deadline) for at in late]
            answers |= {at: each.result() for at, each in zip(late, patient, strict=True)}
        return [answers.get(at) for at in range(len(arguments))]

    def every(self, method: str, *arguments: Any) -> None:
        """Call a method of all replicas that run. Raises what one raises."""
        for handle in self._handles:
            with suppress(TimeoutError, *self._deaths), self._causes():
                handle.broadcast(method, *arguments).results(timeout_s=self._timeout_s)

    def _result(self, response: Any, due: float) -> Any:
        """What a replica returns. Raises TimeoutError, one of the deaths, or what the replica raises."""
        with self._causes():
            return response.result(timeout_s=max(due - time.monotonic(), 0))

    @contextmanager
    def _causes(self) -> Iterator[None]:
        """Raise what a replica has raised, as it has."""
        try:
            yield
        except self._failure as error:
            raise cause_of(error, "a replica") from error

    def _answer(self, at: int, call: Callable[[], Any], response: Any, deadline: float) -> Any:
        """The answer to a call that has begun, repeated if need be; None if there is none in time."""
        while True:
            try:
                return self._result(response, deadline)
            except TimeoutError:
                break
            except self._deaths:
                if time.monotonic() + AGAIN_S > deadline:
                    break
                time.sleep(AGAIN_S)
                response = call()
        with suppress(*self._deaths):
            response.cancel()
        if self._skip:
            self._probe(at)
        return None

    def _probe(self, at: int) -> None:
        self._down[at] = self._handles[at].ready.remote(), time.monotonic() + self._timeout_s

    def _is_down(self, at: int) -> bool:
        """Whether a handle has not answered since it was found not to; does not wait."""
        if (down := self._down.get(at)) is None:
            return False
        probe, due = down
        try:
            self._result(probe, 0)
        except TimeoutError:
            if time.monotonic() > due:
                self._probe(at)
            return True
        except self._deaths:
            self._probe(at)
            return True
        self._down.pop(at, None)
        return False
