"""What every command prints: notes on stderr, JSON on stdout, counts in words."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

import typer

from xsearch.cli.table import printable
from xsearch.types import Modality

__all__ = ["counts", "note", "plural", "print_fields", "print_json", "progress_bar", "to_json"]


def note(text: str) -> None:
    """Print something worth knowing that is not a result: to stderr, on one line."""
    typer.echo(printable(text), err=True)


def counts(by_kind: Mapping[Modality, int], noun: str) -> str:
    """How many, and of which kinds.

    >>> counts({Modality.IMAGE: 4, Modality.TEXT: 1_000}, "item")
    '1,004 items (4 image, 1,000 text)'
    """
    kinds = ", ".join(f"{by_kind[kind]:,} {kind}" for kind in Modality if by_kind.get(kind))
    return plural(sum(by_kind.values()), noun) + (f" ({kinds})" if kinds else "")


def plural(count: int, noun: str) -> str:
    """Return a count and its noun: `1 file`, `1,000 files`."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def print_fields(fields: Mapping[str, object], *, width: int = 11) -> None:
    """Print a name and its value per line; None is left out."""
    for name, value in fields.items():
        if value is not None:
            typer.echo(f"{name:<{width}} {f'{value:,}' if isinstance(value, int) else value}")


def print_json(value: object) -> None:
    typer.echo(to_json(value))


def to_json(value: object) -> str:
    """JSON in which NaN and the infinities, which JSON does not have, are null."""
    return json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False, default=str)


def _finite(value: object) -> object:
    match value:
        case dict():
            return {name: _finite(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_finite(inner) for inner in value]
        case float():
            return value if math.isfinite(value) else None
    return value


class Progress(Protocol):
    def __call__(self, done: int, total: int | None = None) -> None: ...


@contextmanager
def progress_bar(unit: str) -> Iterator[Progress]:
    """A callback that shows progress on stderr if that is a terminal."""
    from tqdm import tqdm

    with tqdm(unit=f" {unit}", unit_scale=True, disable=None, leave=False, dynamic_ncols=True) as bar:

        def show(done: int, total: int | None = None) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show
