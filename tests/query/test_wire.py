"""Hits that travel are the same hits."""

import json
import math
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xsearch.errors import UnknownWords, UsageError
from xsearch.query import Embedded, Hits, Query, image, text
from xsearch.query.wire import from_wire, to_wire
from xsearch.types import Hit, Modality


def unfolded(value: datetime | time) -> datetime | time:
    return value.replace(fold=0)  # of which Arrow knows nothing


zones = st.sampled_from([None, UTC, timezone(timedelta(hours=5, minutes=30))])
plain = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.binary(), st.dates(),
    st.datetimes(timezones=zones).map(unfolded),
    st.times().map(unfolded), st.timedeltas(), st.decimals(allow_nan=False),
)  # fmt: skip
values = st.recursive(
    plain,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.sampled_from(["datetime", "dict", "bytes"]), inner, max_size=3)
    ),
    max_leaves=8,
)


def hit(**extra: object) -> Hit:
    return Hit(
        1, 0.1 + 0.2, None, 1e-300, math.inf, 7, "/m/\udcff ü\n.wav", Modality.AUDIO, 0.0, 10.5, extra=extra
    )


def travelled(hits: Hits, query: Query) -> Hits:
    return from_wire(json.loads(json.dumps(to_wire(hits))), query)


@settings(deadline=None)
@given(values)
def test_metadata_of_any_type_come_back(value):
    (there,) = travelled(Hits([hit(value=value)]), text("a"))
    assert there == hit(value=value)
    assert repr(there) == repr(hit(value=value))  # 1 is no True, and no 1.0


def test_nan_comes_back():
    (there,) = travelled(Hits([hit(value=[math.nan])]), text("a"))
    assert math.isnan(there.extra["value"][0])


def test_a_type_that_does_not_travel_is_refused():
    with pytest.raises(UsageError, match="float32"):
        to_wire(Hits([hit(value=np.float32(1))]))


def test_a_query_comes_back_with_its_kinds_and_without_its_vectors():
    query = image("bird.jpg") - 0.5 * text("cage")
    embedded = Embedded(
        query,
        np.array([0.6, 0.8], np.float32),
        np.eye(2, dtype=np.float32),
        1.25,
        np.array([3, 17]),
        (1, 4),
        ("zebra",),
    )
    hits = Hits([hit()], embedded, 0.25, 3)
    there = travelled(hits, query)
    assert there == hits
    assert (there.nearest_expected, there.kinds, there.problem) == (0.25, 3, None)
    assert repr(there.query.query) == repr(query)
    for name in ("norm", "windows", "left_out", "own", "cosines"):
        assert list(np.ravel(getattr(there.query, name))) == list(np.ravel(getattr(embedded, name)))
    assert there.remark == hits.remark


def test_unknown_words_come_back():
    problem = UnknownWords("a beech", words=["beech"], near=["beach"], model="tiny")
    there = travelled(Hits(problem=problem), text("a beech"))
    assert list(there) == []
    assert there.query is None
    assert str(there.problem) == str(problem)
    assert (there.problem.words, there.problem.near) == (("beech",), ("beach",))


def test_dates_are_no_datetimes():
    about = {
        "day": date(2024, 5, 1),
        "at": datetime(2024, 5, 1),
        "time": time(1, 2, 3, 4),
        "price": Decimal("1.10"),
    }
    (there,) = travelled(Hits([hit(**about)]), text("a"))
    assert [type(value) for value in there.extra.values()] == [date, datetime, time, Decimal]
    assert str(there.extra["price"]) == "1.10"
