from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reindexer.core.fingerprint import text_fingerprint
from reindexer.core.items import Row, StoredPoint
from reindexer.core.text.embedding_spec import EmbeddingSpec
from reindexer.index.difference import row_difference, same_json

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=10,
)


def row(text: str = "text", **payload: Any) -> Row:
    return Row("1", text, payload)


def point(text: str = "text", embedder: str = "e", **payload: Any) -> dict[tuple[str, int], StoredPoint]:
    return {("1", 0): StoredPoint("1", 0, 7, text_fingerprint(text, embedder), payload)}


@pytest.mark.parametrize(
    ("wanted", "stored", "difference"),
    [
        (row(a=1), point(a=1), None),
        (row(), {}, "missing"),
        (row("other"), point(), "stale"),
        (row(), point(embedder="older model"), "stale"),
        (row(a=1), point(a=2), "stale"),
        (row(a=1), point(), "stale"),
        (row(""), {}, None),
        (row(""), point(), None),  # that point is an orphan, told as such
    ],
)
def test_a_row_without_its_point_is_missing_and_with_another_text_model_or_payload_stale(
    wanted: Row, stored: dict[tuple[str, int], StoredPoint], difference: str | None
) -> None:
    assert row_difference(wanted, EmbeddingSpec("e", 8192).chunks(wanted.text), stored) == difference


@given(JSON)
def test_json_equals_itself_also_after_a_journey_as_text(value: Any) -> None:
    assert same_json(value, json.loads(json.dumps(value)))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (10**30, 1e30, True),
        (1, 1.0, True),
        (2**53, 2**53 + 1, False),
        (1, 2, False),
        (1, True, False),
        (0, False, False),
        ("1", 1, False),
        (None, False, False),
        ([1, 2], [2, 1], False),
        ([1], [1, 1], False),
        ({"a": 1}, {"a": 1, "b": None}, False),
        ({"a": {"b": [1, {"c": "x"}]}}, {"a": {"b": [1, {"c": "y"}]}}, False),
        (10**30, 10**30 + 1, True),  # doubles can't tell them apart
        (10**400, 10**400, True),
        (10**400, 10**400 + 1, False),  # out of every double's range
    ],
)
def test_json_values_differ_by_kind_order_and_value(one: Any, other: Any, same: bool) -> None:
    assert same_json(one, other) is same
    assert same_json(other, one) is same


def test_deeply_nested_json_is_compared_without_recursion() -> None:
    one: Any = 1
    for _ in range(100_000):
        one = [one]
    assert same_json(one, one)
