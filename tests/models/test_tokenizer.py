"""Our tokenizer's conventions; CLIP's is held to the official ids in test_transforms_parity.py."""

import gzip

import pytest

from xsearch.errors import ModelError
from xsearch.models import Tokenizer, train_tokenizer


def test_a_text_starts_ends_and_is_padded(tokenizer):
    ids = tokenizer.encode(["a red dog", ""])
    assert ids.shape == (2, 32)
    words = tokenizer.backend.encode("a red dog", add_special_tokens=False).ids
    assert ids[0].tolist() == [tokenizer.start, *words, tokenizer.end, *[0] * (30 - len(words))]
    assert ids[1].tolist() == [tokenizer.start, tokenizer.end, *[0] * 30]
    assert tokenizer.end == tokenizer.size - 1 == ids.max()
    assert tokenizer.start == tokenizer.size - 2


def test_the_end_stays_when_a_text_is_cut(tokenizer):
    ids = tokenizer.encode(["dog " * 100])[0]
    assert ids[-1] == tokenizer.end
    assert (ids == tokenizer.end).sum() == 1


@pytest.mark.parametrize("text", ["naïve ☃ 犬 🐕", "tabs\tand\nlines", "<|pad|>", "a <|endoftext|> b"])
def test_any_text_is_encoded_and_none_reaches_a_special_id(text, tokenizer):
    ids = tokenizer.encode([text])[0]
    inner = ids[1 : ids.argmax()].tolist()
    assert 0 not in inner
    assert max(inner) < tokenizer.start
    assert tokenizer.backend.decode(inner).strip() == text.lower()


def test_tokens_are_counted_without_start_and_end(tokenizer):
    texts = ["a red dog", "", "naïve ☃ 犬"]
    ends = (tokenizer.encode(texts) == tokenizer.end).int().argmax(dim=1)
    assert tokenizer.count(texts) == (ends - 1).tolist()
    assert tokenizer.count(["dog " * 100])[0] >= 100


def test_case_does_not_matter(tokenizer):
    assert tokenizer.encode(["A RED Dog"]).equal(tokenizer.encode(["a red dog"]))


def test_training_is_deterministic_and_bounded():
    texts = [f"{colour} {thing}" for colour in ("red", "blue") for thing in ("dog", "bird", "boat")] * 5
    first, again = (train_tokenizer(texts, 270, context=8) for _ in range(2))
    assert first.backend.to_str() == again.backend.to_str()
    assert first.size == 270
    assert first.encode(texts[:1]).shape == (1, 8)


def test_file_round_trip(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json", context=32)
    assert loaded.encode(["two dogs <|endoftext|>"]).equal(tokenizer.encode(["two dogs <|endoftext|>"]))


def test_damaged_files_are_refused(tmp_path):
    with pytest.raises(ModelError, match="no tokenizer"):
        Tokenizer.load(tmp_path / "tokenizer.json", context=32)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="not a tokenizer"):
        Tokenizer.load(tmp_path / "tokenizer.json", context=32)
    (tmp_path / "vocab.gz").write_bytes(b"no gzip")
    with pytest.raises(ModelError, match="not CLIP's bpe"):
        Tokenizer.from_clip(tmp_path / "vocab.gz")
    (tmp_path / "vocab.gz").write_bytes(gzip.compress(b"version\na b\n"))
    with pytest.raises(ModelError, match="not CLIP's bpe"):
        Tokenizer.from_clip(tmp_path / "vocab.gz")
