"""Searches over HTTP give what the same searches give in process."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

import xsearch
from tests.serve.conftest import Serve, open_fake
from xsearch.collection import Collection
from xsearch.query import Query

FIGURES = ("rank", "score", "cosine", "balanced", "expected", "bm25", "id", "path", "modality", "text")


def search(client: TestClient, *parts: dict[str, Any], **options: Any) -> dict[str, Any]:
    response = client.post("/v1/search", json={"parts": parts, **options})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def figures(hits: Any) -> list[dict[str, Any]]:
    rows = [hit if isinstance(hit, dict) else asdict(hit) for hit in hits]
    return [{name: row[name] for name in FIGURES} for row in rows]


def picture(colour: tuple[int, int, int], size: tuple[int, int] = (20, 10), format: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, format)
    return file.getvalue()


OPTIONS: list[dict[str, Any]] = [
    {},
    {"modality": ["image", "audio"], "rank": "cosine"},
    {"where": "camera = 'Box 1'", "unique": True},
    {"where": "lower(path) LIKE '%blue%'", "top": 1},
    {"max_expected": 0.5, "match": "meaning"},
    {"match": "words"},
    {"sort": "date", "top": 20},
    {"min_cosine": 0.5},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_text_gives_the_hits_of_the_same_search_in_process(
    client: TestClient, collection: Collection, options: dict[str, Any]
) -> None:
    answer = search(client, {"text": "red"}, **options)
    hits = collection.search("red", **options)
    assert figures(answer["hits"]) == figures(hits)
    expected = (hits.found, hits.remark, hits.nearest_expected, hits.kinds)
    assert tuple(answer[name] for name in ("found", "remark", "nearest_expected", "kinds")) == expected
    assert answer["generation"] == collection.snapshot().manifest.generation


def test_a_sum_of_all_sources(client: TestClient, collection: Collection, find: Callable[..., int]) -> None:
    """A text, an item, a vector and a file; and how it was understood."""
    tone, vector = find("tone.wav"), np.eye(16, dtype=np.float32)[1]
    sent = client.post("/v1/uploads?name=my.png", content=picture((0, 0, 255))).json()
    answer = search(
        client,
        {"text": "red"},
        {"item": tone, "weight": -0.5},
        {"kind": "image", "vector": vector.tolist()},
        {"upload": sent["id"], "weight": 2},
    )
    query: Query = xsearch.text("red") - 0.5 * xsearch.item(tone) + xsearch.vector(vector, "image")
    hits = collection.search(query + 2 * xsearch.image(picture((0, 0, 255))))
    assert [hit["id"] for hit in answer["hits"]] == [hit.id for hit in hits]
    np.testing.assert_allclose([hit["score"] for hit in answer["hits"]], [h.score for h in hits], rtol=1e-5)
    assert answer["query"]["name"] == "“red” − 0.5 × audio tone.wav + image from memory + 2 × image my.png"
    parts = answer["query"]["parts"]
    assert [part["label"] for part in parts] == ["red", "tone.wav", "vector", "my.png"]
    assert [part["kind"] for part in parts] == ["text", "audio", "image", "image"]
    assert hits.query is not None
    np.testing.assert_allclose([part["cosine"] for part in parts], hits.query.cosines, atol=1e-6)
    assert answer["query"]["norm"] == pytest.approx(hits.query.norm)


def test_pages_follow_each_other(client: TestClient, collection: Collection) -> None:
    ids = [hit.id for hit in collection.search("red", top=11)]
    pages = [search(client, {"text": "red"}, top=4, offset=offset) for offset in (0, 4, 8, 12)]
    assert [hit["id"] for page in pages for hit in page["hits"]] == ids
    assert [page["more"] for page in pages] == [True, True, False, False]


def test_the_best_are_paged_by_date(client: TestClient, collection: Collection) -> None:
    ids = [hit.id for hit in collection.search("red", top=8, sort="-date")]
    pages = [
        search(client, {"text": "red"}, top=4, offset=offset, sort="-date", among=8) for offset in (0, 4)
    ]
    assert [hit["id"] for page in pages for hit in page["hits"]] == ids


def test_json_lines_have_the_same(client: TestClient) -> None:
    whole = search(client, {"text": "red"})
    body = {"parts": [{"text": "red"}]}
    response = client.post("/v1/search", json=body, headers={"Accept": "application/x-ndjson"})
    assert response.headers["content-type"] == "application/x-ndjson"
    head, *hits = map(json.loads, response.text.splitlines())
    assert hits == whole["hits"]
    assert head | {"took_ms": 0} == {k: v for k, v in whole.items() if k != "hits"} | {"took_ms": 0}


def test_a_form_brings_files(client: TestClient, collection: Collection) -> None:
    """Files that the query names by field, and others, which are added."""
    hits = collection.search(xsearch.image(picture((255, 0, 0))) - 0.5 * xsearch.image(picture((0, 255, 0))))
    query = {"parts": [{"upload": "a", "weight": 1}, {"upload": "b", "weight": -0.5}]}
    files = {"a": ("a.png", picture((255, 0, 0))), "b": ("b.png", picture((0, 255, 0)))}
    answer = client.post("/v1/search", files=files, data={"query": json.dumps(query)}).json()
    assert [hit["id"] for hit in answer["hits"]] == [hit.id for hit in hits]
    assert answer["query"]["name"] == "image a.png − 0.5 × image b.png"
    alone = client.post("/v1/search", files={"file": ("a.png", picture((255, 0, 0)))}).json()
    assert alone["query"]["name"] == "image a.png"


def test_an_uploaded_copy_is_known(client: TestClient, collection: Collection, stored: Path) -> None:
    """Its stored vector is used, and its own items can be left out."""
    content = (stored.parent / "media" / "red.png").read_bytes()
    sent = client.post("/v1/uploads?name=other.png", content=content).json()
    hits = collection.search(xsearch.image(content), exclude_self=True)
    answer = search(client, {"upload": sent["id"]}, exclude_self=True)
    assert figures(answer["hits"]) == figures(hits)
    assert "red.png" not in {hit["name"] for hit in answer["hits"]}


def test_an_upload_is_decoded_once(client: TestClient) -> None:
    search(client, {"text": "red"})
    sent = client.post("/v1/uploads?name=a.png", content=picture((1, 2, 3))).json()
    (model,) = client.app.state.server.shelf.models  # type: ignore[attr-defined]
    before = model.embedded
    scores = [search(client, {"upload": sent["id"], "weight": w})["hits"][0]["cosine"] for w in (1, 0.5, 0.2)]
    assert model.embedded == before + 1
    assert scores == [scores[0]] * 3


def test_texts_are_embedded_once(client: TestClient) -> None:
    search(client, {"text": "red"})
    (model,) = client.app.state.server.shelf.models  # type: ignore[attr-defined]
    before = model.embedded
    for rank in ("balanced", "cosine", "balanced"):
        search(client, {"text": "a dark green"}, rank=rank)
    assert model.embedded == before + 1


def test_similar_leaves_out_the_item(
    client: TestClient, collection: Collection, find: Callable[..., int]
) -> None:
    id = find("tone.wav")
    hits = collection.search(xsearch.item(id), exclude_self=True, modality="image", top=3)
    answer = client.get(f"/v1/items/{id}/similar?modality=image&top=3").json()
    assert figures(answer["hits"]) == figures(hits)
    assert client.get(f"/v1/items/{id}/similar?exclude_self=false").json()["hits"][0]["id"] == id


def test_vectors_of_queries(client: TestClient, collection: Collection) -> None:
    body = {"queries": [[{"text": "red"}], [{"text": "red"}, {"text": "blue", "weight": -1}]]}
    answer = client.post("/v1/embed", json=body).json()
    expected = collection.embed(["red", xsearch.text("red") - xsearch.text("blue")])
    np.testing.assert_allclose(answer["vectors"], expected, atol=1e-6)
    assert (answer["model"], answer["dim"]) == ("fake", 16)


def test_collections_are_addressed_by_name(serve: Serve, stored: Path, tmp_path: Path) -> None:
    other = Collection.create(tmp_path / "photos", backend=open_fake(stored).backend)  # of the same name
    (tmp_path / "one.txt").write_text("red dark")
    other.ingest(tmp_path / "one.txt")
    client = serve(open_fake(stored), other)
    body = {"parts": [{"text": "red"}]}
    (hit,) = client.post("/v1/search?collection=photos-2", json=body).json()["hits"]
    assert (hit["text"], hit["media"]) == ("red dark", f"/v1/items/{hit['id']}/media?collection=photos-2")
    assert client.get(hit["media"]).text == "red dark"
    assert len(client.post("/v1/search", json=body).json()["hits"]) == 10
    names = [each["name"] for each in client.get("/v1/info").json()["collections"]]
    assert names == ["photos", "photos-2"]
    assert client.get("/v1/info?collection=none").json()["type"] == "urn:xsearch:no-collection"


REFUSED: list[tuple[dict[str, Any], int, str]] = [
    ({"parts": []}, 422, "invalid-request"),
    ({"parts": [{"text": "a"}], "what": 1}, 422, "invalid-request"),
    ({"parts": [{"text": "a", "item": 1}]}, 422, "invalid-request"),
    ({"parts": [{"text": "a"}], "top": 0}, 422, "invalid-request"),
    ({"parts": [{"vector": [1.0]}]}, 422, "invalid-request"),
    ({"parts": [{"upload": "../../etc/passwd"}]}, 422, "invalid-request"),
    ({"parts": [{"upload": "0" * 32}]}, 404, "no-upload"),
    ({"parts": [{"item": 10**6}]}, 404, "no-item"),
    ({"parts": [{"kind": "image", "vector": [1.0, 2.0]}]}, 422, "usage"),
    ({"parts": [{"kind": "image", "vector": [0.0] * 16}]}, 422, "empty-query"),
    ({"parts": [{"text": "red"}, {"text": "red", "weight": -1}]}, 422, "empty-query"),
    ({"parts": [{"text": "  "}]}, 422, "empty-query"),
    ({"parts": [{"text": "http://127.0.0.1/a.png"}]}, 422, "url"),
    ({"parts": [{"text": "S3://bucket/a.png"}]}, 422, "url"),
    ({"parts": [{"item": 1}], "match": "words"}, 422, "usage"),
    ({"parts": [{"text": "a"}], "where": "1); DROP TABLE items; --"}, 422, "bad-filter"),
    (
        {"parts": [{"text": "a"}], "where": "path = (SELECT content FROM read_text('/etc/passwd'))"},
        422,
        "bad-filter",
    ),
    ({"parts": [{"text": "a"}], "where": "nonsense = 1"}, 422, "bad-filter"),
    ({"parts": [{"text": "a"}], "where": "(" * 300}, 422, "bad-filter"),
]


@pytest.mark.parametrize(("body", "status", "type"), REFUSED, ids=lambda value: str(value)[:60])
def test_what_is_wrong_is_said(client: TestClient, body: dict[str, Any], status: int, type: str) -> None:
    response = client.post("/v1/search", json=body)
    problem = response.json()
    assert (response.status_code, problem["type"]) == (status, f"urn:xsearch:{type}"), problem
    assert response.headers["content-type"] == "application/problem+json"
    assert problem["status"] == status
    assert problem["title"]
    assert len(problem["detail"]) > 5


@pytest.mark.parametrize("body", [b"{", b"[" * 100_000, b'{"parts":[{"text":"\\ud800"}]}', b"\xff", b""])
def test_what_is_no_json_is_refused(client: TestClient, body: bytes) -> None:
    assert client.post("/v1/search", content=body).json()["type"] == "urn:xsearch:invalid-request"


def test_one_of_a_batch_fails_alone(client: TestClient) -> None:
    """Requests that share a batch are as independent as those that do not."""
    search = client.app.state.server.search  # type: ignore[attr-defined]
    held = client.app.state.server.shelf.first  # type: ignore[attr-defined]
    from xsearch.serve.contract import SearchRequest
    from xsearch.serve.search import _Asked, _options, _part

    asked = []
    for parts in ([{"text": "red"}], [{"text": "red"}, {"text": "red", "weight": -1}], [{"item": 10**6}]):
        request = SearchRequest(parts=parts)
        query = Query(tuple(_part(part) for part in request.parts))
        asked.append(_Asked(request, query, [None] * len(parts), [None] * len(parts), 0.0, False))
    first, second, third = search._run((held, _options(asked[0].request)), asked)
    assert json.loads(first)["hits"]
    assert (type(second).__name__, type(third).__name__) == ("EmptyQuery", "Refusal")


def test_slow_filters_delay_nothing_else(client: TestClient) -> None:
    server, go_on = client.app.state.server, Event()  # type: ignore[attr-defined]
    for _ in range(100):
        server.search.filters.submit(go_on.wait, 30)
    try:
        assert search(client, {"text": "red"})["hits"]
        answers = {"queries": [[{"text": "red"}]], "options": {}}
        for response in (
            client.post("/v1/answers", json=answers),
            client.get("/v1/info"),
            client.get("/v1/items"),
        ):
            assert response.status_code == 200
        assert not go_on.is_set()
    finally:
        go_on.set()
