"""The pictures of a table, decoded once: uint8 in a memory map, so that no step waits for a decoder."""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from xsearch.errors import MediaError, Unreadable
from xsearch.pairs import Pairs
from xsearch.system.crop import resized
from xsearch.system.durable import publish
from xsearch.system.terminal import unescaped

__all__ = ["Pictures"]

CHUNK = 500  # rows that a process decodes at a time


class Pictures:
    """Whole pictures, as small as training needs them. Pickles as its path."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._places = np.load(_places(path))  # int64 [N, 3]: first byte, height and width; 0: not decoded
        self._pixels = np.memmap(path, np.uint8, "r") if path.stat().st_size else np.empty(0, np.uint8)

    @staticmethod
    def decode(pairs: Pairs, path: Path, *, short: int, workers: int) -> Pictures:
        """Decode into `path`, unless that has been done. short: pixels of the short side, at most."""
        if not _places(path).exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            rows = np.arange(len(pairs))
            jobs = [(pairs.take(rows[at : at + CHUNK]), short) for at in range(0, len(rows), CHUNK)]
            places, size = [], 0
            with (
                ProcessPoolExecutor(max(workers, 1), mp_context=get_context("spawn")) as pool,
                publish(path) as part,
                part.open("wb") as file,
                tqdm(total=len(rows), desc=path.stem, unit="picture", file=unescaped(sys.stderr)) as bar,
            ):
                for decoded in pool.map(_decoded, jobs):
                    for picture in decoded:
                        if isinstance(picture, str):
                            tqdm.write(f"left out: {picture}", file=sys.stderr)
                            picture = np.empty((0, 0, 3), np.uint8)
                        places.append((size, *picture.shape[:2]))
                        size += file.write(picture.tobytes())
                    bar.update(len(decoded))
            with publish(_places(path)) as part, part.open("wb") as file:
                np.save(file, np.array(places, np.int64).reshape(-1, 3))
        return Pictures(path)

    def __getitem__(self, row: int) -> Image.Image:
        """Raises Unreadable if it could not be decoded."""
        start, height, width = self._places[row]
        if not height:
            raise Unreadable(f"{self.path.stem}: the picture of row {row + 1} could not be decoded")
        pixels = self._pixels[start : start + height * width * 3]
        return Image.fromarray(np.asarray(pixels).reshape(height, width, 3))

    def __reduce__(self) -> tuple[type[Pictures], tuple[Path]]:
        return Pictures, (self.path,)


def _places(path: Path) -> Path:
    return path.with_suffix(".npy")


def _decoded(job: tuple[Pairs, int]) -> list[np.ndarray | str]:
    """uint8 [H, W, 3] of each pair, or what is wrong with it."""
    pairs, short = job
    found: list[np.ndarray | str] = []
    for pair in pairs:
        try:
            picture = pair.picture().data
        except MediaError as error:
            found.append(str(error))
            continue
        width, height = picture.size
        if min(width, height) > short:
            picture = picture.resize(resized(width, height, short), Image.Resampling.LANCZOS)
        found.append(np.asarray(picture.convert("RGB")))
    return found
