"""From an embedded query to pictures, and to files that state what was drawn."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from PIL.Image import Image, Resampling
from PIL.PngImagePlugin import PngInfo

from xsearch.errors import ModelError, UsageError
from xsearch.generate.config import MAX_CANDIDATES, MAX_STEPS
from xsearch.generate.crossing import Nearest
from xsearch.generate.decoder import CONFIG, TrainedDecoder
from xsearch.query import Embedded
from xsearch.system.durable import publish
from xsearch.types import Fingerprint, Modality, Sample

if TYPE_CHECKING:
    from xsearch.backend import Backend

__all__ = ["BUNDLED", "Decoder", "Drawn", "candidate_seeds", "draw", "load_decoder"]

BUNDLED = Path(__file__).parent / "bundled"
MAX_COUNT, SIZES = 1000, range(8, 4097)
SEEDS = 2**32  # that torch tells apart on a CPU
CANDIDATES_APART = 0x9E3779B1  # seeds; odd, so that all differ

Progress = Callable[[int, int], object]  # steps done, and of how many


class Decoder(Protocol):
    """What draws: a trained decoder, or a diffusers pipeline. steps, guidance, candidates: its defaults."""

    name: str

    @property
    def steps(self) -> int: ...

    @property
    def guidance(self) -> float: ...

    @property
    def candidates(self) -> int: ...

    def check(self, fingerprint: Fingerprint) -> None:
        """Raise ModelError unless it draws the vectors of this model."""
        ...

    def draw(
        self,
        query: Embedded,
        seeds: Sequence[int],
        *,
        steps: int,
        guidance: float,
        size: int | None,
        nearest: Nearest | None,
        tick: Callable[[int], object],
    ) -> list[tuple[Image, bool]]:
        """A picture of each seed, and whether the checkpoint's filter has blackened it.

        size: pixels of the side, for decoders that can draw any; others draw the one that they have.
        tick: called with the number of steps done, of len(seeds) x `steps`.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """A picture that was drawn.

    about: what it was drawn of, and how; written into its file. is_filtered: a safety filter of the decoder
    has blackened it.
    """

    picture: Image
    query: Embedded
    seed: int
    is_filtered: bool
    about: dict[str, Any]

    def png(self) -> bytes:
        """A PNG with texts: Description, the query for people, and xsearch, `about` as JSON."""
        texts = PngInfo()
        texts.add_itxt("Software", f"xsearch {_version()}")
        texts.add_itxt("Description", str(self.about["query"]))
        texts.add_itxt("xsearch", json.dumps(self.about))
        file = BytesIO()
        self.picture.save(file, "PNG", pnginfo=texts)
        return file.getvalue()

    def save(self, path: str | Path) -> None:
        """Write `png()`."""
        with publish(Path(path).absolute()) as part:
            part.write_bytes(self.png())


