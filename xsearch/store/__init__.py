"""A collection on the disk: immutable segments, one manifest, one writer, any number of readers.

The folder is described in indexes/README.md. Arrays and tables only: nothing here knows of models.
"""

from xsearch.store.manifest import Manifest, SegmentEntry
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
    "SegmentEntry",
    "Snapshot",
    "Store",
    "Writer",
]
