"""Facets and maps."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from starlette.testclient import TestClient

from tests.serve.conftest import Serve, open_fake
from xsearch.collection import Collection
from xsearch.serve.facets import between, default_columns, ranges
from xsearch.serve.maps import Maps
from xsearch.store import Store
from xsearch.types import Fingerprint


def test_the_filter_of_a_value_selects_its_count(client: TestClient, collection: Collection) -> None:
    columns = ["kind", "month", "folder", "camera", "tags", "taken_at", "channels", "mime"]
    link = "/v1/facets?" + "&".join(f"column={column}" for column in columns)
    facets = client.get(link).json()["facets"]
    assert [facet["column"] for facet in facets] == columns
    for facet in facets:
        assert facet["values"]
        for value in facet["values"]:
            assert len(collection.items(where=value["where"])) == value["count"], value
    assert [value["value"] for value in facets[1]["values"]] == ["2024-03", "2024-02", "2024-01"]
    assert {value["value"] for value in facets[4]["values"]} == {"a", "1", "2", "3"}
    filtered = client.get("/v1/facets?column=camera&modality=image&where=camera = 'Box 1'").json()
    assert (filtered["count"], len(filtered["facets"][0]["values"])) == (2, 1)
    for column in ("nothing", "path", "sha256"):
        assert client.get(f"/v1/facets?column={column}").json()["type"] == "urn:xsearch:usage"


def test_columns_of_few_values_are_facets_and_many_numbers_a_range(tmp_path: Path) -> None:
    items = pa.table(
        {
            "path": [f"/photos/{at}.jpg" for at in range(60)],
            "modality": ["image"] * 60,
            "rating": [at % 5 for at in range(60)],
            "year": [2000 + at % 20 for at in range(60)],
            "width_mm": [at / 4 for at in range(60)],
            "camera": [f"Box {at % 3}" for at in range(60)],
            "title": [f"Walk {at}" for at in range(60)],
            "digest": [f"{at % 4:040x}" for at in range(60)],
            "original": [f"raw/{at % 4}.dng" for at in range(60)],
            "orientation": [1] * 60,
        }
    )
    store = Store.create(tmp_path / "rated", Fingerprint("tiny", "d1", "p1", 8))
    with store.writer() as writer:
        writer.add(items, np.eye(8, dtype=np.float32)[np.arange(60) % 8])
        writer.commit()
    snapshot = store.snapshot()
    assert default_columns(snapshot) == ["kind", "month", "folder", "camera", "rating", "year"]
    assert ranges(snapshot) == {"width_mm": (0.0, 14.75)}
    for written, count in (("2..5", 13), ("..5", 21), ("14.5..", 2), ("2..1", 0)):
        where = between(snapshot, "width_mm", written)
        assert len(snapshot.select(where)) == count
    for column, written in (("width_mm", "5"), ("width_mm", "a..b"), ("width_mm", ".."), ("camera", "1..2")):
        assert between(snapshot, column, written) is None
    assert between(snapshot, "width_mm", "..inf") is None


def test_info_counts_what_has_few_values(client: TestClient, collection: Collection) -> None:
    info = client.get("/v1/info").json()
    assert {"kind", "month", "folder", "camera"} <= {facet["column"] for facet in info["facets"]}
    assert (info["items"], info["kinds"]["image"]) == (len(collection), 3)
    assert info["writer"] is None


def test_the_map_shows_what_is_alike(client: TestClient, collection: Collection) -> None:
    """Principal components of the vectors without the means of their kinds, up to scale and sign."""
    answer = client.get("/v1/map").json()
    snapshot = collection.snapshot()
    assert answer["id"] == snapshot.ids.tolist()
    vectors, kinds = snapshot.vectors(snapshot.ids), snapshot.kinds
    for kind in np.unique(kinds):
        vectors[kinds == kind] -= vectors[kinds == kind].mean(axis=0)
    _, _, axes = np.linalg.svd(vectors, full_matrices=False)
    expected = vectors @ axes[:2].T
    points = np.stack([answer["x"], answer["y"]], axis=1)
    assert np.abs(points).max() == pytest.approx(1, abs=0.01)

    def distances(some: np.ndarray) -> np.ndarray:
        apart = np.linalg.norm(some[:, None] - some[None], axis=-1)
        return apart / apart.max()

    np.testing.assert_allclose(distances(points), distances(expected), atol=0.01)
    images = client.get("/v1/map?modality=image&limit=2").json()
    assert (len(images["id"]), images["count"]) == (2, 3)


def test_an_item_as_a_query_is_where_it_is(client: TestClient) -> None:
    points = client.get("/v1/map").json()
    for at in (0, 3):
        body = {"parts": [{"item": points["id"][at]}]}
        position = client.post("/v1/map/position", json=body).json()
        assert position["x"] == pytest.approx(points["x"][at], abs=1e-3)
        assert position["y"] == pytest.approx(points["y"][at], abs=1e-3)


def test_a_better_map_is_computed_once_and_kept(serve: Serve, stored: Path, tmp_path: Path) -> None:
    client, calls = serve(open_fake(stored)), []

    def layout(vectors: np.ndarray) -> np.ndarray:
        calls.append(len(vectors))
        return np.stack([np.arange(len(vectors)), np.zeros(len(vectors))], axis=1)

    for _ in range(2):  # the second finds the file
        client.app.state.server.maps = Maps(tmp_path / "maps", {"umap": layout})  # type: ignore[attr-defined]
        first = client.get("/v1/map").json()
        assert (first["method"], first["pending"]) == ("pca", "umap")
        until = time.monotonic() + 30
        while (answer := client.get("/v1/map").json())["method"] == "pca" and time.monotonic() < until:
            time.sleep(0.02)
        assert (answer["method"], answer["pending"]) == ("umap", None)
        assert answer["x"] == sorted(answer["x"])
        assert client.get("/v1/map?method=pca").json()["x"] == first["x"]
        client.app.state.server.maps.close()  # type: ignore[attr-defined]
    assert calls == [11]
    position = client.post("/v1/map/position", json={"parts": [{"item": 0}]})
    assert position.status_code == 200


def test_a_better_map_that_fails_is_not_waited_for(serve: Serve, stored: Path, tmp_path: Path) -> None:
    def layout(vectors: np.ndarray) -> np.ndarray:
        raise ValueError("of a package")

    client = serve(open_fake(stored))
    client.app.state.server.maps = maps = Maps(tmp_path / "maps", {"umap": layout})  # type: ignore[attr-defined]
    assert client.get("/v1/map").json()["pending"] == "umap"
    maps._pool.shutdown()
    answer = client.get("/v1/map").json()
    assert (answer["method"], answer["pending"]) == ("pca", None)
