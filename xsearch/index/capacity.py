"""Machines, hours and money that a collection past one machine takes, from costs per item."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from xsearch.index.gpu import ID_BYTES
from xsearch.index.library import load_faiss
from xsearch.index.plan import Plan

__all__ = ["EMBED_MS", "Capacity", "Costs"]

# Amazon EC2, on demand, Linux, us-east-1: https://aws.amazon.com/ec2/pricing/on-demand; they change
PRICED = "on demand in us-east-1, which change"
DISK_USD = 0.08  # per GB and month: EBS gp3
REQUEST_USD = 0.0004 / 1000  # per GET of S3; transfers within a region are free
MONTH_H = 730

# `benchmarks.search`, 1,000,000 x 1,024: 110 bytes of memory for codes and ids of 72; 72 s on two cores
MEMORY_FACTOR, BUILD_CORE_S = 1.5, 144e-6
INDEX_SHARE = 0.75  # of a node's memory that shards may take
# Half the peak of an L4 in bf16, 121 TFLOP/s, over what a core does in fp32, 65 GFLOP/s (`benchmarks.towers`)
GPU_CORES = 930
# By model, of a core: `benchmarks.ingest`, 5,000 pictures, and `benchmarks.towers`, 8
EMBED_MS = {"bundled": 4.2, "imagebind": 5_200.0}


@dataclass(frozen=True, slots=True)
class Machine:
    """A kind of machine, at its list price."""

    name: str
    cores: int
    memory_gb: int
    gpus: int
    usd_per_h: float


MACHINES = (
    Machine("c7i.4xlarge", 16, 32, 0, 0.714),
    Machine("r7i.4xlarge", 16, 128, 0, 1.0584),
    Machine("g6.4xlarge, L4", 16, 64, 1, 1.3232),
)


@dataclass(frozen=True, slots=True)
class Costs:
    """What an item costs; by default, a picture of 1024 x 768 in `benchmarks.ingest` and `corpus`."""

    embed_ms: float = EMBED_MS["bundled"]  # of a core
    decode_ms: float = 10.4  # of a core
    media_bytes: float = 200e3
    row_bytes: float = 116.0  # of metadata, compressed


@dataclass(frozen=True, slots=True)
class Capacity:
    """What `plan.n` items take if they are to be ingested within so many hours."""

    plan: Plan
    costs: Costs = Costs()
    hours: float = 24.0

    HEADER: ClassVar = (
        "machine",
        "cores",
        "memory, GB",
        "USD/h",
        "nodes to ingest",
        "hours",
        "USD",
        "nodes to serve",
        "memory used, GB/node",
        "disk used, GB/node",
        "USD/month",
    )

    def notes(self) -> Iterator[str]:
        """Yield sentences about what does not depend on the machines."""
        n, costs = self.plan.n, self.costs
        vectors, rows, codes = (n * each / 1e9 for each in self._item_bytes)
        build_h = n * BUILD_CORE_S / 3600
        yield (
            f"Disk: {self._disk_gb:,.0f} GB, of them {vectors:,.0f} vectors, {rows:,.0f} metadata and "
            f"{codes:,.0f} index. Memory to serve: {self._memory_gb:,.0f} GB."
        )
        written = n * sum(self._item_bytes[:2])
        yield (
            f"Network: {n * costs.media_bytes / 1e12:,.1f} TB of media are read and {written / 1e12:,.2f} TB "
            f"written; if media are in S3, requests cost {n * REQUEST_USD:,.0f} USD."
        )
        yield (
            f"An item: {costs.decode_ms:g} ms of a core to decode, {costs.embed_ms:g} ms to embed, or "
            f"{costs.embed_ms / GPU_CORES:.2g} ms of a GPU, computed from its peak, not measured. The index: "
            f"{build_h:,.0f} core-hours. Prices: {PRICED}; disk {DISK_USD} USD per GB and month."
        )

    def rows(self) -> list[Sequence[str]]:
        """Return a row with the columns of HEADER for each kind of machine."""
        return [self._row(machine) for machine in MACHINES]

    def _row(self, machine: Machine) -> Sequence[str]:
        decode_s, embed_s = self.costs.decode_ms / 1000, self.costs.embed_ms / 1000
        if machine.gpus:  # it embeds while the cores decode
            item_s = max(decode_s / machine.cores, embed_s / (machine.gpus * GPU_CORES))
        else:
            item_s = (decode_s + embed_s) / machine.cores
        node_h = self.plan.n * item_s / 3600
        nodes = max(math.ceil(node_h / self.hours), 1)
        servers = math.ceil(self._memory_gb / (INDEX_SHARE * machine.memory_gb))
        month_usd = servers * machine.usd_per_h * MONTH_H + self._disk_gb * DISK_USD
        return (
            machine.name,
            str(machine.cores),
            str(machine.memory_gb),
            f"{machine.usd_per_h:g}",
            f"{nodes:,}",
            f"{node_h / nodes:,.1f}",
            f"{node_h * machine.usd_per_h:,.0f}",
            f"{servers:,}",
            f"{self._memory_gb / servers:,.0f}",
            f"{self._disk_gb / servers:,.0f}",
            f"{month_usd:,.0f}",
        )

    @property
    def _item_bytes(self) -> tuple[float, float, float]:
        """The bytes of an item's vector and id, of its metadata, and of its code and id."""
        return 2 * self.plan.dim + ID_BYTES, self.costs.row_bytes, _code_bytes(self.plan) + ID_BYTES

    @property
    def _disk_gb(self) -> float:
        return self.plan.n * sum(self._item_bytes) / 1e9

    @property
    def _memory_gb(self) -> float:
        return self.plan.n * self._item_bytes[2] * MEMORY_FACTOR / 1e9


def _code_bytes(plan: Plan) -> int:
    """Return the bytes of a code; none without an index, which scans the vectors."""
    if plan.recipe == "Flat":
        return 0
    faiss = load_faiss()
    index = faiss.index_factory(plan.dim, plan.recipe, faiss.METRIC_L2)
    ivf = faiss.try_extract_index_ivf(index)  # owned by `index`
    assert ivf is not None, f"{plan.recipe} has inverted lists, as every plan"
    return int(ivf.code_size)
