"""A model on a pair table: does each picture find what belongs to it, and what its label says?"""

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
from xsearch.evaluate.zeroshot import class_truth, classify, text_prototypes, usual_templates
from xsearch.types import Modality, Sample

if TYPE_CHECKING:
    from xsearch.backend import Backend
    from xsearch.pairs import Pair

__all__ = ["evaluate_pairs"]

BATCH = 256  # samples that are decoded before they are embedded
TOLD = 5  # reasons of skipped media that are kept

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
    """Retrieval both ways for each kind of pair; with labels also zero-shot classification and the matrix.

    What is in several pairs is embedded once, and everything that it is paired with is a right answer. Two
    kinds of partners that share pictures are compared as well, and so is a partner with the texts in a column
    `captions`. In the matrix, what shares a label is right. A pair with a `plus` is a triple: picture and
    plus added up are to find the partner, among those of all triples, better than either of them alone.

    templates, classes: as for `text_prototypes`; without them the usual ones, and the labels themselves.
    progress: called with the number of pairs done. Media that cannot be decoded are counted and left out.
    """
    media = _Media(backend)
    links: Links = defaultdict(list)
    triples: dict[Kinds, list[tuple[int, int, int]]] = defaultdict(list)
    for done, pair in enumerate(pairs, start=1):
        if classes and pair.label and (missing := set(pair.label.split("|")) - classes.keys()):
            raise UsageError(f"the prompts have no names for the class {missing.pop()}; add some")
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
    for kinds, found in _emergent(links).items():
        links[kinds] += found
    vectors = media.vectors()
    if not vectors:
        raise UsageError(f"nothing to evaluate: no pair could be read; the first: {media.skipped[:1]}")
    figures: dict[str, Any] = {
        "samples": {str(kind): len(rows) for kind, rows in vectors.items()},
        "skipped": len(media.skipped),
        "skipped_first": media.skipped[:TOLD],
        "retrieval": _retrieval(vectors, links),
        "composition": {
            f"{name} -> {answer}": share
            for (plus, answer), rows in triples.items()
            for name, share in _composition(vectors, plus, answer, np.array(rows)).items()
        },
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
    """Different media by kind, embedded once each, some at a time."""

    def __init__(self, backend: Backend) -> None:
        self.labels: dict[Modality, list[str | None]] = defaultdict(list)
        self.skipped: list[str] = []
        self._embedder = backend
        self._rows: dict[tuple[Modality, str | bytes], int | None] = {}
        self._waiting: list[Sample] = []
        self._vectors: dict[Modality, list[np.ndarray]] = defaultdict(list)

    def add(
        self, kind: Modality, source: object, decode: Callable[[], Sample], label: str | None
    ) -> int | None:
        """The row of a medium among those of its kind; None if it cannot be decoded."""
        key = kind, _identity(source)
        if key not in self._rows:
            try:
                self._waiting.append(decode())
                self._rows[key] = len(self.labels[kind])
                self.labels[kind].append(None)
            except MediaError as problem:
                self._rows[key] = None
                self.skipped.append(str(problem))
            if len(self._waiting) == BATCH:
                self._embed()
        row = self._rows[key]
        if row is not None and label is not None:
            had = self.labels[kind][row]
            both = f"{had}|{label}" if had else label
            self.labels[kind][row] = "|".join(dict.fromkeys(both.split("|")))
        return row

    def vectors(self) -> dict[Modality, np.ndarray]:
        """float32 [N, dim] of each kind that there is."""
        self._embed()
        return {kind: np.concatenate(self._vectors[kind]) for kind in Modality if self._vectors[kind]}

    def _embed(self) -> None:
        if self._waiting:
            kinds = np.array([sample.modality for sample in self._waiting])
            vectors = self._embedder.embed(self._waiting)
            for kind in np.unique(kinds):
                self._vectors[Modality(kind)].append(vectors[kinds == kind])
            self._waiting = []


def _identity(source: object) -> str | bytes:
    """Equal for equal media."""
    if isinstance(source, str | Path):
        return str(source)
    return blake2b(source.tobytes() if isinstance(source, np.ndarray) else source, digest_size=16).digest()  # type: ignore[arg-type]


def _append(links: Links, kinds: tuple[Modality, Modality], link: tuple[int | None, int | None]) -> None:
    a, b = link
    if a is not None and b is not None:
        links[kinds].append((a, b))


def _emergent(links: Links) -> Links:
    """Between partners of different kinds that share a picture."""
    beside: dict[Modality, dict[int, list[int]]] = {}
    for (hub, kind), pairs in links.items():
        if hub is Modality.IMAGE and kind is not Modality.IMAGE:
            beside[kind] = defaultdict(list)
            for picture, other in pairs:
                beside[kind][picture].append(other)
    return {
        (a, b): [(x, y) for at in of_a for x in of_a[at] for y in beside[b].get(at, ())]
        for a, of_a in beside.items()
        for b in beside
        if list(Modality).index(a) < list(Modality).index(b) and of_a.keys() & beside[b].keys()
    }


def _retrieval(vectors: Mapping[Modality, np.ndarray], links: Links) -> list[dict[str, Any]]:
    rows = []
    for kinds, pairs in links.items():
        for way in (0, 1):
            a, b = kinds[way], kinds[1 - way]
            asking, answering = np.array(pairs, np.int64).T[[way, 1 - way]]
            queries, ask = np.unique(asking, return_inverse=True)
            items, answer = np.unique(answering, return_inverse=True)
            right: list[list[int]] = [[] for _ in queries]
            for query, item in zip(ask.tolist(), answer.tolist(), strict=True):
                right[query].append(item)
            figures = retrieval(vectors[a][queries], vectors[b][items], [np.array(r) for r in right])
            about = {"query": str(a), "answer": str(b), "relation": relation(a, b), "items": len(items)}
            rows.append(about | figures)
    return rows


def _composition(
    vectors: Mapping[Modality, np.ndarray], plus: Modality, answer: Modality, triples: np.ndarray
) -> dict[str, float]:
    """triples: int64 [N, 3], rows of the pictures, of what is added, and of what is to be found."""
    pictures, added, right = triples.T
    items, right = np.unique(right, return_inverse=True)
    parts = {"image": vectors[Modality.IMAGE][pictures], str(plus): vectors[plus][added]}
    return composition(parts, vectors[answer][items], (right, np.arange(len(items))))


def _zero_shot(
    backend: Backend,
    vectors: Mapping[Modality, np.ndarray],
    labels: Mapping[Modality, list[str]],
    templates: Sequence[str],
    classes: Mapping[str, Sequence[str]] | None,
) -> list[dict[str, Any]]:
    """Of every kind but text, among all `classes`, or the labels that there are of this kind if over one."""
    rows = []
    for kind in vectors:
        named = classes or {name: [name.replace("_", " ")] for name in _names(labels[kind])}
        if kind is not Modality.TEXT and len(named) > 1:
            prototypes = text_prototypes(backend, named, templates or usual_templates(backend, kind))
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
