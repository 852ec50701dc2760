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
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from os.path import commonpath
from typing import Any
from urllib.parse import urlencode

import numpy as np
from fastapi import APIRouter, Request, Response
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

from xsearch import gallery
from xsearch.errors import XsearchError
from xsearch.query import as_modalities
from xsearch.serve import facets, items, tiles
from xsearch.serve.address import Address, Term
from xsearch.serve.contract import (
    MAX_TOP,
    Facet,
    Hit,
    Item,
    ItemDetail,
    Part,
    Problem,
    SearchRequest,
    SearchResponse,
)
from xsearch.serve.folds import Fold, folded
from xsearch.serve.problems import Refusal, refusal
from xsearch.serve.routes.items import item as describe
from xsearch.serve.server import Server
from xsearch.serve.shelf import Held
from xsearch.serve.texts import Texts, preferred
from xsearch.store import Snapshot
from xsearch.types import Modality

__all__ = ["Static", "router"]

PAGE = 48  # tiles that come at once
COLUMN = 24  # in the column of a kind
STRIP = 8  # neighbours of one kind
AMONG = 500  # best hits that are put in the order of their dates
VALUES = 50  # of a facet
SPREAD = 2_654_435_761  # 2^32 divided by the golden ratio: neighbours get far apart
DEEPER = 3  # hits are fetched for each tile, as some are folded
WORD = re.compile(r"\w{3,}")

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)


@router.get("/")
async def page(request: Request) -> Response:
    """The page of an address; with a problem in place of results if they cannot be had."""
    status, results = 200, dict[str, Any]()
    try:
        visit = Visit(request)
        results = await _results(visit, 0)
    except (XsearchError, Refusal) as error:
        problem = (error if isinstance(error, Refusal) else refusal(error)).problem
        if problem.type.endswith(":no-collection"):
            visit = Visit(request, Address())
        status, results = problem.status, {"problem": _explained(visit, problem)}
    chips = [chip for chip in visit.chips if chip.term in visit.address.p]
    name = results.pop("name", "") or _formula(visit.chips, always=True)
    title = visit.t("title", name=name) if name else visit.t("title.home")
    panel: dict[str, Any] = {}
    if visit.address.item is not None:
        panel = await _panel(visit, visit.address.item)
    counts = visit.held.view().snapshot.counts()
    content = {
        "title": title,
        "name": name,
        "home": Address(collection=visit.address.collection).url(),
        "theme": visit.theme,
        "collection": visit.held.name,
        "collections": _collections(visit),
        "chips": chips,
        "formula": _formula(visit.chips),
        "kinds": [(str(kind), f"{counts[kind]:,}") for kind in Modality if counts.get(kind)],
        "ranked_kinds": [str(kind) for kind in Modality if counts.get(kind) and _may_answer(visit, kind)],
        "total": sum(counts.values()),
        "announce": "",
        "filters_url": visit.address.url("/facets", item=None),
        "level": _level,
    }
    return visit.rendered("page.html.jinja", status, **(content | results | panel))


@router.get("/more")
async def more(request: Request, offset: int = 0) -> Response:
    """The tiles from `offset` on; none where there is a problem, as the page has said what it is."""
    visit = Visit(request)
    try:
        results = await _results(visit, min(max(offset, 0), MAX_TOP))
    except (XsearchError, Refusal):
        return HTMLResponse("")
    return visit.rendered("more.html.jinja", **({"next": None, "hits": []} | results))


@router.get("/facets")
async def filters(request: Request) -> Response:
    """Columns with their values, how many items have each, and links that select them."""
    visit = Visit(request)
    try:
        listed = await run_in_threadpool(_facets, visit)
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
    kinds = [kind for kind, count in visit.held.view().snapshot.counts().items() if count]
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


@dataclass(frozen=True, slots=True)
class Chip:
    """A part of the query, as the search bar shows it."""

    term: Term
    kind: str
    label: str
    preview: str | None = None
    problem: str = ""

    @property
    def source(self) -> str:
        return str(replace(self.term, weight=1.0))

    @property
    def weight(self) -> float:
        return self.term.weight


