"""Bad and odd files of every kind, generated, with their expected outcomes."""

from __future__ import annotations

import io
import os
import stat
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import soundfile
from PIL import Image, ImageCms

from xsearch.types import Modality

__all__ = ["Odd", "encode_frames", "write_odd_files"]

PIXELS = "over 178,956,970 pixels"
RATE_HZ = 8_000


@dataclass(frozen=True, slots=True)
class Odd:
    """A file and what has to become of it."""

    path: Path
    what: str  # is odd about it
    outcome: str  # "items", "skip", "not media", or "either": items or a skip
    kind: Modality | None = None  # of the first item
    count: int | None = None  # of items, if certain
    reason: str = ""  # substring


class _Folder:
    """A folder of files of one kind, and their expected outcomes."""

    def __init__(self, path: Path, kind: Modality) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path, self.kind, self.files = path, kind, list[Odd]()

    def put(self, name: str, data: bytes | str) -> Path:
        """Write an auxiliary file."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return path

    def _add(self, name: str, what: str, data: bytes | str | None, outcome: str, **more: Any) -> None:
        path = self.path / name if data is None else self.put(name, data)
        self.files.append(Odd(path, what, outcome, **more))

    def items(
        self, name: str, what: str, data: bytes | str | None, count: int | None = 1, **more: Any
    ) -> None:
        """data: None if the file exists already."""
        self._add(name, what, data, "items", **{"kind": self.kind, "count": count} | more)

    def skip(self, name: str, what: str, data: bytes | str | None, reason: str) -> None:
        self._add(name, what, data, "skip", reason=reason)

    def either(self, name: str, what: str, data: bytes | str | None) -> None:
        self._add(name, what, data, "either")

    def other(self, name: str, what: str, data: bytes | str | None, reason: str = "") -> None:
        self._add(name, what, data, "not media", reason=reason)


def write_odd_files(path: Path) -> list[Odd]:
    """Write all files, in folders by kind; those in `hours` take seconds to read."""
    files = []
    for kind, write in (
        (Modality.IMAGE, _pictures),
        (Modality.AUDIO, _sounds),
        (Modality.AUDIO, _hours),
        (Modality.VIDEO, _videos),
        (Modality.TEXT, _texts),
        (Modality.DEPTH, _depth),
        (Modality.THERMAL, _thermal),
        (Modality.IMU, _imu),
        (Modality.TEXT, _names),
        (Modality.TEXT, _nodes),
        (Modality.IMAGE, _pieces),
    ):
        folder = _Folder(path / write.__name__.strip("_"), kind)
        write(folder)
        files += folder.files
    return files


# ---------------------------------------------------------------- pictures


def _scene(width: int = 64, height: int = 48) -> Image.Image:
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, (x + y) / 2], axis=2).astype(np.uint8))


def _as(format: str, picture: Image.Image | None = None, **options: Any) -> bytes:
    file = io.BytesIO()
    (picture or _scene()).save(file, format, **options)
    return file.getvalue()


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _png(width: int, height: int, *chunks: bytes) -> bytes:
    """Of one bit per pixel."""
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + _chunk(b"IEND", b"")


def _black(width: int, height: int) -> bytes:
    return _png(width, height, _chunk(b"IDAT", zlib.compress(bytes((width // 8 + 1) * height))))


def _pictures(at: _Folder) -> None:
    levels = np.asarray(_scene())[..., 0]
    deep, real = Image.fromarray(levels.astype(np.uint16) * 257), levels.astype(np.float32)
    holes = np.where(real > 9, real, np.float32([np.nan, np.inf] * 32))
    turned, wrong = Image.Exif(), Image.Exif()
    turned[0x0112], wrong[0x0112] = 6, 99
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    two: dict[str, Any] = {"save_all": True, "append_images": [_scene(9, 9).resize((64, 48))]}
    jpg, png, gif, bmp, tiff = (_as(format) for format in ("JPEG", "PNG", "GIF", "BMP", "TIFF"))
    frame = jpg.index(b"\xff\xc0") + 5  # height and width
    side = 50_000

    at.items("1x1.png", "one pixel", _as("PNG", _scene(1, 1)))
    at.items("1x1.jpg", "one pixel", _as("JPEG", _scene(1, 1)))
    at.items("1x5000.png", "a hair", _as("PNG", _scene(1, 5_000)))
    at.items("5000x1.jpg", "a hair", _as("JPEG", _scene(5_000, 1)))
    at.items("large.png", "25 million pixels in 3 kB", _black(5_000, 5_000))
    at.items("cmyk.jpg", "four inks", _as("JPEG", _scene().convert("CMYK")))
    at.items("cmyk.tiff", "four inks", _as("TIFF", _scene().convert("CMYK")))
    at.items("lab.tiff", "CIE Lab", _as("TIFF", Image.new("LAB", (8, 8))))
    at.items("ycbcr.tiff", "YCbCr", _as("TIFF", _scene().convert("YCbCr")))
    at.items("16 bit.png", "16 bits", _as("PNG", deep))
    at.items("16 bit.tiff", "16 bits", _as("TIFF", deep))
    at.items("32 bit.tiff", "32 bits", _as("TIFF", Image.fromarray(levels * np.int32(8_000_000))))
    at.items("la.png", "grey and transparent", _as("PNG", _scene().convert("LA")))
    at.items("rgba.webp", "transparent", _as("WEBP", _scene().convert("RGBA")))
    at.items("palette.png", "a transparent palette", _as("PNG", _scene().convert("P"), transparency=3))
    at.items("1 bit.png", "1 bit", _as("PNG", _scene().convert("1")))
    at.items("even.tiff", "floats that are all the same", _as("TIFF", Image.fromarray(real * 0 + 9e5)))
    at.items("holes.tiff", "floats, not all finite", _as("TIFF", Image.fromarray(holes)))
    at.items("nan.tiff", "floats, none finite", _as("TIFF", Image.fromarray(real * np.nan)))
    at.items("icc.jpg", "a colour profile", _as("JPEG", icc_profile=srgb))
    at.items("icc.png", "a damaged colour profile", _as("PNG", icc_profile=b"no profile" * 99))
    at.items("turned.jpg", "EXIF orientation 6", _as("JPEG", exif=turned))
    at.items("turned.webp", "EXIF orientation 99", _as("WEBP", exif=wrong))
    at.items("exif.jpg", "damaged EXIF", _as("JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f"))
    at.items("more.jpg", "more data after its end", jpg + bytes(5_000))
    at.items("progressive.jpg", "progressive", _as("JPEG", progressive=True))
    at.items("grey.jpg", "one channel", _as("JPEG", _scene().convert("L")))
    at.items("one frame.gif", "a GIF with one frame", gif)
    for format in ("GIF", "PNG", "WEBP", "TIFF", "MPO"):
        at.items(f"two.{'jpg' if format == 'MPO' else format.lower()}", "two frames", _as(format, **two))
    at.skip("bomb.png", "50 MB of black in 50 kB", _black(20_000, 20_000), PIXELS)
    at.skip("side.png", "50,000 x 50,000", _png(side, side), PIXELS)
    at.skip(
        "side.jpg", "50,000 x 50,000", jpg[:frame] + struct.pack(">HH", side, side) + jpg[frame + 4 :], PIXELS
    )
    at.skip("side.gif", "50,000 x 50,000", gif[:6] + struct.pack("<HH", side, side) + gif[10:], PIXELS)
    at.skip("side.bmp", "50,000 x 50,000", bmp[:18] + struct.pack("<ii", side, side) + bmp[26:], PIXELS)
    text = _chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(100 << 20)))
    at.skip("text.png", "100 MB of text in 100 kB", _png(8, 8, text), "too large")
    at.skip("no data.png", "no pixels", _png(8, 8), "")
    at.skip("no frame.gif", "no frame", b"GIF89a\x08\0\x08\0\0\0\0;", "")
    at.skip("checksum.png", "a wrong checksum", png[:29] + bytes(4) + png[33:], "")
    at.skip("no height.png", "no height", _black(8, 0), "")
    at.skip("page.jpg", "a web page", "<!doctype html><title>404</title>", "unsupported image format")
    at.skip(
        "photo.heic", "needs a package", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40), "image format ("
    )
    at.skip("far.tiff", "an index beyond its end", tiff[:4] + b"\xff\xff\xff\x7f" + tiff[8:], "")
    at.skip("head.webp", "a header only", b"RIFF\x40\0\0\0WEBP" + bytes(20), "")
    rng = np.random.default_rng(0)
    for name, data in (("noisy.png", png), ("noisy.jpg", jpg), ("noisy.gif", gif), ("noisy.tiff", tiff)):
        noisy = np.frombuffer(data, np.uint8).copy()
        noisy[rng.integers(20, len(noisy), 30)] ^= 0xFF
        at.either(name, "30 damaged bytes", noisy.tobytes())


# ---------------------------------------------------------------- sounds


def _tone(seconds: float, rate_hz: int = RATE_HZ, channels: int = 1) -> np.ndarray:
    wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate_hz)) / rate_hz)
    return np.repeat(wave[:, None], channels, axis=1)


def _sound(format: str, sound: np.ndarray, rate_hz: int = RATE_HZ, subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, sound, rate_hz, subtype, format=format)
    return file.getvalue()


def _wav(rate_hz: int, channels: int, bytes_: int, data: bytes = b"") -> bytes:
    """16-bit samples behind a header that may lie."""
    frame = 2 * channels % 2**16
    form = struct.pack("<IHHIIHH", 16, 1, channels, rate_hz, rate_hz * frame % 2**32, frame, 16)
    size, rest = struct.pack("<I", bytes_), struct.pack("<I", min(bytes_ + 36, 2**32 - 1))
    return b"RIFF" + rest + b"WAVEfmt " + form + b"data" + size + data


def _sounds(at: _Folder) -> None:
    numbers = _tone(1)
    numbers[::3], numbers[1::3] = np.nan, np.inf
    at.items("nan.wav", "NaN and infinite samples", _sound("WAV", numbers, subtype="FLOAT"))
    at.items("all nan.wav", "no finite sample", _sound("WAV", numbers * np.nan, subtype="DOUBLE"))
    at.items("loud.wav", "beyond full scale", _sound("WAV", _tone(1) * 1e300, subtype="DOUBLE"))
    at.items("one.wav", "one sample", _sound("WAV", _tone(1)[:1], 16_000))
    at.items("one slow.wav", "one sample", _sound("WAV", _tone(1)[:1]))
    at.either("one fast.wav", "less than one sample at 16 kHz", _sound("WAV", _tone(1)[:1], 44_100))
    at.items("1 Hz.wav", "one sample per second", _sound("WAV", _tone(1)[:5], 1))
    at.items("8.wav", "8 channels", _sound("WAV", _tone(1, channels=8)))
    at.items("36.wav", "36 channels", _sound("WAV", _tone(1, channels=36)))
    at.items("8.ogg", "8 channels", _sound("OGG", _tone(1, channels=8)))
    at.items("384k.wav", "384 kHz", _sound("WAV", _tone(2, 384_000), 384_000, "PCM_24"))
    at.items("384k 8.wav", "8 channels of 384 kHz", _sound("WAV", _tone(2, 384_000, 8), 384_000))
    at.items("silence.flac", "silence", _sound("FLAC", _tone(1) * 0))
    at.items("constant.wav", "a constant", _sound("WAV", _tone(1) * 0 + 0.7))
    at.items("law.wav", "mu-law", _sound("WAV", _tone(1), subtype="ULAW"))
    at.items("adpcm.wav", "ADPCM", _sound("WAV", _tone(1), subtype="MS_ADPCM"))
    at.items("rf64.wav", "RF64", _sound("RF64", _tone(1)))
    at.items("aiff.wav", "AIFF in the clothes of wav", _sound("AIFF", _tone(1)))
    for format in ("WAV", "FLAC", "OGG"):
        at.skip(f"none.{format.lower()}", "no sample", _sound(format, _tone(0)), "")
    flac = _sound("FLAC", _tone(3))  # STREAMINFO: 36 bits, from the second half of byte 21, tell the length
    at.items(
        "stream.flac", "its length is unknown", flac[:21] + bytes([flac[21] & 0xF0]) + bytes(4) + flac[26:]
    )
    pcm = (_tone(1) * 9_000).astype("<i2").tobytes()
    at.items("stream.wav", "a header that tells of 4 GB", _wav(RATE_HZ, 1, 2**32 - 1, pcm))
    at.either("2 GHz.wav", "2 GHz", _wav(2**31 - 1, 1, len(pcm), pcm))
    at.skip("0 Hz.wav", "0 Hz", _wav(0, 1, len(pcm), pcm), "")
    at.skip("65535.wav", "65,535 channels", _wav(RATE_HZ, 65_535, len(pcm), pcm), "")
    at.skip("0.wav", "no channel", _wav(RATE_HZ, 0, len(pcm), pcm), "")
    at.skip("tag.mp3", "a tag only", b"ID3\x03\0\0\0\0\0\x0a" + bytes(10), "")
    mp3 = _sound("MP3", _tone(3), 16_000)
    at.items("late.mp3", "after 3,000 zeros", bytes(3_000) + mp3)
    at.either("noise.mp3", "noise", np.random.default_rng(1).bytes(9_000))


def _hours(at: _Folder) -> None:
    size = 36_000 * 16_000 * 2
    os.truncate(at.put("10.wav", _wav(16_000, 1, size)), 44 + size)
    at.items("10.wav", "10 hours, on the disk nothing", None, 3_600)


# ---------------------------------------------------------------- videos


def encode_frames(
    path: Path,
    times_s: Sequence[float],
    codec: str = "mpeg4",
    *,
    size: tuple[int, int] = (64, 48),
    sound_s: float = 0.0,
    first_packet: int = 0,
    **options: str,
) -> bytes:
    """A video of noise that moves, and silence. Its first packets may be left out."""
    width, height = size
    noise = np.random.default_rng(5).integers(0, 256, (height + 64, width + 64, 3), np.uint8)
    with av.open(str(path), "w") as target:
        whole = {"sc_threshold": "1000000000"}  # no keyframes except the requested ones
        stream = target.add_stream(codec, rate=25, options=whole | options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        track = target.add_stream("aac", rate=16_000, layout="mono") if sound_s else None
        target.start_encoding()  # also where no frame follows
        packets = []
        for number, t in enumerate(times_s):
            x = number % 64
            pixels = np.ascontiguousarray(noise[x : x + height, x : x + width])
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = round(t * 1000), Fraction(1, 1000)
            packets += stream.encode(frame)
        target.mux((packets + stream.encode(None))[first_packet:])
        if track:
            write_silence(target, track, sound_s)
    return path.read_bytes()


def write_silence(target: Any, track: Any, seconds: float) -> None:
    """All of a mono sound track at 16 kHz of a PyAV container."""
    for k in range(round(seconds * 16_000 / 1024)):
        part = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        part.sample_rate, part.pts, part.time_base = 16_000, 1024 * k, Fraction(1, 16_000)
        target.mux(track.encode(part))
    target.mux(track.encode(None))


def _aac(path: Path) -> bytes:
    with av.open(str(path), "w") as target:
        stream = target.add_stream("aac", rate=16_000, layout="mono")
        for k in range(30):
            part = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            part.sample_rate, part.pts = 16_000, 1024 * k
            target.mux(stream.encode(part))
        target.mux(stream.encode(None))
    return path.read_bytes()


def _patched(data: bytes, box: bytes, offset: int, new: bytes) -> bytes:
    """An MP4 with other bytes at `offset` after the name of a box; ISO 14496-12 tells the offsets."""
    at = data.index(box) + 4 + offset
    return data[:at] + new + data[at + len(new) :]


def _videos(at: _Folder) -> None:
    def film(name: str, times_s: Sequence[float], **options: Any) -> bytes:
        return encode_frames(at.path / name, times_s, **options)

    second = np.arange(25) / 25
    whole = film("whole.mp4", second)
    at.items("whole.mp4", "nothing", whole)
    at.items("one.mp4", "one frame", film("one.mp4", [0]))
    at.items("odd.mkv", "odd sides", film("odd.mkv", second, size=(18, 14)))
    at.items("sound.mp4", "more sound than pictures", film("sound.mp4", second, sound_s=3), 2)
    at.items("only sound.mp4", "only sound", _aac(at.path / "only sound.mp4"), kind=Modality.AUDIO)
    at.items("only sound.mkv", "only sound", _aac(at.path / "only sound.mkv"), kind=Modality.AUDIO)
    at.skip("no frame.mp4", "no frame", film("no frame.mp4", []), "")
    at.skip("no frame.mkv", "no frame", film("no frame.mkv", []), "")
    at.either("no key.mkv", "no keyframe", film("no key.mkv", second, g="99", first_packet=1))
    at.either("no key.mp4", "no keyframe", film("no key.mp4", second, g="99", first_packet=1))
    at.items("uneven.mkv", "a variable frame rate", film("uneven.mkv", [0, 0.1, 0.15, 2, 2.1, 7, 7.04]))
    pause = [*second, *(60 + second)]
    at.items("pause.mkv", "a minute without a frame", film("pause.mkv", pause), 2)
    at.items("years.mkv", "ten years without a frame", film("years.mkv", [0, 3e8], g="1"), 2)
    at.items("slow.mp4", "a frame every 30 s", film("slow.mp4", [0, 30, 60]), 3)
    a, b, c, d = (int(16**4 * value).to_bytes(4, "big", signed=True) for value in (0, 1, -1, 0))
    turned = _patched(whole, b"tkhd", 40, a + b + bytes(4) + c + d + bytes(4))
    at.items("turned.mp4", "turned by a quarter", turned)
    at.items("length.mp4", "a header that tells of years", _patched(whole, b"mdhd", 16, b"\xff\xff\xff\xf0"))
    at.items("no length.mp4", "a header that tells of no length", _patched(whole, b"mvhd", 16, bytes(4)))
    at.either("no codec.mp4", "a codec of no name", whole.replace(b"mp4v", b"none"))
    at.skip(
        "playlist.avi",
        "a playlist",
        "#EXTM3U\n#EXTINF:1,\nfile:whole.mp4\n#EXT-X-ENDLIST\n",
        "cannot be decoded",
    )
    at.items("picture.mp4", "a picture", _as("GIF"), kind=Modality.IMAGE)
    noisy = bytearray(whole)
    for k in np.random.default_rng(2).integers(100, len(whole) - 2_000, 50):
        noisy[k] ^= 0xFF
    at.items("noisy.mp4", "50 damaged bytes", bytes(noisy))


# ---------------------------------------------------------------- texts


def _texts(at: _Folder) -> None:
    german, russian = "Ein schöner Tag für große Bären. " * 4, "Хороший день для медведей. " * 4
    for encoding in ("latin-1", "cp1252", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"):
        at.items(f"{encoding}.txt", f"text in {encoding}", german.encode(encoding))
    at.items("utf-16 russian.txt", "text in UTF-16", russian.encode("utf-16"))
    at.items("cut.txt", "UTF-8 cut within a letter", "für Bären ä".encode()[:-1])
    at.items("cut 16.txt", "UTF-16 cut within a letter", german.encode("utf-16")[:-1])
    at.skip("cp1251.txt", "text in another alphabet", russian.encode("cp1251"), "unknown encoding")
    at.skip(
        "shift_jis.txt", "text in another alphabet", "良い日です。".encode("shift_jis"), "unknown encoding"
    )
    at.skip("half.txt", "half a pair of UTF-16", b"\xff\xfe" + b"a\0\x00\xd8b\0", "unknown encoding")
    at.skip("binary.txt", "random bytes", np.random.default_rng(3).bytes(4_000), "binary data")
    at.skip("zeros.txt", "zeros", bytes(4_000), "binary data")
    at.skip("program.txt", "a program", b"\x7fELF\x02\x01\x01" + bytes(90) + b"text" * 9, "binary data")
    at.skip("control.md", "control characters", bytes(range(1, 32)) * 9, "binary data")
    at.skip("space.txt", "white space", " \n\t\u3000\r\n", "empty")
    at.skip("mark.txt", "a byte order mark", b"\xef\xbb\xbf", "empty")
    at.items("wide.txt", "ten million spaces", b"one" + b" " * 10_000_000 + b"two")
    at.items("tall.txt", "a million empty lines", b"one" + b"\n" * 1_000_000 + b"two")
    at.items("data.txt", "a word of 2 MB", b"x" * 2_000_000, None)
    for name, size in (("line.txt", 100 << 20), ("sparse.txt", 10 << 30)):
        os.truncate(at.put(name, "word " * 200_000), size)
        at.skip(name, f"a line of {size >> 20} MB", None, "over 16 MB")
    at.items("colours.md", "a coloured log", "\x1b[31mred\x1b[0m " * 20)
    at.items("dos.txt", "DOS lines and end", "one\r\n\r\ntwo\r\n\x1a")
    at.items("emoji.md", "letters beyond 16 bits", "👩‍👩‍👧‍👦 e\u0301\u0302\u0303 \u202eabc " * 9)
    at.other("captions.csv", "a table of captions", "path,caption\na.png,a dog\n", "--metadata")
    at.other("lines.jsonl", "not a text to search", '{"a": 1}\n', "unsupported file type")
    at.other("script.py", "not a text to search", "print(1)\n", "unsupported file type")


# ---------------------------------------------------------------- depth, thermal


def _npy(array: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def _depth(at: _Folder) -> None:
    metres = np.linspace(0.5, 4, 48).reshape(6, 8)
    holes = np.where(metres > 1, metres, [np.nan, 0, np.inf, -1] * 2)
    at.items("holes.npy", "NaN, zeros and infinity", _npy(holes))
    at.items("holes.tiff", "NaN, zeros and infinity", _as("TIFF", Image.fromarray(holes.astype(np.float32))))
    at.items("half.npy", "16-bit floats", _npy(metres.astype(np.float16)))
    at.items("big.npy", "big-endian, by columns", _npy(np.asfortranarray(metres.astype(">f8"))))
    at.items("far.npy", "beyond 32-bit floats", _npy(np.where(metres > 1, metres, 1e300)))
    at.items("row.npy", "one row", _npy(metres[:1]))
    at.items("axes.npy", "axes of length 1", _npy(metres[None, :, :, None]))
    at.items("8 bit.png", "8 bits", _as("PNG", Image.new("L", (8, 6), 9)), kind=Modality.IMAGE)
    at.items("colour.png", "a colour picture", _as("PNG"), kind=Modality.IMAGE)
    unknown = {"0.npy": metres * 0, "nan.npy": metres * np.nan, "below.npy": -metres, "none.npy": metres[:0]}
    for name, array in unknown.items():
        at.skip(name, "nothing known", _npy(array), "no pixel of known depth")
    at.skip("0.png", "nothing known", _as("PNG", Image.fromarray(np.zeros((6, 8), np.uint16))), "known depth")
    for name, array in (
        ("cube.npy", np.ones((3, 4, 5))),
        ("line.npy", np.ones(9)),
        ("yes.npy", metres > 1),
        ("mask.npy", (metres > 1).astype(np.float32)),
        ("8 bit.npy", metres.astype(np.uint8)),
        ("complex.npy", metres + 1j),
        ("fields.npy", np.ones((3, 4), [("z", "f4")])),
    ):
        at.other(name, f"{array.dtype} {array.shape}", _npy(array), "--as")
    at.skip("pickle.npy", "Python objects", _npy(np.array([[None]]), allow_pickle=True), "")
    side = _npy(np.full((1, 1), 7, np.uint16)).replace(b"(1, 1), }" + b" " * 8, b"(14000, 14000), }")
    os.truncate(at.put("side.npy", side), 128 + 2 * 14_000**2)
    at.skip("side.npy", "14,000 x 14,000", None, PIXELS)
    at.skip("short.npy", "shorter than its header says", side, "")
    row = struct.pack("<8f", *metres[0])
    at.items("nan.pfm", "a scale that is no number", b"Pf\n8 1\nnan\n" + row)
    at.skip("side.pfm", "50,000 x 50,000", b"Pf\n50000 50000\n-1\n" + row, PIXELS)
    at.skip("less.pfm", "negative sides", b"Pf\n-8 -1\n-1\n" + row, "")
    at.skip("colour.pfm", "three channels", b"PF\n1 1\n-1\n" + row, "not a one-channel PFM")
    at.skip("map.exr", "needs a package", b"\x76\x2f\x31\x01" + bytes(60), "OpenEXR")
    at.other("camera/depth/camera.json", "a camera that cannot be", '{"focal_px": NaN}')
    at.skip(
        "camera/depth/a.npy", "beside a camera that cannot be", _npy(metres), "camera.json: focal_px is nan"
    )


def _thermal(at: _Folder) -> None:
    counts = np.linspace(29_000, 30_000, 48).reshape(6, 8)
    at.items("even.png", "the same everywhere", _as("PNG", Image.new("L", (8, 6), 90)))
    at.items(
        "even 16.png", "the same everywhere", _as("PNG", Image.fromarray(np.full((6, 8), 999, np.uint16)))
    )
    holes = np.where(counts > 29_500, counts, [np.nan, np.inf, -np.inf, 1e38] * 2).astype(np.float32)
    at.items("holes.tiff", "NaN and infinity", _as("TIFF", Image.fromarray(holes)))
    at.items("nan.tiff", "no finite number", _as("TIFF", Image.fromarray(holes * np.nan)))
    at.items("dot.png", "one pixel", _as("PNG", Image.new("L", (1, 1), 90)))
    at.items("colour.png", "a colour picture", _as("PNG"), kind=Modality.IMAGE)


# ---------------------------------------------------------------- motion


def _motion(seconds: float = 4, rate_hz: float = 50) -> dict[str, np.ndarray]:
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    return {"t": t} | {f"{s}{axis}": np.sin(k * t) for k, s in enumerate("ag") for axis in "xyz"}


def _csv(columns: dict[str, Any]) -> str:
    rows = zip(*(np.asarray(column).tolist() for column in columns.values()), strict=True)
    return "\n".join([",".join(columns), *(",".join(map(str, row)) for row in rows)]) + "\n"


def _parquet(columns: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    pyarrow.parquet.write_table(pa.table(columns), file)
    return file.getvalue()


def _npz(**columns: Any) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **columns)
    return file.getvalue()


def _imu(at: _Folder) -> None:
    good = _motion()
    text, t = _csv(good), good["t"]
    head, *rows = text.splitlines()
    accel = {name: good[name] for name in ("t", "ax", "ay", "az")}
    six = {name: good[name] for name in good if name != "t"}
    at.items("whole.csv", "nothing", text)
    at.items("shuffled.csv", "time that jumps", "\n".join([head, *rows[::2], *rows[1::2]]))
    at.items("twice.csv", "every moment twice", text + "\n".join(rows))
    at.items("hole.csv", "empty cells", text.replace("1.0,", ",", 50))
    at.items("hour.csv", "an hour without a row", _csv(good | {"t": np.where(t < 2, t, t + 3_600)}), 2)
    at.items("years.csv", "one row years later", text + "1e9,0,0,0,0,0,0\n")
    at.items("large.csv", "numbers beyond 32-bit floats", text + "5,1e300,0,0,0,0,0\n6,1,0,0,0,0,1e999\n")
    at.items("utf-16.csv", "UTF-16", text.encode("utf-16"))
    at.items("german.csv", "decimal commas", text.replace(",", ";").replace(".", ","))
    at.items("latin.csv", "latin-1", f"# für Bären\n{text}".encode("latin-1"))
    at.items("lines.csv", "empty lines before and in it", "\n\n" + text.replace("\n", "\n\n"))
    at.items("cut.csv", "half a row at its end", text[:-15])
    at.skip("accel.csv", "no gyroscope", _csv(accel), "only accel columns")
    at.skip(
        "word.csv", "a word among the numbers", text.replace("\n1.0,", "\nnoon,"), "column t is not numeric"
    )
    at.skip("no time.csv", "no time", _csv(six), "neither a time column nor rate_hz")
    at.skip("rate.csv", "a rate of 0", _csv(six | {"rate_hz": t * 0}), "rate_hz is 0.0")
    at.skip(
        "ns.csv",
        "nanoseconds that are named seconds",
        _csv({"time_s": t * 1e9, **six}),
        "name the unit of its time",
    )
    at.skip(
        "s.csv",
        "seconds that are named nanoseconds",
        _csv({"time_ns": t, **six}),
        "name the unit of its time",
    )
    at.skip("head.csv", "no rows", head + "\n", "")
    at.skip("row.csv", "one row", f"{head}\n{rows[0]}\n", "fewer than two complete accel samples")
    at.skip("still.csv", "a clock that stands", _csv(good | {"t": t * 0 + 7}), "fewer than two complete")
    at.skip("nan.csv", "no number", _csv(good | {"ax": t * np.nan}), "fewer than two complete accel samples")
    at.skip("double.csv", "a column twice", text.replace("ay", "ax", 1).replace("t,", "ay,", 1), "")
    at.other("no head.csv", "no column names", "\n".join(rows), "no accelerometer")
    at.other("binary.csv", "random bytes", np.random.default_rng(4).bytes(9_000), "no accelerometer")
    at.other("wide.csv", "100,000 columns", ",".join(f"c{k}" for k in range(100_000)), "no accelerometer")
    os.truncate(at.put("line.csv", "1,2,3," * 200_000), 100 << 20)
    at.other("line.csv", "a line of 100 MB", None, "no accelerometer")
    at.skip("words.parquet", "words", _parquet(good | {"ax": ["fast"] * len(t)}), "column ax is not numeric")
    at.skip("lists.parquet", "lists", _parquet(good | {"ax": [[1.0]] * len(t)}), "column ax is not numeric")
    at.skip("empty.parquet", "no rows", _parquet({name: good[name][:0] for name in good}), "fewer than two")
    at.skip(
        "bomb.parquet",
        "1.1 GB in 20 kB",
        _parquet(dict.fromkeys(good, pa.nulls(34_000_000, pa.float64()))),
        "over 256 MB",
    )
    at.other("captions.parquet", "no motion", _parquet({"a": [1]}), "no accelerometer")
    packed = _npz(**good)
    size = packed.rindex(b"ax.npy") - 22  # in the directory at the end, of the unpacked array
    bomb = packed[:size] + struct.pack("<I", 2**32 - 2) + packed[size + 4 :]
    at.skip("bomb.npz", "4 GB in 8 kB", bomb, "over 256 MB")
    at.skip(
        "shape.npz",
        "four axes",
        _npz(t=t, accel=np.ones((len(t), 4)), gyro=np.ones((len(t), 3))),
        "expected numbers",
    )
    at.skip("lengths.npz", "columns of two lengths", _npz(**good | {"ay": t[:9]}), "different lengths")
    at.skip("objects.npz", "Python objects", _npz(**good | {"ax": np.array([None])}), "")
    at.skip("words.npz", "words", _npz(**good | {"ax": np.array(["fast"] * len(t))}), "")
    at.other("other.npz", "no motion", _npz(other=t), "no accelerometer")
    at.skip("complex.npz", "complex numbers", _npz(**good | {"ax": t + 1j}), "expected numbers")


# ---------------------------------------------------------------- names, and what is no file


def _names(at: _Folder) -> None:
    for name in (
        "two\nlines.txt",
        "bell\a and \x1b[31mred.txt",
        "tab\t.txt",
        " blank .txt",
        "-rf.txt",
        "'; drop table items; --.txt",
        '"quoted".txt',
        "100%_*?[a].txt",
        "ü u\u0308 \u202e 👩‍👩‍👧‍👦.txt",
        "a" * 251 + ".txt",
        "\\backslash.txt",
    ):
        at.items(name, "its name", "some words")
    os.close(os.open(os.fsencode(at.path) + b"/caf\xe9.txt", os.O_CREAT))
    at.skip(r"caf\xe9.txt", "a name that is not UTF-8", None, "not valid UTF-8")


def _nodes(at: _Folder) -> None:
    for name in ("pipe.wav", "metadata.csv", "words.json"):
        os.mkfifo(at.path / name)
        at.other(name, "a pipe", None)
    at.items("words.txt", "beside a pipe in a sidecar's place", "some words")
    os.mknod(at.path / "socket.mp4", stat.S_IFSOCK | 0o600)
    at.other("socket.mp4", "a socket", None, "not a regular file")
    for name, target in (("zero.png", "/dev/zero"), ("null.txt", "/dev/null")):
        (at.path / name).symlink_to(target)
        at.other(name, "a device", None, "not a regular file")
    (at.path / "loop.txt").symlink_to("loop.txt")
    at.skip("loop.txt", "a link to itself", None, "Too many levels of symbolic links")
    (at.path / "gone.jpg").symlink_to("nowhere.jpg")
    at.skip("gone.jpg", "a link to nowhere", None, "No such file")
    at.items("folder.jpg/words.txt", "in a folder named like a picture", "some words")
    (at.path / "folder.jpg" / "up").symlink_to("..")
    at.put("denied.txt", "some words").chmod(0)
    if os.access(at.path / "denied.txt", os.R_OK):  # root
        at.items("denied.txt", "nobody may read it", None)
    else:
        at.skip("denied.txt", "nobody may read it", None, "Permission denied")


# ---------------------------------------------------------------- cut, empty and disguised files


def _pieces(at: _Folder) -> None:
    second = np.arange(25) / 25
    levels = Image.fromarray(np.asarray(_scene())[..., 0].astype(np.uint16) * 99 + 300)
    whole = {
        **{f"a.{format.lower()}": _as(format) for format in ("PNG", "WEBP", "BMP", "GIF", "TIFF")},
        **{
            f"a.{format.lower()}": _sound(format, _tone(2), 16_000)
            for format in ("WAV", "FLAC", "OGG", "MP3")
        },
        **{f"a.{end}": encode_frames(at.path / f"a.{end}", second) for end in ("mp4", "mov", "mkv", "avi")},
        "a.webm": encode_frames(at.path / "a.webm", second, "libvpx"),
        "a.jpg": _as("JPEG"),
        "a.m4a": _aac(at.path / "a.m4a"),
        "a.txt": "Ein schöner Tag. " * 30,
        "a.md": "# Ein schöner Tag\n\n" * 30,
        "depth.png": _as("PNG", levels),
        "depth.tiff": _as("TIFF", levels),
        "depth.npy": _npy(np.ones((6, 8))),
        "depth.pfm": b"Pf\n8 6\n-1\n" + np.ones(48, "<f4").tobytes(),
        "thermal.png": _as("PNG", levels),
        "imu.csv": _csv(_motion()),
        "imu.parquet": _parquet(_motion()),
        "imu.npz": _npz(**_motion()),
    }
    for name, data in whole.items():
        data = data if isinstance(data, bytes) else data.encode()
        at.items(name, "nothing", data, None, kind=None)
        for share in (10, 50, 90):
            at.either(f"{share} %/{name}", f"its first {share} %", data[: len(data) * share // 100])
        at.either(f"without the last byte/{name}", "the last byte is missing", data[:-1])
        at.skip(f"nothing/{name}", "no bytes", b"", "empty file; remove or replace it")
    for name, of, kind in (
        ("png.jpg", "a.png", Modality.IMAGE),
        ("jpg.txt", "a.jpg", Modality.IMAGE),
        ("gif.wav", "a.gif", Modality.IMAGE),
        ("wav.mp3", "a.wav", Modality.AUDIO),
        ("mp3.wav", "a.mp3", Modality.AUDIO),
        ("flac.png", "a.flac", Modality.AUDIO),
        ("mp4.jpg", "a.mp4", Modality.VIDEO),
        ("mkv.avi", "a.mkv", Modality.VIDEO),
        ("parquet.csv", "imu.parquet", Modality.IMU),
        ("npz.parquet", "imu.npz", Modality.IMU),
        ("imu.txt", "imu.csv", Modality.IMU),
        ("no extension", "a.png", Modality.IMAGE),
    ):
        at.items(f"disguised/{name}", f"content of {of}", whole[of], None, kind=kind)
    for name in ("txt.jpg", "txt.wav", "txt.mp4"):
        at.skip(f"disguised/{name}", "a text", "some words", "")
    for name in ("txt.npy", "txt.npz", "txt.parquet", "txt.csv"):
        at.other(f"disguised/{name}", "a text", "some words")
    at.other("disguised/paper.pdf", "of no known kind", b"%PDF-1.7\n" + bytes(99), "unsupported file type")
