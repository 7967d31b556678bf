"""The torture test's own judges: they see what is wrong, and only that."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from reindexer.core.items import point_id
from tests.support.provider import vector_of
from tests.torture.checker import Differences, Found, Row, compare
from tests.torture.journal import Entry, wasted

ROWS = [Row(str(uuid.UUID(int=n)), " title ", f"text {n}\n", {"n": n}) for n in range(3)]
BLANK = Row(str(uuid.UUID(int=99)), "", " \n", {})


def point_of(row: Row) -> Found:
    """As it should be."""
    facts = {"source": "context_items", "item_id": row.item_id, "chunk": 0, "version": 7, "fingerprint": "f"}
    payload = {"title": row.title, "metadata": row.metadata, "_reindexer": facts}
    return Found(point_id("context_items", row.item_id, 0), vector_of(f"title\n{row.content.strip()}"), payload)


def with_payload(point: Found, changes: Mapping[str, Any]) -> Found:
    return replace(point, payload={**point.payload, **changes})


POINTS = [point_of(row) for row in ROWS]
FIRST = POINTS[0]


def test_an_index_that_equals_the_table_has_no_differences() -> None:
    assert not compare([*ROWS, BLANK], POINTS)
    assert not compare([], [])


def test_a_row_without_a_point_is_lost() -> None:
    assert compare(ROWS, POINTS[1:]) == Differences(lost=[ROWS[0].item_id])


@pytest.mark.parametrize(
    "wrong",
    [
        replace(FIRST, vector=vector_of("an older text")),
        with_payload(FIRST, {"title": "an older title"}),
        with_payload(FIRST, {"metadata": {"n": 0, "and": "more"}}),
        with_payload(FIRST, {"foreign": 1}),
        with_payload(FIRST, {"_reindexer": {**FIRST.facts, "item_id": ROWS[1].item_id}}),
    ],
    ids=["vector", "title", "metadata", "a column too many", "whose it is"],
)
def test_a_point_that_does_not_equal_its_row_is_stale(wrong: Found) -> None:
    assert compare(ROWS, [wrong, *POINTS[1:]]) == Differences(stale=[ROWS[0].item_id])


def test_points_without_a_row_without_text_or_of_another_collection_are_extra() -> None:
    assert compare(ROWS[1:], POINTS) == Differences(extra=[ROWS[0].item_id])
    assert compare([BLANK], [point_of(BLANK)]) == Differences(extra=[BLANK.item_id])
    assert compare(ROWS, [*POINTS, FIRST]) == Differences(extra=[ROWS[0].item_id])
    assert compare(ROWS, [*POINTS, Found("x", vector_of("y"), {})]) == Differences(extra=["x"])


def test_an_embedding_is_wasted_beyond_one_for_each_time_that_it_was_called_for() -> None:
    entries = [Entry(texts=[("one", "a"), ("one", "b")]), Entry(texts=[("one", "a")]), Entry(texts=[("two", "c")])]
    assert wasted(entries, ["a", "b", "a", "c"]) == 0
    assert wasted(entries, ["a", "b", "a", "c", "c", "b", "never committed"]) == 3
    assert wasted([*entries, Entry(wishes=["two"])], ["a", "c", "c"]) == 0
