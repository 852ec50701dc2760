"""What is attacked: a folder of small media, a fake model, and a collection of both."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import soundfile
from PIL import Image

from xsearch import media, vector
from xsearch.backend import Capabilities
from xsearch.collection import Collection
from xsearch.errors import XsearchError
from xsearch.integrity import verify
from xsearch.store import Store
from xsearch.types import Fingerprint, Modality, Sample

__all__ = ["Backend", "Rows", "State", "Wrong", "ask", "make_media", "names_of", "state", "tree"]

DIM = 16
Key = tuple[str, str, float, str]  # path, kind, start in seconds, text
Rows = dict[Key, bytes]  # vectors


class Wrong(Exception):
    """A promise is broken: a wrong answer, a lost item, a hang, something left behind."""


class Backend:
    """A vector is drawn from the bytes of its sample: as good as a model to compare collections, and fast."""

    fingerprint = Fingerprint("bytes", "0", "1", DIM)

    def embed(self, samples: Sequence[Sample]) -> np.ndarray:
        vectors = np.stack([np.random.default_rng(_seed(sample)).normal(size=DIM) for sample in samples])
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    def windows(self, text: str) -> Iterator[str]:
        return media.windows(text, lambda texts: [len(each.split()) for each in texts], 60)

    def embed_query(self, samples: Sequence[Sample], target: Modality | None = None) -> np.ndarray:
        return self.embed(samples)

    def capabilities(self) -> Capabilities:
        return Capabilities(tuple(Modality), DIM, None, None, "cpu", "fp32")


def _seed(sample: Sample) -> int:
    data = sample.data.encode() if isinstance(sample.data, str) else np.asarray(sample.data).tobytes()
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest())


def make_media(folder: Path, scale: int = 4) -> None:
    """Write files of all kinds, duplicates, metadata, one broken file and one that is not media.

    scale: of the number of files, about 9 each.
    """
    rng = np.random.default_rng(0)
    for name in ("notes", "depth", "thermal"):
        (folder / name).mkdir(parents=True)
    for i in range(2 * scale):
        pixels = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:03}.{('png', 'jpg', 'webp', 'gif')[i % 4]}")
        words = " ".join(rng.choice(["sea", "dog", "street", "rain", "lamp", "bird"], 12))
        (folder / "notes" / f"{i:03}.txt").write_text(f"note {i}: {words}")
    for i in range(scale):
        (folder / f"copy {i}.png").write_bytes((folder / "000.png").read_bytes())
        millimetres = rng.integers(500, 9_000, (24, 32)).astype(np.uint16)
        Image.fromarray(millimetres).save(folder / "depth" / f"{i}.png")
        Image.fromarray((millimetres // 40).astype(np.uint8)).save(folder / "thermal" / f"{i}.png")
        tone = np.sin(np.arange(8_000 * (3 + 9 * (i % 2))) * rng.uniform(0.1, 1)) / 2
        soundfile.write(folder / f"{i}.{('wav', 'flac', 'ogg')[i % 3]}", tone, 8_000)
    for i in range(max(scale // 2, 1)):
        _film(folder / f"film {i}.{('mp4', 'mkv')[i % 2]}", rng)
        t = np.arange(400) / 50
        motion = {"t": t} | {f"{s}{axis}": rng.normal(size=len(t)) for s in "ag" for axis in "xyz"}
        lines = [",".join(motion), *(",".join(f"{v:.4f}" for v in row) for row in zip(*motion.values()))]  # noqa: B905
        (folder / f"motion {i}.csv").write_text("\n".join(lines))
    np.save(folder / "depth" / "metres.npy", rng.uniform(1, 5, (24, 32)).astype(np.float32))
    pa.parquet.write_table(pa.table(motion), folder / "motion.parquet")
    (folder / "001.json").write_text(json.dumps({"year": 2001, "place": "Rome"}))
    rows = [f"notes/{i:03}.txt,{i},{'ab'[i % 2]}" for i in range(scale)]
    (folder / "metadata.csv").write_text("\n".join(["path,page,shelf", *rows]))
    (folder / "broken.png").write_bytes((folder / "000.png").read_bytes()[:50])
    (folder / "paper.pdf").write_bytes(b"%PDF-1.7\n" + bytes(99))


def _film(path: Path, rng: np.random.Generator) -> None:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for level in rng.integers(0, 255, 20):
            frame = np.full((48, 64, 3), level, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
        out.mux(stream.encode(None))


@dataclass(frozen=True)
class State:
    """All that a collection holds."""

    rows: Rows
    skipped: dict[str, str]  # path -> class of the error, of files that should have had items
    ids: dict[int, Key]
    findings: tuple[str, ...]  # of a verification
    generation: int

    @property
    def segments_lost(self) -> bool:
        return any("segments/" in finding for finding in self.findings)


def state(path: Path, *, verified: bool = True) -> State:
    """Read a collection. Raises Wrong if it holds something twice, XsearchError if it cannot be read."""
    findings = tuple(f"{finding.path}: {finding.problem}" for finding in verify(path)) if verified else ()
    snapshot = Store.open(path).snapshot()
    items = snapshot.items(snapshot.ids, ["path", "modality", "start_s", "text"]).to_pylist()
    keys = [(item["path"], item["modality"], item["start_s"] or 0.0, item["text"] or "") for item in items]
    if twice := [key for key, count in Counter(keys).items() if count > 1]:
        raise Wrong(f"held twice: {twice[:3]}")
    vectors = [row.tobytes() for row in snapshot.vectors(snapshot.ids)]
    skipped = {row["path"]: row["error"] for row in snapshot.skipped().to_pylist()}
    return State(
        dict(zip(keys, vectors, strict=True)),
        skipped,
        dict(zip(snapshot.ids.tolist(), keys, strict=True)),
        findings,
        snapshot.manifest.generation,
    )


def ask(path: Path) -> list[Any]:
    """What a collection, opened anew, answers: hits of searches by vector, by words and both, its items."""
    collection = Collection(Store.open(path), backend=Backend())
    queries = [vector(np.eye(DIM, dtype=np.float32)[at], kind) for at, kind in enumerate(("image", "text"))]
    answers: list[Any] = [
        [(hit.id, hit.path, round(hit.cosine or 0, 4), round(hit.balanced or 0, 3)) for hit in hits]
        for hits in (
            collection.search(queries[0], top=500),
            collection.search(queries[1], top=5, modality="audio"),
            collection.search(queries[1], top=5, where="bytes > 300", rank="cosine"),
        )
    ]
    words = collection.search("sea dog", top=100, match="words")
    answers.append(sorted(hit.id for hit in words))  # their figures depend on what was removed and when
    answers.append(collection.items().to_pylist())
    answers.append(sorted(row["path"] for row in collection.skipped().to_pylist()))
    return answers


def answers_or_error(path: Path) -> list[Any] | str:
    """`ask`, or the message of the error that it raises instead."""
    try:
        return ask(path)
    except XsearchError as error:
        return str(error)


def names_of(path: Path) -> list[str]:
    """The files of a collection that have content, relative to it, sorted."""
    return sorted(
        str(file.relative_to(path)) for file in path.rglob("*") if file.is_file() and file.stat().st_size
    )


def tree(folder: Path) -> dict[str, str]:
    """The content of a folder: paths with digests, targets of links, and times of change."""
    content = {}
    for path in sorted(folder.rglob("*")):
        about = path.lstat()
        if path.is_symlink():
            what = f"-> {path.readlink()}"
        else:
            what = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        content[str(path.relative_to(folder))] = f"{what} {about.st_mode:o} {about.st_mtime_ns}"
    return content
