"""Listener, worker and API as processes of their own, started as the README says; edits by SQL, read back by an
independent client."""

from __future__ import annotations

import ast
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from reindexer.postgres.connect import Connection
from reindexer.testing.processes import log_of
from reindexer.testing.provider import FakeProvider, vector_of
from reindexer.testing.waiting import eventually, seconds_until
from tests.support.flow import idle, insert, status
from tests.support.index_reader import IndexReader
from tests.support.processes import Processes

CANARY = "canary-3f1d9c"


def docstrings() -> Iterator[tuple[str, str]]:
    """(name, text) of the docstrings of the standard library's source: real text."""
    for path in sorted(Path(ast.__file__).parent.rglob("*.py")):
        if any(part in ("test", "tests", "idlelib", "site-packages", "lib2to3") for part in path.parts):
            continue
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node)):
                yield f"{path.stem}.{getattr(node, 'name', '')}", text


@pytest.mark.alone
@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", [2_000, pytest.param(10_000, marks=pytest.mark.long)])
def test_thousands_of_real_texts_then_each_kind_of_edit_within_half_a_second(
    db: Connection, processes: Processes, index: IndexReader, provider: FakeProvider, number: int
) -> None:
    texts = list(docstrings())
    texts = (texts * (number // len(texts) + 1))[:number]
    processes.forked = False  # the very commands that users start
    processes.listener(REINDEXER_EMBEDDER="hashing", REINDEXER_EMBEDDING_DIMENSIONS="256")
    processes.worker(REINDEXER_EMBEDDER="hashing", REINDEXER_EMBEDDING_DIMENSIONS="256")
    processes.api(REINDEXER_EMBEDDER="hashing", REINDEXER_EMBEDDING_DIMENSIONS="256")
    with db.cursor() as cursor, cursor.copy("COPY context_items (title, content) FROM STDIN") as copy:
        for title, text in texts:
            copy.write_row((title, text))
    took = seconds_until(lambda: idle(db), within=200)
    print(f"{number:,} texts in {took:.1f} s")
    assert index.count() == number

    item_id, moved_id = str(uuid.uuid4()), str(uuid.uuid4())
    db.execute("INSERT INTO context_items (id, title, content) VALUES (%s, 'first', 'text')", [item_id])
    inserted = seconds_until(lambda: index.payload(item_id))
    db.execute("UPDATE context_items SET title = 'second' WHERE id = %s", [item_id])
    updated = seconds_until(lambda: (index.payload(item_id) or {}).get("title") == "second")
    db.execute("UPDATE context_items SET id = %s WHERE id = %s", [moved_id, item_id])
    moved = seconds_until(lambda: index.payload(moved_id) and not index.payload(item_id))
    db.execute("DELETE FROM context_items WHERE id = %s", [moved_id])
    deleted = seconds_until(lambda: not index.payload(moved_id))
    print(f"insert {inserted:.3f} s, update {updated:.3f} s, key change {moved:.3f} s, delete {deleted:.3f} s")
    assert max(inserted, updated, moved, deleted) < 0.5
    assert index.count() == number


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
@pytest.mark.first(1)
def test_every_pool_kind_indexes_edits(
    db: Connection, processes: Processes, index: IndexReader, provider: FakeProvider, pool: str
) -> None:
    processes.listener()
    processes.worker(pool=pool)
    ids = [insert(db, f"text {n}") for n in range(50)]
    eventually(lambda: idle(db), within=30)
    assert index.count() == 50
    assert index.holds(ids[7], vector_of("text 7"))


@pytest.mark.long
def test_edits_made_while_no_listener_runs_are_found_by_the_next_one(
    db: Connection, processes: Processes, index: IndexReader
) -> None:
    first = processes.listener()
    processes.worker()
    processes.children.kill(first)
    item_id = insert(db, "made while nobody listened")
    processes.listener()
    eventually(lambda: index.holds(item_id, vector_of("made while nobody listened")))


@pytest.mark.long
def test_a_standby_takes_over_from_a_killed_leader(db: Connection, processes: Processes, index: IndexReader) -> None:
    leader, standby = processes.listener(), processes.listener()
    processes.worker()
    assert "leadership_awaited" in log_of(standby)
    processes.children.kill(leader)
    item_id = insert(db, "text")
    eventually(lambda: index.holds(item_id, vector_of("text")))
    assert "leadership_acquired" in log_of(standby)


@pytest.mark.long
def test_a_lost_connection_of_the_listener_is_made_anew(
    db: Connection, processes: Processes, index: IndexReader
) -> None:
    listener = processes.listener()
    processes.worker()
    db.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'reindexer listener'")
    item_id = insert(db, "text")
    eventually(lambda: index.holds(item_id, vector_of("text")))
    assert "reconnected" in log_of(listener)


def test_sigterm_ends_the_listener_within_five_seconds_with_a_line(processes: Processes) -> None:
    listener = processes.listener()
    assert processes.children.stop(listener, within_s=5) == 0
    assert "listener_stopped" in log_of(listener)


def test_the_listener_logs_state_changes_and_no_ticks(db: Connection, processes: Processes, index: IndexReader) -> None:
    listener = processes.listener()
    processes.worker()
    ids = [insert(db, f"text {n}") for n in range(20)]
    eventually(lambda: status(db, ids[-1]) == ("COMPLETED", None))
    assert len(log_of(listener).splitlines()) == 1


def test_a_flushed_broker_costs_time_and_no_edit(
    db: Connection, processes: Processes, index: IndexReader, redis_url: str
) -> None:
    import redis

    processes.listener()
    item_id = insert(db, "text")
    with redis.Redis.from_url(redis_url) as client:
        eventually(lambda: client.llen("reindexer.live") == 1)
        client.flushall()
    processes.worker()
    eventually(lambda: index.holds(item_id, vector_of("text")))


def test_no_text_leaves_the_users_table_but_to_provider_and_qdrant(
    db: Connection, processes: Processes, index: IndexReader, redis_url: str, provider: FakeProvider
) -> None:
    import redis

    from reindexer.testing.provider import error

    provider.behave = lambda call: error(400, "bad") if any("refused" in text for text in call.inputs) else None
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        listener = processes.listener()
        insert(db, f"{CANARY} first")
        insert(db, f"{CANARY} refused")
        assert CANARY not in str(db.execute("SELECT * FROM reindexer.outbox").fetchall())
        eventually(lambda: client.llen("reindexer.live"))
        assert CANARY not in str(client.lrange("reindexer.live", 0, -1))
        assert CANARY not in str(db.execute("SELECT * FROM reindexer.due").fetchall())
        worker = processes.worker(REINDEXER_LOG_LEVEL="DEBUG")
        eventually(lambda: idle(db))
        stored = [client.get(key) for key in client.scan_iter("celery-task-meta-*")]
        assert CANARY not in str(stored)
    tables = ("outbox", "due", "ledger", "request", "source", "run")
    kept = [db.execute(f"SELECT * FROM reindexer.{table}".encode()).fetchall() for table in tables]
    assert CANARY not in str(kept)
    assert CANARY not in log_of(worker) + log_of(listener)
    assert any(CANARY in text for text in provider.inputs)


def test_a_collection_of_other_dimensions_is_a_clear_error_before_any_work(
    db: Connection, processes: Processes, index: IndexReader, provider: FakeProvider
) -> None:
    from qdrant_client import models

    size = models.VectorParams(size=8, distance=models.Distance.COSINE)
    index.client.create_collection("context_items__g1", vectors_config=size)
    processes.listener()
    worker = processes.worker()
    item_id = insert(db, "text")
    eventually(lambda: "holds vectors of 8 dimensions" in log_of(worker))
    wanted = "REINDEXER_EMBEDDING_DIMENSIONS=8"
    eventually(lambda: (waits := status(db, item_id)) and waits[0] == "PENDING" and wanted in str(waits[1]))
    assert not provider.calls


@pytest.mark.long
def test_a_broker_that_is_flushed_while_workers_run_costs_time_and_no_edit(
    db: Connection, processes: Processes, index: IndexReader, redis_url: str
) -> None:
    import redis

    processes.listener()
    processes.worker()
    first = insert(db, "before")
    eventually(lambda: index.holds(first, vector_of("before")))
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    second = insert(db, "after")
    eventually(lambda: index.holds(second, vector_of("after")))
