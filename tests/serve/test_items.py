"""Items, their media and previews."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from tests.serve.conftest import Serve, open_fake, write_media
from xsearch.collection import Collection

Find = Callable[..., int]


@pytest.fixture
def changing(tmp_path: Path) -> Collection:
    """A collection whose media a test may change."""
    from tests.fakes import FakeBackend

    collection = Collection.create(tmp_path / "mine", backend=FakeBackend())
    collection.ingest(write_media(tmp_path / "media"))
    return collection


def id_of(collection: Collection, name: str, kind: str | None = None) -> int:
    rows = collection.items(modality=kind).to_pylist()
    return next(row["id"] for row in rows if row["path"].endswith(name))


def test_an_item_is_described(client: TestClient, collection: Collection, find: Find) -> None:
    id = find("tone.wav")
    item = client.get(f"/v1/items/{id}").json()
    (row,) = collection.items(where=f"id = {id}").to_pylist()
    assert {name: item[name] for name in ("id", "path", "modality", "start_s", "end_s", "text")} == {
        name: row[name] for name in ("id", "path", "modality", "start_s", "end_s", "text")
    }
    assert item["extra"]["sha256"] == row["sha256"]
    assert [window["start_s"] for window in item["file"]["windows"]] == [0, 10, 20]
    assert (item["plays"], item["problem"], item["media_type"]) == (True, "", "audio/wav")
    assert client.get("/v1/items/99").json()["type"] == "urn:xsearch:no-item"


def test_items_are_listed_without_a_query(client: TestClient, collection: Collection) -> None:
    answer = client.get("/v1/items?modality=image&sort=date&top=2").json()
    assert [item["name"] for item in answer["items"]] == ["blue.png", "green.png"]
    assert (answer["count"], answer["more"]) == (3, True)
    rest = client.get("/v1/items?modality=image&sort=date&top=2&offset=2").json()
    assert ([item["name"] for item in rest["items"]], rest["more"]) == (["red.png"], False)
    everything = client.get("/v1/items?top=100").json()["items"]
    assert [item["id"] for item in everything] == collection.snapshot().ids.tolist()


def test_a_file_is_sent_whole_and_in_ranges(client: TestClient, stored: Path, find: Find) -> None:
    content, link = (stored.parent / "media/tone.wav").read_bytes(), f"/v1/items/{find('tone.wav')}/media"
    whole = client.get(link)
    assert (whole.status_code, whole.content, whole.headers["content-type"]) == (200, content, "audio/wav")
    size, etag = len(content), whole.headers["etag"]
    for header, span in (
        ("bytes=0-9", slice(0, 10)),
        ("bytes=5-", slice(5, None)),
        ("bytes=-7", slice(-7, None)),
        (f"bytes=10-{size + 99}", slice(10, None)),
    ):
        part = client.get(link, headers={"Range": header})
        first = range(size)[span].start
        assert (part.status_code, part.content) == (206, content[span])
        assert part.headers["content-range"] == f"bytes {first}-{first + len(part.content) - 1}/{size}"
    for header in (
        "bytes=0-1,4-5",
        "lines=1-2",
        "bytes=-",
        "bytes=x-y",
    ):  # answered as a whole, as they may be
        assert client.get(link, headers={"Range": header}).content == content
    beyond = client.get(link, headers={"Range": f"bytes={size}-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{size}")
    assert client.get(link, headers={"If-None-Match": etag}).status_code == 304
    assert client.get(link, headers={"Range": "bytes=0-9", "If-Range": '"other"'}).content == content
    assert client.get(link, headers={"Range": "bytes=0-9", "If-Range": etag}).status_code == 206
    head = client.head(link)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(size))


def test_a_file_that_changed_is_refused(serve: Serve, changing: Collection, tmp_path: Path) -> None:
    client, media = serve(changing), tmp_path / "media"
    red, green, blue = (id_of(changing, f"{name}.png") for name in ("red", "green", "blue"))
    os.utime(media / "red.png", (1, 1))  # of the same content
    assert client.get(f"/v1/items/{red}/media").status_code == 200
    Image.new("RGB", (9, 9)).save(media / "green.png")
    for link in ("media", "preview", "signal"):
        response = client.get(f"/v1/items/{green}/{link}")
        assert (response.status_code, response.json()["type"]) == (409, "urn:xsearch:file-changed")
    assert "changed" in client.get(f"/v1/items/{green}").json()["problem"]
    (media / "sky" / "blue.png").unlink()
    response = client.get(f"/v1/items/{blue}/media")
    assert (response.status_code, response.json()["type"]) == (410, "urn:xsearch:file-gone")
    (media / "sky" / "blue.png").symlink_to("/etc/passwd")
    assert client.get(f"/v1/items/{blue}/media").status_code == 409
    (media / "sky" / "blue.png").unlink()
    os.mkfifo(media / "sky" / "blue.png")
    assert client.get(f"/v1/items/{blue}/media").status_code == 409


def test_a_time_that_was_set_back_hides_no_change(serve: Serve, changing: Collection, tmp_path: Path) -> None:
    client, path = serve(changing), tmp_path / "media" / "red.txt"
    link = f"/v1/items/{id_of(changing, 'red.txt')}/media"
    os.utime(path, (1, 1))
    assert client.get(link).text == "red"  # by its content
    path.write_text("dry")
    os.utime(path, (1, 1))
    assert client.get(link).status_code == 409


def test_a_link_of_another_user_is_not_followed_to_another_file(
    serve: Serve, changing: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Size and mtime of a file are known to those who may not read it."""
    client, path, secret = serve(changing), tmp_path / "media" / "red.txt", tmp_path / "secret"
    link, status = f"/v1/items/{id_of(changing, 'red.txt')}/media", path.stat()
    path.unlink()
    path.symlink_to(secret)
    for content, code in (("psw", 409), ("red", 200)):
        secret.write_text(content)
        os.utime(secret, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert client.get(link).status_code == 200  # by a link of this user
        if os.geteuid() == 0:
            os.lchown(path, 4711, -1)
        with monkeypatch.context() as patch:
            patch.setattr(os, "geteuid", lambda: 4712)
            fresh = serve(changing)
            assert fresh.get(link).status_code == code
        os.lchown(path, os.geteuid(), -1)


def test_what_an_import_names_is_not_opened(serve: Serve, collection: Collection, tmp_path: Path) -> None:
    collection.export(tmp_path / "all.parquet")
    imported = tmp_path / "imported"
    Collection.import_(tmp_path / "all.parquet", imported)
    client = serve(open_fake(imported))
    for item in client.get("/v1/items").json()["items"]:
        assert (item["is_imported"], item["media"], item["preview"]) == (True, None, None)
        for link in ("media", "preview"):
            response = client.get(f"/v1/items/{item['id']}/{link}")
            assert (response.status_code, response.json()["type"]) == (403, "urn:xsearch:not-opened")
    trusting = serve(open_fake(imported), trust_paths=True)
    for item in trusting.get("/v1/items").json()["items"]:
        assert trusting.get(item["media"]).status_code == 200


def test_what_a_browser_would_run_is_a_download(serve: Serve, tmp_path: Path) -> None:
    from tests.fakes import FakeBackend

    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "évil <b>.md").write_text("<script>alert(1)</script> red")
    collection = Collection.create(tmp_path / "c", backend=FakeBackend())
    collection.ingest(tmp_path / "media")
    client = serve(collection)
    response = client.get("/v1/items/0/media")
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in response.headers["content-security-policy"]
    assert unquote(response.headers["content-disposition"]) == "inline; filename*=UTF-8''évil <b>.md"
    from xsearch.serve.media import media_type

    for mime in ("text/html", "image/svg+xml", "application/pdf", "application/javascript", "", "image/tiff"):
        assert media_type(mime) == "application/octet-stream"


