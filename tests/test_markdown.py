"""Markdown is shown without its marks, also where an excerpt starts or ends within them."""

from __future__ import annotations

import pytest

from xsearch import preview
from xsearch.preview import Item
from xsearch.preview.markdown import is_markdown, plain
from xsearch.types import Modality

LOST = {
    # headings, rules, front matter
    "# Title ## Part ## text": "Title Part text",
    "Title ===== text --- more * * * end": "Title text more end",
    "--- title: A note tags: - a --- # Heading": "Heading",
    '+++ title = "A" +++ Text': "Text",
    # emphasis
    "*a* **b _c_ d** ***e*** ~~f~~ ==g== (**h**), **i**:": "a b c d e f g (h), i:",
    "cut off **here": "cut off here",
    "here** it ended": "here it ended",
    # links and pictures
    '[a](http://b.c/d_(e) "f") [g][h] <http://i.j> k[^1] [^1]: l': "a g http://i.j k l",
    "![a](b.png) [![c](d.svg)](http://e) [[f|g]] [[h]] ![[i.png]]": "a c g h",
    "[1]: http://a.b text [cut](http://off": "text cut",
    "off](http://a.b) text": "off text",
    # code
    "a `b` c ```python d # e ``` f": "a b c d # e f",
    "# in code ``` ## Heading ```sh # in code": "# in code Heading # in code",
    "`**kwargs` ``a`b`` \\*c\\*": "**kwargs a`b *c*",
    # lists, quotes, tables
    "- [x] a - [ ] b": "☑ a ☐ b",
    "* a * b": "a • b",
    "> a **b** > c": "a b c",
    "| a | b | |:--|--:| | 1 | 2 |": "a · b · 1 · 2",
    # HTML and extensions
    '<p align="center"> <b>a</b> <!-- b --> <img src="c" alt="d"> &amp; e': "a d & e",
    'font-size: 1em;">a</b> <a href="b': "a",
    "{class}`a.B` (c)= ## D {#d} ```{note} e ``` !!! tip f ::: g": "a.B D e f g",
}
KEPT = [
    "a_b_c",
    "2 * 3 * 4",
    "a - b",
    "x < y > z",
    "a | b",
    "List<int> <file>",
    "a == b",
    "#1 C# #tag",
    "---",
]


@pytest.mark.parametrize("text", LOST)
def test_marks_are_lost(text):
    assert plain(text) == LOST[text]


@pytest.mark.parametrize("text", KEPT)
def test_what_only_looks_like_a_mark_is_kept(text):
    assert plain(text) == text


def test_only_files_that_are_markdown_lose_their_marks(tmp_path):
    for name, shown in {"a.md": "A dog", "b.MARKDOWN": "A dog", "c.txt": "# A **dog**"}.items():
        (tmp_path / name).write_text("# A **dog**")
        assert is_markdown(str(tmp_path / name)) == (shown == "A dog")
        for text in (None, "# A **dog**"):
            assert preview.text(Item(Modality.TEXT, str(tmp_path / name), text=text)).data.decode() == shown


def test_the_beginning_of_a_long_file_ends_in_an_ellipsis(tmp_path):
    (tmp_path / "a.txt").write_text("dog " * 400)
    shown = preview.text(Item(Modality.TEXT, str(tmp_path / "a.txt"))).data.decode()
    assert shown.endswith("dog…")
