"""What files say of themselves: EXIF, XMP, IPTC and tags as columns, whoever wrote them and however badly."""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Callable
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from tests.media.bytewise import box
from xsearch.decoders import Decoders
from xsearch.media import facts, identify, read
from xsearch.media.facts import COLUMNS, _valid, words

EXIF, GPS = 0x8769, 0x8825
XMP = """<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"
  xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:exif="http://ns.adobe.com/exif/1.0/"
  xmlns:mm="http://ns.adobe.com/xap/1.0/mm/" xmp:Rating="4" exif:GPSLatitude="33,51.5S"
  exif:GPSLongitude="151,12,36E" exif:GPSAltitude="70/2">
<dc:title><rdf:Alt><rdf:li xml:lang="de">Ein Hund</rdf:li>
  <rdf:li xml:lang="x-default">A dog</rdf:li></rdf:Alt></dc:title>
<dc:subject><rdf:Bag><rdf:li>dog</rdf:li><rdf:li>beach &amp; sea</rdf:li></rdf:Bag></dc:subject>
<dc:creator><rdf:Seq><rdf:li>Jane Doe</rdf:li></rdf:Seq></dc:creator>
<mm:History><rdf:Seq><rdf:li rdf:parseType="Resource"><dc:title>an older one</dc:title></rdf:li>
  </rdf:Seq></mm:History>
<exif:DateTimeOriginal>2024-06-01T14:30:05+02:00</exif:DateTimeOriginal>
</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>"""
OF_XMP = {
    "taken_at": datetime(2024, 6, 1, 14, 30, 5),
    "taken_zone": "+02:00",
    "latitude": pytest.approx(-33.8583333),
    "longitude": pytest.approx(151.21),
    "altitude_m": 35.0,
    "title": "A dog",
    "keywords": "dog; beach & sea",
    "rating": 4,
    "creator": "Jane Doe",
}
OF_XMP_WORDS = {name: OF_XMP[name] for name in ("title", "keywords", "rating", "creator")}


def exif(**tags: Any) -> Image.Exif:
    """EXIF of a phone. tags: `t0x10e=...` of the first directory, `e0x9003=...` of the second, `g1=...`."""
    made = Image.Exif()
    made[0x128] = 2  # inches; Pillow saves no EXIF whose first directory is empty
    for name, value in tags.items():
        directory = {"t": made, "e": made.get_ifd(EXIF), "g": made.get_ifd(GPS)}[name[0]]
        directory[int(name[1:], 0)] = value
    return made


PHONE = {
    "t0x10f": "Google",
    "t0x110": "Pixel 8",
    "t0x112": 6,
    "t0x10e": "A barn in the snow",
    "t0x13b": "Jane Doe",
    "e0x9003": "2024:06:01 14:30:05",
    "e0x9291": "25",
    "e0x9011": "+02:00",
    "e0x829a": IFDRational(1, 250),
    "e0x829d": IFDRational(28, 10),
    "e0x8827": 100,
    "e0x920a": IFDRational(69, 10),
    "e0xa434": "Pixel 8 back camera",
    "g1": "N",
    "g2": (IFDRational(48), IFDRational(51), IFDRational(2772, 100)),
    "g3": "W",
    "g4": (IFDRational(2), IFDRational(177, 10), IFDRational(0, 0)),
    "g5": b"\1",
    "g6": IFDRational(7, 2),
}
OF_PHONE = {
    "taken_at": datetime(2024, 6, 1, 14, 30, 5, 250_000),
    "taken_zone": "+02:00",
    "camera": "Google Pixel 8",
    "lens": "Pixel 8 back camera",
    "exposure_s": 0.004,
    "f_number": 2.8,
    "iso": 100,
    "focal_mm": 6.9,
    "orientation": 6,
    "latitude": pytest.approx(48.8577),
    "longitude": pytest.approx(-2.295),
    "altitude_m": -3.5,
    "description": "A barn in the snow",
    "creator": "Jane Doe",
}


