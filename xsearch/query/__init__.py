"""Queries: what to look for (expression), how to find it (searcher), how to compare kinds (calibrate)."""

from xsearch.query.calibrate import Calibration, calibrate
from xsearch.query.expression import (
    Embedded,
    Part,
    Query,
    audio,
    depth,
    image,
    imu,
    parse,
    text,
    thermal,
    vector,
    video,
)
from xsearch.query.searcher import search, search_many

__all__ = [
    "Calibration",
    "Embedded",
    "Part",
    "Query",
    "audio",
    "calibrate",
    "depth",
    "image",
    "imu",
    "parse",
    "search",
    "search_many",
    "text",
    "thermal",
    "vector",
    "video",
]
