"""The command line that asks a running server prints what it prints without one, to the byte."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import soundfile
from PIL import Image
from typer.testing import CliRunner

from tests.fakes import FakeBackend
from xsearch.cli import serve, served
from xsearch.cli.app import app
from xsearch.collection import Collection
from xsearch.models.vocabulary import save_words
from xsearch.system import identity, rendezvous

TOKEN = "a token of more than sixteen letters"
HEAVY = ("torch", "faiss", "pyarrow", "librosa", "duckdb", "numpy", "PIL", "av")


class World(NamedTuple):
    """A collection that a server serves, its media, and files that it does not have."""

    collection: Path
    media: Path
    others: Path
    url: str


class Printed(NamedTuple):
    code: int
    stdout: bytes
    stderr: str


def write_media(folder: Path) -> Path:
    """Pictures with metadata, a sound of 25 s and two texts, in a folder of a difficult name."""
    folder.mkdir()
    for day, (name, colour) in enumerate((("one", "red"), ("two", "green"), ("größe 3", "blue")), start=1):
        Image.new("RGB", (48, 32), colour).save(folder / f"{name}.png")
        about = {"taken_at": f"2024-05-0{day} 12:00:00", "place": "=beach", "stars": day / 3, "tags": ["a"]}
        (folder / f"{name}.json").write_text(json.dumps(about))
    soundfile.write(folder / "tone.wav", 0.5 * np.sin(np.arange(25 * 8000) * 0.1), 8000)
    (folder / "note.txt").write_text("a dog on the beach", encoding="utf-8")
    (folder / "long.txt").write_text("a red dog on a beach " * 40, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def world(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("door")
    model = folder / "model"
    shutil.copytree(tiny_model, model)
    save_words(["beach", "dog", "red"], model)
    media, others = write_media(folder / "my médïa"), folder / "others"
    Collection.create(folder / "c", str(model)).ingest(media)
    others.mkdir()
    Image.new("RGB", (40, 30), "orange").save(others / "new.png")
    Image.fromarray(np.full((8, 8), 900, np.uint16)).save(others / "room_depth.png")
    (others / "broken.png").write_bytes((media / "one.png").read_bytes()[:60])
    (others / "program.exe").write_bytes(b"MZ\x00\x01")
    (others / "new.txt").write_text("a beach")
    (others / "depth").mkdir()
    Image.fromarray(np.full((8, 8), 1200, np.uint16)).save(others / "depth" / "7.png")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "XSEARCH_TOKEN": TOKEN}
    command = [sys.executable, "-m", "xsearch", "serve", "-c", str(folder / "c"), "--port", str(port)]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        end = time.monotonic() + 120
        while not (place := rendezvous.address(folder / "c")) or not place.is_socket():
            assert server.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < end, "the server does not start"
            time.sleep(0.05)
        yield World(folder / "c", media, others, f"http://127.0.0.1:{port}")
        server.send_signal(signal.SIGTERM)
        server.wait()
    assert not place.exists()


@pytest.fixture
def run(world: World, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Printed]:
    """`run("query", "dog", server="auto")` -> what the program prints in the folder of the media."""
    monkeypatch.chdir(world.media.parent)
    monkeypatch.setattr(served, "PATIENCE_S", 120)  # on a machine that is busy

    def run(*words: object, server: str = "auto") -> Printed:
        command, *rest = map(str, words)
        result = CliRunner().invoke(app, [command, "-c", str(world.collection), "--server", server, *rest])
        assert isinstance(result.exception, SystemExit | None)
        return Printed(result.exit_code, result.stdout_bytes, result.stderr)

    return run


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Gets what is opened in this process, in which no search is made by the server."""
    found: list[object] = []

    def opening(*args: object, **options: object) -> Collection:
        found.append(args)
        return open_here(*args, **options)

    monkeypatch.setattr("xsearch.open", opening, raising=False)
    return found


def open_here(*args: object, **options: object) -> Collection:
    from xsearch.collection import open

    return open(*args, **options)  # type: ignore[arg-type]


