"""Manifests, high-water marks and index plans: something that makes sense, or StoreError."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.fuzz.mutation import altered, fuzz, mutated
from tests.make_fixture import make
from xsearch.errors import StoreError, XsearchError
from xsearch.index import Index
from xsearch.integrity import verify
from xsearch.store.manifest import (
    FOLDERS,
    MARK,
    SEAL,
    Manifest,
    Mark,
    read_manifest,
    read_mark,
    write_manifest,
)
from xsearch.system.folder import Folder

NAMES = "|".join(f"{folder}/{name}" for folder, (name, _) in FOLDERS.items())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


def sealed(content: Any) -> bytes:
    """With a checksum that is right."""
    body = json.dumps(content).removesuffix("}").encode(errors="surrogatepass")
    return body + SEAL + f'"{hashlib.sha256(body).hexdigest()}"\n}}'.encode()


@fuzz
@given(altered("manifest").map(sealed) | mutated("manifest") | st.binary(max_size=99))
@example(b"[" * 100_000)
@example(b"5")
@example(b'{"format": ' + b"9" * 5_000 + b"}")
def test_manifests(folder: Path, data: bytes) -> None:
    (folder / "manifest.json").write_bytes(data)
    with contextlib.suppress(XsearchError):
        manifest = read_manifest(folder)
        assert isinstance(manifest, Manifest)
        assert all(re.fullmatch(NAMES, name) for name in manifest.files())
        assert all(re.fullmatch(NAMES, name) for name in manifest.previous)
        again = folder / "again"
        again.mkdir(exist_ok=True)
        write_manifest(Folder(again), manifest)
        assert read_manifest(again) == manifest
    with contextlib.suppress(XsearchError):
        verify(folder)


@fuzz
@given(
    st.fixed_dictionaries({"generation": st.integers() | st.text(), "next_id": st.integers()})
    | altered("plan")
)
def test_marks(folder: Path, content: Any) -> None:
    (folder / MARK).write_bytes(sealed(content) if isinstance(content, dict) else b"")
    with contextlib.suppress(StoreError):
        mark = read_mark(folder)
        assert isinstance(mark, Mark)
        assert min(mark.generation, mark.next_id) >= 0
    (folder / MARK).unlink()


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = make(tmp_path_factory.mktemp("plan") / "c").path
    (folder,) = (path / "index").iterdir()
    return folder


@fuzz
@given(altered("plan").map(json.dumps).map(str.encode) | mutated("plan"))
@example(b'{"covered": [[0, 4000000000000000000]]}')
@example(b'{"covered": [[9, 0]]}')
def test_plans(index: Path, data: bytes) -> None:
    (index / "plan.json").write_bytes(data)
    with contextlib.suppress(XsearchError):
        loaded = Index.load(index)
        assert len(loaded.ids) == 14
        _, ids = loaded.search(np.eye(16, dtype=np.float32)[:2], 3)
        assert set(ids.ravel()) <= {-1, *range(15)}
