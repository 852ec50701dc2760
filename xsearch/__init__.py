"""Search any media with any media.

    import xsearch

    collection = xsearch.open("indexes/default")
    collection.search(xsearch.image("bird.jpg") + 0.7 * xsearch.audio("sea.wav"), top=10)

Importing this package does nothing and loads nothing; its names are fetched from their modules when used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xsearch.backend.official import embed_official
    from xsearch.collection import Collection, Hits, open
    from xsearch.errors import XsearchError
    from xsearch.query import Query, audio, depth, image, imu, text, thermal, vector, video
    from xsearch.types import Hit, Modality

    __version__: str

__all__ = [
    "Collection",
    "Hit",
    "Hits",
    "Modality",
    "Query",
    "XsearchError",
    "__version__",
    "audio",
    "depth",
    "embed_official",
    "image",
    "imu",
    "open",
    "text",
    "thermal",
    "vector",
    "video",
]

_HOMES = {
    "xsearch.collection": ("Collection", "Hits", "open"),
    "xsearch.errors": ("XsearchError",),
    "xsearch.backend.official": ("embed_official",),
    "xsearch.query": ("Query", "audio", "depth", "image", "imu", "text", "thermal", "vector", "video"),
    "xsearch.types": ("Hit", "Modality"),
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("xsearch")
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module 'xsearch' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
