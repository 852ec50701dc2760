"""Train the bundled decoder: from vectors of pictures to pictures.

    python -m benchmarks.decoder DATA OUT                # DATA: images.parquet, audio.parquet ...
    python -m benchmarks.generation OUT/decoder --tune   # what crosses the modality gap best: into its config
    python -m benchmarks.decoder DATA OTHER --unet       # the baseline and its figures: convolutions

Pictures: scenes of `xsearch.scenes` with the training seed, and the real ones of DATA. They are rendered,
decoded and embedded once, into OUT/cache. May be interrupted at any time; the same command continues.
OUT/decoder is the result, a folder for --decoder. 3,800 steps take an hour and a half on 2 cores in bf16.
With fewer --steps than before, a training that was interrupted ends soon.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

import xsearch
from benchmarks import command, generation
from xsearch.backend.imagebind import ImageBindBackend
from xsearch.evaluate import embed_scenes
from xsearch.generate import DecoderConfig, Network, TrainedDecoder
from xsearch.generate.training import Plan, train_decoder
from xsearch.media.image.pillow import opened
from xsearch.media.imu import WINDOW_S
from xsearch.query import Query
from xsearch.scenes import PLACES, SUBJECTS, Scene, picture, sample
from xsearch.scenes.world import TRAINING_SEED
from xsearch.system.cores import CORES
from xsearch.system.crop import centre_square
from xsearch.system.durable import publish
from xsearch.types import Modality, Sample

TABLES = ("images", "photos")  # with a column jpeg
SCENES, CHUNK = 20_800, 520  # CHUNK: pictures of a cached file
EMPTY = len(SUBJECTS) + 1  # one scene of so many is a place without a subject
RENDERED = 112  # pixels
MEAN_SCENES, MEAN_ROWS = 520, 400  # recordings that the mean of a kind is of
HELD_OUT = 192  # scenes that the baseline draws
LICENSE = "LicenseRef-xsearch-weights"

Pixels = np.ndarray  # uint8 [N, S, S, 3]


def scenes(count: int) -> list[Scene]:
    """Scenes of the training seed, one of EMPTY without a subject."""
    drawn = sample(count, seed=TRAINING_SEED)
    return [replace(scene, count=0) if at % EMPTY == 0 else scene for at, scene in enumerate(drawn)]


def rendered(some: Sequence[Scene], backend: ImageBindBackend, side: int) -> tuple[Pixels, np.ndarray]:
    """Pictures of scenes at the size of the decoder, and the vectors of the larger ones."""
    views = [picture.render(scene, width=RENDERED, height=RENDERED).picture for scene in some]
    return squares([Image.fromarray(view) for view in views], backend, side)


def decoded(jpegs: Sequence[bytes], backend: ImageBindBackend, side: int) -> tuple[Pixels, np.ndarray]:
    return squares([opened(io.BytesIO(jpeg), "JPEG").convert("RGB") for jpeg in jpegs], backend, side)


def squares(
    pictures: Sequence[Image.Image], backend: ImageBindBackend, side: int
) -> tuple[Pixels, np.ndarray]:
    pixels = np.stack([np.asarray(centre_square(each, side)) for each in pictures])
    vectors = backend.embed([Sample(Modality.IMAGE, each) for each in pictures])
    return pixels, vectors.astype(np.float16)


Job = tuple[Path, str, int, Callable[..., tuple[Pixels, np.ndarray]], list]


def _cache(job: Job) -> None:
    """Write one chunk of pictures and vectors. Runs in a process of its own."""
    path, model, side, make, items = job
    torch.set_num_threads(1)  # there are as many workers as cores
    pixels, vectors = make(items, ImageBindBackend.load(model), side)
    with publish(path) as part, part.open("wb") as file:
        np.savez(file, pixels=pixels, vectors=vectors)


def _jobs(data: Path, folder: Path, model: str, side: int, count: int) -> Iterator[Job]:
    drawn = scenes(count)
    for first in range(0, count, CHUNK):
        some = drawn[first : first + CHUNK]
        yield folder / f"scenes-{side}-{first:06d}-{len(some)}.npz", model, side, rendered, some
    for name in TABLES:
        jpegs = pq.read_table(data / f"{name}.parquet", columns=["jpeg"])["jpeg"].to_pylist()
        for first in range(0, len(jpegs), CHUNK):
            path = folder / f"{name}-{side}-{first:06d}.npz"
            yield path, model, side, decoded, jpegs[first : first + CHUNK]


def prepare(
    data: Path, folder: Path, model: str, *, side: int, count: int = SCENES, workers: int = CORES
) -> tuple[Pixels, np.ndarray, np.ndarray]:
    """Pictures, their vectors float16 [N, D], and whether they are scenes: bool [N]; cached in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    jobs = list(_jobs(data, folder, model, side, count))
    todo = [job for job in jobs if not job[0].exists()]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        list(tqdm(pool.map(_cache, todo), total=len(todo), desc="pictures", unit="chunk"))
    chunks = [np.load(job[0]) for job in jobs]
    pixels, vectors = (np.concatenate([chunk[name] for chunk in chunks]) for name in ("pixels", "vectors"))
    is_scene = np.concatenate(
        [
            np.full(len(chunk["vectors"]), job[0].name.startswith("scenes"))
            for job, chunk in zip(jobs, chunks, strict=True)
        ]
    )
    return pixels, vectors, is_scene


