"""Tasks: a function that is called with each of some numbers, on the nodes of a cluster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from platform import node

from xsearch.cluster.connection import MOST_DEATHS, cause_of, check, connected, remote
from xsearch.errors import StoreError, XsearchError

__all__ = ["Tasks"]

EXPECTED = XsearchError, OSError  # of a shard


@dataclass(frozen=True, slots=True)
class Tasks:
    """A `Run` for `index.Shards` on the Ray cluster at `address`; None starts one on this machine.

    Each call has a core, so that as many shards are added to at once as there are cores.
    """

    address: str | None = None

    def __call__(self, function: Callable[[int], None], count: int) -> None:
        """Call `function` with each number below `count`, those of a node that dies again elsewhere.

        Raises UsageError if there is no cluster, and what the function raises.
        """
        with connected(self.address) as ray:
            call = ray.remote(num_cpus=1, max_retries=MOST_DEATHS, scheduling_strategy="SPREAD")(_call)
            shared = ray.put(function)
            calls = [call.remote(shared, number) for number in range(count)]
            try:
                ray.get(calls)
            except ray.exceptions.RayError as error:
                raise cause_of(error, "a task", EXPECTED) from error
            finally:
                for each in calls:
                    ray.cancel(each)  # those that have ended are none

    def check(self) -> None:
        """Raise UsageError if there is no cluster, or no Ray."""
        check(self.address)


def _call(function: Callable[[int], None], number: int) -> None:
    with remote(EXPECTED):
        try:
            function(number)
        except StoreError as error:
            hint = "every node needs the collection at the same path"
            raise StoreError(f"{node()}: {error}; {hint}") from error
