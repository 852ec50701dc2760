"""What a server has: collections, their kinds, columns, models and counts."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from xsearch.nearest import is_remote
from xsearch.serve import contract
from xsearch.serve.events import writer
from xsearch.serve.facets import counted, default_columns
from xsearch.serve.shelf import Held
from xsearch.store import ITEM_COLUMNS

if TYPE_CHECKING:
    from xsearch.serve.server import Server
    from xsearch.store import Snapshot

__all__ = ["info"]

VALUES = 50  # of a facet


def info(server: Server, held: Held) -> contract.Info:
    """Describe a collection, and name the others."""
    collection, view, limits = held.collection, held.view(), server.settings
    snapshot, fingerprint = view.snapshot, view.snapshot.fingerprint
    return contract.Info(
        version=version("xsearch"),
        collection=held.name,
        collections=server.shelf.each(_held),
        path=collection.place if is_remote(collection.place) else str(collection.path.absolute()),
        generation=snapshot.manifest.generation,
        items=len(snapshot),
        kinds={str(kind): count for kind, count in snapshot.counts().items()},
        index=view.index.plan.recipe if view.index else "Flat",
        model=contract.Model(
            name=fingerprint.name,
            digest=fingerprint.digest,
            dim=fingerprint.dim,
            is_loaded=held.backend(snapshot).is_loaded,
        ),
        columns=[
            contract.Column(name=field.name, type=str(field.type), is_user=field.name not in ITEM_COLUMNS)
            for field in snapshot.schema
        ],
        facets=_facets(server, snapshot),
        writer=writer(collection.path),
        limits=contract.Limits(
            upload_bytes=limits.upload_bytes,
            uploads=limits.uploads,
            upload_age_s=limits.upload_age_s,
            body_bytes=limits.body_bytes,
            parts=contract.MAX_PARTS,
            top=contract.MAX_TOP,
        ),
    )


def _held(held: Held) -> contract.Held:
    snapshot = held.collection.snapshot()
    return contract.Held(name=held.name, items=len(snapshot), generation=snapshot.manifest.generation)


def _facets(server: Server, snapshot: Snapshot) -> list[contract.Facet]:
    """Count all items, once for each state of a collection."""
    if (facets := server.facets.get(snapshot)) is None:
        facets = [counted(snapshot, snapshot.ids, column, VALUES) for column in default_columns(snapshot)]
        server.facets[snapshot] = facets
    return facets
