"""What a file may cost: beyond a limit it is too large, and the message names the setting."""

from __future__ import annotations

import ast
import io
import os
import re
import struct
import time
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from PIL import Image

import xsearch
from tests.hostile_mp4 import box, film, full, track
from tests.odd_files import encode_frames
from xsearch.errors import MediaError, TooLarge, Unreadable, UsageError
from xsearch.media import facts, identify, limits, parquet, read, tracks, walk
from xsearch.media.image import jxl, pillow, rgb
from xsearch.types import Modality

PACKAGE = Path(xsearch.__file__).parent
README = PACKAGE.parent / "README.md"


def refused(path: Path, kind: Modality | None = None) -> str:
    """The reason for which a file is too large."""
    with pytest.raises(TooLarge) as problem:
        list(read(identify(path, kinds=[(kind, "*")] if kind else [])))
    return str(problem.value).removeprefix(f"{path}: ")


# ---------------------------------------------------------------- settings


def test_the_readme_lists_every_limit() -> None:
    rows = re.findall(r"^\| `(XSEARCH_M\w+)` \| ([\d,]+)", README.read_text(encoding="utf-8"), re.MULTILINE)
    assert {limit.setting: f"{limit.default:,}" for limit in limits.LIMITS}.items() <= dict(rows).items()
    constants = {name: limit for name, limit in vars(limits).items() if isinstance(limit, limits.Limit)}
    assert {f"XSEARCH_{name}" for name in constants} == {limit.setting for limit in constants.values()}


@pytest.mark.parametrize("value", ["many", "-1", "0", "1.5", "1e3", "٣", " "])
@pytest.mark.parametrize("limit", limits.LIMITS, ids=lambda limit: limit.setting)
def test_a_wrong_setting_is_no_fault_of_a_file(tmp_path, monkeypatch, limit, value):
    path = tmp_path / "a.txt"
    path.write_text("some words")
    file = identify(path)
    monkeypatch.setenv(limit.setting, value)
    for do in (lambda: identify(path), lambda: list(walk([tmp_path])), lambda: list(read(file))):
        with pytest.raises(UsageError, match=f"{limit.setting} is '.*'; expected a whole number above 0"):
            do()


# ---------------------------------------------------------------- pictures


