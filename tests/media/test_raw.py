"""RAW photographs are their largest preview, upright, wherever the file keeps it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.media.bytewise import Tags, Tiff, box
from xsearch.errors import Unreadable
from xsearch.media import identify
from xsearch.types import Modality


def scene(width: int, height: int) -> Image.Image:
    """Red to the right, green to the bottom, blue in the top left corner: every way up is another."""
    y, x = np.mgrid[0:height, 0:width]
    corner = np.where((x < width / 4) & (y < height / 4), 255, 0)
    return Image.fromarray(np.stack([x / width * 255, y / height * 255, corner], axis=2).astype(np.uint8))


def jpeg(width: int, height: int, orientation: int = 0) -> bytes:
    file, exif = io.BytesIO(), Image.Exif()
    if orientation:
        exif[274] = orientation
    scene(width, height).save(file, "JPEG", quality=92, exif=exif)
    return file.getvalue()


class Photograph(Tiff):
    """Pictures and values of a sensor in a file like TIFF."""

    def picture(self, width: int, height: int, form: str) -> Tags:
        """Put a picture; return its tags."""
        size = {254: 1, 256: width, 257: height}
        if form == "rgb":
            at = self.put(scene(width, height).tobytes())
            return size | {258: (8, 8, 8), 259: 1, 262: 2, 273: at, 277: 3, 279: 3 * width * height}
        data = jpeg(width, height)
        at = self.put(data)
        if form == "exif":
            return {259: 6, 513: at, 514: len(data)}
        return size | {258: (8, 8, 8), 259: 7, 262: 6, 273: at, 277: 3, 278: height, 279: len(data)}

    def mosaic(self, width: int = 640, height: int = 480) -> Tags:
        """Put the values of a sensor, red, green, green, blue; return their tags."""
        colours = np.asarray(scene(width, height)).astype(f"{self.order}u2") * 16
        values = colours[..., 1].copy()
        values[::2, ::2], values[1::2, 1::2] = colours[::2, ::2, 0], colours[1::2, 1::2, 2]
        at = self.put(values.tobytes())
        size = {254: 0, 256: width, 257: height, 258: 16, 259: 1, 262: 32803, 273: at, 277: 1, 278: height}
        pattern = {33421: (2, 2), 33422: b"\0\1\1\2", 50706: b"\1\4\0\0", 50708: b"ACME One\0", 50717: 4095}
        return size | {279: 2 * width * height} | pattern | {271: b"ACME\0", 272: b"One\0"}


def check(sample, width: int, height: int, orientation: int) -> None:
    """The picture is the scene of this size, turned."""
    expected = scene(width, height)
    expected.getexif()[274] = orientation
    expected = ImageOps.exif_transpose(expected)
    assert (sample.width, sample.height) == expected.size
    small = [np.asarray(image.resize((16, 16)), np.float64) for image in (sample.data, expected)]
    np.testing.assert_allclose(*small, atol=12)


@pytest.mark.parametrize("orientation", [1, 3, 6, 5])
@pytest.mark.parametrize("form", ["rgb", "exif", "strip"])
@pytest.mark.parametrize("order", "<>")
def test_the_largest_picture_of_all_directories(tmp_path, samples, order, form, orientation):
    file = Photograph(order)
    children = (file.directory(file.mosaic()), file.directory(file.picture(320, 240, form)))
    first = file.picture(80, 60, "rgb") | {274: orientation, 330: children}
    data = file.done(file.directory(first))
    for name in ("a.dng", "a.nef", "a.tif", "a"):
        (tmp_path / name).write_bytes(data)
        check(samples(tmp_path / name)[0], 320, 240, orientation)


@pytest.mark.parametrize("name", ["a.dng", "a.pef", "a.tiff"])
def test_a_sensor_before_its_preview(tmp_path, samples, name):
    file = Photograph()
    after = file.directory(file.picture(320, 240, "strip"))
    (tmp_path / name).write_bytes(file.done(file.directory(file.mosaic() | {274: 8}, after)))
    check(samples(tmp_path / name)[0], 320, 240, 8)


def test_pictures_of_files_of_any_structure(tmp_path, samples):
    tags = Photograph()
    about = tags.done(tags.directory({274: 8}))
    header = box(b"moov", box(b"uuid", bytes(16) + box(b"CMT1", about) + box(b"THMB", jpeg(160, 120))))
    body = box(b"uuid", box(b"PRVW", jpeg(320, 240))) + box(b"mdat", jpeg(480, 360) + bytes(999))
    canon = box(b"ftyp", b"crx \0\0\0\1crx isom") + header + body
    fuji = b"FUJIFILMCCD-RAW 0201".ljust(148, b"\0") + jpeg(480, 360, 6) + bytes(999)
    olympus = Photograph(version=b"RO")
    olympus.put(jpeg(480, 360))
    after = olympus.directory(olympus.picture(160, 120, "exif"))
    panasonic = Photograph(version=b"U\0")
    for name, data, orientation in (
        ("a.cr3", canon, 8),
        ("b", canon, 8),
        ("a.raf", fuji, 6),
        ("c", fuji, 6),
        ("a.orf", olympus.done(olympus.directory({274: 3}, after)), 3),
        ("a.rw2", panasonic.done(panasonic.directory({46: jpeg(480, 360, 6), 274: 6})), 6),
    ):
        (tmp_path / name).write_bytes(data)
        assert identify(tmp_path / name).modality is Modality.IMAGE
        check(samples(tmp_path / name)[0], 480, 360, orientation)


def test_a_file_of_signatures_is_no_photograph(tmp_path: Path, samples) -> None:
    starts = b"\xff\xd8\xff\xe0\0\4ab" * 4_000  # each followed by all others
    (tmp_path / "a.cr2").write_bytes(b"II*\0\x10\0\0\0CR" + starts)
    with pytest.raises(Unreadable, match="without a preview"):
        samples(tmp_path / "a.cr2")


def test_without_a_preview_the_sensor_is_developed(tmp_path, samples):
    for name, thumbnail in (("a.dng", False), ("b.dng", True)):
        file = Photograph()
        first = file.mosaic() | {274: 6}
        if thumbnail:  # too small to be searched by
            first = file.picture(80, 60, "rgb") | {330: file.directory(first), 50706: b"\1\4\0\0"}
        (tmp_path / name).write_bytes(file.done(file.directory(first)))
        [sample] = samples(tmp_path / name)
        assert sample.data.size == (240, 320)  # half of 640 x 480, turned
        pixels = np.asarray(sample.data, np.float64)
        assert pixels[300, 10, 0] > pixels[10, 10, 0] + 50  # red was right, and is at the bottom
        assert pixels[10, 10, 1] > pixels[10, 200, 1] + 50  # green was at the bottom, and is left


def test_a_thumbnail_is_better_than_nothing(tmp_path, samples):
    file = Photograph()
    (tmp_path / "a.dng").write_bytes(file.done(file.directory(file.picture(80, 60, "rgb"))))
    check(samples(tmp_path / "a.dng")[0], 80, 60, 1)


def test_a_plain_tiff_is_its_first_page(tmp_path, samples):
    file = Photograph()
    after = file.directory(file.picture(320, 240, "strip"))
    page = file.picture(100, 80, "rgb") | {254: 0}
    (tmp_path / "a.tif").write_bytes(file.done(file.directory(page, after)))
    check(samples(tmp_path / "a.tif")[0], 100, 80, 1)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.cr2", b"II*\0\x10\0\0\0CR\2\0" + bytes(999)),
        ("a.cr3", box(b"ftyp", b"crx \0\0\0\1") + bytes(999)),
        ("a.nef", b"no photograph"),
    ],
)
def test_a_photograph_without_a_picture_says_what_to_do(tmp_path: Path, samples, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(Unreadable, match=r"RAW photograph without a preview, .*: convert it to JPEG or DNG$"):
        samples(tmp_path / name)
