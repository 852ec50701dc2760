"""Files of clients: what is kept, for how long, and what is refused."""

from __future__ import annotations

import time
from io import BytesIO
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
import soundfile
from starlette.testclient import TestClient

from tests.odd_files import write_odd_files
from tests.serve.conftest import Serve
from tests.serve.test_search import picture
from xsearch.collection import Collection


def folder_of(client: TestClient) -> Path:
    folder: Path = client.app.state.server.uploads._folder  # type: ignore[attr-defined]
    return folder


def test_an_upload_is_kept_and_deleted(client: TestClient) -> None:
    content = picture((9, 9, 9))
    response = client.post("/v1/uploads?name=C:%5Cmy%20pictures%5Ca%1b%5b31m.png", content=content)
    sent = response.json()
    assert response.status_code == 201
    assert (sent["kind"], sent["mime"], sent["bytes"]) == ("image", "image/png", len(content))
    assert sent["name"] == r"a\x1b[31m.png"
    link = f"/v1/uploads/{sent['id']}"
    assert client.get(link).json()["name"] == sent["name"]
    assert client.get(f"{link}/media").content == content
    assert client.get(sent["preview"]).headers["content-type"] == "image/jpeg"
    again = client.post("/v1/uploads", files={"file": ("b.png", content)}).json()
    assert (again["id"], again["name"]) == (sent["id"], "b.png")
    assert len(list(folder_of(client).iterdir())) == 1
    assert client.delete(link).status_code == 204
    assert client.get(link).json()["type"] == "urn:xsearch:no-upload"
    assert not list(folder_of(client).iterdir())


def test_the_name_says_what_a_picture_is(client: TestClient, stored: Path) -> None:
    content = (stored.parent / "media" / "room_depth.png").read_bytes()
    depth = client.post("/v1/uploads?name=my_depth.png", content=content).json()
    assert depth["kind"] == "depth"
    chosen = client.post("/v1/uploads?name=x.png&kind=depth", content=content).json()
    assert chosen["kind"] == "depth"


def test_bounds(serve: Serve, collection: Collection) -> None:
    """Of one file, of their count, of all together, and of their age."""
    size = len(picture((0, 0, 0)))
    client = serve(collection, upload_bytes=1000, uploads=3, uploads_bytes=10 * size)
    for chunks in ([b"x" * 2000], [b"x" * 600] * 3):  # with a stated length, and without
        response = client.post("/v1/uploads", content=iter(chunks) if len(chunks) > 1 else chunks[0])
        assert (response.status_code, response.json()["type"]) == (413, "urn:xsearch:too-large")
    assert not list(folder_of(client).iterdir())
    ids = [client.post("/v1/uploads?name=a.png", content=picture((n, 0, 0))).json()["id"] for n in range(4)]
    assert client.get(f"/v1/uploads/{ids[0]}").status_code == 404  # made room
    assert client.get(f"/v1/uploads/{ids[3]}").status_code == 200
    assert len(list(folder_of(client).iterdir())) == 3
    for stored in client.app.state.server.uploads._stored.values():  # type: ignore[attr-defined]
        stored.used -= 3600
    assert client.get(f"/v1/uploads/{ids[3]}").status_code == 404
    assert not list(folder_of(client).iterdir())


@pytest.mark.parametrize(
    ("name", "content", "status"),
    [
        ("a.exe", b"MZ\x00\x01", 415),
        ("a.png", b"", 422),
        ("a.zip", b"PK\x03\x04" + b"\0" * 50, 415),
    ],
)
def test_what_is_no_media_is_refused(client: TestClient, name: str, content: bytes, status: int) -> None:
    response = client.post(f"/v1/uploads?name={name}", content=content)
    assert response.status_code == status, response.text
    assert "xsearch-scratch" not in response.text
    assert not list(folder_of(client).iterdir())


