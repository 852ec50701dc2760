"""Public data sets in their published layout: pairs, class names, and ImageBind's published results."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from xsearch import media
from xsearch.errors import UsageError
from xsearch.evaluate.evaluation import Evaluation
from xsearch.evaluate.pair_metrics import evaluate_pairs
from xsearch.media import imu
from xsearch.media.image import opened
from xsearch.pairs import Pair
from xsearch.types import Modality

if TYPE_CHECKING:
    from xsearch.backend import Backend

__all__ = ["BENCHMARKS", "Benchmark", "evaluate_benchmark"]

Box = tuple[int, int, int, int]  # left, top, right, bottom, pixels
Classes = Mapping[str, Sequence[str]]

# Stereo baselines in metres, as in Omnivore (arXiv:2201.08377).
BASELINE_M = {"kv1": 0.075, "kv2": 0.075, "realsense": 0.095, "xtion": 0.095}


# The prompts are ours, for ImageBind's are not published: differences of a few percent mean little.
@dataclass(frozen=True)
class Benchmark:
    """A data set. `published`: ImageBind's top-1 or text -> audio R@1 on the test split."""

    title: str
    layout: str  # files that the folder must contain
    pairs: Callable[[Path], Iterable[Pair]]
    published: float
    classes: Callable[[Path], Classes | None] = lambda folder: None  # None: the labels


