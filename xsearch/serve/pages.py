"""The page: what its address asks for, rendered. The modules in `static` make links and forms work in place.

/              results or items, as a list, in a column for each kind, or on the map
/more          the tiles that follow
/facets        what there is to filter by
/item/{id}     the panel of an item; /near/{id}: its neighbours of every kind
/tokens.css    colours, type and radii, which saved pages have too
"""

from __future__ import annotations

import asyncio
import json
import math
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from os.path import commonpath
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

from xsearch import gallery
from xsearch.errors import XsearchError
from xsearch.query import as_modalities
from xsearch.serve import facets, tiles
from xsearch.serve.address import Address
from xsearch.serve.contract import MAX_TOP, Facet, ItemDetail, Part, Problem, SearchRequest, SearchResponse
from xsearch.serve.problems import Refusal, refusal
from xsearch.serve.results import listing
from xsearch.serve.routes.items import item as describe
from xsearch.serve.visit import Chip, Visit, joined
from xsearch.types import Modality

__all__ = ["Static", "router"]

STRIP = 8  # neighbours of one kind
VALUES = 50  # of a facet

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)


@router.get("/")
async def page(request: Request) -> Response:
    """The page of an address; with a problem in place of results if they cannot be had."""
    status = 200
    try:
        visit = Visit(request)
        listed = await listing(visit, 0)
    except (XsearchError, Refusal) as error:
        problem = (error if isinstance(error, Refusal) else refusal(error)).problem
        if problem.type.endswith(":no-collection"):
            visit = Visit(request, Address())
        status, listed = problem.status, {"problem": _explained(visit, problem)}
    chips = [chip for chip in visit.chips if chip.term in visit.address.p]
    name = listed.pop("name", "") or _formula(visit.chips, always=True)
    title = visit.t("title", name=name) if name else visit.t("title.home")
    panel: dict[str, Any] = {}
    if visit.address.item is not None:
        panel = await _panel(visit, visit.address.item)
    counts = visit.counts
    content = {
        "title": title,
        "name": name,
        "home": Address(collection=visit.address.collection).url(),
        "theme": visit.theme,
        "collection": visit.held.name,
        "collections": _collections(visit),
        "chips": chips,
        "formula": _formula(visit.chips),
        "drawn": json.dumps(visit.address.parts) if visit.draws else "",
        "kinds": [(str(kind), f"{counts[kind]:,}") for kind in Modality if counts.get(kind)],
        "ranked_kinds": list(map(str, visit.kinds)),
        "total": sum(counts.values()),
        "ingest": shlex.join(["xsearch", "ingest", "./media", "-c", visit.held.collection.place]),
        "announce": "",
        "chosen": _filters(visit),
        "filters_url": visit.address.url("/facets", item=None),
        "level": _level,
    }
    return visit.rendered("page.html.jinja", status, **(content | listed | panel))


@router.get("/more")
async def more(request: Request, offset: int = 0) -> Response:
    """The tiles from `offset` on; none where there is a problem, as the page has said what it is."""
    visit = Visit(request)
    try:
        listed = await listing(visit, min(max(offset, 0), MAX_TOP))
    except (XsearchError, Refusal):
        return HTMLResponse("")
    return visit.rendered("more.html.jinja", **({"next": None, "hits": []} | listed))


@router.get("/facets")
async def filters(request: Request) -> Response:
    """Columns with their values, how many items have each, and links that select them."""
    visit = Visit(request)
    try:
        listed = await visit.listing(_facets)
    except (XsearchError, Refusal):
        listed = []
    return visit.rendered("facets.html.jinja", facets=listed)


@router.get("/item/{id}")
async def item(request: Request, id: int) -> Response:
    """The panel of an item."""
    visit = Visit(request)
    return visit.rendered("panel.html.jinja", **await _panel(visit, id))


@router.get("/near/{id}")
async def near(request: Request, id: int) -> Response:
    """The items of every kind that are nearest to an item."""
    visit = Visit(request)
    kinds = [kind for kind, count in visit.counts.items() if count]
    asked = [
        SearchRequest(parts=[Part(item=id)], modality=[kind], top=STRIP, unique=True, exclude_self=True)
        for kind in kinds
    ]
    answers = await asyncio.gather(*map(visit.search, asked), return_exceptions=True)
    found = [
        (str(kind), answer.hits)
        for kind, answer in zip(kinds, answers, strict=True)
        if isinstance(answer, SearchResponse) and answer.hits
    ]
    return visit.rendered("near.html.jinja", near=found)


@router.get("/tokens.css")
def tokens() -> Response:
    """The design tokens, which belong to `gallery`."""
    environment = gallery.environment()
    assert environment.loader is not None
    style = environment.loader.get_source(environment, "tokens.css")[0]
    return Response(style, media_type="text/css", headers={"cache-control": "no-cache"})


class Static(StaticFiles):
    """Files of the page, which browsers keep and ask about."""

    def file_response(self, *args: Any, **options: Any) -> Response:
        response = super().file_response(*args, **options)
        response.headers["cache-control"] = "no-cache"
        return response


