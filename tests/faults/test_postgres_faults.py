"""Postgres restarts, crashes under asynchronous commits, ends connections, and has defaults of its own: costs work only.

Each crash is one of a server of the test's own, with fsync on. Its WAL writer rests for ten seconds, so that an
asynchronous commit is really lost.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import httpx
import psycopg
import pytest
from celery.result import AsyncResult

from reindexer.core.lanes import Lane
from reindexer.embedded.children import Children, free_port
from reindexer.migrate import migrate
from reindexer.postgres.connect import Connection, connect
from reindexer.queue.claim import claim_batch
from reindexer.queue.drain import drain
from reindexer.testing.processes import log_of
from reindexer.testing.provider import FakeProvider, vector_of
from reindexer.testing.proxy import Mode
from reindexer.testing.waiting import eventually
from tests.support.applications import application
from tests.support.crashes import Server, Writer
from tests.support.flow import idle, insert, status
from tests.support.index_reader import IndexReader
from tests.support.processes import Processes
from tests.support.proxy import cable, waits_for_a_lock
from tests.support.rooms import room


@pytest.fixture
def server() -> Iterator[Server]:
    with room() as directory, Children(directory / "logs") as children:
        own = Server.make(children, directory / "data", free_port())
        migrate(own.url, with_context_items=True)
        with psycopg.connect(own.url, autocommit=True) as admin:
            admin.execute("UPDATE reindexer.run SET state = 'finished', finished_at = now()")
        yield own


def equal(url: str, index: IndexReader) -> None:
    """Every row's point holds the vector of its text, and there is no other point."""
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT id::text, title, content FROM context_items").fetchall()
    wrong = [title for item_id, title, content in rows if not index.holds(item_id, vector_of(f"{title}\n{content}"))]
    assert not wrong
    assert index.count() == len(rows)


def all_idle(url: str) -> bool:
    with suppress(psycopg.OperationalError), connect(url, application_name="test") as connection:
        return idle(connection)
    return False


@pytest.fixture
def stack(server: Server, env: Mapping[str, str], index: IndexReader, tmp_path: Path) -> Iterator[Processes]:
    """Processes that work on that server."""
    own = {**env, "DATABASE_URL": server.url, "REINDEXER_LEASE_S": "6"}
    with Children(tmp_path / "stack") as children:
        yield Processes(children, own)
        children.stop_together()


@pytest.mark.long
def test_a_text_that_a_crash_took_back_after_it_was_read_does_not_stay_indexed(
    server: Server, stack: Processes, index: IndexReader, provider: FakeProvider
) -> None:
    """The claim is on the disk, the text that was read after it is not: after the crash the row is as before."""
    stack.listener()
    stack.worker(concurrency=1, REINDEXER_LEASE_S="20")
    let_go = threading.Event()

    def hold(call: object) -> None:
        if "lost" in provider.inputs:
            let_go.wait(20)

    with psycopg.connect(server.url) as user:
        item_id = insert(user, "kept")
        user.execute("SET LOCAL synchronous_commit = on")
        user.commit()
        eventually(lambda: index.holds(item_id, vector_of("kept")), within=30)
        eventually(lambda: all_idle(server.url))
        provider.behave = hold
        user.execute("LOCK TABLE context_items IN ACCESS EXCLUSIVE MODE")
        with connect(server.url, application_name="test") as other:
            other.execute(
                "INSERT INTO reindexer.due (source, item_id, generation, lane) VALUES ('context_items', %s, 1, 'live')",
                [item_id],
            )
            eventually(lambda: waits_for_a_lock(other))
        user.execute("UPDATE context_items SET content = 'lost'")
        user.commit()
    eventually(lambda: "lost" in provider.inputs)
    server.crash()
    let_go.set()
    with psycopg.connect(server.url) as user:
        assert user.execute("SELECT content FROM context_items").fetchall() == [("kept",)], "the crash lost nothing"
    eventually(lambda: index.holds(item_id, vector_of("lost")), what="the late write")
    eventually(lambda: all_idle(server.url), within=30)
    assert index.holds(item_id, vector_of("kept"))


