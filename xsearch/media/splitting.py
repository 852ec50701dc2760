"""Texts -> windows that a model reads whole, in any script; they end where a reader would pause.

Boundaries are those of Unicode (UAX #29): of sentences, of words, and in long runs of letters of graphemes.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import IntEnum
from functools import cache
from itertools import accumulate
from typing import Any

__all__ = ["Count", "windows"]

WORDS, LETTERS = 60, 400  # of a window: an excerpt that is read at a glance
LAST = 1.25  # the last window may have more of them by this factor, to avoid a short remainder
FULL, REST = 1 / 2, 1 / 4  # of a window is filled at least, and left at the end of a text
OVERLAP = 1 / 8  # of a window that breaks a sentence is repeated in the next
ATOM_LETTERS = 24  # longer runs of letters are divided at the boundaries of words, longer words at graphemes
ATOM_TOKENS = 1 / 4  # of the limit: the same
BLOCK = 1 << 16  # letters that are divided at once
MEMO = 1 << 17  # runs whose tokens are remembered

_RUN = re.compile(r"\S+")

Count = Callable[[Sequence[str]], Sequence[int]]  # the tokens of each of several texts


class _Break(IntEnum):
    """What ends where two atoms meet."""

    GRAPHEME = 0
    WORD = 1
    SPACE = 2
    LINE = 3
    SENTENCE = 4
    PARAGRAPH = 5


_Part = tuple[str, float, _Break | None]


def windows(text: str, count: Count, limit: int) -> Iterator[str]:
    """Split a text into windows of at most `limit` tokens and about 60 words; collapse white space.

    count: the model's tokenizer. A window is at least half full, the last one a quarter. Where it breaks a
    sentence, its end is repeated in the next one. A single character may have more tokens.

    >>> count = lambda texts: [len(text.split()) for text in texts]
    >>> list(windows("One two three. Four five.\\n\\nSix seven.", count, limit=6))
    ['One two three. Four five.', 'Six seven.']
    """
    if len(text) <= LETTERS and text.isascii():
        words = text.split()
        whole = " ".join(words)
        if len(words) <= WORDS and count([whole])[0] <= limit:
            if words:
                yield whole
            return
    known: dict[str, int] = {}
    first, size = 0, BLOCK
    while first < len(text):
        if len(known) > MEMO:
            known.clear()
        is_last = first + size >= len(text)
        block = _Block(text[first : first + size], count, limit, known, is_last=is_last)
        start = first
        for window, end in block.windows():
            yield window
            first = start + end
        if is_last:
            return
        size = BLOCK if first > start else 2 * size  # mostly white space


class _Block:
    """A part of a text, divided into atoms, with their tokens, words and letters."""

    def __init__(self, text: str, count: Count, limit: int, known: dict[str, int], *, is_last: bool) -> None:
        """known: tokens of earlier runs, shared by the blocks of a text. is_last: whether it ends here."""
        self._text, self._count, self._limit, self._known = text, count, limit, known
        self._is_last = is_last
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._breaks: list[int] = []  # before each atom, and after the last
        sizes = self._divide()
        self._budgets = (limit, WORDS, LETTERS)
        self._sums = [list(accumulate(values, initial=0.0)) for values in sizes]

    def windows(self) -> Iterator[tuple[str, int]]:
        """Yield each window, and where the next one starts. Unless the text ends here, only full windows."""
        first = done = 0
        while done < len(self._starts):
            full = self._reach(first)
            if not self._is_last and full == len(self._starts):
                return
            end, window = self._best(first, done, full)
            if end <= done:  # what is repeated leaves no room
                first = done
                continue
            first, done = self._repeated(first, end), end
            yield window, self._starts[first] if done < len(self._starts) else len(self._text)

    def _best(self, first: int, done: int, full: int) -> tuple[int, str]:
        """The window from an atom that ends best after `done`, of at most `limit` tokens; its end first."""
        full = len(self._starts) if self._fits(first) else self._leaving(first, full)
        least = max(self._reach(first, FULL), done) + 1
        while True:
            end = full
            if full < len(self._starts):
                end = max(range(min(least, full), full + 1), key=lambda end: (self._breaks[end], end))
            window = " ".join(self._text[self._starts[first] : self._ends[end - 1]].split())
            tokens = self._count([window])[0]
            if tokens <= self._limit or end == first + 1:
                return end, window
            full = self._leaving(first, min(end - 1, self._reach(first, self._limit / tokens)))

    def _leaving(self, first: int, full: int) -> int:
        """The end of a window, at most `full`, that leaves no short remainder of the text."""
        if not self._is_last:
            return full
        n = len(self._starts)
        return next((end for end in range(full, first, -1) if self._reach(end, REST) < n), full)

    def _repeated(self, first: int, end: int) -> int:
        """Where the window after one that ends at `end` starts."""
        start = end
        if self._breaks[end] < _Break.SENTENCE:
            for at in range(end - 1, first, -1):
                if any(
                    sums[end] - sums[at] > budget * OVERLAP
                    for sums, budget in zip(self._sums, self._budgets, strict=True)
                ):
                    break
                if self._breaks[at] >= _Break.WORD:
                    start = at
        return start

    def _reach(self, first: int, share: float = 1.0) -> int:
        """The end of the largest window from an atom, at least that atom, within a share of the budgets."""
        ends = (
            bisect_right(sums, sums[first] + budget * share + 1e-6) - 1
            for sums, budget in zip(self._sums, self._budgets, strict=True)
        )
        return min(max(min(ends), first + 1), len(self._starts))

    def _fits(self, first: int) -> bool:
        """Whether all that is left makes one window."""
        tokens, words, letters = (sums[-1] - sums[first] for sums in self._sums)
        return self._is_last and tokens <= self._limit and words <= LAST * WORDS and letters <= LAST * LETTERS

    def _divide(self) -> tuple[list[float], list[int], list[int]]:
        """Set starts, ends and breaks of the atoms; returns tokens, words and letters of each."""
        text = self._text
        runs = [(match.start(), match[0]) for match in _RUN.finditer(text)]
        distinct = dict.fromkeys(run for _, run in runs)
        self._learn(distinct)
        parts_of = {run: self._parts(run) for run in distinct}
        sentences = {match.end() for match in _patterns()["sentence"].finditer(text)}
        tokens: list[float] = []
        words: list[int] = []
        letters: list[int] = []
        for start, run in runs:
            gap = text[self._ends[-1] : start] if self._ends else ""
            if gap.count("\n") > 1 or "\u2029" in gap:
                before = _Break.PARAGRAPH
            elif self._ends and self._ends[-1] in sentences:
                before = _Break.SENTENCE
            else:
                before = _Break.LINE if "\n" in gap else _Break.SPACE
            word = 1
            for part, part_tokens, inner in parts_of[run]:
                if inner is not None:
                    before = _Break.SENTENCE if start in sentences else inner
                self._breaks.append(before)
                self._starts.append(start)
                start += len(part)
                self._ends.append(start)
                tokens.append(part_tokens)
                words.append(word)
                letters.append(len(part) + word)
                word = 0
        self._breaks.append(_Break.PARAGRAPH)
        return tokens, words, letters

    def _parts(self, run: str) -> list[_Part]:
        """The atoms of a run: itself, or its words, or their graphemes; with tokens, and what comes before.

        A token may reach across parts; so the tokens of the parts are scaled to those of the run.
        """
        if not self._is_long(run):
            return [(run, self._known[run], None)]
        words = _patterns()["word"].findall(run)
        self._learn(words)
        parts: list[_Part] = []
        scale = self._scale(run, words)
        for word in words:
            before = _Break.WORD if parts else None
            if not self._is_long(word):
                parts.append((word, self._known[word] * scale, before))
                continue
            letters = [
                letter
                for grapheme in _patterns()["grapheme"].findall(word)
                for letter in ([grapheme] if len(grapheme) <= ATOM_LETTERS else grapheme)
            ]
            self._learn(letters)
            inner = scale * self._scale(word, letters)
            for letter in letters:
                parts.append((letter, self._known[letter] * inner, before))
                before = _Break.GRAPHEME
        return parts

    def _scale(self, whole: str, parts: Sequence[str]) -> float:
        return self._known[whole] / max(sum(self._known[part] for part in parts), 1)

    def _is_long(self, run: str) -> bool:
        return len(run) > ATOM_LETTERS or self._known[run] > ATOM_TOKENS * self._limit

    def _learn(self, runs: Iterable[str]) -> None:
        new = [run for run in dict.fromkeys(runs) if run not in self._known]
        if new:
            self._known.update(zip(new, self._count(new), strict=True))


@cache
def _patterns() -> dict[str, Any]:
    import regex  # only for texts that do not fit one window

    return {
        # A full stop ends no sentence before a small letter (rule SB8)
        "sentence": regex.compile(
            r"(?:[\p{SB=STerm}\u2026]|\p{SB=ATerm}(?=\p{SB=Close}*(?:\s+\P{Ll}|\s*$)))"
            r"(?:(?![\p{Ps}\p{Pi}])\p{SB=Close})*"
        ),
        "word": regex.compile(r"(?w).+?\b", regex.DOTALL),
        "grapheme": regex.compile(r"\X"),
    }
