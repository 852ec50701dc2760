"""How much longer an ingest takes than its embeddings alone: decoding must hide behind a large model.

    python -m benchmarks.hiding MODEL [--pictures 2000] [--sounds 200] [--videos 20] [--json out.json]

MODEL is a model folder; one of ImageBind's size with random weights is written when it is not there (4.8 GB).
The files are rendered scenes: pictures of 1024 x 768 pixels, sounds of 10 s, videos of 5 s. Alone: the same
samples in the same batches, decoded before the clock starts, on all cores. Each runs in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import xsearch
from benchmarks import command
from benchmarks.ingest import make_pictures, make_sounds
from benchmarks.random_model import write_model
from benchmarks.search import machine
from xsearch import scenes
from xsearch.backend.imagebind import ImageBindBackend
from xsearch.decoders import Decoders
from xsearch.ingest.work import pieces
from xsearch.media import walk
from xsearch.store import Store
from xsearch.system.cores import CORES
from xsearch.types import MediaFile, Modality, Sample

SIZE = 1024, 768


def make_files(folder: Path, pictures: int, sounds: int, videos: int, size: tuple[int, int] = SIZE) -> None:
    make_pictures(folder / "pictures", pictures, *size)
    make_sounds(folder / "sounds", sounds)
    if videos:
        scenes.write(scenes.sample(videos, seed=2), folder / "scenes")
        shutil.move(folder / "scenes" / "videos", folder / "videos")
        shutil.rmtree(folder / "scenes")


def alone(folder: Path, model: str) -> dict[str, float]:
    """Seconds of embedding all that is in a folder, and the number of samples."""
    backend = ImageBindBackend.load(model)
    backend.warm()
    kinds: dict[Modality, list[Sample]] = defaultdict(list)
    with Decoders(CORES, side=backend.capabilities().image_side, with_facts=True) as pool:
        for file, what in pool.decode(file for file in walk([folder]) if isinstance(file, MediaFile)):
            assert isinstance(what, Sample | None), f"{file.path}: {what}"
            for piece in pieces(what, backend) if what else ():
                kinds[piece.modality].append(piece)
    batch, start = backend.capabilities().batch, time.perf_counter()
    for samples in kinds.values():
        for first in range(0, len(samples), batch):
            backend.embed(samples[first : first + batch])
    return {"s": time.perf_counter() - start, "items": sum(map(len, kinds.values()))}


def ingested(folder: Path, model: str) -> dict[str, float]:
    """Seconds of an ingest of a folder, and the number of items."""
    with tempfile.TemporaryDirectory() as scratch:
        backend = ImageBindBackend.load(model)
        backend.warm()
        store = Store.create(Path(scratch) / "index", backend.fingerprint)
        collection = xsearch.Collection(store, backend=backend)
        start = time.perf_counter()
        report = collection.ingest(folder)
        return {"s": time.perf_counter() - start, "items": sum(report.items.values())}


MODES = {"alone": alone, "ingest": ingested}


def run(model: Path, pictures: int, sounds: int, videos: int, rounds: int) -> dict:
    """Both in turns; the fastest of each counts."""
    if not (model / "config.json").exists():
        write_model(model)
    result: dict = {"machine": machine(), "pictures": pictures, "sounds": sounds, "videos": videos}
    with tempfile.TemporaryDirectory() as scratch:
        make_files(Path(scratch), pictures, sounds, videos)
        for _ in range(rounds):
            for mode in MODES:
                arguments = [str(model), "--here", mode, scratch]
                done = subprocess.run(
                    [sys.executable, "-m", "benchmarks.hiding", *arguments],
                    stdout=subprocess.PIPE,
                    check=True,
                )
                figures = json.loads(done.stdout)
                result[mode] = min(result.get(mode, figures), figures, key=lambda each: each["s"])
    assert result["alone"]["items"] == result["ingest"]["items"]
    return result


def markdown(result: dict) -> str:
    alone_s, ingest_s = result["alone"]["s"], result["ingest"]["s"]
    return (
        f"{result['machine']}; pictures {result['pictures']:,}, sounds {result['sounds']:,}, videos "
        f"{result['videos']:,}: {result['ingest']['items']:,} items are embedded alone in {alone_s:,.0f} s, "
        f"ingested in {ingest_s:,.0f} s, {ingest_s / alone_s:.2f} x."
    )


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--sounds", type=int, default=200)
    parser.add_argument("--videos", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--here", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        mode, folder = options.here
        print(json.dumps(MODES[mode](Path(folder), str(options.model))))
        return
    result = run(options.model, options.pictures, options.sounds, options.videos, options.rounds)
    command.report(result, markdown, options.json)


if __name__ == "__main__":
    main()
