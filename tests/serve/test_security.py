"""Who is let in, and what is done to those who hold the server up."""

from __future__ import annotations

import http.client
import io
import json
import socket
import time
import wave
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from tests.fakes import FakeBackend
from tests.serve.conftest import Live, Serve
from xsearch.collection import Collection
from xsearch.errors import UsageError
from xsearch.serve.run import listen
from xsearch.serve.security import Gate
from xsearch.serve.settings import Settings

TOKEN = "a token of many letters"
BODY = {"parts": [{"text": "red"}]}


def kind(response: Any) -> str:
    return str(response.json()["type"]).removeprefix("urn:xsearch:")


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.2", "::", "example.org", ""])
def test_other_machines_need_a_token(host: str) -> None:
    with pytest.raises(UsageError, match="needs --token or XSEARCH_TOKEN"):
        Settings(host=host)
    assert Settings(host=host, token=TOKEN).token == TOKEN
    for token in ("short", f"{TOKEN}\n", "the tökens of another alphabet"):
        with pytest.raises(UsageError, match="at least 16 of ASCII"):
            Settings(host=host, token=token)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]", "127.1.2.3"])
def test_this_machine_needs_none(host: str) -> None:
    assert Settings(host=host).token is None


def test_a_token_opens_all_but_the_health(serve: Serve, collection: Collection) -> None:
    client = serve(collection, token=TOKEN)
    for header in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": TOKEN},
        {"Cookie": "xsearch-8080=x"},
    ):
        response = client.post("/v1/search", json=BODY, headers=header)
        assert (response.status_code, kind(response)) == (401, "no-token")
        assert response.headers["www-authenticate"] == "Bearer"
    assert client.get("/metrics").status_code == 401
    assert client.get("/openapi.json").status_code == 401
    assert client.get("/healthz").status_code == 200
    right = {"Authorization": f"Bearer {TOKEN}"}
    assert client.post("/v1/search", json=BODY, headers=right).status_code == 200


def test_a_link_lets_a_browser_in_once(serve: Serve, collection: Collection) -> None:
    client = serve(collection, token=TOKEN)
    doors = client.app.state.server.doors  # type: ignore[attr-defined]
    code = doors.new_code()
    assert client.get("/login?code=wrong", follow_redirects=False).status_code == 401
    response = client.get(f"/login?code={code}", follow_redirects=False)
    assert (response.status_code, response.headers["location"]) == (303, "/")
    cookie = response.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert TOKEN not in cookie
    assert client.get("/v1/info").status_code == 200  # the client keeps cookies
    client.cookies.clear()
    neighbours = f'a={{"b": 1}}; c[d]=e; {cookie.partition(";")[0]}'  # of other servers of the host
    assert client.get("/v1/info", headers={"Cookie": neighbours}).status_code == 200
    assert client.get(f"/login?code={code}", follow_redirects=False).status_code == 401
    assert client.post("/v1/login", json={"token": "wrong"}).status_code == 401
    assert client.post("/v1/login", json={"token": TOKEN}).status_code == 204
    assert client.get("/v1/info").status_code == 200


def test_only_names_of_this_server_are_answered(serve: Serve, collection: Collection) -> None:
    client = serve(collection)
    for host in ("127.0.0.1:8080", "localhost", "LOCALHOST:1", "[::1]:8080", "localhost."):
        assert client.get("/healthz", headers={"Host": host}).status_code == 200, host
    for host in (
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example:8080",
        "10.0.0.1",
        "",
        "a@127.0.0.1",
    ):
        response = client.get("/healthz", headers={"Host": host})
        assert (response.status_code, kind(response)) == (421, "wrong-host"), host
    public = serve(
        collection, host="0.0.0.0", token=TOKEN, names=("media.example",), base="http://10.0.0.1:8080"
    )
    for host in ("10.0.0.1:8080", "media.example", socket.gethostname()):
        assert public.get("/healthz", headers={"Host": host}).status_code == 200
    assert public.get("/healthz", headers={"Host": "evil.example"}).status_code == 421


