"""`query` and `compose`: look for something with one medium, or with a sum of several."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xsearch.cli import options, output
from xsearch.errors import UsageError
from xsearch.types import DEFAULT_COLLECTION, Modality, Rank

if TYPE_CHECKING:
    from xsearch.query import Query

__all__ = ["compose", "query", "split_weight"]

FILE = "FILE[@W]"
Text = Annotated[str | None, typer.Option(metavar="WORDS", help="Look for this text.")]
File = Annotated[str | None, typer.Option(metavar="FILE", help="Look for this file, taken as that kind.")]
Words = Annotated[list[str] | None, typer.Option(metavar="WORDS[@W]", help="Start from this text.")]
PlusWords = Annotated[list[str] | None, typer.Option(metavar="WORDS[@W]", help="Add this text.")]
MinusWords = Annotated[list[str] | None, typer.Option(metavar="WORDS[@W]", help="Take this text away.")]
Base = Annotated[list[str] | None, typer.Option(metavar=FILE, help="Start from this file.")]
Plus = Annotated[list[str] | None, typer.Option(metavar=FILE, help="Add this file.")]
Minus = Annotated[list[str] | None, typer.Option(metavar=FILE, help="Take this file away.")]


def query(
    ctx: typer.Context,
    what: Annotated[str | None, typer.Argument(help="A file of any kind, or else a text.")] = None,
    text: Text = None,
    image: File = None,
    audio: File = None,
    video: File = None,
    depth: File = None,
    thermal: File = None,
    imu: File = None,
    top: options.Top = 10,
    modality: options.Modalities = None,
    where: options.Where = None,
    rank: options.RankBy = Rank.BALANCED,
    min_cosine: options.MinCosine = None,
    unique: options.Unique = False,
    json: options.Json = False,
    csv: options.Csv = False,
    paths: options.Paths = False,
    html: options.Html = None,
    index: options.Index = DEFAULT_COLLECTION,
    model: options.Model = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
) -> None:
    """Print the items nearest to one text or file, best first."""
    given = {kind: ctx.params[kind] for kind in Modality if ctx.params[kind] is not None}
    if (what is not None) + len(given) != 1:
        names = ["WHAT"] * (what is not None) + [f"--{kind}" for kind in given]
        raise UsageError(
            f"query: expected one thing to look for, got {' and '.join(names) or 'none'}; "
            "give one text or file, or add and subtract several with xsearch compose"
        )
    from xsearch.query import parse

    if what is None:
        ((kind, value),) = given.items()
        asked = _one(kind, value)
    else:
        asked = parse(what)
        if isinstance(asked.parts[0].source, str) and _looks_like_a_file(what):
            output.note(f"no such file: {what}; looking for it as a text")
    _answer(asked, ctx.params)


def compose(
    ctx: typer.Context,
    text: Words = None,
    image: Base = None,
    audio: Base = None,
    video: Base = None,
    depth: Base = None,
    thermal: Base = None,
    imu: Base = None,
    plus_text: PlusWords = None,
    plus_image: Plus = None,
    plus_audio: Plus = None,
    plus_video: Plus = None,
    plus_depth: Plus = None,
    plus_thermal: Plus = None,
    plus_imu: Plus = None,
    minus_text: MinusWords = None,
    minus_image: Minus = None,
    minus_audio: Minus = None,
    minus_video: Minus = None,
    minus_depth: Minus = None,
    minus_thermal: Minus = None,
    minus_imu: Minus = None,
    top: options.Top = 10,
    modality: options.Modalities = None,
    where: options.Where = None,
    rank: options.RankBy = Rank.BALANCED,
    min_cosine: options.MinCosine = None,
    unique: options.Unique = False,
    json: options.Json = False,
    csv: options.Csv = False,
    paths: options.Paths = False,
    html: options.Html = None,
    index: options.Index = DEFAULT_COLLECTION,
    model: options.Model = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
) -> None:
    """Search with a sum of texts and files of any kind.

    Every option repeats. @W sets a weight: --plus-audio sea.wav@0.7.
    """
    from xsearch.query import Query

    asked = Query()
    for sign, prefix in ((1.0, ""), (1.0, "plus_"), (-1.0, "minus_")):
        for kind in Modality:
            for value in ctx.params[prefix + kind] or []:
                bare, weight = split_weight(value)
                asked += sign * weight * _one(kind, bare)
    _answer(asked, ctx.params, composed=True)


def _answer(asked: Query, given: Mapping[str, Any], *, composed: bool = False) -> None:
    """Search, print, and write the page, as the options of the command say."""
    form = output.choose_form(json=given["json"], csv=given["csv"], paths=given["paths"])
    import xsearch
    from xsearch.models.vocabulary import unknown_words as unlearned

    collection = xsearch.open(given["index"], given["model"], device=given["device"], dtype=given["dtype"])
    names = ("top", "where", "rank", "min_cosine", "unique")
    hits = collection.search(
        asked, **{name: given[name] for name in names}, modality=given["modality"] or None
    )
    vocabulary = collection.backend.capabilities().vocabulary
    for part in asked.parts:
        if isinstance(part.source, str) and (words := unlearned(part.source, vocabulary)):
            model = collection.backend.fingerprint.name
            output.note(f"the {model} model has not learned: {', '.join(map(repr, words))}")
    if composed:
        output.print_parts(hits.query)
    output.print_hits(hits, form)
    if not hits:
        output.note("no items match")
    if given["html"] is not None:
        from xsearch import gallery

        given["html"].write_text(gallery.page(hits, asked), encoding="utf-8")
        output.note(f"page: {given['html']}")


def split_weight(value: str) -> tuple[str, float]:
    """Cut a weight off the end; a file whose own name ends like one keeps it.

    >>> split_weight("sea.wav@0.7"), split_weight("me@home.jpg")
    (('sea.wav', 0.7), ('me@home.jpg', 1.0))
    """
    bare, at, weight = value.rpartition("@")
    if not at or not bare or Path(value).exists():
        return value, 1.0
    try:
        return bare, float(weight)
    except ValueError:
        return value, 1.0


def _one(kind: Modality, value: str) -> Query:
    from xsearch import query

    return getattr(query, kind)(value)


def _looks_like_a_file(what: str) -> bool:
    return not what.endswith((".", "!", "?")) and ("/" in what or Path(what).suffix[1:].isalnum())
