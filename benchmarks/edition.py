"""What a small model knows of the real world: media that it was not trained on, with chance beside.

    python -m benchmarks.edition DATA CORPUS --model PATH --before PATH --json out.json

DATA: *_val.parquet, as for `benchmarks.bundled`. CORPUS: a folder with labels.csv (path, modality, concept,
concepts_all). A concept is what pictures and sounds share, such as "dog"; an answer is right when its is.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks import command
from xsearch.backend.imagebind import ImageBindBackend
from xsearch.evaluate import class_truth, classify, nearest, recall_at_k, text_prototypes
from xsearch.pairs import Pair
from xsearch.types import Modality

PICTURE_WORDS = ("a photo of a {}", "a picture of a {}", "{}")
MOTION_WORDS = ("a person {}", "someone {}")
BATCH = 200


@dataclass(frozen=True, eq=False)
class Embedded:
    """Media as unit rows, with what each is of."""

    vectors: np.ndarray
    labels: np.ndarray

    def of(self, names: set[str]) -> Embedded:
        """Those whose label is one of `names`."""
        which = np.isin(self.labels, list(names))
        return Embedded(self.vectors[which], self.labels[which])


def embedded(backend: ImageBindBackend, pairs: Sequence[Pair]) -> Embedded:
    """What the pictures of these pairs belong to."""
    batches = [pairs[at : at + BATCH] for at in range(0, len(pairs), BATCH)]
    vectors = [backend.embed([pair.partner() for pair in batch]) for batch in batches]
    return Embedded(np.concatenate(vectors), np.array([str(pair.label) for pair in pairs]))


def rows_of(data: Path, name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(data / f"{name}_val.parquet").to_pylist()
    return rows


def zero_shot(backend: ImageBindBackend, media: Embedded, words: Sequence[str]) -> dict[str, float]:
    names = sorted(set(media.labels))
    prototypes = text_prototypes(backend, {name: [name] for name in names}, words)
    return classify(media.vectors, prototypes, class_truth(media.labels.tolist(), names))


def kept_apart(backend: ImageBindBackend, data: Path) -> tuple[dict[str, Any], set[str]]:
    """Figures of the held-out rows as {what: [figure, chance, samples]}, and the concepts seen and heard."""
    images, audio = rows_of(data, "images"), rows_of(data, "audio")
    pictures = embedded(backend, [Pair(None, r["jpeg"], Modality.IMAGE, label=r["concept"]) for r in images])
    classes = Embedded(pictures.vectors, np.array([r["label"] for r in images]))
    sounds = embedded(backend, [Pair(None, r["ogg"], Modality.AUDIO, label=r["concept"]) for r in audio])
    both = set(pictures.labels) & set(sounds.labels)
    seen, heard = pictures.of(both), sounds.of(both)
    motions = embedded(
        backend,
        [
            Pair(None, np.array(r["samples"], np.float32), Modality.IMU,
                 label=r["label"], extra={"rate_hz": r["rate_hz"]})
            for r in rows_of(data, "imu")
        ],
    )  # fmt: skip
    found: dict[str, Any] = {}
    for what, media, words in (
        ("pictures, their concept", pictures, PICTURE_WORDS),
        ("pictures, their class", classes, PICTURE_WORDS),
        ("sounds, their concept", heard, PICTURE_WORDS),
        ("motions, their activity", motions, MOTION_WORDS),
    ):
        figures = zero_shot(backend, media, words)
        count, samples = figures["classes"], figures["samples"]
        found[f"{what}: top-1 of {count}"] = [figures["top1"], 1 / count, samples]
        found[f"{what}: top-5 of {count}"] = [figures["top5"], 5 / count, samples]
    names = sorted(both)
    asked = text_prototypes(backend, {name: [name] for name in names}, PICTURE_WORDS)
    for what, queries, labels, items in (
        ("sound -> picture", heard.vectors, heard.labels, seen),
        ("text -> sound", asked, np.array(names), heard),
        ("text -> picture", asked, np.array(names), seen),
        ("picture -> sound", seen.vectors, seen.labels, heard),
    ):
        figures = nearest(queries, items.vectors, (labels, items.labels))
        found[f"{what}: first hit"] = [figures[name] for name in ("p_at_1", "chance", "queries")]
    for modality in (Modality.DEPTH, Modality.THERMAL):
        planes = [
            Pair(r["rgb_jpeg"], r[f"{modality}_png"], modality, extra={"focal_px": r.get("fx")})
            for r in rows_of(data, modality)
        ]
        maps = embedded(backend, planes)
        own = backend.embed([pair.picture() for pair in planes])
        found[f"{modality} -> its picture: R@10"] = [
            recall_at_k(maps.vectors, own, np.eye(len(planes), dtype=bool), 10),
            10 / len(planes),
            len(planes),
        ]
    return found, both


def corpus(backend: ImageBindBackend, folder: Path, concepts: set[str]) -> dict[str, Any]:
    """P@5 among real photographs at full size and real sounds, whether taught or not."""
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["modality"] in ("image", "audio")]
    media: dict[str, tuple[np.ndarray, list[set[str]]]] = {}
    for modality in (Modality.IMAGE, Modality.AUDIO):
        some = [row for row in rows if row["modality"] == modality]
        shown = embedded(backend, [Pair(None, folder / row["path"], modality) for row in some])
        media[modality] = (
            shown.vectors,
            [{row["concept"], *row["concepts_all"].split("|")} & concepts for row in some],
        )
    names = sorted(concepts)
    asked = text_prototypes(backend, {name: [name] for name in names}, PICTURE_WORDS)
    queries = {"text": (asked, [{name} for name in names]), "photo": media[Modality.IMAGE],
               "sound": media[Modality.AUDIO]}  # fmt: skip
    found = {}
    for a, b in (("text", "photo"), ("sound", "photo"), ("photo", "sound"), ("text", "sound")):
        (ask, of_asked), (items, of_items) = queries[a], queries[b]
        right = np.array([[bool(x & y) for y in of_items] for x in of_asked])
        figures = nearest(ask, items, right, 5)
        most = right.sum(axis=1)
        at_best = np.minimum(most[most > 0], 5).mean() / 5
        found[f"{a} -> {b}: P@5 among {len(items)}"] = [
            *(figures[name] for name in ("p_at_5", "chance", "queries")),
            float(at_best),
        ]
    return found


def run(data: Path, folder: Path, model: str) -> dict:
    backend = ImageBindBackend.load(model)
    held_out, concepts = kept_apart(backend, data)
    return {"digest": backend.fingerprint.digest, "figures": held_out | corpus(backend, folder, concepts)}


def markdown(result: dict) -> str:
    now, before = result["now"]["figures"], result["before"]["figures"]
    rows = []
    for what, (figure, chance, samples, *best) in now.items():
        at_best = f", {best[0]:.0%} at best" if best and best[0] < 1 else ""
        rows.append(
            (what + at_best, f"**{figure:.0%}**", f"{before[what][0]:.0%}", f"{chance:.0%}", f"{samples:,}")
        )
    return command.table(("never trained on", "this model", "scenes only", "chance", "asked"), rows)


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--before", required=True, help="the model that has seen rendered scenes only")
    options = parser.parse_args()
    result = {
        name: run(options.data, options.corpus, model)
        for name, model in (("now", options.model), ("before", options.before))
    }
    command.report(result, markdown, options.json)


if __name__ == "__main__":
    main()
