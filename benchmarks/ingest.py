"""How fast an ingest is, against its own parts alone; its memory; and how soon it sees that nothing changed.

    python -m benchmarks.ingest [--pictures 5000] [--sounds 1000] [--unchanged 100000] [--json out.json]

The files are rendered scenes: pictures of --size pixels as JPEG, sounds of 10 s in stereo at 44.1 kHz. The
parts are CPU seconds of one thread: decoding (with hashing and cutting to the model's size), embedding with
the bundled model, writing. Ideal is their sum over the cores; the ingest's wall time is compared with it.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import soundfile
import torch
from PIL import Image

import xsearch
from benchmarks import command
from xsearch import media
from xsearch.backend.imagebind import ImageBindBackend
from xsearch.ingest import COMMIT_ITEMS
from xsearch.media import walk
from xsearch.scenes import sample
from xsearch.scenes.picture import render as render_picture
from xsearch.scenes.sound import render as render_sound
from xsearch.store import Store
from xsearch.system.cores import CORES
from xsearch.system.crop import centre_square
from xsearch.types import MediaFile, Modality, Sample

SCENES = 24  # are rendered at most; the files are these, shifted and scaled, each with bytes of its own
BATCH = 32


def make_pictures(folder: Path, count: int, width: int, height: int) -> None:
    scenes = sample(min(SCENES, count), seed=0)
    views = [render_picture(scene, width=width, height=height).picture for scene in scenes]
    for i in range(count):
        down, right = divmod(i // SCENES, width)
        shifted = np.roll(views[i % SCENES], (down, right), axis=(0, 1))
        Image.fromarray(shifted).save(_path(folder, i, "jpg"), quality=88)


def make_sounds(folder: Path, count: int) -> None:
    scenes = sample(min(SCENES, count), seed=1)
    waves = [render_sound(scene, duration_s=10, rate_hz=44_100) for scene in scenes]
    for i in range(count):
        shifted = np.roll(waves[i % SCENES], 100 * i)
        soundfile.write(_path(folder, i, "wav"), np.stack([shifted, 0.5 * shifted], axis=1), 44_100)


def make_notes(folder: Path, count: int) -> None:
    for i in range(count):
        _path(folder, i, "txt").write_text("a dog on the beach")


def _path(folder: Path, i: int, suffix: str) -> Path:
    inside = folder / f"{i // 1000:03}"
    inside.mkdir(parents=True, exist_ok=True)
    return inside / f"{i:06}.{suffix}"


def parts(folder: Path) -> dict[str, float]:
    """CPU seconds of decoding, embedding and writing everything in `folder`, one after the other."""
    torch.set_num_threads(1)
    backend = ImageBindBackend.load("bundled", device="cpu")
    side = backend.config.vision.image_size
    samples: list[Sample] = []

    def decode() -> None:
        for file in walk([folder]):
            if isinstance(file, MediaFile):
                media.sha256(file.path)
                for found in media.read(file):
                    data = centre_square(found.data, side) if found.modality is Modality.IMAGE else found.data
                    samples.append(Sample(found.modality, data, rate_hz=found.rate_hz))

    vectors: list[np.ndarray] = []

    def embed() -> None:
        starts = range(0, len(samples), BATCH)
        vectors.extend(backend.embed(samples[first : first + BATCH]) for first in starts)

    def write() -> None:
        import pyarrow as pa

        unit = np.concatenate(vectors)
        with tempfile.TemporaryDirectory() as scratch:
            store = Store.create(Path(scratch) / "index", backend.fingerprint)
            with store.writer() as writer:
                for first in range(0, len(unit), COMMIT_ITEMS):
                    some = unit[first : first + COMMIT_ITEMS]
                    paths = [f"{folder}/{first + i:06}" for i in range(len(some))]
                    writer.add(pa.table({"path": paths, "modality": ["image"] * len(some)}), some)
                    writer.commit()

    backend.embed([Sample(Modality.TEXT, "warm")])
    return {name: _cpu_s(part) for name, part in (("decode", decode), ("embed", embed), ("write", write))}


def _cpu_s(function: Callable[[], None]) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start


def ingest_here(folder: Path, runs: int) -> dict[str, float]:
    """In this process, into a collection that is thrown away."""
    with tempfile.TemporaryDirectory() as scratch, Watch() as watch:
        collection = xsearch.Collection.create(Path(scratch) / "index", "bundled")
        collection.backend.embed([Sample(Modality.TEXT, "warm")])
        walls = []
        for _ in range(runs):
            start = time.perf_counter()
            report = collection.ingest(folder)
            walls.append(time.perf_counter() - start)
    return {
        "wall_s": walls[0],
        "again_s": walls[-1],
        "items": sum(report.items.values()) or report.unchanged,
        "peak_mb": watch.own_mb,
        "decoder_peak_mb": watch.child_mb,
    }


class Watch(command.Sampler):
    """The most memory that this process, and any of its children, had; looks four times a second."""

    period_s = 0.25

    def __init__(self) -> None:
        self.own_mb = self.child_mb = 0.0

    def sample(self) -> None:
        self.own_mb = max(self.own_mb, _resident_mb("self"))
        for thread in Path("/proc/self/task").iterdir():
            for child in (thread / "children").read_text().split():
                self.child_mb = max(self.child_mb, _resident_mb(child))


def _resident_mb(process: str) -> float:
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * resource.getpagesize() / 1e6
    except OSError:
        return 0.0  # it has just ended


def ingest(folder: Path, runs: int = 1) -> dict[str, float]:
    """In a process of its own, whose memory is only what an ingest takes."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.ingest", "--here", str(folder), str(runs)],
        capture_output=True,
        check=True,
    )
    return json.loads(done.stdout)


