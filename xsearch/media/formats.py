"""Formats of files, by their first bytes and their extensions; their names for people."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["EXTENSIONS", "FOREIGN", "HEAD", "RAW", "detect", "foreign", "is_colour_exr", "other", "title"]

HEAD = 512  # bytes needed to detect a format

# RAW photographs. Many start as TIFF does, and only the extension tells them apart.
_RAW = """
image/x-adobe-dng        .dng .gpr
image/x-canon-cr2        .cr2
image/x-canon-cr3        .cr3
image/x-canon-crw        .crw
image/x-epson-erf        .erf
image/x-fuji-raf         .raf
image/x-hasselblad-3fr   .3fr .fff
image/x-kodak-dcr        .dcr .kdc
image/x-leaf-mos         .mos .mef
image/x-leica-rwl        .rwl
image/x-minolta-mrw      .mrw
image/x-nikon-nef        .nef .nrw
image/x-olympus-orf      .orf
image/x-panasonic-rw2    .rw2
image/x-pentax-pef       .pef
image/x-phaseone-iiq     .iiq
image/x-samsung-srw      .srw
image/x-sigma-x3f        .x3f
image/x-sony-arw         .arw .srf .sr2
"""
# What Pillow, FFmpeg and libsndfile read. A container of the family `video` may hold sound only.
_MEDIA = """
image/jpeg               .jpg .jpeg .jpe .jfif .mpo
image/png                .png .apng
image/webp               .webp
image/bmp                .bmp .dib
image/gif                .gif
image/tiff               .tif .tiff
image/heic               .heic .heif .hif
image/avif               .avif .avifs
image/jxl                .jxl
image/jp2                .jp2 .j2k .jpc .jpf .jpx .j2c
image/icns               .icns
image/qoi                .qoi
image/sgi                .sgi
image/vnd.adobe.photoshop .psd
image/vnd.microsoft.icon .ico .cur
image/vnd.ms-dds         .dds
image/vnd.zbrush.pcx     .pcx
image/x-exr              .exr
image/x-portable-anymap  .pnm .pbm .pgm .ppm
image/x-portable-floatmap .pfm
image/x-tga              .tga
image/x-xbitmap          .xbm
image/x-xpixmap          .xpm
text/plain               .txt
text/markdown            .md
text/csv                 .csv
text/tab-separated-values .tsv
audio/wav                .wav .wave .bwf .rf64
audio/flac               .flac
audio/mpeg               .mp3 .mp2 .mp1 .mpa .m2a
audio/ogg                .ogg .opus .oga .spx
audio/mp4                .m4a .m4b .m4r .f4a
audio/aac                .aac .adts
audio/ac3                .ac3
audio/aiff               .aif .aiff .aifc
audio/amr                .amr .awb
audio/basic              .au
audio/eac3               .ec3 .eac3
audio/g722               .g722
audio/vnd.dts            .dts .dtshd
audio/webm               .weba
audio/x-ape              .ape
audio/x-atrac            .oma .aa3 .at3
audio/x-caf              .caf
audio/x-dff              .dff
audio/x-dsf              .dsf
audio/x-gsm              .gsm
audio/x-matroska         .mka
audio/x-musepack         .mpc
audio/x-nist             .sph .nist
audio/x-realaudio        .ra
audio/x-shorten          .shn
audio/x-tak              .tak
audio/x-truehd           .thd .mlp
audio/x-tta              .tta
audio/x-voc              .voc
audio/x-w64              .w64
audio/x-wavpack          .wv
video/mp4                .mp4 .m4v .f4v .mj2 .insv .lrv .360
video/3gpp               .3gp .3gpp .3g2
video/quicktime          .mov .qt
video/x-matroska         .mkv .mk3d
video/webm               .webm
video/x-msvideo          .avi .divx .xvid
video/x-ms-asf           .wmv .wma .asf .dvr-ms
video/x-flv              .flv
video/mpeg               .mpg .mpeg .mpe .vob .evo .m2p .m1v .m2v .mod
video/mp2t               .ts .mts .m2ts .m2t .tp .trp .tod
video/ogg                .ogv .ogm
video/h264               .h264 .264 .avc
video/h265               .h265 .265 .hevc
video/mxf                .mxf
video/vnd.rn-realmedia   .rm .rmvb
video/x-dv               .dv .dif
video/x-flic             .fli .flc
video/x-gxf              .gxf
video/x-ivf              .ivf
video/x-motion-jpeg      .mjpeg .mjpg
video/x-nut              .nut
video/x-wtv              .wtv
video/x-yuv4mpeg         .y4m
application/x-npy        .npy
application/x-npz        .npz
application/vnd.apache.parquet .parquet
"""
RAW = frozenset(line.split()[0] for line in _RAW.splitlines() if line)  # MIME types
EXTENSIONS = {
    extension: mime
    for mime, *extensions in map(str.split, filter(None, (_RAW + _MEDIA).splitlines()))
    for extension in extensions
}
# Also extensions of text files (TypeScript, Modula-2, device trees): these count for binary content only.
_AMBIGUOUS = {".au", ".avc", ".dif", ".dts", ".dv", ".gsm", ".mod", ".mos", ".mts", ".rm", ".tak", ".tp"}
_AMBIGUOUS |= {".mlp", ".ts", ".voc"}

# Signatures at the start of a file; `_signature` handles prefixes shared by several formats.
_MAGIC = {
    b"\xff\xd8\xff": "image/jpeg",
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
    b"II*\0\x10\0\0\0CR": "image/x-canon-cr2",
    b"II*\0": "image/tiff",
    b"MM\0*": "image/tiff",
    b"II+\0\x08\0\0\0": "image/tiff",  # BigTIFF
    b"MM\0+\0\x08\0\0": "image/tiff",
    b"IIRO": "image/x-olympus-orf",
    b"IIRS": "image/x-olympus-orf",
    b"MMOR": "image/x-olympus-orf",
    b"IIU\0": "image/x-panasonic-rw2",
    b"II\x1a\0\0\0HEAPCCDR": "image/x-canon-crw",
    b"FUJIFILMCCD-RAW": "image/x-fuji-raf",
    b"FOVb": "image/x-sigma-x3f",
    b"\0MRM": "image/x-minolta-mrw",
    b"\0\0\0\x0cjP  \r\n\x87\n": "image/jp2",
    b"\xff\x4f\xff\x51": "image/jp2",
    b"\0\0\0\x0cJXL \r\n\x87\n": "image/jxl",
    b"\xff\x0a": "image/jxl",
    b"8BPS\0\x01": "image/vnd.adobe.photoshop",
    b"DDS ": "image/vnd.ms-dds",
    b"qoif": "image/qoi",
    b"icns": "image/icns",
    b"\x01\xda\0": "image/sgi",
    b"\x01\xda\x01": "image/sgi",
    b"#?RADIANCE": "image/vnd.radiance",
    b"#?RGBE": "image/vnd.radiance",
    b"\x76\x2f\x31\x01": "image/x-exr",
    b"fLaC": "audio/flac",
    b"ID3": "audio/mpeg",
    b"#!AMR": "audio/amr",
    b".snd": "audio/basic",
    b"caff": "audio/x-caf",
    b"riff\x2e\x91\xcf\x11": "audio/x-w64",
    b"wvpk": "audio/x-wavpack",
    b"MAC ": "audio/x-ape",
    b"MPCK": "audio/x-musepack",
    b"MP+": "audio/x-musepack",
    b"TTA1": "audio/x-tta",
    b"tBaK": "audio/x-tak",
    b"ajkg": "audio/x-shorten",
    b"DSD ": "audio/x-dsf",
    b"FRM8": "audio/x-dff",
    b"Creative Voice File\x1a": "audio/x-voc",
    b"NIST_1A\n": "audio/x-nist",  # TIMIT, WSJ, Switchboard
    b".ra\xfd": "audio/x-realaudio",
    b"\x7f\xfe\x80\x01": "audio/vnd.dts",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": "video/x-ms-asf",
    b"FLV\x01": "video/x-flv",
    b"\x00\x00\x01\xba": "video/mpeg",
    b"\x00\x00\x01\xb3": "video/mpeg",
    b"\x06\x0e\x2b\x34": "video/mxf",
    b".RMF": "video/vnd.rn-realmedia",
    b"DKIF": "video/x-ivf",
    b"YUV4MPEG2": "video/x-yuv4mpeg",
    b"nut/multimedia container": "video/x-nut",
    b"\xb7\xd8\x00\x20": "video/x-wtv",
    b"\x93NUMPY": "application/x-npy",
    b"PAR1": "application/vnd.apache.parquet",
}
_RIFF = {b"WAVE": "audio/wav", b"WEBP": "image/webp", b"AVI ": "video/x-msvideo", b"CDXA": "video/mpeg"}
_FORM = {b"AIFF": "audio/aiff", b"AIFC": "audio/aiff", b"8SVX": "audio/x-8svx", b"16SV": "audio/x-8svx"}
_BRANDS = {b"crx ": "image/x-canon-cr3", b"qt  ": "video/quicktime"}  # major brands of ISO 14496-12 files
_BRANDS |= dict.fromkeys((b"heic", b"heix", b"hevc", b"hevx", b"mif1", b"msf1"), "image/heic")
_CONTROL = re.compile(rb"[\0-\x08\x0e-\x1a\x1c-\x1f]")  # bytes of no text
_WORD = re.compile(rb"[\w +]+")
_PAGE = re.compile(rb"\s*<(!doctype )?html", re.IGNORECASE)
_DNG_VERSION = (b"\x12\xc6\x01\0\x04\0\0\0", b"\xc6\x12\0\x01\0\0\0\x04")  # TIFF tag 50706, four bytes

# Pictures that nothing here reads, by signature and by extension, and what they can be converted to.
_FOREIGN_MAGIC = {
    b"gimp xcf": "XCF",
    b"BPG\xfb": "BPG",
    b"%!PS": "EPS",
    b"\xc5\xd0\xd3\xc6": "EPS",
    b"II\xbc\x01": "JPEG XR",
    b"FLIF": "FLIF",
    b"\xd7\xcd\xc6\x9a": "WMF",
    b"AT&TFORM": "DjVu",
    b"8BPS\0\x02": "PSB",
    b"SDPX": "DPX",
    b"XPDS": "DPX",
    b"SIMPLE  =": "FITS",
}
FOREIGN = {
    **{f".{name.lower()}": name for name in ("SVG", "XCF", "BPG", "EPS", "FLIF", "WMF", "EMF", "PSB", "DPX")},
    ".svgz": "SVG",
    ".jxr": "JPEG XR",
    ".wdp": "JPEG XR",
    ".hdp": "JPEG XR",
    ".djvu": "DjVu",
    ".dcm": "DICOM",
    ".fits": "FITS",
    ".kra": "Krita",
    ".ora": "OpenRaster",
    ".cdr": "CorelDRAW",
    ".ai": "Illustrator",
    ".afphoto": "Affinity Photo",
}
_TITLES = {
    "image/jp2": "JPEG 2000",
    "image/jxl": "JPEG XL",
    "image/vnd.adobe.photoshop": "PSD",
    "image/vnd.microsoft.icon": "ICO",
    "image/vnd.radiance": "HDR",
    "image/vnd.zbrush.pcx": "PCX",
    "image/vnd.ms-dds": "DDS",
    "image/x-portable-anymap": "PNM",
    "image/x-portable-floatmap": "PFM",
    "application/vnd.apache.parquet": "Parquet",
    "audio/basic": "AU",
    "text/plain": "text",
    "text/markdown": "Markdown",
    "video/mp2t": "MPEG-TS",
    "video/quicktime": "QuickTime",
    "video/vnd.rn-realmedia": "RealMedia",
    "video/x-matroska": "Matroska",
    "video/x-ms-asf": "Windows Media",
    "video/x-msvideo": "AVI",
    "video/x-motion-jpeg": "Motion JPEG",
}


def detect(path: Path, head: bytes) -> str:
    """Return the MIME type of a file by its first HEAD bytes, else by its extension; "" if unknown.

    >>> detect(Path("index.ts"), b"export {}"), detect(Path("film.TS"), b"\\0" * 9)
    ('', 'video/mp2t')
    """
    extension = path.suffix.lower()
    by_name = EXTENSIONS.get(extension, "")
    by_content = _signature(head)
    if by_content == "image/tiff":
        if any(tag in head for tag in _DNG_VERSION):
            return "image/x-adobe-dng"
        return by_name if by_name in RAW else by_content
    if by_content == "image/jpeg" and by_name == "video/x-motion-jpeg":
        return by_name
    if by_content:
        return by_content
    return "" if extension in _AMBIGUOUS and head and b"\0" not in head else by_name


def foreign(path: Path, head: bytes) -> str:
    """Return the name of a picture format that cannot be read; "" if it is none or unknown.

    >>> foreign(Path("logo"), b'<?xml version="1.0"?><svg xmlns='), foreign(Path("a.XCF"), b"")
    ('SVG', 'XCF')
    """
    name = next((name for magic, name in _FOREIGN_MAGIC.items() if head.startswith(magic)), "")
    if not name and re.match(rb"(\xef\xbb\xbf)?\s*<", head) and b"<svg" in head and not _PAGE.match(head):
        name = "SVG"
    if not name and head[128:132] == b"DICM":
        name = "DICOM"
    return name or FOREIGN.get(path.suffix.lower(), "")


def is_colour_exr(head: bytes) -> bool:
    """Whether the first HEAD bytes of an OpenEXR file list the channels R, G and B."""
    channels = head.partition(b"channels\0chlist\0")[2][4:]
    names = {channels[at.start() : at.end() - 1] for at in re.finditer(rb"[A-Za-z.]+\0", channels)}
    return {b"R", b"G", b"B"} <= names


def other(head: bytes) -> str:
    """Return the name of what is no picture, by its first HEAD bytes; "" if unknown."""
    if _PAGE.match(head):
        return "a web page"
    if head.startswith((b"%PDF", b"PK\x03\x04")):
        return "PDF" if head.startswith(b"%") else "an archive"
    return "text" if head.isascii() and head.decode().isprintable() else ""


def title(mime: str) -> str:
    """Return the name by which people know a format.

    >>> [title(mime) for mime in ("image/jxl", "image/x-adobe-dng", "audio/x-caf", "image/webp")]
    ['JPEG XL', 'DNG', 'CAF', 'WEBP']
    """
    return _TITLES.get(mime) or re.split("[/-]", mime)[-1].upper()


def _signature(head: bytes) -> str:
    """Detect a MIME type from the first HEAD bytes of a file; "" if unknown."""
    is_text = not _CONTROL.search(head)
    for magic, mime in _MAGIC.items():
        if head.startswith(magic) and not (is_text and _WORD.fullmatch(magic)):  # "caffeine" is no sound
            return mime
    first = int.from_bytes(head[:2], "big")
    if first & 0xFFE6 == 0xFFE2:  # MPEG layer III sync word
        return "audio/mpeg"
    if first & 0xFFF6 == 0xFFF0 and len(head) > 6:  # ADTS
        return "audio/aac"
    if head[:4] in (b"RIFF", b"RF64", b"BW64"):
        return _RIFF.get(head[8:12], "")
    if head[:4] == b"FORM":
        return _FORM.get(head[8:12], "")
    if head[:4] == b"OggS":
        return "video/ogg" if b"theora" in head else "audio/ogg"
    if head[:4] == b"\x1a\x45\xdf\xa3":  # EBML
        return "video/webm" if b"webm" in head[:64] else "video/x-matroska"
    if head[:2] == b"BM" and head[6:10] == bytes(4):  # the reserved fields distinguish it from text
        return "image/bmp"
    if head[4:8] == b"ftyp":  # ISO 14496-12: major brand, then compatible brands
        brands = head[8 : int.from_bytes(head[:4], "big")]
        return "image/avif" if b"avif" in brands else _BRANDS.get(brands[:4], "video/mp4")
    # MPEG-TS: packets of 188 bytes, behind a time code of 4 or before parity of 16, each with a sync byte
    if not is_text and any(head[start::step][:3] == b"GGG" for start, step in ((0, 188), (4, 192), (0, 204))):
        return "video/mp2t"
    return ""
