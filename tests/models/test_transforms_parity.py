"""Frames, clip times and token ids against what the official code makes of the same input."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from tests import official
from tests.goldens import COMPLETE, PARITY, entries, needs_complete
from xsearch.models import HUGE, Preprocess, Tokenizer
from xsearch.models.mel import clip_points
from xsearch.types import AUDIO_RATE_HZ, Modality, Sample


@needs_complete
def test_resized_and_cropped_frames():
    golden = np.load(COMPLETE / "video_goldens.npz")
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
        assert [f"{t.numerator}/{t.denominator}" for t in audio] == entry["audio"]
        assert [f"{t.numerator}/{t.denominator}" for t in video] == entry["video"]
        assert [[int(t * AUDIO_RATE_HZ), int((t + 2) * AUDIO_RATE_HZ)] for t in audio] == entry["slices"]


@pytest.fixture
def merges(tmp_path) -> Path:
    """CLIP's vocabulary, of which the merges that the texts of the goldens can meet are real."""
    document = json.loads((PARITY / "tokens_public.json").read_text(encoding="utf-8"))
    path = tmp_path / "vocabulary.gz"
    path.write_bytes(official.vocabulary(tuple((line, merge) for line, merge in document["merges"])))
    return path


def test_clip_tokens(merges, tmp_path):
    check_tokens(merges, tmp_path / "tokenizer.json")


@needs_complete
def test_clip_tokens_with_the_whole_vocabulary(tmp_path):
    check_tokens(COMPLETE / "bpe_simple_vocab_16e6.txt.gz", tmp_path / "tokenizer.json")


def check_tokens(vocabulary: Path, saved: Path):
    tokenizer = Tokenizer.from_clip(vocabulary)
    tokenizer.save(saved)
    loaded = Tokenizer.load(saved, context=77, cleaning="clip")
    golden = entries("tokens_public.json")
    for each in (tokenizer, loaded):
        ids = each.encode([entry["text"] for entry in golden]).tolist()
        assert ids == [entry["ids"] + [0] * (77 - len(entry["ids"])) for entry in golden]
        glued, apart = each.encode(["wow!<|endoftext|>", "wow <|EndOfText|>"])
        assert (glued == 49407).sum() == 1  # the official pattern takes "!<|" first
        assert (apart == 49407).sum() == 2
