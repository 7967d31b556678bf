"""Rows that come by a logical subscription fire no statement trigger; they are indexed like all others."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from reindexer.core.lanes import Lane
from reindexer.postgres.connect import Connection, connect
from reindexer.testing.processes import log_of
from reindexer.testing.waiting import eventually
from reindexer.worker.worker import Worker
from tests.support.comparison import differences
from tests.support.flow import idle, insert
from tests.support.index_reader import IndexReader
from tests.support.processes import Processes
from tests.support.servers import Servers, database_url


@pytest.fixture
def publisher(servers: Servers, db: Connection) -> Iterator[Connection]:
    """Another database with the same table, published."""
    if db.execute("SHOW wal_level").fetchone() != ("logical",):
        pytest.skip("the given server has not wal_level = logical")
    name = f"rx_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(servers.database_url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}".encode())
        with connect(database_url(servers, name), application_name="publisher") as connection:
            connection.execute(
                "CREATE TABLE context_items (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), title text,"
                " content text NOT NULL, metadata jsonb NOT NULL DEFAULT '{}')"
            )
            connection.execute("CREATE PUBLICATION all_rows FOR TABLE context_items")
            yield connection
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@contextmanager
def subscription(db: Connection, publisher: Connection) -> Iterator[None]:
    """Its slot is made by hand: in one cluster CREATE SUBSCRIPTION would wait for itself."""
    slot = f"rx_{uuid.uuid4().hex[:12]}"
    publisher.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [slot])
    at = publisher.info
    leads_to = make_conninfo(host=at.host, port=at.port, user=at.user, password=at.password, dbname=at.dbname)
    db.execute(
        sql.SQL(
            "CREATE SUBSCRIPTION {0} CONNECTION {1} PUBLICATION all_rows WITH (create_slot = false, slot_name = {0})"
        ).format(sql.Identifier(slot), sql.Literal(leads_to))
    )
    try:
        yield
    finally:
        db.execute(f"ALTER SUBSCRIPTION {slot} DISABLE".encode())
        db.execute(f"ALTER SUBSCRIPTION {slot} SET (slot_name = NONE)".encode())
        db.execute(f"DROP SUBSCRIPTION {slot}".encode())
        active = "SELECT active FROM pg_replication_slots WHERE slot_name = %s"
        eventually(lambda: publisher.execute(active, [slot]).fetchone() == (False,))
        publisher.execute("SELECT pg_drop_replication_slot(%s)", [slot])


def test_rows_of_a_logical_subscription_are_indexed_from_the_first_copy_to_truncate(
    db: Connection, publisher: Connection, worker: Worker, processes: Processes, index: IndexReader
) -> None:
    def same() -> bool:
        """The subscriber has what the publisher has, and the index too."""
        worker.run_lane(Lane.LIVE, budget_s=0)
        worker.run_lane(Lane.BULK, budget_s=0)
        rows = [
            each.execute("SELECT id, title, content FROM context_items ORDER BY id").fetchall()
            for each in (publisher, db)
        ]
        return rows[0] == rows[1] and idle(db) and not differences(db, index)

    listener = processes.listener()
    ids = [insert(publisher, f"copied {n}") for n in range(5)]
    with subscription(db, publisher):
        eventually(same, within=30)
        assert index.count() == 5
        publisher.execute("INSERT INTO context_items (title, content) VALUES ('streamed', 'text')")
        publisher.execute("UPDATE context_items SET content = 'edited' WHERE id = %s", [ids[0]])
        publisher.execute("UPDATE context_items SET id = gen_random_uuid() WHERE id = %s", [ids[1]])
        publisher.execute("DELETE FROM context_items WHERE id = %s", [ids[2]])
        eventually(same, within=30)
        assert index.count() == 5
        with publisher.transaction():
            publisher.execute("TRUNCATE context_items")
            insert(publisher, "after the truncate")
        eventually(same, within=30)
        assert index.count() == 1
    assert "fails" not in log_of(listener)
