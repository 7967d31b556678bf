"""Filters: what users write is understood as it is meant, or refused in one line."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reindexer.core.errors import UsageError
from reindexer.core.filters import Absent, AnyOf, Condition, Within, parse_filter, parse_words
from reindexer.core.payload import PayloadColumn, kind_of

COLUMNS = (
    PayloadColumn("price", "float"), PayloadColumn("count", "integer"), PayloadColumn("category", "keyword"),
    PayloadColumn("in_stock", "bool"), PayloadColumn("added", "datetime"), PayloadColumn("owner", "uuid"),
    PayloadColumn("metadata", "json"), PayloadColumn("odd.name", "keyword"), PayloadColumn("span", "other"),
)  # fmt: skip
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
        ({"added": {"gt": "2026-01-31"}}, Within({"gt": "2026-01-31"})),
        ({"added": "2026-01-31T12:00:00Z"}, Within({"gte": "2026-01-31T12:00:00Z", "lte": "2026-01-31T12:00:00Z"})),
        ({"category": None}, Absent()),
        ({"span": "1 day"}, AnyOf(("1 day",))),
    ],
)
def test_a_filter_says_what_the_column_must_be(raw: dict[str, Any], test: object) -> None:
    assert one(raw) == Condition((next(iter(raw)),), one(raw).kind, test)  # type: ignore[arg-type]


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
        ({"_reindexer.item_id": "1"}, "is no payload column"),
        ({"category.x": "1"}, "is no payload column"),
        ({"metadata.": "1"}, "is no payload column"),
        ({"price": "10"}, "write a number"),
        ({"price": True}, "write a number"),
        ({"category": 3}, "write text"),
        ({"in_stock": 1}, "write true or false"),
        ({"added": "yesterday"}, "is no time"),
        ({"added": ["2026-01-01", "2026-01-02"]}, "write bounds"),
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


@pytest.mark.parametrize("words", ["category", "=x", "", "price>=cheap", "prise=1"])
def test_words_that_can_not_be_read_are_refused_in_one_line(words: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_words([words], COLUMNS)
    assert "\n" not in str(refused.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["gt", "not", "x"]), inner, max_size=3),
    max_leaves=8,
)


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
