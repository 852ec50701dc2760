"""What the towers get, checked by hand on small media."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from xsearch.errors import ModelError
from xsearch.models import HUGE, Preprocess, Preprocessing
from xsearch.types import Modality, Sample

CONFIG = dataclasses.replace(
    HUGE,
    vision=dataclasses.replace(HUGE.vision, image_size=112),
    text=dataclasses.replace(HUGE.text, context=32),
    depth=dataclasses.replace(HUGE.depth, image_size=112),
    thermal=dataclasses.replace(HUGE.thermal, image_size=112),
    preprocessing=Preprocessing(text_cleaning="plain", video_crops=1, video_antialias=True),
)
PREPROCESS = Preprocess(CONFIG)
MEAN, STD = (
    np.array(v, np.float32) for v in (CONFIG.preprocessing.image_mean, CONFIG.preprocessing.image_std)
)


def test_a_picture_loses_its_long_ends_and_gets_clips_mean_and_std():
    pixels = np.zeros((224, 448, 3), np.uint8)
    pixels[:, 112:336] = (255, 0, 51)  # the middle square
    x = PREPROCESS([Sample(Modality.IMAGE, Image.fromarray(pixels))] * 2)
    assert x.shape == (2, 3, 112, 112)
    assert x.is_contiguous()
    np.testing.assert_allclose(
        x[0, :, 50, 50], (np.array([1.0, 0.0, 0.2], np.float32) - MEAN) / STD, atol=1e-6
    )
    np.testing.assert_allclose(x[0, :, 50, 2], x[0, :, 50, 109], atol=0.15)  # both ends are the square's


@pytest.mark.parametrize(
    ("n", "shown"), [(10, range(10)), (1, [0] * 10), (5, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4])]
)
def test_a_video_window_becomes_five_pairs_of_frames(n, shown):
    frames = np.broadcast_to((np.arange(n) * 20).astype(np.uint8)[:, None, None, None], (n, 60, 40, 3))
    x = PREPROCESS([Sample(Modality.VIDEO, frames)])
    assert x.shape == (1, 5, 3, 2, 112, 112)
    grey = x[0, :, 0, :, 50, 50].flatten() * STD[0] + MEAN[0]  # clip by clip
    np.testing.assert_allclose(grey * 255, np.array(shown) * 20, atol=1e-3)


@pytest.mark.parametrize(("height", "width"), [(224, 448), (448, 224)])
def test_three_crops_are_both_ends_and_the_middle(height, width):
    ramp = np.linspace(0, 255, 448).round().astype(np.uint8)
    plane = np.broadcast_to(ramp if width == 448 else ramp[:, None], (height, width))
    frames = np.repeat(plane[None, :, :, None], 10, axis=0).repeat(3, axis=3)
    x = Preprocess(HUGE)([Sample(Modality.VIDEO, frames)])
    assert x.shape == (1, 15, 3, 2, 224, 224)
    first = x[0, :3, 0, 0, 0, 0] * STD[0] + MEAN[0]  # top left pixel of each crop of the first clip
    np.testing.assert_allclose(first * 255, [ramp[0], ramp[112], ramp[224]], atol=1e-3)


@pytest.mark.parametrize("size", [(40_000, 2), (2, 40_000)])
def test_a_hair_thin_strip_is_cut_before_it_is_resized(size):
    x = PREPROCESS([Sample(Modality.IMAGE, Image.new("RGB", size, (255, 255, 255)))])
    np.testing.assert_allclose(x[0, :, 50, 50], (1 - MEAN) / STD, atol=1e-6)


def test_depth_becomes_normalised_disparity():
    depth = np.full((40, 60), 2.0, np.float32)
    depth[:, 30:] = 0.0  # unknown
    settings = CONFIG.preprocessing
    sample = Sample(Modality.DEPTH, depth, focal_px=50.0, baseline_m=0.1)
    x = PREPROCESS([sample])
    assert x.shape == (1, 1, 112, 112)
    near, unknown = x[0, 0, 50, 5].item(), x[0, 0, 50, 105].item()
    assert near == pytest.approx((0.1 * 50 / 2.0 / 75 - 0.0418) / 0.0295, rel=1e-4)
    assert unknown == pytest.approx((0.1 * 50 / settings.depth_unknown_m / 75 - 0.0418) / 0.0295, rel=1e-4)

    without = PREPROCESS([Sample(Modality.DEPTH, np.full((40, 60), 5.0, np.float64))])
    kinect = settings.depth_baseline_m * settings.depth_focal * 60 / 5.0
    assert without[0, 0, 0, 0].item() == pytest.approx((kinect / 75 - 0.0418) / 0.0295, rel=1e-4)


def test_depth_is_finite_whatever_is_in_it():
    depth = np.array([[np.nan, np.inf], [-1.0, 1e-9]], np.float32)
    assert PREPROCESS([Sample(Modality.DEPTH, depth)]).isfinite().all()


def test_depth_and_thermal_keep_the_pictures_part_of_the_scene():
    plane = np.zeros((112, 213), np.float32)
    plane[:, 100:105] = 1.0
    picture = Image.fromarray((plane * 255).astype(np.uint8)).convert("RGB")
    thermal = PREPROCESS([Sample(Modality.THERMAL, plane)])[0, 0, 0]
    red = PREPROCESS([Sample(Modality.IMAGE, picture)])[0, 0, 0] * STD[0] + MEAN[0]
    np.testing.assert_allclose(thermal, red, atol=1e-6)
    assert thermal.nonzero().flatten().tolist() == [50, 51, 52, 53, 54]  # 100 - round(50.5), half to even


def test_thermal_is_not_normalised_unless_told():
    plane = np.full((20, 20), 0.25, np.float32)
    plane.flags.writeable = False
    sample = Sample(Modality.THERMAL, plane)
    assert PREPROCESS([sample])[0, 0, 5, 5].item() == pytest.approx(0.25)
    settings = dataclasses.replace(CONFIG.preprocessing, thermal_mean=0.5, thermal_std=0.5)
    told = Preprocess(dataclasses.replace(CONFIG, preprocessing=settings))
    assert told([sample])[0, 0, 5, 5].item() == pytest.approx(-0.5)


def test_imu_is_interpolated_in_its_own_time():
    rate, T = 100.0, 500
    ramp = np.tile(np.arange(T, dtype=np.float32) / rate, (6, 1))  # the value is the time in seconds
    x = PREPROCESS([Sample(Modality.IMU, ramp, rate_hz=rate)])
    assert x.shape == (1, 6, 2000)
    times_s = np.minimum(np.arange(2000) / 400, (T - 1) / rate)
    np.testing.assert_allclose(x[0, 0], times_s / 9.80665, atol=1e-6)
    np.testing.assert_allclose(x[0, 5], times_s, atol=1e-6)


def test_a_short_imu_recording_starts_again_and_a_long_one_is_cut():
    wave = np.random.default_rng(0).normal(size=(6, 800)).astype(np.float32)
    short, long = (PREPROCESS([Sample(Modality.IMU, w, rate_hz=100.0)])[0] for w in (wave[:, :250], wave))
    torch.testing.assert_close(short[:, :1000], short[:, 1000:])
    torch.testing.assert_close(long[:, :990], short[:, :990])
    with pytest.raises(ModelError, match="rate_hz"):
        PREPROCESS([Sample(Modality.IMU, wave)])


def test_texts_need_a_tokenizer(tokenizer):
    sample = Sample(Modality.TEXT, "a dog")
    assert torch.equal(Preprocess(CONFIG, tokenizer)([sample]), tokenizer.encode(["a dog"]))
    with pytest.raises(ModelError, match="tokenizer"):
        PREPROCESS([sample])


def test_sounds_become_the_configs_mel_clips():
    wave = np.random.default_rng(0).normal(0, 0.1, 48_000).astype(np.float32)
    assert PREPROCESS([Sample(Modality.AUDIO, wave, rate_hz=16_000)]).shape == (1, 3, 1, 128, 204)


def test_a_sound_of_another_rate_is_refused():
    with pytest.raises(ModelError, match="44100 Hz"):
        PREPROCESS([Sample(Modality.AUDIO, np.zeros(48_000, np.float32), rate_hz=44_100)])


@pytest.mark.parametrize("shape", [(40_000, 2), (2, 40_000)])
@pytest.mark.parametrize("kind", [Modality.DEPTH, Modality.THERMAL])
def test_of_a_hair_thin_plane_the_middle_is_enough(kind, shape):
    plane = np.random.default_rng(0).random(shape, np.float32) + 0.5
    middle = plane[19_936:20_064] if shape[0] > 2 else plane[:, 19_936:20_064]  # 64 times as long as wide
    whole, cut = (Sample(kind, data, focal_px=50.0) for data in (plane, middle))
    assert torch.equal(PREPROCESS([whole]), PREPROCESS([cut]))
