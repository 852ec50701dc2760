"""A tiny collection that has everything: segments, removed items, skipped files, both indexes, a calibration.

python -m tests.make_fixture tests/fixtures/format-N    # before the format changes, to keep the last one
"""

from __future__ import annotations

import hashlib
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa

from tests.fakes import DIM, WORDS, FakeBackend
from xsearch.index import build, make_plan
from xsearch.query.calibration import calibrate
from xsearch.store import Store
from xsearch.types import Modality, Sample
from xsearch.words import WordIndex

__all__ = ["make"]


def make(path: Path) -> Store:
    """Ten texts and five pictures, of which a text is removed. Only the uuids differ from run to run."""
    backend = FakeBackend()
    words = [*WORDS, *map(" ".join, pairwise([*WORDS, WORDS[0]]))]
    texts = [Sample(Modality.TEXT, text, text=text) for text in words]
    pictures = [Sample(Modality.IMAGE, np.roll([250, 20 * i, 0], i)) for i in range(5)]
    store = Store.create(path, backend.fingerprint, "bundled")
    with store.writer() as writer:
        for samples in (texts, pictures):
            paths = [f"/media/{sample.modality}-{i}" for i, sample in enumerate(samples)]
            items = {
                "path": paths,
                "modality": [str(sample.modality) for sample in samples],
                "bytes": [100 + i for i in range(len(samples))],
                "mtime_ns": [10**18] * len(samples),
                "sha256": [hashlib.sha256(path.encode()).hexdigest() for path in paths],
                "text": pa.array([sample.text for sample in samples], pa.string()),
                "year": [2000 + i for i in range(len(samples))],
            }
            writer.add(pa.table(items), backend.embed(samples))
            writer.commit()
        writer.remove([3])
        writer.skip([{"path": "/media/bad", "reason": "torn", "error": "Unreadable", "when": "2025-01-01"}])
        writer.commit()
        seen, folder = writer.snapshot, writer.new_index_folder()
        plan = make_plan(len(seen), DIM, device="cpu", recipe="IVF1,Flat")
        build(plan, seen.vectors(seen.ids), seen.blocks()).save(folder)
        writer.set_index(folder)
        words = writer.new_words_file()
        WordIndex.write(words, seen)
        writer.set_words(words)
        writer.set_calibration(calibrate(seen).to_dict())
        writer.commit()
    return store


if __name__ == "__main__":
    make(Path(sys.argv[1]))
