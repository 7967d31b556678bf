"""The torture test's own judges: they see what is wrong, and only that."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from reindexer.core.items import point_id
from tests.torture.checker import BM25, CHUNKED, Differences, Found, Kept, Row, compare, compare_all
from tests.torture.journal import Entry, wasted
from tests.torture.models import MODELS, vector

ROWS = [
    Row("context_items", str(uuid.UUID(int=n)), [" title ", f"text {n}\n"], {"title": " title ", "metadata": {"n": n}})
    for n in range(3)
]
BLANK = Row("context_items", str(uuid.UUID(int=99)), ["", " \n"], {})
ARTICLE = Row("torture_articles", "größer", ["one two\n\nthree four"], {"views": 1})


def point_of(row: Row, chunk: int = 0, start: int = 0, end: int | None = None) -> Found:
    """As it should be."""
    span = (start, len(row.text) if end is None else end)
    facts = {
        "source": row.source,
        "item_id": row.item_id,
        "chunk": chunk,
        "version": 7,
        "fingerprint": "f",
        "span": span,
    }
    text = row.text[span[0] : span[1]]
    stored = {"passage": text} if row.source == CHUNKED else {}
    payload = {**row.payload, **stored, "_reindexer": facts}
    return Found(point_id(row.source, row.item_id, chunk), vector(None, text), payload)


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
        replace(FIRST, vector=vector(None, "an older text")),
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
    assert compare(ROWS, [*POINTS, Found("x", vector(None, "y"), {})]) == Differences(extra=["x"])


@pytest.mark.parametrize(
    ("chunks", "differences"),
    [
        ([(0, 0, 7), (1, 9, 19)], Differences()),
        ([(0, 0, 19)], Differences()),
        ([], Differences(lost=["torture_articles größer"])),
        ([(0, 0, 7)], Differences(stale=["torture_articles größer"])),
        ([(0, 0, 7), (1, 10, 19)], Differences(stale=["torture_articles größer"])),
        ([(0, 0, 7), (1, 3, 19)], Differences(stale=["torture_articles größer"])),
        ([(0, 0, 7), (1, 9, 19), (3, 9, 19)], Differences(extra=["größer"])),
    ],
    ids=["two", "one", "none", "the second is missing", "a letter is missing", "overlap", "one too many"],
)
def test_chunks_lie_one_after_the_other_and_leave_no_word_out(
    chunks: list[tuple[int, int, int]], differences: Differences
) -> None:
    assert compare([ARTICLE], [point_of(ARTICLE, *chunk) for chunk in chunks]) == differences


def test_a_stored_text_that_is_another_or_lacks_is_stale() -> None:
    right = point_of(ARTICLE)
    assert not compare([ARTICLE], [right])
    for payload in ({**right.payload, "passage": "an older text"}, {"views": 1, "_reindexer": right.facts}):
        assert compare([ARTICLE], [replace(right, payload=payload)]).stale == ["torture_articles größer"]


def test_a_chunk_is_embedded_under_its_title() -> None:
    titled = replace(ARTICLE, title=" Bees ")
    right = replace(point_of(titled), vector=vector(None, f"Bees\n{titled.text}"))
    assert not compare([titled], [right])
    for wrong in (titled.text, f"Wasps\n{titled.text}", f"\n{titled.text}"):
        assert compare([titled], [replace(right, vector=vector(None, wrong))]).stale == ["torture_articles größer"]
    assert not compare([replace(ARTICLE, title=" ")], [point_of(ARTICLE)])


def test_an_embedding_is_wasted_beyond_one_for_each_time_that_it_was_called_for() -> None:
    entries = [Entry(texts=[("one", "a"), ("one", "b")]), Entry(texts=[("one", "a")]), Entry(texts=[("two", "c")])]
    assert wasted(entries, ["a", "b", "a", "c"]) == 0
    assert wasted(entries, ["a", "b", "a", "c", "c", "b", "never committed"]) == 3
    assert wasted([*entries, Entry(asked=["two"])], ["a", "c", "c"]) == 0


def test_every_kept_generation_is_compared_by_its_own_model() -> None:
    kept = [Kept("context_items", 1, "standby", None), Kept("context_items", 2, "active", MODELS[1])]
    of_second = [replace(each, vector=vector(MODELS[1], row.text)) for each, row in zip(POINTS, ROWS, strict=True)]
    collections = {"context_items__g1": POINTS, "context_items__g2": of_second}
    assert not compare_all(ROWS, kept, collections)
    mixed = compare_all(ROWS, kept, {**collections, "context_items__g2": [*of_second[:2], POINTS[2]]})
    assert mixed == Differences(stale=[f"context_items__g2: {ROWS[2].item_id}"])
    lost = compare_all(ROWS, kept, {"context_items__g2": of_second})
    assert len(lost.lost) == 3
    dropped = compare_all(ROWS, kept, {**collections, "context_items__g3": []})
    assert dropped == Differences(extra=["context_items__g3: the collection"])


def test_a_point_that_lacks_its_keywords_or_has_others_is_stale_where_there_are_to_be_some() -> None:
    row = Row("context_items", ROWS[0].item_id, ["the birches 漢字"], {})
    words = BM25.embed_document("birch 漢 字 漢字")
    right = replace(point_of(row), keywords=dict(zip(words.indices, words.values, strict=True)))
    assert not compare([row], [right], has_keywords=True)
    for wrong in (None, {}, {**(right.keywords or {}), 7: 1.0}, dict.fromkeys(words.indices, 1.0)):
        assert compare([row], [replace(right, keywords=wrong)], has_keywords=True).stale == [row.item_id]
    assert not compare([row], [replace(right, keywords=None)])


def test_a_vector_of_one_model_scores_nothing_among_those_of_the_other() -> None:
    assert float(vector(MODELS[0], "a") @ vector(MODELS[1], "a")) == 0.0
