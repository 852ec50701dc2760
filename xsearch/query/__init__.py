"""Queries.

expression     the algebra of queries, its constructors, its wire form
options        which items may answer, how many, and in which order
answers        from queries and options to hits
embedding      from queries to vectors, all parts of all queries at once; `texts`, and `stored` vectors
view           one state of a collection, ready to be searched by any number of threads
device_vectors the re-rank on a GPU
calibration    baseline cosines of pairs of modalities; `scales`: those of queries
ranking        from vectors to ranked items
fusion         the order of a full-text index and that of the vectors as one
hits           the answer, as columns, tables and objects; `wire`: its wire form

Names are fetched from their modules when used: a program that asks a server needs the first and the last of
these modules, which are light.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xsearch.query.answers import answer, search, search_many
    from xsearch.query.calibration import Calibration, calibrate
    from xsearch.query.embedding import Embedded, Read, check, embed, read
    from xsearch.query.expression import (
        Part,
        Query,
        Source,
        audio,
        depth,
        image,
        imu,
        item,
        parse,
        parse_each,
        text,
        thermal,
        vector,
        video,
    )
    from xsearch.query.hits import Hits
    from xsearch.query.options import Options, as_modalities
    from xsearch.query.texts import readable
    from xsearch.query.view import View

__all__ = [
    "Calibration",
    "Embedded",
    "Hits",
    "Options",
    "Part",
    "Query",
    "Read",
    "Source",
    "View",
    "answer",
    "as_modalities",
    "audio",
    "calibrate",
    "check",
    "depth",
    "embed",
    "image",
    "imu",
    "item",
    "parse",
    "parse_each",
    "read",
    "readable",
    "search",
    "search_many",
    "text",
    "thermal",
    "vector",
    "video",
]

_HOMES = {
    "answers": ("answer", "search", "search_many"),
    "calibration": ("Calibration", "calibrate"),
    "embedding": ("Embedded", "Read", "check", "embed", "read"),
    "hits": ("Hits",),
    "options": ("Options", "as_modalities"),
    "texts": ("readable",),
    "view": ("View",),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'xsearch.query' has no attribute {name!r}")
    home = next((home for home, names in _HOMES.items() if name in names), "expression")
    return getattr(import_module(f"xsearch.query.{home}"), name)
