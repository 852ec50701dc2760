"""Depth maps of every format are the same metres."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xsearch.errors import Unreadable
from xsearch.media import identify
from xsearch.types import Modality

METRES = np.array([[0.5, 1.25, 0], [2.0, 10.0, 65.535]], np.float32)
MILLIMETRES = np.rint(METRES * 1000).astype(np.uint16)


def write(path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    match path.name:
        case "mm.npy":
            np.save(path, MILLIMETRES)
        case "metres.npy":
            np.save(path, np.where(METRES > 0, METRES, np.nan)[None, :, :, None])
        case "metres.tiff":
            Image.fromarray(METRES).save(path)
        case "little.pfm" | "big.pfm":
            order, scale = ("<", -1) if path.stem == "little" else (">", 1)
            rows = np.where(METRES > 0, METRES, np.inf)[::-1].astype(f"{order}f4")
            path.write_bytes(f"Pf\n3 2\n{scale}\n".encode() + rows.tobytes())
        case _:
            Image.fromarray(MILLIMETRES).save(path)
    return path


@pytest.mark.parametrize(
    "name", ["mm.png", "mm.tiff", "mm.npy", "metres.npy", "metres.tiff", "little.pfm", "big.pfm"]
)
def test_every_format_gives_the_same_metres(tmp_path, samples, name):
    [sample] = samples(write(tmp_path / "depth" / name))
    assert (sample.modality, sample.data.dtype) == (Modality.DEPTH, np.float32)
    assert (sample.width, sample.height, sample.focal_px) == (3, 2, None)
    np.testing.assert_allclose(sample.data, METRES, rtol=1e-6)


def test_what_is_not_finite_and_positive_is_unknown(tmp_path, samples):
    np.save(tmp_path / "depth.npy", np.array([[np.nan, np.inf, -np.inf], [-1, 0, 3]]))
    [sample] = samples(tmp_path / "depth.npy")
    assert sample.data.tolist() == [[0, 0, 0], [0, 0, 3]]


def test_a_map_without_known_depth_is_empty(tmp_path, samples):
    np.save(tmp_path / "depth.npy", np.zeros((4, 4)))
    with pytest.raises(Unreadable, match="empty"):
        samples(tmp_path / "depth.npy")


@pytest.mark.parametrize("name", ["colour.png", "grey.jpg", "cube.npy", "colour.pfm", "short.pfm"])
def test_what_cannot_be_depth_says_what_can(tmp_path, samples, name):
    path = tmp_path / name
    match name:
        case "colour.png" | "grey.jpg":
            Image.new("RGB" if "colour" in name else "L", (4, 4), 9).save(path)
        case "cube.npy":
            np.save(path, np.ones((3, 3, 3)))
        case "colour.pfm":
            path.write_bytes(b"PF\n1 1\n-1\n" + bytes(12))
        case "short.pfm":
            path.write_bytes(b"Pf\n9 9\n-1\n" + bytes(12))
    with pytest.raises(Unreadable, match=r"depth maps are 16-bit PNG or TIFF in millimetres|shorter than"):
        samples(path, Modality.DEPTH)


@pytest.mark.skipif(importlib.util.find_spec("OpenEXR") is not None, reason="OpenEXR is installed")
def test_exr_says_what_to_install(tmp_path, samples):
    (tmp_path / "depth.exr").write_bytes(b"\x76\x2f\x31\x01" + bytes(60))
    with pytest.raises(Unreadable, match="pip install OpenEXR"):
        samples(tmp_path / "depth.exr")


def test_the_camera_file_tells_focal_length_baseline_and_unit(tmp_path, samples):
    path = write(tmp_path / "depth" / "mm.png")
    camera = path.with_name("camera.json")
    camera.write_text('{"focal_px": 525.5, "baseline_m": 0.095, "unit_m": 0.0002}')
    [sample] = samples(path)
    assert (sample.focal_px, sample.baseline_m) == (525.5, 0.095)
    np.testing.assert_allclose(sample.data, METRES / 5, rtol=1e-6)
    [metres] = samples(write(tmp_path / "depth" / "metres.npy"))
    np.testing.assert_allclose(metres.data, METRES)  # floats are metres whatever the unit of integers


def test_another_camera_makes_another_file_of_it(tmp_path):
    path = write(tmp_path / "depth" / "mm.png")
    before = identify(path)
    path.with_name("camera.json").write_text("{}")
    assert identify(path) != before
    assert identify(path).companion == path.with_name("camera.json")


@pytest.mark.parametrize("name", ["mm.png", "mm.tiff", "mm.npy"])
def test_rotated_bits_are_those_of_sun_rgbd(tmp_path, samples, name):
    path = tmp_path / "depth" / name
    path.parent.mkdir()
    turned = MILLIMETRES << 3 | MILLIMETRES >> 13  # its toolbox: bitor(bitshift(d, -3), bitshift(d, 16 - 3))
    np.save(path, turned) if path.suffix == ".npy" else Image.fromarray(turned).save(path)
    path.with_name("camera.json").write_text('{"rotate_bits": 3}')
    np.testing.assert_allclose(samples(path)[0].data, METRES, rtol=1e-6)


def test_only_16_bits_can_be_rotated(tmp_path, samples):
    (tmp_path / "camera.json").write_text('{"rotate_bits": 3}')
    np.save(tmp_path / "depth.npy", np.full((2, 2), 70_000, np.int32))
    with pytest.raises(Unreadable, match=r"rotate_bits is for maps of 16 bits; remove it from camera\.json"):
        samples(tmp_path / "depth.npy")
    np.save(tmp_path / "depth.npy", METRES)
    np.testing.assert_allclose(samples(tmp_path / "depth.npy")[0].data, METRES)


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", '{"focal": 500}', '{"focal_px": 0}', '{"unit_m": "mm"}', '{"baseline_m": true}'),
        *('{"rotate_bits": 16}', '{"rotate_bits": 2.5}', '{"rotate_bits": "3"}'),
    ],
)
def test_a_camera_file_that_cannot_be_meant_is_refused(tmp_path, samples, text):
    path = write(tmp_path / "depth" / "mm.png")
    path.with_name("camera.json").write_text(text)
    with pytest.raises(Unreadable, match=r"camera\.json: (cannot be read|expected|\w+ is)"):
        samples(path)