@pytest.mark.parametrize("how", ["crash", pytest.param("restart", marks=pytest.mark.long)])
@pytest.mark.first(1)
def test_postgres_stops_again_and_again_while_edits_flow_and_nothing_is_lost(
    server: Server, stack: Processes, index: IndexReader, provider: FakeProvider, how: str
) -> None:
    listener, worker = stack.listener(), stack.worker()
    writer = Writer(server.url, rows=60)
    writer.start()
    for _ in range(3):
        writer.edit_further(150)
        server.restart() if how == "restart" else server.crash()
    writer.edit_further(50)
    writer.stop()
    started = time.monotonic()
    eventually(lambda: all_idle(server.url), within=60)
    print(f"{how}: {writer.edits} edits; idle {time.monotonic() - started:.1f} s after the last")
    equal(server.url, index)
    assert listener.running()
    assert worker.running()
    with connect(server.url, application_name="test") as connection:
        failed = connection.execute("SELECT count(*) FROM reindexer.ledger WHERE outcome = 'FAILED'").fetchone()
    assert failed == (0,)


@pytest.mark.long
def test_tokens_grow_over_a_crash_that_lost_every_commit_that_could_be_lost(server: Server) -> None:
    tokens: list[int] = []
    for _ in range(3):
        with connect(server.url, application_name="test") as connection:
            if not tokens:
                insert(connection, "text")
                drain(connection)
            connection.execute(
                "UPDATE reindexer.due SET not_before = clock_timestamp(), lease_until = clock_timestamp()"
            )
            claim = claim_batch(connection, Lane.LIVE, 10, 60)
            assert claim is not None, "the claim's own commit was on the disk, and with it the drain's before"
            tokens.append(claim.token)
            connection.execute("UPDATE reindexer.due SET token = 1")  # lost
        server.crash()
    assert tokens == sorted(set(tokens))


@pytest.mark.long
def test_a_request_that_was_accepted_is_known_after_a_crash(server: Server, stack: Processes) -> None:
    _, url = stack.api()
    with connect(server.url, application_name="test") as connection:
        item_id = insert(connection, "text")
    key = {"X-API-Key": "test-admin-key"}
    answer = httpx.post(f"{url}/admin/bulk/regenerate-embeddings", json={"context_ids": [item_id]}, headers=key)
    assert answer.status_code == 202
    server.crash()
    task_id = answer.json()["task_ids"][0]
    eventually(lambda: httpx.get(f"{url}/admin/tasks/{task_id}", headers=key, timeout=10).status_code == 200)


@pytest.mark.long
def test_connections_are_terminated_again_and_again_while_edits_flow_and_nothing_is_lost(
    server: Server, stack: Processes, index: IndexReader, provider: FakeProvider
) -> None:
    listener, worker = stack.listener(), stack.worker()
    writer = Writer(server.url, rows=60)
    writer.start()
    with psycopg.connect(server.url, autocommit=True) as admin:
        for _ in range(8):
            writer.edit_further(40)
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'reindexer %'"
            )
    writer.stop()
    started = time.monotonic()
    eventually(lambda: all_idle(server.url), within=60)
    print(f"{writer.edits} edits; idle {time.monotonic() - started:.1f} s after the last")
    equal(server.url, index)
    assert listener.running()
    assert worker.running()


@pytest.mark.parametrize("isolation", ["serializable", pytest.param("repeatable read", marks=pytest.mark.long)])
def test_defaults_of_database_and_role_do_not_concern_us(
    database: str, processes: Processes, index: IndexReader, isolation: str
) -> None:
    name = psycopg.conninfo.conninfo_to_dict(database)["dbname"]
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = '{isolation}'")
        for setting in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
            admin.execute(f"ALTER ROLE postgres IN DATABASE {name} SET {setting} = '1ms'")
    listener = processes.listener()
    workers = [processes.worker(REINDEXER_BATCH_SIZE="8") for _ in range(2)]
    with psycopg.connect(database, autocommit=True, options="-c statement_timeout=0 -c lock_timeout=0") as user:
        for n in range(40):
            insert(user, f"text {n}")
        for n in range(100):
            user.execute(
                "UPDATE context_items SET content = content || %s WHERE content LIKE %s", [".", f"text {n % 40}%"]
            )
    with connect(database, application_name="test") as connection:
        eventually(lambda: idle(connection), within=30)
        rows = connection.execute("SELECT id::text, content FROM context_items").fetchall()
    assert all(index.holds(item_id, vector_of(content)) for item_id, content in rows)
    for each in (listener, *workers):
        for event in (
            "statement_failed",
            "connection_lost",
            "batch_failed",
            "postgres_failed",
            "settle_retried",
            "Traceback",
        ):
            assert event not in log_of(each)


