"""Sidecars, tables, ignore files and globs: columns and verdicts that make sense, or UsageError."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.fuzz.mutation import CELLS, JSON, altered, fuzz, mutated
from xsearch.errors import UsageError
from xsearch.media import matches
from xsearch.media.exclusion import Exclusion, IgnoreFile
from xsearch.metadata import Files, Metadata


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("metadata")
    (folder / "loop").symlink_to("loop")
    return folder


def check_columns(columns: dict[str, object]) -> None:
    for name, value in columns.items():
        assert name.encode().strip()
        assert isinstance(value, None | bool | int | float | str)


@st.composite
def descriptions(draw: st.DrawFn) -> bytes:
    names = draw(st.lists(st.text(max_size=5) | st.sampled_from(["path", "id", " Year "]), max_size=5))
    cell = st.text(max_size=9) | CELLS | st.sampled_from(["a.png", "../a.png", "loop/a.png", "/", "."])
    rows = draw(st.lists(st.lists(cell, max_size=6), max_size=5))
    return "\n".join(",".join(cells) for cells in [["path", *names], *rows]).encode()


@fuzz
@given(
    descriptions() | mutated("table") | st.binary(max_size=200),
    st.sampled_from(["csv", "tsv", "jsonl", "json", "parquet"]),
)
@example(b"path,year\na\0.png,1", "csv")
@example(b"path,year\nloop/a.png,1", "csv")
@example(b"[" * 100_000, "json")
def test_tables(folder: Path, data: bytes, suffix: str) -> None:
    table = folder / f"about.{suffix}"
    table.write_bytes(data)
    with contextlib.suppress(UsageError):
        check_columns(Metadata(Files([str(folder / "a.png")]), (), table).of(folder / "a.png"))


@fuzz
@given(
    altered("sidecar").map(json.dumps).map(str.encode)
    | mutated("sidecar")
    | st.dictionaries(st.text(), JSON).map(json.dumps).map(str.encode)
    | st.text().map(lambda text: text.encode(errors="surrogatepass"))
)
@example(b"[" * 100_000)
@example(b'{"a": ' + b"[" * 900 + b"]" * 900 + b"}")
@example(b'{"\\ud800": "\\udfff", " ": 1}')
@example(b'{"a": ' + b"9" * 5_000 + b"}")
def test_sidecars(folder: Path, data: bytes) -> None:
    (folder / "a.json").write_bytes(data)
    with contextlib.suppress(UsageError):
        check_columns(Metadata(Files([])).of(folder / "a.png"))


PATHS = ["a.png", "raw/a.tmp", "old/2019 a/b.png", "x/cache/y/z.png", "keep.tmp", "a" * 200, "é/ü.png"]


@fuzz
@given(mutated("ignore"), st.sampled_from(PATHS))
@example(b"**/" * 40 + b"a", "x/" * 20 + "b")
@example(b"*" * 100 + b"b", "a" * 200)
@example(b"[" * 300, "a.png")
def test_ignore_files(folder: Path, data: bytes, name: str) -> None:
    ignore = IgnoreFile(folder / ".xsearchignore", data.decode(errors="replace"))
    assert all(len(problem.splitlines()) == 1 for problem in ignore.problems)
    path = folder / name
    line = ignore.verdict(path, is_folder=False)
    skip = Exclusion().skip(path, folder, [ignore])
    assert (skip is None) == (line is None or line.includes)
    (folder / ".xsearchignore").write_bytes(data)
    Exclusion().ignore_files(folder, folder)


GLOBS = st.lists(
    st.sampled_from(["*", "**", "**/", "?", "[", "]", "[!", "a", "/", ".", "..", "~", "://", "é"]), min_size=1
)


@fuzz
@given(GLOBS.map("".join) | st.text(min_size=1, max_size=20), st.sampled_from(PATHS))
@example("**/" * 30 + "a", "x/" * 20 + "b")
@example("*" * 200 + "b", "a" * 200)
def test_globs(folder: Path, glob: str, name: str) -> None:
    with contextlib.suppress(UsageError):
        assert matches(folder / name, folder, glob) in (True, False)
        Exclusion([glob]).skip(folder / name, folder)
