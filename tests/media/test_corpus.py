"""588 real files of seven kinds, labelled by hand: every one is what its label says."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import pytest

from xsearch.media import read, walk
from xsearch.types import MediaFile, Modality

CORPUS = Path(__file__).parents[2].parent / "shared" / "media_corpus"
pytestmark = pytest.mark.skipif(not CORPUS.is_dir(), reason=f"no media corpus at {CORPUS}")
EACH = 3  # files of a kind to decode


@pytest.fixture(scope="module")
def found() -> list[MediaFile]:
    files = list(walk([CORPUS / "media"]))
    assert all(isinstance(file, MediaFile) for file in files)
    return files


def test_every_file_is_what_its_label_says(found):
    with (CORPUS / "labels.csv").open(encoding="utf-8", newline="") as table:
        labels = {CORPUS / row["path"]: row["modality"] for row in csv.DictReader(table)}
    kinds = {path: file.modality.value for file in found for path in (file.path, file.companion) if path}
    assert kinds == labels


def test_some_of_each_kind_can_be_read(found):
    by_kind = defaultdict(list)
    for file in sorted(found, key=lambda file: file.bytes):
        by_kind[file.modality].append(file)
    assert set(by_kind) == set(Modality)
    for kind, files in by_kind.items():
        for file in files[:: max(1, len(files) // EACH)][:EACH]:
            assert next(read(file)).modality is kind
