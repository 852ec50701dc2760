"""What a page lists: the results of its query or, without one, items; the answer that the templates show."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import numpy as np

from xsearch.query import as_modalities
from xsearch.serve import items, tiles
from xsearch.serve.address import Address
from xsearch.serve.contract import MAX_TOP, Hit, Item, SearchRequest, SearchResponse
from xsearch.serve.folds import Fold, folded
from xsearch.serve.visit import Visit
from xsearch.types import Modality

__all__ = ["listing"]

PAGE = 48  # tiles that come at once
COLUMN = 24  # in the column of a kind
AMONG = 500  # best hits that are put in the order of their dates
SPREAD = 2_654_435_761  # 2^32 divided by the golden ratio: neighbours get far apart
DEEPER = 3  # hits are fetched for each tile, as some are folded


async def listing(visit: Visit, offset: int) -> dict[str, Any]:
    """What `results.html.jinja` shows, and the name of the query."""
    address = visit.address
    if address.view == "map":
        return await visit.listing(_map)
    if not address.terms:
        return await visit.listing(_items, offset)
    if address.view == "kinds":
        return await _columns(visit)
    answer, found = await _found(visit, offset)
    shown = found[offset : offset + PAGE]
    has_more = len(found) > offset + PAGE
    count = len(found[: offset + PAGE])
    return _listed(visit, shown, offset, has_more) | {
        "name": answer.query.name,
        "beyond": answer.nearest_expected is not None,
        "remark": _remark(visit, answer),
        "announce": visit.t(
            "announce.none" if not count else "announce.more" if has_more else "announce", n=count
        ),
    }


def _remark(visit: Visit, answer: SearchResponse) -> tuple[str, str] | None:
    """What to know of the answer, in a few words, and why; None for one with something like the query."""
    if answer.missing_shards:
        return visit.t("partial"), visit.t("partial.shards", n=len(answer.missing_shards))
    times = answer.nearest_expected
    if answer.found or times is None:
        return None
    is_near = any(not hit.by_chance for hit in answer.hits)  # of its own kind, but there are others
    words = visit.t("none.perhaps" if is_near else "none.like")
    return words, visit.t("none.chance", times=tiles.figure(times))


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
        anyway=address.anyway,
        top=AMONG if address.sort else min(needed * DEEPER if address.fold else needed, MAX_TOP),
    )
    while True:
        answer = await visit.search(request)
        hits = [hit for hit in answer.hits if not is_cut or _is_within(hit, address)]
        if address.fold:
            found = await visit.server.work(folded, hits, visit.held.view().snapshot)
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
        "beyond": False,
        "folds": {id: {"count": count, "href": unfolded} for id, count in counts.items() if count},
        "remark": None,
    }


def _items(visit: Visit, offset: int) -> dict[str, Any]:
    address = visit.address
    if address.view == "kinds":
        columns = [(str(kind), _browsed(visit, [kind], 0, COLUMN)[0]) for kind in visit.kinds]
        return {"columns": columns, "remark": None}
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
    ids = ids[np.argsort(ids * SPREAD % (1 << 32), kind="stable")]  # the same at each visit
    mixed = ids[_mixed(snapshot.kinds[snapshot.rows(ids)])]
    shown = held.items(snapshot, mixed[offset : offset + top])
    return [items.item(held, each) for each in shown], len(ids)


def _mixed(kinds: np.ndarray) -> np.ndarray:
    """Order rows so that each kind comes as often as the root of its count, at first: int64 [n].

    >>> _mixed(np.array([1, 1, 1, 1, 1, 1, 1, 1, 1, 0])).tolist()
    [0, 1, 9, 2, 3, 4, 5, 6, 7, 8]
    """
    place = np.empty(len(kinds))
    for kind in np.unique(kinds):
        rows = np.flatnonzero(kinds == kind)
        place[rows] = (np.arange(len(rows)) + 0.5) / len(rows) ** 0.5
    return np.argsort(place, kind="stable")


async def _columns(visit: Visit) -> dict[str, Any]:
    address, kinds = visit.address, visit.kinds
    asked = [
        SearchRequest(
            parts=[term.part for term in address.terms],
            modality=[kind],
            where=visit.where,
            rank=address.rank,
            unique=address.fold,
            exclude_self=True,
            anyway=address.anyway,
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
    partial = max(answers, key=lambda answer: len(answer.missing_shards))
    return {
        "columns": columns,
        "name": answers[0].query.name,
        "announce": visit.t("announce", n=count),
        "remark": _remark(visit, partial) if partial.missing_shards else None,
    }


def _map(visit: Visit) -> dict[str, Any]:
    address = visit.address
    asked = [("modality", str(kind)) for kind in address.kind]
    asked += [("where", where)] if (where := visit.where) else []
    asked += [("collection", address.collection)] if address.collection else []
    return {"map_url": f"/v1/map?{urlencode(asked)}", "map_parts": json.dumps(address.parts)}
