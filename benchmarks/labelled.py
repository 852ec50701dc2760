"""A folder of real media with labels, as a collection: what each item shows, what it is worth to a query.

The folder has `labels.csv` with the columns path, modality, concept, concepts_all (separated by |) and
pair_id (files of one moment, such as a picture and its depth map, have the same).
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

import xsearch
from xsearch.media import absolute

__all__ = ["Corpus", "Label", "ndcg", "precision"]

COMMON = frozenset({"person"})  # in every other picture, which says little


@dataclass(frozen=True)
class Label:
    path: Path  # absolute
    modality: str
    concepts: frozenset[str]  # that it shows
    pair: str  # "" for none


@dataclass(frozen=True)
class Corpus:
    """A labelled folder and the collection of it."""

    collection: xsearch.Collection
    labels: dict[str, Label]  # by path, as stored

    @staticmethod
    def ingest(folder: Path, into: Path, model: str | None = None) -> Corpus:
        """Ingest the files of `folder` that its labels.csv lists into the collection `into`."""
        collection = xsearch.open(into, model, create=True)
        with (folder / "labels.csv").open(newline="", encoding="utf-8") as table:
            labels = [_label(folder, row) for row in csv.DictReader(table)]
        collection.ingest([label.path for label in labels])
        return Corpus(collection, {str(label.path): label for label in labels})

    @cached_property
    def ids(self) -> np.ndarray:
        """int64 [N], ascending"""
        return self.collection.snapshot().ids

    @cached_property
    def shown(self) -> list[Label]:
        """The label of each item, in the order of `ids`."""
        paths = self.collection.snapshot().items(self.ids, ["path"])["path"].to_pylist()
        return [self.labels[path] for path in paths]

    def files(self, *modalities: str) -> list[Label]:
        """The labels of all files in the collection, or of those of these modalities, by path."""
        labels = sorted(set(self.shown), key=lambda label: label.path)
        return [label for label in labels if not modalities or label.modality in modalities]

    def worth(self, concepts: Iterable[str], pair: str = "") -> np.ndarray:
        """What each item is worth to a query: int [N]. 2: it shows all concepts, or is its pair; 1: some."""
        asked = frozenset(concepts) - COMMON or frozenset(concepts)

        def of(label: Label) -> int:
            if (pair and label.pair == pair) or (asked and asked <= label.concepts):
                return 2
            return int(bool(asked & label.concepts))

        worth = {label: of(label) for label in set(self.shown)}
        return np.array([worth[label] for label in self.shown])


def ndcg(found: np.ndarray, worth: np.ndarray, top: int = 10) -> float:
    """nDCG@top with gains 2^worth - 1. found: rows, best first; worth: int [N]. NaN if nothing has worth."""
    gains = 2.0 ** np.asarray(worth) - 1
    ideal = _dcg(-np.sort(-gains)[:top])
    return _dcg(gains[found[:top]]) / ideal if ideal else float("nan")


def _dcg(gains: np.ndarray) -> float:
    """gains: of the answers, best first. (A dot product of BLAS depends on where they lie in memory.)"""
    return float((gains / np.log2(np.arange(len(gains)) + 2)).sum())


def precision(found: np.ndarray, worth: np.ndarray, top: int = 5) -> float:
    """Share of the first `top`, or of as many as are worth something, that are."""
    possible = min(top, int((worth > 0).sum()))
    return float((worth[found[:top]] > 0).sum() / possible) if possible else float("nan")


def _label(folder: Path, row: dict[str, str]) -> Label:
    concepts = {row["concept"], *row["concepts_all"].split("|")} - {""}
    return Label(absolute(folder / row["path"]), row["modality"], frozenset(concepts), row["pair_id"])
