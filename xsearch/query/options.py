"""Search options: which items may answer, how many, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xsearch.errors import UsageError
from xsearch.types import Match, Modality, Rank, Sort

__all__ = ["Options", "as_modalities"]

RANKS, MATCHES, SORTS = frozenset(Rank), frozenset(Match), frozenset(Sort)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of one search. Raises UsageError if they are invalid.

    top: the number of hits; fewer only if fewer items match.
    modality, where: which items may answer; `where` is one SQL expression over the item columns.
    rank: "cosine", or "balanced": spreads above the baseline cosine of the two modalities, so that none
        crowds out the others. With one modality to choose from, both give the same order. In both an item
        with (nearly) the query's own vector comes first, and texts of words that the model has not learned
        come last, unless the query is one of them.
    match: for queries that are one text, "meaning": the order by vectors alone; "words": the order of a
        full-text index, without a model; "both": the two fused. None: "both" if the rank is balanced.
        Other queries have no words to match.
    max_expected: leave out items if more of their modality would be as near by chance, unless their words
        match.
    unique: of items of one modality with the same bytes (windows of one file, copies) or nearly the same
        vector, keep the best.
    sort: put the `top` best in the order of their `taken_at`: "date", the newest first, or "-date".
    exclude_self: leave out the items of a query's own files and of their copies, `Embedded.own`.
    anyway: embed a text although the model has learned none of its words, and rank such items as all others.
    """

    top: int = 10
    modality: Modality | str | Sequence[Modality | str] | None = None
    where: str | None = None
    rank: Rank | str = Rank.BALANCED
    match: Match | str | None = None
    min_cosine: float | None = None
    max_expected: float | None = None
    unique: bool = False
    sort: Sort | str | None = None
    exclude_self: bool = False
    anyway: bool = False

    def __post_init__(self) -> None:
        if self.top < 1:
            raise UsageError(f"top: expected at least 1, got {self.top}")
        if self.rank not in RANKS:
            raise UsageError(f"rank: expected {' or '.join(Rank)}, got {self.rank!r}")
        if self.match is not None and self.match not in MATCHES:
            raise UsageError(f"match: expected {', '.join(Match)}; got {self.match!r}")
        if self.min_cosine is not None and not -1 <= self.min_cosine <= 1:
            raise UsageError(f"min_cosine: expected -1 to 1, got {self.min_cosine}")
        if self.sort is not None and self.sort not in SORTS:
            raise UsageError(f"sort: expected {' or '.join(Sort)}, got {self.sort!r}")
        if self.match == Match.WORDS and self.min_cosine is not None:
            raise UsageError("match: words alone have no cosine to be limited; match both")
        if self.max_expected is not None and not self.max_expected >= 0:
            raise UsageError(f"max_expected: expected 0 or more, got {self.max_expected}")
        as_modalities(self.modality)

    @property
    def modalities(self) -> list[Modality] | None:
        """The modalities that may answer, None for all."""
        return as_modalities(self.modality)

    @property
    def matching(self) -> Match:
        """`match`, or its default."""
        if self.match is None:
            return Match.MEANING if self.rank == Rank.COSINE else Match.BOTH
        return Match(self.match)


def as_modalities(names: Modality | str | Sequence[Modality | str] | None) -> list[Modality] | None:
    """One modality, several or none, or None for all, as a list. Raises UsageError for an unknown name."""
    if names is None:
        return None
    names = [names] if isinstance(names, str) else list(names)
    if unknown := [name for name in names if name not in tuple(Modality)]:
        raise UsageError(f"modality: expected {', '.join(Modality)}; got {unknown[0]!r}")
    return [Modality(name) for name in names]
