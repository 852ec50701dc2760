"""Unit vectors to search, queries of two kinds, and the exact answers: made once, kept in a folder.

    python -m benchmarks.vectors FOLDER [--n 100000] [--dim 1024] [--intrinsic 128] [--seed 0]
    python -m benchmarks.vectors FOLDER --content clusters --intrinsic 96
    python -m benchmarks.vectors FOLDER --content scenes --n 6000    # real embeddings, by the bundled model

Made-up vectors, `cones`. There are n/4 things; thing t of T is met with a density of t**-0.5, so that some
have thousands of items and most have two. A thing has one of 1,000 topics (Zipf: the r-th in proportion to
1/r) and two of 4,096 traits each. In `intrinsic` dimensions, with normal draws for topics, traits and items,

    content = sqrt(.35) topic + sqrt(.2) trait + sqrt(.2) trait + sqrt(.25) the item's own

and a kind of media sees content @ (1 + .35 noise), a fixed matrix of that kind. The vector is the unit vector
of sqrt(.55) seen content, on `intrinsic` random axes of the `dim`, + sqrt(.4) the kind's own direction (the
modality gap, arXiv:2203.02053; two kinds are 0.25 apart in cosine) + sqrt(.05) noise in all dimensions.
Items are of three kinds. Queries are new items: `same`, of those kinds, and `cross`, of a fourth, which the
collection does not hold; so its nearest are of any kind, and far from any centroid. Items also stand on one
of 1,000 shelves at random, for filters: `shelf < 100` keeps 10 %.

Clusters: the same kinds, gap, noise and queries, but content = sqrt(.4) centre + sqrt(.6) the item's own,
with n/200 centres whose numbers of items are lognormal.

Scenes: items are the pictures, sounds, depth maps, heat and motions of scenes, `cross` queries the captions.
Blocks of 16,384 vectors are in memory at a time. Answers are those of a full scan of the stored float16.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from benchmarks import command

__all__ = ["ASKING", "ITEM_KINDS", "LIMITS", "SHELVES", "Clusters", "Cones", "Data", "K", "cones", "scenes"]

ITEM_KINDS = ("image", "audio", "depth", "thermal", "imu")  # the made-up ones are of the first three
CONE_KINDS, CROSS = 3, 3  # and ask as the fourth
SHARES = (0.6, 0.3, 0.1)
ASKING = ("same", "cross")
SHELVES = 1_000
LIMITS = (1_000, 100, 10, 1)  # filters `shelf < limit`; the first lets everything through
K = 10

Contents = Callable[[int, np.random.Generator], np.ndarray]

BLOCK = 16_384
TOPICS, TRAITS, ITEMS_PER_THING = 1_000, 4_096, 4
TOPIC, TRAIT, OWN = 0.35, 0.2, 0.25  # shares of a content's square length; two traits
VIEW = 0.35  # how differently two kinds see a content
GAP, COMMON, NOISE = 0.4, 0.25, 0.05  # shares of a vector's square length; of a gap, what all kinds have
PER_CLUSTER, SPREAD = 200, 0.6  # items on average; share of a content's square length that is the item's own


@dataclass(frozen=True, slots=True)
class Cones:
    """What the made-up vectors depend on."""

    n: int
    dim: int = 1024
    intrinsic: int = 128
    seed: int = 0
    queries: int = 1_000  # of each of ASKING

    @property
    def name(self) -> str:
        return f"cones-{self.n}x{self.dim}-i{self.intrinsic}-s{self.seed}-q{self.queries}"

    def contents(self, rng: np.random.Generator) -> Contents:
        """What items are about: a function (b, rng) -> float32 [b, intrinsic]."""
        L = self.intrinsic
        things = max(self.n // ITEMS_PER_THING, 1)
        zipf = 1 / np.arange(1, TOPICS + 1)
        topic = rng.choice(TOPICS, things, p=zipf / zipf.sum())
        trait = rng.integers(TRAITS, size=(2, things))
        topics = _normal(rng, TOPICS, L) * TOPIC**0.5
        traits = _normal(rng, 2, TRAITS, L) * TRAIT**0.5

        def draw(b: int, rng: np.random.Generator) -> np.ndarray:
            thing = (things * rng.random(b) ** 2).astype(int)
            content = topics[topic[thing]] + traits[0, trait[0, thing]] + traits[1, trait[1, thing]]
            return content + OWN**0.5 * _normal(rng, b, L)

        return draw


@dataclass(frozen=True, slots=True)
class Clusters(Cones):
    """The same kinds, gap and noise, but contents are a mixture of round clusters of uneven sizes."""

    @property
    def name(self) -> str:
        return f"clusters-{self.n}x{self.dim}-i{self.intrinsic}-s{self.seed}-q{self.queries}"

    def contents(self, rng: np.random.Generator) -> Contents:
        count = max(self.n // PER_CLUSTER, 1)
        sizes = rng.lognormal(size=count)
        centres = (1 - SPREAD) ** 0.5 * _normal(rng, count, self.intrinsic)

        def draw(b: int, rng: np.random.Generator) -> np.ndarray:
            cluster = rng.choice(count, b, p=sizes / sizes.sum())
            return centres[cluster] + SPREAD**0.5 * _normal(rng, b, self.intrinsic)

        return draw


class Data:
    """A folder that `cones` or `scenes` filled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.about: dict = json.loads((folder / "about.json").read_text())
        self.n: int = self.about["n"]
        self.dim: int = self.about["dim"]
        self.kinds = np.load(folder / "kinds.npy")  # uint8 [n], of ITEM_KINDS
        self.shelves = np.load(folder / "shelves.npy")  # int16 [n]
        self.queries = dict(zip(ASKING, np.load(folder / "queries.npy"), strict=True))  # float32 [Q, dim]
        self.truth: np.ndarray = np.load(folder / "truth.npy")  # float32 [LIMITS, ASKING, Q, K] cosines

    @cached_property
    def vectors(self) -> np.ndarray:
        """float16 [n, dim], memory-mapped."""
        return np.load(self.folder / "vectors.npy", mmap_mode="r")

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(ids int64 [b], vectors float16 [b, dim]), read and not mapped: one is in memory at a time."""
        with (self.folder / "vectors.npy").open("rb") as file:
            np.lib.format.read_magic(file)
            np.lib.format.read_array_header_1_0(file)
            for start in range(0, self.n, BLOCK):
                b = min(BLOCK, self.n - start)
                block = np.fromfile(file, np.float16, b * self.dim)
                yield np.arange(start, start + b), block.reshape(b, self.dim)

    def recall(self, asking: str, ids: np.ndarray, limit: int = SHELVES) -> float:
        """Of the first len(ids) queries: ids int64 [q, K], -1 for none. By score, so that ties are fair."""
        from xsearch.index import recall_by_score

        q = len(ids)
        scores = np.einsum("qkd,qd->qk", self.vectors[ids].astype(np.float32), self.queries[asking][:q])
        ordered = np.sort(ids, axis=1)
        assert (np.diff(ordered)[ordered[:, 1:] >= 0] > 0).all(), "an answer names an item twice"
        assert (self.shelves[ids[ids >= 0]] < limit).all(), "an answer is not what the filter asks for"
        scores[ids < 0] = -np.inf
        return recall_by_score(scores, self.truth[LIMITS.index(limit), ASKING.index(asking), :q])


def cones(folder: Path, recipe: Cones, device: str = "cpu") -> Data:
    """The vectors of `recipe` in `folder`, made if they are not there. device: of torch, for the answers."""
    target = folder / recipe.name
    if not (target / "about.json").exists():
        draw = _drawer(recipe)
        rng = np.random.default_rng([recipe.seed, 2])
        kinds = rng.choice(CONE_KINDS, recipe.n, p=SHARES).astype(np.uint8)
        asking = rng.choice(CONE_KINDS, recipe.queries, p=SHARES), np.full(recipe.queries, CROSS)
        queries = np.stack([draw(kind, [3, row]) for row, kind in enumerate(asking)])
        blocks = (draw(kinds[start : start + BLOCK], [4, start]) for start in range(0, recipe.n, BLOCK))
        about = {"content": type(recipe).__name__.lower(), **asdict(recipe)}
        _write(target, about, blocks, kinds, queries, recipe.seed, device)
    return Data(target)


def _drawer(recipe: Cones) -> Callable[[np.ndarray, list[int]], np.ndarray]:
    """A function (kinds [b], stream) -> float32 [b, dim], the same for the same stream."""
    L, dim = recipe.intrinsic, recipe.dim
    rng = np.random.default_rng([recipe.seed, 1])
    contents = recipe.contents(rng)
    views = np.eye(L, dtype=np.float32) + VIEW * _normal(rng, CROSS + 1, L, L) / L**0.5
    axes = np.linalg.qr(_normal(rng, dim, L))[0].T  # [L, dim]
    own, common = _unit(_normal(rng, CROSS + 1, dim)), _unit(_normal(rng, 1, dim))
    cones = _unit((1 - COMMON) ** 0.5 * own + COMMON**0.5 * common)  # [kinds, dim]

    def draw(kinds: np.ndarray, stream: list[int]) -> np.ndarray:
        rng = np.random.default_rng([recipe.seed, *stream])
        b = len(kinds)
        content = contents(b, rng)
        for kind in np.unique(kinds):
            content[kinds == kind] = content[kinds == kind] @ views[kind]
        x = (1 - GAP - NOISE) ** 0.5 * _unit(content) @ axes  # [b, dim]
        x += GAP**0.5 * cones[kinds]
        x += (NOISE / dim) ** 0.5 * _normal(rng, b, dim)
        return _unit(x)

    return draw


def scenes(folder: Path, n: int, queries: int = 200, seed: int = 0, device: str = "cpu") -> Data:
    """About n embeddings of scenes in `folder`, five of each scene, made if they are not there."""
    from xsearch.backend.imagebind import ImageBindBackend
    from xsearch.evaluate import MODALITIES, embed_scenes
    from xsearch.scenes import sample

    target = folder / f"scenes-{n}-s{seed}-q{queries}"
    if not (target / "about.json").exists():
        model = ImageBindBackend.load("bundled")
        kinds = [m for m in MODALITIES if m in ITEM_KINDS]
        seen = embed_scenes(model, sample(n // len(kinds), seed=seed))
        asked = embed_scenes(model, sample(queries, seed=seed + 1_000_003))
        same = [asked[kinds[row % len(kinds)]][row] for row in range(queries)]
        cross = next(asked[m] for m in MODALITIES if m not in ITEM_KINDS)
        order = np.random.default_rng([seed, 2]).permutation(len(kinds) * len(seen[kinds[0]]))
        vectors = np.concatenate([seen[kind] for kind in kinds])[order]
        codes = np.repeat([ITEM_KINDS.index(kind) for kind in kinds], len(seen[kinds[0]]))[order]
        about = {"n": len(vectors), "dim": model.fingerprint.dim, "queries": queries, "seed": seed}
        blocks = (vectors[start : start + BLOCK] for start in range(0, len(vectors), BLOCK))
        _write(target, about, blocks, codes.astype(np.uint8), np.stack([same, cross]), seed, device)
    return Data(target)


def _write(
    target: Path,
    about: dict,
    blocks: Iterator[np.ndarray],
    kinds: np.ndarray,
    queries: np.ndarray,
    seed: int,
    device: str,
) -> None:
    """Stream the blocks into the folder, with the exact answers; `about.json` comes last."""
    import torch

    n, dim = about["n"], about["dim"]
    target.mkdir(parents=True, exist_ok=True)
    shelves = np.random.default_rng([seed, 5]).integers(SHELVES, size=n).astype(np.int16)
    asked = torch.from_numpy(queries.reshape(-1, dim)).to(device)  # [2 Q, dim]
    best = torch.full((len(LIMITS), len(asked), K), -torch.inf, device=device)
    start = 0
    with (target / "vectors.npy").open("wb") as file:
        header = {"descr": "<f2", "fortran_order": False, "shape": (n, dim)}
        np.lib.format.write_array_header_1_0(file, header)
        for block in blocks:
            stored = block.astype(np.float16)
            stored.tofile(file)
            scores = asked @ torch.from_numpy(stored).to(device).float().T  # [2 Q, b]
            shelf = torch.from_numpy(shelves[start : start + len(block)]).to(device)
            for at, limit in enumerate(LIMITS):
                some = scores if limit == SHELVES else scores[:, shelf < limit]
                found = some.topk(min(K, some.shape[1])).values
                best[at] = torch.cat([best[at], found], dim=1).topk(K).values
            start += len(block)
        file.flush()
        os.fsync(file.fileno())
    np.save(target / "kinds.npy", kinds)
    np.save(target / "shelves.npy", shelves)
    np.save(target / "queries.npy", queries)
    np.save(target / "truth.npy", best.cpu().numpy().reshape(len(LIMITS), len(ASKING), -1, K))
    (target / "about.json").write_text(json.dumps(about))


def _normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, np.float32)


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--intrinsic", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--queries", type=int, default=1_000, help="of each kind")
    parser.add_argument("--content", choices=["cones", "clusters", "scenes"], default="cones")
    options = parser.parse_args()
    if options.content == "scenes":
        data = scenes(options.folder, options.n, options.queries, options.seed)
    else:
        kind = Clusters if options.content == "clusters" else Cones
        recipe = kind(options.n, options.dim, options.intrinsic, options.seed, options.queries)
        data = cones(options.folder, recipe)
    command.report(data.about, lambda about: json.dumps(about), options.json)


if __name__ == "__main__":
    main()
