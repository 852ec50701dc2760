"""Pixels, sounds, frames and token ids against what the official code makes of the same files."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
from PIL import Image

from xsearch.models import HUGE, Preprocess, Tokenizer
from xsearch.models.mel import clip_points
from xsearch.types import Modality, Sample

PARITY = Path(__file__).parents[2].parent / "shared" / "parity"
pytestmark = pytest.mark.skipif(not PARITY.is_dir(), reason="the goldens of the official code are not here")


def names(folder: str) -> list[str]:
    return sorted(path.name for path in (PARITY / folder).glob("*.*"))


def entries(name: str, key: str = "entries") -> list[dict[str, Any]]:
    return json.loads((PARITY / name).read_text())[key]


def with_settings(**changes: Any) -> Preprocess:
    settings = dataclasses.replace(HUGE.preprocessing, **changes)
    return Preprocess(dataclasses.replace(HUGE, preprocessing=settings))


@pytest.mark.parametrize("name", names("images"))
def test_pixels(name):
    golden = np.load(PARITY / "image_goldens.npz")
    with Image.open(PARITY / "images" / name) as file:
        picture = file.convert("RGB")  # the official decoding: no EXIF, 16 bits saturate
    pixels = Preprocess(HUGE)([Sample(Modality.IMAGE, picture)])[0]

    np.testing.assert_allclose(pixels[:, ::8, ::8], golden[f"f32_strided/{name}"], rtol=0, atol=1e-6)
    settings = HUGE.preprocessing
    mean, std = (np.array(v, np.float32)[:, None, None] for v in (settings.image_mean, settings.image_std))
    rgb = golden[f"u8/{name}"].transpose(2, 0, 1).astype(np.float32) / 255
    np.testing.assert_array_equal(pixels, (rgb - mean) / std)


def test_mel_clips_of_the_sounds_that_need_no_resampling():
    golden = np.load(PARITY / "audio_goldens.npz")
    preprocess = with_settings(audio_dc="official")
    seen = 0
    for name in names("audio"):
        wave, rate_hz = soundfile.read(PARITY / "audio" / name, dtype="float32")
        if rate_hz != 16_000:
            continue
        seen += 1
        mel = preprocess([Sample(Modality.AUDIO, wave, rate_hz=rate_hz)])[0, :, :, ::4, ::6].numpy()
        expected = golden[f"strided/{name}"]
        error = np.abs(mel - expected)
        assert error[expected > -0.5].max(initial=0) <= 1e-3, name
        assert np.quantile(error, 0.99) <= 1e-2, name
        assert error.max() <= 0.15, name
    assert seen == 3


def test_resized_and_cropped_frames():
    golden = np.load(PARITY / "video_goldens.npz")
    preprocess = with_settings(video_clips=1)
    sizes = [key.removeprefix("tf_in/") for key in golden if key.startswith("tf_in/")]
    assert len(sizes) == 4
    for size in sizes:
        crops = preprocess([Sample(Modality.VIDEO, golden[f"tf_in/{size}"])])[0]
        np.testing.assert_allclose(crops[..., ::8, ::8], golden[f"tf_out/{size}"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", names("video"))
def test_clips_of_the_official_frames(name):
    golden = np.load(PARITY / "video_goldens.npz")
    (entry,) = (entry for entry in entries("video_goldens.json", "files") if entry["file"] == name)
    with av.open(PARITY / "video" / name) as file:
        frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
    shown = np.stack([frames[i] for pair in entry["frame_indices"] for i in pair])
    clips = Preprocess(HUGE)([Sample(Modality.VIDEO, shown)])[0]
    np.testing.assert_allclose(clips[..., ::8, ::8], golden[f"strided/{name}"], rtol=0, atol=1e-5)


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
