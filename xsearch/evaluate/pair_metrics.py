"""Evaluation on a pair table: retrieval between the two sides, zero-shot classification by label."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xsearch.errors import MediaError, UsageError
from xsearch.evaluate.evaluation import Evaluation, gaps, matrix, relation
from xsearch.evaluate.metrics import Relevant, composition, retrieval
from xsearch.evaluate.zeroshot import class_truth, classify, default_templates, text_prototypes
from xsearch.types import Modality, Sample

if TYPE_CHECKING:
    from xsearch.backend import Backend
    from xsearch.pairs import Pair

__all__ = ["evaluate_pairs"]

BATCH = 256  # samples that are decoded before they are embedded
MAX_REASONS = 5  # of skipped media

Kinds = tuple[Modality, Modality]
Links = dict[Kinds, list[tuple[int, int]]]


def evaluate_pairs(
    backend: Backend,
    pairs: Iterable[Pair],
    *,
    templates: Sequence[str] = (),
    classes: Mapping[str, Sequence[str]] | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Evaluation:
    """Retrieval in both directions for each modality of partners; with labels also zero-shot and the matrix.

    A medium that occurs in several pairs is embedded once, and all its partners are relevant to it. Partners
    of two modalities that share a picture are paired with each other, and partners with the texts in a column
    `captions`. In the matrix, items that share a label are relevant. A pair with a `plus` is a triple, for
    composition: the sum of picture and plus is the query, the partners of all triples are the items.

    templates, classes: as for `text_prototypes`; by default the model's templates and the labels themselves.
    progress: called with the number of pairs read. Media that cannot be decoded are counted and skipped.
    Raises UsageError if no pair can be read, or a label is not among `classes`.
    """
    media = _Media(backend)
    links: Links = defaultdict(list)
    triples: dict[Kinds, list[tuple[int, int, int]]] = defaultdict(list)
    for done, pair in enumerate(pairs, start=1):
        if classes and pair.label and (missing := set(pair.label.split("|")) - classes.keys()):
            raise UsageError(f"the prompts have no names for the class {missing.pop()}; add it to the file")
        other = media.add(pair.modality, pair.other, pair.partner, pair.label)
        if pair.image is not None:
            picture = media.add(Modality.IMAGE, pair.image, pair.picture, pair.label)
            if pair.plus is None or pair.plus_modality is None:
                _append(links, (Modality.IMAGE, pair.modality), (picture, other))
            else:
                plus = media.add(pair.plus_modality, pair.plus, pair.addend, None)
                if picture is not None and plus is not None and other is not None:
                    triples[pair.plus_modality, pair.modality].append((picture, plus, other))
        captions = pair.extra.get("captions") or []
        for text in [captions] if isinstance(captions, str) else captions:
            described = media.add(Modality.TEXT, text, partial(Sample, Modality.TEXT, text, text=text), None)
            _append(links, (Modality.TEXT, pair.modality), (described, other))
        progress(done)
    for kinds, emergent in _emergent(links).items():
        links[kinds] += emergent
    vectors = media.vectors()
    if not vectors:
        raise UsageError(f"nothing to evaluate: no pair could be read; the first error: {media.skipped[:1]}")
    composed = {
        f"{name} -> {answer}": (share, len(rows))
        for (plus, answer), rows in triples.items()
        for name, share in _composition(vectors, plus, answer, np.array(rows)).items()
    }
    figures: dict[str, Any] = {
        "samples": {str(kind): len(rows) for kind, rows in vectors.items()},
        "skipped": len(media.skipped),
        "skipped_first": media.skipped[:MAX_REASONS],
        "retrieval": _retrieval(vectors, links),
        "composition": {name: share for name, (share, _) in composed.items()},
        "composition_queries": {name: count for name, (_, count) in composed.items()},
    }
    labels = {kind: np.array(media.labels[kind], object) for kind in vectors}
    labelled = {kind: np.flatnonzero(of_kind != None) for kind, of_kind in labels.items()}  # noqa: E711
    known = {kind: labels[kind][rows].tolist() for kind, rows in labelled.items() if len(rows)}
    with_label = {kind: vectors[kind][labelled[kind]] for kind in known}
    figures["zero_shot"] = _zero_shot(backend, with_label, known, templates, classes)
    if len(with_label) > 1:
        figures["matrix"] = matrix(with_label, _same_label(known))
    return Evaluation(figures | {"gap": gaps(vectors)}, vectors)


class _Media:
    """Distinct media by modality, embedded in batches."""

    def __init__(self, backend: Backend) -> None:
        self.labels: dict[Modality, list[str | None]] = defaultdict(list)
        self.skipped: list[str] = []
        self._backend = backend
        self._rows: dict[tuple[Modality, str | bytes], int | None] = {}
        self._pending: list[Sample] = []
        self._vectors: dict[Modality, list[np.ndarray]] = defaultdict(list)

    def add(
        self, kind: Modality, source: object, decode: Callable[[], Sample], label: str | None
    ) -> int | None:
        """The row of a medium among those of its modality; None if it cannot be decoded."""
        key = kind, _identity(source)
        if key not in self._rows:
            try:
                self._pending.append(decode())
                self._rows[key] = len(self.labels[kind])
                self.labels[kind].append(None)
            except MediaError as error:
                self._rows[key] = None
                self.skipped.append(str(error))
            if len(self._pending) == BATCH:
                self._embed()
        row = self._rows[key]
        if row is not None and label is not None:
            known = self.labels[kind][row]
            merged = f"{known}|{label}" if known else label
            self.labels[kind][row] = "|".join(dict.fromkeys(merged.split("|")))
        return row

    def vectors(self) -> dict[Modality, np.ndarray]:
        """float32 [N, dim] of each modality."""
        self._embed()
        return {kind: np.concatenate(self._vectors[kind]) for kind in Modality if self._vectors[kind]}

    def _embed(self) -> None:
        if self._pending:
            kinds = np.array([sample.modality for sample in self._pending])
            vectors = self._backend.embed(self._pending)
            for kind in np.unique(kinds):
                self._vectors[Modality(kind)].append(vectors[kinds == kind])
            self._pending = []


def _identity(source: object) -> str | bytes:
    """A key that is equal for equal media."""
    if isinstance(source, str | Path):
        return str(source)
    return blake2b(source.tobytes() if isinstance(source, np.ndarray) else source, digest_size=16).digest()  # type: ignore[arg-type]


def _append(links: Links, kinds: tuple[Modality, Modality], link: tuple[int | None, int | None]) -> None:
    a, b = link
    if a is not None and b is not None:
        links[kinds].append((a, b))


def _emergent(links: Links) -> Links:
    """Links between partners of different modalities that share a picture."""
    partners: dict[Modality, dict[int, list[int]]] = {}
    for (hub, kind), pairs in links.items():
        if hub is Modality.IMAGE and kind is not Modality.IMAGE:
            partners[kind] = defaultdict(list)
            for picture, other in pairs:
                partners[kind][picture].append(other)
    return {
        (a, b): [(x, y) for picture in of_a for x in of_a[picture] for y in partners[b].get(picture, ())]
        for a, of_a in partners.items()
        for b in partners
        if list(Modality).index(a) < list(Modality).index(b) and of_a.keys() & partners[b].keys()
    }


def _retrieval(vectors: Mapping[Modality, np.ndarray], links: Links) -> list[dict[str, Any]]:
    rows = []
    for kinds, pairs in links.items():
        for side in (0, 1):
            a, b = kinds[side], kinds[1 - side]
            sources, targets = np.array(pairs, np.int64).T[[side, 1 - side]]
            queries, source = np.unique(sources, return_inverse=True)
            items, target = np.unique(targets, return_inverse=True)
            relevant: list[list[int]] = [[] for _ in queries]
            for query, item in zip(source.tolist(), target.tolist(), strict=True):
                relevant[query].append(item)
            figures = retrieval(vectors[a][queries], vectors[b][items], [np.array(r) for r in relevant])
            about = {"query": str(a), "answer": str(b), "relation": relation(a, b), "items": len(items)}
            rows.append(about | figures)
    return rows


def _composition(
    vectors: Mapping[Modality, np.ndarray], plus: Modality, answer: Modality, triples: np.ndarray
) -> dict[str, float]:
    """triples: int64 [N, 3], rows of the pictures, of what is added to them, and of the relevant item."""
    pictures, added, targets = triples.T
    items, targets = np.unique(targets, return_inverse=True)
    parts = {"image": vectors[Modality.IMAGE][pictures], str(plus): vectors[plus][added]}
    return composition(parts, vectors[answer][items], (targets, np.arange(len(items))))


def _zero_shot(
    backend: Backend,
    vectors: Mapping[Modality, np.ndarray],
    labels: Mapping[Modality, list[str]],
    templates: Sequence[str],
    classes: Mapping[str, Sequence[str]] | None,
) -> list[dict[str, Any]]:
    """For each modality but text, among `classes`, or among its own labels if there are at least two."""
    rows = []
    for kind in vectors:
        named = classes or {name: [name.replace("_", " ")] for name in _names(labels[kind])}
        if kind is not Modality.TEXT and len(named) > 1:
            prototypes = text_prototypes(backend, named, templates or default_templates(backend, kind))
            truth = class_truth(labels[kind], list(named))
            rows.append({"modality": str(kind)} | classify(vectors[kind], prototypes, truth))
    return rows


def _names(labels: Iterable[str]) -> list[str]:
    return sorted({name for label in labels for name in label.split("|")})


def _same_label(labels: Mapping[Modality, list[str]]) -> Callable[[Modality, Modality], Relevant]:
    every = [label for of_kind in labels.values() for label in of_kind]
    if any("|" in label for label in every):
        names = _names(every)
        truth = {kind: class_truth(of_kind, names).astype(np.float32) for kind, of_kind in labels.items()}
        return lambda a, b: truth[a] @ truth[b].T > 0
    return lambda a, b: (np.array(labels[a]), np.array(labels[b]))
