"""Whatever writers do in SQL, the index equals the table afterwards; and no statement of theirs ever waits for us."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from qdrant_client import QdrantClient

from reindexer.core.lanes import Lane
from reindexer.core.source import CONTEXT_ITEMS, Source
from reindexer.listener import election
from reindexer.monitoring.status import status
from reindexer.postgres.connect import Connection, connect
from reindexer.queue import requests
from reindexer.queue.claim import claim_batch
from reindexer.queue.dead_letters import heal
from reindexer.queue.drain import drain
from reindexer.queue.settle import Finished, Postponed, finish, postpone
from reindexer.sources.attach import attach
from reindexer.sources.rows import read_rows
from reindexer.sources.store import find_source
from reindexer.testing.provider import FakeProvider, vector_of
from reindexer.testing.waiting import eventually
from tests.support.comparison import differences
from tests.support.flow import Flow, fill, idle, insert
from tests.support.flow import status as status_of
from tests.support.index_reader import IndexReader
from tests.support.processes import Processes
from tests.support.servers import Servers


@pytest.fixture
def filled(db: Connection, flow: Flow, index: IndexReader) -> Flow:
    """Four items are indexed."""
    fill(db)
    assert flow.settles()
    assert index.count() == 4
    return flow


def id_of(db: Connection, title: str) -> str:
    row = db.execute("SELECT id::text FROM context_items WHERE title = %s", [title]).fetchone()
    assert row is not None
    return str(row[0])


def test_an_item_inserted_and_deleted_before_anyone_looked_costs_nothing_and_leaves_nothing(
    db: Connection, flow: Flow, index: IndexReader, provider: FakeProvider
) -> None:
    item_id = insert(db, "short life")
    db.execute("DELETE FROM context_items")
    assert flow.settles()
    assert (provider.calls, index.count(), status_of(db, item_id)) == ([], 0, None)


def test_an_edit_that_is_rolled_back_or_undone_by_a_savepoint_costs_no_embedding(
    db: Connection, filled: Flow, index: IndexReader, provider: FakeProvider
) -> None:
    calls = len(provider.calls)
    with db.transaction(force_rollback=True):
        db.execute("UPDATE context_items SET content = 'never committed'")
        db.execute("DELETE FROM context_items WHERE title = 'first'")
    with db.transaction():
        with db.transaction(force_rollback=True):
            db.execute("UPDATE context_items SET content = 'under a savepoint'")
        db.execute("UPDATE context_items SET content = 'committed' WHERE title = 'second'")
    assert filled.settles()
    assert [call.inputs for call in provider.calls[calls:]] == [("second\ncommitted",)]
    assert differences(db, index) == []


def test_a_changed_key_moves_the_item_and_two_swapped_keys_swap_their_texts(
    db: Connection, filled: Flow, index: IndexReader
) -> None:
    db.execute("ALTER TABLE context_items DROP CONSTRAINT context_items_pkey")
    db.execute("ALTER TABLE context_items ADD PRIMARY KEY (id) DEFERRABLE")
    one, two, moved = id_of(db, "first"), id_of(db, "second"), str(uuid.uuid4())
    db.execute(
        "UPDATE context_items SET id = CASE WHEN id = %s THEN %s::uuid ELSE %s::uuid END WHERE id IN (%s, %s)",
        [one, two, one, one, two],
    )
    db.execute("UPDATE context_items SET id = %s WHERE title = 'third'", [moved])
    assert filled.settles()
    assert index.holds(one, vector_of("second\ntext of second"))
    assert index.holds(two, vector_of("first\ntext of first"))
    assert index.holds(moved, vector_of("third\ntext of third"))
    assert differences(db, index) == []


def test_truncate_and_new_rows_in_one_transaction(db: Connection, filled: Flow, index: IndexReader) -> None:
    kept = id_of(db, "first")
    with db.transaction():
        db.execute("TRUNCATE context_items")
        db.execute("INSERT INTO context_items (id, content) VALUES (%s, 'the same key, another text')", [kept])
        db.execute("INSERT INTO context_items (content) VALUES ('another')")
    assert filled.settles()
    assert index.count() == 2
    assert differences(db, index) == []


def test_merge_on_conflict_and_copy(db: Connection, filled: Flow, index: IndexReader) -> None:
    db.execute(
        """
        MERGE INTO context_items AS t
        USING (VALUES ('first'), ('second'), ('unknown')) AS s (title) ON t.title = s.title
        WHEN MATCHED AND s.title = 'first' THEN UPDATE SET content = 'merged'
        WHEN MATCHED THEN DELETE
        WHEN NOT MATCHED THEN INSERT (title, content) VALUES (s.title, 'inserted by MERGE')
        """
    )
    db.execute(
        "INSERT INTO context_items (id, content) VALUES (%s, 'by conflict'), (gen_random_uuid(), 'beside it')"
        " ON CONFLICT (id) DO UPDATE SET content = excluded.content",
        [id_of(db, "third")],
    )
    db.execute(
        "INSERT INTO context_items (id, content) VALUES (%s, 'not taken') ON CONFLICT DO NOTHING", [id_of(db, "third")]
    )
    with db.cursor() as cursor, cursor.copy("COPY context_items (title, content) FROM STDIN") as copy:
        for n in range(60):
            copy.write_row((f"copied {n}", f"text {n}"))
    eventually(filled.settles)
    assert index.count() == 65
    assert differences(db, index) == []


def test_two_updates_of_a_row_in_one_statement_by_ctes_and_by_a_users_trigger(
    db: Connection, filled: Flow, index: IndexReader
) -> None:
    db.execute(
        """
        WITH one AS (UPDATE context_items SET content = 'by the first' WHERE title = 'first' RETURNING id),
             two AS (UPDATE context_items SET content = 'by the second' WHERE title = 'first' RETURNING id),
             gone AS (DELETE FROM context_items WHERE title = 'second' RETURNING title, content),
             back AS (INSERT INTO context_items (title, content) SELECT title, content || ' moved' FROM gone RETURNING id)
        UPDATE context_items SET title = title || '!' WHERE title = 'third'
        """
    )
    assert filled.settles()
    assert differences(db, index) == []
    db.execute(
        """
        CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            UPDATE context_items SET content = content || ', and again' WHERE id = new.id AND content NOT LIKE '%again';
            RETURN NULL;
        END $$;
        CREATE TRIGGER again AFTER INSERT OR UPDATE ON context_items FOR EACH ROW EXECUTE FUNCTION again();
        """
    )
    db.execute("UPDATE context_items SET content = 'edited'")
    insert(db, "inserted")
    assert filled.settles()
    assert differences(db, index) == []
    assert db.execute("SELECT count(*) FROM context_items WHERE content LIKE '%again'").fetchone() == (5,)


CHILD = Source("context_items_child", "public", "child", ("id",), ("body",), ("parent",))


@pytest.fixture
def child(db: Connection, servers: Servers, index: IndexReader) -> Iterator[IndexReader]:
    db.execute("CREATE TABLE parent (id int PRIMARY KEY)")
    db.execute(
        "CREATE TABLE child (id int PRIMARY KEY, body text,"
        " parent int REFERENCES parent ON DELETE CASCADE ON UPDATE CASCADE)"
    )
    attach(db, CHILD)
    client = QdrantClient(url=servers.qdrant_url, check_compatibility=False, timeout=30)
    yield IndexReader(client, CHILD.alias)
    client.close()


def test_cascades_of_deletes_and_of_updates(db: Connection, flow: Flow, child: IndexReader) -> None:
    db.execute("INSERT INTO parent VALUES (1), (2)")
    db.execute("INSERT INTO child VALUES (1, 'one', 1), (2, 'two', 1), (3, 'three', 2)")
    assert flow.settles()
    db.execute("DELETE FROM parent WHERE id = 1")
    db.execute("UPDATE parent SET id = 7 WHERE id = 2")
    assert flow.settles()
    assert child.count() == 1
    assert (child.payload("3") or {})["parent"] == 7
    assert differences(db, child, "SELECT id::text, body FROM child") == []


def test_one_item_edited_a_hundred_times_a_second_ends_with_its_last_text_and_costs_fewer_embeddings(
    db: Connection, processes: Processes, index: IndexReader, provider: FakeProvider
) -> None:
    provider.latency_s = 0.05
    processes.listener()
    processes.worker()
    item_id = insert(db, "edit 0")
    started, edits = time.monotonic(), 200
    for n in range(1, edits + 1):
        time.sleep(max(0.0, started + n / 100 - time.monotonic()))
        db.execute("UPDATE context_items SET content = %s WHERE id = %s", [f"edit {n}", item_id])
    eventually(lambda: index.holds(item_id, vector_of(f"edit {edits}")))
    eventually(lambda: idle(db))
    assert index.count() == 1
    assert len(provider.inputs) < edits / 2
    assert status(db).failed == 0


def test_a_users_statements_never_wait_for_a_drain_claim_read_request_or_settle_that_is_under_way(
    db: Connection, database: str, index: IndexReader
) -> None:
    """All of them have done their work and have not committed, and the leader sleeps under the bell's lock."""
    for n in range(40):
        insert(db, f"text {n}")
    drain(db)
    with ExitStack() as stack:
        names = ("finish", "postpone", "claim", "drain", "walk", "heal", "read", "request")
        ours = {name: stack.enter_context(connect(database, application_name=f"ours {name}")) for name in names}
        claims = [claim_batch(ours[name], Lane.LIVE, 10, 60) for name in ("finish", "postpone")]
        for connection in ours.values():
            stack.enter_context(connection.transaction(force_rollback=True))
        assert claims[0] is not None
        assert claims[1] is not None
        finish(ours["finish"], claims[0], [Finished(item, "COMPLETED", "x", "y", 1) for item in claims[0].items])
        postpone(ours["postpone"], claims[1], [Postponed(item, 1.0, "later") for item in claims[1].items])
        assert claim_batch(ours["claim"], Lane.LIVE, 10, 60) is not None
        insert(db, "in the outbox")
        assert drain(ours["drain"]).changes == 1
        ours["walk"].execute("INSERT INTO reindexer.run (source, kind) VALUES ('context_items', 'backfill')")
        heal(ours["heal"])
        request = requests.ReindexRequest("a task", str(uuid.uuid4()))
        assert requests.record(ours["request"], "context_items", [request], lane=Lane.BULK, sent=True) == 1
        ids = [str(item_id) for (item_id,) in db.execute("SELECT id FROM context_items")]
        read_rows(ours["read"], CONTEXT_ITEMS, ids)
        assert find_source(ours["read"], "context_items") == CONTEXT_ITEMS

        leader = stack.enter_context(connect(database, application_name="a leader, asleep"))
        assert election.try_lead(leader)
        assert election.try_sleep(leader)

        db.execute("SET lock_timeout = '100ms'")
        db.execute("UPDATE context_items SET content = content || ', edited'")
        db.execute("UPDATE context_items SET id = gen_random_uuid() WHERE content LIKE '%7, edited'")
        db.execute("DELETE FROM context_items WHERE content LIKE '%1, edited'")
        insert(db, "inserted beside them")
        held = db.execute(
            "SELECT DISTINCT mode FROM pg_locks JOIN pg_stat_activity USING (pid)"
            " WHERE application_name LIKE 'ours %' AND relation = 'context_items'::regclass"
        ).fetchall()
        assert held == [("AccessShareLock",)]
        ours["read"].execute("ROLLBACK")
        db.execute("TRUNCATE context_items")
