"""`generate`: draw pictures of one medium, or of a sum of several."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xsearch.cli import hits, options, output
from xsearch.cli.query import composition, takes_terms
from xsearch.errors import NoCollection, UsageError

if TYPE_CHECKING:
    from xsearch import Collection, Model
    from xsearch.generate import Drawn
    from xsearch.query import Query

__all__ = ["generate"]


@takes_terms(before="from_item")
def generate(
    ctx: typer.Context,
    from_item: Annotated[
        list[int] | None,
        typer.Option("--from-item", min=0, metavar="N", help="Start from this item of the collection."),
    ] = None,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="PATH", help="A .png file; or a folder, for files SEED.png."),
    ] = Path("generated"),
    count: Annotated[int, typer.Option("--count", min=1, max=1000, metavar="N", help="Pictures.")] = 1,
    seed: Annotated[
        int, typer.Option("--seed", min=0, metavar="N", help="Of the first picture; the next has the next.")
    ] = 0,
    steps: Annotated[
        int | None,
        typer.Option("--steps", min=1, max=1000, metavar="N", help="More are slower, and finer to a point."),
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option("--guidance", min=0, metavar="X", help="1: none; more is clearer and less varied."),
    ] = None,
    candidates: Annotated[
        int | None,
        typer.Option(
            "--candidates",
            min=1,
            max=64,
            metavar="N",
            help="Drawn for each picture; the one nearest to the query is kept.",
        ),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option("--size", min=8, max=4096, metavar="N", help="Pixels of the side; bundled: resampled."),
    ] = None,
    decoder: Annotated[
        str | None,
        typer.Option(
            "--decoder",
            metavar="NAME",
            help="bundled, a folder of a decoder or of a diffusers pipeline, or an id in the cache of "
            "huggingface_hub.",
        ),
    ] = None,
    ip_adapter: Annotated[
        Path | None,
        typer.Option("--ip-adapter", metavar="FILE", help="IP-Adapter for a Stable Diffusion pipeline."),
    ] = None,
    norm: Annotated[
        str,
        typer.Option(
            "--norm",
            metavar="X",
            help="Length of the embedding for a pipeline: that of its checkpoint, official (that of the "
            "official ImageBind code), or a number.",
        ),
    ] = "checkpoint",
    then_search: Annotated[
        bool, typer.Option("--then-search", help="Search with the query, and with what was drawn.")
    ] = False,
    top: options.Top = 10,
    modality: options.Modalities = None,
    where: options.Where = None,
    anyway: options.Anyway = False,
    folder: options.Collection = options.NEAREST,
    model: options.Model = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    **terms: Any,
) -> None:
    """Draw pictures of texts and files of any kind, or of a sum.

    TERM, FILE and WORDS are those of xsearch compose. The same command draws the same pictures. Their files
    state the query. A collection is only needed for items, and for --then-search.
    """
    from xsearch.generate import load_decoder
    from xsearch.query import item

    params = ctx.params
    query = sum((item(id) for id in from_item or []), composition(params, folder))
    files = _files(out, range(seed, seed + count))
    has_item = any(isinstance(part.source, int) for part in query.parts)
    face = _face(ctx, is_needed=then_search or has_item)
    artist = load_decoder(decoder, ip_adapter=ip_adapter, norm=norm, device=device)
    start = time.perf_counter()
    names = ("count", "seed", "steps", "guidance", "candidates", "size")
    settings = {name: params[name] for name in names}

    def save(each: Drawn) -> None:
        each.save(files[each.seed - seed])

    with output.progress_bar("step") as progress:
        drawn = face.generate(query, decoder=artist, anyway=anyway, progress=progress, each=save, **settings)
    if len(query.parts) > 1:
        hits.print_parts(drawn[0].query)
    for each, file in zip(drawn, files, strict=True):
        output.say(str(file))
        if each.is_filtered:
            output.note(f"{file}: blackened by the safety filter of {artist.name}")
    took_s = time.perf_counter() - start
    output.note(f"{output.plural(len(drawn), 'picture')} drawn by {artist.name} in {took_s:.1f} s")
    if then_search:
        _search(face, query, drawn, params)


def _files(out: Path, seeds: range) -> list[Path]:
    """The file of each picture, in a folder that is there: checked before they are drawn."""
    if not out.suffix or out.is_dir():
        out.mkdir(parents=True, exist_ok=True)
        return [out / f"{seed}.png" for seed in seeds]
    if out.suffix.lower() != ".png":
        raise UsageError(f"--out {out}: pictures are written as .png; name such a file, or a folder")
    if len(seeds) > 1:
        raise UsageError(f"--out {out} is one file, and --count is {len(seeds)}; name a folder")
    options.writable(out)
    return [out]


def _face(ctx: typer.Context, *, is_needed: bool) -> Collection | Model:
    """The collection; a model alone where there is none, and where a model and no collection is named."""
    import xsearch

    folder, model = ctx.params["folder"], ctx.params["model"]
    computing = {"device": ctx.params["device"], "dtype": ctx.params["dtype"]}
    source = ctx.get_parameter_source("folder")
    is_needed = is_needed or (source is not None and source.name != "DEFAULT")
    if model is not None and not is_needed:
        return xsearch.load_model(model, **computing)
    try:
        return xsearch.open(folder, model, **computing)
    except NoCollection:
        if is_needed:
            raise
        return xsearch.load_model(model, **computing)


def _search(face: Any, query: Query, drawn: list[Drawn], params: Mapping[str, Any]) -> None:
    """Print the answers to the query, and to the sum of the pictures."""
    from xsearch import image
    from xsearch.query import Query

    pictures = sum((image(each.picture) for each in drawn), Query())
    chosen = {name: params[name] for name in ("where", "anyway")} | {"modality": params["modality"] or None}
    for title, what in (("the query", query), ("what was drawn", pictures)):
        output.say(f"Nearest to {title}:")
        hits.print_hits(face.search(what, params["top"], **chosen))
