"""A collection of a fake model, and its ingest in this process, which starts faster than decoders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.fakes import FakeBackend
from xsearch.collection import Collection
from xsearch.ingest import Report, ingest


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    return Collection.create(tmp_path / "index", backend=FakeBackend())


def fill(collection: Collection, *sources: str | Path, **options: Any) -> Report:
    return ingest(collection.store, sources, collection.backend, decoders=0, **options)
