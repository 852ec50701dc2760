"""The address of the page, which is the query: what it searches for, among what, and how it is shown.

/?q=a+dog&p=0.5*upload:<id>&p=-1*item:17&kind=image&f=camera:Pixel+7&cut=audio:0.1&sort=date
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args
from urllib.parse import urlencode

from starlette.datastructures import QueryParams

from xsearch.serve.contract import MAX_ID, MAX_PARTS, MAX_TEXT, MAX_WEIGHT, Part
from xsearch.types import Modality, Rank, Sort

__all__ = ["CUT", "Address", "Layout", "Term"]

Layout = Literal["list", "kinds", "map"]
CUT = 1.0  # `expected` up to which a hit is shown in full: what `Hit.by_chance` says
TERM = re.compile(r"(?:(-?\d{1,7}(?:\.\d{1,6})?)\*)?(text|item|upload):(.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Term:
    """One part of the query, as `weight*source:value`."""

    source: Literal["text", "item", "upload"]
    value: str
    weight: float = 1.0

    @staticmethod
    def read(written: str) -> Term | None:
        """Parse a term; None if it is none.

        >>> Term.read("-0.5*text:a cage")
        Term(source='text', value='a cage', weight=-0.5)
        """
        match = TERM.fullmatch(written[: MAX_TEXT + 32])
        if match is None:
            return None
        weight, source, value = match.groups()
        is_valid = {
            "text": value.strip() != "" and len(value) <= MAX_TEXT,
            "item": re.fullmatch(r"\d{1,19}", value) is not None and int(value) <= MAX_ID,
            "upload": re.fullmatch(r"[0-9a-f]{32}", value) is not None,
        }
        factor = float(weight or 1)
        if not is_valid[source] or abs(factor) > MAX_WEIGHT:
            return None
        return Term(source, value, factor)  # type: ignore[arg-type]

    def __str__(self) -> str:
        factor = "" if self.weight == 1 else f"{self.weight:g}*"
        return f"{factor}{self.source}:{self.value}"

    @property
    def part(self) -> Part:
        """The same in the contract."""
        value = int(self.value) if self.source == "item" else self.value
        return Part.model_validate({self.source: value, "weight": self.weight})


@dataclass(frozen=True, slots=True)
class Address:
    """What the page shows. Every field is a parameter, left out where it has its default."""

    q: str = ""  # the text in the search bar
    p: tuple[Term, ...] = ()  # the other parts
    kind: tuple[Modality, ...] = ()  # none: all
    f: tuple[tuple[str, str], ...] = ()  # column and value of facets
    where: str = ""
    sort: Sort | None = None
    rank: Rank = Rank.BALANCED
    cut: dict[str, float] = field(
        default_factory=dict
    )  # the greatest `expected` by kind; "all" for the others
    beyond: Literal["dim", "hide"] = "dim"
    fold: bool = True  # near duplicates
    anyway: bool = False  # search for words that the model has not learned
    view: Layout = "list"
    item: int | None = None  # open in the panel
    collection: str = ""

    @staticmethod
    def read(parameters: QueryParams) -> Address:
        """Parse the parameters of a request. What cannot be understood is left out, as a page does."""
        one, many = parameters.get, parameters.getlist
        item = one("item", "")
        return Address(
            q=" ".join(one("q", "").split())[:MAX_TEXT],
            p=tuple(filter(None, map(Term.read, many("p"))))[: MAX_PARTS - 1],
            kind=tuple(kind for kind in Modality if kind in many("kind")),
            f=tuple(
                (column, value) for column, _, value in (each.partition(":") for each in many("f")) if column
            ),
            where=one("where", "").strip(),
            sort=next((sort for sort in Sort if sort == one("sort")), None),
            rank=next((rank for rank in Rank if rank == one("rank")), Rank.BALANCED),
            cut=dict(filter(None, map(_cut, many("cut")))),
            beyond="hide" if one("beyond") == "hide" else "dim",
            fold=one("fold") != "no",
            anyway=one("anyway") == "yes",
            view=next((view for view in get_args(Layout) if view == one("view")), "list"),
            item=int(item) if re.fullmatch(r"\d{1,19}", item) and int(item) <= MAX_ID else None,
            collection=one("collection", ""),
        )

    @property
    def terms(self) -> tuple[Term, ...]:
        """All parts, the typed text first."""
        return ((Term("text", self.q),) if self.q else ()) + self.p

    @property
    def parts(self) -> list[dict[str, Any]]:
        """The query, as the bodies of requests have it."""
        return [term.part.model_dump(exclude_none=True, mode="json") for term in self.terms]

    def cut_of(self, kind: str) -> float:
        """The greatest `expected` of this kind that is not beyond the cut."""
        return self.cut.get(kind, self.cut.get("all", CUT))

    @property
    def parameters(self) -> list[tuple[str, str]]:
        """Names and values, in the order of the fields."""
        pairs: list[tuple[str, str]] = []
        for each in fields(self):
            value = getattr(self, each.name)
            match value:
                case tuple():
                    texts = [":".join(one) if isinstance(one, tuple) else str(one) for one in value]
                    pairs += [(each.name, text) for text in texts]
                case dict():
                    pairs += [("cut", f"{kind}:{_figure(bound)}") for kind, bound in value.items()]
                case bool():
                    pairs += [(each.name, "yes" if value else "no")] if value != each.default else []
                case _ if value is not None and value != each.default:
                    pairs.append((each.name, str(value)))
        return pairs

    def url(self, path: str = "/", **changes: Any) -> str:
        """The link to the same page with some fields changed."""
        query = urlencode(replace(self, **changes).parameters)
        return f"{path}?{query}" if query else path

    def toggled(self, name: Literal["kind", "f"], value: Any) -> str:
        """The link that adds a kind or a facet's value, or takes it away."""
        values: Sequence[Any] = getattr(self, name)
        kept = tuple(each for each in values if each != value)
        changes: dict[str, Any] = {name: kept if len(kept) < len(values) else (*values, value)}
        return self.url(item=None, **changes)


def _cut(written: str) -> tuple[str, float] | None:
    kind, _, bound = written.rpartition(":")
    try:
        number = float(bound)
    except ValueError:
        return None
    if kind not in ("all", *Modality) or math.isnan(number) or number < 0:
        return None
    return kind, number


def _figure(bound: float) -> str:
    return f"{bound:g}"