def test_a_lock_on_the_users_table_holds_items_up_and_uses_no_attempt(
    db: Connection, processes: Processes, index: IndexReader, database: str
) -> None:
    processes.listener()
    worker = processes.worker(REINDEXER_POSTGRES_TIMEOUT_S="1")
    with psycopg.connect(database) as user:
        item_id = insert(user, "text")
        user.commit()
        eventually(lambda: index.holds(item_id, vector_of("text")) and idle(db))
        user.execute("LOCK TABLE context_items IN ACCESS EXCLUSIVE MODE")
        user.execute("UPDATE context_items SET content = 'new'")
        db.execute(
            "INSERT INTO reindexer.due (source, item_id, generation, lane) VALUES ('context_items', %s, 1, 'live')",
            [item_id],
        )
        eventually(lambda: log_of(worker).count("postgres_failed") >= 2, within=20)
        state = db.execute("SELECT attempts, losses, waits_for FROM reindexer.due").fetchone()
    print(state)
    eventually(lambda: index.holds(item_id, vector_of("new")), within=20)
    eventually(lambda: idle(db), within=20)
    assert status(db, item_id) == ("COMPLETED", None)


def test_a_deadlock_with_a_user_who_locks_our_rows_costs_a_second_try(
    db: Connection, processes: Processes, index: IndexReader, database: str, provider: FakeProvider
) -> None:
    """Settling locks its rows in the order of their keys; the user goes the other way."""
    let_go = threading.Event()

    def hold(call: object) -> None:
        let_go.wait(20)

    provider.behave = hold
    processes.listener()
    worker = processes.worker()
    ids = ["00000000-0000-0000-0000-00000000000a", "00000000-0000-0000-0000-00000000000b"]
    db.execute("INSERT INTO context_items (id, content) VALUES (%s, 'a'), (%s, 'b')", ids)
    eventually(lambda: provider.calls)
    with psycopg.connect(database) as user:
        user.execute("SET deadlock_timeout = '1min'")
        user.execute("SELECT FROM reindexer.due WHERE item_id = %s FOR UPDATE", [ids[1]])
        let_go.set()
        eventually(lambda: waits_for_a_lock(db))
        user.execute("SELECT FROM reindexer.due WHERE item_id = %s FOR UPDATE", [ids[0]])
    eventually(lambda: idle(db), within=20)
    assert "deadlock detected" in log_of(worker)
    assert all(index.holds(item_id, vector_of(text)) for item_id, text in zip(ids, "ab", strict=True))
    assert sorted(provider.inputs) == ["a", "b"], "what was done was not done twice"


@pytest.mark.long
def test_a_request_whose_message_runs_while_postgres_is_away_is_not_failed_but_fulfilled(
    db: Connection, processes: Processes, index: IndexReader, database: str, redis_url: str
) -> None:
    item_id = insert(db, "text")
    proxy, url = cable(database)
    with proxy:
        processes.listener()
        worker = processes.worker(DATABASE_URL=url, concurrency=1)
        eventually(lambda: idle(db))
        proxy.mode = Mode.CUT
        sender = application(redis_url)
        sent = sender.send_task("reindexer.tasks.regenerate_embedding_task", (item_id,), queue="reindexer.bulk")
        eventually(lambda: log_of(worker).count("request_deferred") >= 2, within=40)
        assert AsyncResult(sent.id, app=sender).state == "PENDING"
        proxy.mode = Mode.PASS
        eventually(lambda: AsyncResult(sent.id, app=sender).state == "SUCCESS", within=40)


@pytest.mark.long
def test_a_worker_whose_connection_leads_nowhere_goes_on_within_the_time_of_a_statement(
    db: Connection, processes: Processes, index: IndexReader, database: str
) -> None:
    proxy, url = cable(database)
    with proxy:
        processes.listener()
        processes.worker(DATABASE_URL=url, REINDEXER_POSTGRES_TIMEOUT_S="2", REINDEXER_LEASE_S="4")
        first = insert(db, "before")
        eventually(lambda: index.holds(first, vector_of("before")))
        proxy.freeze()
        second = insert(db, "after")
        eventually(lambda: index.holds(second, vector_of("after")), within=20)
