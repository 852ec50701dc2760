"""Damaged forms of the examples in `corpus`, which are small and of every form that is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

__all__ = ["CELLS", "JSON", "ODD_NUMBERS", "WORDS", "altered", "corpus", "fuzz", "mutated"]

fuzz = settings(derandomize=True, max_examples=80, deadline=None, database=None)

ODD_NUMBERS = st.sampled_from(["", "nan", "-inf", "1e308", "-1e308", "1e30", "5e-324", "1e999", "9" * 400])
WORDS = st.sampled_from([" ", "x", "1,5", '"', "'", "\0", "é", "٣", "true", "0x1f", "#", "1_000"])
CELLS = WORDS | st.sampled_from(["12:30:01", "2024-02-30", "9999-12-31", "2024-01-01T00:00:00Z"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
_ODD = st.sampled_from(
    [None, True, -1, 0, 1, 3, 1 << 53, 1 << 62, 1 << 64, 1e300, 0.5, float("nan"), float("inf")]
)
_ODD |= st.sampled_from(
    ["", ".", "..", "../../x", "/etc", "x" * 5_000, "\0", "\ud800", "0" * 32, [], {}, [[]]]
)
_TOKENS = [
    *"{}[]()<>\"'\\/,;:=&|*?!%$#@~^-+.\n\r\t \0\x1b",
    "\ufeff",
    "\u202e",
    "é",
    "٣",
    "&x;",
    "<!--",
    "<![CDATA[",
    "]]>",
]
_TOKENS += ["null", "1e999", "-0", "9" * 30, "2024-13-45", "**/", "[!", "x" * 3_000]


def corpus(noun: str) -> list[bytes]:
    """The examples of what is read."""
    return [path.read_bytes() for path in sorted((Path(__file__).parent / "corpus" / noun).iterdir())]


@st.composite
def mutated(draw: st.DrawFn, noun: str) -> bytes:
    """An example with some places changed, as text."""
    text = draw(st.sampled_from(corpus(noun))).decode()
    for _ in range(draw(st.integers(0, 4))):
        at, size = draw(st.integers(0, len(text))), draw(st.sampled_from([0, 1, 2, 9, 60]))
        piece = draw(st.sampled_from(_TOKENS) | st.just(text[at : at + size] * 2) | st.text(max_size=3))
        text = text[:at] + piece + text[at + size :]
    data = text.encode(draw(st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16"])), "surrogatepass")
    return data[: draw(st.integers(0, len(data)))] if draw(st.integers(0, 9)) == 0 else data


@st.composite
def altered(draw: st.DrawFn, noun: str) -> Any:
    """An example of JSON, or as JSON, with some values and names changed."""
    content = json.loads(draw(st.sampled_from(corpus(noun))))
    for _ in range(draw(st.integers(0, 3))):
        node, parents = content, []
        while isinstance(node, dict | list) and node and (not parents or draw(st.booleans())):
            key = draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
            parents.append((node, key))
            node = node[key]
        if not parents:
            return content
        parent, key = parents[-1]
        match draw(st.sampled_from(["value", "value", "delete", "rename", "twice"])):
            case "value":
                parent[key] = draw(_ODD | JSON)
            case "delete":
                del parent[key]
            case "rename" if isinstance(parent, dict):
                parent[draw(st.text(max_size=4) | st.sampled_from(["../../x", "format", "id"]))] = parent.pop(
                    key
                )
            case "twice" if isinstance(parent, list):
                parent.append(parent[key])
    return content