def test_pictures_are_opened_in_one_place_and_by_list() -> None:
    calls = {"Image.open": set(), "av.open": set()}
    for path in [*PACKAGE.rglob("*.py"), *(PACKAGE.parent / "benchmarks").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in calls:
                is_written = any(isinstance(each, ast.Constant) and each.value == "w" for each in node.args)
                calls[ast.unparse(node.func)] |= set() if is_written else {path.name}
                if ast.unparse(node.func) == "Image.open":
                    assert [keyword.arg for keyword in node.keywords] == ["formats"]
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("PIL"):
                assert not {"open", "EpsImagePlugin", "ImageShow"} & {alias.name for alias in node.names}
    assert calls == {"Image.open": {"pillow.py"}, "av.open": {"container.py"}}


PROGRAMS = {
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(x) print\n",
    "eps in binary": b"\xc5\xd0\xd3\xc6"
    + struct.pack("<II", 32, 40)
    + bytes(20)
    + b"%!PS-Adobe-3.0 EPSF-3.0\n",
    "late eps": b"\r\n%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "wmf": b"\xd7\xcd\xc6\x9a\0\0"
    + struct.pack("<4hH", 0, 0, 99, 99, 72)
    + bytes(6)
    + b"\1\0\t\0\0\3"
    + bytes(40),
    "emf": b"\1\0\0\0" + bytes(36) + b" EMF" + bytes(60),
    "fits": b"SIMPLE  =                    T" + b" " * 3000,
    "grib": b"GRIB\0\0\0\1" + bytes(40),
    "hdf5": b"\x89HDF\r\n\x1a\n" + bytes(40),
    "pdf": b"%PDF-1.7\n" + bytes(40),
    "svg": b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
    "mpo of eps": b"\xff\xd8\xff\xe1\0\x08Exif\0\0%!PS-Adobe-3.0",
}


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "gif", "heic", "jxl", "tga", "dng", "psd", "raf"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_no_picture_starts_a_program(tmp_path, monkeypatch, name, suffix):
    for program in ("gs", "gswin64c", "convert", "dwebp"):
        (tmp_path / program).write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
        (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    path = tmp_path / "thermal" / f"a.{suffix}"
    path.parent.mkdir()
    path.write_bytes(PROGRAMS[name])
    for kind in (Modality.IMAGE, Modality.DEPTH, Modality.THERMAL):
        with pytest.raises(MediaError):
            list(read(identify(path, kinds=[(kind, "*")]), with_facts=True))
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F"])
def test_a_large_picture_is_converted_in_bands(monkeypatch, mode):
    values = np.random.default_rng(3).random((70, 90, 4))
    if mode in ("I;16", "I", "F"):
        scale, kind = {"I;16": (60_000, np.uint16), "I": (10**6, np.int32), "F": (9, np.float32)}[mode]
        image = Image.fromarray((values[..., 0] * scale).astype(kind))
    else:
        image = Image.fromarray((values * 255).astype(np.uint8)).convert(mode)
    whole = rgb.to_rgb(image)
    monkeypatch.setattr(rgb, "BAND", 200)
    assert rgb.to_rgb(image) == whole
    monkeypatch.setattr(rgb, "LARGE", 70 * 90 // 5)  # by 3
    assert rgb.to_rgb(image).size == (30, 24)
    np.testing.assert_allclose(rgb.to_rgb(image), whole.reduce(3), atol=1)
    if mode in ("I;16", "I", "F"):
        np.testing.assert_array_equal(rgb.strided(image), np.asarray(image)[::3, ::3])


@pytest.mark.parametrize("turned", [1, 6, 8])
@pytest.mark.parametrize("kind", ["depth", "thermal"])
def test_a_large_map_is_read_at_a_part_of_its_size(tmp_path, monkeypatch, kind, turned):
    exif = Image.Exif()
    exif[274] = turned
    metres = np.tile(np.arange(1000, 1090, dtype=np.uint16), (70, 1))
    path = tmp_path / kind / "a.png"
    path.parent.mkdir()
    (path.parent / "camera.json").write_text('{"focal_px": 90}')
    Image.fromarray(metres).save(path, exif=exif)
    [whole] = read(identify(path))
    monkeypatch.setattr(rgb, "LARGE", 70 * 90 // 5)
    [part] = read(identify(path))
    assert (part.width, part.height, part.modality) == (whole.width, whole.height, kind)
    assert part.data.size <= 70 * 90 // 5
    if kind == "depth":
        np.testing.assert_array_equal(part.data, whole.data[::3, ::3])
        assert (whole.focal_px, part.focal_px) == (90, 30)
    else:
        shape = whole.data[::3, ::3].shape
        assert part.data.shape == shape
        np.testing.assert_allclose(part.data.mean(), whole.data.mean(), atol=0.01)


def test_what_decoders_take_is_limited_by_format(tmp_path, monkeypatch):
    picture = Image.new("RGB", (400, 300))
    for name in ("a.png", "a.jp2", "a.webp"):
        picture.save(tmp_path / name)
    picture.save(tmp_path / "a.jpg", progressive=True, subsampling=0)
    monkeypatch.setenv("XSEARCH_MAX_DECODED_MB", "1")
    for name in ("a.jp2", "a.webp", "a.jpg"):
        reason = "over 1 MB to decode it; downscale it or raise XSEARCH_MAX_DECODED_MB"
        assert refused(tmp_path / name) == reason
    assert len(list(read(identify(tmp_path / "a.png")))) == 1


def test_scans_of_a_jpeg_are_counted(tmp_path, monkeypatch):
    path = tmp_path / "a.jpg"
    picture = Image.effect_noise((64, 48), 90)
    thumbnail = io.BytesIO()
    picture.save(thumbnail, "JPEG", progressive=True)
    exif = Image.Exif()
    exif[0x9286] = thumbnail.getvalue()  # has scans as well
    picture.save(path, progressive=True, exif=exif)
    path.write_bytes(path.read_bytes() + thumbnail.getvalue() * 20)  # and so has what follows
    with path.open("rb") as file:
        data = file.read()
        whole = Image.open(io.BytesIO(thumbnail.getvalue()), formats=["JPEG"])
        assert pillow._scans(file) == pillow._scans(whole.fp) == 6
    path.write_bytes(data)
    monkeypatch.setenv("XSEARCH_MAX_SCANS", "5")
    assert refused(path) == "over 5 scans of a JPEG; save it again or raise XSEARCH_MAX_SCANS"
    monkeypatch.setenv("XSEARCH_MAX_SCANS", "6")
    assert len(list(read(identify(path)))) == 1


def test_a_marker_that_repeats_takes_linear_time():
    assert pillow._scans(io.BytesIO(b"\xff\xd8" + b"\xff" * 2_000_000)) == 0
    assert pillow._scans(io.BytesIO(b"\xff\xd8" + b"\xff\xda\0\0" * 1000)) == 1000


def test_the_frames_of_an_animation_that_are_looked_at_are_few(tmp_path, monkeypatch):
    frames = [Image.new("L", (40, 30), level) for level in range(6)]
    bright = Image.new("L", (40, 30))
    bright.paste(255, (0, 0, 20, 30))
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=[*frames[1:], bright], optimize=False)
    [sample] = read(identify(tmp_path / "a.gif"))
    assert max(sample.data.convert("L").getextrema()) == 255
    monkeypatch.setattr("xsearch.media.image.image.FRAME_PIXELS", 40 * 30 * 3)
    [sample] = read(identify(tmp_path / "a.gif"))
    assert max(sample.data.convert("L").getextrema()) == 0


@pytest.mark.parametrize("size", [(8, 8), (300, 200), (513, 7), (4000, 3000), (1920, 1080), (255, 256)])
def test_the_size_of_a_jpeg_xl_is_read_from_its_header(size):
    pytest.importorskip("pillow_jxl")
    data = io.BytesIO()
    Image.new("RGB", size).save(data, "JXL", effort=1)
    assert jxl.pixels(data) == size[0] * size[1]
    container = (
        box(b"JXL ", b"\r\n\x87\n") + box(b"ftyp", b"jxl \0\0\0\0jxl ") + box(b"jxlc", data.getvalue())
    )
    assert jxl.pixels(io.BytesIO(container)) == size[0] * size[1]


def test_a_jpeg_xl_that_is_too_large_is_never_opened(tmp_path):
    pytest.importorskip("pillow_jxl")
    bits = 0 | 3 << 1 | (99_999 << 3) | 1 << 33  # not small, 30 bits of height, as wide as high
    (tmp_path / "a.jxl").write_bytes(b"\xff\x0a" + bits.to_bytes(16, "little"))
    assert refused(tmp_path / "a.jxl") == "over 178,956,970 pixels; downscale it or raise XSEARCH_MAX_PIXELS"


def exr(*window: int, channels: int = 3) -> bytes:
    """The header of an OpenEXR file."""
    names = b"".join(struct.pack("<BxiBxxxii", 65 + at, 2, 0, 1, 1) for at in range(channels)) + b"\0"

    def attribute(name: bytes, kind: bytes, value: bytes) -> bytes:
        return name + b"\0" + kind + b"\0" + struct.pack("<i", len(value)) + value

    return b"\x76\x2f\x31\x01\2\0\0\0" + b"".join(
        [
            attribute(b"channels", b"chlist", names),
            attribute(b"compression", b"compression", b"\0"),
            attribute(b"dataWindow", b"box2i", struct.pack("<4i", *window)),
            attribute(b"displayWindow", b"box2i", struct.pack("<4i", 0, 0, 9, 9)),
            b"\0",
        ]
    )


def test_light_without_bounds_is_refused_by_its_header(tmp_path):
    (tmp_path / "wide.exr").write_bytes(exr(-50_000, 0, 50_000, 50_000))
    assert refused(tmp_path / "wide.exr", Modality.IMAGE).startswith("over 178,956,970 pixels; ")
    (tmp_path / "deep.exr").write_bytes(exr(0, 0, 2_000, 2_000, channels=150))
    assert refused(tmp_path / "deep.exr", Modality.IMAGE).startswith("over 1,400 MB to decode it; ")
    (tmp_path / "a.hdr").write_bytes(b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 60000 +X 60000\n" + bytes(99))
    assert refused(tmp_path / "a.hdr", Modality.IMAGE).startswith("over 178,956,970 pixels; ")


def tiff(**tags: int) -> bytes:
    numbers = {"width": 256, "height": 257, "bits": 258, "samples": 277, "format": 339, "tile": 322}
    entries = {numbers[name]: value for name, value in tags.items()} | {259: 1, 262: 1, 273: 8, 279: 1}
    packed = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(entries.items()))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + packed + bytes(4)


def test_numbers_in_tiff_are_refused_by_their_header(tmp_path):
    (tmp_path / "a.tif").write_bytes(tiff(width=9_000, height=9_000, bits=64, samples=1, format=3))
    assert refused(tmp_path / "a.tif", Modality.IMAGE).startswith("over 1,400 MB to decode it; ")
    (tmp_path / "b.tif").write_bytes(tiff(width=900, height=900, bits=16, samples=60_000, format=3))
    assert refused(tmp_path / "b.tif", Modality.IMAGE).startswith("over 1,400 MB to decode it; ")


def test_the_text_of_a_png_has_a_limit(tmp_path):
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    data = io.BytesIO()
    Image.new("L", (8, 8)).save(data, "PNG")
    for kind, body in ((b"zTXt", b"x\0\0"), (b"iCCP", b"x\0\0")):
        bomb = chunk(kind, body + zlib.compress(bytes(50 << 20)))
        (tmp_path / "a.png").write_bytes(data.getvalue()[:33] + bomb + data.getvalue()[33:])
        assert "MAX_TEXT_CHUNK of Pillow" in refused(tmp_path / "a.png")


# ---------------------------------------------------------------- arrays


@pytest.mark.parametrize("shape", [(20_000, 20_000), (13_000, 13_000, 1, 1), (2**40, 2**40), (1, 2**62)])
def test_an_array_is_refused_by_its_header(tmp_path, shape):
    data = io.BytesIO()
    np.lib.format.write_array_header_1_0(data, {"descr": "<c32", "fortran_order": False, "shape": shape})
    (tmp_path / "a.npy").write_bytes(data.getvalue() + bytes(99))
    assert re.match(
        "over 178,956,970 pixels|over 1,400 MB to decode it", refused(tmp_path / "a.npy", Modality.DEPTH)
    )


def test_an_array_in_an_archive_is_as_large_as_its_header_states(tmp_path):
    t = np.arange(500) / 100
    columns = {"t": t} | {f"{sensor}{axis}": np.sin(t) for sensor in "ag" for axis in "xyz"}
    np.savez(tmp_path / "a.npz", **columns)
    assert len(list(read(identify(tmp_path / "a.npz")))) == 1
    lying = io.BytesIO()
    with zipfile.ZipFile(tmp_path / "a.npz") as whole, zipfile.ZipFile(lying, "w") as changed:
        for name in whole.namelist():
            array = whole.read(name).replace(b"(500,), }" + b" " * 9, b"(99000000000,), }")
            changed.writestr(name, array)
    (tmp_path / "b.npz").write_bytes(lying.getvalue())
    with pytest.raises(Unreadable):
        list(read(identify(tmp_path / "b.npz")))


# ---------------------------------------------------------------- sounds and films


def test_a_file_has_at_most_so_many_items(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "a.wav", np.zeros(30 * 8_000), 8_000)
    encode_frames(tmp_path / "a.mp4", np.arange(30), sound_s=30)
    rows = "\n".join(f"{at / 10},0,0,9,{at % 3},0,0" for at in range(160))
    (tmp_path / "a.csv").write_text(f"t,ax,ay,az,gx,gy,gz\n{rows}\n")
    (tmp_path / "a.txt").write_text("word " * 300)
    monkeypatch.setenv("XSEARCH_MAX_ITEMS", "2")
    for name in ("a.wav", "a.mp4", "a.csv", "a.txt"):
        assert refused(tmp_path / name) == "over 2 items; split it or raise XSEARCH_MAX_ITEMS"
    monkeypatch.setenv("XSEARCH_MAX_ITEMS", "4")
    assert refused(tmp_path / "a.mp4")  # with the items of its sound
    for name, count in (("a.wav", 3), ("a.csv", 3), ("a.txt", 1)):
        assert len(list(read(identify(tmp_path / name)))) == count


def test_an_hour_of_windows_is_refused_before_it_is_decoded(tmp_path):
    path = tmp_path / "a.wav"
    frames = 28 * 3600 * 100
    form = struct.pack("<IHHIIHH", 16, 1, 1, 100, 200, 2, 16)
    path.write_bytes(b"RIFF" + struct.pack("<I", 2 * frames + 36) + b"WAVEfmt " + form)
    with path.open("ab") as file:
        file.write(b"data" + struct.pack("<I", 2 * frames))
        file.truncate(44 + 2 * frames)
    begin = time.process_time()
    assert refused(path) == "over 10,000 items; split it or raise XSEARCH_MAX_ITEMS"
    assert time.process_time() - begin < 1


@pytest.mark.parametrize(
    ("rate_hz", "channels", "seconds", "reason"),
    [
        (
            1,
            1,
            61,
            "1 samples per second are no sound: under 100 samples per second; correct its rate or lower ",
        ),
        (99, 1, 61, "99 samples per second are no sound"),
        (
            10_000_001,
            1,
            0.01,
            "over 10,000,000 samples per second; correct its rate or raise ",
        ),
        (8_000, 257, 0.1, "over 256 channels; mix it down or raise XSEARCH_MAX_CHANNELS"),
    ],
)
def test_rates_and_channels_are_those_of_sound(tmp_path, rate_hz, channels, seconds, reason):
    soundfile.write(tmp_path / "a.wav", np.zeros((int(seconds * rate_hz), channels)), rate_hz)
    assert refused(tmp_path / "a.wav").startswith(reason)


HOSTILE = {
    "samples": film(track(2**32 - 1)),
    "a compressed header": film(track(2**31), is_packed=True),
    "edits": film(track(10_000, edits=2_000)),
    "tracks": film(*[track(100_000, number=at) for at in range(1, 200)]),
    "a fragment": film(track(1), fragments=2**32 - 1),
    "another size of samples": film(track(1).replace(b"stsz", b"stz2"))
    + box(b"moov", full(b"stz2", b"\xff" * 8)),
    "boxes": film(track(1)) + b"\0\0\0\x08free" * 11_000,
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("suffix", ["mp4", "m4a", "mkv"])
def test_the_index_of_a_film_is_counted_before_it_is_made(tmp_path, monkeypatch, name, suffix):
    monkeypatch.setenv("XSEARCH_MAX_INDEX", "100000")
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(HOSTILE[name])
    begin = time.process_time()
    for kind in (Modality.VIDEO, Modality.AUDIO):
        reason = "over 100,000 entries in its index; split it or raise XSEARCH_MAX_INDEX"
        assert refused(path, kind) == reason
    assert time.process_time() - begin < 5


def test_packets_of_a_film_are_counted(tmp_path, monkeypatch):
    encode_frames(tmp_path / "a.ts", np.arange(50) / 25)
    encode_frames(tmp_path / "a.mkv", np.arange(50) / 25)
    monkeypatch.setenv("XSEARCH_MAX_INDEX", "49")
    for name in ("a.ts", "a.mkv"):
        assert refused(tmp_path / name).startswith("over 49 entries in its index; ")


def test_frames_have_a_limit_of_their_own(tmp_path, monkeypatch):
    encode_frames(tmp_path / "a.mp4", [0, 0.04])
    monkeypatch.setenv("XSEARCH_MAX_FRAME_PIXELS", "3071")
    reason = "over 3,071 pixels a frame; downscale it or raise XSEARCH_MAX_FRAME_PIXELS"
    assert refused(tmp_path / "a.mp4") == reason
    monkeypatch.setenv("XSEARCH_MAX_FRAME_PIXELS", "3072")
    assert len(list(read(identify(tmp_path / "a.mp4")))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile {}\n",
        "file '{}'\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\na={}\n",
        '<?xml version="1.0"?><MPD><Period><AdaptationSet><Representation><BaseURL>{}</BaseURL>'
        "</Representation></AdaptationSet></Period></MPD>",
        "# VobSub index file, v7\nid: en, index: 0\n{}\n",
        "[playlist]\nFile1={}\n",
        'AviSource("{}")\n',
    ],
)
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "wav", "mp3"])
def test_a_list_of_other_files_opens_none_of_them(tmp_path, text, suffix):
    other = tmp_path / "other.mp4"
    encode_frames(other, np.arange(30) / 25, sound_s=1)
    before = other.stat().st_atime_ns
    for target in (other, other.as_uri(), f"concat:{other}", "lavfi:testsrc", f"data:text/plain,{other}"):
        (tmp_path / f"a.{suffix}").write_text(text.format(target))
        for kind in (Modality.VIDEO, Modality.AUDIO):
            with pytest.raises(Unreadable):
                list(read(identify(tmp_path / f"a.{suffix}", kinds=[(kind, "*")])))
    assert other.stat().st_atime_ns == before


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm", "mov", "avi", "flv", "wmv", "ts", "3gp"])
@pytest.mark.parametrize("has_pictures", [True, False])
def test_tracks_are_told_by_the_header(tmp_path, suffix, has_pictures):
    path = tmp_path / f"a.{suffix}"
    with av.open(str(path), "w") as target:
        pictures = None
        if has_pictures:
            codec = {"webm": "libvpx", "flv": "flv", "wmv": "wmv2"}.get(suffix, "mpeg4")
            pictures = target.add_stream(codec, rate=25)
            pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        kind = {"webm": "libopus", "avi": "mp3", "wmv": "wmav2"}.get(suffix, "aac")
        sound = target.add_stream(kind, rate=48_000 if suffix == "webm" else 44_100, layout="stereo")
        sound.bit_rate = 128_000
        if pictures:
            target.mux(pictures.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8))))
            target.mux(pictures.encode(None))
        wave = np.zeros((1, 44_100), np.float32)
        frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = sound.rate, 0
        resampled = av.AudioResampler(
            sound.format, sound.layout, sound.rate, sound.frame_size or None
        ).resample(frame)
        for part in [*resampled, None]:
            target.mux(sound.encode(part))
    expected = Modality.VIDEO if has_pictures else Modality.AUDIO
    assert identify(path).modality == expected
    assert next(read(identify(path))).modality == expected


