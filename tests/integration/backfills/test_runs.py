"""A backfill's run, in this process on real servers and over HTTP: counts, edits, pause, cancellation."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from reindexer.backfills import runs
from reindexer.backfills.pager import walk_page
from reindexer.core.errors import SourceError
from reindexer.core.lanes import Lane
from reindexer.monitoring.status import status as state_of_everything
from reindexer.postgres.connect import Connection
from reindexer.queue.drain import drain
from reindexer.sources.store import find_source
from reindexer.testing.provider import FakeProvider, error, vector_of
from reindexer.worker.execution import WorkLimits
from reindexer.worker.worker import Worker
from tests.support.backfills import PATH, due, indexed, start, walk
from tests.support.flow import insert, work
from tests.support.index_reader import IndexReader


def test_a_backfill_is_finished_when_its_last_item_is_settled_and_no_unchanged_text_is_embedded(
    db: Connection, worker: Worker, provider: FakeProvider
) -> None:
    indexed(db, worker, 25)
    calls = len(provider.calls)
    run = start(db)
    assert (run.state, run.total, run.total_is_estimate, run.done) == ("running", 25, False, 0)
    walk(db)
    run = runs.get(db, run.id)
    assert (run.state, run.queued, run.done, run.eta_s) == ("running", 25, 0, None)
    worker.limits = WorkLimits(batch_size=10)
    worker.run_lane(Lane.BULK, budget_s=0)
    walk(db)
    run = runs.get(db, run.id)
    assert (run.state, run.done) == ("running", 10)
    assert run.rate is not None
    assert run.eta_s is not None
    worker.run_lane(Lane.BULK, budget_s=5)
    assert state_of_everything(db).pending == 1
    walk(db)
    run = runs.get(db, run.id)
    assert (run.state, run.total, run.done, run.failed, run.eta_s) == ("finished", 25, 25, 0, None)
    assert run.finished_at is not None
    assert state_of_everything(db).pending == 0
    assert len(provider.calls) == calls


def test_force_embeds_every_item_anew_once(db: Connection, worker: Worker, provider: FakeProvider) -> None:
    indexed(db, worker, 25)
    before = len(provider.inputs)
    start(db, force=True)
    walk(db)
    work(db, worker)
    assert sorted(provider.inputs[before:]) == sorted(provider.inputs[:before])


def test_an_edit_before_and_after_its_page_is_embedded_and_counted_once(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider
) -> None:
    ids = indexed(db, worker, 5)
    before = len(provider.inputs)
    db.execute("UPDATE context_items SET content = 'edited' WHERE id = %s", [ids[0]])
    drain(db)
    run = start(db, force=True)
    walk(db)
    db.execute("UPDATE context_items SET content = 'edited too' WHERE id = %s", [ids[1]])
    work(db, worker)
    walk(db)
    run = runs.get(db, run.id)
    assert (run.state, run.done) == ("finished", 5)
    assert len(provider.inputs) - before == 5
    assert index.holds(ids[0], vector_of("title 0\nedited"))
    assert index.holds(ids[1], vector_of("title 1\nedited too"))


def test_items_that_fail_are_told_and_do_not_hold_the_run_up(
    db: Connection, worker: Worker, provider: FakeProvider
) -> None:
    indexed(db, worker, 12)
    provider.behave = lambda call: error(400, "no") if any("text 7" in text for text in call.inputs) else None
    run = start(db, force=True)
    walk(db)
    work(db, worker)
    walk(db)
    run = runs.get(db, run.id)
    assert (run.state, run.done, run.failed) == ("finished", 12, 1)


def test_a_source_that_can_not_be_read_makes_its_run_wait_and_say_why(db: Connection) -> None:
    insert(db, "text")
    run = start(db)
    db.execute("ALTER TABLE context_items RENAME COLUMN content TO body")
    with pytest.raises(SourceError):
        walk(db)
    run = runs.get(db, run.id)
    assert run.state == "running"
    assert "'content'" in str(run.error)
    walk(db)
    db.execute("ALTER TABLE context_items RENAME COLUMN body TO content")
    db.execute("UPDATE reindexer.run SET not_before = now()")
    walk(db)
    run = runs.get(db, run.id)
    assert (run.queued, run.error) == (1, None)


def test_one_backfill_a_source_is_open_at_a_time(client: TestClient, db: Connection) -> None:
    first = client.post(PATH, json={"source": "context_items"})
    assert first.status_code == 202
    second = client.post(PATH, json={"source": "context_items", "where": "true"})
    assert second.status_code == 409
    assert client.post(PATH, json={"source": "nothing"}).status_code == 404
    assert client.get(f"{PATH}/{first.json()['id']}").json()["state"] == "running"
    listed = client.get(PATH, params={"source": "context_items"}).json()["backfills"]
    assert listed[0]["id"] == first.json()["id"]
    assert {"id", "source", "kind", "state", "total", "total_is_estimate", "queued", "done", "failed", "rate", "eta_s", "started_at", "finished_at", "error"} <= set(listed[0])  # fmt: skip
    walk(db)
    assert client.post(PATH, json={"source": "context_items"}).status_code == 202
    assert client.get(f"{PATH}/{2**62}").status_code == 404
    assert client.post(PATH, json={"source": "context_items"}, headers={"Authorization": ""}).status_code == 401


def test_paused_nothing_is_queued_and_resumed_it_goes_on_where_it_was(
    client: TestClient, db: Connection, worker: Worker
) -> None:
    indexed(db, worker, 25)
    url = f"{PATH}/{client.post(PATH, json={'source': 'context_items'}).json()['id']}"
    walk(db, pages=1)
    assert client.post(f"{url}/pause").json()["state"] == "paused"
    walk(db)
    assert due(db) == 10
    assert state_of_everything(db).pending == 10
    assert state_of_everything(db).open_runs == 1
    work(db, worker)
    paused = client.get(url).json()
    assert (paused["state"], paused["done"], paused["eta_s"]) == ("paused", 10, None)
    assert client.post(f"{url}/resume").json()["state"] == "running"
    walk(db)
    assert due(db) == 15
    work(db, worker)
    walk(db)
    assert client.get(url).json()["state"] == "finished"
    assert [client.post(f"{url}/{act}").status_code for act in ("pause", "resume", "cancel")] == [409] * 3


def test_a_pause_while_a_page_is_read_holds_that_page_back(db: Connection) -> None:
    insert(db, "text")
    run = start(db)

    def pause_meanwhile(name: str, _: int) -> Any:
        runs.pause(db, run.id, who="test")
        return find_source(db, name)

    walk_page(db, pause_meanwhile)
    assert due(db) == 0
    runs.resume(db, run.id, who="test")
    walk(db)
    assert due(db) == 1


def test_cancelled_what_nobody_has_taken_or_asked_for_is_taken_back_and_edits_stay(
    client: TestClient, db: Connection, worker: Worker, index: IndexReader
) -> None:
    ids = indexed(db, worker, 25)
    url = f"{PATH}/{client.post(PATH, json={'source': 'context_items', 'force': True}).json()['id']}"
    db.execute("UPDATE context_items SET content = 'before' WHERE id = %s", [ids[0]])
    drain(db)
    walk(db)
    db.execute("UPDATE context_items SET content = 'after' WHERE id = %s", [ids[1]])
    drain(db)
    cancelled = client.post(f"{url}/cancel").json()
    assert (cancelled["state"], cancelled["queued"], cancelled["done"]) == ("cancelled", 2, 0)
    assert due(db) == 2
    work(db, worker)
    walk(db)
    assert index.holds(ids[0], vector_of("title 0\nbefore"))
    assert index.holds(ids[1], vector_of("title 1\nafter"))
    assert client.get(url).json()["done"] == 2
    assert state_of_everything(db).pending == 0


def test_a_run_that_keeps_the_index_right_can_not_be_cancelled(client: TestClient, db: Connection) -> None:
    db.execute("TRUNCATE context_items")
    drain(db)
    run = runs.recent(db)[0]
    assert run.kind == "whole_source"
    assert client.post(f"{PATH}/{run.id}/cancel").status_code == 409
