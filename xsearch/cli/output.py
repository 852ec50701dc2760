"""What every command prints: notes on stderr, JSON on stdout, counts in words."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import typer

from xsearch.system.terminal import json_escaped, printable, unescaped
from xsearch.types import Modality

__all__ = ["counts", "note", "plural", "print_fields", "print_json", "progress_bar", "say", "to_json"]


def say(text: str) -> None:
    """Print a result: to stdout, on one line."""
    typer.echo(printable(text))


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
            say(f"{name:<{width}} {f'{value:,}' if isinstance(value, int) else value}")


def print_json(value: object) -> None:
    typer.echo(to_json(value))


def to_json(value: object) -> str:
    """JSON that is safe to print; NaN and the infinities, which it does not have, are null."""
    text = json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False, default=str)
    return json_escaped(text)


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

    shown: dict[str, Any] = {"disable": None, "leave": False, "dynamic_ncols": True}
    with tqdm(unit=f" {unit}", unit_scale=True, file=unescaped(sys.stderr), **shown) as bar:

        def show(done: int, total: int | None = None) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show