@pytest.fixture
def stated(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """What a small picture states that is saved with these options."""

    def of(name: str = "a.jpg", **options: Any) -> dict[str, Any]:
        Image.new("RGB", (8, 6)).save(tmp_path / name, **options)
        return facts.facts(identify(tmp_path / name))

    return of


def file_of(path: Path, content: bytes) -> dict[str, Any]:
    path.write_bytes(content)
    return facts.facts(identify(path))


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.avif"])
def test_exif_of_every_format(name: str, stated: Callable[..., dict[str, Any]]) -> None:
    found = stated(name, exif=exif(**PHONE))
    assert found == OF_PHONE
    assert all(type(value) is COLUMNS[column] for column, value in found.items())


@pytest.mark.parametrize("head", [b"MM\0*", b"IIRO", b"IIU\0"])
def test_exif_of_tiff_and_raw_files(head: bytes, tmp_path: Path) -> None:
    """NEF, CR2, ARW and DNG are TIFF; Olympus and Panasonic change the header."""
    made = exif(**PHONE)
    made.endian = ">" if head == b"MM\0*" else "<"
    raw = made.tobytes()[6:]
    (tmp_path / "a.tif").write_bytes(head + raw[4:])
    assert _valid(facts.still.columns(tmp_path / "a.tif")) == OF_PHONE


def test_exif_of_heic(stated: Callable[..., dict[str, Any]]) -> None:
    pytest.importorskip("pillow_heif").register_heif_opener()
    found = stated("a.heic", exif=exif(**PHONE), xmp=XMP.encode())
    assert found == OF_PHONE | OF_XMP_WORDS | {"orientation": 1}


def test_exif_of_jpeg_xl_and_cr3(tmp_path: Path) -> None:
    made = exif(**PHONE)
    tags, packet = box(b"Exif", bytes(4) + made.tobytes()[6:]), box(b"xml ", XMP.encode())
    (tmp_path / "a.jxl").write_bytes(box(b"JXL ", b"\r\n\x87\n") + tags + packet)
    found = facts.still.columns(tmp_path / "a.jxl")
    assert (found["camera"], found["title"]) == ("Google Pixel 8", "A dog")
    of_shot, of_place = Image.Exif(), Image.Exif()
    for tag, value in made.get_ifd(EXIF).items():
        of_shot[tag] = value
    for tag, value in made.get_ifd(GPS).items():
        of_place[tag] = value
    first = exif(**{name: value for name, value in PHONE.items() if name[0] == "t"})
    parts = zip((b"CMT1", b"CMT2", b"CMT4"), (first, of_shot, of_place), strict=True)
    uuid = bytes(16) + b"".join(box(kind, part.tobytes()[6:]) for kind, part in parts)
    (tmp_path / "a.cr3").write_bytes(box(b"ftyp", b"crx ") + box(b"moov", box(b"uuid", uuid)))
    assert {"camera", "taken_at", "iso", "latitude"} <= facts.still.columns(tmp_path / "a.cr3").keys()


@pytest.mark.parametrize(
    ("tags", "column", "expected"),
    [
        ({"t0x10f": "NIKON CORPORATION", "t0x110": "NIKON D750"}, "camera", "NIKON D750"),
        ({"t0x10f": "Canon", "t0x110": "Canon EOS R5\0\0junk"}, "camera", "Canon EOS R5"),
        ({"t0x10f": "EASTMAN KODAK COMPANY", "t0x110": "KODAK C195"}, "camera", "KODAK C195"),
        ({"t0x110": "SM-G991B"}, "camera", "SM-G991B"),
        ({"t0x10f": "   "}, "camera", None),
        ({"e0x9003": "0000:00:00 00:00:00"}, "taken_at", None),
        ({"e0x9003": "    :  :     :  :  "}, "taken_at", None),
        ({"e0x9003": "1970:01:01 00:00:00"}, "taken_at", None),
        (
            {"e0x9003": "2024:13:45 99:00:00", "t0x132": "2023:01:02 03:04:05"},
            "taken_at",
            datetime(2023, 1, 2, 3, 4, 5),
        ),
        ({"e0x9004": "2024-06-01T14:30:05Z"}, "taken_zone", "+00:00"),
        ({"e0x9003": "2024:06:01 14:30:05", "e0x9011": "junk"}, "taken_at", datetime(2024, 6, 1, 14, 30, 5)),
        ({"e0x829a": IFDRational(0, 0)}, "exposure_s", None),
        ({"e0x829a": IFDRational(0, 0), "e0x9201": IFDRational(3, 1)}, "exposure_s", 0.125),
        ({"e0x8827": (400, 0)}, "iso", 400),
        ({"e0x8827": 65535, "e0x8832": 102400}, "iso", 102400),
        ({"t0x112": 99}, "orientation", None),
        ({"g2": (IFDRational(0),) * 3, "g4": (IFDRational(0),) * 3}, "latitude", None),
        ({"g2": (IFDRational(200),) * 3, "g4": (IFDRational(2),) * 3}, "latitude", None),
        ({"g2": (IFDRational(48, 0),) * 3, "g4": (IFDRational(2),) * 3}, "latitude", None),
        ({"t0x10e": "Jürgen".encode(), "t0x13b": b"J"}, "description", "Jürgen"),
        ({"t0x10e": "x" * 1_000_000}, "description", "x" * 4096),
        ({"t0x9c9b": "Ein Hund\0".encode("utf-16-le")}, "title", "Ein Hund"),
        ({"t0x9c9e": "dog;beach;\0".encode("utf-16-le")}, "keywords", "dog; beach"),
        ({"e0x9286": b"ASCII\0\0\0A red barn\0\0"}, "description", "A red barn"),
        ({"e0x9286": b"UNICODE\0" + "Ein Schloß".encode("utf-16-be")}, "description", "Ein Schloß"),
        ({"e0x9286": b"UNICODE\0" + "Ein Schloß".encode("utf-16-le")}, "description", "Ein Schloß"),
        ({"e0x9286": bytes(1_000_000)}, "description", None),
        ({"e0x927c": bytes(50_000), "t0x110": "K-5"}, "camera", "K-5"),
    ],
)
def test_what_cameras_write(
    tags: dict[str, Any], column: str, expected: object, stated: Callable[..., dict[str, Any]]
) -> None:
    name = "a.png" if "x" * 9 in str(tags) or "0x9286" in str(tags) else "a.jpg"  # JPEG holds 64 kB
    assert stated(name, exif=exif(**tags)).get(column) == expected


def test_xmp_inside_and_beside(stated: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    assert stated(xmp=XMP.encode()) == OF_XMP
    assert stated("b.jpg") == {}
    (tmp_path / "b.xmp").write_text(XMP)
    assert stated("b.jpg") == OF_XMP
    (tmp_path / "b.jpg.xmp").write_text(XMP.replace('Rating="4"', 'Rating="-1"'))
    assert stated("b.jpg") == OF_XMP | {"rating": -1}
    assert stated("b.jpg", exif=exif(**PHONE)) == OF_PHONE | OF_XMP | {"rating": -1}


def test_the_words_are_of_xmp_and_the_figures_of_exif(stated: Callable[..., dict[str, Any]]) -> None:
    assert stated(exif=exif(**PHONE), xmp=XMP.encode()) == OF_PHONE | OF_XMP_WORDS


def test_damaged_xmp_states_what_precedes_the_damage(stated: Callable[..., dict[str, Any]]) -> None:
    cut = XMP[: XMP.index("<dc:creator>")]
    assert stated(xmp=cut.encode()) == {
        name: value for name, value in OF_XMP.items() if not name.startswith(("creator", "taken"))
    }
    bomb = '<!DOCTYPE a [<!ENTITY b "dog"><!ENTITY c "&b;&b;">]>' + XMP[XMP.index("<x:") :].replace(
        "dog", "&c;"
    )
    assert stated(xmp=bomb.encode()) == {}
    assert stated(xmp=b"\0junk \xff", exif=exif(**PHONE)) == OF_PHONE


def iptc(*records: tuple[int, bytes]) -> bytes:
    block = b"".join(struct.pack(">BBBH", 0x1C, 2, number, len(value)) + value for number, value in records)
    resource = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(block)) + block + b"\0" * (len(block) % 2)
    return b"Photoshop 3.0\0" + resource


def test_iptc(tmp_path: Path) -> None:
    plain = BytesIO()
    Image.new("RGB", (8, 6)).save(plain, "JPEG")
    records = [
        (5, b"Old Town"),
        (120, "Die Altstadt von Köln".encode()),
        (25, b"town"),
        (25, "Köln".encode("latin-1")),
    ]
    block = iptc(*records, (80, b"Jane Doe"), (116, b"(c) Jane Doe"), (55, b"20240601"), (60, b"143005+0200"))
    segment = b"\xff\xed" + struct.pack(">H", 2 + len(block)) + block
    assert file_of(tmp_path / "a.jpg", plain.getvalue()[:2] + segment + plain.getvalue()[2:]) == {
        "taken_at": datetime(2024, 6, 1, 14, 30, 5),
        "taken_zone": "+02:00",
        "title": "Old Town",
        "description": "Die Altstadt von Köln",
        "keywords": "town; Köln",
        "creator": "Jane Doe",
        "copyright": "(c) Jane Doe",
    }


def test_blocks_of_a_png_may_follow_its_pixels(tmp_path: Path) -> None:
    file = BytesIO()
    Image.new("RGB", (8, 6)).save(file, "PNG")
    png, end = file.getvalue()[:-12], file.getvalue()[-12:]

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    png += chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP.encode()))
    png += chunk(b"zTXt", b"Description\0\0" + zlib.compress(b"Drawn by hand" + bytes(1 << 24)))
    png += chunk(b"tEXt", b"Software\0GIMP")
    assert file_of(tmp_path / "a.png", png + end) == OF_XMP | {"description": "Drawn by hand"}


