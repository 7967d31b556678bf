"""Backfills of the rows that meet a condition: which are picked, and what a wrong condition does."""

from __future__ import annotations

import psycopg
import pytest
from fastapi.testclient import TestClient

from reindexer.backfills import runs
from reindexer.core.errors import SourceLocked
from reindexer.postgres.connect import Connection
from reindexer.queue.drain import drain
from reindexer.testing.provider import vector_of
from reindexer.worker.worker import Worker
from tests.support.backfills import PATH, due, indexed, start, walk
from tests.support.flow import insert, work
from tests.support.index_reader import IndexReader


@pytest.mark.parametrize(
    ("where", "picked"),
    [
        ("title LIKE 'title 1%'", 11),
        ("t.content = 'text 3' -- only this", 1),
        ("false", 0),
        ("NULL", 0),
        ("title = 'a)' OR content IN ('text 1', 'text 2', '%s')", 2),
        ("(SELECT count(*) FROM context_items) = 20", 20),
    ],
)
def test_a_condition_picks_its_rows_on_every_page(db: Connection, worker: Worker, where: str, picked: int) -> None:
    for n in range(20):
        insert(db, f"text {n}", f"title {n}")
    db.execute("DELETE FROM reindexer.outbox")
    run = start(db, where=where)
    walk(db)
    assert (run.total, due(db)) == (picked, picked)
    work(db, worker)
    walk(db)
    assert runs.get(db, run.id).state == "finished"


@pytest.mark.parametrize(
    "where",
    [
        "",
        "true; DROP TABLE context_items",
        "true) OR (true",
        "true) UNION ALL (SELECT true",
        "true] = ARRAY[true",
        "true /*",
        "title = 'open",
        "title = $$open",
        "(true",
        "SELECT true",
        "true, false",
        "nothing = 1",
        "content",
        "count(*) > 1",
        "generate_series(1, 3) > 1",
        "row_number() OVER () > 1",
        "$1 = 1",
        "1 / 0 = 1",
        "title::int = 1",
        "nextval('reindexer.run_id_seq') > 0",
    ],
)
@pytest.mark.first(10)
def test_what_is_no_condition_is_422_in_one_line_and_starts_nothing(
    client: TestClient, db: Connection, where: str
) -> None:
    insert(db, "text", "secret title")
    answer = client.post(PATH, json={"source": "context_items", "where": where})
    assert answer.status_code == 422, answer.text
    assert "condition" in answer.json()["detail"]
    assert "\n" not in answer.json()["detail"]
    assert "secret" not in answer.text
    assert db.execute("SELECT count(*) FROM reindexer.run WHERE kind = 'backfill'").fetchone() == (0,)
    assert db.execute("SELECT count(*) FROM context_items").fetchone() == (1,)


def test_a_condition_that_fails_on_a_later_row_ends_its_run_alone_and_quotes_no_row(
    db: Connection, worker: Worker, index: IndexReader
) -> None:
    insert(db, "text", "1")
    run = start(db, where="title::int = 1")
    secret = insert(db, "text", "secret")
    db.execute("INSERT INTO reindexer.outbox (source) VALUES ('context_items')")
    drain(db)
    walk(db)
    run = runs.get(db, run.id)
    assert run.state == "failed"
    assert "InvalidTextRepresentation" in str(run.error)
    assert "secret" not in str(run.error)
    work(db, worker)
    walk(db)
    assert [each.state for each in runs.recent(db) if each.kind == "whole_source"] == ["finished"]
    assert index.holds(secret, vector_of("secret\ntext"))


def test_a_condition_that_is_too_slow_ends_its_run_and_keeps_the_connection(
    db: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reindexer.backfills.pager.PAGE_S", 0.1)
    for n in range(30):
        insert(db, f"text {n}")
    run = start(db, where="pg_sleep(0.05) IS NOT NULL")
    assert run.total_is_estimate
    walk(db)
    run = runs.get(db, run.id)
    assert (run.state, run.error) == ("failed", "the condition takes too long")
    assert db.execute("SHOW statement_timeout").fetchone() == ("0",)


def test_a_run_whose_table_is_locked_waits_and_its_condition_is_not_blamed(db: Connection, database: str) -> None:
    insert(db, "text")
    run = start(db, where="true")
    with psycopg.connect(database) as other:
        other.execute("LOCK TABLE context_items IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(SourceLocked, match="another session holds a lock on its table"):
            walk(db)
    run = runs.get(db, run.id)
    assert run.state == "running"
    assert "lock" in str(run.error)
    db.execute("UPDATE reindexer.run SET not_before = now()")
    walk(db)
    assert runs.get(db, run.id).queued == 1


def test_a_condition_that_exhausts_the_server_ends_its_run_and_not_the_listener(db: Connection) -> None:
    db.execute("CREATE FUNCTION deep(n int) RETURNS bool LANGUAGE plpgsql AS 'BEGIN RETURN deep(n + 1); END'")
    run = start(db, where="deep(0)")
    insert(db, "text")
    walk(db)
    run = runs.get(db, run.id)
    assert run.state == "failed"
    assert "stack depth" in str(run.error)


def test_a_condition_leaves_no_setting_on_the_listeners_connection(db: Connection) -> None:
    insert(db, "text")
    start(db, where="set_config('search_path', 'nowhere', false) = 'nowhere'")
    walk(db)
    row = db.execute("SHOW search_path").fetchone()
    assert row is not None
    assert row[0] != "nowhere"


def test_a_truncate_during_a_backfill_with_a_condition_empties_the_index(
    db: Connection, worker: Worker, index: IndexReader
) -> None:
    indexed(db, worker, 25)
    run = start(db, where="title = 'title 3'")
    walk(db, pages=1)
    db.execute("TRUNCATE context_items")
    kept = insert(db, "kept", "title 3")
    assert drain(db).walks == 1
    walk(db)
    work(db, worker)
    walk(db)
    assert index.count() == 1
    assert index.holds(kept, vector_of("title 3\nkept"))
    assert runs.get(db, run.id).state == "finished"
    assert {each.state for each in runs.recent(db)} == {"finished"}
