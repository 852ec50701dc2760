"""The address of the page is the query: what is read is what was written."""

from __future__ import annotations

import pytest
from starlette.datastructures import QueryParams

from xsearch.serve.address import Address, Term
from xsearch.types import Modality, Rank, Sort

HELD = "0123456789abcdef" * 2


def read(query: str) -> Address:
    return Address.read(QueryParams(query))


def test_everything_makes_a_round_trip() -> None:
    address = Address(
        q="a dog & a cat",
        p=(Term("upload", HELD, 0.7), Term("item", "17", -1), Term("text", "cage: 2*x", -0.5)),
        kind=(Modality.IMAGE, Modality.AUDIO),
        f=(("camera", "Pixel 7: wide"), ("folder", "/a/b")),
        where="width > 3000",
        sort=Sort.OLDEST,
        rank=Rank.COSINE,
        cut={"all": 0.1, "audio": float("inf")},
        beyond="hide",
        fold=False,
        anyway=True,
        view="kinds",
        item=3,
        collection="photos",
    )
    assert read(address.url().removeprefix("/?")) == address


def test_defaults_are_left_out() -> None:
    assert Address().url() == "/"
    assert read("") == Address()


@pytest.mark.parametrize(
    "query",
    [
        "p=item:x",
        "p=item:-1",
        "p=upload:../../etc",
        "p=text:",
        "p=9e99*text:a",
        "p=image:a",
        "kind=picture",
        "f=:x",
        "sort=size",
        "rank=best",
        "cut=1",
        "cut=audio:nan",
        "cut=audio:-1",
        "cut=smell:1",
        "beyond=x",
        "view=x",
        "item=x",
        "item=" + "9" * 30,
        "fold=x",
        "anyway=x",
    ],
)
def test_what_cannot_be_understood_is_left_out(query: str) -> None:
    assert read(query) == Address()


def test_terms_are_parts_of_the_contract() -> None:
    address = read(f"q=+a++dog+&p=0.5*upload:{HELD}&p=-1*item:17")
    assert [term.part.model_dump(exclude_none=True) for term in address.terms] == [
        {"text": "a dog", "weight": 1.0},
        {"upload": HELD, "weight": 0.5},
        {"item": 17, "weight": -1.0},
    ]


def test_the_cut_of_a_kind_comes_before_that_of_all() -> None:
    address = read("cut=all:5&cut=audio:0.1")
    assert [address.cut_of(kind) for kind in ("audio", "image")] == [0.1, 5]
    assert Address().cut_of("image") == 1


def test_toggling_adds_and_takes_away() -> None:
    address = read("f=camera:a&item=3")
    assert address.toggled("f", ("camera", "b")) == "/?f=camera%3Aa&f=camera%3Ab"
    assert address.toggled("f", ("camera", "a")) == "/"
