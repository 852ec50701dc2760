"""From text to words: what a query finds of a text, one pair at a time."""

import numpy as np
import pytest

from xsearch.words.index import WordIndex
from xsearch.words.tokens import MOST_UNITS, name_words, normalised, units


def finds(query: str, *texts: str) -> list[int]:
    """The texts that have all words of the query."""
    index = WordIndex.empty()
    index.add(np.arange(len(texts)), [normalised(text) for text in texts])
    matches = index.search(query, lambda ids: np.ones(len(ids), bool))
    return sorted(matches.ids[matches.shares == 1].tolist())


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("running dogs", "The dog runs."),
        ("DOG", "dog"),
        ("cafe", "Café"),
        ("cafe\u0301", "CAFÉ"),
        ("strasse", "Straße"),
        ("the dog's bowl", "a bowl of the dog"),
        ("dog", "the dog’s bowl"),
        ("proxy error", "httpx.ProxyError: timed out"),
        ("ProxyError", "a proxy error"),
        ("proxyerror", "ProxyError"),
        ("iphone", "my iPhone手机壳"),
        ("手机", "my iPhone手机壳"),
        ("狗", "海边有一只狗在跑"),
        ("海边的狗", "海边的狗在跑"),
        ("ｄｏｇ", "dog"),  # full width
        ("ｶﾞﾗｽ", "ガラス"),  # half width
        ("ガラス", "きれいなガラスの花瓶"),
        ("ปลา", "เขากินปลาทุกวัน"),
        ("เซิร์ฟเวอร์", "เวลาของเซิร์ฟเวอร์พร็อกซี"),
        ("ဆိုင်", "စာအုပ်ဆိုင်မှာ"),  # Myanmar
        ("ទន្លេ", "នៅមាត់ទន្លេ"),  # Khmer
        ("ປາ", "ກິນປາ"),  # Lao
        ("학교", "나는 학교에서 공부한다"),
        ("हिन्दी", "यह हिन्दी भाषा है"),
        ("كتاب", "هذا كِتَاب"),
        ("שלום", "שָׁלוֹם"),
        ("to be", "to be or not to be"),
        ("NO_PROXY", "set NO_PROXY=localhost"),
        ("C++ 2", "C++ 2"),
    ],
)
def test_what_is_found(query, text):
    assert finds(query, text) == [0]


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("dog", "a hotdog"),
        ("NO_PROXY", "the proxy has no port"),  # a phrase
        ("手机", "机手"),
        ("ปลา", "ปล่า"),
        ("हिन्दी", "ह न द"),
        ("학교", "학생"),
    ],
)
def test_what_is_not_found(query, text):
    assert finds(query, text) == []


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("IMG_1234", "/photos/2020/IMG_1234.jpg"),
        ("img 1234", "/photos/IMG1234.JPG"),
        ("IMG_1234.jpg", "/photos/IMG_1234.jpg"),
        ("sea waves", "/sounds/sea-waves2.wav"),
        ("waves2", "/sounds/sea-waves2.wav"),
        ("sea waves", "s3://bucket/sounds/SeaWaves.wav"),
        ("my dog", "https://host/a%20b/my%20dog.png?size=2#top"),
        ("dog", "zip://photos/dog.jpg::./media.zip"),
        ("狗", "/photos/我的狗.jpg"),
    ],
)
def test_names_of_files(query, path):
    index = WordIndex.empty()
    index.add(np.arange(1), [name_words(path)])
    assert index.search(query, lambda ids: np.ones(len(ids), bool)).ids.tolist() == [0]


def test_folders_and_hosts_are_no_words():
    assert "photos" not in name_words("/photos/a.jpg")
    assert "host" not in name_words("https://host/a.jpg?photos=1")


@pytest.mark.parametrize(
    "query",
    [
        '"',
        '""',
        'a "b',
        "dog*",
        "*",
        "NEAR(dog cat)",
        "NEAR(dog, cat, 2)",
        "text:dog",
        "{text}:dog",
        "- text : dog",
        "dog AND",
        "OR",
        "NOT dog",
        "^dog",
        "dog + cat",
        "(dog",
        "dog\0cat",
        "\0",
        "\ud800",
        "dog\ud800",
        "\u0301",
        "☃ ❤️",
        "'; DROP TABLE words; --",
        " ".join(f"word{i}" for i in range(10_000)),
        "海" * 10_000,
        "x" * 100_000,
        "aA" * 50_000,
        "[\u3000]",
    ],
)
def test_a_query_is_text_and_no_syntax(query):
    index = WordIndex.empty()
    index.add(np.arange(3), ["dog cat", "text dog", "bird"])
    matches = index.search(query, lambda ids: np.ones(len(ids), bool))
    assert set(matches.ids.tolist()) <= {0, 1}
    assert len(units(query)) <= MOST_UNITS
    normalised(query)


def test_function_words_count_only_among_themselves():
    assert units("What is the dog in a car") == units("dog car")
    assert units("who are you") == ['"who"', '"are"', '"you"']
    assert units("a dog, a dog and a DOG.") == ['"dog"']
