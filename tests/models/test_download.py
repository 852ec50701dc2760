"""Downloads from a real server: whole, resumed, refused."""

import hashlib
import json
import random
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, repeat
from pathlib import Path

import pytest

from tests.web import Web
from xsearch.errors import ModelError, UsageError
from xsearch.models.download import Source, fetch, unfinished

CONTENT = random.Random(0).randbytes(300_000)
OTHER = random.Random(1).randbytes(300_000)
Get = Callable[..., None]


def source(url: str, content: bytes = CONTENT, **known: object) -> Source:
    return Source(url, hashlib.sha256(content).hexdigest(), **known)


@pytest.fixture
def web() -> Iterator[Web]:
    with Web({"/file": CONTENT}) as web:
        yield web


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file"


@pytest.fixture
def get(web: Web, path: Path) -> Get:
    """Fetch /file, without pauses."""
    return partial(fetch, source(f"{web.url}/file"), path, tries=3, pause_s=0)


def ranges(web: Web) -> list[str | None]:
    return [range for _, range in web.asked]


def test_a_file_is_fetched_once_and_told_about(web, path, get):
    seen = []
    get(progress=lambda *now: seen.append(now))
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]
    assert (seen[0], seen[-1]) == ((0, 300_000), (300_000, 300_000))
    get()
    assert ranges(web) == [None]
    path.write_bytes(b"damaged")
    get()
    assert path.read_bytes() == CONTENT


def test_cut_connections_go_on_where_they_ended_as_long_as_something_comes(web, path, get):
    web.cuts = [50_000, 0, 0, 50_000, 0, 0]
    told = []
    get(say=told.append)
    assert path.read_bytes() == CONTENT
    assert ranges(web) == [None, *["bytes=50000-"] * 3, *["bytes=100000-"] * 3]
    assert sum("cut; trying again" in line for line in told) == 6


def test_a_part_is_kept_for_the_next_run(web, path, get):
    web.cuts = [1_000, 0, 0, 0]
    with pytest.raises(ModelError, match=r"1\.0 kB of it are kept: run the same command again"):
        get()
    assert not path.exists()
    part, here = unfinished(path)
    assert (part.url, part.bytes, here) == (f"{web.url}/file", 300_000, 1_000)
    get()
    assert path.read_bytes() == CONTENT
    assert ranges(web)[-1] == "bytes=1000-"


def test_an_interrupt_keeps_what_has_come(web, path, get):
    def interrupt(done, total):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(progress=interrupt)
    _, here = unfinished(path)
    assert here > 0
    get()
    assert ranges(web) == [None, f"bytes={here}-"]
    assert path.read_bytes() == CONTENT


def test_a_wrong_file_is_deleted_and_both_checksums_are_told(web, path):
    with pytest.raises(ModelError) as caught:
        fetch(source(f"{web.url}/file", OTHER, option="--trust"), path)
    expected, found = (hashlib.sha256(content).hexdigest() for content in (OTHER, CONTENT))
    assert f"expected sha256 {expected}, found {found}" in str(caught.value)
    assert f"give --trust {found}" in str(caught.value)
    assert list(path.parent.iterdir()) == []


def test_another_size_than_the_published_one_is_noticed_at_once(web, path):
    with pytest.raises(ModelError, match="expected 299,999 bytes, it has 300,000"):
        fetch(source(f"{web.url}/file", bytes=299_999), path)
    assert list(path.parent.iterdir()) == []


def test_a_server_without_ranges_starts_again(web, path, get):
    web.ranges = False
    web.cuts = [200_000]
    get()
    assert path.read_bytes() == CONTENT
    assert ranges(web) == [None, "bytes=200000-"]
    path.unlink()
    web.cuts = [200_000] * 9
    with pytest.raises(ModelError, match="run the same command again"):
        get()  # what it fetches over and over is no progress
    assert len(web.asked) == 2 + 1 + 3


