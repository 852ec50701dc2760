"""Text -> token ids, with the `tokenizers` library.

Ids follow CLIP's convention: 0 is padding, the two largest ids are start and end of a text. The text tower
takes its embedding from the first end token.
"""

from __future__ import annotations

import gzip
import html
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import tokenizers
import torch
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor

from xsearch.errors import ModelError
from xsearch.system.durable import read_file

__all__ = ["Tokenizer", "train_tokenizer"]

MOST_BYTES = 16 << 20  # of tokenizer.json; CLIP's has 3.6 MB
START, END = "<|startoftext|>", "<|endoftext|>"


class Tokenizer:
    """Encodes texts to `context` ids, padded or truncated; the end token is always kept.

    cleaning: "plain" leaves texts unchanged; "clip" cleans them as CLIP does, and reads the literals
    `<|startoftext|>` and `<|endoftext|>` as special tokens.
    """

    def __init__(self, backend: tokenizers.Tokenizer, *, context: int, cleaning: str = "plain") -> None:
        self.backend = backend
        self.context = context
        self.cleaning = cleaning
        self.size: int = backend.get_vocab_size()
        self.start, self.end = self.size - 2, self.size - 1
        backend.encode_special_tokens = cleaning == "plain"

    @staticmethod
    def load(path: Path, *, context: int, cleaning: str = "plain", most: int | None = None) -> Tokenizer:
        """Read a `tokenizer.json`. most: ids that the model has.

        Raises ModelError if it is missing, damaged, has more ids, or a regular expression that is not CLIP's:
        another one may take for ever.
        """
        try:
            backend = tokenizers.Tokenizer.from_str(read_file(path, MOST_BYTES).decode())
            backend.no_padding()
            backend.no_truncation()
            if not _expressions(backend) <= {_CLIP_PATTERN}:
                raise ValueError("it has an unknown regular expression")
            size = backend.get_vocab_size()
            if not 2 < size <= (most or size) or max(backend.get_vocab().values()) >= size:
                raise ValueError(f"it has {size:,} ids or larger ones, the model {most or 0:,}")
        except OSError as error:
            raise ModelError(f"no tokenizer at {path}: {error}") from error
        except (KeyboardInterrupt, MemoryError):
            raise
        except BaseException as error:  # the library raises bare Exception, and BaseException when it panics
            raise ModelError(f"{path} is not a tokenizer: {str(error)[:200]}") from error
        return Tokenizer(backend, context=context, cleaning=cleaning)

    @staticmethod
    def from_clip(path: Path, *, context: int = 77) -> Tokenizer:
        """From CLIP's vocabulary file, bpe_simple_vocab_16e6.txt.gz: 49,408 ids."""
        return Tokenizer(_clip_backend(path), context=context, cleaning="clip")

    def save(self, path: Path) -> None:
        path.write_text(self.backend.to_str(), encoding="utf-8")

    def encode(self, texts: Sequence[str]) -> Tensor:
        """int64 [B, context]."""
        ids = torch.zeros(len(texts), self.context, dtype=torch.int64)
        for row, encoding in zip(ids, self._encode(texts), strict=True):
            tokens = [self.start, *encoding.ids[: self.context - 2], self.end]
            row[: len(tokens)] = torch.tensor(tokens)
        return ids

    def count(self, texts: Sequence[str]) -> list[int]:
        """The tokens of each text, without start and end; `encode` keeps the first `context` - 2."""
        return [len(encoding.ids) for encoding in self._encode(texts)]

    def _encode(self, texts: Sequence[str]) -> list[tokenizers.Encoding]:
        if self.cleaning == "plain":
            return self.backend.encode_batch_fast(list(texts), add_special_tokens=False)
        # CLIP splits first: a special token right after punctuation is not recognised.
        words = [[word for word, _ in _CLIP_SPLIT.pre_tokenize_str(_clip_clean(text))] for text in texts]
        return self.backend.encode_batch_fast(words, is_pretokenized=True, add_special_tokens=False)


def train_tokenizer(texts: Iterable[str], vocab_size: int, *, context: int = 32) -> Tokenizer:
    """Train a lower-casing byte-level BPE of at most `vocab_size` ids on `texts`; deterministic.

    It can encode any text. Few texts yield fewer ids: see `size`.
    """
    backend = tokenizers.Tokenizer(models.BPE())
    backend.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 2,
        special_tokens=["<|pad|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    backend.add_special_tokens([START, END])
    return Tokenizer(backend, context=context)


# The pattern of openai/CLIP, simple_tokenizer.py; applied to lower case.
_CLIP_PATTERN = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_CLIP_SPLIT = pre_tokenizers.Split(Regex(_CLIP_PATTERN), behavior="removed", invert=True)
_CLIP_MERGES = 49152 - 256 - 2


def _expressions(backend: tokenizers.Tokenizer) -> set[str]:
    """The regular expressions that texts are split and normalised by."""
    parts = [part.__getstate__() for part in (backend.normalizer, backend.pre_tokenizer) if part is not None]
    pending: list[Any] = [json.loads(part) for part in parts]
    found = set()
    while pending:
        match pending.pop():
            case {"Regex": str(expression), **others}:
                found.add(expression)
                pending += others.values()
            case dict() as fields:
                pending += fields.values()
            case list() as values:
                pending += values
    return found


def _clip_clean(text: str) -> str:
    import ftfy  # only for the official model

    text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    return re.sub(r"\s+", " ", text).lower()


def _clip_backend(path: Path) -> tokenizers.Tokenizer:
    """Ids as in openai/CLIP: 256 bytes, 256 word-final bytes, merges in order, start, end."""
    try:
        lines = gzip.decompress(path.read_bytes()).decode("utf-8").split("\n")
        merges = [(left, right) for left, right in (line.split() for line in lines[1 : _CLIP_MERGES + 1])]
    except (OSError, EOFError, ValueError) as error:
        raise ModelError(f"{path} is not CLIP's bpe_simple_vocab_16e6.txt.gz: {error}") from error
    if len(merges) != _CLIP_MERGES:
        raise ModelError(f"{path} has {len(merges)} merges, CLIP's vocabulary has {_CLIP_MERGES}")
    letters = _byte_letters()
    words = (
        letters + [f"{letter}</w>" for letter in letters] + ["".join(pair) for pair in merges] + [START, END]
    )
    vocab = {word: id for id, word in enumerate(words)}
    backend = tokenizers.Tokenizer(models.BPE(vocab, merges, end_of_word_suffix="</w>"))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [_CLIP_SPLIT, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    backend.add_special_tokens([AddedToken(token, normalized=False) for token in (START, END)])
    return backend


def _byte_letters() -> list[str]:
    """GPT-2's printable characters for the 256 bytes, printable bytes first."""
    printable = [chr(byte) for first, last in ("!~", "¡¬", "®ÿ") for byte in range(ord(first), ord(last) + 1)]
    return printable + [chr(256 + n) for n in range(256 - len(printable))]
