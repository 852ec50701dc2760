"""Thermal pictures of any depth of bits become 0..1."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from xsearch.types import Modality


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("thermal.png", "L"),
        ("thermal.png", "RGB"),
        ("thermal.png", "RGBA"),
        ("thermal.tiff", "L"),
        ("cat_ir.jpg", "L"),
        ("cat_ir.jpg", "RGB"),
    ],
)
def test_8_bit_is_divided_by_255(tmp_path, samples, name, mode):
    levels = np.full((8, 8), 51, np.uint8)
    Image.fromarray(levels).convert(mode).save(tmp_path / name)
    [sample] = samples(tmp_path / name)
    assert (sample.modality, sample.data.dtype, sample.data.shape) == (Modality.THERMAL, np.float32, (8, 8))
    np.testing.assert_allclose(sample.data, 0.2, atol=0.005)


def test_16_bit_is_scaled_between_its_percentiles(tmp_path, samples):
    counts = 29_000 + np.arange(10_000, dtype=np.uint16).reshape(100, 100) // 10  # 0.01 K, as FLIR's
    counts[0, 0], counts[99, 99] = 0, 65_535  # one dead and one burning pixel
    Image.fromarray(counts).save(tmp_path / "thermal.png")
    [sample] = samples(tmp_path / "thermal.png")
    low, high = 29_010, 29_990  # the 1st and 99th of 100 equal shares
    expected = np.clip((counts.astype(float) - low) / (high - low), 0, 1)
    np.testing.assert_allclose(sample.data, expected, atol=2e-3)


def test_a_small_hot_spot_in_an_even_scene_is_seen(tmp_path, samples):
    counts = np.full((100, 100), 1000, np.uint16)
    counts[3, 4] = 1200
    Image.fromarray(counts).save(tmp_path / "thermal.tiff")
    [sample] = samples(tmp_path / "thermal.tiff")
    assert sample.data[3, 4] == 1
    assert sample.data.sum() == 1


@pytest.mark.parametrize("values", [np.full((4, 4), 7.0), np.full((4, 4), np.nan)])
def test_an_even_or_unknown_scene_is_zero(tmp_path, samples, values):
    Image.fromarray(values.astype(np.float32)).save(tmp_path / "thermal.tiff")
    [sample] = samples(tmp_path / "thermal.tiff")
    assert not sample.data.any()


def test_colour_is_an_image_unless_ordered_otherwise(tmp_path, samples):
    Image.new("RGB", (4, 4), (255, 0, 0)).save(tmp_path / "thermal.png")
    [sample] = samples(tmp_path / "thermal.png")
    assert sample.modality is Modality.IMAGE
    [sample] = samples(tmp_path / "thermal.png", Modality.THERMAL)
    np.testing.assert_allclose(sample.data, 0.299, atol=3e-3)  # ITU-R BT.601 luma of red
