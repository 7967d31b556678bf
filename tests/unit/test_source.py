"""Definitions of sources, and the ids of points."""

from __future__ import annotations

import json
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reindexer.core.errors import UsageError
from reindexer.core.items import POINT_NAMESPACE, point_id
from reindexer.core.source import CONTEXT_ITEMS, Source


@pytest.mark.parametrize("name", ["", '"; drop table x; --', "1st", "a b", "x" * 41, "naïve"])
def test_names_that_could_harm_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="source name"):
        Source(name, "public", "t", ("id",), ("body",))


def test_declared_columns_are_text_and_payload_each_once() -> None:
    assert CONTEXT_ITEMS.declared_columns == ("title", "content", "metadata")


def test_the_alias_is_the_name_unless_given() -> None:
    assert Source("s", "public", "t", ("id",), ("body",)).alias == "s"
    assert Source("s", "public", "t", ("id",), ("body",), alias="a", generation=2).collection == "a__g2"


def test_the_reserved_payload_name_is_refused() -> None:
    with pytest.raises(UsageError, match="_reindexer"):
        Source("s", "public", "t", ("id",), ("body",), ("_reindexer",))


@given(st.tuples(st.text(), st.text(), st.integers(0)), st.tuples(st.text(), st.text(), st.integers(0)))
def test_no_two_points_share_an_id(one: tuple[str, str, int], other: tuple[str, str, int]) -> None:
    assert (point_id(*one) == point_id(*other)) == (one == other)


@given(st.text(), st.text(), st.integers(0))
def test_the_id_of_a_point_is_a_uuid_of_a_json_array(source: str, item_id: str, chunk: int) -> None:
    name = json.dumps([source, item_id, chunk], ensure_ascii=False)
    assert point_id(source, item_id, chunk) == str(uuid.uuid5(POINT_NAMESPACE, name))


def test_the_id_of_a_point_never_changes() -> None:
    assert point_id("context_items", "1", 0) == "d299de6b-8bd0-5cae-a088-8fdb806ffaee"
