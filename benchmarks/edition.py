"""What a small model knows of the real world: media that it was not trained on, with chance beside.

    python -m benchmarks.edition DATA CORPUS --model PATH --before PATH --json out.json

DATA: *_val.parquet, as for `benchmarks.bundled`. CORPUS: a folder with labels.csv (path, modality, concept,
concepts_all). A concept is what pictures and sounds share, such as "dog"; an answer is right when its is. A
photo is right for one of WORDS that is among its labels, or a whole word of one of its captions.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks import command
from xsearch.backend.imagebind import ImageBindBackend
from xsearch.evaluate import relevance, text_prototypes, top_k
from xsearch.evaluate.chart import wilson
from xsearch.evaluate.metrics import Relevant
from xsearch.media.imu.imu import MIN_WINDOW_S, WINDOW_S
from xsearch.pairs import Pair
from xsearch.types import Modality, Sample

PICTURE_WORDS = ("a photo of a {}", "a picture of a {}", "{}")
MOTION_WORDS = ("a person {}", "someone {}")
WORDS = (
    "snow", "water", "rain", "bed", "city", "tree", "street", "dog", "child", "mountain", "flower", "man",
    "woman", "people", "boat", "horse", "food", "elephant", "office", "kitchen", "house", "forest", "sea",
    "phone", "thunder", "car", "bicycle", "beach",
)  # fmt: skip
BATCH = 200
RESAMPLES, SEED = 10_000, 0  # of the bootstrap


@dataclass(frozen=True, eq=False)
class Embedded:
    """Media as unit rows, with what each is of."""

    vectors: np.ndarray
    labels: np.ndarray

    @classmethod
    def of(cls, backend: ImageBindBackend, pairs: Sequence[Pair]) -> Embedded:
        """What the pictures of these pairs belong to."""
        batches = [pairs[at : at + BATCH] for at in range(0, len(pairs), BATCH)]
        vectors = [backend.embed([pair.partner() for pair in batch]) for batch in batches]
        return cls(np.concatenate(vectors), np.array([str(pair.label) for pair in pairs]))

    def labelled(self, names: set[str]) -> Embedded:
        """Those whose label is one of `names`."""
        which = np.isin(self.labels, list(names))
        return Embedded(self.vectors[which], self.labels[which])


def rows_of(data: Path, name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(data / f"{name}_val.parquet").to_pylist()
    return rows


def words(backend: ImageBindBackend, names: Sequence[str], templates: Sequence[str]) -> Embedded:
    """A query for each name, the mean of its templates."""
    vectors = text_prototypes(backend, {name: [name] for name in names}, templates)
    return Embedded(vectors, np.array(names))


def hits(queries: np.ndarray, items: np.ndarray, right: Relevant, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Whether each of the k nearest items is right, bool [Q, k], and how many of all items are, int [Q].

    Queries without a right item are left out.
    """
    truth = relevance(right)
    asked = truth.any(axis=1)
    nearest = top_k(queries[asked], items, k)
    return np.take_along_axis(truth[asked], nearest, axis=1), truth[asked].sum(axis=1)


def figure(values: np.ndarray, chance: float, at_best: float | None = None) -> dict[str, Any]:
    """The mean of [Q] values, one for each query, with its 95 % interval.

    Wilson's of a share, whose values are 0 and 1; of others by resampling the queries (percentile bootstrap).
    """
    mean, n = float(values.mean()), len(values)
    if np.isin(values, (0, 1)).all():
        low, high = wilson(mean, n)
    else:
        rows = np.random.default_rng(SEED).integers(n, size=(RESAMPLES, n))
        low, high = np.quantile(values[rows].mean(axis=1), (0.025, 0.975)).tolist()
    best = {} if at_best is None else {"at_best": at_best}
    return {"value": mean, "low": low, "high": high, "chance": chance, "n": n} | best


def recordings(backend: ImageBindBackend, rows: Sequence[dict[str, Any]]) -> Embedded:
    """IMU recordings, each the mean of its windows, as a file in a query is."""
    vectors = []
    for row in rows:
        data, rate_hz = np.array(row["samples"], np.float32).T, row["rate_hz"]  # [6, T]
        size, rest = round(WINDOW_S * rate_hz), round(MIN_WINDOW_S * rate_hz)
        starts = range(0, max(data.shape[1] - rest, 0) + 1, size)
        windows = [Sample(Modality.IMU, data[:, at : at + size], rate_hz=rate_hz) for at in starts]
        vectors.append(backend.embed(windows).mean(axis=0))
    unit = np.stack(vectors) / np.linalg.norm(vectors, axis=1, keepdims=True)
    return Embedded(unit, np.array([row["label"] for row in rows]))


