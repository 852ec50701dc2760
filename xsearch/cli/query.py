"""`query` and `compose`: search with one medium, or with a sum of several."""

from __future__ import annotations

import inspect
import logging
import os.path
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from xsearch.cli import hits, options, output, served
from xsearch.cli.table import relative
from xsearch.errors import UsageError, XsearchError
from xsearch.types import Match, Modality, Rank

if TYPE_CHECKING:
    from xsearch.query import Hits, Query
    from xsearch.query.grammar import Kind, Term

__all__ = ["compose", "composition", "print_left_out", "query", "takes_terms"]

LOG = logging.getLogger("xsearch")

NAMED = 10  # words that are left out
LISTED = 10_000  # items whose names a suggestion is chosen from
Text = Annotated[str | None, typer.Option(metavar="WORDS", help="Search for this text.")]
File = Annotated[str | None, typer.Option(metavar="FILE", help="Search for this file, taken as that kind.")]
KINDS = ("text", "image", "audio", "video", "depth", "thermal", "imu")


def _term(kind: str, verb: str) -> Any:
    """The annotation of a repeatable option; kind: "" for a text or a file of any kind."""
    metavar, what = {"": ("TERM", "text or file"), "text": ("WORDS[@W]", "text")}.get(
        kind, ("FILE[@W]", "file")
    )
    return Annotated[list[str] | None, typer.Option(metavar=metavar, help=f"{verb} this {what}.")]


TERMS = {
    **{kind: _term(kind, "Start from") for kind in KINDS},
    **{
        f"{sign}_{kind}".rstrip("_"): _term(kind, verb)
        for sign, verb in (("plus", "Add"), ("minus", "Subtract"))
        for kind in ("", *KINDS)
    },
}
Command = TypeVar("Command", bound=Callable[..., Any])


def query(
    ctx: typer.Context,
    what: Annotated[
        str | None, typer.Argument(metavar="WHAT", help="A file of any kind, or else a text.")
    ] = None,
    text: Text = None,
    image: File = None,
    audio: File = None,
    video: File = None,
    depth: File = None,
    thermal: File = None,
    imu: File = None,
    id: Annotated[
        int | None, typer.Option("--id", min=0, metavar="N", help="Search for this item of the collection.")
    ] = None,
    top: options.Top = 10,
    modality: options.Modalities = None,
    where: options.Where = None,
    rank: options.RankBy = Rank.BALANCED,
    match: options.MatchBy = None,
    min_cosine: options.MinCosine = None,
    max_expected: options.MaxExpected = None,
    unique: options.Unique = False,
    sort: options.SortBy = None,
    exclude_self: options.ExcludeSelf = False,
    anyway: options.Anyway = False,
    locate: options.Locate = False,
    json: options.Json = False,
    csv: options.Csv = False,
    keep_formulas: options.KeepFormulas = False,
    paths: options.Paths = False,
    html: options.Html = None,
    trust_paths: options.TrustPaths = False,
    folder: options.Collection = options.NEAREST,
    model: options.Model = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    server: options.Server = "auto",
) -> None:
    """Print the items nearest to one text or file, best first.

    WHAT that looks like a path must be a file; --text takes anything as words. Of a file that is in the
    collection, the stored vectors are used.
    """
    from xsearch.query.grammar import Term

    names: dict[str, Kind | None] = {"what": None, **{kind: kind for kind in Modality}, "id": "item"}
    chosen = [name for name in names if ctx.params[name] is not None]
    if len(chosen) != 1:
        requested = ["WHAT" if name == "what" else f"--{name}" for name in chosen]
        raise UsageError(
            f"query: expected one text or file, got {' and '.join(requested) or 'none'}; "
            "add and subtract several with xsearch compose"
        )
    _answer(_parsed(Term(names[chosen[0]], str(ctx.params[chosen[0]])), folder), ctx.params)


def takes_terms(before: str) -> Callable[[Command], Command]:
    """Give a command, in place of its `**terms`, the options of a sum that it lacks; see `composition`.

    before: the parameter that follows them in the help.
    """

    def extend(command: Command) -> Command:
        signature = inspect.signature(command, eval_str=True)
        local = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
        at = list(signature.parameters).index(before)
        terms = [
            inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=kind)
            for name, kind in TERMS.items()
            if name not in signature.parameters
        ]
        vars(command)["__signature__"] = signature.replace(parameters=[*local[:at], *terms, *local[at:]])
        return command

    return extend


@takes_terms(before="top")
def compose(
    ctx: typer.Context,
    top: options.Top = 10,
    modality: options.Modalities = None,
    where: options.Where = None,
    rank: options.RankBy = Rank.BALANCED,
    match: options.MatchBy = None,
    min_cosine: options.MinCosine = None,
    max_expected: options.MaxExpected = None,
    unique: options.Unique = False,
    sort: options.SortBy = None,
    exclude_self: options.ExcludeSelf = False,
    anyway: options.Anyway = False,
    locate: options.Locate = False,
    json: options.Json = False,
    csv: options.Csv = False,
    keep_formulas: options.KeepFormulas = False,
    paths: options.Paths = False,
    html: options.Html = None,
    trust_paths: options.TrustPaths = False,
    folder: options.Collection = options.NEAREST,
    model: options.Model = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    server: options.Server = "auto",
    **terms: Any,
) -> None:
    """Search with a sum of texts and files of any kind.

    TERM is KIND:VALUE@W; without KIND: it is an existing file, or else a text, and @W is a weight:
    --plus audio:sea.wav@0.7 --minus cage. item:17 is an item of the collection. Every option may be
    repeated.
    """
    _answer(composition(ctx.params, folder), ctx.params, composed=True)