@pytest.mark.parametrize(
    "default",
    """OLYMPUS DIGITAL CAMERA|SONY DSC|KONICA MINOLTA DIGITAL CAMERA|Screenshot|IMG_1234|DSC01234.JPG|P6260031
    |IMG-20240601-WA0003|oznor|hdrpl|Created with GIMP|Processed with VSCO with c1 preset|Adobe Photoshop 7.0
    |maker:S,Date:2017-8-13,Ver:6|{"filter":0}|filter: 0; fileterIntensity: 0.0; filterMask: 0;|Google Pixel 8
    |CREATOR: gd-jpeg v1.0 (using IJG JPEG v62)|File written by Adobe Photoshop® 5.2|C:\\DCIM\\100GOPRO|___
    |LEAD Technologies Inc. V1.01|Digital Still Camera|untitled|12345|a""".replace("\n    ", "").split("|"),
)
def test_what_cameras_and_programs_write_by_themselves_is_no_caption(
    default: str, stated: Callable[..., dict[str, Any]]
) -> None:
    assert words(stated(exif=exif(t0x10f="Google", t0x110="Pixel 8", t0x10e=default))) == []


@pytest.mark.parametrize(
    "caption",
    ["Sunset", "Rome 2015", "Taken from the Eiffel tower", "My dog and the camera", "夕日", "made in heaven"],
)
def test_what_people_write_is_a_caption(caption: str, stated: Callable[..., dict[str, Any]]) -> None:
    assert words(stated("a.png", xmp=None, exif=exif(t0x9c9b=caption.encode("utf-16-le")))) == [caption]


