"""Generations as rows of their own: the migration that made them, who may write them, and which lock comes first."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait

import psycopg
import pytest
from alembic import command
from psycopg.rows import scalar_row
from psycopg.types.json import Jsonb

from reindexer.core.source import CONTEXT_ITEMS
from reindexer.migrate import alembic_config, migrate
from reindexer.postgres.connect import Connection, connect
from reindexer.postgres.queries import load
from reindexer.sources.attach import attach
from reindexer.sources.detach import detach
from reindexer.testing.waiting import eventually

NAME = "context_items"


@pytest.mark.parametrize("act", ["attach", "detach", "names"])
def test_whoever_writes_a_source_waits_for_its_generations_first(db: Connection, database: str, act: str) -> None:
    """As a worker does that notes a problem: it locks the generation's row, and then by a trigger the source's."""
    queries = load("sources.sql")
    db.execute("UPDATE reindexer.source SET definition_hash = 'other'")
    acts = {
        "attach": lambda connection: attach(connection, CONTEXT_ITEMS),
        "detach": lambda connection: detach(connection, CONTEXT_ITEMS, who="test", lease_s=0),
        "names": lambda connection: connection.execute(
            queries["save_names"], {"name": NAME, "was": "other", "names": Jsonb({}), "definition_hash": "new"}
        ),
    }
    with (
        connect(database, application_name="test") as other,
        connect(database, application_name="test") as third,
        ThreadPoolExecutor() as pool,
    ):
        with db.transaction():
            db.execute("SELECT FROM reindexer.generation FOR UPDATE")
            acting = pool.submit(acts[act], other)
            eventually(
                lambda: (
                    third.execute(
                        "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'",
                        [other.info.backend_pid],
                    ).fetchone()
                    == (1,)
                )
            )
            free = third.execute("SELECT name FROM reindexer.source FOR UPDATE SKIP LOCKED").fetchall()
            assert free == [(NAME,)]
        acting.result(10)


def test_a_user_of_the_schema_can_not_write_a_source_by_a_trigger_of_his_own(db: Connection) -> None:
    db.execute("CREATE ROLE rx_nobody; GRANT USAGE ON SCHEMA reindexer TO rx_nobody")
    try:
        with db.transaction(force_rollback=True):
            db.execute("SET LOCAL ROLE rx_nobody")
            db.execute("CREATE TEMP TABLE mine (LIKE pg_class)")
            with pytest.raises(psycopg.errors.InsufficientPrivilege), db.transaction():
                db.execute("CREATE TRIGGER t AFTER INSERT ON mine EXECUTE FUNCTION reindexer.copy_to_source()")
    finally:
        db.execute("DROP OWNED BY rx_nobody; DROP ROLE rx_nobody")


@pytest.mark.first(1)
def test_the_migration_waits_for_a_transaction_that_holds_a_table(empty_url: str) -> None:
    migrate(empty_url, with_context_items=True)
    command.downgrade(alembic_config(empty_url), "0005")
    with psycopg.connect(empty_url) as holder, ThreadPoolExecutor() as pool:
        holder.execute("SELECT FROM reindexer.due")
        migrating = pool.submit(migrate, empty_url)
        wait([migrating], 3)
        assert not migrating.done()
        holder.rollback()
        migrating.result(20)


def test_the_migration_carries_over_what_is_known_and_who_may_write_it(empty_url: str) -> None:
    migrate(empty_url, with_context_items=True)
    command.downgrade(alembic_config(empty_url), "0005")
    with psycopg.connect(empty_url, autocommit=True, row_factory=scalar_row) as db:
        db.execute("CREATE ROLE rx_former_worker")
        try:
            db.execute("GRANT USAGE ON SCHEMA reindexer TO rx_former_worker")
            db.execute("GRANT SELECT ON reindexer.source TO rx_former_worker")
            db.execute("GRANT UPDATE (problem, collection_id) ON reindexer.source TO rx_former_worker")
            db.execute("GRANT DELETE ON reindexer.source TO PUBLIC")
            db.execute(
                "UPDATE reindexer.source SET embedder = 'e', account = 'a', collection_id = 'c', problem = 'p';"
                "INSERT INTO reindexer.run (source, kind) VALUES ('context_items', 'backfill');"
                "INSERT INTO reindexer.request (task_id, source, item_id, due_version) VALUES ('t', 'context_items', '1', 1)"
            )
            command.upgrade(alembic_config(empty_url), "head")
            kept = "SELECT array[embedder, account, collection_id, problem, number::text] FROM reindexer.generation"
            assert db.execute(kept).fetchall() == [["e", "a", "c", "p", "1"]]
            assert db.execute("SELECT DISTINCT generation FROM reindexer.run").fetchall() == [None]
            assert db.execute("SELECT generation FROM reindexer.request").fetchall() == [1]
            db.execute("SET ROLE rx_former_worker")
            db.execute("UPDATE reindexer.generation SET problem = 'another'")
            assert db.execute("SELECT problem FROM reindexer.source").fetchall() == ["another"]
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                db.execute("UPDATE reindexer.generation SET embedder = 'another'")
            db.execute("DELETE FROM reindexer.generation WHERE number = 2")
            db.execute("RESET ROLE")
            command.downgrade(alembic_config(empty_url), "0005")
            was = "SELECT array[embedder, account, collection_id, problem] FROM reindexer.source"
            assert db.execute(was).fetchall() == [["e", "a", "c", "another"]]
            db.execute("SET ROLE rx_former_worker")
            db.execute("UPDATE reindexer.source SET collection_id = 'd', problem = 'd'")
        finally:
            db.execute("RESET ROLE; DROP OWNED BY rx_former_worker; DROP ROLE rx_former_worker")


def test_roles_of_the_version_before_may_move_a_generation_through_its_life(empty_url: str) -> None:
    migrate(empty_url, with_context_items=True)
    command.downgrade(alembic_config(empty_url), "0006")
    with psycopg.connect(empty_url, autocommit=True, row_factory=scalar_row) as db:
        db.execute("CREATE ROLE rx_noter; CREATE ROLE rx_listener; CREATE ROLE rx_other")
        try:
            db.execute("GRANT UPDATE (problem) ON reindexer.generation TO rx_noter")
            db.execute("GRANT UPDATE (facts) ON reindexer.source TO rx_listener")
            command.upgrade(alembic_config(empty_url), "head")
            may = "SELECT has_column_privilege(%s, 'reindexer.generation', %s, 'UPDATE')"
            for column in ("state", "facts", "live_until", "standby_until", "emptied_at", "removed_at"):
                assert db.execute(may, ["rx_noter", column]).fetchone() is True
                assert db.execute(may, ["rx_other", column]).fetchone() is False
            may = "SELECT has_table_privilege(%s, %s, %s)"
            for table, what in (("reindexer.due", "DELETE"), ("reindexer.audit", "INSERT")):
                assert db.execute(may, ["rx_listener", table, what]).fetchone() is True
                assert db.execute(may, ["rx_other", table, what]).fetchone() is False
        finally:
            for role in ("rx_noter", "rx_listener", "rx_other"):
                db.execute(f"DROP OWNED BY {role}; DROP ROLE {role}".encode())
