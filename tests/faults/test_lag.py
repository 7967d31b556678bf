"""Whoever is dead, the age of a change that waits is the time since its commit."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from reindexer.monitoring.status import Status
from reindexer.monitoring.status import status as state_of_everything
from reindexer.postgres.connect import Connection, connect
from reindexer.testing.provider import FakeProvider, vector_of
from reindexer.testing.waiting import eventually
from tests.support.flow import idle, insert
from tests.support.index_reader import IndexReader
from tests.support.processes import Processes


def seconds_since_the_epoch(db: Connection) -> float:
    row = db.execute("SELECT extract(epoch FROM clock_timestamp())::double precision").fetchone()
    assert row is not None
    return float(row[0])


def age_is_time_since(db: Connection, committed_at_s: float, *, reached_s: float) -> Callable[[], Status | None]:
    """Holds once the age has reached that; fails as soon as it is any other than the time since the commit."""

    def condition() -> Status | None:
        before_s = seconds_since_the_epoch(db) - committed_at_s
        now = state_of_everything(db)
        after_s = seconds_since_the_epoch(db) - committed_at_s
        assert before_s - 0.2 <= now.oldest_change_age_s <= after_s + 0.2
        return now if now.oldest_change_age_s >= reached_s else None

    return condition


@pytest.mark.long
def test_the_age_goes_on_with_a_dead_listener_dead_workers_and_both_until_others_have_done_the_work(
    db: Connection, processes: Processes, index: IndexReader
) -> None:
    listener, worker = processes.listener(), processes.worker()
    insert(db, "before")
    eventually(lambda: idle(db), within=20)
    assert state_of_everything(db).oldest_change_age_s == 0
    processes.children.kill(listener)
    item_id = insert(db, "after")
    committed_at_s = seconds_since_the_epoch(db)
    now = eventually(age_is_time_since(db, committed_at_s, reached_s=1.5), every=0.1)
    assert now is not None
    assert (now.listener, now.outbox, now.pending) == ("absent", 1, 0)
    processes.children.kill(worker)
    eventually(age_is_time_since(db, committed_at_s, reached_s=3), every=0.1)
    processes.listener()
    eventually(lambda: state_of_everything(db).pending == 1)
    eventually(age_is_time_since(db, committed_at_s, reached_s=4.5), every=0.1)
    processes.worker()
    eventually(lambda: idle(db), within=30)
    assert index.holds(item_id, vector_of("after"))
    assert state_of_everything(db).oldest_change_age_s == 0


@pytest.mark.long
def test_a_change_that_a_killed_worker_had_claimed_ages_on(
    db: Connection, processes: Processes, index: IndexReader, provider: FakeProvider
) -> None:
    provider.latency_s = 30.0
    processes.listener()
    worker = processes.worker(REINDEXER_LEASE_S="3")
    item_id = insert(db, "text")
    committed_at_s = seconds_since_the_epoch(db)
    eventually(lambda: provider.calls)
    assert state_of_everything(db).processing == 1
    processes.children.kill(worker)
    aged = age_is_time_since(db, committed_at_s, reached_s=4.5)
    eventually(lambda: (now := aged()) and (now.pending, now.processing) == (1, 0), every=0.2)
    provider.latency_s = 0
    processes.worker()
    eventually(lambda: idle(db), within=30)
    assert index.holds(item_id, vector_of("text"))
    assert state_of_everything(db).oldest_change_age_s == 0


def test_the_listener_counts_a_change_of_a_long_transaction_from_its_commit(
    db: Connection, database: str, processes: Processes
) -> None:
    processes.listener()
    with connect(database, application_name="writer") as writer, writer.transaction():
        insert(writer, "text")
        written_at_s = seconds_since_the_epoch(db)
        eventually(lambda: seconds_since_the_epoch(db) > written_at_s + 4)
    eventually(lambda: state_of_everything(db).pending == 1)
    now = state_of_everything(db)
    assert now.oldest_change_age_s < seconds_since_the_epoch(db) - written_at_s - 2, (
        "a listener that sleeps looks each second"
    )
