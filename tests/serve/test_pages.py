"""What the server renders of an address, without a browser."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from starlette.testclient import TestClient

from tests.fakes import FakeBackend
from tests.serve.conftest import Serve
from xsearch.collection import Collection
from xsearch.serve.contract import Hit
from xsearch.serve.folds import folded
from xsearch.serve.results import _remark
from xsearch.types import Modality


def names(html: str) -> list[str]:
    return re.findall(r'class="tile [^>]*data-name="([^"]*)"', html)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/?q=red",
        "/?q=red&view=kinds",
        "/?view=kinds",
        "/?view=map&q=red",
        "/?item=1",
        "/?item=99999",
        "/facets",
        "/more?q=red&offset=2",
        "/item/1",
        "/item/99999",
        "/near/1",
        "/?q=red&sort=date",
        "/?sort=-date&kind=image",
        "/?q=red&beyond=hide&cut=all:0.001",
        "/?q=red&fold=no",
        "/?f=camera:Box+1",
        "/?f=camera:none",
        "/?p=item:1",
    ],
)
def test_every_page_is_rendered_and_has_nothing_inline(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", answer.text)
    assert "'unsafe" not in answer.headers["content-security-policy"]


def test_the_collections_are_listed_with_their_sizes(
    serve: Serve, collection: Collection, tmp_path: Path
) -> None:
    html = serve(collection, Collection.create(tmp_path / "other", backend=FakeBackend())).get("/").text
    listed = re.findall(r"<a [^>]*>(\w+) <small>([^<]*)</small></a>", html)
    assert listed == [("photos", str(len(collection))), ("other", "0")]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/?q=red&where=nonsense", 422),
        ("/?p=item:99999", 404),
        (f"/?p=upload:{'0' * 32}", 404),
        ("/?collection=other", 404),
        ("/?q=http://example.com/a.png", 422),
    ],
)
def test_a_problem_has_its_status_and_says_what_to_do(client: TestClient, path: str, status: int) -> None:
    answer = client.get(path)
    assert answer.status_code == status
    assert 'role="alert"' in answer.text
    assert 'class="button"' in answer.text


def test_the_answer_is_that_of_the_search(client: TestClient) -> None:
    request = {"parts": [{"text": "red"}], "top": 100, "exclude_self": True, "unique": True}
    hits = client.post("/v1/search", json=request).json()["hits"]
    assert names(client.get("/?q=red").text) == [hit["name"] for hit in hits]


def test_facets_narrow_what_is_found_and_values_of_one_column_widen_it(client: TestClient) -> None:
    one, other = (set(names(client.get(f"/?f=camera:Box+{at}").text)) for at in (0, 1))
    assert one
    assert other
    assert not one & other
    assert set(names(client.get("/?f=camera:Box+0&f=camera:Box+1").text)) == one | other
    assert not names(client.get("/?f=camera:Box+0&f=tags:1").text)
    html = client.get("/facets?f=camera:Box+0").text
    assert "Box 0" in html
    assert "Box 1" in html  # of its own column all values stay


def test_dates_order_the_items(client: TestClient) -> None:
    newest = names(client.get("/?sort=date&kind=image").text)
    assert newest == ["blue.png", "green.png", "red.png"]
    assert names(client.get("/?sort=-date&kind=image").text) == newest[::-1]


def test_tiles_follow_without_gap_or_repetition(
    serve: Serve, collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xsearch.serve.results.PAGE", 3)
    client = serve(collection)
    for query in ("", "q=red&fold=no", "q=red"):
        html, seen = client.get(f"/?{query}").text, list[str]()
        while True:
            seen += re.findall(r'id="tile-(\d+)"', html)
            following = re.search(r'hx-get="(/more[^"]*)"', html)
            if following is None:
                break
            html = client.get(following[1].replace("&amp;", "&")).text
        assert len(seen) == len(set(seen))
        assert len(seen) > 6
        if query != "q=red":
            assert len(seen) == len(collection)


@pytest.mark.parametrize(
    ("cookies", "accepts", "language"),
    [({}, "ja,en;q=0.5", "ja"), ({"language": "en"}, "ja", "en"), ({"language": "xx"}, "fr", "en")],
)
def test_the_language_is_what_the_visitor_reads(
    client: TestClient, cookies: dict[str, str], accepts: str, language: str
) -> None:
    client.cookies.update(cookies)
    answer = client.get("/", headers={"accept-language": accepts})
    assert f'<html lang="{language}"' in answer.text
    assert ("検索" in answer.text) == (language == "ja")


def test_a_theme_is_kept_without_a_flash(client: TestClient) -> None:
    assert "data-theme" not in client.get("/").text
    client.cookies.set("theme", "dark")
    assert 'data-theme="dark"' in client.get("/").text
    client.cookies.set("theme", '"><script>')
    assert "data-theme" not in client.get("/").text


def test_an_empty_collection_says_how_to_fill_it(serve: Serve, tmp_path: object) -> None:
    client = serve(Collection.create(f"{tmp_path}/empty", backend=FakeBackend()))
    assert "xsearch ingest" in client.get("/").text


def test_folds_count_what_is_left_out(collection: Collection, find: Callable[..., int]) -> None:
    snapshot = collection.view().snapshot
    hits = [
        Hit(
            id=int(id),
            modality=Modality.IMAGE,
            path="",
            name="",
            extra={"sha256": digest},
            is_imported=False,
            media=None,
            media_type=None,
            preview=None,
            rank=rank,
            score=0,
            by_chance=False,
        )
        for rank, (id, digest) in enumerate(
            zip(np.repeat([find("red.png"), find("green.png")], 2), "abcc", strict=True)
        )
    ]
    assert [(fold.hit.rank, fold.count) for fold in folded(hits, snapshot)] == [(0, 1), (2, 1)]


@pytest.mark.parametrize(
    ("found", "times", "by_chance", "expected"),
    [
        (True, 0.2, [False], None),
        (False, None, [], None),
        (False, 5.0, [True, True], "none.like"),
        (False, 5.0, [True, False], "none.perhaps"),  # near for its kind, but there are seven
    ],
)
def test_nothing_like_it_is_said_of_tiles_that_are_dimmed(
    found: bool, times: float | None, by_chance: list[bool], expected: str | None
) -> None:
    hits = [Mock(by_chance=each) for each in by_chance]
    answer = Mock(found=found, nearest_expected=times, hits=hits, missing_shards=[])
    remark = _remark(Mock(t=lambda name, **values: name), answer)
    assert (remark and remark[0]) == expected
