"""What the tests of all readers share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from xsearch.media import identify, read
from xsearch.types import Modality, Sample


@pytest.fixture
def samples() -> Callable[..., list[Sample]]:
    """All samples of a file, of the detected or the requested kind."""

    def of(path: Path, kind: Modality | None = None) -> list[Sample]:
        return list(read(identify(path, kinds=[(kind, "*")] if kind else [])))

    return of
