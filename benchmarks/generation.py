"""What of an embedding is in the picture that the decoder draws of it: drawn, embedded again, and retrieved.

    python -m benchmarks.generation DECODER --tune           # first: what crosses the modality gap, per kind
    python -m benchmarks.generation DECODER --data DATA --json out.json --sheet sheet.png
    python -m benchmarks.generation                          # the bundled decoder; some hours on 2 cores

Held-out scenes: `right` is the share of drawings whose nearest picture among those of all scenes shows the
same subject in the same place (of IMU, which knows the place alone, the same place). `own`: median rank of
the picture of the scene itself. `shuffled`: right, if drawings are judged by another scene. `nearest`: right,
of the nearest training picture instead of a drawing. `first`: right, of the first candidate of each drawing.
`plain`: the same, of the vector as it is, which crosses no gap.

--tune draws scenes of another seed with each way across the gap, and writes the best of each kind into the
decoder's config. --data: the concept of real pictures and sounds, of those that have both, whose mean
training picture is nearest.
"""

from __future__ import annotations

import dataclasses
import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

import xsearch
from benchmarks import command
from xsearch.backend.imagebind import ImageBindBackend
from xsearch.evaluate import MODALITIES, embed_scenes
from xsearch.generate import BUNDLED, NEIGHBOURS, Crossing, TrainedDecoder, candidate_seeds, cross
from xsearch.media.image.pillow import opened
from xsearch.scenes import PLACES, SUBJECTS, Scene, render, sample
from xsearch.scenes.world import TRAINING_SEED
from xsearch.types import Modality, Sample

HELD_OUT, TUNED, COMPOSED, PRIOR = 3_000_017, 4_000_037, 5_000_011, TRAINING_SEED  # seeds
PRIOR_SCENES = 960  # pictures of the collection whose nearest are a prior: 10 of each subject and place
BATCH, TUNE_STEPS = 16, 5
SIDE = 112  # pixels of rendered scenes
COLUMNS, CELL, MARGIN = 8, 96, 78  # of the sheet
WAYS = {
    "nothing": Crossing(),
    "shift": Crossing(shift=True),
    "noise 0.3": Crossing(noise=0.3),
    "noise 0.6": Crossing(noise=0.6),
    "noise 1": Crossing(noise=1.0),
    "prior 0.3": Crossing(prior=0.3),
    "prior 0.6": Crossing(prior=0.6),
    "shift, noise 0.6": Crossing(shift=True, noise=0.6),
    "shift, prior 0.5": Crossing(shift=True, prior=0.5),
    "shift, noise 0.6, prior 0.5": Crossing(shift=True, noise=0.6, prior=0.5),
}

Ways = Mapping[Modality, Crossing]


class Drawings(NamedTuple):
    pictures: np.ndarray  # uint8 [N, S, S, 3]
    embedded: np.ndarray  # [N, D], of the pictures
    first: np.ndarray  # [N, D], of the first candidate of each


class Studio:
    """A decoder with the model whose vectors it draws, and a collection of pictures of training scenes."""

    def __init__(
        self, decoder: TrainedDecoder, backend: ImageBindBackend, *, steps: int, prior: int = PRIOR_SCENES
    ) -> None:
        decoder.check(backend.fingerprint)
        self.decoder, self.backend, self.steps = decoder, backend, steps
        self.prior = backend.embed(rendered(sample(prior, seed=PRIOR)))
        self.drawn, self.drawing_s = 0, 0.0

    def nearest(self, vector: np.ndarray) -> np.ndarray:
        return self.prior[np.argsort(-self.prior @ vector)[:NEIGHBOURS]]

    def draw(
        self,
        parts: Mapping[Modality, np.ndarray],
        ways: Ways,
        *,
        steps: int | None = None,
        candidates: int | None = None,
    ) -> Drawings:
        """Of sums of one row of each kind, each with its number as the seed."""
        candidates = candidates or self.decoder.candidates
        kinds, rows = list(parts), np.stack(list(parts.values()), axis=1)  # [N, P, D]
        means = self.decoder.network.means.numpy()
        weights = np.ones(len(kinds), np.float32)
        start, pictures = time.perf_counter(), []
        conditions = [
            (*cross(each, kinds, weights, means, ways, self.nearest), seed)
            for number, each in enumerate(rows)
            for seed in candidate_seeds(number, candidates)
        ]
        for first in range(0, len(conditions), BATCH):
            vectors, levels, seeds = zip(*conditions[first : first + BATCH], strict=True)
            pictures.append(
                self.decoder.pictures(
                    np.stack(vectors),
                    levels,
                    seeds,
                    steps=steps or self.steps,
                    guidance=self.decoder.guidance,
                )
            )
        sketches = np.concatenate(pictures)
        embedded = self.embed(sketches).reshape(len(rows), candidates, -1)
        queries = np.einsum("p,npd->nd", weights, rows)
        kept = np.einsum("nkd,nd->nk", embedded, queries).argmax(axis=1)
        if steps is None and candidates == self.decoder.candidates:
            self.drawn += len(rows)
            self.drawing_s += time.perf_counter() - start
        each = np.arange(len(rows))
        sketches = sketches.reshape(len(rows), candidates, *sketches.shape[1:])
        return Drawings(sketches[each, kept], embedded[each, kept], embedded[:, 0])

    def embed(self, pictures: np.ndarray) -> np.ndarray:
        return self.backend.embed([Sample(Modality.IMAGE, Image.fromarray(each)) for each in pictures])


