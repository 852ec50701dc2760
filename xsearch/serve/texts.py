"""The texts of the page: `static/texts/texts.<language>.json`, which its modules read too."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["LANGUAGES", "Texts", "preferred"]

LANGUAGES = ("en", "ja")  # the first is the default
FOLDER = Path(__file__).parent / "static" / "texts"


@dataclass(frozen=True, slots=True)
class Texts:
    """The texts of one language, by key."""

    language: str
    content: dict[str, str]

    @staticmethod
    @cache
    def of(language: str) -> Texts:
        """Read the texts of one of LANGUAGES."""
        return Texts(language, json.loads((FOLDER / f"texts.{language}.json").read_text(encoding="utf-8")))

    def __call__(self, key: str, **values: Any) -> str:
        """Return a text with its values; of `one|many` the form for `n`.

        >>> Texts("en", {"results": "{n} result|{n} results"})("results", n=1200)
        '1,200 results'
        """
        one, _, many = self.content[key].partition("|")
        shown = {name: f"{value:,}" if isinstance(value, int) else value for name, value in values.items()}
        return (many if many and values.get("n") != 1 else one).format_map(shown)

    def title(self, key: str, default: str) -> str:
        """Return a text, or `default` if there is none."""
        return self.content.get(key, default)


def preferred(cookie: str | None, accepted: str) -> str:
    """Return the language to use: the one chosen before, or the best of an Accept-Language header.

    >>> preferred(None, "fr-CH, ja;q=0.9, en;q=0.5"), preferred("en", "ja"), preferred(None, "de")
    ('ja', 'en', 'en')
    """
    if cookie in LANGUAGES:
        return cookie
    weighed = re.findall(r"([a-z]{2,3})(?:-[\w-]+)?\s*(?:;\s*q=([01](?:\.\d+)?))?", accepted.lower()[:500])
    ranked = sorted(weighed, key=lambda each: -float(each[1] or 1))
    return next((name for name, _ in ranked if name in LANGUAGES), LANGUAGES[0])
