"""Servers and archives that nobody should trust: what they send is bounded, and stays in its folder."""

from __future__ import annotations

import gzip
import re
import zipfile
from collections.abc import Iterator
from itertools import chain, repeat
from pathlib import Path

import pytest

from tests.web import Web
from xsearch.errors import NotFetched, Reason, TooLarge, UsageError
from xsearch.media.exclusion import Skipped
from xsearch.media.remote import Remote, RemoteFile

OK, CHUNKED, HTML = b"HTTP/1.1 200 OK\r\n", b"Transfer-Encoding: chunked\r\n", b"Content-Type: text/html\r\n"
MEGABYTE = b"100000\r\n" + bytes(1 << 20) + b"\r\n"


@pytest.fixture
def web() -> Iterator[Web]:
    pytest.importorskip("aiohttp")
    with Web({"/a.jpg": b"picture", "/b.jpg": b"picture"}) as web:
        yield web


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    return (tmp_path / "scratch").resolve()


def page(*links: str) -> bytes:
    return OK + HTML + b"\r\n" + "".join(f'<a href="{link}">x</a>' for link in links).encode()


def listed(url: str, scratch: Path) -> list[RemoteFile | Skipped]:
    return list(Remote(url, scratch).files())


def below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_a_file_without_end_costs_that_file(web, scratch, monkeypatch):
    monkeypatch.setenv("XSEARCH_MAX_DOWNLOAD_GB", "0.005")
    web.scripts = {
        "/": lambda: [page("a.jpg", "b.jpg")],
        "/a.jpg": lambda: chain([OK, CHUNKED, b"\r\n"], repeat(MEGABYTE)),
    }
    endless, good = listed(f"{web.url}/", scratch)
    with pytest.raises(
        TooLarge, match=r"more than 5,000,000 bytes, the limit is XSEARCH_MAX_DOWNLOAD_GB=0\."
    ):
        endless.source.copy(endless)
    with pytest.raises(TooLarge):
        endless.fetch()
    assert below(scratch) == 0
    good.source.copy(good)
    assert good.path.read_bytes() == b"picture"


def test_a_file_longer_than_listed_is_not_fetched(web, scratch):
    (file,) = listed(f"{web.url}/a.jpg", scratch)
    assert file.bytes == 7
    web.files["/a.jpg"] = b"another picture"
    with pytest.raises(NotFetched, match="more than 7 bytes, as listed; ingest again"):
        file.source.copy(file)
    web.scripts = {"/a.jpg": lambda: [OK, b"\r\nanother picture"]}
    with pytest.raises(NotFetched, match="more than 7 bytes, as listed; ingest again"):
        file.source.copy(file)


def test_compressed_bytes_count_unpacked(web, scratch, monkeypatch):
    monkeypatch.setenv("XSEARCH_MAX_DOWNLOAD_GB", "0.005")
    bomb = gzip.compress(bytes(50_000_000))
    head = OK + b"Content-Encoding: gzip\r\n" + b"Content-Length: %d\r\n\r\n" % len(bomb)
    web.scripts = {"/a.jpg": lambda: [head, bomb]}
    (file,) = listed(f"{web.url}/a.jpg", scratch)
    with pytest.raises(TooLarge, match="more than 5,000,000 bytes"):
        file.source.copy(file)


def test_a_file_over_the_limit_is_refused_before_it_comes(web, scratch, monkeypatch):
    monkeypatch.setenv("XSEARCH_MAX_DOWNLOAD_GB", "0.000000005")
    (file,) = listed(f"{web.url}/a.jpg", scratch)
    before = len(web.asked)
    with pytest.raises(TooLarge, match="7 bytes, the limit is XSEARCH_MAX_DOWNLOAD_GB=5e-09"):
        file.source.copy(file)
    assert len(web.asked) == before


def test_the_time_of_a_file_is_bounded_that_file(web, scratch, monkeypatch):
    monkeypatch.setenv("XSEARCH_FETCH_MINUTES", "0.000001")
    (file,) = listed(f"{web.url}/a.jpg", scratch)
    with pytest.raises(NotFetched, match=r"not complete after 1e-06 minutes \(XSEARCH_FETCH_MINUTES\)"):
        file.source.copy(file)


