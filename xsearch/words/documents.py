"""The words of items: their texts, their users' columns of strings, and the names of their files."""

from __future__ import annotations

import pyarrow as pa

from xsearch.store import ITEM_COLUMNS
from xsearch.words.tokens import name_words, normalised

__all__ = ["columns", "documents"]

LONGEST = 10_000  # characters of a column of an item that are indexed; a window of text has some 400


def columns(schema: pa.Schema) -> list[str]:
    """The columns of items that contain words."""
    return ["path", "text", *(field.name for field in schema if _has_words(field))]


def documents(items: pa.Table) -> list[str]:
    """The words of each item, as they are indexed. items: `columns` of the items."""
    texts = [items[name].to_pylist() for name in items.column_names if name != "path"]
    names = map(name_words, items["path"].to_pylist())
    return [
        "\n".join([*(_words(value) for value in values if value), name])
        for name, *values in zip(names, *texts, strict=True)
    ]


def _words(value: str | list[str | None]) -> str:
    text = value if isinstance(value, str) else " ".join(filter(None, value))
    return normalised(text[:LONGEST])


def _has_words(field: pa.Field) -> bool:
    if field.name in ITEM_COLUMNS:
        return False
    kind = field.type.value_type if pa.types.is_list(field.type) else field.type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
