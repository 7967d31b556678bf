"""Texts that are odd: empty, blank, huge, not quite Unicode."""

from __future__ import annotations

import json

import pytest

from reindexer.flow.work import Worker
from reindexer.postgres.connect import Connection
from tests.integration.test_drain_to_settle import insert, status, work
from tests.support.index_reader import IndexReader
from tests.support.provider import Provider, error, vector_of


@pytest.mark.parametrize("text", ["", " ", "\n\t \r\n", "\u2003\u00a0"], ids=["empty", "space", "lines", "wide spaces"])
def test_an_empty_or_blank_text_is_completed_without_a_point_and_without_a_request(
    db: Connection, worker: Worker, index: IndexReader, provider: Provider, text: str
) -> None:
    new_id, emptied_id, full_id = insert(db, text), insert(db, "soon empty"), insert(db, "full")
    work(db, worker)
    db.execute("UPDATE context_items SET content = %s WHERE id = %s", [text, emptied_id])
    work(db, worker)
    assert status(db, new_id) == status(db, emptied_id) == ("COMPLETED", None)
    assert index.count() == 1
    assert index.holds(full_id, vector_of("full"))
    assert sorted(provider.inputs) == ["full", "soon empty"]


def test_a_text_of_a_megabyte_becomes_chunks_that_the_model_takes_and_its_neighbours_complete(
    db: Connection, worker: Worker, index: IndexReader, provider: Provider
) -> None:
    huge = "0123456789abcdef" * 65_536
    ids = [insert(db, "before"), insert(db, huge), insert(db, "after")]
    work(db, worker)
    assert [status(db, each) for each in ids] == [("COMPLETED", None)] * 3
    facts = [(index.payload(ids[1], chunk) or {})["_reindexer"] for chunk in range(index.count() - 2)]
    assert "".join(huge[slice(*each["span"])] for each in facts) == huge
    assert max(len(text) for text in provider.inputs) < 20_000


def test_what_the_provider_finds_too_long_fails_alone_with_its_reason(
    db: Connection, worker: Worker, index: IndexReader, provider: Provider
) -> None:
    ids = [insert(db, "before"), insert(db, "long " * 1000), insert(db, "after")]
    provider.behave = lambda call: error(413, "too_long") if len("".join(call.inputs)) > 4_000 else None
    work(db, worker)
    assert status(db, ids[1]) == ("FAILED", "the embedding provider answered 413 (too_long): it refuses this input")
    assert status(db, ids[0]) == status(db, ids[2]) == ("COMPLETED", None)
    assert index.holds(ids[0], vector_of("before"))


def test_astral_characters_and_every_other_code_point_arrive_as_they_are(
    db: Connection, worker: Worker, index: IndexReader
) -> None:
    text = "😀 \ufffd \ufeff \u202e \uffff " + "".join(map(chr, range(1, 0x250)))
    item_id = insert(db, text)
    work(db, worker)
    assert index.holds(item_id, vector_of(text.strip()))


@pytest.mark.parametrize(
    "value", [r'"\ud83d"', r'"\udc00\ud83d"', r'"\u0000"'], ids=["high", "wrong order", "zero character"]
)
def test_a_payload_with_a_lone_surrogate_fails_alone_with_a_reason(
    db: Connection, worker: Worker, index: IndexReader, value: str
) -> None:
    """Text and jsonb can't hold one; a column of the type json keeps what was written."""
    db.execute("ALTER TABLE context_items ALTER COLUMN metadata TYPE json")
    ids = [insert(db, f"text {n}") for n in range(9)]
    db.execute("UPDATE context_items SET metadata = %s::json WHERE id = %s", ['{"a": ' + value + "}", ids[4]])
    work(db, worker)
    failed = status(db, ids[4])
    assert failed is not None
    assert failed[0] == "FAILED"
    assert "not valid Unicode" in str(failed[1])
    assert index.count() == 8
    db.execute("UPDATE context_items SET metadata = %s WHERE id = %s", [json.dumps({"a": "😀"}), ids[4]])
    work(db, worker)
    assert (index.payload(ids[4]) or {})["metadata"] == {"a": "😀"}