SERVED = [
    ["query", "dog"],
    ["query", "the Dogs of my grandmother on an asteroid."],
    ["query", "dog", "--json"],
    ["query", "dog", "--csv"],
    ["query", "dog", "--csv", "--keep-formulas"],
    ["query", "dog", "--paths"],
    ["query", "dog", "--sort", "date"],
    ["query", "dog", "--sort", "-date", "--json"],
    ["query", "dog", "-n", 2, "-k", "image", "-k", "text", "--json"],
    ["query", "dog", "--where", "start_s >= 10 and stars is null"],
    ["query", "dog", "--rank", "cosine", "--json"],
    ["query", "dog", "--unique", "--json"],
    ["query", "dog", "--match", "words"],
    ["query", "dog", "--match", "meaning"],
    ["query", "dog", "--min-cosine", 1],
    ["query", "red", "--max-expected", 1, "-k", "audio"],
    ["query", "red", "-k", "audio"],
    ["query", "my beech", "--anyway"],
    ["query", "my beech"],
    ["query", "one"],
    ["query", "a red dog. " * 60],
    ["query", "--text", "my médïa/one.png"],
    ["query", "my médïa/one.png"],
    ["query", "my médïa/tone.wav", "--json"],
    ["query", "my médïa/long.txt"],
    ["query", "--thermal", "my médïa/one.png"],
    ["query", "my médïa/one.png", "--exclude-self", "--json"],
    ["query", "others/new.png", "--json"],
    ["query", "others/new.txt"],
    ["query", "others/room_depth.png"],
    ["query", "others/depth/7.png"],
    ["query", "--image", "others/room_depth.png", "--json"],
    ["query", "--id", 0, "--json"],
    ["query", "dog", "--where", "1; drop table items"],
    ["query", "dog", "--where", "nonsense = 1"],
    ["query", "--id", 0, "--match", "words"],
    ["compose", "--text", "red", "--plus-audio", "my médïa/tone.wav@0.7", "--minus", "dog"],
    ["compose", "--plus", "item:1@0.5", "--plus", "others/new.png", "--json"],
    ["compose", "--text", "dog", "--minus-text", "my beech"],
    ["compose", "--text", "a dog", "--minus-text", "a dog"],
    ["compose"],
]
HERE = [
    ["query", "--id", 99],
    ["query", "dog", "--min-cosine", 7],
    ["query", "dog", "--model", "bundled"],
    ["query", "dog", "--model", "/none"],
    ["query", "--image", "gone.png"],
    ["query", "--audio", "my médïa/one.png"],
    ["query", "others/broken.png"],
    ["query", "red " * 10_000],
    ["query", "dog", "-n", 20_000],
]
NEITHER = [
    ["query"],
    ["query", " "],
    ["query", "dog", "--json", "--csv"],
    ["query", "brid.jpg"],
    ["query", "my médïa/onee.png"],
    ["query", "others/program.exe"],
    ["query", "dog", "--tpo", 3],
]


@pytest.mark.parametrize("words", SERVED, ids=lambda words: " ".join(map(str, words))[:60])
def test_the_output_is_the_same_to_the_byte(run, opened, words):
    there = run(*words)
    assert opened == []
    assert there == run(*words, server="off")
    assert len(opened) == 1


@pytest.mark.parametrize("words", HERE + NEITHER, ids=lambda words: " ".join(map(str, words))[:60])
def test_what_the_server_cannot_say_as_this_process_does_is_done_here(run, opened, words):
    there, count = run(*words), len(opened)
    assert count > 0 or words in NEITHER
    assert there == run(*words, server="off")
    assert len(opened) == 2 * count


def test_the_page_is_the_same(run, opened, tmp_path):
    pages = []
    for server in ("auto", "off"):
        there = run("query", "dog", "--html", tmp_path / "page.html", server=server)
        pages.append((there, (tmp_path / "page.html").read_bytes()))
    assert pages[0] == pages[1]
    assert len(opened) == 1


def test_logs_are_of_the_same_level(run):
    there, here = (run("query", "dog", "-v", server=server) for server in ("auto", "off"))
    for printed in (there, here):
        assert len(re.findall(r"^\d+ ms INFO searched \d+ items in \d", printed.stderr, re.M)) == 1
    assert there.stdout == here.stdout


@pytest.mark.parametrize("form", [[], ["--json"], ["--csv"], ["--paths"]])
def test_the_client_imports_nothing_heavy(world, form):
    program = (
        "import sys\nfrom xsearch.cli import main\ntry: main()\n"
        f"finally: print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    words = [sys.executable, "-c", program, "query", "A dog on the beach.", *form, "-c", world.collection]
    done = subprocess.run(words, capture_output=True, check=True, text=True)
    assert done.stdout
    assert done.stderr.splitlines()[-1] == "[]"


@pytest.fixture
def reason(run, opened) -> Callable[..., str]:
    """Why the server is not used; the answer is that of this process."""

    def reason(*words: object) -> str:
        opened.clear()
        expected = run("query", "dog", server="off")
        printed = run("query", "dog", *words)
        assert printed == expected
        assert len(opened) == 2
        (line,) = re.findall(
            r"INFO not searched by the server: (.*)", run("query", "dog", "-v", *words).stderr
        )
        return line

    return reason


def test_another_server_is_not_used(reason, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(identity, "code", lambda: "another")
        assert "as it was before a change" in reason()
    with monkeypatch.context() as patch:
        patch.setattr(identity, "user", lambda: 4711)
        assert "as the user" in reason()
    with monkeypatch.context() as patch:
        patch.setenv("XSEARCH_DECODE_TIMEOUT_S", "99")
        assert "settings" in reason()
    assert "its dtype is auto, not fp32" in reason("--dtype", "fp32")
    assert "its device is auto, not cpu" in reason("--device", "cpu")


def test_a_copy_of_the_collection_has_no_server(world, opened, tmp_path):
    shutil.copytree(world.collection, tmp_path / "copy")
    result = CliRunner().invoke(app, ["query", "dog", "-v", "-c", str(tmp_path / "copy")])
    assert result.exit_code == 0
    assert "not searched by" not in result.stderr
    assert len(opened) == 1


@pytest.fixture
def meeting(world, tmp_path, monkeypatch) -> Path:
    """Where a server would wait, in a folder of this test."""
    (tmp_path / "m").mkdir(mode=0o700)
    monkeypatch.setattr(rendezvous, "sockets", lambda: tmp_path / "m")
    place = rendezvous.address(world.collection)
    assert place is not None
    return place


@pytest.mark.parametrize("left", ["socket", "file", "folder"])
def test_what_a_server_has_left_behind_is_harmless(run, opened, meeting, left):
    if left == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(meeting))
    elif left == "file":
        meeting.touch()
    else:
        meeting.mkdir()
    assert run("query", "dog") == run("query", "dog", server="off")
    assert len(opened) == 2


def test_a_socket_that_others_can_reach_is_not_used(run, opened, meeting):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(meeting))
        listener.listen()
        meeting.parent.chmod(0o755)
        assert run("query", "dog") == run("query", "dog", server="off")
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_a_server_that_hangs_is_not_waited_for(run, meeting, monkeypatch):
    monkeypatch.setattr(served, "PATIENCE_S", 0.1)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(meeting))
        listener.listen()
        assert run("query", "dog") == run("query", "dog", server="off")