def rendered(scenes: Sequence[Scene]) -> list[Sample]:
    return [render(scene, width=SIDE, height=SIDE)[Modality.IMAGE] for scene in scenes]


def codes(scenes: Sequence[Scene], *, place_only: bool = False) -> np.ndarray:
    """int64 [N]: equal where what has to be right is equal."""
    place = np.array([PLACES.index(scene.place) for scene in scenes])
    subject = np.array([SUBJECTS.index(scene.subject) for scene in scenes])
    return place if place_only else place + len(PLACES) * subject


def right(drawn: np.ndarray, gallery: np.ndarray, wanted: np.ndarray, labels: np.ndarray) -> float:
    """Share of drawings (unit rows) whose nearest row of the gallery has the label that is wanted."""
    return float((labels[(drawn @ gallery.T).argmax(axis=1)] == wanted).mean())


def ranks(drawn: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """Rank, from 1, of row n of the gallery for drawing n."""
    scores = drawn @ gallery.T
    return 1 + (scores > np.diag(scores)[:, None]).sum(axis=1)


def tune(studio: Studio, count: int, *, steps: int = TUNE_STEPS) -> dict[str, dict[str, float]]:
    """`right` of each kind and way, on scenes of another seed than those that are measured."""
    scenes = sample(count, seed=TUNED)
    vectors = embed_scenes(studio.backend, scenes)
    gallery, table = vectors[Modality.IMAGE], {}
    for kind in MODALITIES:
        labels = codes(scenes, place_only=kind is Modality.IMU)
        table[str(kind)] = {
            name: right(
                studio.draw({kind: vectors[kind]}, {kind: way}, steps=steps).embedded,
                gallery,
                labels,
                labels,
            )
            for name, way in WAYS.items()
        }
    return table


def best(table: Mapping[str, Mapping[str, float]]) -> dict[Modality, Crossing]:
    """The best way of each kind; of equal ones the first. Videos are drawn as pictures are."""
    chosen = {Modality(kind): WAYS[max(row, key=lambda way: row[way])] for kind, row in table.items()}
    return chosen | {Modality.VIDEO: chosen[Modality.IMAGE]}


def measure(studio: Studio, count: int) -> tuple[dict, list[np.ndarray]]:
    """The figures of each kind on held-out scenes; and for the sheet their pictures, true ones first."""
    scenes = sample(count, seed=HELD_OUT)
    vectors = embed_scenes(studio.backend, scenes)
    gallery, ways = vectors[Modality.IMAGE], studio.decoder.config.crossings
    rows, sheet = {}, [np.stack([np.asarray(each.data) for each in rendered(scenes[:COLUMNS])])]
    for kind in MODALITIES:
        labels = codes(scenes, place_only=kind is Modality.IMU)
        pictures, drawn, first = studio.draw({kind: vectors[kind]}, ways)
        is_plain = ways.get(kind, Crossing()) == Crossing()
        plain = first if is_plain else studio.draw({kind: vectors[kind]}, {}, candidates=1).embedded
        near = studio.prior[(vectors[kind] @ studio.prior.T).argmax(axis=1)]
        rows[str(kind)] = {
            "right": right(drawn, gallery, labels, labels),
            "own_median_rank": float(np.median(ranks(drawn, gallery))),
            "shuffled": right(drawn, gallery, np.roll(labels, 1), labels),
            "nearest": right(near, gallery, labels, labels),
            "first": right(first, gallery, labels, labels),
            "plain": right(plain, gallery, labels, labels),
        }
        sheet.append(pictures[:COLUMNS])
    return {"scenes": count, "kinds": rows}, sheet


def compose(studio: Studio, count: int, held_out: int) -> dict[str, float]:
    """A picture of subject S and the sound of another place B: how often S in B is drawn."""
    rng = np.random.default_rng(COMPOSED)
    pictured = sample(count, seed=COMPOSED)
    places = [str(rng.choice([place for place in PLACES if place != scene.place])) for scene in pictured]
    both = list(zip(pictured, places, strict=True))
    sounds = [replace(s, seed=int(rng.integers(2**31)), place=place, count=0) for s, place in both]
    parts = {
        Modality.IMAGE: studio.backend.embed(rendered(pictured)),
        Modality.AUDIO: studio.backend.embed([render(scene)[Modality.AUDIO] for scene in sounds]),
    }
    scenes = sample(held_out, seed=HELD_OUT)
    gallery = studio.backend.embed(rendered(scenes))
    drawn = studio.draw(parts, studio.decoder.config.crossings).embedded
    figures = {}
    for name, place_only in (("right", False), ("place", True)):
        wanted = codes([replace(s, place=place) for s, place in both], place_only=place_only)
        figures[name] = right(drawn, gallery, wanted, codes(scenes, place_only=place_only))
    return figures


def real(studio: Studio, data: Path, most: int) -> dict:
    """The concept of drawings of real pictures and sounds, by the mean vectors of training pictures."""

    def rows(name: str, columns: list[str]) -> list[dict]:
        return pq.read_table(data / f"{name}.parquet", columns=columns).to_pylist()

    heard = {row["concept"] for row in rows("audio_val", ["concept"])}
    train = [row for row in rows("images", ["jpeg", "concept"]) if row["concept"] in heard]
    concepts = sorted({row["concept"] for row in train})
    model = xsearch.Model(studio.backend)

    def embedded(some: list[dict]) -> np.ndarray:
        pictures = [opened(io.BytesIO(row["jpeg"]), "JPEG").convert("RGB") for row in some]
        return studio.backend.embed([Sample(Modality.IMAGE, each) for each in pictures])

    classes = np.stack(
        [
            embedded([row for row in train if row["concept"] == concept][:most]).mean(axis=0)
            for concept in concepts
        ]
    )
    queries = {
        Modality.IMAGE: [
            row for row in rows("images_val", ["jpeg", "concept"]) if row["concept"] in concepts
        ],
        Modality.AUDIO: [row for row in rows("audio_val", ["ogg", "concept"]) if row["concept"] in concepts],
    }
    figures: dict = {"concepts": concepts}
    for kind, some in queries.items():
        some = some[:most]
        if kind is Modality.IMAGE:
            vectors = embedded(some)
        else:
            vectors = model.embed([xsearch.audio(row["ogg"]) for row in some])
        wanted = np.array([concepts.index(row["concept"]) for row in some])
        drawn = studio.draw({kind: vectors}, studio.decoder.config.crossings).embedded
        figures[str(kind)] = {
            "n": len(some),
            "right": right(drawn, classes, wanted, np.arange(len(concepts))),
            "undrawn": right(vectors, classes, wanted, np.arange(len(concepts))),
        }
    return figures


def draw_sheet(rows: Sequence[np.ndarray], path: Path) -> None:
    """One row of pictures of a kind, the scenes themselves first; columns are scenes."""
    names = ("scene", *MODALITIES)
    sheet = Image.new("RGB", (MARGIN + CELL * len(rows[0]), CELL * len(rows)), "white")
    pen = ImageDraw.Draw(sheet)
    for row, (name, pictures) in enumerate(zip(names, rows, strict=True)):
        pen.text((8, row * CELL + CELL // 2 - 6), str(name), "black")
        for column, pixels in enumerate(pictures):
            picture = Image.fromarray(pixels).resize((CELL - 4, CELL - 4), Image.Resampling.LANCZOS)
            sheet.paste(picture, (MARGIN + column * CELL + 2, row * CELL + 2))
    sheet.save(path)


def run(
    decoder: Path | None,
    *,
    model: str = "bundled",
    scenes: int = 500,
    triples: int = 200,
    steps: int | None = None,
    tuned: int = 0,
    data: Path | None = None,
    most: int = 200,
    sheet: Path | None = None,
    prior: int = PRIOR_SCENES,
) -> dict:
    """tuned: scenes to choose the ways across the gap by, which the decoder then keeps; 0: those it has."""
    folder = decoder or BUNDLED
    loaded = TrainedDecoder.load(folder)
    studio = Studio(loaded, ImageBindBackend.load(model), steps=steps or loaded.steps, prior=prior)
    result: dict = {"model": loaded.config.digest[:8], "steps": studio.steps, "guidance": loaded.guidance}
    result["candidates"] = loaded.candidates
    if tuned:
        table = tune(studio, tuned)
        loaded.network.config = replace(loaded.config, crossings=best(table))
        loaded.save(folder, license="LicenseRef-xsearch-weights")
        result["tuned"] = {"scenes": tuned, "right": table}
    ways = {str(kind): dataclasses.asdict(way) for kind, way in loaded.config.crossings.items()}
    figures, rows = measure(studio, scenes)
    result |= {"crossings": ways} | figures
    result["composition"] = {"queries": triples, **compose(studio, triples, scenes)}
    if data is not None:
        result["real"] = real(studio, data, most)
    result["seconds_of_4"] = 4 * studio.drawing_s / studio.drawn
    if sheet is not None:
        draw_sheet(rows, sheet)
    return result


def markdown(result: dict) -> str:
    header = ("drawn of", "right", "own: rank", "shuffled", "nearest", "first", "plain")
    rows = [
        (
            kind,
            f"**{row['right']:.2f}**",
            f"{row['own_median_rank']:.0f}",
            *(f"{row[name]:.2f}" for name in ("shuffled", "nearest", "first", "plain")),
        )
        for kind, row in result["kinds"].items()
    ]
    composed = result["composition"]
    lines = [
        command.table(header, rows),
        "",
        f"{result['scenes']} held-out scenes; {result['steps']} steps, guidance {result['guidance']:g}, "
        f"the best of {result['candidates']}; 4 pictures in {result['seconds_of_4']:.1f} s. "
        f"A picture of a subject + the sound of another place, "
        f"{composed['queries']} times: subject and place right in {composed['right']:.0%}, the place in "
        f"{composed['place']:.0%}.",
    ]
    if real := result.get("real"):
        shares = ", ".join(
            f"{real[kind]['right']:.0%} of {real[kind]['n']} drawn of {kind} ({real[kind]['undrawn']:.0%} of "
            "the embeddings themselves)"
            for kind in ("image", "audio")
        )
        lines += ["", f"Real media: the right one of {len(real['concepts'])} concepts in {shares}."]
    if tuned := result.get("tuned"):
        table = [(name, *(f"{tuned['right'][kind][name]:.2f}" for kind in tuned["right"])) for name in WAYS]
        title = f"Right, by the way across the gap, on {tuned['scenes']} other scenes:"
        lines += ["", title, "", command.table(("way", *tuned["right"]), table)]
    return "\n".join(lines)


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("decoder", type=Path, nargs="?", help="by default the bundled one")
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--scenes", type=int, default=500)
    parser.add_argument("--triples", type=int, default=200)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--tune", type=int, nargs="?", const=96, default=0, metavar="SCENES")
    parser.add_argument("--data", type=Path, help="folder of images.parquet, audio_val.parquet ...")
    parser.add_argument("--sheet", type=Path, metavar="PNG")
    options = parser.parse_args()
    if options.tune and options.decoder is None:
        parser.error("--tune changes a decoder: name its folder")
    result = run(
        options.decoder,
        model=options.model,
        scenes=options.scenes,
        triples=options.triples,
        steps=options.steps,
        tuned=options.tune,
        data=options.data,
        sheet=options.sheet,
    )
    command.report(result, markdown, options.json)


if __name__ == "__main__":
    main()