@pytest.mark.parametrize("versions", [True, False])
def test_a_file_that_changed_in_between_starts_again(versions, web, path, get):
    web.versions = versions
    web.files["/file"] = OTHER if versions else OTHER + OTHER  # else only the size can tell
    web.cuts = [1_000, 0, 0, 0]
    with pytest.raises(ModelError):
        get()
    web.files["/file"] = CONTENT
    get()
    assert path.read_bytes() == CONTENT


def test_another_address_starts_again(web, path, get):
    web.files["/mirror"] = CONTENT
    web.cuts = [1_000, 0, 0, 0]
    with pytest.raises(ModelError):
        get()
    fetch(source(f"{web.url}/mirror"), path)
    assert web.asked[-1] == ("/mirror", None)


def test_a_part_longer_than_the_file_is_dropped(web, path, get):
    path.with_name("file.part").write_bytes(CONTENT + b"x")
    record = {"url": f"{web.url}/file", "bytes": None, "version": None}
    path.with_name("file.part.json").write_text(json.dumps(record))
    get()
    assert path.read_bytes() == CONTENT
    assert ranges(web) == ["bytes=300001-", None]


def test_a_run_that_ended_before_the_check_has_nothing_to_fetch(web, path, get):
    path.with_name("file.part").write_bytes(CONTENT)
    record = {"url": f"{web.url}/file", "bytes": 300_000, "version": None}
    path.with_name("file.part.json").write_text(json.dumps(record))
    get()
    assert path.read_bytes() == CONTENT
    assert web.asked == []


def test_a_length_that_is_not_told_is_the_published_one(web, path):
    web.lengths = False
    web.cuts = [1_000]
    fetch(source(f"{web.url}/file", bytes=300_000), path, pause_s=0)
    assert ranges(web) == [None, "bytes=1000-"]


def test_errors_that_pass_are_waited_for_and_others_are_told(web, path, get):
    web.statuses = [503, 429]
    get()
    assert len(web.asked) == 3
    path.unlink()
    for status in (404, 403):
        web.statuses = [status]
        with pytest.raises(ModelError, match=f"HTTP {status} .*check the address"):
            get()
    assert len(web.asked) == 5


def test_a_silent_server_is_given_up(web, path, get):
    web.open.clear()
    with pytest.raises(ModelError, match="timed out"):
        get(timeout_s=0.05)
    assert len(web.asked) == 3


def test_no_server_is_an_error(path):
    with Web({}) as web:
        gone = web.url
    with pytest.raises(ModelError, match=r"refused; 0 bytes of it .* run the same command"):
        fetch(source(f"{gone}/file"), path, tries=2, pause_s=0)


@pytest.mark.parametrize("url", ["http://[", "http://a:b/", "http://é{}/ü"])
def test_what_is_no_url_is_wrong_usage(url, path):
    with pytest.raises(UsageError, match="not a URL"):
        fetch(source(url), path)


def test_redirects_are_followed_over_http_only(web, path, get):
    web.redirects = {"/file": f"{web.url}/moved"}
    web.files["/moved"] = CONTENT
    get()
    assert path.read_bytes() == CONTENT
    path.unlink()
    for elsewhere in ("ftp://127.0.0.1/file", f"file://{__file__}"):
        web.redirects = {"/file": elsewhere}
        with pytest.raises(ModelError, match=r"url type: ftp|HTTP 302 .*file:"):
            get()
    assert not path.exists()


def test_room_is_looked_for_before_anything_is_written(web, path, get):
    with pytest.raises(ModelError, match=r"the disk has .* free, .* are needed: free .* more"):
        get(spare=1e12)
    assert list(path.parent.iterdir()) == []


def test_a_full_disk_says_how_much_is_missing_and_keeps_the_part(web, small_disk):
    def fill(done, total):
        if not done:
            (small_disk / "somebody else's").write_bytes(bytes(900_000))

    get = partial(fetch, source(f"{web.url}/file"), small_disk / "file")
    with pytest.raises(ModelError, match=r"are needed: free \d+\.\d kB more"):
        get(progress=fill)
    _, here = unfinished(small_disk / "file")
    assert 0 < here < 300_000
    (small_disk / "somebody else's").unlink()
    get()
    assert (small_disk / "file").read_bytes() == CONTENT
    assert ranges(web) == [None, f"bytes={here}-"]


