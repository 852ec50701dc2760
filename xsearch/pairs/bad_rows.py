"""The invalid rows of a pair table, with reasons."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from xsearch.errors import MediaError
from xsearch.media import files
from xsearch.pairs.pair import NOT_NUMBERS, Source
from xsearch.pairs.pairs import INVALID_WEIGHT, Pairs, unknown_modality
from xsearch.types import Modality

__all__ = ["BadRow", "check_pairs"]

LOOKS_LIKE = {  # results of `files.guess` that are valid for a modality, where there are several or others
    Modality.AUDIO: {Modality.AUDIO, Modality.VIDEO},
    Modality.DEPTH: {Modality.DEPTH, Modality.IMAGE},
    Modality.THERMAL: {Modality.IMAGE},
    Modality.IMU: {Modality.IMU, Modality.DEPTH},  # both may be .npy
}


class BadRow(NamedTuple):
    """A problem of one cell."""

    table: Path
    row: int  # from 1
    column: str
    reason: str


def check_pairs(pairs: Pairs | Path, *, decode: bool = False, pictures: bool = False) -> list[BadRow]:
    """All problems of a table: invalid modalities and weights, files that are missing or of another kind.

    decode: also decode all media. pictures: require a picture in every row.
    Raises UsageError if the table itself cannot be read.
    """
    pairs = pairs if isinstance(pairs, Pairs) else Pairs(pairs)
    return [
        BadRow(pairs.path, int(row) + 1, column, reason)
        for at, row in enumerate(pairs.rows)
        for column, reason in _problems(pairs, at, decode, pictures)
    ]


def _problems(pairs: Pairs, at: int, decode: bool, pictures: bool) -> Iterator[tuple[str, str]]:
    if not 0 <= pairs.weights[at] < math.inf:
        yield "weight", INVALID_WEIGHT
    if pairs.modalities[at] not in list(Modality):
        yield "modality", unknown_modality(pairs.modalities[at])
        return
    try:
        pair = pairs[at]
    except (OSError, MediaError) as error:  # OSError: of a shard
        yield "other", str(error)
        return
    if pictures and pair.image is None:
        yield "image", "no picture"
    for column, source, kind, decoded in (
        ("image", pair.image, Modality.IMAGE, pair.picture),
        ("other", pair.other, pair.modality, pair.partner),
        ("plus", pair.plus, pair.plus_modality or pair.modality, pair.addend),
    ):
        reason = None if source is None else _mismatch(source, kind)
        if reason is None and decode and source is not None:
            try:
                decoded()
            except MediaError as error:
                reason = str(error)
        if reason is not None:
            yield column, reason


def _mismatch(source: Source, kind: Modality) -> str | None:
    """Why its first bytes rule out this modality, or None."""
    if isinstance(source, np.ndarray):
        return None if kind is Modality.IMU else NOT_NUMBERS.format(kind)
    if isinstance(source, str | tuple):
        texts = [source] if isinstance(source, str) else source
        return None if all(text.strip() for text in texts) else "empty text"
    if isinstance(source, Path):
        try:
            with source.open("rb") as file:
                head = file.read(files.HEAD)
        except OSError as error:
            return f"{source}: {error.strerror}"
        guessed = files.guess(source, head)
    else:
        head = source[: files.HEAD]
        # Bytes have no file name, and CSV has no magic number.
        guessed = files.guess(Path(), head) or (Modality.IMU if kind is Modality.IMU and head else None)
    if not head:
        return "empty"
    if guessed not in LOOKS_LIKE.get(kind, {kind}):
        return f"looks like {guessed or 'an unknown format'}, not {kind}"
    if kind is Modality.DEPTH and head.startswith(b"\x89PNG") and head[24:25] != b"\x10":  # of its IHDR
        return "8-bit PNG; depth maps are 16-bit, in millimetres"
    return None