@pytest.mark.parametrize("content", [b"[]", b"{}", b'{"collections": [{}]}', b'{"collections": 1}', b"["])
def test_a_server_of_another_release_may_say_anything(run, meeting, content):
    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1 << 16)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(content), content))

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(meeting))
        listener.listen()
        thread = threading.Thread(target=serve, args=[listener])
        thread.start()
        there = run("query", "dog")
        thread.join()
    assert there == run("query", "dog", server="off")


def test_a_server_can_be_named(world, run, opened, monkeypatch):
    monkeypatch.setenv("XSEARCH_TOKEN", TOKEN)
    for words in (["query", "dog", "--json"], ["query", "others/new.png"], ["query", "my beech"]):
        here = run(*words, server="off")
        opened.clear()
        assert run(*words, server=world.url) == here
        monkeypatch.setenv("XSEARCH_SERVER", world.url)
        result = CliRunner().invoke(app, [*words, "-c", str(world.collection)])
        monkeypatch.delenv("XSEARCH_SERVER")
        assert (result.exit_code, result.stdout_bytes, result.stderr) == here
        assert opened == []
    monkeypatch.setenv("XSEARCH_DECODE_TIMEOUT_S", "99")  # of the server is its own affair
    assert run("query", "dog", server=world.url).code == 0


def test_a_server_that_is_named_is_used_or_says_why_not(world, run, opened, monkeypatch, tmp_path):
    def problem(*words: object, code: int = 2, server: str = world.url) -> str:
        printed = run("query", "dog", *words, server=server)
        assert (printed.code, printed.stdout, opened) == (code, b"", [])
        (line,) = printed.stderr.splitlines()
        return line

    assert "Bearer" in problem(code=1)
    monkeypatch.setenv("XSEARCH_TOKEN", "not the token that it expects")
    assert "Bearer" in problem(code=1)
    monkeypatch.setenv("XSEARCH_TOKEN", TOKEN)
    assert "expected auto, off, or a URL" in problem(server="yes")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert "refused" in problem(server=f"http://127.0.0.1:{port}", code=1)
    assert "it uses the model" in problem("--model", "bundled")
    assert "its device is auto, not cuda" in problem("--device", "cuda")
    shutil.copytree(world.collection, tmp_path / "copy")
    assert f"it serves {world.collection}, not {tmp_path}/copy" in problem("-c", tmp_path / "copy")
    assert "--server off" in problem("-c", tmp_path / "none")
    monkeypatch.setattr(identity, "user", lambda: 4711)
    assert "it runs as the user" in problem()
    monkeypatch.setattr("xsearch.__version__", "9.9", raising=False)
    assert "and this is 9.9" in problem()


def test_a_server_elsewhere_needs_no_collection_here(world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XSEARCH_TOKEN", TOKEN)
    monkeypatch.setattr("xsearch.nearest.user_collection", lambda: tmp_path / "none")
    result = CliRunner().invoke(app, ["query", "dog", "--paths", "--server", world.url])
    assert result.exit_code == 0
    assert str(world.media) in result.stdout


def test_a_collection_that_grows_is_searched_as_it_is_now(world, run, opened):
    asked = ["query", "dog", "-n", 100, "--json"]
    before = run(*asked)
    Image.new("RGB", (24, 24), "purple").save(world.media / "later.png")
    open_here(world.collection).ingest(world.media)
    after = run(*asked)
    assert len(json.loads(after.stdout)) == len(json.loads(before.stdout)) + 1
    assert opened == []
    assert after == run(*asked, server="off")


def test_without_a_collection_that_of_the_demo_is_served(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert serve._default_collection() == "indexes/default"
    Collection.create(Path("xsearch-demo/collection"), backend=FakeBackend())
    assert serve._default_collection() == "xsearch-demo/collection"
    Collection.create(Path("indexes/default"), backend=FakeBackend())
    assert serve._default_collection() == "indexes/default"
