"""Connections to Ray: to a cluster, or to one of this machine alone."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from platform import node
from typing import Any

from xsearch.errors import UsageError, XsearchError, optional_module

__all__ = ["MOST_DEATHS", "cause_of", "check", "connected", "describe", "module", "remote"]

MOST_DEATHS = 5  # of processes over the same work
# Ray listens on the address of the machine, unless this says, when it is imported, that there is only one
LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0"
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # telemetry
    "RAY_gcs_server_port_wait_time_s": "120",  # for the first process, on a busy machine
    "RAY_task_oom_retries": str(MOST_DEATHS),  # of a task that is killed for its memory: else no end
}
OBJECTS_BYTES = 200 << 20  # Ray's memory for what it sends: units, of 100 kB each
PATIENCE_S = 10.0  # for a cluster
HOST_PORT = re.compile(r"\[?([^/]+?)\]?:(\d+)")
TRIES = 5  # to start it here: Ray waits 30 s for its second process, and offers no other limit


@contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """Yield the module `ray`, connected to the cluster at `address`; None starts one on this machine.

    A process that is connected already stays so. Raises UsageError if there is no cluster, or no Ray, or if
    Ray would listen to other machines.
    """
    ray = module(address)
    if ray.is_initialized():
        yield ray
        return
    options: dict[str, Any] = {"logging_level": "error", "log_to_driver": False}
    if address is None:
        _check_loopback(ray)
        options |= {"include_dashboard": False, "object_store_memory": OBJECTS_BYTES}
    what = "Ray does not start here" if address is None else f"no Ray cluster at {address}"
    if address is not None and (place := HOST_PORT.fullmatch(address)):
        try:
            socket.create_connection((place[1], int(place[2])), PATIENCE_S).close()
        except OSError as error:  # for which Ray takes minutes
            raise UsageError(f"{what}: {error}") from error
    for tries_left in reversed(range(TRIES if address is None else 1)):
        try:
            ray.init(address or "local", **options)  # RAY_ADDRESS is the default
            break
        except Exception as error:  # Ray raises no other class if it has only been late
            ray.shutdown()
            problem = f"{what}: {' '.join(str(error).split())}"
            if isinstance(error, ConnectionError | ValueError):
                raise UsageError(problem) from error
            if not tries_left:
                raise XsearchError(problem) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def check(address: str | None) -> None:
    """Raise UsageError if there is no cluster at `address`, or no Ray: before long work that is for it."""
    ray = module(address)
    if address is not None:
        with connected(address):
            return
    if not ray.is_initialized():
        _check_loopback(ray)


def cause_of(error: Any, what: str, kinds: tuple[type[Exception], ...] = (XsearchError,)) -> Exception:
    """Return what a RayError was raised for, if it is of these kinds; else an XsearchError about it."""
    cause = getattr(error, "cause", error)
    return cause if isinstance(cause, kinds) else XsearchError(f"{what} failed: {cause!r}")


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


@contextmanager
def remote(kinds: tuple[type[Exception], ...] = (XsearchError,)) -> Iterator[None]:
    """Do what is in the block in a process of Ray, on the GPUs that this was given: with none it sees all.

    What it raises, if not of these kinds, becomes an XsearchError that names the node: any other might not
    get through to the driver.
    """
    gpus = module("auto").get_runtime_context().get_accelerator_ids()["GPU"]
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
    try:
        yield
    except kinds:
        raise
    except Exception as error:
        raise XsearchError(f"{node()}: {type(error).__name__}: {error}") from error


def module(address: str | None) -> Any:
    """Import Ray for a cluster at `address`; see `connected`. Raises UsageError if it is not installed."""
    if address is None:
        os.environ.setdefault(*LOOPBACK)
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    return optional_module("ray", "cluster")


def _check_loopback(ray: Any) -> None:
    name, value = LOOPBACK
    address = ray.util.get_node_ip_address()
    if os.environ.get(name) == value and address not in ("127.0.0.1", "::1"):
        raise UsageError(
            f"Ray, which was imported before, would listen on {address}, open to other machines: "
            f"set {name}={value} before it is imported, or start a cluster and name its address"
        )
