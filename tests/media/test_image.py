"""Pictures of every mode become upright RGB."""

from __future__ import annotations

import importlib.util
from contextlib import nullcontext

import numpy as np
import pytest
from PIL import Image

from xsearch.backend.imagebind import ImageBindBackend
from xsearch.errors import TooLarge, Unreadable
from xsearch.media import identify, read

RED, BLUE = (255, 0, 0), (0, 0, 255)


def two_halves() -> Image.Image:
    """4 wide, 2 high: red left, blue right."""
    picture = Image.new("RGB", (4, 2), RED)
    picture.paste(BLUE, (2, 0, 4, 2))
    return picture


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, samples, orientation):
    # What a viewer must do to show it upright, from the EXIF standard, table of tag 0x0112.
    turn = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a.swapaxes(0, 1), 2),
        8: np.rot90,
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    two_halves().save(tmp_path / "a.png", exif=exif)
    [sample] = samples(tmp_path / "a.png")
    expected = turn(np.asarray(two_halves()))
    np.testing.assert_array_equal(np.asarray(sample.data), expected)
    assert (sample.height, sample.width) == expected.shape[:2]


@pytest.mark.parametrize("mode", ["RGB", "P", "RGBA", "CMYK", "L", "LA", "1", "YCbCr"])
def test_every_mode_becomes_rgb(tmp_path, samples, mode):
    picture = two_halves().convert(mode)
    path = tmp_path / ("a.tiff" if mode in ("CMYK", "YCbCr") else "a.png")
    picture.save(path)
    [sample] = samples(path)
    assert sample.data.mode == "RGB"
    expected = np.asarray(two_halves().convert("L" if mode in ("L", "LA", "1") else "RGB").convert("RGB"))
    if mode != "1":  # dithered
        np.testing.assert_allclose(np.asarray(sample.data), expected, atol=2)


@pytest.mark.parametrize(
    ("mode", "pixel"), [("RGBA", (0, 0, 0, 0)), ("LA", (0, 0)), ("RGBA", (10, 20, 30, 0))]
)
def test_transparency_is_laid_over_white(tmp_path, samples, mode, pixel):
    Image.new(mode, (3, 3), pixel).save(tmp_path / "a.png")
    [sample] = samples(tmp_path / "a.png")
    assert sample.data.getcolors() == [(9, (255, 255, 255))]


def test_transparent_palette_is_laid_over_white(tmp_path, samples):
    Image.new("P", (3, 3), 0).save(tmp_path / "a.png", transparency=bytes([0, 255]))
    [sample] = samples(tmp_path / "a.png")
    assert sample.data.getcolors() == [(9, (255, 255, 255))]


@pytest.mark.parametrize("name", ["a.png", "a.tiff"])
def test_16_bit_is_scaled_not_saturated(tmp_path, samples, name):
    Image.fromarray(np.array([[0, 257, 32896, 65535]], np.uint16)).save(tmp_path / name)
    [sample] = samples(tmp_path / name)
    assert np.asarray(sample.data)[0, :, 1].tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 0.5, 1], [0, 128, 255]),
        ([-10, 0, 30], [0, 64, 255]),
        ([300, 300, 300], [0, 0, 0]),
        ([-np.inf, 0, 200, np.inf, np.nan], [0, 0, 255, 255, 0]),
    ],
)
def test_floats_are_taken_as_0_to_1_or_stretched(tmp_path, samples, values, expected):
    Image.fromarray(np.array([values], np.float32)).save(tmp_path / "a.tiff")
    [sample] = samples(tmp_path / "a.tiff")
    assert np.asarray(sample.data)[0, :, 0].tolist() == expected


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.tiff"])
def test_an_animation_gives_its_first_frame(tmp_path, samples, name):
    first, second = Image.new("RGB", (4, 4), RED), Image.new("RGB", (4, 4), BLUE)
    first.save(
        tmp_path / name, save_all=True, append_images=[second], **{"lossless": True} if "webp" in name else {}
    )
    [sample] = samples(tmp_path / name)
    assert sample.data.getpixel((0, 0)) == RED


def test_a_large_jpeg_is_decoded_small_but_never_below_512(tmp_path, samples, monkeypatch):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.new("RGB", (2100, 1030), RED).save(tmp_path / "a.jpg", exif=exif)
    [sample] = samples(tmp_path / "a.jpg")
    assert sample.data.size == (515, 1050)
    assert (sample.width, sample.height) == (1030, 2100)
    Image.new("RGB", (2100, 1023), RED).save(tmp_path / "b.jpg")
    assert samples(tmp_path / "b.jpg")[0].data.size == (2100, 1023)
    monkeypatch.setenv("XSEARCH_EXACT_JPEG", "1")
    assert samples(tmp_path / "a.jpg")[0].data.size == (1030, 2100)


def test_the_embedding_of_a_jpeg_that_is_decoded_small_is_that_of_the_whole(tmp_path, samples, monkeypatch):
    rng, frequencies = (
        np.random.default_rng(6),
        np.hypot(*np.meshgrid(np.fft.fftfreq(1400), np.fft.fftfreq(1100))),
    )
    spectrum = np.fft.fft2(rng.standard_normal((3, 1100, 1400))) / (frequencies + 1e-3)  # 1/f, as nature's
    pixels = np.fft.ifft2(spectrum).real.transpose(1, 2, 0)
    pixels = (pixels - pixels.min()) * (255 / np.ptp(pixels))
    Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "a.jpg", quality=92)
    small = samples(tmp_path / "a.jpg")
    monkeypatch.setenv("XSEARCH_EXACT_JPEG", "1")
    a, b = ImageBindBackend.load("bundled").embed(small + samples(tmp_path / "a.jpg"))
    assert small[0].data.size == (700, 550)
    assert a @ b > 0.999


def test_the_limit_of_pixels_is_the_users(tmp_path, samples, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)  # which is set, and put back here
    two_halves().save(tmp_path / "a.png")
    np.save(tmp_path / "depth.npy", np.ones((2, 4)))
    for limit, allowed in (("6", False), ("8", True)):
        monkeypatch.setenv("XSEARCH_MAX_PIXELS", limit)
        for name in ("a.png", "depth.npy"):
            with nullcontext() if allowed else pytest.raises(TooLarge, match="over 6 pixels; downscale it"):
                samples(tmp_path / name)
    monkeypatch.setenv("XSEARCH_MAX_PIXELS", "many")
    with pytest.raises(TooLarge, match="XSEARCH_MAX_PIXELS is 'many'; expected a whole number"):
        samples(tmp_path / "a.png")


def test_pillows_size_limit_is_a_reason(tmp_path, samples, monkeypatch):
    two_halves().save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)  # 8 pixels: Pillow warns, and we do not
    assert len(samples(tmp_path / "a.png")) == 1
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3)
    with pytest.raises(Unreadable, match=r"a\.png: over 6 pixels; downscale it or raise"):
        samples(tmp_path / "a.png")


@pytest.mark.skipif(importlib.util.find_spec("pillow_heif") is not None, reason="pillow-heif is installed")
def test_heic_says_what_to_install(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40))
    file = identify(tmp_path / "a.jpg")
    assert file.mime == "image/heic"
    with pytest.raises(Unreadable, match=r"pip install 'xsearch\[heic\]'"):
        list(read(file))
