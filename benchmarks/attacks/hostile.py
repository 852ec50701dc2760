"""Hostile files: mutated media, bombs and disguises; an ingest ends, with the right reasons, in bounds."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import struct
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from PIL import Image

from benchmarks.attacks.program import Hand, Memory, Program
from benchmarks.attacks.world import State, Wrong, make_media, state
from xsearch.errors import Reason

__all__ = ["MUTATIONS", "Hostile", "bombs", "mutated"]

MOTION = ("t", "ax", "ay", "az", "gx", "gy", "gz")
MUTANTS = 6  # files of a round, times the scale, beside the good ones
MAIN_BYTES, CHILD_BYTES = 1_200 << 20, 2_000 << 20  # the most in memory; torch takes half of the former
LIMITS = {"XSEARCH_DECODER_MEMORY": "1", "XSEARCH_DECODE_TIMEOUT_S": "20"}
LIMIT_S = 300.0
TRAPS = ("gs", "convert", "magick", "ffmpeg", "unzip", "xdg-open", "dcraw", "pdftoppm")  # programs
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1)


class Hostile:
    """Every file becomes items or one reason, the good ones beside them items, and memory is bounded."""

    def __init__(self, folder: Path, hand: Hand, scale: int = 4) -> None:
        self._hand, self._scratch, originals = hand, folder / "scratch", folder / "originals"
        make_media(originals, scale)
        self._mutants = MUTANTS * scale
        self._files = sorted(path for path in originals.rglob("*") if path.is_file())
        self._root = originals
        self._good = [originals / name for name in ("000.png", "0.wav", "notes/000.txt")]
        self._traps, self._sprung = folder / "traps", folder / "sprung"
        self._traps.mkdir()
        for name in TRAPS:
            trap = self._traps / name
            trap.write_text(f"#!/bin/sh\necho {name} >> '{self._sprung}'\nexit 1\n")
            trap.chmod(0o755)

    def round(self, folder: Path, rng: random.Random) -> Counter[str]:
        media, path, tried = folder / "media", folder / "c", Counter[str]()
        for at in range(self._mutants):
            if rng.random() < 0.3:
                name, make = rng.choice([*bombs().items()])
                content, what = make(), name
            else:
                file, how = rng.choice(self._files), rng.choice([*MUTATIONS])
                content = mutated(file.read_bytes(), how, rng, lambda: rng.choice(self._files).read_bytes())
                name, what = str(file.relative_to(self._root)), f"{how} of {file.suffix}"
                if rng.random() < 0.1:
                    name, what = (
                        Path(name).with_suffix(rng.choice(self._files).suffix).as_posix(),
                        f"{what}, renamed",
                    )
            target = media / f"{at}" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            tried[what] += 1
        for each in self._good:
            shutil.copyfile(each, media / f"good {each.name}")
        before: object = None
        for turn in range(2):
            output, main, child = self._ingest(media, path)
            now: State = self._hand(state, path)
            self._judge(now, media, output)
            tried["left to the next ingest"] = sum(Reason(error).is_passing for error in now.skipped.values())
            if turn and now.rows.keys() != before:
                raise Wrong(f"other items after a second ingest of the same files: {output[-1500:]}")
            before = now.rows.keys()
            if main > MAIN_BYTES or child > CHILD_BYTES:
                raise Wrong(f"{main >> 20} MB in the main process, {child >> 20} MB in a decoder")
        if self._sprung.exists():
            names = self._sprung.read_text().split()
            self._sprung.unlink()
            raise Wrong(f"programs were started: {names}")
        return tried

    def _ingest(self, media: Path, path: Path) -> tuple[str, int, int]:
        search = f"{self._traps}{os.pathsep}{os.environ['PATH']}"
        program = Program("ingest", media, "-c", path, scratch=self._scratch, PATH=search, **LIMITS)
        try:
            with Memory(program) as memory:
                code = program.wait(LIMIT_S)
            if code or "Traceback" in program.output:
                raise Wrong(f"exit code {code}: {program.output[-2000:]}")
            return program.output, memory.main, memory.child
        finally:
            program.close()

    def _judge(self, now: State, media: Path, output: str) -> None:
        """Every file is in one place, and the good ones are items."""
        with_items = {key[0] for key in now.rows}
        if both := with_items & now.skipped.keys():
            raise Wrong(f"items and skipped: {both}")
        for each in self._good:
            if str(media / f"good {each.name}") not in with_items:
                raise Wrong(f"a good file has no items: {each.name}; {now.skipped}; {output[-1500:]}")
        if not output.replace("\n", "").replace("\r", "").replace("\t", "").isprintable():
            raise Wrong(f"not printable: {output[-2000:]!r}")
        for line in output.splitlines():
            if "replace the file" in line and ("memory" in line or "timed out" in line or "killed" in line):
                raise Wrong(f"advice to replace a file that may be good: {line}")


# ---------------------------------------------------------------- mutations

Mutation = Callable[[bytearray, random.Random], None]


def _header(content: bytearray, rng: random.Random) -> None:
    for _ in range(rng.randint(1, 8)):
        content[rng.randrange(min(256, len(content)))] = rng.randrange(256)


def _bits(content: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice([1, 4, 40])):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)


def _sizes(content: bytearray, rng: random.Random) -> None:
    """Numbers that may be sizes or offsets become extremes."""
    for _ in range(rng.randint(1, 4)):
        order, width = rng.choice("<>"), rng.choice(["B", "H", "I", "Q"])
        size = struct.calcsize(width)
        end = rng.choice([64, 2_000, len(content)])
        at = rng.randrange(max(min(len(content), end) - size, 1))
        value = rng.choice(EXTREMES) & (256**size - 1)
        content[at : at + size] = struct.pack(f"{order}{width}", value)


def _cut(content: bytearray, rng: random.Random) -> None:
    del content[rng.randrange(len(content)) :]


def _hole(content: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(content))
    content[at : at + rng.choice([16, 512, 4096])] = b""


def _zeros(content: bytearray, rng: random.Random) -> None:
    at, size = rng.randrange(len(content)), rng.choice([16, 512, 4096])
    content[at : at + size] = bytes(len(content[at : at + size]))


def _twice(content: bytearray, rng: random.Random) -> None:
    at, size = rng.randrange(len(content)), rng.choice([8, 64, 1024])
    content[at:at] = content[at : at + size] * rng.choice([1, 2, 1000])


MUTATIONS: dict[str, Mutation | None] = {
    "header": _header,
    "bits": _bits,
    "sizes": _sizes,
    "cut": _cut,
    "hole": _hole,
    "zeros": _zeros,
    "twice": _twice,
    "spliced": None,  # with another file
}


def mutated(content: bytes, how: str, rng: random.Random, other: Callable[[], bytes]) -> bytes:
    """Return the content with a mutation of MUTATIONS; other: the content of another file."""
    result = bytearray(content)
    if (mutation := MUTATIONS[how]) is not None:
        mutation(result, rng)
    else:
        at, more = rng.randrange(len(result)), other()
        result[at:] = more[rng.randrange(len(more)) :]
    return bytes(result)


# ---------------------------------------------------------------- bombs: little that claims or becomes much


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _png(side: int, depth: int = 1, kind: int = 0) -> bytes:
    row = 1 + (side * depth * (3 if kind == 2 else 1) + 7) // 8
    packer, packed = zlib.compressobj(9), b""
    for _ in range(side):
        packed += packer.compress(bytes(row))
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, depth, kind, 0, 0, 0))
    data = _chunk(b"IDAT", packed + packer.flush())
    return b"\x89PNG\r\n\x1a\n" + header + data + _chunk(b"IEND", b"")


def _wav(rate_hz: int, channels: int, claimed: int, data: bytes) -> bytes:
    frame = 2 * channels % 2**16
    form = struct.pack("<IHHIIHH", 16, 1, channels, rate_hz, rate_hz * frame % 2**32, frame, 16)
    return (
        b"RIFF"
        + struct.pack("<I", 2**32 - 1)
        + b"WAVEfmt "
        + form
        + b"data"
        + struct.pack("<I", claimed)
        + data
    )


def _gif(frames: int) -> bytes:
    file = io.BytesIO()
    pictures = [Image.new("L", (2, 2), at % 256) for at in range(frames)]
    pictures[0].save(file, "GIF", save_all=True, append_images=pictures[1:])
    return file.getvalue()


def _npy(shape: str, dtype: str = "<f4") -> bytes:
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + bytes(64)


def _npz() -> bytes:
    file = io.BytesIO()
    np.savez_compressed(
        file, **{name: np.zeros(8_000_000) for name in ("t", "ax", "ay", "az", "gx", "gy", "gz")}
    )
    return file.getvalue()


def _parquet(rows: int) -> bytes:
    file = io.BytesIO()
    pa.parquet.write_table(pa.table(dict.fromkeys(MOTION, pa.nulls(rows, pa.float64()))), file)
    return file.getvalue()


def _mp4(entries: int) -> bytes:
    """A film whose index claims many samples, and has them, all of the same bytes."""

    def box(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data) + 8) + name + data

    matrix = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
    entry = (
        bytes(6) + struct.pack(">H", 1) + bytes(16) + struct.pack(">HHIIIH", 64, 48, 0x480000, 0x480000, 0, 1)
    )
    stsd = box(b"stsd", struct.pack(">II", 0, 1) + box(b"mp4v", entry + bytes(32) + b"\0\x18\xff\xff"))
    table = b"".join(
        [
            stsd,
            box(b"stts", struct.pack(">IIII", 0, 1, entries, 1)),
            box(b"stsc", struct.pack(">IIIII", 0, 1, 1, 1, 1)),
            box(b"stsz", struct.pack(">III", 0, 16, entries)),
            box(b"stco", struct.pack(">II", 0, entries) + struct.pack(">I", 40) * entries),
        ]
    )
    media = box(b"mdhd", struct.pack(">IIIIIHH", 0, 0, 0, 1000, entries, 0, 0))
    media += box(b"hdlr", bytes(8) + b"vide" + bytes(13)) + box(b"minf", box(b"stbl", table))
    head = (
        struct.pack(">IIIIII", 0, 0, 0, 1, 0, entries)
        + bytes(16)
        + matrix
        + struct.pack(">II", 64 << 16, 48 << 16)
    )
    trak = box(b"trak", box(b"tkhd", head) + box(b"mdia", media))
    movie = box(b"mvhd", struct.pack(">IIIII", 0, 0, 0, 1000, entries) + bytes(10) + matrix + bytes(28))
    return box(b"ftyp", b"isom\0\0\2\0isomiso2mp41") + box(b"mdat", bytes(64)) + box(b"moov", movie + trak)


def bombs() -> dict[str, Callable[[], bytes]]:
    """Files by name."""
    nested = "[" * 50_000 + "]" * 50_000
    entities = "".join(f'<!ENTITY a{at} "{f"&a{at - 1};" * 10}">' for at in range(1, 12))
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(x) print\nshowpage\n%%EOF\n"
    picture = io.BytesIO()
    Image.new("RGB", (8, 8)).save(picture, "JPEG")
    return {
        "thermal/bomb.png": lambda: _png(13_300, 8),
        "depth/bomb.png": lambda: _png(13_000, 16),
        "bomb.png": lambda: _png(13_300, 8, 2),
        "side.png": lambda: _png(20_000),
        "frames.gif": lambda: _gif(3_000),
        "slow.wav": lambda: _wav(1, 1, 200_000, bytes(200_000)),
        "still.wav": lambda: _wav(0, 1, 200_000, bytes(200_000)),
        "fast.wav": lambda: _wav(2**32 - 1, 1, 200_000, bytes(200_000)),
        "wide.wav": lambda: _wav(8_000, 65_535, 400_000, bytes(400_000)),
        "claims.wav": lambda: _wav(8_000, 2, 2**32 - 2, bytes(4_000)),
        "depth/claims.npy": lambda: _npy("(100000, 100000)"),
        "depth/axes.npy": lambda: _npy("(" + "1, " * 60 + ")"),
        "depth/negative.npy": lambda: _npy("(-1, -1)"),
        "depth/objects.npy": lambda: _npy("(4,)", "|O"),
        "depth/claims.pfm": lambda: b"Pf\n90000 90000\n-1\n" + bytes(64),
        "motion.npz": _npz,
        "motion.parquet": lambda: _parquet(34_000_000),
        "index.mp4": lambda: _mp4(400_000),
        "holiday.jpg": lambda: eps,
        "print.eps": lambda: eps,
        "paper.jpg": lambda: b"%PDF-1.7\n" + bytes(99),
        "drawing.png": lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><image href="/etc/passwd"/></svg>',
        "list.m3u8": lambda: b"#EXTM3U\n#EXTINF:10,\n/etc/passwd\n",
        "list.mp4": lambda: b"ffconcat version 1.0\nfile /etc/passwd\n",
        "play.mp3": lambda: b"#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:10,\nconcat:/etc/passwd|/etc/hosts\n",
        "wide.csv": lambda: ",".join(f"c{at}" for at in range(100_000)).encode(),
        "deep.json": nested.encode,
        "a.jpg.json": nested.encode,
        "a.jpg.xmp": lambda: f"<!DOCTYPE x [<!ENTITY a0 'ha'>{entities}]><x>&a11;</x>".encode(),
        "a.jpg": picture.getvalue,
        "metadata.csv": lambda: b"path,about\na.jpg," + b"x" * 20_000_000,
        "metadata.jsonl": lambda: json.dumps({"path": "a.jpg"} | {f"c{k}": k for k in range(9_000)}).encode(),
        "words.txt": lambda: b"word " * 4_000_000,
        "escape.txt": lambda: b"\x1b]0;owned\x07\x1b[2J \xe2\x80\xae evil",
        ".xsearchignore": lambda: b"**/" * 2_000 + b"a\n" + b"*" * 5_000 + b"b\n",
    }  # fmt: skip