def _facets(visit: Visit) -> list[dict[str, Any]]:
    """Facets of what passes all filters but those of their own column."""
    address, listed = visit.address, []
    snapshot = visit.held.view().snapshot
    for column in facets.default_columns(snapshot):
        if column == "kind":  # has its own links
            continue
        others = tuple(each for each in address.f if each[0] != column)
        where = joined(visit.held, others, address.where)
        ids = snapshot.select(where, as_modalities(address.kind or None))
        facet = facets.counted(snapshot, ids, column, VALUES)
        listed.append(_facet(visit, facet))
    shown = [facet for facet in listed if facet["choices"]]
    return shown + [_range(visit, *each) for each in facets.ranges(snapshot).items()]


def _range(visit: Visit, column: str, ends: tuple[float, float]) -> dict[str, Any]:
    """A facet of two numbers that are typed, with the least and the greatest that there are."""
    chosen = next((value for name, value in visit.address.f if name == column), "")
    low, _, high = chosen.partition("..")
    return {
        "title": _titled(visit, column),
        "column": column,
        "ends": [f"{end:.4g}" if isinstance(end, float) else str(end) for end in ends],
        "chosen": (low, high),
    }


def _facet(visit: Visit, facet: Facet) -> dict[str, Any]:
    """A facet with its links; folders without what all of them are below."""
    local = [choice.value for choice in facet.values if choice.value.startswith("/")]
    root = commonpath(local) if facet.column == "folder" and local else ""
    choices: list[dict[str, Any]] = [
        {
            "label": choice.value.removeprefix(root).lstrip("/")
            if root
            else tiles.value(facet.column, choice.value),
            "value": choice.value,
            "count": f"{choice.count:,}",
            "href": visit.address.toggled("f", (facet.column, choice.value)),
            "on": (facet.column, choice.value) in visit.address.f,
        }
        for choice in facet.values
        if not root or choice.value != root  # which all are below
    ]
    with suppress(ValueError):  # texts stay in the order of their counts
        choices.sort(key=lambda choice: float(choice["value"]))
    return {"title": _titled(visit, facet.column), "choices": choices, "others": facet.others}


def _titled(visit: Visit, column: str) -> str:
    return visit.t.title(f"facet.{column}", column.replace("_", " "))


def _filters(visit: Visit) -> list[dict[str, str]]:
    """The facets that are chosen, and the links without them."""
    return [
        {
            "label": value.rpartition("/")[2]
            if column == "folder"
            else tiles.value(column, value).replace("..", " … "),
            "title": _titled(visit, column),
            "href": visit.address.toggled("f", (column, value)),
        }
        for column, value in visit.address.f
    ]


async def _panel(visit: Visit, id: int) -> dict[str, Any]:
    try:
        described = await describe(id, visit.server, visit.held)
    except Refusal as error:
        return {"missing": error.problem}
    detail = ItemDetail.model_validate_json(bytes(described.body))
    return {"detail": detail, "timeline": tiles.timeline(detail)}


def _formula(chips: Sequence[Chip], *, always: bool = False) -> str:
    """Return the query in one line; unless `always`, "" for one part of weight 1, which says it all."""
    if len(chips) == 1 and chips[0].weight == 1 and not always:
        return ""
    terms: list[str] = []
    for chip in chips:
        sign = "−" if chip.weight < 0 else "+" if terms else ""
        factor = "" if abs(chip.weight) == 1 else f"{abs(chip.weight):g} ×"
        terms += [sign, factor, f"“{chip.label}”" if chip.term.source == "text" else chip.label]
    return " ".join(filter(None, terms))


def _explained(visit: Visit, problem: Problem) -> dict[str, Any]:
    """A problem with what to do about it."""
    address, actions, title, detail = visit.address, list[dict[str, str]](), problem.title, problem.detail
    more: Mapping[str, Any] = problem.model_extra or {}
    actions += [
        {"label": near, "href": address.url(q=near, p=(), item=None)}
        for near in list(more.get("near", ()))[:4]
    ]
    if problem.type.endswith(":unknown-words"):
        title, detail = visit.t("problem.unknown"), visit.t("problem.words")
        actions.append({"label": visit.t("problem.anyway"), "href": address.url(anyway=True, item=None)})
    if gone := [chip.term for chip in visit.chips if chip.problem]:
        kept = tuple(term for term in address.p if term not in gone)
        actions.append({"label": visit.t("problem.without"), "href": address.url(p=kept, item=None)})
    if address.where or address.f:
        actions.append({"label": visit.t("none.reset"), "href": address.url(where="", f=(), item=None)})
    home = Address(collection=address.collection).url()
    actions.append({"label": visit.t("problem.start"), "href": home})
    return {"title": title, "detail": detail, "actions": actions}


def _collections(visit: Visit) -> list[dict[str, str]]:
    """The collections of the server, the first without its name in the address."""
    return [
        {
            "name": held.name,
            "count": f"{len(held.collection.snapshot()):,}",
            "href": Address(collection="" if held is visit.server.shelf.first else held.name).url(),
        }
        for held in visit.server.shelf
    ]


def _level(bound: float) -> float:
    """Return where a slider of the cut-off stands: the logarithm, beyond its end for no limit."""
    return 2.1 if bound > 112 else round(max(math.log10(max(bound, 1e-9)), -3.0), 1)