def run(pictures: Sequence[int], sounds: int, unchanged: int, size: tuple[int, int], rounds: int) -> dict:
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for kind, count in (*(("pictures", count) for count in pictures), ("sounds", sounds)):
            folder = Path(scratch) / f"{kind}-{count}"
            make_pictures(folder, count, *size) if kind == "pictures" else make_sounds(folder, count)
            ingests = []
            alone = []
            for _ in range(rounds):
                alone.append(parts(folder))
                ingests.append(ingest(folder))
            least = min(alone, key=lambda each: sum(each.values()))
            best = min(ingests, key=lambda each: each["wall_s"])
            rows.append(
                {"kind": kind, "files": count, **{f"{name}_s": s for name, s in least.items()}, **best}
            )
        result = {"cores": CORES, "size": size, "rows": rows}
        if unchanged:
            folder = Path(scratch) / "notes"
            make_notes(folder, unchanged)
            result["unchanged"] = {"files": unchanged, "s": ingest(folder, runs=3)["again_s"]}
    return result


def markdown(result: dict) -> str:
    rows = []
    for row in result["rows"]:
        alone = [row[f"{name}_s"] for name in ("decode", "embed", "write")]
        ideal = sum(alone) / result["cores"]
        rows.append(
            [
                f"{row['files']:,} {row['kind']}",
                *(f"{seconds:.1f}" for seconds in (*alone, ideal, row["wall_s"])),
                f"{row['wall_s'] / ideal:.2f}",
                f"{row['files'] / row['wall_s']:.0f}",
                f"{row['peak_mb']:.0f}",
                f"{row['decoder_peak_mb']:.0f}",
            ]
        )
    header = (
        "files,decode: CPU s,embed: CPU s,write: CPU s,ideal s,wall s,wall/ideal,files/s,peak MB,decoder MB"
    )
    width, height = result["size"]
    lines = [
        f"{result['cores']} cores; pictures of {width} x {height}.",
        "",
        command.table(header.split(","), rows),
    ]
    if again := result.get("unchanged"):
        lines += ["", f"{again['files']:,} unchanged files are looked through in {again['s']:.1f} s."]
    return "\n".join(lines)


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--pictures", type=int, action="append")
    parser.add_argument("--sounds", type=int, default=1000)
    parser.add_argument("--unchanged", type=int, default=100_000)
    parser.add_argument("--size", type=int, nargs=2, default=(1024, 768), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--rounds", type=int, default=1, help="of which the fastest count")
    parser.add_argument("--here", nargs=2, metavar=("FOLDER", "RUNS"), help="only this, as JSON")
    options = parser.parse_args()
    if options.here:
        print(json.dumps(ingest_here(Path(options.here[0]), int(options.here[1]))))
        return
    result = run(
        options.pictures or [5000], options.sounds, options.unchanged, tuple(options.size), options.rounds
    )
    command.report(result, markdown, options.json)


if __name__ == "__main__":
    main()
