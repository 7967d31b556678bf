"""A database that was copied, to a test environment say, while its settings still lead to the original's Qdrant."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace

import psycopg

from reindexer.index.ownership import identity
from reindexer.monitoring.status import status
from reindexer.postgres.connect import Postgres, connect
from reindexer.testing.provider import FakeProvider, vector_of
from reindexer.worker.collections import Collections
from reindexer.worker.worker import Worker
from tests.support.commands import Done
from tests.support.flow import insert, work
from tests.support.index_reader import IndexReader
from tests.support.reconciling import assert_index_equals_table, finish_work, ready
from tests.support.restoring import backup, points
from tests.support.servers import Servers


def at(url: str, worker: Worker, instance: str | None = None) -> Worker:
    """The same worker, at another database."""
    return replace(
        worker, postgres=Postgres(url, application_name="test"), instance=instance, collections=Collections()
    )


def test_a_copy_of_the_database_writes_nothing_to_the_originals_collection(
    database: str,
    worker: Worker,
    index: IndexReader,
    servers: Servers,
    provider: FakeProvider,
    env: Mapping[str, str],
    here: Callable[..., Done],
) -> None:
    with connect(database, application_name="test") as db:
        item_id, gone = ready(db, worker, 2)
    worker.postgres.close()
    with backup(servers, database) as copied:
        before, copy = points(index), at(copied, worker)
        with connect(copied, application_name="test") as db:
            db.execute("UPDATE context_items SET content = 'made up for a test' WHERE id = %s", [item_id])
            db.execute("DELETE FROM context_items WHERE id = %s", [gone])
            provider.calls.clear()
            work(db, copy)
            problem = status(db).sources["context_items"].problem
            assert "belongs to another database" in str(problem)
            assert "`reindexer adopt`" in str(problem)
            assert db.execute("SELECT count(*), max(attempts) FROM reindexer.due").fetchone() == (2, 0)
        assert points(index) == before
        assert not provider.calls
        compared = here("reconcile", "context_items", "--repair", env={**env, "DATABASE_URL": copied})
        assert (compared.returncode, compared.stderr.count("\n")) == (1, 1)
        assert "belongs to another database" in compared.stderr
        with connect(database, application_name="test") as db:
            insert(db, "the original goes on")
            finish_work(db, worker)
            assert_index_equals_table(db, index)
        worker.postgres.close()

        adopted = here("adopt", "--json", env={**env, "DATABASE_URL": copied})
        assert (adopted.returncode, list(json.loads(adopted.stdout))) == (0, ["spending", "context_items", "broker"])
        again = here("adopt", "context_items", env={**env, "DATABASE_URL": copied})
        assert "already" in again.stdout
        with connect(copied, application_name="test") as db:
            db.execute("UPDATE reindexer.due SET not_before = now()")
            finish_work(db, copy)
            assert status(db).sources["context_items"].problem is None
            assert index.holds(item_id, vector_of("made up for a test"))
            audited = db.execute(
                "SELECT action, source, details FROM reindexer.audit ORDER BY id DESC LIMIT 1"
            ).fetchone()
        copy.postgres.close()
        assert audited is not None
        assert audited[:2] == ("adopt", "context_items")
        assert audited[2]["from"] != audited[2]["to"]
        with connect(database, application_name="test") as db:
            insert(db, "and the original is refused")
            work(db, at(database, worker))
            assert "belongs to another database" in str(status(db).sources["context_items"].problem)


def test_a_name_that_is_set_counts_instead_of_what_the_server_tells(
    database: str, worker: Worker, index: IndexReader
) -> None:
    """As where databases are copied file by file, or move from cluster to cluster."""
    with connect(database, application_name="test") as db:
        ready(db, at(database, worker, "production"), 1)
        insert(db, "of the copy")
        work(db, at(database, worker, "staging"))
        assert "belongs to another database (production; this is staging)" in str(
            status(db).sources["context_items"].problem
        )


def test_an_ordinary_role_may_ask_which_database_this_is_and_one_that_may_not_is_let_in(database: str) -> None:
    with connect(database, application_name="test") as db:
        mine = identity(db, None)
        assert mine is not None
        assert mine.endswith(f"/{oid(db)}")
        role = f"rx_role_{oid(db)}"
        db.execute(f"CREATE ROLE {role}".encode())
        try:
            db.execute(f"SET ROLE {role}".encode())
            assert identity(db, None) == mine
            db.execute("RESET ROLE")
            db.execute("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
            db.execute(f"SET ROLE {role}".encode())
            assert identity(db, None) is None
            assert identity(db, "named") == "named"
        finally:
            db.execute("RESET ROLE")
            db.execute(f"DROP ROLE {role}".encode())


def oid(db: psycopg.Connection) -> int:
    row = db.execute("SELECT oid FROM pg_database WHERE datname = current_database()").fetchone()
    assert row is not None
    return int(row[0])
