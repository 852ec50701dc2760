"""The texts of a table: which are right for which row."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from xsearch.models.tokenizer import Tokenizer
from xsearch.pairs import Pairs

__all__ = ["Texts"]

NO_TEXT, NO_LABEL = np.iinfo(np.int64).min, np.iinfo(np.int64).min + 1  # codes that match nothing


class Texts:
    """The distinct texts as further labels of their rows.

    labels: int64 [N, M], the codes of each row.
    """

    def __init__(self, pairs: Pairs, tokenizer: Tokenizer, labels: np.ndarray) -> None:
        numbers: dict[str, int] = {}
        right = [[numbers.setdefault(text, len(numbers)) for text in pair.texts] for pair in pairs]
        self.ids: Tensor = tokenizer.encode(list(numbers))  # int64 [T, context]
        self._counts = np.array([len(some) for some in right])
        self._right = np.full((len(right), self._counts.max()), NO_TEXT)  # int64 [N, K]
        for row, some in enumerate(right):
            self._right[row, : len(some)] = some
        self._shared = np.flatnonzero(np.bincount(np.concatenate(right), minlength=len(numbers)) > 1)
        self._labels, self._first = labels, labels.max() + 1
        texts = np.where(self._right == NO_TEXT, NO_TEXT, self._right + self._first)
        self.codes = np.concatenate([labels, texts], axis=1)  # int64 [N, M + K]

    def choose(self, rows: np.ndarray, draws: np.ndarray, further: np.ndarray) -> tuple[Tensor, np.ndarray]:
        """One text of each row, and further ones that several rows share.

        rows: int64 [B]. draws, further: float [B] and [F] in [0, 1). Returns token ids, int64 [C, context],
        and codes, int64 [C, M + 1]; C is B + F, or B if no rows share a text.
        """
        texts = self._right[rows, (draws * self._counts[rows]).astype(int)]
        others = self._shared[(further * len(self._shared)).astype(int)] if len(self._shared) else []
        texts = np.concatenate([texts, others]).astype(int)
        labels = np.full((len(texts), self._labels.shape[1]), NO_LABEL)
        labels[: len(rows)] = self._labels[rows]
        return self.ids[texts], np.concatenate([labels, texts[:, None] + self._first], axis=1)