def test_captions() -> None:
    assert words({}) == []
    assert words({"title": "A dog", "description": "a dog on the beach", "keywords": "dog; beach"}) == [
        "a dog on the beach",
        "dog, beach",
    ]
    assert words({"title": "Summer", "description": "A dog"}) == ["Summer\nA dog"]


def test_tags_of_sounds(tmp_path: Path) -> None:
    expected = {"title": "Waves", "artist": "Jane", "album": "Sea", "genre": "Field", "comment": "stereo"}
    for name, codec in (("a.wav", "pcm_s24le"), ("a.flac", "flac"), ("a.ogg", "vorbis"), ("a.mp3", "mp3")):
        kind = {"a.wav": "PCM_24"}.get(name)
        with soundfile.SoundFile(tmp_path / name, "w", 44100, 2, kind) as sound:
            for tag, value in expected.items():
                setattr(sound, tag, value)
            sound.date, sound.tracknumber = "2019-05-03", "3"
            sound.write(np.zeros((4410, 2)))
        assert facts.facts(identify(tmp_path / name)) == expected | {
            "taken_at": datetime(2019, 5, 3),
            "track": 3,
            "container": name[2:],
            "codec": codec,
            "rate_hz": 44100,
            "channels": 2,
        }


def test_a_field_recorder_says_when(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(800), 8000)
    wav = (tmp_path / "a.wav").read_bytes()
    text = b"Boom op".ljust(256, b"\0") + b"ZoomH4n".ljust(64, b"\0") + b"2024-06-01" + b"14:30:05"
    bext = text + bytes(602 - len(text))
    found = file_of(tmp_path / "b.wav", wav[:12] + b"bext" + struct.pack("<I", len(bext)) + bext + wav[12:])
    assert (found["taken_at"], found["comment"]) == (datetime(2024, 6, 1, 14, 30, 5), "Boom op")


