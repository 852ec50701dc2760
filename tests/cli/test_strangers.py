"""Names, metadata and errors of strangers: no command prints what a terminal obeys, or what nobody sees."""

import csv
import io
import json
import os
import sys
import threading
import unicodedata

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from xsearch.cli.app import app
from xsearch.cli.hits import Form, print_hits
from xsearch.query import Hits
from xsearch.types import Hit, Modality

HOSTILE = "\x1b]0;t\x07\x1b[2J\x1b[31m\x9b5m\u202egpj\u2066\u200b\u2028\u061c\ufeff\U000e0041\x7f\r\ne"
HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")


def hidden_in(text, allowed="\n"):
    return {char for char in text if unicodedata.category(char) in HIDDEN and char not in allowed}


@pytest.fixture(scope="module")
def folder(run, model, tmp_path_factory):
    """A folder in which everything has a hostile name, and a collection of it and of a hostile import."""
    folder = tmp_path_factory.mktemp("hostile")
    media = folder / f"m{HOSTILE}"
    (media / "media").mkdir(parents=True)  # which `demo` refuses to write to
    Image.new("RGB", (8, 8)).save(media / f"a{HOSTILE}.png")
    (media / f"b{HOSTILE}.txt").write_text(f"a dog {HOSTILE}", encoding="utf-8")
    (media / f"c{HOSTILE}.txt").write_bytes((media / f"b{HOSTILE}.txt").read_bytes())
    (media / f"broken{HOSTILE}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(9))
    (media / f"other{HOSTILE}.exe").write_bytes(b"MZ")
    (media / f"gone{HOSTILE}.jpg").symlink_to(media / HOSTILE)
    (media / f"a{HOSTILE}.json").write_text(json.dumps({"title": HOSTILE, HOSTILE: [HOSTILE]}))
    (media / f"b{HOSTILE}.json").write_text(f"{{{HOSTILE}")
    (media / "metadata.csv").write_text(f'path,x\n"{HOSTILE.strip()}",1\n', encoding="utf-8")
    run("ingest", media, "-c", folder / "c", "--exclude", f"*{HOSTILE}.tmp")
    rng = np.random.default_rng(0)
    rows = {"path": [HOSTILE, f"https://{HOSTILE}"], "modality": ["image", "text"], "text": [HOSTILE] * 2}
    rows |= {HOSTILE: [HOSTILE] * 2, "vector": rng.standard_normal((2, 32)).tolist()}
    pq.write_table(pa.table(rows), folder / f"i{HOSTILE}.parquet")
    run("import", folder / f"i{HOSTILE}.parquet", "-c", folder / "c", "--model", model)
    return folder


def commands(folder):
    """Every command, and every form of its output; those that are refused too."""
    media, name = folder / f"m{HOSTILE}", f"n{HOSTILE}"
    at = ["-c", folder / "c"]
    searches = ["a dog", "--json"], ["a dog", "--csv"], ["a dog"], [HOSTILE, "--anyway"], ["a dog", "--paths"]
    yield from (["query", *words, *at] for words in searches)
    yield from (["query", *words, *at] for words in ([f"./{name}"], ["--image", name], ["--where", name]))
    yield ["-v", "query", media / f"a{HOSTILE}.png", "--html", folder / f"p{HOSTILE}.html", *at]
    yield ["compose", "--text", f"a dog {HOSTILE}", "--plus-image", media / f"a{HOSTILE}.png", *at]
    yield from (["ls", *words, *at] for words in ([], ["--json"], ["--sort", "date"], ["--duplicates"]))
    yield from (["skipped", *words, *at] for words in ([], ["--all"], ["--json"]))
    yield from (["info", *words, *at] for words in ([], ["--json"], ["--collection", name]))
    yield from (["index", *words, *at] for words in (["info"], ["plan"], ["build"], ["tune"]))
    yield from ([word, *at] for word in ("verify", "compact"))
    yield from (["rm", *words, *at] for words in ([name], [media, "--dry-run"], ["1"]))
    yield from (["ingest", *words, *at] for words in ([name], [media], [media, "--dry-run"]))
    yield ["ingest", media, "--json-progress", *at]
    yield ["ingest", media, "-c", folder / f"new{HOSTILE}"]
    yield ["export", folder / f"o{HOSTILE}.csv", *at]
    yield ["export", folder / f"o{HOSTILE}.txt", *at]
    yield ["import", folder / f"i{HOSTILE}.parquet", "--dry-run", *at]
    yield from (["import", folder / word, *at] for word in (name, f"i{HOSTILE}"))
    yield from (["models", word, name] for word in ("info", "verify", "pull", "rm"))
    yield ["models", "list"]
    yield ["doctor", "--model", name, *at]
    yield ["eval", "collection", "--label", HOSTILE, *at]
    yield ["eval", "pairs", name]
    yield ["train", name, "--recipe", HOSTILE]
    yield ["demo", "--out", media]
    yield from ([name], ["models", name], ["query", f"--{name}"], ["query", "a", "--rank", HOSTILE])


def terminal_output(words, model):
    """Run a command whose stdout and stderr are one terminal; return what that is sent."""
    ours, its = os.openpty()
    received = []

    def receive():
        try:
            while more := os.read(ours, 1 << 16):
                received.append(more)
        except OSError:  # the other end is closed
            pass

    reader = threading.Thread(target=receive)
    reader.start()
    streams = sys.stdout, sys.stderr
    with (
        os.fdopen(its, "w", encoding="utf-8", buffering=1) as terminal,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("XSEARCH_MODEL", str(model))
        patch.setenv("TERM", "dumb")  # Rich then sends no colours
        sys.stdout = sys.stderr = terminal
        try:
            app([str(word) for word in words])
        except SystemExit:
            pass
        finally:
            sys.stdout, sys.stderr = streams
    reader.join()
    os.close(ours)
    return b"".join(received).decode()


def test_no_command_prints_what_a_terminal_obeys(folder, model):
    runner = CliRunner()
    for words in commands(folder):
        asked = [str(word) for word in words]
        result = runner.invoke(app, asked, env={"XSEARCH_MODEL": str(model)})
        assert isinstance(result.exception, SystemExit | None), (words, result.exception)
        if "--paths" not in asked:
            assert hidden_in(result.output) == set(), words
        assert hidden_in(terminal_output(words, model), "\r\n") == set(), words


def test_json_is_what_is_stored_and_a_pipe_gets_the_bytes_of_paths(run, folder):
    items = json.loads(run("ls", "--json", "-c", folder / "c").stdout)
    paths = {item["path"] for item in items}
    assert {HOSTILE, str(folder / f"m{HOSTILE}" / f"a{HOSTILE}.png")} < paths
    piped = run("query", "a dog", "--paths", "--top", 99, "-c", folder / "c").stdout_bytes
    assert all(path.encode() + b"\n" in piped for path in paths)


def test_a_path_that_is_not_utf8_is_piped_as_it_is(capfdbinary):
    name = os.fsdecode(b"/caf\xe9\xff.png")
    print_hits(Hits([Hit(1, 1.0, 1.0, None, None, 1, name, Modality.IMAGE)]), Form.PATHS)
    assert capfdbinary.readouterr().out == b"/caf\xe9\xff.png\n"


FORMULAS = [
    "=1+1",
    "+1+1",
    "-1+1",
    "@SUM(1)",
    "\t=1",
    "\r=1",
    "\n=1",
    " =1",
    "\ufeff=1",
    "\uff1d1",
    "\uff20a",
]
HARMLESS = ["-1.5", "+4", "-1e-5", "a=1", "1-1", "", "'=1"]


@pytest.mark.parametrize("command", ["query", "export"])
def test_cells_of_csv_are_no_formulas_unless_asked_for(run, model, tmp_path, command):
    texts = [*FORMULAS, *HARMLESS]
    rows = {"path": [f"-{i}" for i in range(len(texts))], "modality": ["image"] * len(texts), "@a": texts}
    vectors = np.random.default_rng(0).standard_normal((len(texts), 32)).tolist()
    pq.write_table(pa.table(rows | {"vector": vectors}), tmp_path / "x.parquet")
    at = ["-c", tmp_path / "c"]
    run("import", tmp_path / "x.parquet", "--model", model, *at)

    def cells(*options):
        if command == "query":
            printed = run("query", "dog", "--csv", "--top", 99, *options, *at).stdout
        else:
            run("export", tmp_path / f"{len(options)}.csv", *options, *at)
            printed = (tmp_path / f"{len(options)}.csv").read_bytes().decode()
        return sorted(csv.DictReader(io.StringIO(printed, newline="")), key=lambda row: int(row["id"]))

    escaped, kept = cells(), cells("--keep-formulas")
    for row, plain, text in zip(escaped, kept, texts, strict=True):
        assert row["'@a"] == ("'" if text in FORMULAS else "") + plain["@a"]
        assert row["path"] == plain["path"]  # a negative number
        assert command == "query" or plain["@a"] == text
    if command == "query":
        assert any(row["cosine"].startswith("-") for row in escaped)


def test_a_page_opens_nothing_that_only_an_import_names(run, model, media, tmp_path):
    (tmp_path / "secret.txt").write_text("a secret")
    rows = {"path": [str(media / "one.png"), str(tmp_path / "secret.txt")], "modality": ["image", "text"]}
    vectors = np.random.default_rng(0).standard_normal((2, 32)).tolist()
    pq.write_table(pa.table(rows | {"vector": vectors}), tmp_path / "x.parquet")

    def page(*options, trust=()):
        run("import", tmp_path / "x.parquet", "--model", model, "-c", tmp_path / "c", *trust)
        run("query", "dog", "-c", tmp_path / "c", "--html", tmp_path / "x.html", *options)
        return (tmp_path / "x.html").read_text()

    html = page()
    assert "a secret" not in html
    assert "data:image" not in html
    assert html.count("only an import names its file") == 2
    assert "data:image" in page("--trust-paths")
    run("ingest", tmp_path / "secret.txt", media / "one.png", "-c", tmp_path / "c")
    html = page()
    assert "data:image" in html
    assert "a secret" in html
    assert "only an import" not in html
    run("rm", "--where", "true", "--yes", "-c", tmp_path / "c")
    html = page(trust=["--trust-paths"])
    assert "data:image" in html
    assert "a secret" not in html  # a text is what is stored
