"""The words of items: their texts, columns of strings and whole numbers, and file names.

Of what files say of themselves, the words count, and not its codes and numbers: codecs, exposures.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from pyarrow import types

from xsearch.media.facts import COLUMNS, SPOKEN
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
        "\n".join([*(_words(value) for value in values if value is not None), name])
        for name, *values in zip(names, *texts, strict=True)
    ]


def _words(value: str | int | list[Any]) -> str:
    text = (
        " ".join(str(each) for each in value if each is not None) if isinstance(value, list) else str(value)
    )
    return normalised(text[:LONGEST])


def _has_words(field: pa.Field) -> bool:
    if field.name in ITEM_COLUMNS or field.name in COLUMNS.keys() - SPOKEN:
        return False
    kind = field.type.value_type if types.is_list(field.type) else field.type
    return any(is_type(kind) for is_type in (types.is_string, types.is_large_string, types.is_integer))
