"""How well a model says where in a picture something is, and that it is not there.

    python -m benchmarks.localization                           # scenes, the bundled model; 5 minutes of CPU
    python -m benchmarks.localization --scenes 50 --sheet marked.png
    python -m benchmarks.localization --vggss FOLDER            # vggss.json, frames/, audio/
    python -m benchmarks.localization --avsbench FOLDER         # s4_meta_data.csv, visual_frames/ ...
    python -m benchmarks.localization --calibrate xsearch/locate/bundled.json

Scenes: a picture of a subject somewhere, and a query for it, either its name or a sound of another one of its
kind at another place. `right`: share of pictures whose first box has an intersection over union of at least
0.3 with one of the subject, or with all of them together. Absent queries are for another subject of another
place; noise, of any band and loudness, and silence for nothing. Thresholds are those of the package, which
were measured on other scenes.

VGG-SS and AVSBench (single source) as their authors lay them out and measure, with every sound's heat map,
whether it has a box or not: cIoU, the share of pictures with an intersection over union of at least 0.5
between the hotter half of the picture and the boxes; AUC, over all thresholds; mIoU of heat above a half with
the masks, in percent.
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import command
from xsearch import scenes
from xsearch.locate import Located, Locator, Reading, calibrate
from xsearch.locate.boxes import overlaps
from xsearch.media.image.pillow import opened
from xsearch.query import Embedded, audio, embed, text
from xsearch.scenes import picture, sound
from xsearch.scenes.world import DURATION_S
from xsearch.types import AUDIO_RATE_HZ

SEED = 2024  # neither the calibration nor the model has these scenes
SIZE = 320, 240
RIGHT = 0.3
BASELINES = {"whole picture": (0.0, 0.0, 1.0, 1.0), "middle": (0.3, 0.35, 0.7, 0.85)}
SILENCE, NOISE, EMPTY = "silence", "noise", "text, of what an empty place lacks"
KINDS = ("text", "audio", SILENCE, NOISE, EMPTY)
RATES = (0.05, 0.1)  # of false alarms, as stated
SQUARE = 224  # pixels, of the public benchmarks
# (cIoU@0.5, AUC) of VGG-SS, of the papers' tables for VGG-Sound 144k; its boxes have changed since the first
PUBLISHED_VGGSS = {
    "LVS, arXiv:2104.02691, table 3": (34.4, 38.2),
    "EZ-VSL, arXiv:2203.09324, table 2": (38.85, 39.54),
    "FNAC, arXiv:2303.11302, table 2": (39.50, 39.66),
}
# (mIoU, F) of AVSBench S4; the first two are trained without masks
PUBLISHED_AVSBENCH = {
    "LVS, in arXiv:2207.05042, table 2": (37.94, 0.510),
    "MSSL, in arXiv:2207.05042, table 2": (44.89, 0.663),
    "TPAVI PVT-v2, arXiv:2207.05042, table 2": (78.74, 0.879),
}


def on_scenes(locator: Locator, count: int) -> dict:
    """Figures of pictures with and without what is looked for; those of the first pictures for a sheet."""
    drawn, rng = scenes.sample(count, seed=SEED), np.random.default_rng(SEED)
    others = scenes.sample(max(count, 192), seed=SEED + 1)  # two of each subject and place, to be heard
    names = {subject: embed([text(f"a {subject}")], locator.backend)[0] for subject in scenes.SUBJECTS}
    silence = embed([audio(np.zeros(round(DURATION_S * AUDIO_RATE_HZ)))], locator.backend)[0]
    figures: dict = {(kind, rate): defaultdict(list) for rate in RATES for kind in KINDS}
    baselines: dict[str, list[float]] = {name: [] for name in BASELINES}
    for scene in drawn:
        view = picture.render(scene, width=SIZE[0], height=SIZE[1])
        if not len(view.boxes):
            continue
        truth = together(view.boxes)
        for name, box in BASELINES.items():
            baselines[name].append(float(overlaps(np.array([box]), truth).max()))
        reading = Reading(Image.fromarray(view.picture), locator.backend)
        is_other = [(o.subject != scene.subject, o.place != scene.place) for o in others]
        heard = [o for o, (subject, place) in zip(others, is_other, strict=True) if not subject and place]
        absent = [o for o, (subject, place) in zip(others, is_other, strict=True) if subject and place]
        other = absent[rng.integers(len(absent))]
        queries = {
            "text": (names[scene.subject], names[other.subject]),
            "audio": tuple(_heard(o, locator) for o in (heard[rng.integers(len(heard))], other)),
        }
        for kind, (present, missing) in queries.items():
            candidates = locator.candidates(reading, present)
            overlap = float(overlaps(candidates.boxes[:1], truth).max())
            for rate in RATES:
                located = locator.judge(candidates, reading, present, false_alarms=rate)
                figures[kind, rate]["silent"].append(not located.boxes)
                figures[kind, rate]["overlaps"].append(overlap)
            _look(locator, reading, missing, figures, kind)
        _look(locator, reading, silence, figures, SILENCE)
        _look(locator, reading, embed([audio(noise(rng))], locator.backend)[0], figures, NOISE)
        bare = picture.render(replace(scene, count=0), width=SIZE[0], height=SIZE[1])
        reading = Reading(Image.fromarray(bare.picture), locator.backend)
        _look(locator, reading, names[scene.subject], figures, EMPTY)
    return {
        "pictures": len(figures[SILENCE, RATES[0]]["absent"]),
        "queries": [{"query": kind, "stated": rate, **_shares(of)} for (kind, rate), of in figures.items()],
        "baselines": {
            name: {"right": float(np.mean(np.array(of) >= RIGHT))} for name, of in baselines.items()
        },
    }


def noise(rng: np.random.Generator) -> np.ndarray:
    """Five seconds of noise of any loudness, in any band of two octaves or more."""
    n = round(DURATION_S * AUDIO_RATE_HZ)
    low_hz = 2 ** rng.uniform(5, 10)
    high_hz = low_hz * 2 ** rng.uniform(2, 6)
    hz = np.fft.rfftfreq(n, 1 / AUDIO_RATE_HZ)
    spectrum = np.where((low_hz <= hz) & (hz <= high_hz), np.fft.rfft(rng.standard_normal(n)), 0)
    wave = np.fft.irfft(spectrum, n)
    return (10 ** rng.uniform(-3, -0.7) * wave / wave.std()).clip(-1, 1).astype(np.float32)


def _look(locator: Locator, reading: Reading, query: Embedded, figures: dict, kind: str) -> None:
    """Note whether what is not there gets a box."""
    candidates = locator.candidates(reading, query)
    for rate in RATES:
        located = locator.judge(candidates, reading, query, false_alarms=rate)
        figures[kind, rate]["absent"].append(bool(located.boxes))


def together(boxes: np.ndarray) -> np.ndarray:
    """Boxes [N, 4], and the one around all of them: [N+1, 4]."""
    return np.concatenate([boxes, [[*boxes[:, :2].min(axis=0), *boxes[:, 2:].max(axis=0)]]])


def _heard(scene: scenes.Scene, locator: Locator) -> Embedded:
    return embed([audio(sound.render(scene))], locator.backend)[0]


def _shares(of: dict) -> dict:
    shares = {"false_alarms": float(np.mean(of["absent"]))}
    if "overlaps" in of:
        overlap, is_silent = np.array(of["overlaps"]), np.array(of["silent"])
        shares |= {
            "right": float(np.mean((overlap >= RIGHT) & ~is_silent)),
            "right_if_asked": float(np.mean(overlap >= RIGHT)),
            "half": float(np.mean((overlap >= 0.5) & ~is_silent)),
            "overlap": float(overlap.mean()),
            "silent": float(is_silent.mean()),
        }
    return shares


def on_vggss(locator: Locator, folder: Path) -> dict:
    """VGG-SS: https://github.com/hche11/Localizing-Visual-Sounds-the-Hard-Way, README, utils.py, test.py."""
    ious, silent = [], []
    for image, wave, boxes in vggss(folder):
        located = locator.locate(image, audio(wave))
        ious.append(_iou(_hotter_half(located), _drawn(boxes)))
        silent.append(not located.boxes)
    curve = [float(np.mean(np.array(ious) >= 0.05 * step)) for step in range(21)]
    return {
        "pictures": len(ious),
        "ciou": 100 * float(np.mean(np.array(ious) >= 0.5)),
        "auc": 100 * float(np.trapezoid(curve, dx=0.05)),
        "silent": float(np.mean(silent)),
    }


