"""However many texts wait for the provider, what needs none goes on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reindexer.backfills import runs
from reindexer.backfills.pager import walk_page
from reindexer.core.lanes import Lane
from reindexer.postgres.connect import Connection
from reindexer.queue.drain import drain
from reindexer.sources.attach import attach
from reindexer.sources.store import find_source
from reindexer.testing.waiting import eventually
from reindexer.worker.worker import Worker
from tests.support.away import Away, marked
from tests.support.flow import insert, work
from tests.support.index_reader import IndexReader


def test_the_backlog_of_a_backfill_stays_short_while_the_provider_is_away(
    db: Connection, worker: Worker, index: IndexReader, away: Away, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reindexer.backfills.pager.PAGE", 20)
    monkeypatch.setattr("reindexer.backfills.pager.MAX_BACKLOG", 60)
    away.goes()
    db.execute("INSERT INTO context_items (content) SELECT 'text ' || n FROM generate_series(1, 200) n")
    db.execute("DELETE FROM reindexer.outbox")
    runs.start(db, find_source(db, "context_items"), who="test")

    def goes_on() -> bool:
        walked = walk_page(db, lambda name, _: find_source(db, name))
        worker.run_lane(Lane.BULK, budget_s=5)
        return walked

    while goes_on():
        pass
    assert 60 <= len(marked(db)) <= 80
    (run,) = [each for each in runs.recent(db, "context_items") if each.is_open]
    runs.cancel(db, run.id, who="test")
    assert len(marked(db)) == 1, "and what it queued goes with it"


def test_truncate_empties_the_index_while_as_many_texts_wait_as_a_backfill_may_have_due(
    db: Connection, worker: Worker, index: IndexReader, away: Away, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reindexer.backfills.pager.PAGE", 20)
    monkeypatch.setattr("reindexer.backfills.pager.MAX_BACKLOG", 60)
    insert(db, "was there")
    work(db, worker)
    assert index.count() == 1
    away.goes()
    _make_wait_in_bulk(db, worker, 70)
    db.execute("TRUNCATE context_items")
    eventually(lambda: _has_left(db, worker, index))


def test_rows_that_a_changed_condition_leaves_out_leave_the_index_while_as_many_texts_wait(
    db: Connection, worker: Worker, index: IndexReader, away: Away, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reindexer.backfills.pager.PAGE", 20)
    monkeypatch.setattr("reindexer.backfills.pager.MAX_BACKLOG", 60)
    insert(db, "was there", "secret")
    work(db, worker)
    assert index.count() == 1
    away.goes()
    _make_wait_in_bulk(db, worker, 70)
    attach(db, replace(find_source(db, "context_items"), condition="title <> 'secret'", condition_columns=("title",)))
    eventually(lambda: _has_left(db, worker, index))


def _make_wait_in_bulk(db: Connection, worker: Worker, texts: int) -> None:
    """So many items of the bulk lane of which nothing but an embedding is left to do."""
    db.execute(
        "INSERT INTO context_items (title, content) SELECT 'public', 'text ' || n FROM generate_series(1, %s) n",
        [texts],
    )
    drain(db)
    db.execute("UPDATE reindexer.due SET lane = 'bulk'")
    worker.run_lane(Lane.BULK, budget_s=5)
    assert len(marked(db)) >= texts - 10


def _has_left(db: Connection, worker: Worker, index: IndexReader) -> bool:
    """Nothing is in the index, after another step of the listener and of a worker."""
    drain(db)
    walk_page(db, lambda name, _: find_source(db, name))
    worker.run_lane(Lane.BULK, budget_s=5)
    return index.count() == 0
