"""A request for a page: what its address names in a collection, and how templates render it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from typing import Any, TypeVar
from urllib.parse import urlencode

from fastapi import Request
from jinja2 import Environment, PackageLoader, StrictUndefined, Undefined
from starlette.responses import HTMLResponse

from xsearch.english import STOP_WORDS
from xsearch.serve import facets, items, tiles
from xsearch.serve.address import Address, Term
from xsearch.serve.contract import SearchRequest, SearchResponse
from xsearch.serve.problems import Refusal
from xsearch.serve.server import Server
from xsearch.serve.shelf import Held
from xsearch.serve.texts import Texts, preferred
from xsearch.store import Snapshot
from xsearch.types import Modality

__all__ = ["Chip", "Visit", "joined"]

T = TypeVar("T")

WORD = re.compile(r"\w{3,}")


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
    def counts(self) -> dict[Modality, int]:
        """How many items of each kind the collection has."""
        return self.held.view().snapshot.counts()

    @property
    def kinds(self) -> list[Modality]:
        """The kinds that may answer."""
        return [kind for kind in self.address.kind or Modality if self.counts.get(kind)]

    @property
    def draws(self) -> bool:
        """Whether there is a query, and a decoder to draw it with."""
        fingerprint = self.held.collection.snapshot().fingerprint
        return bool(self.address.terms) and self.server.drawings.draws(fingerprint)

    @cached_property
    def where(self) -> str | None:
        """The filters of the address, as one expression."""
        return joined(self.held, self.address.f, self.address.where)

    async def listing(self, function: Callable[..., T], *args: object) -> T:
        """Call `function(self, *args)` in the threads of filters, if the address has any."""
        is_filtered = bool(self.address.where or self.address.f)
        pool = self.server.search.filters if is_filtered else None
        return await self.server.work(function, self, *args, pool=pool)

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
        asked = f"?{urlencode({'collection': self.address.collection})}" if self.address.collection else ""
        known = {
            "t": self.t,
            "address": self.address,
            "no_limit": math.inf,
            "asked": asked,
            "marked": partial(tiles.marked, words=self._words),
            "similar": self._similar,
            "scores": partial(tiles.scores, t=self.t),
            "facts": partial(tiles.facts, t=self.t),
        }
        html = templates().get_template(template).render(known | content)
        return HTMLResponse(_printable(html), status, {"cache-control": "no-store", "vary": "Cookie"})

    @property
    def _words(self) -> list[str]:
        """The words of the query that are worth marking in a text."""
        texts = [term.value for term in self.address.terms if term.source == "text" and term.weight > 0]
        return [word for word in WORD.findall(" ".join(texts)) if word.lower() not in STOP_WORDS]

    def _similar(self, id: int) -> str:
        return Address(p=(Term("item", str(id)),), collection=self.address.collection).url()


@cache
def templates() -> Environment:
    """Return the environment of the page's templates."""
    environment = Environment(
        loader=PackageLoader("xsearch.serve"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        finalize=_printed,
    )
    shown = ("box", "caption", "clock", "doubled", "fragment", "length", "prose", "ratio", "window")
    environment.globals |= {name: getattr(tiles, name) for name in shown} | {"linked": linked}
    return environment


def _printed(value: object) -> object:
    """Return what a template prints. Raises TypeError for what nobody should read, such as a method."""
    if not isinstance(value, str | int | float | Undefined):  # of `a if b`
        raise TypeError(f"a template prints {value!r}")
    return value


def linked(link: str, **parameters: Any) -> str:
    """Return a link of the server with further parameters.

    >>> linked("/v1/items/3/preview?collection=a", size=400)
    '/v1/items/3/preview?collection=a&size=400'
    """
    return f"{link}{'&' if '?' in link else '?'}{urlencode(parameters)}"


def joined(held: Held, chosen: Iterable[tuple[str, str]], where: str) -> str | None:
    """Return one expression: any of the chosen values of each column, and a further expression."""
    columns: dict[str, list[str]] = {}
    for column, value in chosen:
        columns.setdefault(column, []).append(_selecting(held.view().snapshot, column, value))
    wheres = [" OR ".join(f"({each})" for each in some) for some in columns.values()]
    wheres += [where] if where else []
    return " AND ".join(f"({each})" for each in wheres) or None


def _selecting(snapshot: Snapshot, column: str, value: str) -> str:
    """Return the expression for the items with this value."""
    if (within := facets.between(snapshot, column, value)) is not None:
        return within
    choices = facets.counted(snapshot, snapshot.ids, column, len(snapshot)).values
    return next((choice.where for choice in choices if choice.value == value), "FALSE")


def _printable(html: str) -> str:
    """Return HTML without control characters, and without the surrogates of names that are not UTF-8."""
    return re.sub("(?![\t\n])[\x00-\x1f\x7f-\x9f\ud800-\udfff]", "\ufffd", html)
