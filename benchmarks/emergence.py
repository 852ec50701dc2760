"""How well a model binds six modalities, on scenes that it has never seen.

    python -m benchmarks.emergence                      # the bundled model; about 3 minutes on 2 cores
    python -m benchmarks.emergence --model PATH --scenes 300 --json out.json

Prints Markdown and, with --json, writes the same figures. `P@1`: share of queries whose first hit is right.
`R@10`: share with a right one among the first ten. Right means the same subject and the same place; an IMU
recording holds the wearer's motion, which only the place decides, so with IMU on either side the place.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from benchmarks import command
from xsearch.embed import ModelEmbedder
from xsearch.evaluate import precision_at_1, recall_at_k
from xsearch.scenes import PLACES, SUBJECTS, Scene, render, sample
from xsearch.types import Modality, Sample

MODALITIES = (
    Modality.IMAGE, Modality.TEXT, Modality.AUDIO, Modality.DEPTH, Modality.THERMAL, Modality.IMU,
)  # fmt: skip
HELD_OUT, QUERIES = 1_000_003, 2_000_003  # seeds; the trainer's is 1


def embed_scenes(model: ModelEmbedder, scenes: list[Scene]) -> dict[Modality, np.ndarray]:
    """Unit vectors float32 [scenes, D] of each modality."""
    parts: dict[Modality, list[np.ndarray]] = {m: [] for m in MODALITIES}
    for start in range(0, len(scenes), 50):
        moments = [_moment(scene) for scene in scenes[start : start + 50]]
        for m in MODALITIES:
            parts[m].append(model.embed([moment[m] for moment in moments]))
    return {m: np.concatenate(rows) for m, rows in parts.items()}


def _moment(scene: Scene) -> dict[Modality, Sample]:
    """A scene at the size that the model looks at, with the depth map of a camera of 640 x 480."""
    moment = render(scene, width=149, height=112)
    depth = moment[Modality.DEPTH]
    assert depth.focal_px is not None
    return moment | {Modality.DEPTH: replace(depth, focal_px=depth.focal_px * 480 / 112)}


def classes(scenes: list[Scene], *, place_only: bool) -> np.ndarray:
    """int64 [scenes]: equal numbers mean that one is a right answer for the other."""
    place = np.array([PLACES.index(s.place) for s in scenes])
    subject = np.array([SUBJECTS.index(s.subject) for s in scenes])
    return place if place_only else place + len(PLACES) * subject


def relation(a: Modality, b: Modality) -> str:
    if a == b:
        return "same"
    return "trained" if Modality.IMAGE in (a, b) else "emergent"


def matrix(vectors: dict[Modality, np.ndarray], scenes: list[Scene]) -> list[dict[str, object]]:
    """One row per ordered pair of modalities. Within one modality a query does not find itself."""
    rows: list[dict[str, object]] = []
    for a in MODALITIES:
        for b in MODALITIES:
            truth = classes(scenes, place_only=Modality.IMU in (a, b))
            right = truth[:, None] == truth[None, :]
            pair = vectors[a], vectors[b], right
            rows.append({
                "query": str(a), "answer": str(b), "relation": relation(a, b),
                "right": "place" if Modality.IMU in (a, b) else "subject and place",
                "p_at_1": precision_at_1(*pair, skip_self=a == b),
                "r_at_10": recall_at_k(*pair, k=10, skip_self=a == b),
                "chance": float(right.mean()),
            })  # fmt: skip
    return rows


def composition(
    model: ModelEmbedder, gallery: np.ndarray, scenes: list[Scene], *, triples: int
) -> dict[str, float]:
    """picture(S at A) + sound of place B: share of first hits, among pictures, that show S at B."""
    rng = np.random.default_rng(QUERIES)
    pictured = sample(triples, seed=QUERIES)
    others = [str(rng.choice([p for p in PLACES if p != s.place])) for s in pictured]
    heard = [
        replace(s, seed=int(rng.integers(2**31)), place=p, count=0)
        for s, p in zip(pictured, others, strict=True)
    ]
    picture = model.embed([render(s, width=149, height=112)[Modality.IMAGE] for s in pictured])
    sound = model.embed([render(s)[Modality.AUDIO] for s in heard])
    wanted = classes([replace(s, place=p) for s, p in zip(pictured, others, strict=True)], place_only=False)
    right = wanted[:, None] == classes(scenes, place_only=False)[None, :]
    queries = {"picture + sound": picture + sound, "picture only": picture, "sound only": sound}
    return {name: precision_at_1(q, gallery, right) for name, q in queries.items()}


def colour_histogram(scenes: list[Scene]) -> float:
    """P@1 between pictures compared by 4 x 4 x 4 colour histograms: what needs no understanding at all."""
    rows = []
    for scene in scenes:
        pixels = np.asarray(render(scene)[Modality.IMAGE].data).reshape(-1, 3) // 64
        rows.append(np.bincount(pixels @ np.array([16, 4, 1]), minlength=64) ** 0.5)
    unit = np.stack(rows) / np.linalg.norm(rows, axis=1, keepdims=True)
    truth = classes(scenes, place_only=False)
    return precision_at_1(unit, unit, (truth, truth), skip_self=True)


def markdown(result: dict) -> str:
    lines = ["| query \\ answer | " + " | ".join(MODALITIES) + " |", "|---" * 7 + "|"]
    cells = {(r["query"], r["answer"]): r for r in result["matrix"]}
    mark = {"trained": "T", "emergent": "e", "same": "="}
    for a in MODALITIES:
        row = (cells[a, b] for b in MODALITIES)
        lines.append(
            f"| {a} | "
            + " | ".join(f"{c['p_at_1']:.2f} / {c['r_at_10']:.2f} {mark[c['relation']]}" for c in row)
            + " |"
        )
    lines += [
        "",
        f"P@1 / R@10 over {result['scenes']} held-out scenes. T: the pair was trained. e: it never was, it "
        "emerged. =: within one modality, without itself. Chance P@1 is 0.01, with IMU 0.13.",
        "",
        "| composition: picture(S at A) + sound of B | first hit shows S at B |",
        "|---|---|",
        *(f"| {name} | {share:.0%} |" for name, share in result["composition"].items()),
        "",
        f"Pictures compared by their colour histograms alone: P@1 {result['colour_histogram']:.2f}.",
    ]
    return "\n".join(lines)


def run(model: str | None, *, scenes: int, triples: int) -> dict:
    embedder = ModelEmbedder.load(model)
    held_out = sample(scenes, seed=HELD_OUT)
    vectors = embed_scenes(embedder, held_out)
    return {
        "model": embedder.stamp.name,
        "digest": embedder.stamp.digest,
        "scenes": scenes,
        "matrix": matrix(vectors, held_out),
        "composition": composition(embedder, vectors[Modality.IMAGE], held_out, triples=triples),
        "colour_histogram": colour_histogram(held_out),
    }


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--model", default="bundled", help="bundled (the default), imagebind or a folder")
    parser.add_argument("--scenes", type=int, default=1000)
    parser.add_argument("--triples", type=int, default=300)
    options = parser.parse_args()
    result = run(options.model, scenes=options.scenes, triples=options.triples)
    command.report(result, markdown, options.json)


if __name__ == "__main__":
    main()
