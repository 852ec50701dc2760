"""TIFF files of every type of number, compression and layout are the same picture."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.media.bytewise import Tiff
from xsearch.errors import TooLarge, Unreadable
from xsearch.media.image import tiff
from xsearch.types import Modality

SHARE = np.linspace(0, 1, 40 * 50).reshape(40, 50)
KINDS = {"u": 1, "i": 2, "f": 3, "c": 6}


def write(
    path: Path,
    values: np.ndarray,
    order: str = "<",
    *,
    is_packed: bool = False,
    predictor: int = 1,
    tile: tuple[int, int] | None = None,
    is_planar: bool = False,
    is_big: bool = False,
) -> Path:
    """Write [H, W] or [H, W, 3] numbers as TIFF 6.0 has it: header, strips of 16 rows or tiles, directory."""
    values = values if values.ndim == 3 else values[..., None]
    H, W, S = values.shape
    height, width = tile or (16, W)
    file, offsets, counts = Tiff(order, is_big=is_big), [], []
    for plane in np.split(values, S, axis=2) if is_planar else [values]:
        for top in range(0, H, height):
            for left in range(0, W, width):
                block = plane[top : top + height, left : left + width]
                if tile:
                    block = np.pad(block, [(0, height - len(block)), (0, width - block.shape[1]), (0, 0)])
                coded = predicted(block, order, predictor)
                coded = zlib.compress(coded) if is_packed else coded
                offsets.append(file.put(coded))
                counts.append(len(coded))
    tags = {256: W, 257: H, 258: [values.dtype.itemsize * 8] * S, 259: 8 if is_packed else 1}
    tags |= {262: 2 if S == 3 else 1, 277: S, 284: 2 if is_planar else 1, 317: predictor}
    tags |= {339: [KINDS[values.dtype.kind]] * S}
    if tile:
        tags |= {322: width, 323: height, 324: offsets, 325: counts}
    else:
        tags |= {273: offsets, 278: height, 279: counts}
    path.write_bytes(file.done(file.directory(tags)))
    return path


def predicted(block: np.ndarray, order: str, predictor: int) -> bytes:
    """Encode [H, W, S] numbers: 2, differences of pixels; 3, differences of the bytes by significance."""
    size, S = block.dtype.itemsize, block.shape[2]
    if predictor == 3:
        whole = block.astype(block.dtype.newbyteorder(">")).reshape(len(block), -1).view(np.uint8)
        rows = whole.reshape(len(block), -1, size).swapaxes(1, 2).reshape(len(block), -1, S)
        return np.diff(rows, axis=1, prepend=np.zeros_like(rows[:, :1])).tobytes()
    if predictor == 2:
        integers = np.ascontiguousarray(block).view(f"u{size}")
        block = np.diff(integers, axis=1, prepend=np.zeros_like(integers[:, :1]))
    return block.astype(block.dtype.newbyteorder(order)).tobytes()


LAYOUTS = [
    {},
    {"order": ">"},
    {"is_packed": True},
    {"is_packed": True, "order": ">"},
    {"tile": (16, 32)},
    {"is_packed": True, "tile": (32, 16), "order": ">", "predictor": 2},
    {"is_packed": True, "predictor": 2},
    {"is_big": True},
    {"is_big": True, "order": ">", "is_packed": True},
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "u1", "u2", "u4", "u8", "i4", "i8"])
def test_every_type_and_layout_is_the_same_picture(tmp_path, samples, dtype, layout):
    white = 1 if dtype[0] == "f" else 255 if dtype == "u1" else 65535
    values = (white * SHARE if white == 1 else np.rint(white * SHARE)).astype(dtype)
    [sample] = samples(write(tmp_path / "a.tif", values, **layout))
    np.testing.assert_allclose(np.asarray(sample.data)[..., 1], 255 * SHARE, atol=1)


@pytest.mark.parametrize(
    "layout", [{}, {"is_packed": True, "predictor": 2}, {"tile": (16, 32), "is_packed": True}]
)
@pytest.mark.parametrize("is_planar", [False, True])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "u1", "u2", "u4"])
def test_colour_of_every_type_is_the_same_picture(tmp_path, samples, dtype, is_planar, layout):
    colour = np.stack([SHARE, 1 - SHARE, SHARE / 2], axis=2)
    white = {"f": 1, "u": 65535}[dtype[0]] if dtype != "u1" else 255
    values = (colour * white).astype(dtype)
    [sample] = samples(write(tmp_path / "a.tif", values, is_planar=is_planar, **layout))
    np.testing.assert_allclose(np.asarray(sample.data), 255 * colour, atol=1.5)


def test_colour_of_signed_integers(tmp_path, samples):
    values = np.stack([SHARE, 1 - SHARE, SHARE / 2], axis=2) * 32767
    [sample] = samples(write(tmp_path / "a.tif", values.astype("i2")))
    np.testing.assert_allclose(np.asarray(sample.data), values / 257, atol=1.5)


@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_planes_of_grey_and_opacity(tmp_path, samples, dtype):
    values = np.stack([SHARE, np.ones_like(SHARE)], axis=2) * np.iinfo(dtype).max
    [sample] = samples(write(tmp_path / "a.tif", values.astype(dtype), is_planar=True))
    np.testing.assert_allclose(np.asarray(sample.data)[..., 1], 255 * SHARE, atol=1.5)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("tile", [None, (16, 32)])
def test_the_predictor_of_floats(tmp_path, samples, dtype, tile):
    path = write(tmp_path / "a.tif", SHARE.astype(dtype), is_packed=True, predictor=3, tile=tile)
    np.testing.assert_allclose(np.asarray(samples(path)[0].data)[..., 1], 255 * SHARE, atol=1)


@pytest.mark.parametrize("predictor", [1, 2, 3])
@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "zstd", "lzma"])
def test_numbers_are_those_of_libtiff(tmp_path, compression, predictor):
    path = tmp_path / "a.tif"
    image = Image.fromarray(SHARE.astype(np.float32))
    image.save(path, compression=compression, tiffinfo={tiff.PREDICTOR: predictor})
    with path.open("rb") as file:
        np.testing.assert_array_equal(tiff.pixels(file, 1e9)[..., 0], np.asarray(image))


@pytest.mark.parametrize("dtype", ["f2", "f8"])
def test_depth_and_heat_are_read_from_any_float(tmp_path, samples, dtype):
    for kind in (Modality.DEPTH, Modality.THERMAL):
        path = write(tmp_path / f"a_{kind}.tif", (1 + SHARE).astype(dtype), is_packed=True)
        [sample] = samples(path)
        assert sample.modality is kind
        expected = 1 + SHARE if kind is Modality.DEPTH else np.clip((SHARE - 0.01) / 0.98, 0, 1)
        np.testing.assert_allclose(sample.data, expected, atol=2e-3)


def test_what_cannot_be_read_says_so(tmp_path, samples, monkeypatch):
    path = write(tmp_path / "a.tif", SHARE.astype(np.complex64))
    with pytest.raises(
        Unreadable, match=r"unsupported image format \(a variant of TIFF, or damaged\): convert"
    ):
        samples(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 900)
    with pytest.raises(TooLarge, match="over 1,800 pixels"):
        samples(write(tmp_path / "b.tif", SHARE.astype(np.float16)))


def test_a_cut_file_is_no_picture(tmp_path, samples):
    path = write(tmp_path / "a.tif", SHARE.astype(np.float16), is_packed=True)
    for size in range(10, path.stat().st_size, 97):
        cut = tmp_path / f"{size}.tif"
        cut.write_bytes(path.read_bytes()[:size])
        with pytest.raises(Unreadable):
            samples(cut)
