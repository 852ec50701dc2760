"""What large collections take, against arithmetic by hand."""

from __future__ import annotations

import pytest

from xsearch.index import Capacity, Costs, make_plan


def test_machines_for_a_billion_items() -> None:
    plan = make_plan(10**9, 256, device="cpu", recipe="PCAR128,IVF65536,PQ64x4fs")
    costs = Costs(embed_ms=6, decode_ms=10, media_bytes=1e6, row_bytes=80)
    disk, network, item = Capacity(plan, costs, hours=10).notes()
    # 512 + 8 bytes of a vector, 80 of metadata, 32 + 8 of a code, of which 1.5 times as much is in memory
    assert disk.startswith("Disk: 640 GB, of them 520 vectors, 80 metadata and 40 index.")
    assert "60 GB" in disk
    assert "1,000.0 TB" in network
    assert "0.60 TB" in network
    assert "400 USD" in network
    assert "10 ms" in item
    cpu, memory, gpu = (
        dict(zip(Capacity.HEADER, row, strict=True)) for row in Capacity(plan, costs, 10).rows()
    )
    # 16 ms of 16 cores: 1 ms of a node, so 277.8 hours of one
    assert (cpu["nodes to ingest"], cpu["hours"], cpu["USD"]) == ("28", "9.9", "198")
    assert (cpu["nodes to serve"], cpu["memory used, GB/node"], cpu["disk used, GB/node"]) == (
        "3",
        "20",
        "213",
    )
    assert cpu["USD/month"] == f"{3 * 0.714 * 730 + 640 * 0.08:,.0f}"
    assert memory["nodes to serve"] == "1"
    # the cores of a GPU machine decode only: 10 ms of 16
    assert gpu["nodes to ingest"] == "18"


@pytest.mark.parametrize(("embed_ms", "nodes"), [(5_200, "65"), (1, "8")])
def test_a_gpu_is_as_slow_as_its_slower_part(embed_ms: float, nodes: str) -> None:
    plan = make_plan(10**9, 1024, device="cpu", recipe="Flat")
    gpu = dict(zip(Capacity.HEADER, Capacity(plan, Costs(embed_ms=embed_ms)).rows()[2], strict=True))
    assert gpu["nodes to ingest"] == nodes  # 5,200 / 930 = 5.6 ms, or 10.4 / 16 = 0.65 ms, in 24 hours


def test_what_costs_nothing_takes_a_machine() -> None:
    plan = make_plan(10**9, 1024, device="cpu", recipe="Flat")
    for row in Capacity(plan, Costs(embed_ms=0, decode_ms=0)).rows():
        named = dict(zip(Capacity.HEADER, row, strict=True))
        assert (named["nodes to ingest"], named["hours"], named["USD"]) == ("1", "0.0", "0")
