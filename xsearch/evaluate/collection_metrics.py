"""Evaluation on a labelled collection: retrieval by label, between modalities and from the label words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from xsearch.errors import UsageError
from xsearch.evaluate.evaluation import Evaluation, gaps, matrix
from xsearch.evaluate.metrics import nearest
from xsearch.evaluate.zeroshot import default_templates, text_prototypes
from xsearch.types import Modality

if TYPE_CHECKING:
    from xsearch.backend import Backend
    from xsearch.store import Snapshot

__all__ = ["evaluate_collection"]

QUERIES = 1_000  # per modality, at most


def evaluate_collection(
    backend: Backend,
    snapshot: Snapshot,
    label: str,
    *,
    templates: Sequence[str] = (),
    classes: Mapping[str, Sequence[str]] | None = None,
    queries: int = QUERIES,
) -> Evaluation:
    """P@1 and P@10 between all modalities, and of the label words as queries.

    label: a metadata column; items with equal values are relevant to each other. Items without a value are
    excluded, and all but the first item of a file. queries: at most this many per modality, drawn at random.
    templates, classes: as for `text_prototypes`; by default the model's templates and the labels themselves.
    Raises UsageError if no item has a label.
    """
    columns = snapshot.table(["path", label])
    cells, paths = columns[label].to_pylist(), columns["path"].to_pylist()
    rng = np.random.default_rng(0)
    vectors: dict[Modality, np.ndarray] = {}
    labels: dict[Modality, np.ndarray] = {}
    for kind in snapshot.counts():
        rows = np.flatnonzero(snapshot.modalities == kind)
        first = {paths[row]: row for row in rows[::-1].tolist() if cells[row] is not None}
        if first:
            shuffled = rng.permutation(np.sort(list(first.values())))  # the first ones are the queries
            vectors[kind] = snapshot.vectors(snapshot.ids[shuffled])
            labels[kind] = np.array([str(cells[row]) for row in shuffled])
    if not vectors:
        raise UsageError(f"{snapshot.path}: no item has a {label}; give another column with --label")
    names = np.unique(np.concatenate(list(labels.values())))
    named = {name: list((classes or {}).get(name, [name.replace("_", " ")])) for name in names.tolist()}
    words = []
    for kind in vectors:
        prototypes = text_prototypes(backend, named, templates or default_templates(backend, kind))
        present = np.isin(names, labels[kind])
        about = {"answer": str(kind), "queries": int(present.sum()), "items": len(vectors[kind])}
        words.append(about | nearest(prototypes[present], vectors[kind], (names[present], labels[kind])))
    figures = {
        "label": label,
        "samples": {str(kind): len(rows) for kind, rows in vectors.items()},
        "words": words,
        "matrix": matrix(vectors, lambda a, b: (labels[a][:queries], labels[b]), queries=queries),
        "gap": gaps(vectors),
    }
    return Evaluation(figures, vectors)
