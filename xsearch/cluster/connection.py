"""Connections to Ray: to a cluster, or to one of this machine alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from xsearch.errors import UsageError, XsearchError, optional_module

__all__ = ["cause_of", "connected", "describe", "module"]

# Ray listens on the address of the machine, unless this says, when it is imported, that there is only one
LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0"
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # telemetry
    "RAY_gcs_server_port_wait_time_s": "120",  # for the first process, on a busy machine
}
OBJECTS_BYTES = 200 << 20  # Ray's memory for what it sends: units, of 100 kB each
TRIES = 5  # to start it here: Ray waits 30 s for its second process, and offers no other limit


@contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """Yield the module `ray`, connected to the cluster at `address`; None starts one on this machine.

    A process that is connected already stays so. Raises UsageError if there is no cluster, or no Ray.
    """
    ray = module(address)
    if ray.is_initialized():
        yield ray
        return
    options: dict[str, Any] = {"logging_level": "error", "log_to_driver": False}
    if address is None:
        options |= {"include_dashboard": False, "object_store_memory": OBJECTS_BYTES}
    for tries_left in reversed(range(TRIES if address is None else 1)):
        try:
            ray.init(address or "local", **options)  # RAY_ADDRESS is the default
            break
        except (ConnectionError, ValueError) as error:
            raise UsageError(f"no Ray cluster at {address}: {' '.join(str(error).split())}") from error
        except Exception:  # Ray raises no other class
            if not tries_left:
                raise
            ray.shutdown()
    try:
        yield ray
    finally:
        ray.shutdown()


def cause_of(error: Any, what: str, kinds: tuple[type[Exception], ...] = (XsearchError,)) -> Exception:
    """Return what a RayTaskError was raised for, if it is of these kinds; else an XsearchError about it."""
    return error.cause if isinstance(error.cause, kinds) else XsearchError(f"{what} failed: {error.cause!r}")


def describe() -> str:
    """Return the version of Ray, and the cluster that this machine is part of. Raises XsearchError."""
    ray = module("auto")
    try:
        with connected("auto"):
            nodes = [node for node in ray.nodes() if node["Alive"]]
            sums = ray.cluster_resources()
    except UsageError:
        return f"{ray.__version__}; this machine is part of no cluster"
    except Exception as error:  # whatever Ray raises
        raise XsearchError(f"{ray.__version__}: {error}") from error
    return f"{ray.__version__}; {len(nodes)} nodes, {sums.get('CPU', 0):g} CPUs, {sums.get('GPU', 0):g} GPUs"


def module(address: str | None) -> Any:
    """Import Ray for a cluster at `address`; see `connected`. Raises UsageError if it is not installed."""
    if address is None:
        os.environ.setdefault(*LOOPBACK)
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    return optional_module("ray", "cluster")
