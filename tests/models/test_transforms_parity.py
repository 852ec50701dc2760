"""Frames, clip times and token ids against what the official code makes of the same input."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xsearch.models import HUGE, Preprocess, Tokenizer
from xsearch.models.mel import clip_points
from xsearch.types import Modality, Sample

PARITY = Path(__file__).parents[2].parent / "shared" / "parity"
pytestmark = pytest.mark.skipif(not PARITY.is_dir(), reason="the goldens of the official code are not here")


def entries(name: str) -> list[dict[str, Any]]:
    return json.loads((PARITY / name).read_text())["entries"]


def test_resized_and_cropped_frames():
    golden = np.load(PARITY / "video_goldens.npz")
    settings = dataclasses.replace(HUGE.preprocessing, video_clips=1)
    preprocess = Preprocess(dataclasses.replace(HUGE, preprocessing=settings))
    sizes = [key.removeprefix("tf_in/") for key in golden if key.startswith("tf_in/")]
    assert len(sizes) == 4
    for size in sizes:
        crops = preprocess([Sample(Modality.VIDEO, golden[f"tf_in/{size}"])])[0]
        np.testing.assert_allclose(crops[..., ::8, ::8], golden[f"tf_out/{size}"], rtol=0, atol=1e-5)


def test_clip_points():
    for entry in entries("clip_timepoints.json"):
        audio, video = (clip_points(entry["duration"], 2.0, n) for n in (3, 5))
        assert [f"{t.numerator}/{t.denominator}" for t in audio] == entry["audio_2s_x3"]["start_fraction"]
        assert [f"{t.numerator}/{t.denominator}" for t in video] == entry["video_2s_x5"]["start_fraction"]
        slices = [[int(t * 16_000), int((t + 2) * 16_000)] for t in audio]
        assert slices == entry["audio_2s_x3"]["sample_slices_16k"]


def test_clip_tokens(tmp_path):
    tokenizer = Tokenizer.from_clip(PARITY / "bpe_simple_vocab_16e6.txt.gz")
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json", context=77, cleaning="clip")
    golden = entries("tokens_public.json")
    for each in (tokenizer, loaded):
        ids = each.encode([entry["text"] for entry in golden]).tolist()
        assert ids == [entry["ids"] for entry in golden]
        glued, apart = each.encode(["wow!<|endoftext|>", "wow <|EndOfText|>"])
        assert (glued == 49407).sum() == 1  # the official pattern takes "!<|" first
        assert (apart == 49407).sum() == 2
