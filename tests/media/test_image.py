"""Pictures of every mode become upright RGB."""

from __future__ import annotations

import importlib
import sys
from contextlib import nullcontext
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from xsearch.backend.imagebind import ImageBindBackend
from xsearch.errors import MissingPackage, TooLarge, Unreadable, UsageError
from xsearch.types import Modality

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
    with pytest.raises(UsageError, match="XSEARCH_MAX_PIXELS is 'many'; expected a whole number"):
        samples(tmp_path / "a.png")


def test_pillows_size_limit_is_a_reason(tmp_path, samples, monkeypatch):
    two_halves().save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)  # 8 pixels: Pillow warns, and we do not
    assert len(samples(tmp_path / "a.png")) == 1
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3)
    with pytest.raises(Unreadable, match=r"a\.png: over 6 pixels; downscale it or raise"):
        samples(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("head", "name", "module", "extra"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC", "pillow_heif", "heic"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL", "pillow_jxl", "jxl"),
    ],
)
def test_a_format_of_a_plugin_says_what_to_install(tmp_path, samples, monkeypatch, head, name, module, extra):
    (tmp_path / "a.jpg").write_bytes(head + bytes(40))
    with pytest.raises(Unreadable, match=rf"unsupported image format \(.*{name}"):
        samples(tmp_path / "a.jpg")  # installed, and damaged
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        MissingPackage, match=rf"unsupported image format \({name}\): pip install 'xsearch\[{extra}\]'$"
    ):
        samples(tmp_path / "a.jpg")


@pytest.mark.parametrize(
    ("suffix", "module"), [("heic", "pillow_heif"), ("jxl", "pillow_jxl"), ("avif", None)]
)
@pytest.mark.parametrize("orientation", [1, 6])
def test_modern_formats_are_upright(tmp_path, samples, suffix, module, orientation):
    if module == "pillow_heif":
        importlib.import_module(module).register_heif_opener()
    elif module:
        importlib.import_module(module)
    exif = Image.Exif()
    if suffix != "jxl":  # whose decoder turns pictures itself, by the codestream
        exif[0x0112] = orientation
    whole = two_halves().resize((64, 32), Image.Resampling.NEAREST)
    whole.save(tmp_path / f"a.{suffix}", exif=exif.tobytes())
    [sample] = samples(tmp_path / f"a.{suffix}")
    turned = whole if exif.get(0x0112, 1) == 1 else whole.transpose(Image.Transpose.ROTATE_270)
    assert (sample.width, sample.height) == turned.size
    corners = [0, -1], [0, -1]  # colours bleed in the middle
    np.testing.assert_allclose(np.asarray(sample.data)[corners], np.asarray(turned)[corners], atol=30)


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.avif"])
@pytest.mark.parametrize("first", ["black", "white", "#00000000"])
def test_an_animation_gives_the_first_frame_that_shows_something(tmp_path, samples, name, first):
    shown = two_halves().resize((64, 32)).convert("RGBA")
    empty = Image.new("RGBA", shown.size, first)
    later = [empty, shown, shown.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    empty.save(tmp_path / name, save_all=True, append_images=later)
    [sample] = samples(tmp_path / name)
    red, blue = sample.data.getpixel((5, 5)), sample.data.getpixel((58, 5))
    assert (red[0] > 200, red[2] > 200, blue[0] > 200, blue[2] > 200) == (True, False, False, True)


def test_a_fade_gives_the_first_frame_of_half_its_contrast(tmp_path, samples):
    whole = np.asarray(two_halves().resize((64, 32)), np.float64)
    frames = [Image.fromarray((whole * step / 10).astype(np.uint8)) for step in range(11)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    [sample] = samples(tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(sample.data), np.asarray(frames[6]))


def test_an_empty_animation_gives_its_first_frame(tmp_path, samples):
    black = Image.new("RGB", (8, 8))
    black.save(tmp_path / "a.gif", save_all=True, append_images=[Image.new("RGB", (8, 8), (0, 9, 0))] * 3)
    assert samples(tmp_path / "a.gif")[0].data.getpixel((0, 0))[0] == 0


SUFFIXES = ["jp2", "j2k", "tga", "ppm", "pnm", "dds", "sgi", "pcx", "jfif", "jpe", "mpo", "apng", "dib"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_whatever_pillow_reads_is_a_picture(tmp_path, samples, suffix):
    whole = two_halves().resize((64, 32), Image.Resampling.NEAREST)
    formats = {"apng": "PNG", "jfif": "JPEG", "jpe": "JPEG", "pnm": "PPM"}
    whole.save(tmp_path / f"a.{suffix}", formats.get(suffix))
    [sample] = samples(tmp_path / f"a.{suffix}")
    inside = np.asarray(whole)[:, [4, 60]]  # colours bleed between them
    np.testing.assert_allclose(np.asarray(sample.data)[:, [4, 60]], inside, atol=6)


@pytest.mark.parametrize("suffix", ["exr", "hdr"])
def test_unbounded_light_is_scaled_to_its_99th_percentile(tmp_path, samples, suffix):
    light = np.zeros((32, 70, 3), np.float32)
    light[:, 1:, 0], light[..., 1] = 4, 0.5
    light[0, 0] = 1000  # the sun
    codec = av.CodecContext.create(suffix, "w")
    codec.width, codec.height, codec.pix_fmt, codec.time_base = 70, 32, "gbrpf32le", Fraction(1)
    packets = codec.encode(av.VideoFrame.from_ndarray(light, format="gbrpf32le")) + codec.encode(None)
    (tmp_path / f"a.{suffix}").write_bytes(b"".join(map(bytes, packets)))
    [sample] = samples(tmp_path / f"a.{suffix}")
    expected = [255, round(255 * (1 / 8) ** (1 / 2.2)), 0]
    np.testing.assert_allclose(np.asarray(sample.data)[5, 60], expected, atol=1)
    (tmp_path / f"b.{suffix}").write_bytes((tmp_path / f"a.{suffix}").read_bytes()[:200])
    with pytest.raises(Unreadable, match="damaged image; replace the file"):
        samples(tmp_path / f"b.{suffix}", Modality.IMAGE)


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.jpg", b'<?xml version="1.0"?><svg xmlns="...">', "(SVG): convert it to PNG"),
        ("a.png", b"gimp xcf v011\0", "(XCF): convert it to PNG"),
        ("a.jpg", b"BPG\xfb\0\0", "(BPG): convert it to PNG"),
        ("a.jpg", bytes(128) + b"DICM", "(DICOM): convert it to PNG"),
        ("a.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "(EPS): convert it to PNG"),
        ("a.jpg", b"<!doctype html><svg>", "(a web page): replace it by a picture"),
        ("a.jpg", b"%PDF-1.7", "(PDF): replace it by a picture"),
        ("a.jpg", b"not found", "(text): replace it by a picture"),
        ("a.psd", b"8BPS\0\x01" + bytes(40), "(a variant of PSD, or damaged): convert it to PNG"),
        ("a.jpg", b"\xff\xd8\xff\xc1\0\x0b\x0c\0\x08\0\x08\x01\x01\x11\0", "(a variant of JPEG, or damaged)"),
    ],
)
def test_a_picture_that_cannot_be_read_is_named(tmp_path, samples, name, data, reason):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(Unreadable) as error:
        samples(tmp_path / name)
    assert f": unsupported image format {reason}" in str(error.value)
