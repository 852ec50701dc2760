"""From text to words: one normal form for documents and queries, and a query as FTS5 expressions.

FTS5's tokenizer splits at everything but letters, digits and marks, folds case and diacritics, and stems
English (TOKENIZER). What it cannot do is done here: scripts without spaces become one token per grapheme,
whose words a query finds as phrases, and compounds such as ProxyError are also indexed in pieces.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from string import punctuation

from xsearch.english import STOP_WORDS

__all__ = ["TOKENIZER", "name_words", "normalised", "units"]

# Marks are letters, or Devanagari falls apart at its vowel signs; so are symbols such as emoji
TOKENIZER = "porter unicode61 remove_diacritics 2 categories 'L* N* Co M* So' separators '°©®'"

MOST_UNITS = 64  # of a query; FTS5 refuses expressions that nest deeper than 256
# Longer runs of a script without spaces are queried by all pieces of that many graphemes
PIECE = {"ideographic": 2, "syllabic": 3, "symbol": 1}

# Han and kana; Thai, Lao, Myanmar and Khmer; emoji
_RUN = re.compile(
    "(?P<ideographic>[\u3005-\u3007\u3040-\u30ff\u3100-\u312f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+)"
    "|(?P<syllabic>[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u19e0-\u19ff\ua9e0-\ua9ff\uaa60-\uaa7f]+)"
    "|(?P<symbol>[\u2600-\u27bf\U0001f000-\U0001faff]+)"
)
_HANGUL = re.compile("[\uac00-\ud7a3]")  # composed
_OPTIONAL_MARKS = re.compile("[\u0591-\u05c7\u0640\u064b-\u065f\u0670]")  # Hebrew and Arabic vowels
_POSSESSIVE = re.compile(r"(?<=\w)['\u2019][sS]\b")
_SEAM = re.compile("[a-z][A-Z]")  # takes half as long to look for as the compound around it (measured)
_COMPOUND = re.compile("(?<![A-Za-z])[A-Z]*+[a-z]++[A-Z][A-Za-z]*+")
_PIECES = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[A-Z]|\d+")
_WORD = re.compile(r"[^\W_]+")
_BREAKS = re.compile(r"[\s,;:!?()\[\]{}<>\"|\u2026\u3001-\u3003\u3008-\u3011]+")


def normalised(text: str) -> str:
    """`text` as it is indexed: compatibility forms folded, compounds also in pieces, graphemes apart."""
    text = _folded(text)
    if _SEAM.search(text):
        text = _COMPOUND.sub(lambda word: f"{word[0]} {' '.join(_PIECES.findall(word[0]))}", text)
    return text if text.isascii() else _apart(text.casefold())


def name_words(path: str) -> str:
    """The name of a file or URL, as it is indexed: also in pieces, at case changes and digits.

    >>> name_words("/media/sea-waves2.jpg"), name_words("https://a.org/my%20dog.png?size=2")
    ('sea-waves2.jpg waves 2', 'my dog.png')
    """
    if "://" in path:
        from urllib.parse import unquote

        inner = path.split("::")[0].split("?")[0].split("#")[0]
        name = unquote(inner.rstrip("/").rpartition("/")[2])
    else:
        name = path.rpartition("/")[2]
    pieces = []
    for word in _WORD.findall(name):
        if len(parts := _PIECES.findall(word)) > 1:
            pieces += parts
    return " ".join([_apart(_folded(name).casefold()) if not name.isascii() else name, *pieces])


def units(query: str) -> list[str]:
    """The distinct content words of a query as FTS5 expressions, at most MOST_UNITS.

    A word with punctuation inside is a phrase, and so is a run of a script without spaces; a Korean word also
    matches longer ones, which are mostly itself with particles. Function words count if there are no others.

    >>> units("the dog's IMG_1234"), units("to be")
    (['"dog"', '"img_1234"'], ['"to"', '"be"'])
    >>> units('a "quoted* NEAR(col:x')
    ['"quoted"', '"near"', '"col"', '"x"']
    """
    folded = _folded(query.encode(errors="replace").decode())  # without lone surrogates
    words = [word for word in _BREAKS.split(folded) if any(map(_is_token, word))]
    content = [word for word in words if word.lower() not in STOP_WORDS]
    each = dict.fromkeys(unit for word in content or words for unit in _expressions(word))
    return list(each)[:MOST_UNITS]


def _folded(text: str) -> str:
    if not text.isascii():
        text = _OPTIONAL_MARKS.sub("", unicodedata.normalize("NFKC", text))
    return _POSSESSIVE.sub("", text) if "'" in text or "\u2019" in text else text


def _apart(text: str) -> str:
    """With the graphemes of scripts without spaces set apart."""
    return _RUN.sub(lambda run: f" {' '.join(_graphemes(run[0]))} ", text)


def _graphemes(run: str) -> list[str]:
    """Letters with their marks."""
    split: list[str] = []
    for letter in run:
        if split and unicodedata.category(letter)[0] == "M":
            split[-1] += letter
        else:
            split.append(letter)
    return split


def _is_token(letter: str) -> bool:
    category = unicodedata.category(letter)
    return category[0] in "LNM" or (category == "So" and letter not in "°©®")


def _expressions(word: str) -> Iterator[str]:
    """word: without white space, normalised, with at least one token."""
    end = 0
    for run in _RUN.finditer(word):
        yield from _spaced(word[end : run.start()])
        yield from _unspaced(run[0], PIECE[str(run.lastgroup)])
        end = run.end()
    yield from _spaced(word[end:])


def _spaced(word: str) -> Iterator[str]:
    if not any(map(_is_token, word)):
        return
    word = word.strip(punctuation)
    pieces = _COMPOUND.sub(lambda compound: " ".join(_PIECES.findall(compound[0])), word)
    if pieces != word:
        yield f"({_quoted(word.casefold())} OR {_quoted(pieces.casefold())})"
    else:
        yield _quoted(word.casefold()) + ("*" if _HANGUL.search(word) else "")


def _unspaced(run: str, size: int) -> Iterator[str]:
    letters = _graphemes(run.casefold())
    for start in range(max(len(letters) - size, 0) + 1):
        yield _quoted(" ".join(letters[start : start + size]))


def _quoted(text: str) -> str:
    """A phrase of FTS5; whatever it contains is text and not syntax."""
    return '"' + text.replace('"', '""').replace("\0", " ") + '"'
