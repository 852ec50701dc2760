"""Stored items as they are answered, and what of them may be sent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xsearch import media, types
from xsearch.media.files import guess
from xsearch.query import View, as_modalities
from xsearch.serve.contract import File, Hit, Item, ItemDetail, Items, Window
from xsearch.serve.media import media_type
from xsearch.serve.shelf import Held
from xsearch.types import Modality, Sort

__all__ = ["browse", "described", "detail", "hit", "item"]

DESCRIBED = (Modality.IMAGE, Modality.VIDEO, Modality.AUDIO)  # kinds of files whose captions are items
WINDOWS, COPIES = 1000, 100
_FIGURES = ("rank", "score", "cosine", "balanced", "expected", "bm25", "by_chance")


def item(held: Held, of: types.Hit) -> Item:
    """Return an item with its links."""
    return Item(**_fields(held, of))


def hit(held: Held, of: types.Hit) -> Hit:
    """Return a hit with its links."""
    return Hit(**_fields(held, of), **{name: getattr(of, name) for name in _FIGURES})


def _fields(held: Held, of: types.Hit) -> dict[str, Any]:
    is_sent = not of.is_imported and not media.is_url(of.path)
    is_drawn = of.modality is not Modality.TEXT or described(of) is not None
    can_draw = is_drawn and (is_sent or (held.trust and media.is_url(of.path)))
    return {
        "id": of.id,
        "modality": of.modality,
        "path": of.path,
        "name": of.path.rstrip("/").rpartition("/")[2] or of.path,  # a Path takes longer than all the rest
        "start_s": of.start_s,
        "end_s": of.end_s,
        "text": of.text,
        "extra": of.extra,
        "is_imported": of.is_imported,
        "media": held.link(f"items/{of.id}/media") if is_sent else None,
        "media_type": media_type(str(of.extra.get("mime") or "")) if is_sent else None,
        "preview": held.link(f"items/{of.id}/preview") if can_draw else None,
    }


def described(of: types.Hit) -> Modality | None:
    """The kind of the medium that a text describes; None if it is no caption."""
    kind = guess(Path(of.path)) if of.modality is Modality.TEXT else None
    return kind if kind in DESCRIBED else None


def detail(held: Held, view: View, of: types.Hit, *, plays: bool, problem: str) -> ItemDetail:
    """Return an item with what else the collection has of its file."""
    snapshot, extra = view.snapshot, of.extra
    (row,) = snapshot.items(np.array([of.id]), ["bytes", "mtime_ns", "sha256"]).to_pylist()
    same = snapshot.of_file(of.path, row["bytes"], row["mtime_ns"])
    copies = same[:0]
    if row["sha256"] and row["bytes"] is not None:
        copies = np.setdiff1d(snapshot.of_content(row["bytes"], lambda: str(row["sha256"])), same)
    file = File(
        path=of.path,
        folder=str(Path(of.path).parent),
        bytes=row["bytes"],
        duration_s=extra.get("duration_s"),
        windows=_windows(view, same[:WINDOWS]),
        copies=_windows(view, copies[:COPIES]),
    )
    return ItemDetail(
        **_fields(held, of),
        collection=held.name,
        generation=snapshot.manifest.generation,
        file=file,
        plays=plays,
        problem=problem,
    )


def _windows(view: View, ids: np.ndarray) -> list[Window]:
    rows = view.snapshot.items(ids, ["id", "modality", "start_s", "end_s"]).to_pylist()
    return [Window(**row) for row in rows]


def browse(
    held: Held,
    *,
    modality: Sequence[Modality] | None,
    where: str | None,
    sort: Sort | None,
    top: int,
    offset: int,
) -> Items:
    """Return items without a query: by id, or by date."""
    view = held.view()
    snapshot = view.snapshot
    ids = snapshot.select(where, as_modalities(modality or None))
    count = len(ids)
    if sort is not None and "taken_at" in snapshot.schema.names:
        from pyarrow.compute import sort_indices

        order = "descending" if sort is Sort.DATE else "ascending"
        ids = ids[sort_indices(snapshot.items(ids, ["taken_at"]), [("taken_at", order)]).to_numpy()]
    ids = ids[offset : offset + top]
    return Items(
        collection=held.name,
        generation=snapshot.manifest.generation,
        items=[item(held, each) for each in held.items(snapshot, ids)],
        count=count,
        offset=offset,
        more=offset + top < count,
    )
