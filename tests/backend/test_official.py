"""Files as the official code reads them, against what it made of the same files; and its scaling."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

import xsearch
from xsearch.backend.imagebind import ImageBindBackend
from xsearch.backend.official import read_official
from xsearch.errors import Unreadable, UsageError
from xsearch.media import identify, read
from xsearch.models import HUGE, TOWERS, Preprocess
from xsearch.types import Modality

PARITY = Path(__file__).parents[3] / "shared" / "parity"
needs_goldens = pytest.mark.skipif(
    not PARITY.is_dir(), reason="the goldens of the official code are not here"
)
OFFICIAL = dataclasses.replace(
    HUGE, preprocessing=dataclasses.replace(HUGE.preprocessing, audio_dc="official")
)


def files(folder: str) -> list[str]:
    return sorted(path.name for path in (PARITY / folder).glob("*.*"))


def goldens(kind: str, name: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    listed = json.loads((PARITY / f"{kind}_goldens.json").read_text())
    listed = listed["files"] if kind == "video" else listed["entries"]
    arrays = np.load(PARITY / f"{kind}_goldens.npz")
    keys = [key for key in arrays if key.endswith(f"/{name}")]
    return next(each for each in listed if each["file"] == name), {
        key.partition("/")[0]: arrays[key] for key in keys
    }


@needs_goldens
@pytest.mark.parametrize("name", files("images"))
def test_pixels(name):
    _, golden = goldens("image", name)
    pixels = Preprocess(HUGE)([read_official(PARITY / "images" / name, Modality.IMAGE)])[0]
    np.testing.assert_allclose(pixels[:, ::8, ::8], golden["f32_strided"], rtol=0, atol=1e-6)
    settings = HUGE.preprocessing
    mean, std = (np.array(v, np.float32)[:, None, None] for v in (settings.image_mean, settings.image_std))
    rgb = golden["u8"].transpose(2, 0, 1).astype(np.float32) / 255
    np.testing.assert_array_equal(pixels, (rgb - mean) / std)


@needs_goldens
@pytest.mark.parametrize("name", files("audio"))
def test_mel_clips(name):
    about, golden = goldens("audio", name)
    sample = read_official(PARITY / "audio" / name, Modality.AUDIO)
    assert sample.data.shape == (about["channels"], about["resampled_frames"])
    middle = sample.data.shape[1] // 2
    for ours, expected in (
        (sample.data[..., :256], golden["resampled_head"]),
        (sample.data[..., middle : middle + 64], golden["resampled_mid"]),
    ):
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5)

    mel = Preprocess(OFFICIAL)([sample])[0, :, :, ::4, ::6].numpy()
    error = np.abs(mel - golden["strided"])
    assert error[golden["strided"] > -0.5].max(initial=0) <= 1e-3
    assert np.quantile(error, 0.99) <= 1e-2
    assert error.max() <= 0.15


@needs_goldens
@pytest.mark.parametrize("name", files("video"))
def test_frames_of_videos(name):
    about, golden = goldens("video", name)
    sample = read_official(PARITY / "video" / name, Modality.VIDEO)
    clips = Preprocess(HUGE)([sample])[0]
    np.testing.assert_allclose(clips[..., ::8, ::8], golden["strided"], rtol=0, atol=1e-5)

    (ingested,) = read(identify(PARITY / "video" / name))  # by time, not by number: the same frames
    np.testing.assert_allclose(
        np.array(ingested.times_s) * about["avg_fps"], np.ravel(about["frame_indices"]), atol=0.01
    )
    np.testing.assert_array_equal(ingested.data, sample.data)


def test_elsewhere_pictures_are_upright_and_deep_ones_scaled(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.new("RGB", (40, 20)).save(tmp_path / "turned.jpg", exif=exif)
    Image.fromarray(np.full((20, 20), 3_000, np.uint16)).save(tmp_path / "deep.png")
    Image.new("RGBA", (20, 20), (9, 9, 9, 0)).save(tmp_path / "clear.png")

    def both(name):
        (ours,) = read(identify(tmp_path / name))
        return ours.data, read_official(tmp_path / name, Modality.IMAGE).data

    assert [picture.size for picture in both("turned.jpg")] == [(20, 40), (40, 20)]
    assert [picture.getpixel((0, 0))[0] for picture in both("deep.png")] == [12, 255]
    assert [picture.getpixel((0, 0))[0] for picture in both("clear.png")] == [255, 9]


def test_overlapping_clips_see_each_others_means_only_in_the_official_way(tmp_path):
    wave = np.linspace(0, 0.5, 48_000, dtype=np.float32)[:, None]
    soundfile.write(tmp_path / "ramp.wav", wave, 16_000)
    sample = read_official(tmp_path / "ramp.wav", Modality.AUDIO)
    ours, official = (Preprocess(config)([sample])[0] for config in (HUGE, OFFICIAL))
    torch.testing.assert_close(ours[0], official[0])
    assert (ours[2] - official[2]).abs().max() > 0.01
    alone = dataclasses.replace(sample, data=sample.data[:, 16_000:])
    torch.testing.assert_close(ours[2], Preprocess(HUGE)([alone])[0, 0])


@pytest.fixture
def media(tmp_path) -> dict[str, list[Any]]:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (60, 90, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    soundfile.write(tmp_path / "a.wav", rng.normal(0, 0.1, (66_150, 2)), 22_050)
    np.save(tmp_path / "depth.npy", rng.uniform(1, 5, (60, 90)))
    return {
        "text": ["a red dog", "a dog"],
        "vision": [tmp_path / "a.png"],
        "audio": [str(tmp_path / "a.wav")],
        "depth": [tmp_path / "depth.npy"],
    }


def test_outputs_have_the_official_lengths_and_our_directions(media, tiny_model):
    outputs = xsearch.embed_official(media, str(tiny_model))
    lengths = {name: rows.norm(dim=1) for name, rows in outputs.items()}
    torch.testing.assert_close(lengths["vision"], torch.ones(1))
    torch.testing.assert_close(lengths["text"], torch.full((2,), 1 / 0.07), rtol=1e-3, atol=0)
    torch.testing.assert_close(lengths["depth"], torch.full((1,), 5.0), rtol=1e-3, atol=0)
    assert 10 < lengths["audio"] < 20  # of several clips the plain mean

    backend = ImageBindBackend(tiny_model)
    for name, kind in (("vision", "image"), ("depth", "depth")):
        ours = backend.embed(list(read(identify(media[name][0]))))
        np.testing.assert_allclose(outputs[name] / lengths[name][:, None], ours, atol=1e-5, err_msg=kind)
    as_ingested = xsearch.embed_official({"audio": media["audio"]}, str(tiny_model), preprocessing="xsearch")
    assert 0.9 < torch.cosine_similarity(as_ingested["audio"], outputs["audio"]).item() < 1


def test_tensors_pass_as_they_are(tiny_model):
    backend = ImageBindBackend(tiny_model)
    tower, side = backend.tower("thermal"), backend.config.thermal.image_size
    x = torch.randn(2, 1, side, side, generator=torch.Generator().manual_seed(0))
    outputs = xsearch.embed_official({"thermal": x, "imu": []}, str(tiny_model))
    torch.testing.assert_close(outputs["thermal"], tower(x) * 10, rtol=1e-3, atol=0)
    assert outputs["imu"].shape == (0, 24)
    assert set(outputs) < set(TOWERS)


def test_what_cannot_be_compared_says_so(media, tiny_model, tmp_path):
    soundfile.write(tmp_path / "short.wav", np.zeros(300), 16_000)
    for inputs, problem, told in (
        ({"image": media["vision"]}, UsageError, "there are vision, text"),
        ({"vision": media["audio"]}, UsageError, "of kind audio, but it was given as vision"),
        ({"audio": [tmp_path / "short.wav"]}, Unreadable, "shorter than the 25 ms"),
        ({"audio": media["vision"]}, Unreadable, "cannot be decoded"),
    ):
        with pytest.raises(problem, match=told):
            xsearch.embed_official(inputs, str(tiny_model))
