"""Texts of any script are cut into windows that a model reads whole."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest

from tests import official
from xsearch.backend.imagebind import ImageBindBackend
from xsearch.media import windows
from xsearch.media.splitting import BLOCK, LETTERS
from xsearch.models import Tokenizer

Count = Callable[[Sequence[str]], Sequence[int]]
LIMIT = 30
SCRIPTS = {
    "latin": "In the morning we walked along the beach, and Dr. Müller's dog (3.5 years!) swam. It barked…",
    "thai": "เช้านี้เราเดินเล่นที่ชายหาด สุนัขของฉันว่ายน้ำในทะเล มันเห่าเสียงดังมาก",
    "chinese": "今天早上我们带着狗去海滩散步。它在海里游泳!「汪汪」,它叫了起来。",
    "japanese": "今朝、犬と海辺を散歩しました。ビーチボールで遊んで、楽しかったです!",
    "arabic": "في الصباح مشينا على الشاطئ مع الكلب. هل رأيت البحر؟ كان جميلا.",
    "hindi": "आज सुबह हम कुत्ते के साथ समुद्र तट पर टहले। वह बहुत खुश था।",
    "emoji": "👩‍👩‍👧 👍🏽🐕🏖️ 🇹🇭🇩🇪🇯🇵 😀😀😀",
    "code": "def f(x_1):\n    return {'a': [x_1, x_1 ** 2]}  # https://example.com/a-b/c?d=e%20f\n",
}


def words(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def letters(texts: Sequence[str]) -> list[int]:
    return [len(text) for text in texts]


@pytest.fixture(scope="module")
def counts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Count]:
    bundled = ImageBindBackend.load("bundled", device="cpu")
    path = tmp_path_factory.mktemp("clip") / "vocabulary.gz"
    path.write_bytes(official.vocabulary())
    clip = Tokenizer.from_clip(path)
    return {
        "words": words,
        "letters": letters,
        "plain": bundled.tokenizer.count,
        "reduced": bundled._count,
        "clip": clip.count,
    }


def cut(text: str, count: Count = words, limit: int = LIMIT) -> list[str]:
    return list(windows(text, count, limit))


def written(rng: random.Random, script: str) -> str:
    """Sentences, their parts and paragraphs in any order."""
    text = ""
    for _ in range(rng.randrange(1, 25)):
        sentence = SCRIPTS[script]
        first, last = sorted(rng.choices(range(len(sentence) + 1), k=2))
        text += sentence[first:last] + rng.choice(["", " ", " ", "\n", "\n\n", ". ", "\t \r\n"])
    return text


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("tokens", ["words", "letters", "plain", "reduced", "clip"])
def test_every_letter_is_in_a_window_and_none_is_too_long(counts, script, tokens):
    rng = random.Random(f"{script} {tokens}")
    for _ in range(10):
        text = written(rng, script)
        found = cut(text, counts[tokens])
        assert all(window == " ".join(window.split()) != "" for window in found)
        assert max(counts[tokens](found), default=0) <= LIMIT
        assert all(len(window.split()) <= 75 and len(window) <= 1.25 * LETTERS for window in found)
        rest = "".join(text.split())
        covered = 0  # of `rest`: each window starts where the last one ended, or a little before
        for window in found:
            inside = "".join(window.split())
            start = next(at for at in range(covered, -1, -1) if rest.startswith(inside, at))
            assert start + len(inside) > covered
            assert covered - start <= len(inside) / 2
            covered = start + len(inside)
        assert covered == len(rest)


@pytest.mark.parametrize("tokens", ["words", "letters", "plain", "reduced", "clip"])
def test_a_run_without_spaces_is_cut_too(counts, tokens):
    found = cut("x" * 5_000, counts[tokens])
    assert "".join(found) == "x" * 5_000  # nothing is repeated inside a word
    assert max(map(len, found)) <= 1.25 * LETTERS
    assert max(counts[tokens](found)) <= LIMIT


def test_a_text_that_fits_stays_whole():
    assert cut("A cat.\n\nA\tdog.\n") == ["A cat. A dog."]
    assert cut("") == cut(" \n\t") == []
    assert cut(" ".join(["word"] * LIMIT)) == [" ".join(["word"] * LIMIT)]
    assert cut("犬" * 30, letters) == ["犬" * 30]


def named(*counts: int, end: str = "", letter: str = "W") -> str:
    """Words W0, W1, ... with `end` after each group of so many."""
    numbers = iter(range(sum(counts)))
    return " ".join(" ".join(f"{letter}{next(numbers)}" for _ in range(count)) + end for count in counts)


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        (named(18, end="\n\n") + named(6, end=".") + " " + named(40), "W17"),  # a paragraph
        (named(6, 6, 6, 6, end=".") + " " + named(40), "W23."),  # else a sentence
        (named(6, 6, 6, end="!") + " " + named(40), "W17!"),
        (named(20, end=" e.g.") + " " + named(40, letter="w"), "w8"),  # none ends before a small letter
        (named(20, end="\n") + named(40), "W19"),  # else a line
        (named(60), "W29"),  # else a word
        (named(10, end=".\n\n") + named(60), "W19"),  # a window is at least half full
    ],
)
def test_a_window_ends_where_a_reader_would_pause(text, ends):
    assert cut(text)[0].split()[-1] == ends


def test_a_window_that_breaks_a_sentence_is_repeated_a_little():
    first, second = cut(named(50))
    assert (first, second) == (named(30), " ".join(f"W{i}" for i in range(27, 50)))
    first, second = cut(named(25, end=".") + " " + named(10))
    assert (first, second) == (named(25, end="."), named(10))


def test_the_end_of_a_text_is_no_short_window():
    sizes = [len(window.split()) for window in cut(named(31))]
    assert len(sizes) == 2
    assert min(sizes) > LIMIT / 4


def test_words_of_scripts_without_spaces_stay_whole():
    (first, *_) = cut("カタカナ" + "テキスト、" * 20, letters, 31)
    assert first.endswith("、")


@pytest.mark.parametrize(
    "unit", ["A sentence of a few words. ", "คำ", "x", "= ", "word", "\n", "a\u0301\u0301"]
)
def test_long_texts_take_work_in_proportion(unit):
    def letters_counted(length: int) -> int:
        total = 0

        def counted(texts: Sequence[str]) -> list[int]:
            nonlocal total
            total += sum(map(len, texts))
            return words(texts)

        for _ in windows((unit * (length // len(unit) + 1))[:length], counted, LIMIT):
            pass
        return total

    assert letters_counted(4 * BLOCK) < 5 * letters_counted(BLOCK) + 1


def test_blocks_leave_no_trace():
    text = named(BLOCK // 4)
    found = cut(text)
    assert {len(window.split()) for window in found[:-2]} == {LIMIT}
    assert found[0].split()[0] == "W0"
    assert found[-1].split()[-1] == f"W{BLOCK // 4 - 1}"
    spread = cut(f"one{' ' * 3 * BLOCK}two")
    assert spread == ["one two"]