def wave(seconds: float) -> bytes:
    file = BytesIO()
    soundfile.write(file, np.sin(np.arange(int(8000 * seconds)) * 0.1), 8000, format="WAV")
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("broken.png", picture((1, 2, 3), (200, 200))[:80]),
        ("broken.jpg", picture((1, 2, 3), (200, 200), "JPEG")[:700]),
        ("broken.wav", wave(1)[:44]),
        ("broken.csv", b"time_s,accel_x,accel_y,accel_z,gyro_x,gyro_y,gyro_z\n0,1,2\n"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_damaged_media_are_not_kept(client: TestClient, name: str, content: bytes) -> None:
    for response in (
        client.post(f"/v1/uploads?name={name}", content=content),
        client.post("/v1/search", files={"part": (name, content)}),
    ):
        assert response.status_code in (415, 422), response.text
        problem = response.json()
        assert problem["type"] in ("urn:xsearch:unreadable-media", "urn:xsearch:unsupported-media")
        assert problem["detail"].startswith(f"{name}: ")
        assert "--as" not in problem["detail"]
    assert not list(folder_of(client).iterdir())
    assert client.post("/v1/uploads?name=whole.wav", content=wave(1)).status_code == 201


def test_forms_have_bounds(client: TestClient) -> None:
    two = [("file", ("a.png", picture((1, 1, 1)))), ("file", ("b.png", picture((2, 2, 2))))]
    assert client.post("/v1/uploads", files=two).status_code == 400
    none = client.post("/v1/uploads", files={"other": ("a.png", b"x")})
    assert none.json()["type"] == "urn:xsearch:invalid-request"
    broken = client.post(
        "/v1/uploads", content=b"--x\r\n", headers={"Content-Type": "multipart/form-data; boundary=x"}
    )
    assert broken.status_code in (400, 422)


def test_what_has_expired_is_deleted_without_being_asked_for(serve: Serve, collection: Collection) -> None:
    client = serve(collection, upload_age_s=0.2)
    client.post("/v1/uploads?name=a.png", content=picture((1, 2, 3)))
    until = time.monotonic() + 30
    while list(folder_of(client).iterdir()):
        assert time.monotonic() < until
        time.sleep(0.05)


def test_nothing_of_an_upload_outlives_the_server(client: TestClient) -> None:
    sent = client.post("/v1/uploads?name=a.png", content=picture((1, 2, 3))).json()
    assert client.get(sent["preview"]).status_code == 200
    assert not client.app.state.server.previews.folder.exists()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "query",
    ['{"parts": {}}', '{"parts": ""}', '{"parts": null}', "[]", "1", "{", '{"parts": [{"upload": ["a"]}]}',
     '{"parts": [1, {"upload": {"a": 1}}, null]}'],
)  # fmt: skip
def test_forms_of_any_shape_are_refused(client: TestClient, query: str) -> None:
    for fields in ({"data": {"query": query}}, {"files": {"query": ("q.json", query)}}):
        files = {"a": ("a.png", picture((1, 1, 1))), **fields.get("files", {})}
        response = client.post("/v1/search", data=fields.get("data"), files=files)
        assert (response.status_code, response.json()["type"]) == (422, "urn:xsearch:invalid-request")


def test_hostile_media_are_refused(client: TestClient, tmp_path: Path) -> None:
    """Bombs, torn and odd files: none is an error of the server, nor what others wait for."""
    odd = [each for each in write_odd_files(tmp_path) if each.outcome == "skip"]
    paths = [each.path for each in odd if each.path.parent.name in ("pictures", "depth", "imu")]
    for path in paths:
        sent = client.post(f"/v1/uploads?name={quote(path.name)}", content=path.read_bytes())
        if sent.status_code == 201:
            sent = client.post("/v1/search", json={"parts": [{"upload": sent.json()["id"]}]})
        assert sent.status_code in (200, 413, 415, 422), (path.name, sent.text)
        assert "xsearch-scratch" not in sent.text
    assert len(paths) > 10
