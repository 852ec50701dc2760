"""On-disk collections: immutable segments, one manifest, a single writer, any number of readers.

The format is specified in indexes/README.md. This package handles arrays and tables only, never models.
`Published` puts a collection at a URL, and a `Mirror` reads it there.
"""

from xsearch.store.filtering import warm_filters
from xsearch.store.manifest import Manifest, SegmentEntry
from xsearch.store.mirror import Mirror, open_store, origin
from xsearch.store.published import Published, Pushed
from xsearch.store.segments import ITEM_COLUMNS
from xsearch.store.snapshot import Snapshot
from xsearch.store.store import Store
from xsearch.store.verify import Finding
from xsearch.store.writer import Compaction, Writer

__all__ = [
    "ITEM_COLUMNS",
    "Compaction",
    "Finding",
    "Manifest",
    "Mirror",
    "Published",
    "Pushed",
    "SegmentEntry",
    "Snapshot",
    "Store",
    "Writer",
    "open_store",
    "origin",
    "warm_filters",
]