def composition(params: Mapping[str, Any], folder: str | None) -> Query:
    """The sum of the terms in the parameters of a command, empty if there are none; see `compose`.

    folder: the collection that has files with names like those that do not exist.
    """
    from xsearch.query import Query
    from xsearch.query.grammar import parse_term

    total = Query()
    for sign, prefix in ((1.0, ""), (1.0, "plus_"), (-1.0, "minus_")):
        for kind in (None, *Modality):
            for term in params.get(f"{prefix}{kind}" if kind else prefix.rstrip("_")) or []:
                total += sign * _parsed(parse_term(term, kind=kind, exists=os.path.isfile), folder)
    return total


def _parsed(term: Term, folder: str | None) -> Query:
    """The query of one term; a note reports a file whose name is taken as words."""
    from xsearch import query

    if term.kind is None:
        try:
            return term.weight * query.parse(term.value)
        except UsageError as problem:
            hint = _stored(term.value, folder) if folder else ""
            raise UsageError(f"{problem}{hint}") from None
    if term.kind == "item":
        return term.weight * query.item(int(term.value))
    if term.kind is Modality.TEXT and os.path.isfile(term.value):  # noqa: PTH113  a text may be long
        output.note(f"{term.value}: searching for these words, not for the file")
    return term.weight * getattr(query, term.kind)(term.value)


def _stored(name: str, folder: str) -> str:
    """A hint at the file of the collection whose name is most like that of one that does not exist."""
    import xsearch

    with suppress(XsearchError):
        items = xsearch.open(folder).items(columns=["path"], limit=LISTED)
        paths = {os.path.basename(path): path for path in items["path"].to_pylist()}  # noqa: PTH119
        if near := get_close_matches(os.path.basename(name), paths, n=1):  # noqa: PTH119
            return f"; the collection has {relative(paths[near[0]])}"
    return ""


def _answer(parsed: Query, params: Mapping[str, Any], *, composed: bool = False) -> None:
    """Search, write the page, and print, as the parameters of the command ask for."""
    form = hits.choose_form(json=params["json"], csv=params["csv"], paths=params["paths"])
    start = time.perf_counter()
    bounds = ("min_cosine", "max_expected")
    names = ("top", "where", "rank", "match", *bounds, "unique", "sort", "exclude_self", "anyway")
    chosen = {name: params[name] for name in names} | {"modality": params["modality"] or None}
    found = None if params["locate"] else served.search(parsed, chosen, params)
    answer, items, model = found or _search(parsed, chosen, params)
    if params["html"] is not None:
        from xsearch import gallery

        page = gallery.page(answer.trusted() if params["trust_paths"] else answer, parsed)
        params["html"].write_text(page, encoding="utf-8")
        output.note(f"page: {params['html']}")
    LOG.info("searched %d items in %.2f s", items, time.perf_counter() - start)
    if params["match"] is not Match.WORDS:
        _print_notes(answer, model)
    (hits.print_parts if composed else hits.print_query)(answer.query)
    dated, keep_formulas = params["sort"] is not None, params["keep_formulas"]
    hits.print_hits(answer, form, dated=dated, keep_formulas=keep_formulas)
    if not answer:
        output.note("no items match")
    if answer.remark and (answer or answer.missing_shards or params["max_expected"] is not None):
        output.note(answer.remark)


def _search(query: Query, chosen: Mapping[str, Any], params: Mapping[str, Any]) -> served.Found:
    """Search in this process."""
    import xsearch

    collection = xsearch.open(
        params["folder"], params["model"], device=params["device"], dtype=params["dtype"]
    )
    answer = collection.search(query, **chosen)
    if params["locate"]:
        answer = collection.locate(answer.trusted() if params["trust_paths"] else answer)
    return served.Found(answer, len(collection), collection.snapshot().fingerprint.name)


def print_left_out(words: Sequence[str], model: str) -> None:
    """Report words that were left out, if there are any."""
    if words:
        more = f" and {len(words) - NAMED} more" if len(words) > NAMED else ""
        output.note(
            f"the {model} model has not learned {', '.join(map(repr, words[:NAMED]))}{more}: left out"
        )


def _print_notes(answer: Hits, model: str) -> None:
    """Report words that were left out, and texts that were split."""
    if (searched := answer.query) is None:
        output.note(f"the {model} model has learned none of these words: found by the words alone")
        return
    print_left_out(searched.left_out, model)
    for part, windows in zip(searched.query.parts, searched.windows, strict=True):
        if part.modality is Modality.TEXT and windows > 1:
            output.note(
                f"the text is longer than the {model} model reads at once: "
                f"searched with the mean of {windows} windows"
            )
