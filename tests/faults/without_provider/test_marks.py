"""Items of which only the embedding is left to do wait marked: no claim takes them in vain."""

from __future__ import annotations

import uuid

from reindexer.backfills import runs
from reindexer.backfills.pager import walk_page
from reindexer.core.lanes import Lane
from reindexer.postgres.connect import Connection
from reindexer.queue import requests
from reindexer.queue.claim import claim_batch, claim_item
from reindexer.queue.drain import drain
from reindexer.sources.store import find_source
from reindexer.testing.provider import Call, FakeProvider, Reply, error
from reindexer.worker.worker import Worker
from tests.support.away import Away, change, marked
from tests.support.flow import insert, status, work
from tests.support.index_reader import IndexReader


def test_marked_items_are_not_claimed_again_use_no_attempt_and_a_later_change_of_any_kind_clears_the_mark(
    db: Connection, worker: Worker, index: IndexReader, away: Away
) -> None:
    away.goes()
    ids = [insert(db, f"text {n}") for n in range(6)]
    work(db, worker)
    rows = "SELECT item_id, token, attempts FROM reindexer.due WHERE item_id = ANY (%s) ORDER BY 1"
    before = db.execute(rows, [ids]).fetchall()
    assert [attempts for *_, attempts in before] == [0] * 6
    db.execute("UPDATE reindexer.due SET not_before = now() WHERE lease_until IS NULL")
    for lane in Lane:
        assert worker.run_lane(lane, budget_s=1) == 0
    assert claim_item(db, "context_items", ids[0], 10, 60) is None
    assert db.execute(rows, [ids]).fetchall() == before, "nobody read them again"
    assert set(ids) <= set(marked(db))
    db.execute("DELETE FROM context_items WHERE id = %s", [ids[0]])
    drain(db)
    request = requests.ReindexRequest(str(uuid.uuid4()), ids[1])
    requests.record(db, "context_items", [request], lane=Lane.BULK, sent=True)
    runs.start(db, find_source(db, "context_items"), who="test", where=f"id = '{ids[2]}'")
    assert walk_page(db, lambda name, _: find_source(db, name))
    assert set(ids) - set(marked(db)) == set(ids[:3])
    work(db, worker)
    assert status(db, ids[0]) is None
    assert set(ids[1:]) <= set(marked(db))
    state = requests.task_state(db, request.task_id)
    assert state is not None
    assert state.state == "RETRY"
    assert "does not answer" in str(state.waits_for)


def test_a_change_that_comes_while_its_item_is_being_marked_is_looked_at_all_the_same(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider
) -> None:
    item_id = insert(db, "A")
    work(db, worker)
    change(db, item_id, "B", "b")
    drain(db)

    def is_deleted_meanwhile(call: Call) -> Reply:
        db.execute("DELETE FROM context_items WHERE id = %s", [item_id])
        drain(db)
        return error(502)

    provider.behave = is_deleted_meanwhile
    worker.run_lane(Lane.LIVE, budget_s=0)
    assert marked(db) == []
    assert index.count() == 1
    work(db, worker)
    assert index.count() == 0


def test_no_claim_is_in_vain_while_marked_items_wait_beside_others(
    db: Connection, worker: Worker, index: IndexReader, away: Away
) -> None:
    away.goes()
    db.execute("INSERT INTO context_items (content) SELECT 'waits ' || n FROM generate_series(1, 50) n")
    work(db, worker)
    db.execute("UPDATE reindexer.due SET not_before = now() WHERE lease_until IS NULL")
    db.execute("INSERT INTO context_items (content) SELECT 'new ' || n FROM generate_series(1, 60) n")
    drain(db)
    assert all(claim_batch(db, Lane.LIVE, 1, 60) for _ in range(60))
    assert claim_batch(db, Lane.LIVE, 1, 60) is None
