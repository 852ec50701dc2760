"""The OpenAPI document: programs of others are written against it.

After a change that was meant: python -m tests.serve.test_contract > tests/serve/openapi.json
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from tests.fakes import FakeBackend
from xsearch.collection import Collection
from xsearch.serve.app import create_app
from xsearch.serve.settings import Settings

FROZEN = Path(__file__).with_name("openapi.json")


def document(folder: Path) -> str:
    collection = Collection.create(folder / "c", backend=FakeBackend())
    content = create_app([collection], Settings(cache=folder)).openapi()
    content["info"]["version"] = "any"
    return json.dumps(content, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def test_the_document_is_the_frozen_one(tmp_path: Path) -> None:
    assert document(tmp_path) == FROZEN.read_text(encoding="utf-8")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        print(document(Path(folder)), end="")
