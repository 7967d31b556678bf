"""The change path in one process: triggers, drain, claim, work, settle, on real servers."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator

import numpy as np
import pytest
from qdrant_client import models

from reindexer.adapters.qdrant.index import QdrantIndex
from reindexer.core.errors import SourceError
from reindexer.core.lanes import Lane
from reindexer.core.source import CONTEXT_ITEMS
from reindexer.postgres.connect import Connection, Postgres
from reindexer.queue import requests
from reindexer.queue.claim import claim_batch
from reindexer.queue.dead_letters import heal
from reindexer.queue.drain import drain
from reindexer.queue.settle import Finished, finish
from reindexer.sources.rows import read_rows, without_row
from reindexer.testing.provider import Call, FakeProvider, error, vector_of
from reindexer.worker.worker import Worker
from tests.support.flow import insert, status, work
from tests.support.index_reader import IndexReader
from tests.support.timing import median_ratio


def test_an_inserted_row_becomes_a_point_with_its_vector_and_payload(
    db: Connection, worker: Worker, index: IndexReader
) -> None:
    item_id = insert(db, "some text", "A title")
    assert work(db, worker) == 1
    payload = index.payload(item_id)
    assert payload is not None
    facts = payload.pop("_reindexer")
    assert payload == {"title": "A title", "metadata": {}}
    assert facts["source"] == "context_items"
    assert facts["item_id"] == item_id
    assert facts["chunk"] == 0
    assert index.holds(item_id, vector_of("A title\nsome text"))
    assert status(db, item_id) == ("COMPLETED", None)


def test_an_updated_text_replaces_the_vector(db: Connection, worker: Worker, index: IndexReader) -> None:
    item_id = insert(db, "old")
    work(db, worker)
    db.execute("UPDATE context_items SET content = 'new' WHERE id = %s", [item_id])
    work(db, worker)
    assert index.holds(item_id, vector_of("new"))
    assert index.count() == 1


def test_a_deleted_row_leaves_the_index_and_the_status_view(db: Connection, worker: Worker, index: IndexReader) -> None:
    item_id = insert(db, "text")
    work(db, worker)
    db.execute("DELETE FROM context_items WHERE id = %s", [item_id])
    work(db, worker)
    assert index.count() == 0
    assert status(db, item_id) is None


def test_a_changed_key_moves_the_point(db: Connection, worker: Worker, index: IndexReader) -> None:
    old_id, new_id = insert(db, "text"), str(uuid.uuid4())
    work(db, worker)
    db.execute("UPDATE context_items SET id = %s WHERE id = %s", [new_id, old_id])
    work(db, worker)
    assert index.payload(old_id) is None
    assert index.holds(new_id, vector_of("text"))


def test_truncate_empties_the_index(db: Connection, worker: Worker, index: IndexReader) -> None:
    from reindexer.backfills.pager import walk_page
    from reindexer.sources.store import find_source

    for n in range(5):
        insert(db, f"text {n}")
    work(db, worker)
    assert index.count() == 5
    db.execute("TRUNCATE context_items")
    assert drain(db).walks == 1
    while walk_page(db, lambda name, _: find_source(db, name)):
        pass
    work(db, worker)
    assert index.count() == 0


def test_a_payload_only_change_costs_no_embedding_call(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider
) -> None:
    item_id = insert(db, "text")
    work(db, worker)
    calls = len(provider.calls)
    db.execute("""UPDATE context_items SET metadata = '{"lang": "en", "n": 1.5}' WHERE id = %s""", [item_id])
    work(db, worker)
    payload = index.payload(item_id)
    assert payload is not None
    assert payload["metadata"] == {"lang": "en", "n": 1.5}
    assert index.holds(item_id, vector_of("text"))
    assert len(provider.calls) == calls


def test_an_unchanged_item_that_is_looked_at_again_is_skipped(
    db: Connection, worker: Worker, provider: FakeProvider
) -> None:
    item_id = insert(db, "text")
    work(db, worker)
    calls = len(provider.calls)
    db.execute("INSERT INTO reindexer.outbox (source, item_id) VALUES ('context_items', %s)", [item_id])
    assert work(db, worker) == 1
    assert len(provider.calls) == calls
    assert status(db, item_id) == ("COMPLETED", None)


@pytest.mark.parametrize("text", ["", "   \n\t "])
def test_a_blank_text_is_completed_without_a_point(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider, text: str
) -> None:
    item_id = insert(db, "first a text")
    work(db, worker)
    db.execute("UPDATE context_items SET content = %s WHERE id = %s", [text, item_id])
    work(db, worker)
    assert index.payload(item_id) is None
    assert status(db, item_id) == ("COMPLETED", None)
    assert "" not in provider.inputs


def test_a_rolled_back_write_changes_nothing(db: Connection, worker: Worker, provider: FakeProvider) -> None:
    class Rollback(Exception):
        pass

    with pytest.raises(Rollback), db.transaction():
        insert(db, "text")
        raise Rollback
    assert drain(db).changes == 0
    assert work(db, worker) == 0
    assert not provider.calls


def test_a_hundred_edits_of_one_item_are_one_embedding(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider
) -> None:
    item_id = insert(db, "edit 0")
    for n in range(1, 101):
        db.execute("UPDATE context_items SET content = %s WHERE id = %s", [f"edit {n}", item_id])
    work(db, worker)
    assert provider.inputs == ["edit 100"]
    assert index.holds(item_id, vector_of("edit 100"))


def test_an_edit_while_the_embedding_is_in_flight_is_indexed_after_it(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider
) -> None:
    item_id = insert(db, "first")

    def edit_meanwhile(call: Call) -> None:
        if call.inputs == ("first",):
            db.execute("UPDATE context_items SET content = 'second' WHERE id = %s", [item_id])
            drain(db)

    provider.behave = edit_meanwhile
    work(db, worker)
    assert provider.inputs == ["first", "second"]
    assert index.holds(item_id, vector_of("second"))
    assert status(db, item_id) == ("COMPLETED", None)


def test_one_rejected_input_among_a_hundred_fails_alone(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider
) -> None:
    provider.behave = lambda call: (
        error(400, "invalid_input") if any("poison" in text for text in call.inputs) else None
    )
    ids = [insert(db, f"text {n}" if n != 37 else "poison") for n in range(100)]
    work(db, worker)
    assert index.count() == 99
    failed = status(db, ids[37])
    assert failed is not None
    assert failed[0] == "FAILED"
    assert failed[1] is not None
    assert "400" in failed[1]
    assert len(provider.calls) <= 1 + 2 * np.log2(100)


def settle_s(db: Connection, lane: Lane, *, answers: int) -> float:
    """How long it takes to settle 256 items, with so many requests answered."""
    claim = claim_batch(db, lane, 256, 60)
    assert claim is not None
    began = time.monotonic()
    settled = finish(db, claim, [Finished(item, "COMPLETED", "t", "p", chunks=1) for item in claim.items])
    took_s = time.monotonic() - began
    assert (len(settled.item_ids), len(settled.answers)) == (256, answers)
    return took_s


@pytest.mark.alone
def test_settling_takes_no_longer_because_much_is_due_and_the_planner_knows_nothing(db: Connection) -> None:
    """As in a first fill: nobody has analysed the table yet. (It took 1.3 s while constants named the source.)"""
    db.execute("INSERT INTO context_items (content) SELECT 'text' FROM generate_series(1, 20000)")
    while drain(db).changes:
        pass
    assert min(settle_s(db, Lane.BULK, answers=0) for _ in range(3)) < 0.3


@pytest.mark.alone
def test_settling_takes_no_longer_because_many_requests_are_open_and_the_planner_thinks_that_none_is(
    db: Connection,
) -> None:
    """As after a quiet week. (It took 7 times as long while the planner could read the open requests of all items for each.)"""
    db.execute("ALTER TABLE reindexer.request SET (autovacuum_enabled = false)")
    db.execute("INSERT INTO context_items (content) SELECT 'text' FROM generate_series(1, 1024)")
    ids = [str(item_id) for (item_id,) in db.execute("SELECT id FROM context_items")]
    drain(db)
    db.execute(
        "INSERT INTO reindexer.request (task_id, source, item_id, due_version, succeeded, finished_at)"
        " SELECT gen_random_uuid(), 'context_items', item_id, 1, true, now() FROM unnest(%s::text[]) AS item_id",
        [ids],
    )
    db.execute("ANALYZE reindexer.request")
    for _ in range(40):
        asked = [requests.ReindexRequest(str(uuid.uuid4()), item_id) for item_id in ids]
        assert requests.record(db, "context_items", asked, lane=Lane.BULK, sent=True) == 1024

    def as_the_planner_thinks_s() -> float:
        return settle_s(db, Lane.BULK, answers=40 * 256)

    def known_s() -> float:
        with db.transaction(force_rollback=True):
            db.execute("ANALYZE reindexer.request")
            return as_the_planner_thinks_s()

    slower = median_ratio(as_the_planner_thinks_s, known_s, pairs=3)
    print(f"times as slow: {slower:.2f}")
    assert slower < 3


def test_a_missing_column_makes_the_source_wait_and_deletes_nothing(
    db: Connection, worker: Worker, index: IndexReader
) -> None:
    item_id = insert(db, "text")
    work(db, worker)
    db.execute("ALTER TABLE context_items RENAME COLUMN content TO body")
    db.execute("UPDATE context_items SET body = 'other' WHERE id = %s", [item_id])
    db.execute("INSERT INTO reindexer.outbox (source, item_id) VALUES ('context_items', %s)", [item_id])
    work(db, worker)
    assert index.holds(item_id, vector_of("text"))
    problem = db.execute("SELECT problem FROM reindexer.source").fetchone()
    assert problem is not None
    assert "'content'" in problem[0]
    db.execute("ALTER TABLE context_items RENAME COLUMN body TO content")
    db.execute("UPDATE reindexer.due SET not_before = now()")
    work(db, worker)
    assert index.holds(item_id, vector_of("other"))
    assert db.execute("SELECT problem FROM reindexer.source").fetchone() == (None,)


@pytest.fixture
def hidden(db: Connection, index: IndexReader, worker: Worker) -> Iterator[str]:
    """An indexed item whose row is hidden from the role rx_reader."""
    item_id = insert(db, "text")
    work(db, worker)
    db.execute("DROP ROLE IF EXISTS rx_reader")
    db.execute("CREATE ROLE rx_reader")
    db.execute("GRANT USAGE ON SCHEMA reindexer TO rx_reader")
    db.execute("GRANT ALL ON ALL TABLES IN SCHEMA reindexer TO rx_reader")
    db.execute("GRANT SELECT ON context_items TO rx_reader")
    db.execute("ALTER TABLE context_items ENABLE ROW LEVEL SECURITY")
    yield item_id
    db.execute("RESET ROLE")
    db.execute("DROP OWNED BY rx_reader")
    db.execute("DROP ROLE rx_reader")


def test_a_hidden_row_is_an_error_and_never_a_deletion(
    db: Connection, worker: Worker, index: IndexReader, hidden: str
) -> None:
    db.execute("INSERT INTO reindexer.outbox (source, item_id) VALUES ('context_items', %s)", [hidden])
    drain(db)
    worker.postgres.close()
    url = worker.postgres.url
    url += " options='-c role=rx_reader'" if "://" not in url else "?options=-c%20role%3Drx_reader"
    worker.postgres = Postgres(url, application_name="test")
    worker.run_lane(Lane.LIVE, budget_s=1)
    assert index.holds(hidden, vector_of("text"))
    waits = db.execute("SELECT waits_for FROM reindexer.due WHERE item_id = %s", [hidden]).fetchone()
    assert waits is not None
    assert "row-level security" in waits[0]
    worker.postgres.close()


@pytest.mark.parametrize("setting", ["off", "on"])  # on: a pooler lends a connection that has no settings of ours
def test_a_hidden_row_is_an_error_whatever_the_connection_is_set_to(db: Connection, hidden: str, setting: str) -> None:
    db.execute(f"SET row_security = {setting}".encode())
    assert list(read_rows(db, CONTEXT_ITEMS, [hidden])) == [hidden]
    assert without_row(db, CONTEXT_ITEMS, [hidden]) == []
    db.execute("SET ROLE rx_reader")
    for read in (read_rows, without_row):
        with pytest.raises(SourceError, match="row-level security"):
            read(db, CONTEXT_ITEMS, [hidden])


def test_one_payload_that_qdrant_can_not_take_fails_alone(db: Connection, worker: Worker, index: IndexReader) -> None:
    ids = [insert(db, f"text {n}") for n in range(10)]
    deep = '{"a":' * 300 + "1" + "}" * 300
    db.execute("UPDATE context_items SET metadata = %s WHERE id = %s", [deep, ids[3]])
    work(db, worker)
    assert index.count() == 9
    failed = status(db, ids[3])
    assert failed is not None
    assert failed[0] == "FAILED"
    assert status(db, ids[4]) == ("COMPLETED", None)


def test_what_failed_for_a_passing_cause_is_tried_again_after_growing_waits_and_heals(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider
) -> None:
    provider.behave = lambda call: error(503)
    item_id = insert(db, "text")
    waits = []
    for _ in range(3):
        drain(db)
        while status(db, item_id) not in (("FAILED", "the embedding provider answered 503 (some_error)"),):
            worker.run_lane(Lane.LIVE, budget_s=0)
            worker.run_lane(Lane.BULK, budget_s=0)
        row = db.execute("SELECT extract(epoch FROM heal_at - settled_at)::int FROM reindexer.ledger").fetchone()
        assert row is not None
        waits.append(row[0])
        assert heal(db) == 0
        db.execute("UPDATE reindexer.ledger SET heal_at = now()")
        assert heal(db) == 1
    assert waits == [60, 120, 240]
    provider.behave = lambda call: None
    work(db, worker)
    assert status(db, item_id) == ("COMPLETED", None)
    assert index.holds(item_id, vector_of("text"))


def test_a_request_for_a_row_that_is_gone_also_takes_a_point_that_came_back(
    db: Connection, worker: Worker, index: IndexReader
) -> None:
    from reindexer.core.items import point_id

    item_id = insert(db, "text")
    work(db, worker)
    record = index.client.retrieve("context_items", [point_id("context_items", item_id, 0)], with_vectors=True)[0]
    db.execute("DELETE FROM context_items")
    work(db, worker)
    late = models.PointStruct(id=record.id, vector=record.vector, payload=record.payload)  # type: ignore[arg-type]
    index.client.upsert("context_items", [late], wait=True)
    requests.record(db, "context_items", [requests.ReindexRequest("task", item_id)], lane=Lane.BULK, sent=True)
    work(db, worker)
    assert index.count() == 0


def test_a_qdrant_that_answers_with_an_error_makes_items_wait_with_the_reason_and_burns_no_attempt(
    db: Connection, worker: Worker, provider: FakeProvider
) -> None:
    """As with a wrong API key, or a proxy in between; the provider's server knows no route of Qdrant's."""
    worker.index = QdrantIndex(provider.url.removesuffix("/v1"), api_key=None, grpc_port=None)
    item_id = insert(db, "text")
    work(db, worker)
    assert status(db, item_id) == ("PENDING", "Qdrant answered 501")
    assert db.execute("SELECT attempts, lease_until, doubtful FROM reindexer.due").fetchone() == (0, None, False)
    assert not provider.calls