def vggss(folder: Path) -> Iterator[tuple[Path, Path, list[list[float]]]]:
    """Yield frame, sound and boxes of every annotated clip that is there."""
    for clip in json.loads((folder / "vggss.json").read_text()):
        image, wave = folder / "frames" / f"{clip['file']}.jpg", folder / "audio" / f"{clip['file']}.wav"
        if image.exists() and wave.exists():
            yield image, wave, clip["bbox"]


def _drawn(boxes: Sequence[Sequence[float]]) -> np.ndarray:
    mask = np.zeros((SQUARE, SQUARE), bool)
    for box in boxes:
        left, top, right, bottom = (int(SQUARE * max(side, 0)) for side in box)
        mask[top:bottom, left:right] = True
    return mask


def _hotter_half(located: Located) -> np.ndarray:
    heat = _square(located.heat)
    return heat > np.sort(heat, axis=None)[heat.size // 2]


def _square(heat: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(heat).resize((SQUARE, SQUARE), Image.Resampling.BILINEAR))


def _iou(mask: np.ndarray, other: np.ndarray) -> float:
    return float((mask & other).sum() / max((mask | other).sum(), 1))


def on_avsbench(locator: Locator, folder: Path, split: str = "test") -> dict:
    """AVSBench S4: https://github.com/OpenNLPLab/AVSBench, avs_s4/dataloader.py, avs_s4/utils/utility.py."""
    ious, scores, silent = [], [], []
    for image, wave, mask in avsbench(folder, split):
        with mask.open("rb") as file:
            drawn = opened(file, "PNG").convert("L")
        truth = np.asarray(drawn.resize((SQUARE, SQUARE), Image.Resampling.NEAREST)) > 0
        located = locator.locate(image, audio(wave))
        heat = _square(located.heat)
        ious.append(_iou(heat > 0.5, truth))
        scores.append([_f_score(heat >= level, truth) for level in np.linspace(0, 1 - 1e-10, 255)])
        silent.append(not located.boxes)
    return {
        "pictures": len(ious),
        "miou": 100 * float(np.mean(ious)),
        "f_score": float(np.mean(scores, axis=0).max()),
        "silent": float(np.mean(silent)),
    }


def avsbench(folder: Path, split: str) -> Iterator[tuple[Path, Path, Path]]:
    """Yield frame, sound and mask of every annotated second that is there."""
    with (folder / "s4_meta_data.csv").open(newline="") as table:
        rows = [row for row in csv.DictReader(table) if row["split"] == split]
    for row in rows:
        name, _, category = list(row.values())[:3]
        inside = Path(split, category)
        wave = folder / "audio_wav" / inside / f"{name}.wav"
        for mask in sorted((folder / "gt_masks" / inside / name).glob("*.png")):
            image = folder / "visual_frames" / inside / name / mask.name
            if image.exists() and wave.exists():
                yield image, wave, mask


def _f_score(mask: np.ndarray, truth: np.ndarray, squared_beta: float = 0.3) -> float:
    hits = (mask & truth).sum()
    precision, recall = hits / max(mask.sum(), 1), hits / max(truth.sum(), 1)
    return float((1 + squared_beta) * precision * recall / max(squared_beta * precision + recall, 1e-12))


def sheet(locator: Locator, path: Path, count: int = 12) -> None:
    """Draw scenes with what is located by name (above) and by sound (below)."""
    drawn, others = scenes.sample(count, seed=SEED), scenes.sample(192, seed=SEED + 1)
    canvas = Image.new("RGB", (SIZE[0] * 4, SIZE[1] * 2 * (count // 4)))
    for at, scene in enumerate(drawn):
        view = picture.render(scene, width=SIZE[0], height=SIZE[1])
        reading = Reading(Image.fromarray(view.picture), locator.backend)
        heard = next(o for o in others if o.subject == scene.subject and o.place != scene.place)
        queries = embed([text(f"a {scene.subject}")], locator.backend)[0], _heard(heard, locator)
        for row, query in enumerate(queries):
            marked = locator.find(reading, query).draw(reading.picture)
            canvas.paste(marked, (SIZE[0] * (at % 4), SIZE[1] * (2 * (at // 4) + row)))
    canvas.save(path)


def markdown(result: dict) -> str:
    lines = [f"model {result['model']} ({result['digest'][:8]})", ""]
    if of := result.get("scenes"):
        names = ("right", "right_if_asked", "half", "overlap", "silent", "false_alarms")
        rows = [
            [row["query"], f"{row['stated']:.2f}", *(f"{row[n]:.2f}" if n in row else "" for n in names)]
            for row in of["queries"]
        ]
        rows += [
            [f"baseline: {name}", "", f"{each['right']:.2f}", *[""] * 5]
            for name, each in of["baselines"].items()
        ]
        header = [
            "query",
            "stated false alarms",
            "IoU >= 0.3",
            "... if it always answered",
            "IoU >= 0.5",
            "mean IoU",
            "no box though it is there",
        ]
        lines += [
            command.table([*header, "false alarms"], rows),
            "",
            f"Shares of {of['pictures']} pictures of {SIZE[0]} x {SIZE[1]} pixels; "
            f"thresholds {'measured with' if result['measured'] else 'NOT MEASURED WITH'} this model.",
        ]
    if of := result.get("vggss"):
        rows = [["here", f"{of['ciou']:.1f}", f"{of['auc']:.1f}"]]
        rows += [[name, *map(str, figures)] for name, figures in PUBLISHED_VGGSS.items()]
        lines += ["", command.table([f"VGG-SS ({of['pictures']} pictures)", "cIoU@0.5, %", "AUC, %"], rows)]
    if of := result.get("avsbench"):
        rows = [["here", f"{of['miou']:.1f}", f"{of['f_score']:.3f}"]]
        rows += [[name, *map(str, figures)] for name, figures in PUBLISHED_AVSBENCH.items()]
        lines += ["", command.table([f"AVSBench S4 ({of['pictures']} pictures)", "mIoU, %", "F"], rows)]
    return "\n".join(lines)


def run(model: str | None, *, count: int, vggss: Path | None = None, avsbench: Path | None = None) -> dict:
    locator = Locator.load(model)
    fingerprint = locator.backend.fingerprint
    result: dict = {
        "model": fingerprint.name,
        "digest": fingerprint.digest,
        "measured": locator.thresholds.is_of(fingerprint),
    }
    if vggss:
        result["vggss"] = on_vggss(locator, vggss)
    if avsbench:
        result["avsbench"] = on_avsbench(locator, avsbench)
    if not (vggss or avsbench):
        result["scenes"] = on_scenes(locator, count)
    return result


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--model", default="bundled", help="bundled (the default), imagebind or a folder")
    parser.add_argument("--scenes", type=int, default=192)
    parser.add_argument("--vggss", type=Path)
    parser.add_argument("--avsbench", type=Path)
    parser.add_argument("--sheet", type=Path, help="also draw some scenes here")
    parser.add_argument("--calibrate", type=Path, help="only measure thresholds, and write them here")
    options = parser.parse_args()
    if options.calibrate:
        print(calibrate(Locator.load(options.model).backend).save(options.calibrate))
        return
    result = run(options.model, count=options.scenes, vggss=options.vggss, avsbench=options.avsbench)
    command.report(result, markdown, options.json)
    if options.sheet:
        sheet(Locator.load(options.model), options.sheet)


if __name__ == "__main__":
    main()
