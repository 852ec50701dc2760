"""A stored calibration may come from anybody: it is valid, of an earlier release, or measured again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from xsearch.derive import derive
from xsearch.integrity import verify
from xsearch.query import Calibration, View, calibrate
from xsearch.store import Store
from xsearch.types import Fingerprint

GOOD = [0.1, 0.2, 0.2, 9]
LIES = [
    {},
    {"pairs": 3, "next_id": 1},
    {"pairs": {}, "next_id": "1"},
    {"pairs": {}, "next_id": -1},
    {"pairs": {}, "next_id": True},
    {"pairs": {}, "next_id": 10**30},
    *({"pairs": {name: GOOD}, "next_id": 1} for name in ("text", "text,dog", "text,text,text", "")),
    *(
        {"pairs": {"text,text": figures}, "next_id": 1}
        for figures in (
            *(None, 3, ["a"] * 4, [None] * 4, [True] * 4, [*GOOD, 5], {"0": 1}),
            *([float("nan"), 1, 1, 9], [float("inf"), 1, 1, 9], [0.1, -1, 1, 9], [0.1, 1, 1, -9]),
            *([0.1, 1, 1, 1.5], [1e300, 1, 1, 9], [0.1, 1, 1, 10**30]),
        )
    ),
]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.create(tmp_path / "c", Fingerprint("fake", "0", "1", 8))
    rows = np.random.default_rng(0).standard_normal((20, 8)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    with store.writer() as writer:
        writer.add(pa.table({"path": [f"/{i}" for i in range(20)], "modality": ["text"] * 20}), rows)
        writer.commit()
        derive(writer)
    return store


@pytest.mark.parametrize("lie", LIES, ids=str)
def test_a_lie_is_found_and_measured_again(lie, store):
    truth = calibrate(store.snapshot())
    with store.writer() as writer:
        writer.set_calibration(lie)
        writer.commit()
    assert Calibration.stored(store.snapshot()).pairs == {}
    assert View(store.snapshot()).scaling is not None
    assert [finding.path for finding in verify(store.path)] == ["manifest.json"]
    with store.writer() as writer:
        derive(writer)
    assert verify(store.path) == []
    assert Calibration.stored(store.snapshot()) == truth
