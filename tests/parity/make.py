"""Cut the goldens in this folder out of the complete ones.

    python -m tests.parity.make FOLDER

Everything is as the official code made it; what is left out is named in README.md.
"""

from __future__ import annotations

import gzip
import json
import sys
from itertools import pairwise
from pathlib import Path
from shutil import copyfile
from typing import Any

import numpy as np
import soundfile

from xsearch.models import Tokenizer
from xsearch.models.tokenizer import _clip_clean

HERE = Path(__file__).parent
PICTURES = ("tiny_5x7.png", "palette_301x226.png")
SOUNDS = {  # samples that are kept of each; the first 256 resampled ones need no more
    "dc_offset_16k_3s.wav": None,
    "short_16k_0p3s.wav": None,
    "silence_16k_3s.wav": None,
    "noise_22k_4p321s.wav": 640,
    "stereo_44k_3s.wav": 1280,
}
VIDEO = "one_frame_160x120_5fps.mp4"


def write(name: str, document: dict[str, Any]) -> None:
    """JSON with a line for each entry of a list."""
    lines = [
        f" {json.dumps(key)}: "
        + (
            "[\n  " + ",\n  ".join(json.dumps(each, ensure_ascii=False) for each in value) + "\n ]"
            if isinstance(value, list)
            else json.dumps(value, ensure_ascii=False)
        )
        for key, value in document.items()
    ]
    (HERE / name).write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def towers(complete: Path) -> None:
    about = json.loads((complete / "small_A.json").read_text())
    arrays = np.load(complete / "small_A.npz")
    keep = ("name", "modality", "input_shape", "input_sha256")
    cases = [{key: case[key] for key in keep} for case in about["cases"]]
    write("small_A.json", {"kwargs": about["kwargs"], "cases": cases})
    names = [key for key in arrays if key.startswith(("out64/", "in/text"))]
    np.savez_compressed(HERE / "small_A.npz", **{name: arrays[name] for name in names})
    entries = json.loads((complete / "imagebind_huge_state_dict.json").read_text())["entries"]
    lines = [[entry["key"], entry["shape"], entry["kind"]] for entry in entries]
    data = "\n".join(json.dumps(line) for line in lines)
    (HERE / "imagebind_huge.jsonl.gz").write_bytes(gzip.compress(data.encode(), mtime=0))


def pictures(complete: Path) -> None:
    about = json.loads((complete / "image_goldens.json").read_text())
    arrays = np.load(complete / "image_goldens.npz")
    kept = [entry for entry in about["entries"] if entry["file"] in PICTURES]
    entries = [{key: entry[key] for key in ("file", "decoded_rgb_sha256", "u8_sha256")} for entry in kept]
    write("image_goldens.json", {"pillow": about["pillow"], "entries": entries})
    goldens = {f"f32_strided/{name}": arrays[f"f32_strided/{name}"][:, ::4, ::4] for name in PICTURES}
    np.savez_compressed(HERE / "image_goldens.npz", **goldens)
    for name in PICTURES:
        copyfile(complete / "images" / name, HERE / "images" / name)


def sounds(complete: Path) -> None:
    about = json.loads((complete / "audio_goldens.json").read_text())
    arrays = np.load(complete / "audio_goldens.npz")
    channels = {entry["file"]: entry["channels"] for entry in about["entries"]}
    goldens, entries = {}, []
    for name, samples in SOUNDS.items():
        wave, rate_hz = soundfile.read(complete / "audio" / name, samples or -1, dtype="int16")
        flac = f"{Path(name).stem}.flac"  # lossless
        soundfile.write(HERE / "audio" / flac, wave, rate_hz, subtype="PCM_16")
        entries.append({"file": flac, "channels": channels[name]})
        whole = ("strided", "resampled_head", "resampled_mid")
        for part in ("resampled_head",) if samples else whole:
            goldens[f"{part}/{flac}"] = arrays[f"{part}/{name}"]
    write("audio_goldens.json", {"torchaudio": about["torchaudio"], "entries": entries})
    np.savez_compressed(HERE / "audio_goldens.npz", **goldens)


def videos(complete: Path) -> None:
    about = json.loads((complete / "video_goldens.json").read_text())
    arrays = np.load(complete / "video_goldens.npz")
    keep = ("file", "avg_fps", "frame_indices")
    entries = [{key: entry[key] for key in keep} for entry in about["files"] if entry["file"] == VIDEO]
    write("video_goldens.json", {"decord": about["decord"], "files": entries})
    golden = arrays[f"strided/{VIDEO}"][..., ::4, ::4]
    np.savez_compressed(HERE / "video_goldens.npz", **{f"strided/{VIDEO}": golden})
    copyfile(complete / "video" / VIDEO, HERE / "video" / VIDEO)


def clips(complete: Path) -> None:
    entries = [
        {
            "duration": entry["duration"],
            "audio": entry["audio_2s_x3"]["start_fraction"],
            "video": entry["video_2s_x5"]["start_fraction"],
            "slices": entry["audio_2s_x3"]["sample_slices_16k"],
        }
        for entry in json.loads((complete / "clip_timepoints.json").read_text())["entries"]
    ]
    write("clip_timepoints.json", {"entries": entries})


def tokens(complete: Path) -> None:
    """Ids without their padding, and the merges of CLIP's vocabulary that these texts can meet."""
    about = json.loads((complete / "tokens_public.json").read_text())
    entries = [{"text": entry["text"], "ids": entry["ids"]} for entry in about["entries"]]
    for entry in entries:
        while entry["ids"][-1] == about["pad"]:
            entry["ids"].pop()
    path = complete / "bpe_simple_vocab_16e6.txt.gz"
    lines = gzip.decompress(path.read_bytes()).decode().split("\n")
    ranks = {tuple(line.split()): number for number, line in enumerate(lines)}
    tokenizer = Tokenizer.from_clip(path)
    met: dict[int, str] = {}
    for entry in entries:
        words = tokenizer.backend.pre_tokenizer.pre_tokenize_str(_clip_clean(entry["text"]))
        for word, _ in words:
            parts = [*word[:-1], f"{word[-1]}</w>"]
            while pairs := [(ranks[pair], pair) for pair in pairwise(parts) if pair in ranks]:
                met |= {rank: " ".join(pair) for rank, pair in pairs}
                best, joined = min(pairs)[1], []
                for part in parts:
                    if joined and (joined[-1], part) == best:
                        joined[-1] += part
                    else:
                        joined.append(part)
                parts = joined
    write("tokens_public.json", {"ftfy": about["ftfy"], "entries": entries, "merges": sorted(met.items())})


def main() -> None:
    for folder in ("images", "audio", "video"):
        (HERE / folder).mkdir(exist_ok=True)
    for part in (towers, pictures, sounds, videos, clips, tokens):
        part(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
