"""What is wrong with a table, row by row."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from xsearch.errors import MediaError
from xsearch.media import files
from xsearch.pairs.pair import Source
from xsearch.pairs.pairs import NO_WEIGHT, Pairs, no_modality
from xsearch.types import Modality

__all__ = ["BadRow", "check_pairs"]

LOOKS_LIKE = {  # what `files.guess` says of files that hold each kind; the others look like themselves
    Modality.AUDIO: {Modality.AUDIO, Modality.VIDEO},
    Modality.DEPTH: {Modality.DEPTH, Modality.IMAGE},
    Modality.THERMAL: {Modality.IMAGE},
    Modality.IMU: {Modality.IMU, Modality.DEPTH},  # both may be .npy
}


class BadRow(NamedTuple):
    """What is wrong with a table."""

    table: Path
    row: int  # from 1
    column: str
    reason: str


def check_pairs(pairs: Pairs | Path, *, decode: bool = False, pictures: bool = False) -> list[BadRow]:
    """What is wrong with each row: its modality, its weight, a file that is missing or of another kind.

    decode: also decode everything. pictures: a row without one is bad.
    Raises UsageError only if the table as a whole cannot be read.
    """
    pairs = pairs if isinstance(pairs, Pairs) else Pairs(pairs)
    return [
        BadRow(pairs.path, int(row) + 1, column, reason)
        for at, row in enumerate(pairs.rows)
        for column, reason in _problems(pairs, at, decode, pictures)
    ]


def _problems(pairs: Pairs, at: int, decode: bool, pictures: bool) -> Iterator[tuple[str, str]]:
    if not 0 <= pairs.weights[at] < math.inf:
        yield "weight", NO_WEIGHT
    if pairs.modalities[at] not in list(Modality):
        yield "modality", no_modality(pairs.modalities[at])
        return
    try:
        pair = pairs[at]
    except (OSError, MediaError) as problem:  # OSError: of a shard
        yield "other", str(problem)
        return
    if pictures and pair.image is None:
        yield "image", "there is none"
    for column, source, kind, decoded in (
        ("image", pair.image, Modality.IMAGE, pair.picture),
        ("other", pair.other, pair.modality, pair.partner),
        ("plus", pair.plus, pair.plus_modality or pair.modality, pair.addend),
    ):
        reason = None if source is None else _mistaken(source, kind)
        if reason is None and decode and source is not None:
            try:
                decoded()
            except MediaError as problem:
                reason = str(problem)
        if reason is not None:
            yield column, reason


def _mistaken(source: Source, kind: Modality) -> str | None:
    """Why it cannot be of this kind, from its first bytes."""
    if isinstance(source, np.ndarray):
        return None if kind is Modality.IMU else f"numbers, which only an IMU recording may be, not {kind}"
    if isinstance(source, str):
        return None if source.strip() else "empty text"
    if isinstance(source, Path):
        try:
            with source.open("rb") as file:
                head = file.read(files.HEAD)
        except OSError as problem:
            return f"{source}: {problem.strerror}"
        found = files.guess(source, head)
    else:
        head = source[: files.HEAD]
        # Bytes have no name to go by, and text has no magic.
        found = files.guess(Path(), head) or (Modality.IMU if kind is Modality.IMU and head else None)
    if not head:
        return "empty"
    if found not in LOOKS_LIKE.get(kind, {kind}):
        return f"looks like {found or 'nothing known'}, not {kind}"
    if kind is Modality.DEPTH and head.startswith(b"\x89PNG") and head[24:25] != b"\x10":  # of its IHDR
        return "a PNG of 8 bits; depth maps have 16, in millimetres"
    return None