def test_pictures_of_all_kinds(client: TestClient, find: Find) -> None:
    for name, kind in (("red.png", "image"), ("room_depth.png", "depth")):
        response = client.get(f"/v1/items/{find(name, kind)}/preview?size=100")
        assert response.headers["content-type"] == "image/jpeg"
        assert max(Image.open(io.BytesIO(response.content)).size) <= 128
    for name, kind in (("tone.wav", "audio"), ("walk.csv", "imu")):
        response = client.get(f"/v1/items/{find(name, kind)}/preview")
        assert response.headers["content-type"] == "image/svg+xml"
        assert response.content.startswith(b"<svg")
    tone = find("tone.wav")
    sound = client.get(f"/v1/items/{tone}/preview?form=sound")
    assert sound.headers["content-type"] in ("audio/mpeg", "audio/wav")
    assert client.get(f"/v1/items/{find('red.png')}/preview?form=sound").json()["type"] == "urn:xsearch:usage"
    assert client.get(f"/v1/items/{find('red.txt')}/preview?form=text").text == "red"


def test_previews_are_kept(serve: Serve, collection: Collection, find: Find) -> None:
    client = serve(collection, cache_bytes=3000)
    previews, link = client.app.state.server.previews, f"/v1/items/{find('red.png')}/preview"  # type: ignore[attr-defined]
    first = client.get(link)
    assert (previews.hits, previews.misses) == (0, 1)
    second = client.get(f"{link}?size=399")
    assert (previews.hits, second.content) == (1, first.content)
    assert client.get(link, headers={"If-None-Match": first.headers["etag"]}).status_code == 304
    assert client.get(f"{link}?size=128").headers["etag"] != first.headers["etag"]
    for size in (128, 256, 640, 1024, 2048):  # the bound holds
        client.get(f"{link}?size={size}")
    assert sum(path.stat().st_size for path in previews.folder.iterdir()) <= 3000
    assert previews.folder.stat().st_mode & 0o077 == 0


def test_numbers_to_draw_by(client: TestClient, find: Find) -> None:
    tone = client.get(f"/v1/items/{find('tone.wav')}/signal").json()
    assert max(tone["series"]["peak"]) == pytest.approx(0.5, abs=0.02)
    walk = client.get(f"/v1/items/{find('walk.csv')}/signal").json()
    assert np.mean(walk["series"]["accel_z"]) == pytest.approx(9.8, abs=0.1)
    assert len({len(values) for values in walk["series"].values()}) == 1
    depth = client.get(f"/v1/items/{find('room_depth.png')}/signal").json()
    metres = [stop["value"] for stop in depth["legend"]]
    assert metres == sorted(metres, reverse=True)
    assert 0.4 < metres[-1] < metres[0] < 3.1
    assert client.get(f"/v1/items/{find('red.png')}/signal").status_code == 422


def test_nothing_is_read_by_path(client: TestClient) -> None:
    for path in (
        "/v1/items/..%2f..%2fetc%2fpasswd/media",
        "/v1/items/../../etc/passwd",
        "/v1/items/-1/media",
        "/v1/items/9223372036854775808/media",
        "/v1/items/0/media/../../../etc/passwd",
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "//etc/passwd",
        "/v1/uploads/..%2f..%2fetc%2fpasswd",
        "/v1/uploads/%00/preview",
    ):
        response = client.get(path)
        assert response.status_code in (404, 405, 422), path
        assert "root:" not in response.text
