"""Search any media with any media.

    import xsearch

    collection = xsearch.open("indexes/default")
    collection.search(xsearch.image("bird.jpg") + 0.7 * xsearch.audio("sea.wav"), top=10)

Importing this package loads nothing; its names are fetched from their modules when used. It asks libgomp,
which torch and FAISS bring, for short waits, unless GOMP_SPINCOUNT or OMP_WAIT_POLICY is set. It does so in
the environment, which child processes inherit.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xsearch.backend.official import embed_official
    from xsearch.client import Client, connect
    from xsearch.collection import Collection, open
    from xsearch.errors import XsearchError
    from xsearch.generate import load_decoder
    from xsearch.locate import Located, Locator
    from xsearch.model import Model, load_model
    from xsearch.query import Hits, Query, audio, depth, image, imu, item, text, thermal, vector, video
    from xsearch.types import Hit, Modality

    __version__: str

__all__ = [
    "Client",
    "Collection",
    "Hit",
    "Hits",
    "Located",
    "Locator",
    "Modality",
    "Model",
    "Query",
    "XsearchError",
    "__version__",
    "audio",
    "connect",
    "depth",
    "embed_official",
    "image",
    "imu",
    "item",
    "load_decoder",
    "load_model",
    "open",
    "text",
    "thermal",
    "vector",
    "video",
]

# Iterations for which threads wait actively at the end of a parallel region, about 10 us; by default 3 ms, in
# which, beside another process, the thread that they wait for cannot run: a picture takes 1.2 s to embed, not
# 0.05 (benchmarks/waiting.py). Read when the library is loaded
if not os.environ.keys() & {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}:
    os.environ["GOMP_SPINCOUNT"] = "1000"

_HOMES = {
    "xsearch.backend.official": ("embed_official",),
    "xsearch.client": ("Client", "connect"),
    "xsearch.collection": ("Collection", "open"),
    "xsearch.errors": ("XsearchError",),
    "xsearch.generate": ("load_decoder",),
    "xsearch.locate": ("Located", "Locator"),
    "xsearch.model": ("Model", "load_model"),
    "xsearch.types": ("Hit", "Modality"),
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("xsearch")
    if name not in __all__:
        raise AttributeError(f"module 'xsearch' has no attribute {name!r}")
    home = next((home for home, names in _HOMES.items() if name in names), "xsearch.query")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return list(__all__)