class Visit:
    """A request for a page: its address, its collection, the language and theme of who asks."""

    def __init__(self, request: Request, address: Address | None = None) -> None:
        self.server: Server = request.app.state.server
        self.address = Address.read(request.query_params) if address is None else address
        self.held: Held = self.server.shelf.get(self.address.collection or None)
        language = preferred(request.cookies.get("language"), request.headers.get("accept-language", ""))
        self.t = Texts.of(language)
        theme = request.cookies.get("theme")
        self.theme = theme if theme in ("light", "dark") else ""

    async def search(self, request: SearchRequest) -> SearchResponse:
        """Answer a request, through the batches that all requests share."""
        return SearchResponse.model_validate_json(await self.server.search.answer(self.held, request))

    @cached_property
    def where(self) -> str | None:
        """The filters of the address, as one expression."""
        return _joined(self.held, self.address.f, self.address.where)

    @cached_property
    def chips(self) -> list[Chip]:
        """All parts of the query with what they are called, the typed text too."""
        return list(map(self._chip, self.address.terms))

    def _chip(self, term: Term) -> Chip:
        try:
            match term.source:
                case "item":
                    found = items.item(self.held, self.held.item(self.held.view().snapshot, int(term.value)))
                    shown = found.preview and linked(found.preview, size=128)
                    is_drawn = found.modality is not Modality.TEXT
                    return Chip(term, str(found.modality), found.name, shown if is_drawn else None)
                case "upload":
                    stored = self.server.uploads.get(term.value)
                    shown = linked(f"/v1/uploads/{term.value}/preview", size=128)
                    is_drawn = stored.kind is not Modality.TEXT
                    return Chip(term, str(stored.kind), stored.name, shown if is_drawn else None)
        except Refusal as error:
            label = {"item": f"item {term.value}", "upload": self.t("kind.one.file")}[term.source]
            known = self.t("bar.expired") if term.source == "upload" else error.problem.title
            return Chip(term, "file", label, problem=known)
        return Chip(term, "text", term.value)

    def rendered(self, template: str, status: int = 200, **content: Any) -> HTMLResponse:
        """Render a template with what every one of them may use."""
        words = [word for text in self._texts for word in WORD.findall(text)]
        asked = f"?{urlencode({'collection': self.address.collection})}" if self.address.collection else ""
        known = {
            "t": self.t,
            "address": self.address,
            "asked": asked,
            "marked": partial(tiles.marked, words=words),
            "similar": self._similar,
            "scores": partial(tiles.scores, t=self.t),
            "facts": partial(tiles.facts, t=self.t),
        }
        html = templates().get_template(template).render(known | content)
        return HTMLResponse(_printable(html), status, {"cache-control": "no-store", "vary": "Cookie"})

    @property
    def _texts(self) -> list[str]:
        return [term.value for term in self.address.terms if term.source == "text" and term.weight > 0]

    def _similar(self, id: int) -> str:
        return Address(p=(Term("item", str(id)),), collection=self.address.collection).url()


