"""Pair tables for the bundled model: real media of everyday things, each bound to pictures.

    python -m benchmarks.bundled DATA OUT               # DATA: images.parquet, audio.parquet ...
    xsearch train OUT/*.arrow --recipe bundled --out RUN

Words, depth maps and thermal pictures come with pictures of their own. A sound comes with
pictures of the same concept, and a motion with drawings of somebody who moves like that (`figures`), so that
these pairs are right as classes only; a sound whose concept is in no picture is left out. Rows of
`*_val.parquet` become the split "val".
"""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Container, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from benchmarks import command
from benchmarks.figures import POSTURES, draw
from xsearch.media.imu import WINDOW_S

SEED = 0
PICTURES = 8  # for each sound
PROMPTS = (
    "{}", "a {}", "a photo of a {}", "a picture of a {}", "an image of a {}", "a photo of the {}", "one {}",
    "the {} in a photo", "there is a {}",
)  # fmt: skip
HEARD = ("the sound of a {}", "a recording of a {}")  # of the concepts that have sounds
FREQUENT = 2  # captions of a picture that have a name in common show it
DRAWN, WINDOWS = 120, 12  # drawings of each activity with words; windows of each recording, with one each
SAID = ("a person {}", "someone {}", "{}", "a drawing of a person {}", "a man {}", "a woman {}")
SPLITS = {"train": "", "val": "_val"}


def words(data: Path) -> Iterator[dict[str, Any]]:
    """Every picture with all its names in all phrasings, and its captions."""
    heard = set(pq.read_table(data / "audio.parquet", columns=["concept"])["concept"].to_pylist())
    names: set[str] = set()
    for split, ending in SPLITS.items():
        for row in pq.read_table(data / f"images{ending}.parquet").to_pylist():
            of_row = dict.fromkeys([row["label"], row["concept"], *row["synonyms"]])
            names |= set(of_row)
            yield _named(row["jpeg"], of_row, heard, split, row["concept"])
        for row in pq.read_table(data / f"photos{ending}.parquet").to_pylist():
            names |= set(row["labels"])
            yield _named(row["jpeg"], row["labels"], heard, split, "|".join(row["labels"]), row["captions"])
    captioned: dict[str, list[dict[str, Any]]] = {}
    for row in pq.read_table(data / "captions.parquet").to_pylist():
        captioned.setdefault(row["image_id"], []).append(row)
    for rows in captioned.values():
        captions = [row["caption"] for row in rows]
        texts = [f" {' '.join(re.findall('[a-z]+', caption.lower()))} " for caption in captions]
        shown = [name for name in sorted(names) if sum(f" {name} " in text for text in texts) >= FREQUENT]
        yield _named(rows[0]["jpeg"], shown, heard, "train", None, captions)


def _named(
    jpeg: bytes,
    names: Iterable[str],
    heard: Container[str],
    split: str,
    label: str | None,
    captions: Sequence[str] = (),
) -> dict[str, Any]:
    """A picture with phrasings of its names. In training, texts alone decide what is right."""
    if split != "train":
        shown = [f"a photo of a {name}" for name in names] or captions
        return {"image": jpeg, "other": list(shown[:1]), "split": split, "label": label}
    prompts = {name: (*PROMPTS, *(HEARD if name in heard else ())) for name in names}
    texts = [prompt.format(name) for name, some in prompts.items() for prompt in some]
    texts += [re.sub(r"\ba (?=[aeiou])", "an ", text) for text in texts]
    return {"image": jpeg, "other": list(dict.fromkeys([*texts, *captions])), "split": split, "label": None}


def sounds(data: Path) -> Iterator[dict[str, Any]]:
    """Sounds with pictures and photographs of the same concept."""
    rng = np.random.default_rng(SEED)
    for split, ending in SPLITS.items():
        pictures: dict[str, list[bytes]] = {}
        columns = ["concept", "jpeg"]
        for row in pq.read_table(data / f"images{ending}.parquet", columns=columns).to_pylist():
            pictures.setdefault(row["concept"], []).append(row["jpeg"])
        for row in pq.read_table(data / f"photos{ending}.parquet", columns=["labels", "jpeg"]).to_pylist():
            for label in row["labels"]:
                pictures.setdefault(label, []).append(row["jpeg"])
        for row in pq.read_table(data / f"audio{ending}.parquet").to_pylist():
            some = pictures.get(row["concept"], [])
            for at in rng.permutation(len(some))[: PICTURES if split == "train" else 1]:
                yield {"image": some[at], "other": row["ogg"], "split": split, "label": row["concept"]}


def drawn(rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """Drawings of what people do, and the words for it."""
    for split, count in (("train", DRAWN), ("val", 5)):
        for activity in POSTURES:
            for _ in range(count):
                texts = [said.format(activity) for said in (SAID if split == "train" else SAID[:1])]
                picture = _jpeg(draw(activity, rng))
                label = None if split == "train" else activity
                yield {"image": picture, "other": texts, "split": split, "label": label}


def motions(data: Path) -> Iterator[dict[str, Any]]:
    """Windows of recordings, wherever they start, with drawings of the same activity."""
    rng = np.random.default_rng(SEED)
    for split, ending in SPLITS.items():
        for row in pq.read_table(data / f"imu{ending}.parquet").to_pylist():
            size = round(WINDOW_S * row["rate_hz"])
            for _ in range(WINDOWS if split == "train" else 1):
                start = int(rng.integers(max(len(row["samples"]) - size, 0) + 1))
                yield {
                    "image": _jpeg(draw(row["label"], rng)),
                    "other": row["samples"][start : start + size],
                    "rate_hz": row["rate_hz"],
                    "split": split,
                    "label": row["label"],
                }


def _jpeg(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=90)
    return file.getvalue()


def planes(data: Path, modality: str) -> Iterator[dict[str, Any]]:
    """Depth maps, or thermal pictures, with the pictures that were taken together with them."""
    for split, ending in SPLITS.items():
        for row in pq.read_table(data / f"{modality}{ending}.parquet").to_pylist():
            camera = {"focal_px": row["fx"]} if modality == "depth" else {}
            yield {"image": row["rgb_jpeg"], "other": row[f"{modality}_png"], "split": split, **camera}


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    sources = {
        "text": itertools.chain(words(options.data), drawn(np.random.default_rng(SEED + 1))),
        "audio": sounds(options.data),
        "depth": planes(options.data, "depth"),
        "thermal": planes(options.data, "thermal"),
        "imu": motions(options.data),
    }
    counts = {}
    for modality, rows in sources.items():
        table = pa.Table.from_pylist([{"modality": modality, **row} for row in rows])
        with (
            pa.OSFile(str(options.out / f"{modality}.arrow"), "wb") as file,
            pa.ipc.new_file(file, table.schema) as writer,
        ):
            writer.write(table)
        counts[modality] = len(table)
    command.report(
        counts, lambda found: "\n".join(f"{n:,} {name}" for name, n in found.items()), options.json
    )


if __name__ == "__main__":
    main()
