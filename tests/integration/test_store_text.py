"""The text of a chunk in the payload of its point: it is always the text that the point's vector was made of."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reindexer.core.errors import DefinitionError
from reindexer.core.items import point_id
from reindexer.core.profile import Profile
from reindexer.core.search_terms import SearchTerms
from reindexer.core.source import CONTEXT_ITEMS, Source
from reindexer.generations import lifecycle
from reindexer.index.search import collection_of, search
from reindexer.postgres.connect import Connection
from reindexer.postgres.locks import changing_triggers
from reindexer.sources.attach import attach
from reindexer.sources.store import find_source
from reindexer.testing.provider import FakeProvider, error
from reindexer.worker.worker import Worker
from tests.support.flow import insert, work
from tests.support.generations import NAME, settle
from tests.support.index_reader import IndexReader
from tests.support.reconciling import differences, repair

STORED = replace(CONTEXT_ITEMS, store_text="chunk")
LONG = " ".join(f"Sentence number {n} is about something else." for n in range(40))


def attached(db: Connection, worker: Worker, source: Source) -> None:
    with changing_triggers(db):
        attach(db, source)
    settle(db, worker)


def texts(index: IndexReader, item_id: str, key: str = "chunk") -> list[str | None]:
    found: list[str | None] = []
    while (payload := index.payload(item_id, len(found))) is not None:
        found.append(payload.get(key))
    return found


def assert_texts_are_their_spans(index: IndexReader, item_id: str, text: str) -> None:
    stored = texts(index, item_id)
    spans = [(index.payload(item_id, chunk) or {})["_reindexer"]["span"] for chunk in range(len(stored))]
    assert stored == [text[slice(*span)] for span in spans]


def test_each_point_holds_its_own_text_without_prefix_and_header(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider
) -> None:
    item_id = insert(db, LONG, "Bees")
    source = replace(
        STORED, template="{content}", chunk_header="{title}", chunk_tokens=60, profile=Profile(document_prefix="p: ")
    )
    attached(db, worker, source)
    assert len(texts(index, item_id)) > 3
    assert_texts_are_their_spans(index, item_id, LONG)
    assert (index.payload(item_id) or {})["title"] == "Bees"
    there = find_source(db, NAME)
    hits = search(worker.embedder_of(there), worker.index, collection_of(db, there), LONG, SearchTerms(1), timeout_s=5)
    assert hits[0].payload["chunk"] in LONG
    assert differences(db, worker) == {}


def test_a_text_stays_with_its_vector_through_edits_and_payload_changes(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider
) -> None:
    item_id = insert(db, LONG)
    attached(db, worker, replace(STORED, chunk_tokens=60))
    edited = f"A new beginning.\n\n{LONG}"
    db.execute("UPDATE context_items SET content = %s WHERE id = %s", [edited, item_id])
    settle(db, worker)  # chunks move to other numbers, with their vectors
    assert_texts_are_their_spans(index, item_id, edited)
    provider.calls.clear()
    db.execute("UPDATE context_items SET metadata = '{\"a\": 1}' WHERE id = %s", [item_id])
    settle(db, worker)
    assert provider.calls == []
    assert (index.payload(item_id) or {})["metadata"] == {"a": 1}
    assert_texts_are_their_spans(index, item_id, edited)
    assert differences(db, worker) == {}


def test_while_a_new_text_waits_for_the_provider_the_point_keeps_the_old_one_beside_the_new_payload(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider
) -> None:
    item_id = insert(db, "old text")
    attached(db, worker, STORED)
    provider.behave = lambda _: error(500)
    db.execute("UPDATE context_items SET content = 'new text', metadata = '{\"a\": 1}' WHERE id = %s", [item_id])
    work(db, worker)
    payload = index.payload(item_id) or {}
    assert (payload["metadata"], payload.get("chunk")) == ({"a": 1}, "old text")
    provider.behave = lambda _: None
    db.execute("UPDATE reindexer.due SET not_before = now()")
    settle(db, worker)
    assert texts(index, item_id) == ["new text"]


@pytest.mark.parametrize(("before", "after"), [(None, "chunk"), ("chunk", "page"), ("chunk", None)])
def test_a_text_that_comes_back_while_its_key_is_new_is_stored(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider, before: str | None, after: str | None
) -> None:
    item_id = insert(db, "old text")
    attached(db, worker, replace(STORED, store_text=before))
    provider.behave = lambda _: error(503)
    with changing_triggers(db):
        attach(db, replace(STORED, store_text=after))
    db.execute("UPDATE context_items SET content = 'new text', metadata = '{\"a\": 1}' WHERE id = %s", [item_id])
    work(db, worker)
    assert (index.payload(item_id) or {})["metadata"] == {"a": 1}
    db.execute("UPDATE context_items SET content = 'old text' WHERE id = %s", [item_id])
    db.execute("UPDATE reindexer.due SET not_before = now()")
    settle(db, worker)
    payload = index.payload(item_id) or {}
    assert (payload.get("chunk"), payload.get("page")) == (
        "old text" if after == "chunk" else None,
        "old text" if after == "page" else None,
    )
    assert differences(db, worker) == {}


def test_it_is_added_renamed_and_taken_away_in_place_without_the_provider(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider
) -> None:
    item_id = insert(db, "a text")
    attached(db, worker, CONTEXT_ITEMS)
    provider.calls.clear()
    for key in ("chunk", "page_content", None):
        attached(db, worker, replace(CONTEXT_ITEMS, store_text=key))
        wanted: dict[str, Any] = {"title": None, "metadata": {}} | ({key: "a text"} if key else {})
        payload: dict[str, Any] = dict(index.payload(item_id) or {})
        del payload["_reindexer"]
        assert payload == wanted
        assert differences(db, worker) == {}
    assert provider.calls == []


def test_a_rebuild_that_takes_vectors_writes_the_texts(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider
) -> None:
    item_id = insert(db, "a text")
    attached(db, worker, STORED)
    provider.calls.clear()
    source = find_source(db, NAME)
    wanted = replace(source, made_by=None, profile=Profile(collection={"hnsw_config": {"m": 8}}))
    lifecycle.rebuild(db, wanted, str(source.made_by), who="test")
    settle(db, worker)
    assert provider.calls == []
    assert texts(IndexReader(index.client, NAME), item_id) == ["a text"]
    (found,) = index.client.retrieve(f"{NAME}__g2", [point_id(NAME, item_id, 0)])
    assert (found.payload or {})["chunk"] == "a text"


def test_reconcile_finds_another_text_and_repair_mends_it(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider
) -> None:
    item_id = insert(db, "a text")
    attached(db, worker, STORED)
    index.client.set_payload(NAME, {"chunk": "another"}, [point_id(NAME, item_id, 0)], wait=True)
    assert differences(db, worker) == {"stale": [item_id]}
    repair(db, worker)
    assert texts(index, item_id) == ["a text"]


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("title", "store_text is 'title', which the payload has for something else"),
        ("a.b", "store_text is 'a.b'; use letters, digits, '_' and '-', at most 64"),
        ("_reindexer", "store_text is '_reindexer', which is reserved for the program's facts"),
    ],
)
def test_a_key_that_is_taken_is_refused(key: str, words: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        replace(CONTEXT_ITEMS, store_text=key)
    assert words in str(refused.value)
    assert refused.value.key == "store_text"
