"""Texts are decoded and cut at paragraphs."""

from __future__ import annotations

import random

import pytest

from xsearch.errors import Unreadable
from xsearch.media import text


def windows(of: str) -> list[str]:
    return list(text.windows(of))


def words(n: int, word: str = "word") -> str:
    return " ".join([word] * n)


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "cp1252"]
)
def test_encodings(tmp_path, samples, encoding):
    (tmp_path / "a.txt").write_bytes("Ein schöner Tag".encode(encoding))
    [sample] = samples(tmp_path / "a.txt")
    assert sample.data == sample.text == "Ein schöner Tag"
    assert sample.start_s is None


@pytest.mark.parametrize(
    ("content", "reason"), [(b" \n\t", "empty"), (b"\xef\xbb\xbf", "empty"), (b"a\0b", "binary")]
)
def test_nothing_to_read(tmp_path, samples, content, reason):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(Unreadable, match=reason):
        samples(tmp_path / "a.txt")


def test_short_texts_stay_whole():
    assert windows("A cat.\n\nA\tdog.\n") == ["A cat. A dog."]
    assert windows(words(75)) == [words(75)]


def test_a_window_ends_at_a_paragraph_else_at_a_sentence_else_at_60_words():
    first, second = words(40, "one"), words(50, "two")
    assert windows(f"{first}\n\n{second}") == [first, second]
    sentences = f"{words(44)} end. {words(50)}"
    assert windows(sentences) == [f"{words(44)} end.", words(50)]
    assert [len(window.split()) for window in windows(words(150))] == [60, 60, 30]


def test_no_word_is_lost_or_repeated():
    rng = random.Random(3)
    for _ in range(30):
        written = "".join(
            f"w{i}{rng.choice([' ', '. ', chr(10), chr(10) * 2])}" for i in range(rng.randrange(1, 400))
        )
        found = windows(written)
        assert " ".join(found).split() == written.split()
        assert all(len(window.split()) <= 75 for window in found)
        assert all(len(window.split()) >= 15 for window in found[1:])


def test_writing_without_spaces_and_data_are_cut_too():
    assert [len(window) for window in windows("猫" * 100)] == [60, 40]
    assert max(map(len, windows("x" * 80 * 200))) <= 75 * 80