@cache
def templates() -> Environment:
    """Return the environment of the page's templates."""
    environment = Environment(
        loader=PackageLoader("xsearch.serve"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    shown = ("box", "clock", "fragment", "length", "ratio", "window")
    environment.globals |= {name: getattr(tiles, name) for name in shown} | {"linked": linked}
    return environment


def linked(link: str, **parameters: Any) -> str:
    """Return a link of the server with further parameters.

    >>> linked("/v1/items/3/preview?collection=a", size=400)
    '/v1/items/3/preview?collection=a&size=400'
    """
    return f"{link}{'&' if '?' in link else '?'}{urlencode(parameters)}"


async def _results(visit: Visit, offset: int) -> dict[str, Any]:
    """What `results.html.jinja` shows, and the name of the query."""
    address = visit.address
    if address.view == "map":
        return await run_in_threadpool(_map, visit)
    if not address.terms:
        return await run_in_threadpool(_items, visit, offset)
    if address.view == "kinds":
        return await _columns(visit)
    answer, found = await _found(visit, offset)
    shown = found[offset : offset + PAGE]
    has_more = len(found) > offset + PAGE
    count = len(found[: offset + PAGE])
    times = answer.nearest_expected
    return _listed(visit, shown, offset, has_more) | {
        "name": answer.query.name,
        "remark": "" if answer.found or times is None else visit.t("none.chance", times=tiles.figure(times)),
        "announce": visit.t(
            "announce.none" if not count else "announce.more" if has_more else "announce", n=count
        ),
    }


async def _found(visit: Visit, offset: int) -> tuple[SearchResponse, list[Fold]]:
    """Return an answer and its hits from the first to one more than are shown, folded, within the cut."""
    address, needed = visit.address, offset + PAGE + 1
    is_cut = address.beyond == "hide" or address.sort is not None
    bound = max(address.cut_of(kind) for kind in Modality)
    request = SearchRequest(
        parts=[term.part for term in address.terms],
        modality=list(address.kind) or None,
        where=visit.where,
        rank=address.rank,
        max_expected=bound if is_cut and math.isfinite(bound) else None,
        sort=address.sort,
        among=AMONG if address.sort else None,
        exclude_self=True,
        top=AMONG if address.sort else min(needed * DEEPER if address.fold else needed, MAX_TOP),
    )
    while True:
        answer = await visit.search(request)
        hits = [hit for hit in answer.hits if not is_cut or _is_within(hit, address)]
        if address.fold:
            found = await run_in_threadpool(folded, hits, visit.held.view().snapshot)
        else:
            found = [Fold(hit, 0) for hit in hits]
        if len(found) >= needed or not answer.more or request.top >= MAX_TOP or address.sort:
            return answer, found
        request = request.model_copy(update={"top": min(2 * request.top, MAX_TOP)})


def _is_within(hit: Hit, address: Address) -> bool:
    return hit.expected is None or hit.bm25 is not None or hit.expected <= address.cut_of(hit.modality)


def _listed(visit: Visit, shown: Sequence[Fold], offset: int, has_more: bool) -> dict[str, Any]:
    address, following = visit.address, offset + PAGE
    query = urlencode([*replace(address, item=None).parameters, ("offset", str(following))])
    counts = {fold.hit.id: fold.count for fold in shown}
    unfolded = address.url(fold=False, item=None)
    return {
        "hits": [fold.hit for fold in shown],
        "next": f"/more?{query}" if has_more else None,
        "folds": {id: {"count": count, "href": unfolded} for id, count in counts.items() if count},
        "remark": "",
    }


def _items(visit: Visit, offset: int) -> dict[str, Any]:
    address = visit.address
    if address.view == "kinds":
        return {"columns": [(str(kind), _browsed(visit, [kind], 0, COLUMN)[0]) for kind in _kinds(visit)]}
    shown, count = _browsed(visit, list(address.kind), offset, PAGE)
    return _listed(visit, [Fold(each, 0) for each in shown], offset, offset + PAGE < count) | {
        "count": count,
        "announce": visit.t("announce" if count else "announce.none", n=count),
    }


def _browsed(visit: Visit, kinds: Sequence[Modality], offset: int, top: int) -> tuple[Sequence[Item], int]:
    """Return items without a query and how many there are: by date, or by default a bit of everything."""
    held, sort = visit.held, visit.address.sort
    if sort is not None:
        page = items.browse(held, modality=kinds, where=visit.where, sort=sort, top=top, offset=offset)
        return page.items, page.count
    snapshot = held.view().snapshot
    ids = snapshot.select(visit.where, as_modalities(kinds or None))
    mixed = ids[np.argsort(ids * SPREAD % (1 << 32), kind="stable")]  # the same at each visit
    shown = held.items(snapshot, mixed[offset : offset + top])
    return [items.item(held, each) for each in shown], len(ids)


async def _columns(visit: Visit) -> dict[str, Any]:
    address, kinds = visit.address, _kinds(visit)
    asked = [
        SearchRequest(
            parts=[term.part for term in address.terms],
            modality=[kind],
            where=visit.where,
            rank=address.rank,
            unique=address.fold,
            exclude_self=True,
            top=COLUMN,
        )
        for kind in kinds
    ]
    answers = await asyncio.gather(*map(visit.search, asked))
    columns = [
        (str(kind), [hit for hit in answer.hits if address.beyond == "dim" or _is_within(hit, address)])
        for kind, answer in zip(kinds, answers, strict=True)
    ]
    count = sum(len(hits) for _, hits in columns)
    return {"columns": columns, "name": answers[0].query.name, "announce": visit.t("announce", n=count)}


def _joined(held: Held, chosen: Iterable[tuple[str, str]], where: str) -> str | None:
    """Return one expression: any of the chosen values of each column, and a further expression."""
    columns: dict[str, list[str]] = {}
    for column, value in chosen:
        columns.setdefault(column, []).append(_selecting(held.view().snapshot, column, value))
    wheres = [" OR ".join(f"({each})" for each in some) for some in columns.values()]
    wheres += [where] if where else []
    return " AND ".join(f"({each})" for each in wheres) or None


def _selecting(snapshot: Snapshot, column: str, value: str) -> str:
    """Return the expression for the items with this value."""
    choices = facets.counted(snapshot, snapshot.ids, column, len(snapshot)).values
    return next((choice.where for choice in choices if choice.value == value), "FALSE")


def _kinds(visit: Visit) -> list[Modality]:
    counts = visit.held.view().snapshot.counts()
    return [kind for kind in Modality if counts.get(kind) and _may_answer(visit, kind)]


def _may_answer(visit: Visit, kind: Modality) -> bool:
    return not visit.address.kind or kind in visit.address.kind


def _map(visit: Visit) -> dict[str, Any]:
    address = visit.address
    asked = [("modality", str(kind)) for kind in address.kind]
    asked += [("where", where)] if (where := visit.where) else []
    asked += [("collection", address.collection)] if address.collection else []
    parts = [term.part.model_dump(exclude_none=True, mode="json") for term in address.terms]
    return {"map_url": f"/v1/map?{urlencode(asked)}", "map_parts": json.dumps(parts)}


def _facets(visit: Visit) -> list[dict[str, Any]]:
    """Facets of what passes all filters but those of their own column."""
    address, listed = visit.address, []
    snapshot = visit.held.view().snapshot
    for column in facets.default_columns(snapshot):
        if column == "kind":  # has its own links
            continue
        others = tuple(each for each in address.f if each[0] != column)
        where = _joined(visit.held, others, address.where)
        ids = snapshot.select(where, as_modalities(address.kind or None))
        facet = facets.counted(snapshot, ids, column, VALUES)
        if facet.values:
            listed.append(_facet(visit, facet))
    return listed


def _facet(visit: Visit, facet: Facet) -> dict[str, Any]:
    """A facet with its links; folders without what all of them begin with."""
    local = [choice.value for choice in facet.values if choice.value.startswith("/")]
    root = f"{commonpath(local)}/" if facet.column == "folder" and local else ""
    choices = [
        {
            "label": choice.value.removeprefix(root) or choice.value,
            "count": f"{choice.count:,}",
            "href": visit.address.toggled("f", (facet.column, choice.value)),
            "on": (facet.column, choice.value) in visit.address.f,
        }
        for choice in facet.values
    ]
    title = visit.t.title(f"facet.{facet.column}", facet.column.replace("_", " "))
    return {"title": title, "choices": choices, "others": facet.others}


async def _panel(visit: Visit, id: int) -> dict[str, Any]:
    try:
        described = await describe(id, visit.server, visit.held)
    except Refusal as error:
        return {"missing": error.problem}
    detail = ItemDetail.model_validate_json(bytes(described.body))
    near = linked(
        f"/near/{id}", **({"collection": visit.address.collection} if visit.address.collection else {})
    )
    return {"detail": detail, "timeline": tiles.timeline(detail), "near_url": near}


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
    address, actions = visit.address, list[dict[str, str]]()
    more: Mapping[str, Any] = problem.model_extra or {}
    actions += [
        {"label": near, "href": address.url(q=near, p=(), item=None)}
        for near in list(more.get("near", ()))[:4]
    ]
    if gone := [chip.term for chip in visit.chips if chip.problem]:
        kept = tuple(term for term in address.p if term not in gone)
        actions.append({"label": visit.t("problem.without"), "href": address.url(p=kept, item=None)})
    if address.where or address.f:
        actions.append({"label": visit.t("none.reset"), "href": address.url(where="", f=(), item=None)})
    home = Address(collection=address.collection).url()
    actions.append({"label": visit.t("problem.anyway"), "href": home})
    return {"title": problem.title, "detail": problem.detail, "actions": actions}


def _collections(visit: Visit) -> list[dict[str, str]]:
    """The collections of the server, the first without its name in the address."""
    return [
        {
            "name": held.name,
            "items": f"{len(held.collection.snapshot()):,}",
            "href": Address(collection="" if held is visit.server.shelf.first else held.name).url(),
        }
        for held in visit.server.shelf
    ]


def _level(bound: float) -> float:
    """Return where a slider of the cut-off stands: the logarithm, beyond its end for no limit."""
    return 2.1 if bound > 112 else round(max(math.log10(max(bound, 1e-9)), -3.0), 1)


def _printable(html: str) -> str:
    """Return HTML without control characters, and without the surrogates of names that are not UTF-8."""
    return re.sub("(?![\t\n])[\x00-\x1f\x7f-\x9f\ud800-\udfff]", "\ufffd", html)
