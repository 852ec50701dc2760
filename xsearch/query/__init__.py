"""Queries.

expression     what is searched for: the algebra, its constructors, its wire form
embedding      from queries to vectors, all parts of all queries at once
view           one state of a collection, ready to be searched by any number of threads
calibration    baseline cosines of pairs of modalities
ranking        from vectors to ranked hits
fusion         the order of a full-text index and that of the vectors as one
"""

from xsearch.query.calibration import Calibration, calibrate
from xsearch.query.embedding import Embedded, Read, embed, knows, read, readable
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
from xsearch.query.fusion import as_match, text_of
from xsearch.query.hits import Hits
from xsearch.query.ranking import as_modalities, search, search_many, search_words
from xsearch.query.view import View

__all__ = [
    "Calibration",
    "Embedded",
    "Hits",
    "Part",
    "Query",
    "Read",
    "Source",
    "View",
    "as_match",
    "as_modalities",
    "audio",
    "calibrate",
    "depth",
    "embed",
    "image",
    "imu",
    "item",
    "knows",
    "parse",
    "parse_each",
    "read",
    "readable",
    "search",
    "search_many",
    "search_words",
    "text",
    "text_of",
    "thermal",
    "vector",
    "video",
]
