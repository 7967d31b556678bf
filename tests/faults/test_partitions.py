"""Partitions and inheritance children that come, go and are written directly: nothing missed, nothing left behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from qdrant_client import QdrantClient

from reindexer.core.source import Source
from reindexer.listener.trigger_monitor import Watch
from reindexer.monitoring.status import status
from reindexer.postgres.connect import Connection, connect
from reindexer.sources.attach import attach
from reindexer.testing.waiting import eventually
from reindexer.worker.worker import Worker
from tests.support.comparison import differences
from tests.support.flow import WATCH_S, Flow
from tests.support.index_reader import IndexReader
from tests.support.servers import Servers

LOGS = Source("context_items_logs", "public", "logs", ("id", "day"), ("body",))
ROWS = """SELECT jsonb_build_array(id::text, day::text)::text, body FROM logs"""


@pytest.fixture
def logs(servers: Servers, index: IndexReader, db: Connection) -> Iterator[IndexReader]:
    """A partitioned source, and the reader of its index."""
    db.execute("CREATE TABLE logs (id int, day int, body text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day)")
    db.execute("CREATE TABLE logs_1 PARTITION OF logs FOR VALUES FROM (0) TO (10)")
    db.execute("CREATE TABLE logs_2 PARTITION OF logs FOR VALUES FROM (10) TO (20)")
    attach(db, LOGS)
    db.execute(
        "INSERT INTO logs SELECT n, d, format('row %s of %s', n, d) FROM generate_series(1, 3) n, (VALUES (1), (11)) v (d)"
    )
    client = QdrantClient(url=servers.qdrant_url, check_compatibility=False, timeout=30)
    yield IndexReader(client, LOGS.alias)
    client.close()


@pytest.fixture
def flow(db: Connection, worker: Worker, logs: IndexReader, database: str) -> Iterator[Flow]:
    """All is indexed, and watched."""
    flow = Flow(db, worker)
    with Watch(lambda: connect(database, application_name="watch"), WATCH_S):
        eventually(flow.settles)
        assert differences(db, logs, ROWS) == []
        yield flow


def runs(db: Connection) -> int:
    row = db.execute("SELECT count(*) FROM reindexer.run WHERE source = 'context_items_logs'").fetchone()
    assert row is not None
    return int(row[0])


def test_an_attached_partition_with_rows_is_indexed_and_so_is_what_is_written_to_it_directly(
    db: Connection, flow: Flow, logs: IndexReader
) -> None:
    db.execute("CREATE TABLE logs_3 (LIKE logs INCLUDING ALL)")
    db.execute("INSERT INTO logs_3 VALUES (1, 21, 'there before')")
    db.execute("ALTER TABLE logs ATTACH PARTITION logs_3 FOR VALUES FROM (20) TO (30)")
    db.execute("INSERT INTO logs_3 VALUES (2, 22, 'written directly, at once')")
    eventually(flow.settles)
    db.execute("UPDATE logs_3 SET body = body || ', and later'")
    eventually(flow.settles)
    assert differences(db, logs, ROWS) == []


def test_the_rows_of_a_detached_partition_leave_the_index(db: Connection, flow: Flow, logs: IndexReader) -> None:
    db.execute("ALTER TABLE logs DETACH PARTITION logs_1")
    db.execute("INSERT INTO logs_1 VALUES (9, 9, 'none of the source any more')")
    eventually(flow.settles)
    assert logs.count() == 3
    assert differences(db, logs, ROWS) == []


def test_the_rows_of_a_dropped_partition_leave_the_index(db: Connection, flow: Flow, logs: IndexReader) -> None:
    db.execute("DROP TABLE logs_2")
    eventually(flow.settles)
    assert logs.count() == 3
    assert differences(db, logs, ROWS) == []


def test_a_partition_that_was_detached_for_a_moment_and_changed_meanwhile_is_indexed(
    db: Connection, flow: Flow, logs: IndexReader
) -> None:
    """A worker that looks meanwhile finds none of its rows in the source, and takes them out of the index."""
    db.execute("ALTER TABLE logs DETACH PARTITION logs_1")
    db.execute("UPDATE logs_1 SET body = 'changed outside'")
    flow.settles()
    db.execute("ALTER TABLE logs ATTACH PARTITION logs_1 FOR VALUES FROM (0) TO (10)")
    eventually(flow.settles)
    assert differences(db, logs, ROWS) == []


def test_a_new_empty_partition_gets_its_triggers_and_costs_no_look_at_all_rows(
    db: Connection, flow: Flow, logs: IndexReader
) -> None:
    before = runs(db)
    db.execute("CREATE TABLE logs_3 PARTITION OF logs FOR VALUES FROM (20) TO (30) PARTITION BY RANGE (day)")
    db.execute("CREATE TABLE logs_3a PARTITION OF logs_3 FOR VALUES FROM (20) TO (30)")
    eventually(flow.settles)
    assert runs(db) == before
    db.execute("INSERT INTO logs_3a VALUES (1, 21, 'written directly')")
    db.execute("INSERT INTO logs_3 VALUES (1, 22, 'written to its parent')")
    db.execute("INSERT INTO logs VALUES (1, 23, 'written to the root')")
    eventually(flow.settles)
    assert differences(db, logs, ROWS) == []


def test_vacuum_full_analyze_and_cluster_cost_no_look_at_all_rows(
    db: Connection, flow: Flow, logs: IndexReader
) -> None:
    before = runs(db)
    db.execute("VACUUM (FULL, FREEZE, ANALYZE) logs_1")
    db.execute("CLUSTER logs_2 USING logs_2_pkey")
    db.execute("VACUUM (FREEZE) pg_trigger, pg_attribute, pg_proc, pg_inherits")
    db.execute("VACUUM FULL pg_trigger")
    eventually(flow.settles)
    assert (status(db).triggers, runs(db)) == ("ok", before)


def test_rows_of_inheritance_children_are_indexed_whoever_writes_them(
    db: Connection, flow: Flow, index: IndexReader, worker: Worker
) -> None:
    db.execute("CREATE TABLE child () INHERITS (context_items)")
    db.execute("INSERT INTO child (title, content) VALUES ('child', 'written at once')")
    eventually(flow.settles)
    db.execute("INSERT INTO child (title, content) VALUES ('child', 'written later'), ('child', 'to be deleted')")
    db.execute("UPDATE context_items SET content = content || ', edited through the parent'")
    db.execute("DELETE FROM child WHERE content LIKE 'to be deleted%'")
    eventually(flow.settles)
    assert index.count() == 2
    assert differences(db, index) == []
    db.execute("ALTER TABLE child NO INHERIT context_items")
    eventually(flow.settles)
    assert index.count() == 0