def test_other_sites_are_refused(client: TestClient) -> None:
    def status(method: str, path: str, **headers: str) -> int:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        content = json.dumps(BODY) if method == "POST" else None
        return int(client.request(method, path, headers=given, content=content).status_code)

    assert status("POST", "/v1/search", Origin="http://127.0.0.1:8080", Sec_Fetch_Site="same-origin") == 200
    for origin in ("http://evil.example", "null", "http://127.0.0.1:9090", "http://localhost:8080"):
        assert status("POST", "/v1/search", Origin=origin) == 403, origin
    assert status("POST", "/v1/search", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate") == 403
    assert status("DELETE", f"/v1/uploads/{'0' * 32}", Origin="http://evil.example") == 403
    for site in ("cross-site", "same-site"):
        assert status("GET", "/v1/items/0/media", Sec_Fetch_Site=site, Sec_Fetch_Mode="no-cors") == 403
        assert status("GET", "/v1/info", Sec_Fetch_Site=site, Sec_Fetch_Mode="navigate") == 200  # a link
    response = client.options("/v1/search", headers={"Origin": "http://evil.example"})
    assert not [name for name in response.headers if name.startswith("access-control")]


def test_headers_are_behind_every_answer(client: TestClient) -> None:
    for path in ("/healthz", "/v1/info", "/none", "/v1/items/99", "/openapi.json"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "server" not in headers


def test_bodies_are_bounded(client: TestClient) -> None:
    large = b'{"parts":[{"text":"' + b"x" * (5 << 20) + b'"}]}'
    response = client.post("/v1/search", content=large)
    assert (response.status_code, kind(response)) == (413, "too-large")
    response = client.post("/v1/search", content=iter([large[: 1 << 20]] * 6))
    assert (response.status_code, kind(response)) == (413, "too-large")


def test_texts_of_anybody_are_inert(serve: Serve, tmp_path: Path) -> None:
    """Markup, escape sequences and bidirectional marks in names, texts and metadata."""
    evil = "</script><img src=x onerror=alert(1)> \x1b[31m \u202egnp.exe \u2028"
    folder = tmp_path / "media"
    folder.mkdir()
    (folder / "a<b>\x1b[2J\u202e.txt").write_text(f"red {evil}")
    (folder / "a<b>\x1b[2J\u202e.json").write_text(json.dumps({"title": evil}))
    collection = Collection.create(tmp_path / "c", backend=FakeBackend())
    collection.ingest(folder)
    client = serve(collection)
    response = client.post("/v1/search", json={"parts": [{"text": f"red {evil}"}]})
    assert response.status_code == 200
    answers = [
        response,
        client.get("/v1/info"),
        client.get("/v1/items/0"),
        client.get("/v1/facets?column=title"),
    ]
    for answer in answers:
        assert not set(answer.text) & set("<>\x1b\u202e\u2028")
    hit = response.json()["hits"][0]
    assert (hit["extra"]["title"], hit["name"]) == (evil, "a<b>\x1b[2J\u202e.txt")
    assert response.json()["query"]["parts"][0]["label"] == f"red {evil}"


def test_a_fault_is_logged_and_not_shown(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    def broken(*args: object) -> None:
        raise RuntimeError("in /secret/path")

    client.app.state.server.shelf.first.view = broken  # type: ignore[attr-defined]
    response = client.get("/v1/info")
    assert (response.status_code, kind(response)) == (500, "fault")
    assert "secret" not in response.text
    assert "in /secret/path" in caplog.text


SLOWLY = 600  # bytes that a slow client sends at most, which takes it a minute


def raw(port: int, *chunks: bytes, pause_s: float = 0.0) -> tuple[bytes, int]:
    """Send chunks with pauses until the server hangs up; return what comes back, and how many it took."""
    received, taken = b"", 0
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        try:
            for chunk in chunks:
                connection.sendall(chunk)
                taken += 1
                time.sleep(pause_s)
            while part := connection.recv(4096):
                received += part
        except ConnectionError:
            pass
    return received, taken


def bodies(app: FastAPI) -> list[Any]:
    """Return the bodies of the requests that are not answered yet."""
    gate: Any = app.middleware_stack
    while not isinstance(gate, Gate):
        gate = gate.app
    return list(gate._bodies)


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_slow_clients_are_hung_up_on(live: Live, collection: Collection) -> None:
    app = live(collection, head_s=2.0, body_s=0.5)
    port = app.state.server.settings.port
    assert raw(port)[0] == b""  # says nothing
    received, taken = raw(port, b"GET / HTTP/1.1\r\n", *[b"X"] * SLOWLY, pause_s=0.1)
    assert (received, taken < SLOWLY) == (b"", True)
    head = b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
    assert raw(port, head + b"x")[0].startswith(b"HTTP/1.1 408")
    assert raw(port, head, *[b"x"] * SLOWLY, pause_s=0.1)[1] < SLOWLY  # a byte now and then
    answered = head.replace(b"/v1/search", b"/healthz")  # before it is complete
    assert raw(port, answered)[0].startswith(b"HTTP/1.1 405")
    assert raw(port, answered, *[b"x"] * SLOWLY, pause_s=0.1)[1] < SLOWLY
    again = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    for pause_s in (2.5, 0.0):  # a connection that is kept waits longer
        again.request("GET", "/healthz")
        assert again.getresponse().read() == b'{"status":"ok"}'
        time.sleep(pause_s)
    again.close()


def test_what_is_no_http_is_refused(live: Live, collection: Collection) -> None:
    port = live(collection).state.server.settings.port
    for request in (b"\x16\x03\x01hello\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"):  # no Host
        head, _, body = raw(port, request)[0].partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400")
        assert b"content-type: application/problem+json" in head.lower()
        assert b"x-content-type-options: nosniff" in head.lower()
        assert json.loads(body)["type"] == "urn:xsearch:invalid-request"
    long = b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * (1 << 20)
    assert raw(port, long)[0][:12] in (b"HTTP/1.1 400", b"HTTP/1.1 431", b"")


def silence(samples: int) -> bytes:
    with io.BytesIO() as file, wave.open(file, "wb") as sound:
        sound.setparams((1, 2, 44_100, samples, "NONE", ""))
        sound.writeframes(bytes(2 * samples))
        return file.getvalue()


def test_a_client_that_does_not_read_is_hung_up_on(live: Live, collection: Collection) -> None:
    app = live(collection, stall_s=1.0)
    port = app.state.server.settings.port
    content = silence(7 << 20)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", "/v1/uploads?name=a.wav", content)
    id = json.loads(connection.getresponse().read())["id"]
    connection.request("GET", f"/v1/uploads/{id}/media")
    assert len(connection.getresponse().read()) == len(content)
    connection.close()
    request = f"GET /v1/uploads/{id}/media HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    received = 0
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection, suppress(ConnectionError):
        connection.sendall(request)
        received += len(connection.recv(1))
        wait_for(lambda: not bodies(app))  # until it gives up
        while part := connection.recv(1 << 16):
            received += len(part)
    assert 0 < received < len(content)


def test_what_is_received_at_once_is_bounded(live: Live, collection: Collection) -> None:
    app = live(collection, upload_bytes=1 << 20, uploads_bytes=1 << 20)
    port = app.state.server.settings.port
    head = b"POST /v1/uploads HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
    address = "127.0.0.1", port
    with socket.create_connection(address) as first, socket.create_connection(address) as second:
        for connection in (first, second):
            connection.sendall(head + b"x" * 900_000)
        wait_for(lambda: sum(body.received for body in bodies(app)) == 1_800_000)
        third = raw(port, head, b"x" * (2 * (1 << 20) - 1_800_000 + 1))
        assert third[0].startswith(b"HTTP/1.1 503")
        first.sendall(b"x" * 100_000)
        assert first.recv(12) != b"HTTP/1.1 503"


@pytest.mark.parametrize("bound", ["streams", "requests"])
def test_streams_of_events_and_requests_are_bounded(live: Live, collection: Collection, bound: str) -> None:
    port = live(collection, **{bound: 1}).state.server.settings.port
    request = b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=30) as stream:
        stream.sendall(request)
        assert stream.recv(12) == b"HTTP/1.1 200"
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", "/v1/events" if bound == "streams" else "/healthz")
        refused = connection.getresponse()
        assert (refused.status, refused.headers["content-type"]) == (503, "application/problem+json")
        assert json.loads(refused.read())["type"] == "urn:xsearch:busy"
        connection.close()
    wait_for(lambda: first(port, request).startswith(b"HTTP/1.1 200"))  # the server notices


def first(port: int, request: bytes) -> bytes:
    """Return the beginning of an answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(request)
        return connection.recv(12)


def test_the_metrics_do_not_grow_with_what_clients_invent(client: TestClient) -> None:
    for method in ("GET", "PURGE"):
        client.request(method, "/v1/info")
    client.get("/invented")
    text = client.get("/metrics").text
    assert 'method="GET",route="/v1/info",status="200"' in text
    assert 'method="any",route="/v1/info",status="405"' in text
    assert "PURGE" not in text
    assert "invented" not in text


def test_an_address_has_one_server(tmp_path: Path) -> None:
    listening, settings = listen(Settings(port=0, cache=tmp_path))
    with listening, pytest.raises(UsageError, match="is in use"):
        listen(settings)


def test_answers_do_not_wait_for_acknowledgements():
    """Accepted sockets inherit it, and asyncio sets it for those only that name their protocol."""
    listening, settings = listen(Settings(port=0))
    with listening, socket.create_connection(("127.0.0.1", settings.port)):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
