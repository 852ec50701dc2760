"""Does a person get the right thing first? Queries of every kind over one mixed collection of real media.

    python -m benchmarks.answers FOLDER                      # labelled: benchmarks/labelled.py; 2 minutes
    python -m benchmarks.answers FOLDER --json out.json --before earlier.json

The collection is FOLDER and generated scenes in six modalities. It is asked through the public search

- files: each file of FOLDER; own first: share of queries whose first answer is of the file itself. It is then
  left out, and the rest is worth 2 if it shows all that the file is labelled with or is its pair, 1 if some.
- words: WORDS in four phrasings. unreadable: share of the first five that are texts whose words the model
  does not know.
- scenes: other scenes; worth 1 for the subject and 1 for the place.
- sums: 30 of two files of FOLDER of different modalities, 20 of a picture and a sound of scenes, 10 of a file
  minus words. Worth 1 for each part; nothing for what shows the subtracted.
- absent: words of the model's vocabulary for what no file shows: share of queries that are said to have an
  answer, against that of WORDS.

and in two ways of peers over the same vectors: by plain cosine, and by reciprocal rank fusion of the
modalities (Cormack et al., SIGIR 2009). Prints Markdown; --before puts the figures of an earlier run beside.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa

import xsearch
from benchmarks import command
from benchmarks.labelled import COMMON, Corpus, ndcg, precision
from benchmarks.ranking import scene_worth
from xsearch import Query
from xsearch.derive import derive
from xsearch.evaluate import MODALITIES, embed_scenes
from xsearch.scenes import Scene, sample
from xsearch.types import Modality

TOP = 10
DEEP = 60  # hits to fetch where a file's own items are left out: a video or note has many
SCENES, SEED, SUM_SEED = 96, 11_000_003, 1
DOCUMENTATION = "software documentation"  # of words that the bundled model does not know
RRF = 60  # of reciprocal rank fusion
WORDS = {  # what is asked for, and the label of it
    "dog": "dog", "cat": "cat", "bird": "bird", "frog": "frog", "sheep": "sheep", "cow": "cow",
    "lion": "lion", "monkey": "monkey", "elephant": "elephant", "bear": "bear", "train": "train",
    "bus": "bus", "car": "car", "boat": "boat", "helicopter": "helicopter", "fire": "fire",
    "clock": "clock", "sea": "sea", "banana": "banana", "pizza": "pizza", "umbrella": "umbrella",
    "chair": "chair", "keyboard": "keyboard", "book": "book", "bottle": "bottle",
}  # fmt: skip
PHRASES = ("{}", "a {}", "a photo of a {}", "the sound of a {}")
ABSENT = (
    "penguin", "lighthouse", "goldfish", "jellyfish", "butterfly", "camel", "koala", "snail", "scorpion",
    "mushroom", "teapot", "drum", "church", "fountain", "tractor", "pretzel", "lobster", "gondola",
    "basketball", "cauliflower",
)  # fmt: skip
MINUS = ("grass", "person", "sea", "car", "dog", "bird", "bottle", "table", "night", "beach")


@dataclass(frozen=True)
class Asked:
    """A query, and what each item of the collection is worth to it."""

    form: str  # the table's row
    query: Query
    worth: np.ndarray  # int [N]
    own: np.ndarray  # bool [N]: items of the query's own file, left out of the figures
    is_unreadable: bool = False  # it is a text of words that the model does not know


Search = Callable[[Asked, int], np.ndarray]  # the rows of the first so many answers


class Mixed:
    """The labelled folder and scenes in one collection."""

    def __init__(self, folder: Path, into: Path, model: str | None, scenes: int = SCENES) -> None:
        corpus = Corpus.ingest(folder, into, model)
        self.corpus, self.collection = corpus, corpus.collection
        backend = self.collection.backend
        self.known = len(corpus.ids)  # rows of FOLDER; those of scenes follow
        self.scenes, self.asking = sample(scenes, seed=SEED), sample(scenes, seed=SEED + 1)
        self.asking_vectors = embed_scenes(backend, self.asking)
        with self.collection.store.writer() as writer:
            for kind, vectors in embed_scenes(backend, self.scenes).items():
                paths = [f"/scenes/{row}.{kind}" for row in range(scenes)]
                writer.add(pa.table({"path": paths, "modality": [str(kind)] * scenes}), vectors)
            writer.commit()
            derive(writer)
        snapshot = self.collection.snapshot()
        self.ids, self.kinds = snapshot.ids, snapshot.modalities
        self.vectors = snapshot.vectors(snapshot.ids)
        self.paths = [str(label.path) for label in corpus.shown]
        self.unreadable = snapshot.unread

    def rows(self, hits: xsearch.Hits) -> np.ndarray:
        return np.searchsorted(self.ids, [hit.id for hit in hits])

    def worth(self, concepts: Sequence[str] | frozenset[str], pair: str = "") -> np.ndarray:
        return np.concatenate([self.corpus.worth(concepts, pair), np.zeros(len(self.ids) - self.known, int)])

    def scene_worth(self, scene: Scene) -> np.ndarray:
        shown = scene_worth((), [scene], self.scenes)[0]
        return np.concatenate([np.zeros(self.known, int), *[shown] * len(MODALITIES)])

    def own(self, *paths: Path) -> np.ndarray:
        names = set(map(str, paths))
        rest = [False] * (len(self.ids) - self.known)
        return np.array([path in names for path in self.paths] + rest)

    def asked(self) -> Iterator[Asked]:
        nothing = np.zeros(len(self.ids), bool)
        for label in self.corpus.files():
            if label.concepts:
                worth = self.worth(label.concepts, label.pair)
                query = xsearch.query.parse(label.path)
                own = self.own(label.path)
                yield Asked(f"files: {label.modality}", query, worth, own, bool(self.unreadable[own].any()))
        for phrase in PHRASES:
            for word, concept in WORDS.items():
                yield Asked(
                    f'words: "{phrase}"', xsearch.text(phrase.format(word)), self.worth([concept]), nothing
                )
        for kind, vectors in self.asking_vectors.items():
            for scene, vector in zip(self.asking, vectors, strict=True):
                if kind is not Modality.IMU:
                    query = xsearch.vector(vector, kind)
                    yield Asked("scenes", query, self.scene_worth(scene), nothing)
        yield from self._sums()

    def _sums(self) -> Iterator[Asked]:
        rng = np.random.default_rng(SUM_SEED)
        kinds = ("image", "audio", "text")
        about = {
            kind: [label for label in self.corpus.files(kind) if label.concepts - COMMON - {DOCUMENTATION}]
            for kind in kinds
        }
        pairs = [pair for pair in combinations(kinds, 2) for _ in range(10)]
        for a, b in pairs:
            first, second = (about[kind][rng.integers(len(about[kind]))] for kind in (a, b))
            worth = sum((self.worth(label.concepts) > 0).astype(int) for label in (first, second))
            query = xsearch.query.parse(first.path) + xsearch.query.parse(second.path)
            yield Asked("sums: two files", query, np.asarray(worth), self.own(first.path, second.path))
        for row in rng.permutation(len(self.scenes))[:20]:
            same = [(other.subject, other.place) for other in self.asking]
            again = next((at for at, shows in enumerate(same) if shows == same[row] and at != row), row)
            image, audio = (self.asking_vectors[kind] for kind in (Modality.IMAGE, Modality.AUDIO))
            query = xsearch.vector(image[row], "image") + xsearch.vector(audio[again], "audio")
            worth = self.scene_worth(self.asking[row])
            yield Asked("sums: picture and sound of a scene", query, worth, np.zeros(len(self.ids), bool))
        for word in MINUS:
            label = about["image"][rng.integers(len(about["image"]))]
            worth = np.where(self.worth([word]) > 0, 0, (self.worth(label.concepts) > 0).astype(int))
            query = xsearch.query.parse(label.path) - 0.5 * xsearch.text(word)
            yield Asked("sums: a picture minus words", query, worth, self.own(label.path))

    def public(self, asked: Asked, top: int) -> np.ndarray:
        return self.rows(self.collection.search(asked.query, top))

    def cosine(self, asked: Asked, top: int) -> np.ndarray:
        (vector,) = self.collection.embed([asked.query])
        return np.argsort(-(self.vectors @ vector), kind="stable")[:top]

    def fused(self, asked: Asked, top: int) -> np.ndarray:
        (vector,) = self.collection.embed([asked.query])
        cosines = self.vectors @ vector
        scores = np.zeros(len(cosines))
        for kind in np.unique(self.kinds):
            rows = np.flatnonzero(self.kinds == kind)
            scores[rows[np.argsort(-cosines[rows])]] = 1 / (RRF + 1 + np.arange(len(rows)))
        return np.lexsort((-cosines, -scores))[:top]


def figures(mixed: Mixed, asked: Sequence[Asked], search: Search) -> dict[str, dict[str, float]]:
    """By form, and "all" for the mean over the forms."""
    rows: dict[str, list[dict[str, float]]] = {}
    for one in asked:
        found = search(one, DEEP if one.own.any() else TOP)
        rest = found[~one.own[found]]
        each = {
            "ndcg_at_10": ndcg(rest, np.where(one.own, 0, one.worth)),
            "p_at_5": precision(rest, np.where(one.own, 0, one.worth)),
        }
        if not one.is_unreadable:
            each["unreadable"] = float(mixed.unreadable[rest[:5]].mean())
        if one.form.startswith("files"):
            each["own_first"] = float(one.own[found[0]])
        if one.worth[~one.own].any():  # else there is nothing to find
            rows.setdefault(one.form, []).append(each)
    means = {
        form: {
            name: float(np.mean([each[name] for each in some if name in each]))
            for name in {name: None for each in some for name in each}
        }
        for form, some in rows.items()
    }
    names = ("ndcg_at_10", "p_at_5", "unreadable", "own_first")
    return means | {
        "all": {name: float(np.mean([of[name] for of in means.values() if name in of])) for name in names}
    }


def answered(mixed: Mixed) -> dict[str, float]:
    """Share of queries that are said to have an answer."""
    collection = mixed.collection
    return {
        name: float(np.mean([collection.search(f"a {word}").found for word in words]))
        for name, words in (("words", WORDS), ("absent", ABSENT))
    }


def run(folder: Path, model: str | None, *, scenes: int = SCENES) -> dict:
    with TemporaryDirectory() as scratch:
        mixed = Mixed(folder, Path(scratch) / "c", model, scenes)
        asked = list(mixed.asked())
        ways: dict[str, Search] = {
            "xsearch": mixed.public,
            "plain cosine": mixed.cosine,
            "reciprocal rank of the modalities": mixed.fused,
        }
        return {
            "model": mixed.collection.backend.fingerprint.name,
            "machine": platform.machine(),
            "items": len(mixed.ids),
            "queries": len(asked),
            "ways": {name: figures(mixed, asked, way) for name, way in ways.items()},
            "answered": answered(mixed),
        }


def markdown(result: dict) -> str:
    ways = result["ways"]
    header = ["nDCG@10", *ways]
    forms = [form for form in ways["xsearch"] if form != "all"]
    rows = [[form, *(f"{of[form]['ndcg_at_10']:.2f}" for of in ways.values())] for form in forms]
    measures = {
        "mean nDCG@10": "ndcg_at_10",
        "mean P@5": "p_at_5",
        "own file first": "own_first",
        "unreadable texts in the first five": "unreadable",
    }
    for title, name in measures.items():
        show = "{:.2f}" if "at" in name else "{:.0%}"
        rows.append([f"**{title}**", *(show.format(of["all"][name]) for of in ways.values())])
    lines = [command.table(header, rows), ""]
    if found := result["answered"]:
        lines.append(
            f"Said to have an answer: {found['words']:.0%} of words that something shows, "
            f"{found['absent']:.0%} of words that nothing shows."
        )
    lines.append(f"{result['queries']} queries, {result['items']} items, model {result['model']}.")
    return "\n".join(lines)


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="bundled", help="bundled (the default), imagebind or a folder")
    parser.add_argument("--before", type=Path, help="the JSON of an earlier version, shown beside")
    options = parser.parse_args()
    result = run(options.folder, options.model)
    if options.before:
        before = json.loads(options.before.read_text())
        result["ways"] = {"before": before["ways"]["xsearch"], **result["ways"]}
    command.report(result, markdown, options.json)


if __name__ == "__main__":
    main()
