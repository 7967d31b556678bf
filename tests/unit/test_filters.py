"""Filters: what users write is understood as it is meant, or refused in one line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as effort
from hypothesis import strategies as st

from reindexer.core.errors import UsageError
from reindexer.core.filters import Absent, AnyOf, Condition, Within, parse_filter, parse_words
from reindexer.core.payload import PayloadColumn, kind_of

COLUMNS = (
    PayloadColumn("price", "float"), PayloadColumn("count", "integer"), PayloadColumn("category", "keyword"),
    PayloadColumn("in_stock", "bool"), PayloadColumn("added", "datetime"), PayloadColumn("owner", "uuid"),
    PayloadColumn("metadata", "json"), PayloadColumn("odd.name", "keyword"), PayloadColumn("span", "other"),
)  # fmt: skip
DAY = datetime(2026, 1, 31, tzinfo=UTC)
UUID = "6F1D8A1E-3f0b-5c55-9a52-7d1c0b1f6f0e"


def one(raw: dict[str, Any]) -> Condition:
    (condition,) = parse_filter(raw, COLUMNS)
    return condition


@pytest.mark.parametrize(
    ("raw", "test"),
    [
        ({"category": "shoes"}, AnyOf(("shoes",))),
        ({"category": ["a", "b"]}, AnyOf(("a", "b"))),
        ({"count": 3}, AnyOf((3,))),
        ({"price": 3}, AnyOf((3,))),
        ({"in_stock": False}, AnyOf((False,))),
        ({"owner": UUID}, AnyOf((UUID.lower(),))),
        ({"price": {"gte": 10, "lt": 50.5}}, Within({"gte": 10, "lt": 50.5})),
        ({"added": {"gt": "2026-01-31"}}, Within({"gt": DAY})),
        ({"added": {"gt": "20260131"}}, Within({"gt": DAY})),
        ({"added": {"gt": "2026-01-31T01:00:00+01:00"}}, Within({"gt": DAY})),
        ({"added": "2026-01-31T00:00:00Z"}, AnyOf((DAY,))),
        ({"added": ["2026-01-31", "2026-02-01"]}, AnyOf((DAY, DAY + timedelta(days=1)))),
        ({"metadata.at": {"gt": "2026-01-31"}}, Within({"gt": DAY})),
        ({"metadata.at": "2026-01-31"}, AnyOf(("2026-01-31",))),
        ({"metadata.n": [1, 1.5]}, AnyOf((1, 1.5))),
        ({"count": 2**53 + 1}, AnyOf((2**53 + 1,))),
        ({"category": None}, Absent()),
        ({"span": "1 day"}, AnyOf(("1 day",))),
    ],
)
def test_a_filter_says_what_the_column_must_be(raw: dict[str, Any], test: object) -> None:
    assert (one(raw).test, one(raw).negated) == (test, False)


def test_not_and_bounds_of_one_column_are_two_conditions() -> None:
    found = parse_filter({"price": {"not": 12, "gte": 10}}, COLUMNS)
    assert [(each.test, each.negated) for each in found] == [(AnyOf((12,)), True), (Within({"gte": 10}), False)]


def test_a_path_leads_into_json_and_a_column_may_have_a_dot_in_its_name() -> None:
    assert one({"metadata.color.name": "red"}).path == ("metadata", "color", "name")
    assert one({"odd.name": "x"}).path == ("odd.name",)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"prise": 1}, "is it 'price'?"),
        ({'metadata.a"b': 1}, "double quote"),
        ({"metadata.a\\b": 1}, "backslash"),
        ({"metadata." + ".".join("x" * 17): 1}, "is no payload column"),
        ({"metadata.x": ["a", 1]}, "values of several types"),
        ({"metadata.x": [True, 1]}, "values of several types"),
        ({"price": [1, None]}, "write a number"),
        ({"category": "\ud800"}, "not valid Unicode"),
        ({"count": {"gt": 2**53 + 1}}, "an integer bound is at most"),
        ({"added": {"gt": "0001-01-01T00:00:00+14:00"}}, "is no time"),
        ({"metadata.x": {"gt": True}}, "a boolean is no bound"),
        ({"_reindexer.item_id": "1"}, "is no payload column"),
        ({"category.x": "1"}, "is no payload column"),
        ({"metadata.": "1"}, "is no payload column"),
        ({"price": "10"}, "write a number"),
        ({"price": True}, "write a number"),
        ({"category": 3}, "write text"),
        ({"in_stock": 1}, "write true or false"),
        ({"added": "yesterday"}, "is no time"),
        ({"owner": "me"}, "is no uuid"),
        ({"price": float("nan")}, "NaN"),
        ({"price": {"gte": float("inf")}}, "infinite"),
        ({"count": 2**70}, "out of range"),
        ({"price": []}, "empty list"),
        ({"price": {}}, "says nothing"),
        ({"price": {"above": 3}}, "'above' is not known"),
        ({"category": {"gte": "a"}}, "bounds are for numbers and times"),
        ({"metadata.x": {"gte": 1, "lt": "2026-01-01"}}, "a number and a time"),
        ({"metadata.x": {"not": {"deep": 1}}}, "write text, a number"),
        ({"category": "x" * 1001}, "longer than 1000"),
        ({"category": ["x"] * 101}, "more than 100 values"),
        ({f"metadata.{n}": 1 for n in range(33)}, "more than 32 keys"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(raw: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_filter(raw, COLUMNS)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("words", "raw"),
    [
        ("category=shoes", {"category": "shoes"}),
        ("category = two words", {"category": "two words"}),
        ("category=3", {"category": "3"}),
        ("category=true", {"category": "true"}),
        ('category="null"', {"category": "null"}),
        ('category=["a", "b"]', {"category": ["a", "b"]}),
        ('category!=["a", "b"]', {"category": {"not": ["a", "b"]}}),
        ("category=a,b", {"category": "a,b"}),
        ("category={}", {"category": "{}"}),
        ("count=[1, 2]", {"count": [1, 2]}),
        ("metadata.size=NaN", {"metadata.size": "NaN"}),
        ("metadata.size=inf", {"metadata.size": "inf"}),
        ("metadata.size=1_000", {"metadata.size": "1_000"}),
        ("category!=red", {"category": {"not": "red"}}),
        ("category=null", {"category": None}),
        ("price>=10", {"price": {"gte": 10}}),
        ("price<9.5", {"price": {"lt": 9.5}}),
        ("in_stock=true", {"in_stock": True}),
        ("added>2026-01-31", {"added": {"gt": "2026-01-31"}}),
        ("metadata.size=42", {"metadata.size": 42}),
        ("metadata.new=false", {"metadata.new": False}),
        ("category=a=b", {"category": "a=b"}),
    ],
)
def test_words_of_a_command_line_mean_the_same_as_json(words: str, raw: dict[str, Any]) -> None:
    assert parse_words([words], COLUMNS) == parse_filter(raw, COLUMNS)


@pytest.mark.parametrize(
    "words", ["category", "=x", "", "price>=cheap", "prise=1", "price=" + "[" * 100_000, "x" * 100_000 + "\n=1"]
)
def test_words_that_can_not_be_read_are_refused_in_one_line(words: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_words([words], COLUMNS)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "raw",
    [
        {"added": "secret"}, {"owner": "secret"}, {"price": "secret"}, {"category": ["secret", 1]},
        {"price": {"gte": "secret"}}, {"x" * 50 + "secret": 1}, {"price": {"x" * 50 + "secret": 1}},
        {"metadata.x\n\u202e": {"y\x1b[2J\n": 1}},
    ],
)  # fmt: skip
def test_a_refusal_holds_no_value_and_of_names_a_printable_start(raw: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as refused:
        parse_filter(raw, COLUMNS)
    assert "secret" not in str(refused.value)
    assert str(refused.value).isascii()
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 300


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["gt", "not", "x"]), inner, max_size=3),
    max_leaves=8,
)


@effort(suppress_health_check=[HealthCheck.too_slow])  # a fresh checkout makes its table of characters first
@given(st.dictionaries(st.sampled_from([c.name for c in COLUMNS] + ["metadata.a.b", "nothing"]), JSON, max_size=4))
def test_any_json_is_either_understood_or_refused(raw: dict[str, Any]) -> None:
    try:
        parse_filter(raw, COLUMNS)
    except UsageError as refused:
        assert "\n" not in str(refused)  # noqa: PT017  either is well


def test_kinds_of_types() -> None:
    assert [kind_of(name, is_enum=False) for name in ("int8", "numeric", "timestamptz", "jsonb", "interval")] == [
        "integer", "float", "datetime", "json", "other",
    ]  # fmt: skip
    assert kind_of("mood", is_enum=True) == "keyword"