def recordings(data: Path) -> Iterator[tuple[Modality, list[Query]]]:
    """Real media of each kind but pictures: the first rows of the tables, which are shuffled."""

    def rows(name: str) -> list[dict]:
        return pq.read_table(data / f"{name}.parquet").slice(0, MEAN_ROWS).to_pylist()

    yield Modality.TEXT, [xsearch.text(row["caption"]) for row in rows("captions")]
    yield Modality.AUDIO, [xsearch.audio(row["ogg"]) for row in rows("audio")]
    yield Modality.DEPTH, [xsearch.depth(row["depth_png"]) for row in rows("depth")]
    yield Modality.THERMAL, [xsearch.thermal(row["thermal_png"]) for row in rows("thermal")]
    windows = [(np.float32(row["samples"]), row["rate_hz"]) for row in rows("imu")]
    yield (
        Modality.IMU,
        [xsearch.imu(samples[: round(WINDOW_S * rate)].T, rate_hz=rate) for samples, rate in windows],
    )


def means(
    backend: ImageBindBackend,
    data: Path,
    vectors: np.ndarray,
    is_scene: np.ndarray,
    *,
    count: int,
) -> np.ndarray:
    """float32 [kinds, D]: the mean vector of each kind, half of scenes and half of real media."""
    found = np.zeros((len(Modality), vectors.shape[1]), np.float32)
    kinds = list(Modality)
    for kind, rows in embed_scenes(backend, sample(count, seed=TRAINING_SEED)).items():
        found[kinds.index(kind)] = rows.mean(axis=0)
    model = xsearch.Model(backend)
    for kind, queries in recordings(data):
        found[kinds.index(kind)] += model.embed(queries).mean(axis=0)
        found[kinds.index(kind)] /= 2
    pictures = [vectors[is_scene == which].astype(np.float32).mean(axis=0) for which in (True, False)]
    found[kinds.index(Modality.IMAGE)] = found[kinds.index(Modality.VIDEO)] = np.mean(pictures, axis=0)
    return found