def evaluate_benchmark(
    backend: Backend,
    name: str,
    folder: Path,
    *,
    templates: Sequence[str] = (),
    classes: Classes | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Evaluation:
    """The figures of `evaluate_pairs` on one of BENCHMARKS in `folder`, with the `published` results.

    Raises UsageError if the folder has another layout.
    """
    benchmark = BENCHMARKS[name]
    evaluation = evaluate_pairs(
        backend,
        _read(benchmark, folder),
        templates=templates,
        classes=classes or benchmark.classes(folder),
        progress=progress,
    )
    for row in (*evaluation.figures["zero_shot"], *evaluation.figures["retrieval"]):
        if row.get("query", Modality.TEXT) == Modality.TEXT:
            row["published"] = benchmark.published
    return Evaluation({"benchmark": benchmark.title} | evaluation.figures, evaluation.vectors)


def _read(benchmark: Benchmark, folder: Path) -> Iterator[Pair]:
    empty = True
    try:
        for pair in benchmark.pairs(folder):
            empty = False
            yield pair
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UsageError(f"no {error.filename}; {benchmark.title} has {benchmark.layout}") from None
    except (LookupError, ValueError, OSError, ElementTree.ParseError) as error:
        raise UsageError(f"{folder}: {error!r}; {benchmark.title} has {benchmark.layout}") from None
    if empty:
        raise UsageError(f"{folder}: no pairs; {benchmark.title} has {benchmark.layout}")


def _esc50(folder: Path) -> Iterator[Pair]:
    for row in _rows(folder / "meta" / "esc50.csv"):
        yield Pair(None, folder / "audio" / row["filename"], Modality.AUDIO, label=row["category"])


def _clotho(folder: Path) -> Iterator[Pair]:
    for row in _rows(folder / "clotho_captions_evaluation.csv"):
        captions = [row[f"caption_{number}"] for number in range(1, 6)]
        sound = folder / "evaluation" / row["file_name"]
        yield Pair(None, sound, Modality.AUDIO, extra={"captions": captions})


def _audiocaps(folder: Path) -> Iterator[Pair]:
    """Sounds are named by video, `Y<id>.wav` or `<id>_<start>.wav`, or by the id of their caption."""
    sounds = {path.stem: path for path in folder.rglob("*") if path.suffix in (".wav", ".flac", ".mp3")}
    captions: dict[Path, list[str]] = {}
    for row in _rows(folder / "test.csv"):
        id, start = row["youtube_id"], row["start_time"]
        names = (id, f"Y{id}", f"{id}_{start}", row["audiocap_id"])
        sound = next((sounds[name] for name in names if name in sounds), folder / f"{id}.wav")
        captions.setdefault(sound, []).append(row["caption"])
    for sound, texts in captions.items():
        yield Pair(None, sound, Modality.AUDIO, extra={"captions": texts})


def _imagenet(folder: Path) -> Iterator[Pair]:
    images = folder / "val" if (folder / "val").is_dir() else folder
    for of_class in sorted(path for path in images.iterdir() if path.is_dir()):
        for path in sorted(of_class.iterdir()):
            yield Pair(None, path, Modality.IMAGE, label=of_class.name)


def _imagenet_names(folder: Path) -> Classes | None:
    """From the synset list of the data set; None without one: folders are named by class."""
    for names in ("LOC_synset_mapping.txt", "synset_words.txt"):
        if (folder / names).exists():
            lines = (folder / names).read_text(encoding="utf-8").splitlines()
            return {line.split(" ", 1)[0]: [line.split(" ", 1)[1].split(",")[0]] for line in lines if line}
    return None


SUN_SCENES = (
    "bathroom", "bedroom", "classroom", "computer_room", "conference_room", "corridor", "dining_area",
    "dining_room", "discussion_area", "furniture_store", "home_office", "kitchen", "lab", "lecture_theatre",
    "library", "living_room", "office", "rest_space", "study_space",
)  # fmt: skip
NYU_SCENES = (
    "bathroom", "bedroom", "bookstore", "classroom", "dining_room", "home_office", "kitchen", "living_room",
    "office",
)  # fmt: skip
NYU_OTHERS = (
    "basement", "cafe", "computer lab", "conference room", "dinette", "exercise room", "foyer",
    "furniture store", "home storage", "indoor balcony", "laundry room", "office kitchen", "playroom",
    "printer room", "reception room", "student lounge", "study", "study room",
)  # fmt: skip


def _sun(folder: Path) -> Iterator[Pair]:
    for scene, pair in _sun_rgbd(folder):
        if scene in SUN_SCENES:
            yield pair(scene)


def _nyu(folder: Path) -> Iterator[Pair]:
    for scene, pair in _sun_rgbd(folder / "kv1" / "NYUdata", folder):
        yield pair(scene if scene in NYU_SCENES else "others")


def _sun_rgbd(folder: Path, root: Path | None = None) -> Iterator[tuple[str, Callable[[str], Pair]]]:
    """Yield the scene of each recording of SUN RGB-D below `folder`, and a function label -> pair."""
    root = root or folder
    if not folder.is_dir():
        raise FileNotFoundError(2, "", str(folder))
    selected = (root / "test.txt").read_text().split() if (root / "test.txt").exists() else None
    for scene in sorted(folder.rglob("scene.txt")):
        recording = scene.parent
        if selected is None or recording.relative_to(root).as_posix() in selected:
            yield scene.read_text().strip(), partial(_depth_of, recording)


def _depth_of(recording: Path, label: str) -> Pair:
    maps = [*recording.glob("depth_bfx/*.png"), *recording.glob("depth/*.png")]
    with opened(maps[0]) as file:
        stored = np.asarray(file).astype(np.uint16)
    values = stored >> np.uint16(3) | stored << np.uint16(13)  # millimetres, rotated: its read3dPoints.m
    extra = {
        "focal_px": float((recording / "intrinsics.txt").read_text().split()[0]),
        "baseline_m": next((b for sensor, b in BASELINE_M.items() if sensor in recording.parts), None),
    }
    return Pair(None, _png(Image.fromarray(values)), Modality.DEPTH, label=label, extra=extra)


def _llvip(folder: Path) -> Iterator[Pair]:
    """A crop of every person, and for each a background crop of the same size and picture."""
    rng = np.random.default_rng(0)
    for path in sorted((folder / "infrared" / "test").iterdir()):
        objects = ElementTree.parse(folder / "Annotations" / f"{path.stem}.xml").iter("bndbox")
        people = [_box(box) for box in objects]
        with opened(path) as file:
            picture = file.convert("L")
        for person in people:
            yield _crop(picture, person, "person")
            if (background := _free(rng, picture.size, person, people)) is not None:
                yield _crop(picture, background, "background")


def _box(element: ElementTree.Element) -> Box:
    left, top, right, bottom = (int(element.findtext(at, "")) for at in ("xmin", "ymin", "xmax", "ymax"))
    return left, top, right, bottom


def _crop(picture: Image.Image, box: Box, label: str) -> Pair:
    return Pair(None, _png(picture.crop(box)), Modality.THERMAL, label=label)


def _free(rng: np.random.Generator, size: tuple[int, int], like: Box, taken: list[Box]) -> Box | None:
    """A random box of the size of `like` that overlaps none of `taken`; None after 50 tries."""
    width, height = like[2] - like[0], like[3] - like[1]
    for _ in range(50):
        x, y = (
            int(rng.integers(max(1, size[0] - width + 1))),
            int(rng.integers(max(1, size[1] - height + 1))),
        )
        if all(x >= b[2] or x + width <= b[0] or y >= b[3] or y + height <= b[1] for b in taken):
            return x, y, x + width, y + height
    return None


def _ego4d(folder: Path) -> Iterator[Pair]:
    """Windows of all recordings; each scenario of a video is one of its classes."""
    for video in json.loads((folder / "ego4d.json").read_text())["videos"]:
        path = folder / "imu" / f"{video['video_uid']}.csv"
        if video["scenarios"] and path.exists():  # only some of the cameras had an IMU
            label = "|".join(video["scenarios"])
            for window in media.read(media.identify(path)):
                numbers, rate_hz = window.data.T, window.rate_hz or 0.0  # [T, 6]
                if len(numbers) == round(imu.WINDOW_S * rate_hz):
                    yield Pair(None, numbers, Modality.IMU, label=label, extra={"rate_hz": rate_hz})


def _rows(table: Path) -> Iterator[dict[str, str]]:
    with table.open(encoding="utf-8-sig", newline="") as file:
        yield from csv.DictReader(file)


def _png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


_SUN_RGBD = (
    "SUN RGB-D's folders with scene.txt, depth_bfx/ and intrinsics.txt; optionally test.txt, their names"
)

BENCHMARKS = {
    "esc50": Benchmark("ESC-50", "meta/esc50.csv and audio/", _esc50, 0.669),
    "clotho": Benchmark(
        "Clotho",
        "clotho_captions_evaluation.csv and evaluation/",
        _clotho,
        0.060,
    ),
    "audiocaps": Benchmark(
        "AudioCaps",
        "test.csv and the sounds in any subfolder",
        _audiocaps,
        0.093,
    ),
    "nyu-d": Benchmark(
        "NYU-D",
        f"kv1/NYUdata/ of {_SUN_RGBD}",
        _nyu,
        0.540,
        lambda folder: {name: [name.replace("_", " ")] for name in NYU_SCENES} | {"others": NYU_OTHERS},
    ),
    "sun-d": Benchmark("SUN-D", _SUN_RGBD, _sun, 0.351),
    "llvip": Benchmark(
        "LLVIP",
        "infrared/test/ and Annotations/",
        _llvip,
        0.634,
        lambda folder: {
            "person": ["person", "man", "woman", "people"],
            "background": ["street", "road", "car", "light", "tree"],
        },
    ),
    "ego4d": Benchmark("Ego4D", "ego4d.json and imu/", _ego4d, 0.250),
    "imagenet": Benchmark(
        "ImageNet-1k",
        "a folder for each class, in val/ or at the top; optionally LOC_synset_mapping.txt, their names",
        _imagenet,
        0.777,
        _imagenet_names,
    ),
}