def test_pictures_of_chapters_make_no_film(tmp_path):
    chapters = track(3, number=1)
    book = track(3, number=2, handler=b"soun").replace(b"trak", b"trak")
    reference = box(b"tref", box(b"chap", struct.pack(">I", 1)))
    book = box(b"trak", book[8:], reference)
    (tmp_path / "a.m4b").write_bytes(film(chapters, book))
    assert not tracks.has_pictures(tmp_path / "a.m4b", "video/mp4")
    (tmp_path / "b.m4b").write_bytes(film(chapters, book.replace(b"chap", b"cdsc")))
    assert tracks.has_pictures(tmp_path / "b.m4b", "video/mp4")


# ---------------------------------------------------------------- tables of motion


def unpacked(table: pa.Table, **options: object) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, **options)
    return file.getvalue()


T = np.arange(500) / 100
MOTION = {"t": T} | {f"{sensor}{axis}": np.sin(T) for sensor in "ag" for axis in "xyz"}
BOMBS = {
    "a page": lambda: unpacked(pa.table({"t": [b"0" * 3_000_000]}), compression="zstd", use_dictionary=False),
    "a dictionary": lambda: unpacked(pa.table({"t": pa.array([b"0" * 10**4] * 300, pa.binary(10**4))})),
    "nothing": lambda: unpacked(pa.table({"t": pa.nulls(300_000, pa.float64())})),
    "nothing in lists": lambda: unpacked(pa.table({"t": [[None] * 100_000] * 3})),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_table_is_counted_before_it_is_unpacked(monkeypatch, name):
    data = io.BytesIO(BOMBS[name]())
    assert len(data.getvalue()) < 2_000
    monkeypatch.setenv("XSEARCH_MAX_MOTION_MB", "2")
    with pytest.raises(TooLarge, match="over 2 MB of motion; split it or raise XSEARCH_MAX_MOTION_MB"):
        parquet.check(data, Path("a.parquet"), limits.MAX_MOTION_MB)
    parquet.check(data, Path("a.parquet"), limits.MAX_MOTION_MB, columns={"other"})


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd", "gzip", "brotli", "lz4"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_every_page_of_a_table_is_counted(monkeypatch, compression, version):
    rows = 20_000
    nested = {"list": [[1, 2]] * rows, "struct": [{"x": 1}] * rows, "text": [str(at) for at in range(rows)]}
    table = pa.table({"number": np.arange(rows), "yes": [True] * rows} | nested)
    options = {"data_page_version": version, "write_page_checksum": True, "data_page_size": 10_000}
    data = io.BytesIO(unpacked(table, compression=compression, row_group_size=5_000, **options))
    monkeypatch.setenv("XSEARCH_MAX_TABLE_MB", "1")
    parquet.check(data, Path("a"), limits.MAX_TABLE_MB, {"number"})
    with pytest.raises(TooLarge):  # six columns of values of eight bytes
        parquet.check(io.BytesIO(data.getvalue()), Path("a"), limits.MAX_TABLE_MB)
    parquet.check(io.BytesIO(data.getvalue()), Path("a"), limits.MAX_TABLE_MB, share=2)


def test_texts_that_repeat_are_limited_by_their_length(tmp_path, monkeypatch):
    moments = [f"2024-01-01 00:00:{at / 100:05.2f}" for at in range(500)]
    columns = {"timestamp": pa.array(moments)} | {name: MOTION[name] for name in MOTION if name != "t"}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    assert len(list(read(identify(tmp_path / "a.parquet")))) == 1
    pq.write_table(pa.table(columns | {"timestamp": ["x" * 900_000] * 500}), tmp_path / "b.parquet")
    assert refused(tmp_path / "b.parquet").startswith("over 256 MB of motion; ")


@pytest.mark.parametrize("delimiter", [",", " "])
def test_a_table_of_text_has_a_limit(tmp_path, delimiter):
    names = delimiter.join(MOTION)
    (tmp_path / "a.csv").write_text(f"{names}\n" + f"{delimiter.join('1' * 7)}\n" * 100)
    with (tmp_path / "a.csv").open("ab") as file:
        file.truncate((256 << 20) + 1)
    assert refused(tmp_path / "a.csv").startswith("over 256 MB of motion; ")


@pytest.mark.parametrize(
    "cell", [lambda at: f"acc{at}z", lambda at: "accacc" * 10 + "z", lambda at: "_" * 99 + "z"]
)
def test_a_wide_header_takes_no_time(tmp_path, cell):
    line = ",".join(cell(at) for at in range(60_000))[:58_000]
    (tmp_path / "a.csv").write_text(f"{line}\n" * 100)
    begin = time.process_time()
    with pytest.raises(MediaError):
        identify(tmp_path / "a.csv")
    assert time.process_time() - begin < 10


@pytest.mark.parametrize(
    ("above", "more"),
    [
        ("# rate" + " " * 60_000, []),
        ("", ["(" * 30_000, *["(x)"] * 5_000]),
        ("", ["_a" * 30_000]),
        ("", [" [" * 30_000]),
        ("", ["SampleTimeFine"] * 4_000),
        ("", [f"time_{at}" for at in range(6_000)]),
    ],
)
def test_hostile_names_of_columns_take_no_time(tmp_path, above, more):
    rows = "\n".join(f"{at / 100},0,0,9,{at % 3},0,0" for at in range(500))
    (tmp_path / "a.csv").write_text("\n".join([above, ",".join([*MOTION, *more]), rows]))
    begin = time.process_time()
    with suppress(Unreadable):
        list(read(identify(tmp_path / "a.csv")))
    assert time.process_time() - begin < 5


def test_what_is_beside_a_file_has_limits(tmp_path, monkeypatch):
    (tmp_path / "depth").mkdir()
    Image.fromarray(np.full((6, 8), 999, np.uint16)).save(tmp_path / "depth" / "a.png")
    (tmp_path / "depth" / "camera.json").write_text("{" + " " * (16 << 20) + "}")
    with pytest.raises(TooLarge, match=r"camera\.json: over 16 MB; .* or raise XSEARCH_MAX_SIDECAR_MB"):
        list(read(identify(tmp_path / "depth" / "a.png")))
    packet = "<x:xmpmeta xmlns:x='adobe:ns:meta/'>" + " " * (5 << 20)
    (tmp_path / "depth" / "a.xmp").write_text(packet)
    assert facts.of_sidecar(tmp_path / "depth" / "a.png").columns == {}
    (tmp_path / "oxts").mkdir()
    with (tmp_path / "oxts" / "0000.txt").open("wb") as file:
        file.truncate((64 << 20) + 1)
    assert refused(tmp_path / "oxts" / "0000.txt").startswith("over 256 MB of motion; ")
