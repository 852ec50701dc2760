"""The measurements on a GPU, on the CPU and as little as they work with."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu.agreement import agreement
from benchmarks.gpu.part import Part, write
from benchmarks.gpu.vectors import draw, nearest


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")  # of what torch.compile imports
@pytest.mark.parametrize("name", gpu.PARTS)
def test_every_part_measures_without_an_error(name):
    rows = gpu.measure(name, "cpu", tiny=True, limit_s=600)
    assert rows
    assert [row["error"] for row in rows if "error" in row] == []
    if name == "faiss":
        assert all(row["same"] == row["or as near"] == 1 for row in rows)
    if name == "ingest":
        assert rows[1]["items"] == rows[0]["items"] > 0
        assert rows[1]["difference of components"] < 1e-3
        assert rows[1]["difference of ranks, in cosines"] < 1e-3
    if name == "search":
        by_name = {row["what"]: row for row in rows}
        assert by_name["scan, float16"]["recall"] > 0.99
        assert min(by_name["tuned"][f"recall, {kind}"] for kind in ("same", "cross")) > 0.9
        assert all(row["difference"] < 1e-5 for what, row in by_name.items() if what.startswith("re-rank"))
    table = gpu.markdown({"requested": "cpu", "parts": {name: {"rows": rows}}})
    assert f"## {name}: cpu" in table


def test_what_fails_or_takes_too_long_is_recorded_and_the_next_part_runs(tmp_path, monkeypatch):
    path = tmp_path / "out.json"
    result = gpu.run(["cuvs", "search"], path, device="nowhere", tiny=True, limit_s=600)
    assert result == json.loads(path.read_text())
    assert ["nowhere" in part["problem"] for part in result["parts"].values()] == [True, True]
    monkeypatch.setattr(gpu, "GRACE_S", 0.01)
    result = gpu.run(["cuvs"], path, device="cpu", tiny=True, limit_s=0)
    assert result["parts"]["cuvs"]["problem"] == "not done after 0 s"
    assert "Not complete: not done after 0 s" in gpu.markdown(result)


def test_rows_are_in_the_file_as_soon_as_they_are_measured(tmp_path):
    path = tmp_path / "out.json"
    write({"parts": {"search": {"rows": []}}}, path)
    part = Part("search", "cpu", path=path)

    def fail():
        raise ValueError("no\nreason")

    assert part.measure(lambda: {"s": np.float32(0.5)}, what="one") == {"what": "one", "s": 0.5}
    part.measure(fail, what="two")
    part.measure(fail, what="three", least_s=1e9)
    assert json.loads(path.read_text())["parts"]["search"]["rows"] == [
        {"what": "one", "s": 0.5},
        {"what": "two", "error": "ValueError: no"},
        {"what": "three", "error": "no time left"},
    ]
    assert list(tmp_path.iterdir()) == [path]


def test_agreement_counts_what_is_as_near():
    right = np.array([[0.2, 0.4, 0.6]]), np.array([[1, 2, 3]])
    assert agreement(right, right) == {"same": 1, "or as near": 1, "difference of cosines": 0}
    tied = np.array([[0.2, 0.4, 0.601]]), np.array([[1, 2, 7]])
    found = agreement(tied, right)
    assert (found["same"], found["or as near"]) == (2 / 3, 1)
    assert found["difference of cosines"] == pytest.approx(0.0005)
    farther = np.array([[0.2, 0.4, 0.7]]), np.array([[1, 2, 7]])
    assert agreement(farther, right)["or as near"] == 2 / 3
    fewer = np.array([[0.2, 0.4, np.inf]]), np.array([[1, 2, -1]])
    assert agreement(fewer, right)["or as near"] == 2 / 3


def test_drawn_vectors_are_of_length_1_and_their_nearest_those_of_a_full_sort(monkeypatch):
    monkeypatch.setattr("benchmarks.gpu.vectors.BLOCK", 100)
    monkeypatch.setattr("benchmarks.gpu.vectors.SCORES", 1)
    table, queries = draw(730, 16, 5, torch.device("cpu"))
    assert (table.shape, table.dtype, queries.shape) == ((730, 16), torch.float16, (10, 16))
    np.testing.assert_allclose(table.float().norm(dim=1), 1, atol=1e-3)
    scores, rows = nearest(table, queries, 7)
    cosines = (queries @ table.float().T).numpy()
    np.testing.assert_array_equal(rows, np.argsort(-cosines, axis=1)[:, :7])
    np.testing.assert_allclose(scores, -np.sort(-cosines, axis=1)[:, :7], atol=1e-6)
