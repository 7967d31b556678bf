"""A table that stays locked, as by an ALTER TABLE that rewrites it: its source waits, and no other source with it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import psycopg
import pytest

from reindexer.core.lanes import Lane
from reindexer.core.related import Link, Related
from reindexer.core.source import Source
from reindexer.monitoring.status import status
from reindexer.postgres.connect import LOCK_S, Connection
from reindexer.queue.claim import claim_batch
from reindexer.queue.drain import drain
from reindexer.sources.attach import attach
from reindexer.testing.processes import Processes
from reindexer.testing.waiting import eventually
from reindexer.worker.worker import Worker
from tests.support.flow import idle, insert
from tests.support.index_reader import IndexReader

TABLES = """
CREATE TABLE customers (id int PRIMARY KEY, name text);
CREATE TABLE tickets (id int PRIMARY KEY, body text, customer_id int REFERENCES customers);
CREATE INDEX ON tickets (customer_id);
INSERT INTO customers SELECT n, 'customer ' || n FROM generate_series(1, 5) n;
INSERT INTO tickets SELECT n, 'ticket ' || n, 1 + n % 5 FROM generate_series(1, 100) n;
"""
TICKETS = Source(
    "tickets", "public", "tickets", ("id",), ("body", "customer.name"),
    related=(Related("customer", (Link("public", "customers", ("customer_id",), ("id",)),), key_columns=("id",)),),
)  # fmt: skip
OVERHEAD_S = 1.5
"""What an edit takes at most beside the wait for a lock, on a machine that runs other tests."""


@contextmanager
def locked(database: str, table: str) -> Iterator[None]:
    """As by an ALTER TABLE that has not committed."""
    with psycopg.connect(database) as other:
        other.execute(f"ALTER TABLE {table} ADD COLUMN added int".encode())
        yield
        other.rollback()


def is_indexed(index: IndexReader, item_id: str) -> bool:
    return index.vector(item_id) is not None


@pytest.fixture
def tickets(db: Connection, index: IndexReader, processes: Processes) -> Iterator[IndexReader]:
    """Attached and indexed, beside context items."""
    db.execute(TABLES)
    attach(db, TICKETS)
    processes.listener()
    processes.worker()
    insert(db, "before")
    eventually(lambda: idle(db), within=60)
    yield IndexReader(index.client, "tickets")
    for collection in index.client.get_collections().collections:
        if collection.name.startswith("tickets"):
            index.client.delete_collection(collection.name)


@pytest.mark.parametrize(
    ("table", "locked_s"),
    [("customers", 8), *(pytest.param(*each, marks=pytest.mark.long) for each in [("tickets", 8), ("customers", 30)])],
)
@pytest.mark.long
def test_a_locked_table_stops_no_other_source_for_longer_than_the_lock_timeout(
    db: Connection, index: IndexReader, tickets: IndexReader, database: str, table: str, locked_s: int
) -> None:
    took_s: list[float] = []
    wrote_s: list[float] = []
    db.execute("UPDATE tickets SET body = body || ', due when it is locked' WHERE id > 50")
    with locked(database, table):
        db.execute("INSERT INTO reindexer.run (source, kind) VALUES ('tickets', 'backfill')")
        until = time.monotonic() + locked_s
        while time.monotonic() < until:
            if table == "customers":
                began = time.monotonic()
                db.execute("UPDATE tickets SET body = body || '.' WHERE id = %s", [len(wrote_s) + 1])
                wrote_s.append(time.monotonic() - began)
            item_id, began = insert(db, "beside it"), time.monotonic()
            eventually(partial(is_indexed, index, item_id), within=locked_s + 30, every=0.02)
            took_s.append(time.monotonic() - began)
            time.sleep(0.1)
        print(f"{table}: {len(took_s)} edits of another source, the slowest {max(took_s):.2f} s")
        assert "lock" in str(status(db).sources["tickets"].problem)
    assert max(took_s) <= LOCK_S + OVERHEAD_S
    assert max(wrote_s, default=0.0) <= OVERHEAD_S
    eventually(lambda: idle(db), within=60)
    assert status(db).sources["tickets"].problem is None
    assert tickets.count() == 100


def test_a_worker_leaves_a_locked_source_alone_for_a_while(db: Connection, database: str, worker: Worker) -> None:
    """Its items that become due meanwhile would hold up one thread after the other."""
    for content in ("first", "second"):
        insert(db, content)
        drain(db)
        if content == "first":
            with locked(database, "context_items"):
                assert worker.run_lane(Lane.LIVE) == 0
    assert worker.claim(Lane.LIVE) is None
    assert claim_batch(db, Lane.LIVE, 10, 60) is not None, "others may try"