def draw(
    query: Embedded,
    decoder: Decoder,
    backend: Backend,
    *,
    count: int = 1,
    seed: int = 0,
    steps: int | None = None,
    guidance: float | None = None,
    candidates: int | None = None,
    size: int | None = None,
    nearest: Nearest | None = None,
    progress: Progress | None = None,
    each: Callable[[Drawn], object] = lambda drawn: None,
) -> list[Drawn]:
    """Draw `count` pictures of a query, with the seeds `seed`, `seed` + 1, ...

    The same query, seed and settings give the same picture, whatever the count. backend: the model that has
    embedded the query. steps, guidance, candidates: by default the decoder's. candidates: pictures that are
    drawn for each that is kept, which is the one whose own embedding is nearest to the query. size: pixels of
    the side; the bundled decoder draws 64, resampled. nearest: the nearest pictures of a collection, for
    decoders that use them. progress: called after each step; may raise to end the drawing. each: called with
    each picture when it is drawn.
    Raises UsageError for a setting out of range, ModelError for a decoder of another model.
    """
    _check("count", count, 1, MAX_COUNT)
    _check("seed", seed, 0, SEEDS - count)
    steps = decoder.steps if steps is None else _check("steps", steps, 1, MAX_STEPS)
    guidance = decoder.guidance if guidance is None else guidance
    if not math.isfinite(guidance) or guidance < 0:
        raise UsageError(f"guidance: expected a number of at least 0, got {guidance}")
    if size is not None:
        _check("size", size, SIZES.start, SIZES.stop - 1)
    candidates = (
        decoder.candidates if candidates is None else _check("candidates", candidates, 1, MAX_CANDIDATES)
    )
    fingerprint = backend.fingerprint
    decoder.check(fingerprint)
    drawn, each_steps = [], candidates * steps
    for number in range(count):

        def tick(done: int, before: int = number * each_steps) -> None:
            if progress is not None:
                progress(before + done, count * each_steps)

        seeds = candidate_seeds(seed + number, candidates)
        sketches = decoder.draw(
            query, seeds, steps=steps, guidance=guidance, size=size, nearest=nearest, tick=tick
        )
        picture, is_filtered = _best(sketches, query, backend)
        if size not in (None, picture.width):
            picture = picture.resize((size, size), Resampling.LANCZOS)
        about = {
            "query": repr(query.query),
            "parts": [
                {"modality": part.modality, "source": part.label, "weight": part.weight}
                for part in query.query.parts
            ],
            "seed": seed + number,
            "steps": steps,
            "guidance": guidance,
            "candidates": candidates,
            "size": picture.width,
            "near_collection": nearest is not None,
            "decoder": decoder.name,
            "model": fingerprint.name,
            "model_digest": fingerprint.digest,
        }
        drawn.append(Drawn(picture, query, seed + number, is_filtered, about))
        each(drawn[-1])
    return drawn


def candidate_seeds(seed: int, candidates: int) -> list[int]:
    """The seeds of the candidates for one picture; the first is `seed`."""
    return [(seed + number * CANDIDATES_APART) % SEEDS for number in range(candidates)]


def _best(sketches: list[tuple[Image, bool]], query: Embedded, backend: Backend) -> tuple[Image, bool]:
    """The picture that is nearest to the query when it is embedded; a filtered one only if all are."""
    shown = [each for each in sketches if not each[1]]
    if len(shown) < 2:
        return (shown or sketches)[0]
    vectors = backend.embed([Sample(Modality.IMAGE, picture) for picture, _ in shown])
    return shown[int((vectors @ query.vector).argmax())]


def load_decoder(
    choice: Decoder | str | Path | None = None,
    *,
    ip_adapter: str | Path | None = None,
    norm: str | float = "checkpoint",
    device: str = "auto",
) -> Decoder:
    """A decoder by name or folder; one that is loaded already is returned.

    choice: None or "bundled"; the folder of a trained decoder or of a diffusers pipeline; or the id of a
        pipeline that is in the cache of huggingface_hub: nothing is downloaded.
    ip_adapter: file of an IP-Adapter, for Stable Diffusion pipelines. norm: see `pipelines.PipelineDecoder`.
    Raises ModelError where there is none, UsageError without diffusers.
    """
    if choice is not None and not isinstance(choice, str | Path):
        return choice
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    name = "bundled" if choice is None else str(choice)
    folder = BUNDLED if name == "bundled" else Path(name).expanduser()
    if name == "bundled" and not (folder / CONFIG).is_file():
        raise ModelError("this installation has no bundled decoder; name one: --decoder FOLDER")
    if (folder / CONFIG).is_file():
        if ip_adapter is not None or norm != "checkpoint":
            raise UsageError(f"{name}: ip_adapter and norm are for diffusers pipelines")
        return TrainedDecoder.load(folder, name, device)
    from xsearch.generate.pipelines import load_pipeline

    return load_pipeline(name, ip_adapter=ip_adapter, norm=norm, device=device)


def _check(name: str, value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        raise UsageError(f"{name}: expected {low:,} to {high:,}, got {value:,}")
    return value


def _version() -> str:
    try:
        return version("xsearch")
    except PackageNotFoundError:  # run from its source folder
        return "unknown"
