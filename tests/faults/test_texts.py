"""Texts that are odd: empty, blank, huge, not quite Unicode."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from contextlib import closing

import pytest

from reindexer.core.lanes import Lane
from reindexer.index import reconcile
from reindexer.index.search import collection_of
from reindexer.monitoring.status import item
from reindexer.postgres.connect import Connection
from reindexer.queue import requests
from reindexer.sources.embedding_specs import embedding_spec_of
from reindexer.sources.estimate import estimate
from reindexer.sources.store import find_source
from reindexer.testing.provider import Call, FakeProvider, Reply, vector_of
from reindexer.worker.worker import Worker
from tests.support.flow import insert, status, work
from tests.support.index_reader import IndexReader


@pytest.mark.parametrize("text", ["", " ", "\n\t \r\n", "\u2003\u00a0"], ids=["empty", "space", "lines", "wide spaces"])
def test_an_empty_or_blank_text_is_completed_without_a_point_and_without_a_request(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider, text: str
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
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider
) -> None:
    huge = "0123456789abcdef" * 65_536
    ids = [insert(db, "before"), insert(db, huge), insert(db, "after")]
    work(db, worker)
    assert [status(db, each) for each in ids] == [("COMPLETED", None)] * 3
    facts = [(index.payload(ids[1], chunk) or {})["_reindexer"] for chunk in range(index.count() - 2)]
    assert "".join(huge[slice(*each["span"])] for each in facts) == huge
    assert max(len(text) for text in provider.inputs) < 20_000


WORDS = {
    "OpenAI": (400, "This model's maximum context length is 8192 tokens, however you requested 9001 tokens."),
    "llama.cpp": (500, "input is too large to process. increase the physical batch size"),
    "without words": (413, ""),
}


def refuses(status: int, words: str, text: Callable[[str], bool]) -> Callable[[Call], Reply | None]:
    """A provider that refuses each request with such a text in it."""
    answer = Reply(status, {"error": {"message": words, "type": "invalid_request_error", "code": None}})
    return lambda call: answer if any(map(text, call.inputs)) else None


@pytest.mark.parametrize("vendor", WORDS)
def test_what_the_provider_finds_too_long_is_cut_smaller_until_it_takes_it(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider, vendor: str
) -> None:
    long = "long words " * 500
    ids = [insert(db, "before"), insert(db, long), insert(db, "after")]
    provider.behave = refuses(*WORDS[vendor], lambda text: len(text) > 2_000)
    work(db, worker)
    assert [status(db, each) for each in ids] == [("COMPLETED", None)] * 3
    facts = [(index.payload(ids[1], chunk) or {})["_reindexer"] for chunk in range(index.count() - 2)]
    assert " ".join(long[slice(*each["span"])] for each in facts) == long.strip()
    assert index.holds(ids[0], vector_of("before"))


def test_a_text_of_more_than_half_of_what_the_model_takes_is_cut_smaller_whatever_the_reason_and_others_fail(
    db: Connection, worker: Worker, provider: FakeProvider
) -> None:
    """Not every provider's words for "too long" are known."""
    ids = [insert(db, "cook and bake " * 1_000), insert(db, "cook and bake " * 400)]
    provider.behave = refuses(400, "no", lambda text: len(text) > 5_000)
    work(db, worker)
    assert [status(db, each) for each in ids] == [
        ("COMPLETED", None), ("FAILED", "the embedding provider answered 400: it refuses this input"),
    ]  # fmt: skip


def test_a_text_that_is_refused_however_small_it_is_cut_fails_after_few_requests(
    db: Connection, worker: Worker, provider: FakeProvider
) -> None:
    item_id = insert(db, "long words " * 500 + "kaput" + " and more" * 500)
    provider.behave = refuses(400, "maximum context length is 8192 tokens", lambda text: "kaput" in text)
    work(db, worker)
    assert status(db, item_id) == ("FAILED", "the embedding provider answered 400: too long for it")
    assert len(provider.calls) < 60


def test_all_processes_cut_in_the_same_way_what_the_provider_found_too_long(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider
) -> None:
    item_id = insert(db, "long words " * 500)
    provider.behave = refuses(413, "", lambda text: len(text) > 2_000)
    work(db, worker)
    source = find_source(db, "context_items")
    spec = embedding_spec_of(source, worker.embedder_of(source))
    known = item(db, source, item_id, spec)
    assert known is not None
    assert (known.chunks, known.wanted) == (index.count(), known.indexed)
    assert estimate(db, source, spec).changed == 0
    sides = reconcile.Sides(db, worker.index, source, collection_of(db, source), spec, 5)
    with closing(reconcile.compare(sides, lambda *_: None, wait_s=0, pause_s=0.05)) as found:
        assert found.differences == 0
    provider.calls.clear()
    db.execute("UPDATE context_items SET metadata = '{\"a\": 1}'")
    work(db, worker)
    db.execute("UPDATE context_items SET content = content || 'the end.'")
    work(db, worker)
    assert [len(call.inputs) for call in provider.calls] == [1]
    assert status(db, item_id) == ("COMPLETED", None)


def test_how_small_a_text_was_cut_is_tried_anew_by_who_wants_it_embedded_anew_and_forgotten_with_its_row(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider
) -> None:
    item_id = insert(db, "long words " * 500)
    provider.behave = refuses(413, "", lambda text: len(text) > 2_000)
    work(db, worker)
    assert index.count() > 1
    provider.behave = lambda call: None
    requests.record(
        db, "context_items", [requests.ReindexRequest(str(uuid.uuid4()), item_id)], lane=Lane.BULK, sent=True
    )
    work(db, worker)
    worker.run_lane(Lane.BULK)
    assert index.count() == 1
    db.execute("DELETE FROM context_items")
    work(db, worker)
    assert db.execute("SELECT chunk_tokens FROM reindexer.ledger").fetchall() == [(None,)]


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