def test_tempo_of_id3_and_mp4(tmp_path: Path) -> None:
    title = b"TBPM" + struct.pack(">IH", 4, 0) + b"\x00128"
    soundfile.write(tmp_path / "a.mp3", np.zeros(8000), 8000)
    head = b"ID3\3\0\0" + bytes([0, 0, 0, len(title)])
    assert file_of(tmp_path / "b.mp3", head + title + (tmp_path / "a.mp3").read_bytes())["bpm"] == 128

    tempo = box(b"tmpo", box(b"data", struct.pack(">IIH", 21, 0, 96)))
    moov = box(b"moov", box(b"udta", box(b"meta", bytes(4), box(b"ilst", box(b"trkn"), tempo))))
    (tmp_path / "a.m4a").write_bytes(box(b"ftyp", b"M4A ") + moov)
    assert facts.tags._tempo(tmp_path / "a.m4a") == 96


def video(path: Path, options: dict[str, str] | None = None, **metadata: str) -> dict[str, Any]:
    with av.open(str(path), "w", options=options or {}) as out:
        out.metadata.update(metadata)
        stream = out.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for level in (20, 220):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), level, np.uint8))))
        out.mux(stream.encode(None))
    return facts.facts(identify(path))


def test_videos_say_where_when_and_with_what(tmp_path: Path) -> None:
    utc = "2024-06-01T12:30:05.000000Z"
    place = {"latitude": 48.8577, "longitude": 2.295}
    codec = {"codec": "mpeg4", "fps": 10.0}
    android = video(tmp_path / "a.mp4", creation_time=utc, location="+48.8577+002.2950/")
    when = {"taken_at": datetime(2024, 6, 1, 12, 30, 5), "taken_zone": "+00:00"}
    assert android == when | place | codec | {"container": "mp4"}
    apple = {
        "com.apple.quicktime.make": "Apple",
        "com.apple.quicktime.model": "iPhone 15",
        "com.apple.quicktime.creationdate": "2024-06-01T14:30:05+0200",
        "com.apple.quicktime.location.ISO6709": "+48.8577+002.2950+035.000/",
    }
    found = video(tmp_path / "b.mov", {"movflags": "use_metadata_tags"}, creation_time=utc, **apple)
    local = {"taken_at": datetime(2024, 6, 1, 14, 30, 5), "taken_zone": "+02:00", "camera": "Apple iPhone 15"}
    assert found == local | place | codec | {"container": "mov", "altitude_m": 35.0}
    canon = video(tmp_path / "c.mov", make="Canon", model="Canon EOS R5", location="-33.8-070.5/")
    assert (canon["camera"], canon["latitude"], canon["longitude"]) == ("Canon EOS R5", -33.8, -70.5)
    assert "taken_at" not in canon
    assert video(tmp_path / "d.mkv", title="T", DATE_RECORDED="2024-06")["taken_at"] == datetime(2024, 6, 1)


def test_every_sample_of_a_file_is_about_its_facts(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.full(25 * 8000, 0.1), 8000)
    file = identify(tmp_path / "a.wav")
    assert [sample.about.get("codec") for sample in read(file, with_facts=True)] == ["pcm_s16le"] * 3
    for count in (0, 1):
        with Decoders(count, with_facts=True) as decoders:
            assert [sample.about.get("codec") for sample in decoders.read(file)] == ["pcm_s16le"] * 3
    assert not any(sample.about for sample in read(file))


def test_damaged_files_state_what_is_valid(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    file = BytesIO()
    Image.new("RGB", (8, 6)).save(file, "JPEG", exif=exif(**PHONE), xmp=XMP.encode())
    intact = np.frombuffer(file.getvalue(), np.uint8)
    kept = 0
    for _ in range(200):
        damaged = intact.copy()
        damaged[rng.integers(4, 700, size=3)] = rng.integers(0, 256, size=3)
        found = file_of(tmp_path / "a.jpg", damaged.tobytes())
        assert all(type(value) is COLUMNS[name] for name, value in found.items())
        kept += len(found)
    assert kept > 0.6 * 200 * len(OF_PHONE | OF_XMP)
    assert file_of(tmp_path / "b.jpg", intact[:900].tobytes()) is not None


def test_bombs_cost_no_time(stated: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    start_s = time.perf_counter()
    for bomb in (
        "<a>" * 1_000_000,
        XMP.replace("<rdf:li>dog</rdf:li>", '<rdf:li xml:lang="x-default">dog</rdf:li>' * 60_000),
        XMP.replace("A dog", "IMG_" + "1" * 100_000 + "\n"),
        XMP.replace("A dog", "created with " + "x " * 100_000),
    ):
        (tmp_path / "a.xmp").write_text(bomb)
        assert len(stated().get("title", "").encode()) <= 4096
    assert time.perf_counter() - start_s < 5