def run(
    data: Path,
    out: Path,
    plan: Plan,
    *,
    model: str = "bundled",
    sizes: dict[str, int] | None = None,
    count: int = SCENES,
    share: float = 0.5,
    workers: int = CORES,
    device: str = "cpu",
    unet: bool = False,
    held_out: int = HELD_OUT,
    prior: int = generation.PRIOR_SCENES,
) -> dict:
    """Prepare, train, and write `out/decoder`; of a UNet, measure it on `held_out` scenes instead.

    share: of scenes among the pictures of a step. prior: see `generation.Studio`.
    """
    backend = ImageBindBackend.load(model)
    fingerprint = backend.fingerprint
    config = DecoderConfig(
        model=fingerprint.name, digest=fingerprint.digest, dim=fingerprint.dim, **(sizes or {})
    )
    cache = out / "cache" / fingerprint.digest[:12]
    prepared = partial(prepare, data, cache, model, side=config.side)
    pixels, vectors, is_scene = prepared(count=count, workers=workers)
    torch.manual_seed(plan.seed)
    if unet:
        from benchmarks.unet import UNet
    network = UNet(config) if unet else Network(config)
    network.initialise()
    path = cache / "means.npy"
    if not path.exists():
        with publish(path) as part, part.open("wb") as file:
            np.save(file, means(backend, data, vectors, is_scene, count=min(count, MEAN_SCENES)))
    network.means.copy_(torch.from_numpy(np.load(path)))
    weights = np.where(is_scene, share / is_scene.sum(), (1 - share) / (~is_scene).sum())
    train_decoder(network, pixels, vectors, weights, out, plan, device=device)
    decoder = TrainedDecoder(network, "unet" if unet else "trained")
    if not unet:
        decoder.save(out / "decoder", license=LICENSE)
    result = {
        "scenes": int(is_scene.sum()),
        "pictures": int((~is_scene).sum()),
        "places": len(PLACES),
        "parameters": sum(weight.numel() for weight in network.parameters()),
        "gflop": flops(network) / 1e9,
        "steps": plan.steps,
        "images_drawn": plan.steps * plan.batch,
    }
    if unet:
        studio = generation.Studio(decoder, backend, steps=config.steps, prior=prior)
        result["right"] = generation.measure(studio, held_out)[0]["kinds"]
    return result


def flops(network: torch.nn.Module) -> int:
    """Of one picture, forward."""
    side, one = network.config.side, torch.zeros(1)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, side, side), one, torch.zeros(1, network.config.dim), one, one == 0)
    return counter.get_total_flops()


def markdown(result: dict) -> str:
    text = (
        f"{result['parameters'] / 1e6:.1f} million parameters, {result['gflop']:.2f} GFLOP of a picture; "
        f"trained on {result['images_drawn']:,} pictures, drawn from {result['scenes']:,} scenes and "
        f"{result['pictures']:,} real ones."
    )
    if measured := result.get("right"):
        rights = ", ".join(f"{kind} {row['right']:.2f}" for kind, row in measured.items())
        text += f" Right without a way across the gap: {rights}."
    return text


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--steps", type=int, default=3800)
    parser.add_argument("--batch", type=int, default=96)
    parser.add_argument("--lr", type=float, default=Plan(steps=1).lr)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scenes", type=int, default=SCENES)
    parser.add_argument("--share", type=float, default=0.5, help="of scenes among the pictures of a step")
    parser.add_argument("--workers", type=int, default=CORES, help="processes that render and embed")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--unet", action="store_true", help="train the baseline, and measure it")
    for name in ("side", "patch", "width", "depth", "heads"):
        parser.add_argument(f"--{name}", type=int)
    options = parser.parse_args()
    sizes = {name: getattr(options, name) for name in ("side", "patch", "width", "depth", "heads")}
    result = run(
        options.data,
        options.out,
        Plan(steps=options.steps, batch=options.batch, lr=options.lr, seed=options.seed),
        model=options.model,
        sizes={name: value for name, value in sizes.items() if value is not None},
        count=options.scenes,
        share=options.share,
        workers=options.workers,
        device=options.device,
        unet=options.unet,
    )
    command.report(result, markdown, options.json)


if __name__ == "__main__":
    main()