def kept_apart(backend: ImageBindBackend, data: Path) -> tuple[dict[str, Any], set[str]]:
    """Figures of the held-out rows by what they are of, and the concepts that have pictures and sounds."""
    images, audio = rows_of(data, "images"), rows_of(data, "audio")
    pictures = Embedded.of(
        backend, [Pair(None, r["jpeg"], Modality.IMAGE, label=r["concept"]) for r in images]
    )
    classes = Embedded(pictures.vectors, np.array([r["label"] for r in images]))
    sounds = Embedded.of(backend, [Pair(None, r["ogg"], Modality.AUDIO, label=r["concept"]) for r in audio])
    both = set(pictures.labels) & set(sounds.labels)
    shown, heard = pictures.labelled(both), sounds.labelled(both)
    motions = recordings(backend, rows_of(data, "imu"))
    is_fall = np.char.startswith(motions.labels, "falling ")
    falls = Embedded(motions.vectors, np.where(is_fall, "falling", motions.labels))
    figures: dict[str, Any] = {}
    for what, media, templates in (
        ("pictures, their concept", pictures, PICTURE_WORDS),
        ("pictures, their class", classes, PICTURE_WORDS),
        ("sounds, their concept", heard, PICTURE_WORDS),
        ("motions, their activity", motions, MOTION_WORDS),
        ("motions, all falls as one", falls, MOTION_WORDS),
    ):
        names = words(backend, sorted(set(media.labels)), templates)
        first, _ = hits(media.vectors, names.vectors, (media.labels, names.labels), 5)
        count = len(names.labels)
        figures[f"{what}: top-1 of {count}"] = figure(first[:, 0], 1 / count)
        figures[f"{what}: top-5 of {count}"] = figure(first.any(axis=1), 5 / count)
    asked = words(backend, sorted(both), PICTURE_WORDS)
    for what, queries, items in (
        ("sound -> picture", heard, shown),
        ("text -> sound", asked, heard),
        ("text -> picture", asked, shown),
        ("picture -> sound", shown, heard),
    ):
        first, counts = hits(queries.vectors, items.vectors, (queries.labels, items.labels), 1)
        figures[f"{what}: first hit"] = figure(first[:, 0], counts.mean() / len(items.labels))
    for modality in (Modality.DEPTH, Modality.THERMAL):
        planes = [
            Pair(r["rgb_jpeg"], r[f"{modality}_png"], modality, extra={"focal_px": r.get("fx")})
            for r in rows_of(data, modality)
        ]
        maps, n = Embedded.of(backend, planes), len(planes)
        own = backend.embed([pair.picture() for pair in planes])
        first, _ = hits(maps.vectors, own, np.eye(n, dtype=bool), 10)
        figures[f"{modality} -> its picture: R@10"] = figure(first.any(axis=1), 10 / n)
    return figures, both


def photos(backend: ImageBindBackend, data: Path) -> dict[str, Any]:
    """P@5 of WORDS among held-out photographs, over the right ones where these are fewer than five."""
    rows = rows_of(data, "photos")
    items = Embedded.of(backend, [Pair(None, r["jpeg"], Modality.IMAGE) for r in rows]).vectors
    captions = ["\n".join(r["captions"]).lower() for r in rows]
    right = [
        [word in r["labels"] or bool(re.search(rf"\b{word}\b", text))
         for r, text in zip(rows, captions, strict=True)]
        for word in WORDS
    ]  # fmt: skip
    first, counts = hits(words(backend, WORDS, PICTURE_WORDS).vectors, items, np.array(right), 5)
    most = np.minimum(counts, 5)
    name = f"{len(counts)} words -> photo: P@5 among {len(items)}"
    return {name: figure(first.sum(axis=1) / most, float((5 * counts / most).mean() / len(items)), 1.0)}


def corpus(backend: ImageBindBackend, folder: Path, concepts: set[str]) -> dict[str, Any]:
    """P@5 among real photographs at full size and real sounds, most of them of other concepts."""
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["modality"] in ("image", "audio")]
    names = sorted(concepts)
    queries = {"text": (words(backend, names, PICTURE_WORDS).vectors, [{name} for name in names])}
    for name, modality in (("photo", Modality.IMAGE), ("sound", Modality.AUDIO)):
        some = [row for row in rows if row["modality"] == modality]
        shown = Embedded.of(backend, [Pair(None, folder / row["path"], modality) for row in some])
        of = [{row["concept"], *row["concepts_all"].split("|")} & concepts for row in some]
        queries[name] = shown.vectors, of
    figures = {}
    for a, b in (("text", "photo"), ("sound", "photo"), ("photo", "sound"), ("text", "sound")):
        (ask, of_asked), (items, of_items) = queries[a], queries[b]
        right = np.array([[bool(x & y) for y in of_items] for x in of_asked])
        first, counts = hits(ask, items, right, 5)
        chance, at_best = float(counts.mean() / len(items)), float(np.minimum(counts, 5).mean() / 5)
        figures[f"{a} -> {b}: P@5 among {len(items)}"] = figure(first.mean(axis=1), chance, at_best)
    return figures


def run(data: Path, folder: Path, model: str) -> dict:
    backend = ImageBindBackend.load(model)
    held_out, concepts = kept_apart(backend, data)
    figures = held_out | photos(backend, data) | corpus(backend, folder, concepts)
    return {"digest": backend.fingerprint.digest, "figures": figures}


def markdown(result: dict) -> str:
    columns = {"now": "this edition", "before": "the one before"}
    editions = [result[name]["figures"] for name in columns if name in result]
    header = ["never trained on", *list(columns.values())[: len(editions)], "chance", "n"]
    rows = []
    for what, now in editions[0].items():
        best = f", {now['at_best']:.0%} at best" if "at_best" in now else ""
        cells = [
            f"{bold}{of[what]['value']:.0%}{bold} ({100 * of[what]['low']:.0f}-{100 * of[what]['high']:.0f})"
            for bold, of in zip(("**", ""), editions, strict=False)
        ]
        rows.append((what + best, *cells, f"{now['chance']:.0%}", f"{now['n']:,}"))
    note = (
        "In brackets: 95% intervals, Wilson's of shares, a bootstrap over the queries of P@5. Of words with "
        "fewer than\nfive right photos, it is the share of these that is among the first five."
    )
    return f"{command.table(header, rows)}\n\n{note}"


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--before", help="the model of the edition before, for a column of its figures")
    options = parser.parse_args()
    models = {"now": options.model} | ({"before": options.before} if options.before else {})
    result = {name: run(options.data, options.corpus, model) for name, model in models.items()}
    command.report(result, markdown, options.json)


if __name__ == "__main__":
    main()