@pytest.mark.parametrize(
    "script",
    [
        lambda: chain([OK, HTML, b"\r\n"], repeat(b"x" * 1_000_000)),
        lambda: [b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n"],
        lambda: [b"HTTP/1.1 302 Found\r\nLocation: ftp://127.0.0.1/\r\n\r\n"],
        lambda: [b"HTTP/1.1 302 Found\r\nLocation: file:///etc/\r\n\r\n"],
    ],
    ids=["endless page", "circle", "ftp", "file"],
)
def test_a_listing_without_end_is_an_error(script, web, scratch, monkeypatch):
    monkeypatch.setattr("xsearch.system.retries.BACKOFF_S", ())
    web.scripts = {"/": script}
    with pytest.raises(UsageError, match=f"{web.url}/: cannot be listed: "):
        listed(f"{web.url}/", scratch)


@pytest.mark.parametrize(
    "links",
    [
        "<a" + " " * 100_000,
        "<a " * 100_000,
        "<a x" * 100_000 + ' href="',
    ],
    ids=["spaces", "tags", "attributes"],
)
def test_links_are_found_in_linear_time(links, web, scratch):
    web.scripts = {"/": lambda: [OK, HTML, b"\r\n", b'<a href="b.jpg">x</a> ', links.encode()]}
    assert [file.url for file in listed(f"{web.url}/", scratch)] == [f"{web.url}/b.jpg"]


def test_a_folder_inside_itself_ends(web, scratch):
    web.scripts = {f"/{'a/' * depth}": lambda: [page("a/", "b.jpg")] for depth in range(40)}
    entries = listed(f"{web.url}/", scratch)
    (skipped,) = (entry for entry in entries if isinstance(entry, Skipped))
    assert (skipped.reason, skipped.error) == ("more than 32 folders deep", Reason.TOO_LARGE)
    assert len(entries) == 1 + 33


def test_the_number_of_files_is_bounded(web, scratch, monkeypatch):
    monkeypatch.setenv("XSEARCH_MAX_LISTED", "100")
    web.scripts = {"/": lambda: [page(*(f"{n}.jpg" for n in range(200)))]}
    with pytest.raises(UsageError, match=r"more than 100 files \(XSEARCH_MAX_LISTED\)"):
        listed(f"{web.url}/", scratch)


NAMES = (
    "../x.jpg", "%2e%2e/x.jpg", "a/%2e%2e/%2e%2e/%2e%2e/x.jpg", "..%2f..%2fx.jpg", "%2fetc%2fx.jpg",
    "a%00b.jpg", "/elsewhere/x.jpg", "http://127.0.0.1:1/x.jpg", "//127.0.0.1:1/x.jpg", f"{'n' * 300}.jpg",
)  # fmt: skip


def test_every_name_stays_in_the_folder(web, scratch):
    web.scripts = {"/f/": lambda: [page(*NAMES, "good.jpg")]}
    files = [file for file in listed(f"{web.url}/f/", scratch) if isinstance(file, RemoteFile)]
    assert f"{web.url}/f/good.jpg" in {file.url for file in files}
    folder = scratch / web.url.removeprefix("http://") / "f"
    for file in files:
        assert file.url.startswith(f"{web.url}/f/")
        assert file.path.is_relative_to(folder)
        assert file.path.suffix == ".jpg"
        assert not {"..", "."} & {*file.path.parts}
        assert "\0" not in str(file.path)
        assert len(file.path.name) < 255


def test_names_in_an_archive_stay_in_the_folder(tmp_path, scratch):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("../x.jpg", "/etc/x.jpg", "a/../../x.jpg", "good.jpg"):
            archive.writestr(name, b"picture")
    for file in listed(f"zip://::{tmp_path}/a.zip", scratch):
        if isinstance(file, RemoteFile):
            file.source.copy(file)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert all(path.is_relative_to(scratch) for path in files if path.suffix == ".jpg")
    assert any(path.name == "good.jpg" for path in files)


def test_an_archive_that_unpacks_to_much_costs_that_file(tmp_path, scratch, monkeypatch):
    monkeypatch.setenv("XSEARCH_MAX_DOWNLOAD_GB", "0.001")
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.jpg", bytes(5_000_000))
    (file,) = listed(f"zip://::{tmp_path}/a.zip", scratch)
    with pytest.raises(TooLarge, match="5,000,000 bytes"):
        file.source.copy(file)
    assert below(scratch) == 0


@pytest.mark.parametrize(
    "date", ["Fri, 31 Dec 9999 23:59:59 GMT", "x" * 100, "Thu, 01 Jan 1600 00:00:00 GMT"]
)
def test_dates_that_no_file_has_are_unknown(date, web, scratch):
    head = OK + f"Last-Modified: {date}\r\nContent-Length: 7\r\n\r\npicture".encode()
    web.scripts = {"/a.jpg": lambda: [head]}
    (file,) = listed(f"{web.url}/a.jpg", scratch)
    file.source.copy(file)
    assert re.fullmatch(r"0|-?\d{10,18}", str(file.mtime_ns))


def test_a_file_without_an_extension_that_never_ends_costs_that_file(web, scratch, monkeypatch):
    monkeypatch.setattr("xsearch.system.retries.BACKOFF_S", ())
    web.scripts = {
        "/": lambda: [page("a", "b.jpg", "c")],
        "/a": lambda: chain([OK, CHUNKED, b"\r\n"], repeat(MEGABYTE)),
    }
    entries = listed(f"{web.url}/", scratch)
    skipped = {entry.path: entry.error for entry in entries if isinstance(entry, Skipped)}
    assert [entry.url for entry in entries if isinstance(entry, RemoteFile)] == [f"{web.url}/b.jpg"]
    assert skipped == {f"{web.url}/a": Reason.NOT_MEDIA, f"{web.url}/c": Reason.NOT_FETCHED}
