"""What is wrong with a generation beside the active one: nothing of the active one waits, stops or hides."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import pytest

from reindexer.generations import lifecycle, promotion
from reindexer.monitoring.status import status
from reindexer.postgres.connect import Connection
from reindexer.queue.drain import drain
from reindexer.settings import Settings
from reindexer.sources.store import find_source
from reindexer.sources.trigger_check import inspect
from reindexer.testing.provider import Call, FakeProvider, vector_of
from reindexer.testing.waiting import eventually
from reindexer.worker.worker import Worker
from tests.support.flow import insert
from tests.support.generations import NAME, SOON, found, made, settle, states
from tests.support.index_reader import IndexReader
from tests.support.processes import Processes

SEEN_WITHIN_S = 5.0
"""An edit is in the index after some milliseconds. A provider that hangs would cost 20 s, a queue of 100,000 minutes."""
EDITS = 8
QUEUED = 100_000


@pytest.fixture
def another() -> Iterator[FakeProvider]:
    """The provider of the generation that is kept beside."""
    provider = FakeProvider()
    yield provider
    provider.close()


@pytest.fixture
def standby(filled: Connection, settings: Settings, worker: Worker, another: FakeProvider) -> Connection:
    """Generation 1 is active, and 2, by another provider, was."""
    made(filled, settings, worker, base_url=another.url)
    settle(filled, worker)
    promotion.promote(filled, NAME, who="test", terms=SOON)
    promotion.rollback(filled, NAME, who="test", terms=SOON)
    assert states(filled) == {1: "active", 2: "standby"}
    return filled


def soon(is_so: Callable[[], bool]) -> None:
    eventually(is_so, within=SEEN_WITHIN_S)


def active_follows(db: Connection, index: IndexReader) -> None:
    """Edits, new rows and deletions are in the index soon, and nothing says that there is anything wrong."""
    for n in range(EDITS):
        item_id = insert(db, f"new {n}")
        soon(partial(index.holds, item_id, vector_of(f"new {n}")))
        db.execute("UPDATE context_items SET content = %s WHERE id = %s", [f"edited {n}", item_id])
        soon(partial(index.holds, item_id, vector_of(f"edited {n}")))
        db.execute("DELETE FROM context_items WHERE id = %s", [item_id])
        soon(lambda item_id=item_id: index.payload(item_id) is None)  # type: ignore[misc]
    soon(lambda: status(db).pending + status(db).processing == 0)
    told = status(db)
    assert (told.outbox, told.failed, told.triggers) == (0, 0, "ok")
    assert told.sources[NAME].problem is None


def test_an_edit_wakes_no_worker_for_a_standby(standby: Connection) -> None:
    """It would compete with the work that a search waits for. The next look at the queues, within a second, finds it."""
    insert(standby, "new")
    drained = drain(standby)
    assert (drained.live, drained.bulk) == (1, 0)
    due = standby.execute("SELECT generation, lane FROM reindexer.due ORDER BY generation").fetchall()
    assert due == [(1, "live"), (2, "bulk")]


@pytest.mark.parametrize("away", ["hangs", pytest.param("is not there", marks=pytest.mark.long)])
def test_a_standby_whose_provider_is_gone_slows_stops_and_hides_nothing(
    standby: Connection, processes: Processes, index: IndexReader, another: FakeProvider, worker: Worker, away: str
) -> None:
    ended = threading.Event()

    def hang(_: Call) -> None:
        ended.wait(60)

    another.behave = hang
    if away == "is not there":
        another.close()
    processes.listener()
    processes.worker(pool="solo", concurrency=1)
    try:
        active_follows(standby, index)
        assert found(standby, worker, "text of first")
    finally:
        ended.set()


@pytest.mark.long
def test_a_standby_whose_column_is_dropped_slows_stops_and_hides_nothing(
    filled: Connection, processes: Processes, index: IndexReader, worker: Worker
) -> None:
    filled.execute("ALTER TABLE context_items ADD COLUMN note text")
    source = find_source(filled, NAME)
    wanted = replace(source, text_columns=("title", "note"), made_by=None)
    lifecycle.rebuild(filled, wanted, str(source.made_by), who="test")
    settle(filled, worker)
    promotion.promote(filled, NAME, who="test", terms=SOON)
    promotion.rollback(filled, NAME, who="test", terms=SOON)
    processes.listener()
    processes.worker(pool="solo", concurrency=1)
    filled.execute("ALTER TABLE context_items DROP COLUMN note")
    # A look at the whole source follows, as after any such DDL.
    eventually(lambda: states(filled)[2] == "broken", within=30)
    eventually(lambda: inspect(filled, find_source(filled, NAME)).well, within=30)
    active_follows(filled, index)
    left = "SELECT count(*) FROM reindexer.due WHERE generation = 2"
    eventually(lambda: filled.execute(left).fetchone() == (0,), within=30)


@pytest.mark.long
def test_a_standby_with_100000_items_in_its_queue_slows_stops_and_hides_nothing(
    standby: Connection, processes: Processes, index: IndexReader, another: FakeProvider
) -> None:
    another.latency_s = 0.2
    standby.execute(
        "INSERT INTO context_items (id, content) SELECT md5(n::text)::uuid, 'queued ' || n FROM generate_series(1, 2000) n"
    )
    processes.listener()
    processes.worker(pool="solo", concurrency=1)
    queued: Callable[[], bool] = lambda: (  # noqa: E731
        standby.execute("SELECT FROM reindexer.due WHERE generation = 1").fetchone() is None
        and standby.execute("SELECT FROM reindexer.outbox").fetchone() is None
    )
    eventually(queued, within=60)
    standby.execute(
        "INSERT INTO reindexer.due (source, item_id, generation, lane, not_before)"
        " SELECT 'context_items', md5('queued' || n)::uuid::text, 2, 'bulk', now() FROM generate_series(1, %s) AS n",
        [QUEUED],
    )
    active_follows(standby, index)
