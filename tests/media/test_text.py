"""Texts are decoded, whatever their encoding."""

from __future__ import annotations

import pytest

from xsearch.errors import Unreadable


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


def test_a_file_is_one_text(tmp_path, samples):
    written = "A cat.\n\nA\tdog.\n" * 1_000
    (tmp_path / "a.md").write_text(written)
    [sample] = samples(tmp_path / "a.md")
    assert sample.data == written
    assert sample.text == ("A cat. A dog. " * 40)[: len(sample.text)]
    assert 300 < len(sample.text) <= 400