OK, CHUNKED = b"HTTP/1.1 200 OK\r\n", b"Transfer-Encoding: chunked\r\n"
MEGABYTE = b"100000\r\n" + bytes(1 << 20) + b"\r\n"


def drip(before: bytes, drop: bytes) -> Iterator[bytes]:
    """`before`, then `drop` every 10 ms, until the client has gone."""
    yield before
    for _ in range(1_000):
        yield drop
        time.sleep(0.01)


ENDLESS = {
    "more than the published size": (
        lambda: chain([OK, CHUNKED, b"\r\n"], repeat(MEGABYTE)),
        {"bytes": 3 << 20},
        "the server sends more than 3,145,728 bytes",
    ),
    "more than the upper bound": (
        lambda: chain([OK, CHUNKED, b"\r\n"], repeat(MEGABYTE)),
        {"most": 3 << 20},
        "the server sends more than 3,145,728 bytes; check the address",
    ),
    "no length at all": (
        lambda: chain([OK, b"\r\n"], repeat(MEGABYTE)),
        {},
        "more than 5,000,000 bytes; if you trust it, raise XSEARCH_MAX_DOWNLOAD_GB",
    ),
    "an announced length": (
        lambda: [OK, b"Content-Length: 1" + b"0" * 400 + b"\r\n\r\n"],
        {},
        "bytes; if you trust it, raise XSEARCH_MAX_DOWNLOAD_GB",
    ),
    "trailers": (
        lambda: chain([OK, CHUNKED, b"\r\n0\r\n"], repeat(b"X: 1\r\n" * 1_000)),
        {},
        "more than 2,097,152 bytes",
    ),
    "informational answers": (
        lambda: repeat(b"HTTP/1.1 100 Continue\r\n\r\n" * 1_000),
        {},
        "more than 1,048,576 bytes",
    ),
    "the body of a redirect": (
        lambda: chain([b"HTTP/1.1 302 Found\r\nLocation: /file\r\n\r\n"], repeat(MEGABYTE)),
        {},
        "more than 1,048,576 bytes",
    ),
    "headers, slowly": (lambda: drip(OK, b"X: 1\r\n"), {}, "not complete after 0 s"),
    "a chunk's size, slowly": (lambda: drip(OK + CHUNKED + b"\r\n", b"0"), {}, "not complete after 0 s"),
    "bytes, slowly": (
        lambda: drip(OK + b"Content-Length: 9000000\r\n\r\n", b"."),
        {"bytes": 9_000_000},
        r"slower than 1,000 bytes/s \(XSEARCH_MIN_BYTES_PER_S\); \d+ bytes of it are kept: run",
    ),
}


@pytest.mark.parametrize("form", ENDLESS)
def test_an_answer_without_end_ends(form, web, path, monkeypatch):
    monkeypatch.setenv("XSEARCH_MAX_DOWNLOAD_GB", "0.005")
    script, known, message = ENDLESS[form]
    window_s = 0.2 if form.endswith("slowly") else 60
    web.scripts = {"/file": script}
    with pytest.raises(ModelError, match=message):
        fetch(source(f"{web.url}/file", **known), path, tries=1, pause_s=0, window_s=window_s)
    written = path.with_name("file.part")
    assert not written.exists() or written.stat().st_size < 5_000_000


def test_tries_with_progress_are_limited_too(web, path, get):
    web.cuts = [10_000] * 30
    with pytest.raises(ModelError, match=r"200\.0 kB of it are kept"):
        get(most_tries=20)
    assert len(web.asked) == 20
    get()
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("field", ["url", "bytes", "version"])
def test_a_record_of_other_types_is_none(field, web, path, get):
    path.with_name("file.part").write_bytes(CONTENT[:1_000])
    record = {"url": f"{web.url}/file", "bytes": 300_000, "version": None, field: [1]}
    path.with_name("file.part.json").write_text(json.dumps(record))
    get()
    assert ranges(web) == [None]
